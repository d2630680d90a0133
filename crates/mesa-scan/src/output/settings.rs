//! The policy's settings, parsed back before anybody sees them.

use std::collections::BTreeMap;

use mesa_injector::settings::Settings;
use serde::Serialize;

use super::OutputError;
use crate::layout::{Mount, Plan};

/// Labels that a node must have.
pub type NodeSelector = BTreeMap<String, String>;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    host_paths: &'a [Mount],
    #[serde(skip_serializing_if = "NodeSelector::is_empty")]
    node_selector: &'a NodeSelector,
}

/// The settings for a plan as JSON, which is YAML too.
///
/// # Errors
/// Where the policy would not accept them.
pub fn settings(plan: &Plan, node_selector: &NodeSelector) -> Result<String, OutputError> {
    let written = Written {
        host_paths: &plan.mounts,
        node_selector,
    };
    let text = manifests::to_json(&written)?;
    Settings::from_json(&text).map_err(OutputError::Refused)?;
    Ok(text)
}
