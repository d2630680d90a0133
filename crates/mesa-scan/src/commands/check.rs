//! `mesa-scan check`: will a pod with these settings start on this node, and will GL load in it?

use std::collections::BTreeMap;
use std::path::Path;

use manifests::SourceError as DocumentError;
use manifests::console::Failure;
use mesa_injector::hook::PROGRAM;
use mesa_injector::settings::{ALL_CONTAINERS, HostPathType, Problems, Settings, Source};

use super::scan::ScanError;
use super::sources::Sources;
use crate::container::{self, Cause, Finding, Findings, Mount};
use crate::gl::{GlReadAhead, qemu};
use crate::loader::Arch;
use crate::tree::image::{Choice, Platform};
use crate::tree::{self, Tree, TreeError};

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

/// What image volumes hold, by the volumes' names.
pub type Volumes = BTreeMap<String, Box<dyn Tree>>;

/// Opens what an image volume holds: an archive, an OCI layout, or a directory that stands for it.
///
/// # Errors
/// Where it cannot be read.
pub fn open_volume(path: &Path) -> Result<Box<dyn Tree>, TreeError> {
    let choice = Choice {
        machine: Some(Platform::linux(Arch::this_machine())),
        ..Choice::default()
    };
    tree::open(path, &choice, &GlReadAhead)
}

/// Checks settings against a node and an image.
///
/// # Errors
/// Where node or image cannot be read.
pub fn check(
    sources: &Sources,
    volumes: &Volumes,
    settings: &Settings,
) -> Result<Findings, ScanError> {
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
            let (tree, path, kind) = match &volume.source {
                Source::HostPath { path, kind } => (node.tree(), path.to_string(), *kind),
                Source::Image { reference, .. } => {
                    let Some(tree) = volumes.get(&*volume.name) else {
                        found.push(not_here(&volume.name, reference));
                        break;
                    };
                    let part = mount.sub_path.as_deref();
                    found.extend(part.map(runtimes_without_sub_path));
                    let path = format!("/{}", part.unwrap_or_default());
                    if !is_directory(tree.as_ref(), &path)? {
                        found.push(no_directory(&path, reference));
                        continue;
                    }
                    (tree.as_ref(), path, HostPathType::Directory)
                }
            };
            mounts.push(Mount {
                tree,
                path,
                kind,
                mount_path: mount.path.to_string(),
            });
        }
    }
    let modules = match &settings.display {
        Some(display) => {
            let volume = settings.volume(&display.volume);
            let mount = volume.and_then(|volume| volume.mounts.first());
            let path = mount.map(|mount| mount.path.to_string());
            if let Some(path) = &path {
                found.extend(hook(&mounts, &display.volume, path)?);
            }
            path
        }
        None => with_modules(&mounts)?,
    };
    let modules = modules.as_deref();
    found.extend(container::judge(&node, &image, mounts, modules)?);
    Ok(found.into_iter().collect())
}

/// The directory that brings QEMU's modules, where nothing else says it: whoever mounts them there will tell QEMU.
fn with_modules(mounts: &[Mount<'_>]) -> Result<Option<String>, TreeError> {
    for mount in mounts {
        let is_directory = mount.kind == HostPathType::Directory;
        if is_directory && !qemu::modules_in(mount.tree, &mount.path)?.is_empty() {
            return Ok(Some(mount.mount_path.clone()));
        }
    }
    Ok(None)
}

/// The hook's program must lie in the directory that holds QEMU's modules.
fn hook(mounts: &[Mount<'_>], volume: &str, at: &str) -> Result<Option<Finding>, TreeError> {
    let mut mounts = mounts.iter();
    let Some(mount) = mounts.find(|mount| mount.mount_path == at) else {
        // The volume is not here to be looked at, which is said.
        return Ok(None);
    };
    let path = format!("{}/{PROGRAM}", mount.path.trim_end_matches('/'));
    let found = mount.tree.lookup(&path)?.found();
    let problem = match found {
        None => "has no",
        Some(found) if found.file_size().is_none() => "has a directory",
        Some(found) if found.node.mode & 0o001 == 0 => "does not let QEMU's user run its",
        Some(_) => return Ok(None),
    };
    Ok(Some(Finding::fatal(
        Cause::Hook,
        format!(
            "volume {volume} {problem} {PROGRAM}, which display asks for: the hook does not start"
        ),
        "make image or generation again, with mesa-node beside mesa-scan",
    )))
}

fn is_directory(tree: &dyn Tree, path: &str) -> Result<bool, TreeError> {
    let found = tree.lookup(path)?.found();
    Ok(found.is_some_and(|found| found.is_directory()))
}

fn not_here(volume: &str, reference: &str) -> Finding {
    Finding::fatal(
        Cause::NotOnNode,
        format!(
            "volume {volume} comes from the image {reference}, which is not on this node to be looked at"
        ),
        format!("say which archive or directory holds {volume}"),
    )
}

fn no_directory(path: &str, reference: &str) -> Finding {
    Finding::fatal(
        Cause::SubPath,
        format!("{reference} has no directory {path}, and the container does not start"),
        "correct the subPath",
    )
}

/// Seen with containerd 2.1 (containerd#11580): no event, no log.
fn runtimes_without_sub_path(part: &str) -> Finding {
    Finding::note(
        Cause::SubPath,
        format!(
            "subPath {part} of an image: containerd before 2.2 and CRI-O before 1.33 mount the whole image there, and say nothing"
        ),
        "use a newer one, or a flat image, which needs no subPath",
    )
}
