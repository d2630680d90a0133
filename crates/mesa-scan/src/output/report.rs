//! What the commands found and did, before it is written.

use crate::container::Findings;
use crate::gl::{GlFiles, Plan};
use crate::loader::{Arch, Loader, glibc};
use sha2::{Digest, Sha256};

use crate::oci::Reference;
use crate::tree::{RealPath, base_name};
use staging::hex;

/// A node's or an image's C library.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct System {
    /// The architecture.
    pub arch: Arch,
    /// The newest glibc version that it has symbols of.
    pub glibc: Option<glibc::Version>,
    /// Where its libraries are.
    pub library_directory: RealPath,
}

impl System {
    /// That of a tree.
    #[must_use]
    pub fn of(loader: &Loader<'_>) -> Self {
        System {
            arch: loader.arch,
            glibc: loader.glibc,
            library_directory: loader.libdir.clone(),
        }
    }
}

/// All that a scan found.
#[derive(Debug)]
pub struct Scan {
    /// The node.
    pub node: System,
    /// The image, where one was given.
    pub image: Option<System>,
    /// What must be mounted.
    pub files: GlFiles,
    /// How.
    pub plan: Plan,
    /// Whether GL will load, and what else there is to know.
    pub findings: Findings,
}

impl Scan {
    /// What a node must have for these mounts, in twelve hexadecimal digits: the directories and where they go, which follow
    /// from the node's Mesa and the image's layout, and the build of the image's QEMU.
    #[must_use]
    pub fn layout(&self) -> String {
        let mut hash = Sha256::new();
        for mount in &self.plan.mounts {
            hash.update(format!("{} {}\n", base_name(&mount.path), mount.mount_path));
        }
        let qemu = self.files.qemu.as_ref().and_then(|qemu| qemu.build());
        hash.update(qemu.map_or("", |build| &build.stamp));
        hex(&hash.finalize()).chars().take(12).collect()
    }
}

/// What `image` found and made for one launcher.
#[derive(Debug)]
pub struct Imaged {
    /// What tells this launcher from others.
    pub name: String,
    /// The launcher's reference, where it is known.
    pub launcher: Option<String>,
    /// What it lacks, and whether that loads.
    pub scan: Scan,
    /// The image; none where nothing was made.
    pub made: Option<Made>,
}

/// An image that was made.
#[derive(Debug)]
pub struct Made {
    /// What it is called.
    pub reference: Reference,
    /// Of its manifest: `sha256:…`.
    pub digest: String,
    /// Bytes that a node pulls.
    pub size: u64,
    /// Whether the hook's program is in it.
    pub has_hook: bool,
}

/// What `stage` did.
#[derive(Debug)]
pub struct Staged {
    /// Whether GL will load with it, and what else there is to know.
    pub findings: Findings,
    /// The generation that is current now; none where nothing was staged.
    pub generation: Option<String>,
    /// The settings that go with it; empty where nothing was staged.
    pub settings: String,
    /// What happened, a line each.
    pub done: Vec<String>,
}
