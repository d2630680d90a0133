//! Whether the API server would send a request to the policy at all: the rules and selectors of the policy's webhook, as
//! Kubewarden's controller makes it.
//!
//! What is left to the API server: expressions in CEL (`matchConditions`), and requests of another version of a
//! resource (`matchPolicy`).

use std::collections::BTreeMap;

use manifests::{Kind, LabelSelector, LabelSelectorRequirement, Policy, Rule};
use serde_json::Value;

use crate::request::AdmissionRequest;

/// The label that every namespace has: its name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Labels with their values.
pub type Labels = BTreeMap<String, String>;

/// Why the request would not be sent to the policy; nothing where it would be.
///
/// `namespace_labels` are those of the request's namespace besides its name.
#[must_use]
pub fn not_sent(
    policy: &Policy,
    request: &AdmissionRequest,
    namespace_labels: &Labels,
) -> Option<String> {
    let spec = &policy.spec;
    rules_leave_out(&spec.rules, request)
        .or_else(|| own_namespace_leaves_out(policy, request))
        .or_else(|| {
            let selector = selector_of_namespaces(policy)?;
            let namespace = request.namespace.as_ref()?;
            let mut labels = namespace_labels.clone();
            labels.insert(NAMESPACE_NAME.to_owned(), namespace.clone());
            let unmet = unmet(&selector, &labels)?;
            Some(format!("namespaceSelector: the namespace {unmet}"))
        })
        .or_else(|| {
            let selector = spec.object_selector.as_ref()?;
            let objects = [&request.object, &request.old_object];
            let mut unmet = objects
                .into_iter()
                .flatten()
                .map(|object| unmet(selector, &labels_of(object)))
                .collect::<Option<Vec<_>>>()?
                .into_iter();
            Some(format!("objectSelector: the pod {}", unmet.next()?))
        })
}

/// What of the policy does not decide here, for people.
#[must_use]
pub fn notes(policy: &Policy) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    let spec = &policy.spec;
    if !spec.match_conditions.is_empty() {
        let conditions = spec.match_conditions.iter();
        let names: Vec<&str> = conditions.map(|it| it.name.as_str()).collect();
        let names = names.join(", ");
        notes.push(format!("matchConditions are not evaluated: {names}"));
    }
    let labels = spec.namespace_selector.iter();
    if drops_match_labels(policy) && labels.clone().any(|it| !it.match_labels.is_empty()) {
        notes.push(
            "Kubewarden's controller drops namespaceSelector.matchLabels; write matchExpressions"
                .to_owned(),
        );
    }
    notes
}

fn drops_match_labels(policy: &Policy) -> bool {
    policy.spec.allow_inside_admission_controller_namespace != Some(true)
}

fn selector_of_namespaces(policy: &Policy) -> Option<LabelSelector> {
    let mut selector = policy.spec.namespace_selector.clone()?;
    if drops_match_labels(policy) {
        selector.match_labels.clear();
    }
    Some(selector)
}

fn own_namespace_leaves_out(policy: &Policy, request: &AdmissionRequest) -> Option<String> {
    let own = policy.metadata.namespace.as_deref();
    let own = own.filter(|_| policy.kind == Kind::AdmissionPolicy)?;
    let other = request.namespace.as_deref().filter(|it| *it != own)?;
    Some(format!(
        "an AdmissionPolicy in {own} is not asked about namespace {other}"
    ))
}

/// A policy without rules is a part of one: the API server demands them.
fn rules_leave_out(rules: &[Rule], request: &AdmissionRequest) -> Option<String> {
    if rules.is_empty() || rules.iter().any(|rule| wants(rule, request)) {
        return None;
    }
    let resource = &request.resource.resource;
    let resource = match &request.sub_resource {
        Some(sub_resource) if !sub_resource.is_empty() => format!("{resource}/{sub_resource}"),
        _ => resource.clone(),
    };
    Some(format!(
        "rules: none has operation {} of resource {resource} in group {:?}, version {}",
        request.operation, request.resource.group, request.resource.version
    ))
}

