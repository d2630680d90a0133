//! `mesa-scan check`: will a pod with these settings start on this node, and will GL load in it?

use std::path::Path;

use manifests::SourceError as DocumentError;
use manifests::console::Failure;
use mesa_injector::settings::{ALL_CONTAINERS, Problems, Settings, Source};

use super::scan::ScanError;
use super::sources::Sources;
use crate::container::{self, Cause, Finding, Findings, Mount};

/// The container in which KubeVirt runs QEMU.
const COMPUTE: &str = "compute";

/// Why settings cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// There are none.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Not what the policy accepts.
    #[error("{path}: the policy would not accept these settings")]
    Problems {
        /// As it was given.
        path: String,
        /// All that is wrong.
        #[source]
        problems: Problems,
    },
}

impl Failure for SettingsError {
    fn fix(&self) -> Option<String> {
        match self {
            SettingsError::Document(error) => error.fix(),
            // Each problem says its own.
            SettingsError::Problems { .. } => None,
        }
    }
}

/// Reads settings, or those in a policy resource, from a file; `-` is standard input.
///
/// # Errors
/// Where there are none that the policy would accept.
pub fn read_settings(path: &Path) -> Result<Settings, SettingsError> {
    let document = manifests::Source::read(path)?;
    let settings = serde_json::Value::from(document.settings()?);
    Settings::from_json(&settings.to_string()).map_err(|problems| SettingsError::Problems {
        path: document.name,
        problems,
    })
}

/// Checks settings against a node and an image.
///
/// # Errors
/// Where node or image cannot be read.
pub fn check(sources: &Sources, settings: &Settings) -> Result<Findings, ScanError> {
    let node = sources.node()?;
    let Some(image) = sources.image()? else {
        return Ok(Findings::from_iter([super::scan::no_image()]));
    };
    let mut found = Vec::new();
    let containers = &settings.containers;
    if !containers
        .iter()
        .any(|name| name == COMPUTE || name == ALL_CONTAINERS)
    {
        found.push(Finding::fatal(
            Cause::NotCompute,
            format!("containers has no {COMPUTE}, in which QEMU runs"),
            format!("add {COMPUTE} to containers"),
        ));
    }
    let mut mounts = Vec::new();
    for volume in &settings.volumes {
        for mount in &volume.mounts {
            match &volume.source {
                Source::HostPath { path, kind } => mounts.push(Mount {
                    tree: node.tree(),
                    path: path.to_string(),
                    kind: *kind,
                    mount_path: mount.path.to_string(),
                }),
                Source::Image { reference, .. } => found.push(Finding::fatal(
                    Cause::NotOnNode,
                    format!(
                        "{} comes from the image {reference}, which is not on this node to be looked at",
                        mount.path
                    ),
                    "unpack it below a root of its own and scan that, or take hostPaths",
                )),
            }
        }
    }
    found.extend(container::judge(&node, &image, mounts)?);
    Ok(found.into_iter().collect())
}
