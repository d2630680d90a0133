//! A specification for the Container Device Interface, version 1.0.0 of it.

use serde_json::json;

use super::OutputError;
use crate::scan::Scan;

/// The device `mesa-injector.io/mesa=gl`, whose mounts are those of the plan.
///
/// # Errors
/// None that a scan can cause.
pub fn cdi(scan: &Scan) -> Result<String, OutputError> {
    let mounts: Vec<_> = scan
        .plan
        .mounts
        .iter()
        .map(|mount| {
            json!({
                "hostPath": mount.path,
                "containerPath": mount.mount_path,
                "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"],
            })
        })
        .collect();
    let specification = json!({
        "cdiVersion": "1.0.0",
        "kind": "mesa-injector.io/mesa",
        "devices": [{
            "name": "gl",
            "containerEdits": {"mounts": mounts},
        }],
    });
    Ok(manifests::to_json(&specification)?)
}
