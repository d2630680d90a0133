//! What Kubewarden's controller makes of a policy: an entry in the policy server's list, and a webhook of the API server.

use manifests::Policy;
use serde_json::{Value, json};

/// The namespace of Kubewarden's own pods, of which no policy is asked.
const OWN_NAMESPACE: &str = "kubewarden";

/// What the policy server calls a policy.
#[must_use]
pub fn id(policy: &Policy) -> String {
    format!("clusterwide-{}", policy.metadata.name)
}

/// The entry of the policy server's `policies.yml`, with a module in place of the policy's own.
#[must_use]
pub fn entry(policy: &Policy, module: &str) -> Value {
    let spec = &policy.spec;
    json!({
        "module": module,
        "allowedToMutate": spec.mutating,
        "policyMode": spec.mode.unwrap_or_default(),
        "settings": spec.settings,
    })
}

/// The webhook, for a policy server at an address such as `https://127.0.0.1:3000`.
#[must_use]
pub fn configuration(policy: &Policy, server: &str, ca_bundle: &str) -> Value {
    let spec = &policy.spec;
    let id = id(policy);
    let mut namespaces = spec.namespace_selector.clone().unwrap_or_default();
    if spec.allow_inside_admission_controller_namespace != Some(true) {
        namespaces.match_labels.clear();
        namespaces
            .match_expressions
            .push(manifests::LabelSelectorRequirement {
                key: "kubernetes.io/metadata.name".to_owned(),
                operator: "NotIn".to_owned(),
                values: vec![OWN_NAMESPACE.to_owned()],
            });
    }
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": id, "labels": {"kubewardenPolicyScope": "cluster"}},
        "webhooks": [{
            "name": format!("{id}.kubewarden.admission"),
            "clientConfig": {"url": format!("{server}/validate/{id}"), "caBundle": ca_bundle},
            "rules": spec.rules,
            "failurePolicy": spec.failure_policy,
            "matchPolicy": spec.match_policy,
            "matchConditions": spec.match_conditions,
            "namespaceSelector": namespaces,
            "objectSelector": spec.object_selector,
            "sideEffects": spec.side_effects.as_deref().unwrap_or("None"),
            "timeoutSeconds": spec.timeout_seconds.unwrap_or(10),
            "admissionReviewVersions": ["v1"],
        }],
    })
}
