//! `mesa-scan check`: will a pod with these settings start on this node, and will GL load in it?

use std::path::Path;

use manifests::SourceError;
use manifests::console::Failure;
use mesa_injector::settings::{ALL_CONTAINERS, HostPathType, Problems, Settings, Source, Volume};
use rustix::fs::StatVfsMountFlags;

use crate::cover;
use crate::entries::{self, VENDOR_DIRECTORY};
use crate::ldso::{Loader, Paths, Search};
use crate::reason::{Cause, Reason};
use crate::scan::{self, ScanError, Sources};
use crate::tree::{Directory, Entry, Kind, Lookup, MountError, Node, Overlay, RealPath, TreeError};
use crate::verdict::{Container, Verdict};

/// The container in which KubeVirt runs QEMU.
const COMPUTE: &str = "compute";

/// Why settings cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// There are none.
    #[error(transparent)]
    Source(#[from] SourceError),
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
            SettingsError::Source(error) => error.fix(),
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
    let source = manifests::Source::read(path)?;
    let settings = serde_json::Value::from(source.settings()?);
    Settings::from_json(&settings.to_string()).map_err(|problems| SettingsError::Problems {
        path: source.name,
        problems,
    })
}

/// Checks settings against a node and an image.
///
/// # Errors
/// Where node or image cannot be read, or there is no image.
pub fn check(sources: &Sources, settings: &Settings) -> Result<Verdict, ScanError> {
    let node = sources.node()?;
    let image = sources.image()?.ok_or(ScanError::NoImage)?;
    if image.arch != node.arch {
        return Ok(Verdict {
            reasons: vec![scan::other_architecture(&node, &image)],
            notes: Vec::new(),
        });
    }
    let drivers = entries::driver_directory(&node)?;
    let mut pod = Pod {
        node: &node,
        node_directory: sources.node_directory(),
        drivers: &drivers,
        overlay: Overlay::new(image.tree(), node.tree()),
        places: Vec::new(),
        reasons: Vec::new(),
    };
    pod.start(settings)?;
    let Pod {
        overlay,
        places,
        mut reasons,
        ..
    } = pod;
    let loader = image.over(&overlay);
    for place in &places {
        reasons.extend(cover::reasons(&image, &loader, &overlay, place)?);
    }
    let container = Container {
        loader,
        overlay: &overlay,
        node: &node,
        drivers: &drivers,
    };
    let mut verdict = container.judge()?;
    verdict.reasons.append(&mut reasons);
    Ok(verdict.sorted())
}

/// A pod that starts, on paper: what the kubelet checks and what the runtime mounts.
struct Pod<'a> {
    node: &'a Loader<'a>,
    node_directory: &'a Directory,
    drivers: &'a RealPath,
    overlay: Overlay<'a>,
    /// Where in the container the mounts are.
    places: Vec<RealPath>,
    reasons: Vec<Reason>,
}

