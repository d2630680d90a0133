//! A complete policy resource.

use std::collections::BTreeMap;

use manifests::{Mode, Policy};

use super::{OutputError, Scan};

/// A ClusterAdmissionPolicy with the settings for a scan.
///
/// # Errors
/// Where the policy would not accept the settings.
pub fn policy(scan: &Scan, module: &str) -> Result<String, OutputError> {
    let mut comments = vec!["Add the namespaces of your VMs to the namespaceSelector.".to_owned()];
    comments.extend(scan.findings.notes().map(|note| format!("Note: {note}")));
    comments.extend(
        scan.findings
            .fatal()
            .map(|reason| format!("GL will not load: {reason}")),
    );
    let settings = super::settings(&scan.plan, &BTreeMap::new())?;
    let mut policy = Policy::new(module, serde_json::from_str(&settings)?);
    // The default, but whoever wants to try the policy sees where to write monitor.
    policy.spec.mode = Some(Mode::Protect);
    Ok(policy.to_yaml(&comments)?)
}
