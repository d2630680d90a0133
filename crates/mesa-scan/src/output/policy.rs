//! A complete policy resource.

use std::collections::BTreeMap;

use manifests::{Mode, Policy};

use super::settings::labels;
use super::{Delivery, Imaged, Made, OutputError, Scan};
use crate::gl::Layout;
use staging::label;

/// A ClusterAdmissionPolicy with the settings for a scan.
///
/// # Errors
/// Where the policy would not accept the settings.
pub fn policy(scan: &Scan, module: &str) -> Result<String, OutputError> {
    let mut comments = vec!["Add the namespaces of your VMs to the namespaceSelector.".to_owned()];
    comments.extend(said(scan));
    let selector = match scan.plan.layout {
        Layout::Staged => {
            comments.push(
                "The nodes' labels are those that `mesa-scan stage` writes for Node Feature Discovery; without them take \
                 nodeSelector out."
                    .to_owned(),
            );
            label::selector(&scan.layout())
        }
        Layout::Files | Layout::Flat => BTreeMap::new(),
    };
    let settings = super::settings(&scan.plan, &selector)?;
    let mut policy = Policy::new(module, serde_json::from_str(&settings)?);
    // The default, but whoever wants to try the policy sees where to write monitor.
    policy.spec.mode = Some(Mode::Protect);
    Ok(policy.to_yaml(&comments)?)
}

/// A ClusterAdmissionPolicy for one launcher, in all namespaces, for those VMs that ask for a display by their label.
///
/// # Errors
/// Where the policy would not accept the settings.
pub fn image_policy(
    imaged: &Imaged,
    made: &Made,
    delivery: &Delivery,
    module: &str,
) -> Result<String, OutputError> {
    let launcher = imaged.launcher.as_deref().unwrap_or("every launcher");
    let mut comments = vec![
        format!("OpenGL for VMs with the label mesa-injector.io/inject: enabled, in {launcher}."),
        format!("The image: {}", made.reference.pinned(&made.digest)),
    ];
    if let Delivery::Node { directory } = delivery {
        comments.push(format!(
            "It is on the node: the DaemonSet of deploy/node, with this image, fills {} and labels the nodes.",
            manifests::printable(directory)
        ));
    }
    comments.extend(said(&imaged.scan));
    let settings = super::image_settings(imaged, made, delivery)?;
    let name = format!("mesa-injector-{}", imaged.name);
    let settings = serde_json::from_str(&settings)?;
    let policy = Policy::for_labels(&name, module, labels(), settings);
    Ok(policy.to_yaml(&comments)?)
}

/// What was found, for comments.
fn said(scan: &Scan) -> impl Iterator<Item = String> {
    let notes = scan.findings.notes().map(|note| format!("Note: {note}"));
    let fatal = scan.findings.fatal();
    notes.chain(fatal.map(|reason| format!("GL will not load: {reason}")))
}
