//! `mesa-scan scan`: the set of one node for one image, how it is mounted, and whether it loads.

use std::path::Path;

use crate::arch::Arch;
use crate::cover;
use crate::glibc;
use crate::layout::{Layout, NoStaging, Plan};
use crate::ldso::{Loader, LoaderError};
use crate::reason::{Cause, Reason};
use crate::set::Set;
use crate::tree::{Archive, Directory, MountError, Overlay, RealPath, Tree, TreeError};
use crate::verdict::{Container, Verdict};
use manifests::console::Failure;

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
    fn of(loader: &Loader<'_>) -> Self {
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
    pub set: Set,
    /// How.
    pub plan: Plan,
    /// Whether GL will load.
    pub verdict: Verdict,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The node's root.
    #[error("--root {path} is not the root of a node")]
    Node {
        /// As it was given.
        path: String,
        /// What is wrong.
        source: LoaderError,
    },
    /// The image.
    #[error("--image {path} is not a virt-launcher image")]
    Image {
        /// As it was given.
        path: String,
        /// What is wrong.
        source: LoaderError,
    },
    /// The node's root cannot be opened.
    #[error("cannot open --root {path}")]
    OpenNode {
        /// As it was given.
        path: String,
        /// What is wrong.
        source: TreeError,
    },
    /// The image cannot be opened.
    #[error("cannot open --image {path}")]
    OpenImage {
        /// As it was given.
        path: String,
        /// What is wrong.
        source: TreeError,
    },
    /// A check is of a node and an image.
    #[error("no image is given")]
    NoImage,
    /// Something in them cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The image has something else where the files must go.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The layout is impossible.
    #[error(transparent)]
    Layout(#[from] NoStaging),
}

impl Failure for ScanError {
    fn fix(&self) -> Option<String> {
        let node = "name the root directory of a node";
        let image =
            "name an unpacked root, or an archive of docker save, podman save or skopeo copy";
        let (error, fix): (Option<&dyn Failure>, _) = match self {
            ScanError::Node { source, .. } => (Some(source), node),
            ScanError::Image { source, .. } => (Some(source), image),
            ScanError::OpenNode { source, .. } => (Some(source), node),
            ScanError::OpenImage { source, .. } => (Some(source), image),
            ScanError::NoImage => (None, "add --image"),
            ScanError::Tree(error) => return error.fix(),
            ScanError::Mount(error) => return error.fix(),
            ScanError::Layout(_) => (None, "use --layout files"),
        };
        error
            .and_then(Failure::fix)
            .or_else(|| Some(fix.to_owned()))
    }
}

/// A node's root and an image, opened.
pub struct Sources {
    root: String,
    node: Directory,
    image: Option<(String, Box<dyn Tree>)>,
}

impl Sources {
    /// Opens the node's root, and the image, which may be an unpacked root or an archive.
    ///
    /// # Errors
    /// Where one of them cannot be read.
    pub fn open(root: &Path, image: Option<&Path>) -> Result<Self, ScanError> {
        let node = Directory::open(root).map_err(|source| ScanError::OpenNode {
            path: root.display().to_string(),
            source,
        })?;
        let root = root.display().to_string();
        let Some(path) = image else {
            return Ok(Sources {
                root,
                node,
                image: None,
            });
        };
        let arch = node_loader(&root, &node)?.arch;
        let open_image = |source| ScanError::OpenImage {
            path: path.display().to_string(),
            source,
        };
        let tree: Box<dyn Tree> = match Archive::open(path, arch).map_err(open_image)? {
            Some(archive) => Box::new(archive),
            None => Box::new(Directory::open(path).map_err(open_image)?),
        };
        Ok(Sources {
            root,
            node,
            image: Some((path.display().to_string(), tree)),
        })
    }

    /// The node's root as a directory of this machine.
    #[must_use]
    pub fn node_directory(&self) -> &Directory {
        &self.node
    }

    /// The node's loader.
    ///
    /// # Errors
    /// Where there is none.
    pub fn node(&self) -> Result<Loader<'_>, ScanError> {
        node_loader(&self.root, &self.node)
    }

    /// The image's loader, where there is an image.
    ///
    /// # Errors
    /// Where there is none in it.
    pub fn image(&self) -> Result<Option<Loader<'_>>, ScanError> {
        let Some((path, tree)) = &self.image else {
            return Ok(None);
        };
        let loader = Loader::of(tree.as_ref()).map_err(|source| ScanError::Image {
            path: path.clone(),
            source,
        })?;
        Ok(Some(loader))
    }
}

