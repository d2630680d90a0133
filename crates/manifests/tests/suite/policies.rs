//! Policies, read and written.

use std::collections::BTreeMap;

use crate::common::{complaint, source};
use manifests::{
    Kind, LabelSelector, LabelSelectorRequirement, MatchCondition, Mode, POLICY_MODULE, Policy,
    Rule,
};
use rstest::rstest;
use serde_json::{Map, Value, json};

const POLICY: &str = "
apiVersion: policies.kubewarden.io/v1
kind: ClusterAdmissionPolicy
metadata: {name: mesa}
spec: {module: m, mutating: true, settings: {onConflict: reject}}
";

fn policy(text: &str) -> Policy {
    source(text)
        .policy()
        .unwrap_or_else(|error| panic!("{}", complaint(&error)))
}

#[test]
fn every_field_of_a_policy_is_read_and_written() {
    let text = r#"
apiVersion: policies.kubewarden.io/v1
kind: AdmissionPolicy
metadata: {name: mesa, namespace: vms, labels: {a: b}, managedFields: []}
spec:
  policyServer: gpu
  module: m
  mode: monitor
  mutating: yes
  message: ask the admin
  failurePolicy: Ignore
  backgroundAudit: off
  sideEffects: None
  timeoutSeconds: 10
  timeoutEvalSeconds: 5
  rules:
  - {apiGroups: [""], apiVersions: [v1], resources: [pods, pods/status], operations: [CREATE], scope: Namespaced}
  matchPolicy: Equivalent
  matchConditions: [{name: c, expression: "object.spec.x == 'y'"}]
  objectSelector: {matchLabels: {"kubevirt.io": virt-launcher}}
  namespaceSelector: {matchExpressions: [{key: a, operator: In, values: [x, "no"]}, {key: b, operator: Exists}]}
  allowInsideAdmissionControllerNamespace: true
  contextAwareResources: [{apiVersion: v1, kind: Node}]
  settings: {a: [1, {b: null}]}
status: {policyStatus: active}
"#;
    let read = policy(text);
    assert_eq!(
        (
            read.kind,
            &*read.metadata.name,
            read.metadata.namespace.as_deref()
        ),
        (Kind::AdmissionPolicy, "mesa", Some("vms"))
    );
    let spec = &read.spec;
    assert_eq!(
        (spec.mode, spec.mutating, spec.message.as_deref()),
        (Some(Mode::Monitor), true, Some("ask the admin"))
    );
    assert_eq!(
        (
            spec.background_audit,
            spec.timeout_seconds,
            spec.timeout_eval_seconds
        ),
        (Some(false), Some(10), Some(5))
    );
    assert_eq!(
        spec.rules,
        [Rule {
            api_groups: vec![String::new()],
            api_versions: vec!["v1".to_owned()],
            resources: vec!["pods".to_owned(), "pods/status".to_owned()],
            operations: vec!["CREATE".to_owned()],
            scope: Some("Namespaced".to_owned()),
        }]
    );
    assert_eq!(
        spec.match_conditions,
        [MatchCondition {
            name: "c".to_owned(),
            expression: "object.spec.x == 'y'".to_owned(),
        }]
    );
    assert_eq!(
        spec.object_selector,
        Some(LabelSelector {
            match_labels: BTreeMap::from([("kubevirt.io".to_owned(), "virt-launcher".to_owned())]),
            match_expressions: Vec::new(),
        })
    );
    let expressions = &spec.namespace_selector.as_ref().unwrap().match_expressions;
    assert_eq!(
        expressions[0],
        LabelSelectorRequirement {
            key: "a".to_owned(),
            operator: "In".to_owned(),
            values: vec!["x".to_owned(), "no".to_owned()],
        }
    );
    assert_eq!(
        Value::from(spec.settings.clone()),
        json!({"a": [1, {"b": null}]})
    );

    let mut expected: Value = source(text).objects().unwrap().remove(0);
    let object = expected.as_object_mut().unwrap();
    object.remove("status");
    object["metadata"] = json!({"name": "mesa", "namespace": "vms"});
    let written = read.to_yaml(&[]).unwrap();
    assert_eq!(source(&written).objects().unwrap(), [expected]);
    assert_eq!(policy(&written), read);
}