fn wants(rule: &Rule, request: &AdmissionRequest) -> bool {
    let has = |list: &[String], value: &str| list.iter().any(|item| item == "*" || item == value);
    let sub_resource = request.sub_resource.as_deref().unwrap_or_default();
    let resource = |wanted: &String| {
        let (resource, sub) = wanted.split_once('/').unwrap_or((wanted, ""));
        (resource == "*" || resource == request.resource.resource)
            && (sub == "*" || sub == sub_resource)
    };
    has(&rule.api_groups, &request.resource.group)
        && has(&rule.api_versions, &request.resource.version)
        && has(&rule.operations, &request.operation)
        && rule.resources.iter().any(resource)
        && match rule.scope.as_deref() {
            Some("Cluster") => request.namespace.is_none(),
            Some("Namespaced") => request.namespace.is_some(),
            _ => true,
        }
}

fn labels_of(object: &Value) -> Labels {
    let labels = object
        .pointer("/metadata/labels")
        .and_then(Value::as_object);
    let labels = labels.into_iter().flatten();
    labels
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// The first thing that a selector wants and labels do not have, as the end of a sentence.
fn unmet(selector: &LabelSelector, labels: &Labels) -> Option<String> {
    let has = |key: &str| match labels.get(key) {
        Some(value) => format!("has {key}={value}"),
        None => format!("has no label {key}"),
    };
    for (key, wanted) in &selector.match_labels {
        match labels.get(key) {
            Some(value) if value == wanted => {}
            Some(_) => return Some(format!("{}, not {wanted}", has(key))),
            None => return Some(format!("has no label {key}={wanted}")),
        }
    }
    for LabelSelectorRequirement {
        key,
        operator,
        values,
    } in &selector.match_expressions
    {
        let value = labels.get(key);
        let listed = value.is_some_and(|value| values.contains(value));
        let met = match operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => return Some(format!("is not selected: no operator {operator:?}")),
        };
        if !met {
            let wanted = match values.is_empty() {
                true => operator.clone(),
                false => format!("{operator} {}", values.join(", ")),
            };
            return Some(format!("{}, where {key} is wanted: {wanted}", has(key)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn policy(spec: &str) -> Policy {
        let text = format!(
            "apiVersion: policies.kubewarden.io/v1\nkind: ClusterAdmissionPolicy\nmetadata: {{name: p}}\nspec: {spec}"
        );
        let source = manifests::Source {
            name: "p".to_owned(),
            text,
        };
        source.policy().unwrap()
    }

    fn request() -> AdmissionRequest {
        let pod = json!({"metadata": {"namespace": "vms", "labels": {"kubevirt.io": "virt-launcher", "a": "1"}}});
        AdmissionRequest::to_create(pod, 1)
    }

    #[rstest]
    #[case::nothing("{}")]
    #[case::rule(
        "{rules: [{apiGroups: [''], apiVersions: [v1], resources: [pods], operations: [CREATE]}]}"
    )]
    #[case::rule_of_all(
        "{rules: [{apiGroups: ['*'], apiVersions: ['*'], resources: ['*'], operations: ['*'], scope: '*'}]}"
    )]
    #[case::every_sub_resource(
        "{rules: [{apiGroups: [''], apiVersions: [v1], resources: ['pods/*'], operations: [CREATE]}]}"
    )]
    #[case::second_rule(
        "{rules: [{}, {apiGroups: [''], apiVersions: [v1], resources: [pods], operations: [UPDATE, CREATE], scope: Namespaced}]}"
    )]
    #[case::labels("{objectSelector: {matchLabels: {kubevirt.io: virt-launcher}}}")]
    #[case::expressions(
        "{objectSelector: {matchExpressions: [{key: a, operator: In, values: ['1', '2']}, {key: a, operator: Exists}, {key: b, operator: DoesNotExist}, {key: b, operator: NotIn, values: [x]}]}}"
    )]
    #[case::namespace(
        "{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [vms]}]}}"
    )]
    #[case::dropped_labels("{namespaceSelector: {matchLabels: {team: other}}}")]
    fn these_are_sent(#[case] spec: &str) {
        assert_eq!(not_sent(&policy(spec), &request(), &Labels::new()), None);
    }

    #[rstest]
    #[case::operation(
        "{rules: [{apiGroups: [''], apiVersions: [v1], resources: [pods], operations: [UPDATE]}]}",
        "rules: none has operation CREATE of resource pods"
    )]
    #[case::sub_resource(
        "{rules: [{apiGroups: [''], apiVersions: [v1], resources: [pods/status], operations: ['*']}]}",
        "rules: "
    )]
    #[case::group(
        "{rules: [{apiGroups: [apps], apiVersions: [v1], resources: ['*/*'], operations: ['*']}]}",
        "rules: "
    )]
    #[case::scope(
        "{rules: [{apiGroups: [''], apiVersions: [v1], resources: [pods], operations: ['*'], scope: Cluster}]}",
        "rules: "
    )]
    #[case::labels(
        "{objectSelector: {matchLabels: {kubevirt.io: hotplug-disk}}}",
        "objectSelector: the pod has kubevirt.io=virt-launcher, not hotplug-disk"
    )]
    #[case::no_label(
        "{objectSelector: {matchLabels: {b: x}}}",
        "objectSelector: the pod has no label b=x"
    )]
    #[case::not_in(
        "{objectSelector: {matchExpressions: [{key: a, operator: NotIn, values: ['1']}]}}",
        "objectSelector: the pod has a=1, where a is wanted: NotIn 1"
    )]
    #[case::exists(
        "{objectSelector: {matchExpressions: [{key: b, operator: Exists}]}}",
        "objectSelector: the pod has no label b, where b is wanted: Exists"
    )]
    #[case::namespace(
        "{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [kubevirt]}]}}",
        "namespaceSelector: the namespace has kubernetes.io/metadata.name=vms"
    )]
    #[case::namespace_label(
        "{namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}}",
        "namespaceSelector: the namespace has no label team"
    )]
    #[case::namespace_labels(
        "{allowInsideAdmissionControllerNamespace: true, namespaceSelector: {matchLabels: {team: a}}}",
        "namespaceSelector: "
    )]
    fn these_are_not_sent(#[case] spec: &str, #[case] reason: &str) {
        let found = not_sent(&policy(spec), &request(), &Labels::new()).unwrap();
        assert!(found.starts_with(reason), "{found}");
    }

    #[test]
    fn labels_of_the_namespace_count_and_the_old_object_too() {
        let labels = Labels::from([("team".to_owned(), "a".to_owned())]);
        let spec =
            "{namespaceSelector: {matchExpressions: [{key: team, operator: In, values: [a]}]}}";
        assert_eq!(not_sent(&policy(spec), &request(), &labels), None);

        let mut update = request();
        update.old_object = update.object.replace(json!({}));
        let spec = "{objectSelector: {matchLabels: {kubevirt.io: virt-launcher}}}";
        assert_eq!(not_sent(&policy(spec), &update, &labels), None);
    }

    #[test]
    fn a_namespaced_policy_is_asked_about_its_own_namespace_alone() {
        let mut policy = policy("{}");
        policy.kind = Kind::AdmissionPolicy;
        policy.metadata.namespace = Some("other".to_owned());
        assert!(not_sent(&policy, &request(), &Labels::new()).is_some());
        policy.metadata.namespace = Some("vms".to_owned());
        assert_eq!(not_sent(&policy, &request(), &Labels::new()), None);
    }

    #[test]
    fn what_does_not_decide_is_named() {
        let policy = policy(
            "{matchConditions: [{name: vgpu, expression: 'true'}], namespaceSelector: {matchLabels: {a: b}}}",
        );
        let notes = notes(&policy);
        assert_eq!(notes[0], "matchConditions are not evaluated: vgpu");
        assert!(notes[1].contains("matchLabels"), "{notes:?}");
    }
}
