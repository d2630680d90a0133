//! A complete policy resource.

use serde_json::{Value, json};

use super::{NodeSelector, OutputError};
use crate::layout::Plan;
use crate::scan::Scan;

/// The policy module of this version.
pub const POLICY_MODULE: &str = concat!(
    "registry://ghcr.io/mesa-injector/policies/mesa-injector:v",
    env!("CARGO_PKG_VERSION")
);

/// A ClusterAdmissionPolicy with the settings for a scan.
///
/// # Errors
/// Where the policy would not accept the settings.
pub fn policy(scan: &Scan, module: &str) -> Result<String, OutputError> {
    let resource = resource(&scan.plan, module)?;
    let mut text = "# Add the namespaces of your VMs to the namespaceSelector.\n".to_owned();
    for note in &scan.verdict.notes {
        text += &format!("# Note: {note}\n");
    }
    for reason in &scan.verdict.reasons {
        text += &format!("# GL will not load: {reason}\n");
    }
    Ok(text + &serde_norway::to_string(&resource)?)
}

fn resource(plan: &Plan, module: &str) -> Result<Value, OutputError> {
    let settings: Value = serde_json::from_str(&super::settings(plan, &NodeSelector::new())?)?;
    Ok(json!({
        "apiVersion": "policies.kubewarden.io/v1",
        "kind": "ClusterAdmissionPolicy",
        "metadata": {"name": "mesa-injector"},
        "spec": {
            "module": module,
            "mutating": true,
            "mode": "protect",
            // No launcher pod waits because the policy server is away.
            "failurePolicy": "Ignore",
            // Pods without GL pass the policy unmutated; the audit scanner would report each as if it mattered.
            "backgroundAudit": false,
            "rules": [{
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "resources": ["pods"],
                "operations": ["CREATE"],
            }],
            "objectSelector": {"matchLabels": {"kubevirt.io": "virt-launcher"}},
            // Launcher pods run in the namespace of their VM. The Kubewarden controller drops matchLabels.
            "namespaceSelector": {"matchExpressions": [{
                "key": "kubernetes.io/metadata.name",
                "operator": "In",
                "values": ["kubevirt"],
            }]},
            "settings": settings,
        },
    }))
}