fn node_loader<'a>(root: &str, node: &'a Directory) -> Result<Loader<'a>, ScanError> {
    Loader::of(node).map_err(|source| ScanError::Node {
        path: root.to_owned(),
        source,
    })
}

/// Scans. `base` is the directory of the current generation in the staged layout.
///
/// # Errors
/// Where node or image cannot be read, or the layout is impossible.
pub fn scan(sources: &Sources, layout: Layout, base: &str) -> Result<Scan, ScanError> {
    let node = sources.node()?;
    let image = sources.image()?;
    let set = Set::work_out(&node, image.as_ref())?;
    let plan = match layout {
        Layout::Files => Plan::files(&set),
        Layout::Staged => Plan::staged(&set, image.as_ref().unwrap_or(&node), base)?,
    };
    let mut verdict = match &image {
        None => Verdict {
            reasons: vec![no_image()],
            notes: Vec::new(),
        },
        Some(image) if image.arch != node.arch => Verdict {
            reasons: vec![other_architecture(&node, image)],
            notes: Vec::new(),
        },
        Some(image) => judge(&node, image, &set, &plan)?,
    };
    verdict.reasons.extend(set.faults.iter().cloned());
    verdict.notes.extend(static_list(&plan, &set));
    Ok(Scan {
        node: System::of(&node),
        image: image.as_ref().map(System::of),
        set,
        plan,
        verdict: verdict.sorted(),
    })
}

fn judge(
    node: &Loader<'_>,
    image: &Loader<'_>,
    set: &Set,
    plan: &Plan,
) -> Result<Verdict, ScanError> {
    let mut overlay = Overlay::new(image.tree(), node.tree());
    let mut places = Vec::new();
    for file in &plan.files {
        places.push(overlay.mount(file.item.real_path.clone(), &file.container_path)?);
    }
    let loader = image.over(&overlay);
    let mut reasons = Vec::new();
    for mount in &plan.mounts {
        let place = image.tree().lookup(&mount.mount_path)?.found();
        places.extend(place.map(|entry| entry.path));
    }
    places.sort();
    places.dedup();
    for place in &places {
        reasons.extend(cover::reasons(image, &loader, &overlay, place)?);
    }
    let container = Container {
        loader,
        overlay: &overlay,
        node,
        drivers: &set.drivers,
    };
    let mut verdict = container.judge()?;
    verdict.reasons.extend(reasons);
    Ok(verdict)
}

fn no_image() -> Reason {
    Reason::new(
        Cause::NoImage,
        "whether GL loads is decided by the libraries of the image, and no image is given",
        "add --image; without it nothing is left out but glibc, and mounting over what an image has breaks it",
    )
}

pub(crate) fn other_architecture(node: &Loader<'_>, image: &Loader<'_>) -> Reason {
    Reason::new(
        Cause::Architecture,
        format!("the node is {}, the image {}", node.arch, image.arch),
        "give the image of the node's architecture",
    )
}

/// What the user of a list of files must know.
fn static_list(plan: &Plan, set: &Set) -> Option<String> {
    if plan.layout != Layout::Files {
        return None;
    }
    let versioned = |name: &&str| {
        name.split_once(".so")
            .is_some_and(|(stem, _)| stem.contains('.'))
    };
    let mut names = set.items.iter().map(|item| item.name.as_str());
    let example = match names.find(versioned) {
        Some(name) => format!(" ({name} carries the version in its name)"),
        None => String::new(),
    };
    Some(format!(
        "a list of files is right until the node's Mesa is updated{example}: scan again after each update, or use --layout staged"
    ))
}
