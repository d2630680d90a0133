//! What the kubelet checks of a host path before it starts a pod, and what QEMU's user may read there.

use mesa_injector::settings::HostPathType;
use rustix::fs::StatVfsMountFlags;

use super::finding::{Cause, Finding};
use crate::gl::vendor::VENDOR_DIRECTORY;
use crate::loader::{Loader, Paths, Search};
use crate::tree::{Entry, Kind, Lookup, Node, RealPath, Tree, TreeError, base_name};

/// The kubelet of a node, on paper.
pub(super) struct Kubelet<'a> {
    /// The node.
    pub(super) node: &'a Loader<'a>,
    /// The node's directory that holds `dri/` and `gbm/`.
    pub(super) drivers: &'a RealPath,
    /// What it found so far.
    pub(super) findings: Vec<Finding>,
}

impl Kubelet<'_> {
    /// What the kubelet finds at a host path, links followed: nothing where the pod would not start.
    ///
    /// # Errors
    /// Where the tree cannot be read.
    pub(super) fn host_path(
        &mut self,
        tree: &dyn Tree,
        path: &str,
        kind: HostPathType,
    ) -> Result<Option<RealPath>, TreeError> {
        let found = match tree.lookup(path)? {
            Lookup::Found(entry) => entry,
            Lookup::Missing => {
                let fix = self.elsewhere(path)?;
                let what = format!(
                    "host path {path} is not on the node, and the pod waits for it for ever"
                );
                self.findings
                    .push(Finding::fatal(Cause::HostPathMissing, what, fix));
                return Ok(None);
            }
            Lookup::Loop { link } => {
                let what = format!(
                    "host path {path}: the link {link} leads to itself, and the pod waits for it for ever"
                );
                let fix = "remove the loop";
                self.findings
                    .push(Finding::fatal(Cause::HostPathDangling, what, fix));
                return Ok(None);
            }
            Lookup::Dangling { link, target } => {
                let fix = self.elsewhere(path)?;
                let what = format!(
                    "host path {path}: the link {link} leads to {target}, which is not on the node, and the pod waits for it for ever"
                );
                self.findings
                    .push(Finding::fatal(Cause::HostPathDangling, what, fix));
                return Ok(None);
            }
        };
        let is = match found.node.kind {
            Kind::File(_) => "File",
            Kind::Directory => "Directory",
            Kind::Link(_) | Kind::Other => "neither a file nor a directory",
        };
        if is != kind.as_str() {
            self.findings.push(Finding::fatal(
                Cause::HostPathType,
                format!("host path {path} is of type {is}, the settings say {}, and the pod waits for it for ever", kind.as_str()),
                "correct the type or the path",
            ));
            return Ok(None);
        }
        self.findings.extend(unreadable(tree, path, &found)?);
        self.findings.extend(noexec(tree, path, &found)?);
        Ok(Some(found.path))
    }

    /// Where the node has what a host path seems to mean.
    fn elsewhere(&self, path: &str) -> Result<String, TreeError> {
        let name = base_name(path);
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
}

/// The first file, of a directory and what lies in it, that QEMU may not read.
fn unreadable(tree: &dyn Tree, path: &str, found: &Entry) -> Result<Option<Finding>, TreeError> {
    let mut nodes = vec![(path.to_owned(), found.node.clone())];
    if found.is_directory() {
        for name in tree.list(&found.path)? {
            let node = tree.node(&found.path.join(&name))?;
            nodes.extend(node.map(|node| (format!("{path}/{name}"), node)));
        }
    }
    let closed = nodes.into_iter().find(|(_, node)| !is_readable(node));
    Ok(closed.map(|(path, node)| {
        Finding::fatal(
            Cause::HostPathUnreadable,
            format!(
                "host path {path} has mode {:04o}, and QEMU's user 107 may not read it",
                node.mode
            ),
            "chmod o+rX it on the node",
        )
    }))
}

fn noexec(tree: &dyn Tree, path: &str, found: &Entry) -> Result<Option<Finding>, TreeError> {
    let Some(real) = tree.on_this_machine(&found.path) else {
        return Ok(None);
    };
    let file_system =
        rustix::fs::statvfs(&real).map_err(|error| TreeError::io(real.display())(error.into()))?;
    let noexec = file_system.f_flag.contains(StatVfsMountFlags::NOEXEC);
    Ok(noexec.then(|| {
        Finding::fatal(
            Cause::HostPathNoexec,
            format!("host path {path} is on a file system that is mounted noexec, from which no library loads"),
            "put it on another one",
        )
    }))
}

/// QEMU runs as user 107 in a group of its own: it reads what all may read.
fn is_readable(node: &Node) -> bool {
    let needed = match node.kind {
        Kind::Directory => 0o005,
        _ => 0o004,
    };
    node.mode & needed == needed
}