#[test]
fn what_the_api_server_demands_may_be_left_out() {
    let read = policy(
        "{apiVersion: policies.kubewarden.io/v1alpha2, kind: AdmissionPolicy, metadata: {name: mesa},
          spec: {rules: [], matchConditions: null, settings: null, mode: null}}",
    );
    assert_eq!((read.metadata.namespace, read.spec.mode), (None, None));
    assert_eq!(
        (read.spec.mutating, read.spec.module, read.spec.settings),
        (false, String::new(), Map::new())
    );
}

#[test]
fn other_objects_beside_the_policy_do_no_harm() {
    let text = format!("kind: Namespace\n---{POLICY}---\n# end\n");
    assert_eq!(policy(&text).metadata.name, "mesa");
}

const NOT_ONE: &str = "not one ClusterAdmissionPolicy or AdmissionPolicy";

#[rstest]
#[case::none("kind: Namespace", &format!("f holds no policy, {NOT_ONE}"))]
#[case::empty("", &format!("f holds no policy, {NOT_ONE}"))]
#[case::settings("onConflict: reject", &format!("f holds no policy, {NOT_ONE}"))]
#[case::two(&format!("{POLICY}---{POLICY}"), &format!("f holds 2 policies, {NOT_ONE}"))]
#[case::foreign_group(
    &POLICY.replace("policies.kubewarden.io", "example.com"),
    &format!("f holds no policy, {NOT_ONE}")
)]
#[case::group_of_policies(
    &POLICY.replace("ClusterAdmissionPolicy", "ClusterAdmissionPolicyGroup"),
    &format!("f holds no policy, {NOT_ONE}")
)]
#[case::mode(
    &POLICY.replace("mutating: true", "mode: strict"),
    "f: not a valid policy: spec.mode: unknown variant `strict`, expected `protect` or `monitor`"
)]
#[case::word(
    &POLICY.replace("mutating: true", "message: no"),
    "f: not a valid policy: spec.message: invalid type: boolean `false`, expected a string"
)]
#[case::unknown_field(
    &POLICY.replace("mutating: true", "objectSelecter: {}"),
    "f: not a valid policy: spec.objectSelecter: unknown field `objectSelecter`, expected one of `policyServer`"
)]
#[case::rule(
    &POLICY.replace("mutating: true", "rules: [{resources: [pods, 7]}]"),
    "f: not a valid policy: spec.rules[0].resources[1]: invalid type: integer `7`, expected a string"
)]
#[case::selector(
    &POLICY.replace("mutating: true", "objectSelector: {matchLabels: {a: yes}}"),
    "f: not a valid policy: spec.objectSelector.matchLabels.a: invalid type: boolean `true`, expected a string"
)]
#[case::no_name(
    &POLICY.replace("{name: mesa}", "{}"),
    "f: not a valid policy: metadata: missing field `name`"
)]
#[case::no_spec(
    "{apiVersion: policies.kubewarden.io/v1, kind: AdmissionPolicy, metadata: {name: a}}",
    "f: not a valid policy: missing field `spec`"
)]
#[case::syntax("a: [", "f is neither JSON nor YAML: unclosed bracket")]
fn a_file_without_exactly_one_valid_policy_is_an_error(#[case] text: &str, #[case] message: &str) {
    let complaint = complaint(&source(text).policy().unwrap_err());
    assert!(complaint.starts_with(message), "{complaint}");
}

/// Without its comments.
fn body(yaml: &str) -> String {
    let lines = yaml
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_shipped_policy_is_what_is_written_for_no_settings() {
    let shipped = include_str!("../../../../policy.yaml");
    let policy = Policy::new(POLICY_MODULE, Map::new());
    assert_eq!(body(shipped), policy.to_yaml(&[]).unwrap());
}