impl Pod<'_> {
    fn start(&mut self, settings: &Settings) -> Result<(), TreeError> {
        let containers = &settings.containers;
        if !containers
            .iter()
            .any(|name| name == COMPUTE || name == ALL_CONTAINERS)
        {
            self.reasons.push(Reason::new(
                Cause::NotCompute,
                format!("containers has no {COMPUTE}, in which QEMU runs"),
                format!("add {COMPUTE} to containers"),
            ));
        }
        let mut mounts: Vec<(&str, &Volume)> = settings
            .volumes
            .iter()
            .flat_map(|volume| {
                volume
                    .mounts
                    .iter()
                    .map(move |mount| (&*mount.path, volume))
            })
            .collect();
        // As runtimes do, so that what is mounted below another mount comes after it.
        mounts.sort_by_key(|(mount_path, _)| *mount_path);
        for (mount_path, volume) in mounts {
            match &volume.source {
                Source::HostPath { path, kind } => {
                    if let Some(source) = self.host_path(path, *kind)? {
                        self.mount(source, mount_path)?;
                    }
                }
                Source::Image { reference, .. } => self.reasons.push(Reason::new(
                    Cause::NotOnNode,
                    format!("{mount_path} comes from the image {reference}, which is not on this node to be looked at"),
                    "unpack it below a root of its own and scan that, or take hostPaths",
                )),
            }
        }
        Ok(())
    }

    /// What the kubelet finds at a host path, links followed: nothing where the pod would not start.
    fn host_path(&mut self, path: &str, kind: HostPathType) -> Result<Option<RealPath>, TreeError> {
        let found = match self.node.tree().lookup(path)? {
            Lookup::Found(entry) => entry,
            Lookup::Missing => {
                let mend = self.elsewhere(path)?;
                let what = format!(
                    "host path {path} is not on the node, and the pod waits for it for ever"
                );
                self.reasons
                    .push(Reason::new(Cause::HostPathMissing, what, mend));
                return Ok(None);
            }
            Lookup::Dangling { link, target } => {
                let mend = self.elsewhere(path)?;
                let what = format!(
                    "host path {path}: the link {link} leads to {target}, which is not on the node, and the pod waits for it for ever"
                );
                self.reasons
                    .push(Reason::new(Cause::HostPathDangling, what, mend));
                return Ok(None);
            }
        };
        let is = match found.node.kind {
            Kind::File(_) => "File",
            Kind::Directory => "Directory",
            Kind::Link(_) | Kind::Other => "neither a file nor a directory",
        };
        if is != kind.as_str() {
            self.reasons.push(Reason::new(
                Cause::HostPathType,
                format!("host path {path} is of type {is}, the settings say {}, and the pod waits for it for ever", kind.as_str()),
                "correct the type or the path",
            ));
            return Ok(None);
        }
        self.reasons.extend(self.unreadable(path, &found)?);
        self.reasons.extend(self.noexec(path, &found)?);
        Ok(Some(found.path))
    }

    fn mount(&mut self, source: RealPath, mount_path: &str) -> Result<(), TreeError> {
        match self.overlay.mount(source, mount_path) {
            Ok(place) => self.places.push(place),
            Err(MountError::Tree(error)) => return Err(error),
            Err(error) => self.reasons.push(Reason::new(
                Cause::MountPoint,
                error.to_string(),
                "mount at another path",
            )),
        }
        Ok(())
    }

    /// Where the node has what a host path seems to mean.
    fn elsewhere(&self, path: &str) -> Result<String, TreeError> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let there = match name {
            "dri" | "gbm" => Some(self.drivers.join(name).to_string()),
            "egl_vendor.d" => Some(VENDOR_DIRECTORY.to_owned()),
            name => match self.node.find(name, &Paths::default())? {
                Search::Found(library) => Some(library.path.to_string()),
                Search::Absent(_) | Search::Broken { .. } => None,
            },
        };
        let tree = self.node.tree();
        Ok(match there {
            Some(there) if there != path && tree.lookup(&there)?.found().is_some() => {
                format!("the node has {there}, write that")
            }
            _ => "install it on the node, or leave it out".to_owned(),
        })
    }

    /// The first file, of a directory and what lies in it, that QEMU may not read.
    fn unreadable(&self, path: &str, found: &Entry) -> Result<Option<Reason>, TreeError> {
        let tree = self.node.tree();
        let mut nodes = vec![(path.to_owned(), found.node.clone())];
        if found.is_directory() {
            for name in tree.list(&found.path)? {
                let node = tree.node(&found.path.join(&name))?;
                nodes.extend(node.map(|node| (format!("{path}/{name}"), node)));
            }
        }
        let closed = nodes.into_iter().find(|(_, node)| !is_readable(node));
        Ok(closed.map(|(path, node)| {
            Reason::new(
                Cause::HostPathUnreadable,
                format!(
                    "host path {path} has mode {:04o}, and QEMU's user 107 may not read it",
                    node.mode
                ),
                "chmod o+rX it on the node",
            )
        }))
    }

    fn noexec(&self, path: &str, found: &Entry) -> Result<Option<Reason>, TreeError> {
        let real = self.node_directory.on_this_machine(&found.path);
        let file_system = rustix::fs::statvfs(&real)
            .map_err(|error| TreeError::io(real.display())(error.into()))?;
        let noexec = file_system.f_flag.contains(StatVfsMountFlags::NOEXEC);
        Ok(noexec.then(|| {
            Reason::new(
                Cause::HostPathNoexec,
                format!("host path {path} is on a file system that is mounted noexec, from which no library loads"),
                "put it on another one",
            )
        }))
    }
}

/// QEMU runs as user 107 in a group of its own: it reads what all may read.
fn is_readable(node: &Node) -> bool {
    let needed = match node.kind {
        Kind::Directory => 0o005,
        _ => 0o004,
    };
    node.mode & needed == needed
}
