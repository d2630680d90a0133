//! The policy's settings, parsed back before anybody sees them.

use std::collections::BTreeMap;

use mesa_injector::settings::Settings;
use serde::Serialize;

use super::OutputError;
use crate::gl::{HostPath, Plan};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    host_paths: &'a [HostPath],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    node_selector: &'a BTreeMap<String, String>,
}

/// The settings for a plan as JSON, which is YAML too, with the labels that a node must have.
///
/// # Errors
/// Where the policy would not accept them.
pub fn settings(
    plan: &Plan,
    node_selector: &BTreeMap<String, String>,
) -> Result<String, OutputError> {
    let written = Written {
        host_paths: &plan.mounts,
        node_selector,
    };
    let text = manifests::to_json(&written)?;
    Settings::from_json(&text).map_err(OutputError::Refused)?;
    Ok(text)
}
