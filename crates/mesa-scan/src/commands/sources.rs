//! What a command looks at: a node's root and a virt-launcher image, each a directory or an archive.

use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use manifests::console::Failure;

use crate::gl::GlReadAhead;
use crate::loader::{Arch, Loader, LoaderError};
use crate::tree::image::{Choice, Platform};
use crate::tree::{self, Tree, TreeError};

/// Which of the two something is said of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The node's root, where Mesa comes from.
    Node,
    /// The virt-launcher image.
    Image,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Which::Node => "the node's root",
            Which::Image => "the image",
        })
    }
}

/// Why there is nothing to look at.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be opened.
    #[error("cannot open {which} {path}")]
    Open {
        /// Which of the two.
        which: Which,
        /// As it was given.
        path: String,
        /// What is wrong.
        source: TreeError,
    },
    /// It is something else.
    #[error("{path} is not {}", match which { Which::Node => "the root of a node", Which::Image => "a virt-launcher image" })]
    NoLoader {
        /// Which of the two.
        which: Which,
        /// As it was given.
        path: String,
        /// What is wrong.
        source: LoaderError,
    },
}

impl Failure for SourceError {
    fn fix(&self) -> Option<String> {
        let (which, cause): (_, &dyn Failure) = match self {
            SourceError::Open { which, source, .. } => (which, source),
            SourceError::NoLoader { which, source, .. } => (which, source),
        };
        let what = match which {
            Which::Node => "the root of a node",
            Which::Image => "the root of an image",
        };
        cause.fix().or_else(|| {
            Some(format!(
                "name {what}: a directory, or an image of docker save, podman save or skopeo copy"
            ))
        })
    }
}

/// A directory or archive, and which image of it.
#[derive(Debug, Clone, Default)]
pub struct Root {
    /// Where it is.
    pub path: PathBuf,
    /// The image's tag, where there are several.
    pub tag: Option<String>,
}

impl Root {
    /// A root that needs no choice.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Root {
            path: path.to_owned(),
            tag: None,
        }
    }

    fn open(
        &self,
        which: Which,
        platform: Option<&Platform>,
        machine: Platform,
    ) -> Result<Opened, SourceError> {
        let choice = Choice {
            platform: platform.cloned(),
            machine: Some(machine),
            tag: self.tag.clone(),
        };
        let path = self.path.display().to_string();
        match tree::open(&self.path, &choice, &GlReadAhead) {
            Ok(tree) => Ok(Opened { which, path, tree }),
            Err(source) => Err(SourceError::Open {
                which,
                path,
                source,
            }),
        }
    }
}

/// A root that is open.
struct Opened {
    which: Which,
    path: String,
    tree: Box<dyn Tree>,
}

impl Opened {
    fn loader(&self) -> Result<Loader<'_>, SourceError> {
        Loader::of(self.tree.as_ref()).map_err(|source| SourceError::NoLoader {
            which: self.which,
            path: self.path.clone(),
            source,
        })
    }
}

/// A node's root, and an image where there is one.
pub struct Sources {
    node: Rc<Opened>,
    image: Option<Opened>,
}

impl Sources {
    /// Opens a node's root, and an image where there is one. Where an archive holds images for several platforms, that for
    /// `platform` is taken, or else the node's for this machine and the other for the node's architecture.
    ///
    /// # Errors
    /// Where one of them cannot be read, or which image is meant cannot be told.
    pub fn open(
        node: &Root,
        image: Option<&Root>,
        platform: Option<&Platform>,
    ) -> Result<Self, SourceError> {
        Sources::beside(&Sources::open_node(node, platform)?, image, platform)
    }

    /// The same with several images beside one node; without an image it is the node alone.
    ///
    /// # Errors
    /// As [`Sources::open`].
    pub fn open_all(
        node: &Root,
        images: &[Root],
        platform: Option<&Platform>,
    ) -> Result<Vec<Self>, SourceError> {
        let node = Sources::open_node(node, platform)?;
        match images {
            [] => Ok(vec![Sources::beside(&node, None, platform)?]),
            images => images
                .iter()
                .map(|image| Sources::beside(&node, Some(image), platform))
                .collect(),
        }
    }

    fn open_node(node: &Root, platform: Option<&Platform>) -> Result<Rc<Opened>, SourceError> {
        let machine = Platform::linux(Arch::this_machine());
        Ok(Rc::new(node.open(Which::Node, platform, machine)?))
    }

    fn beside(
        node: &Rc<Opened>,
        image: Option<&Root>,
        platform: Option<&Platform>,
    ) -> Result<Self, SourceError> {
        let image = match image {
            None => None,
            Some(image) => {
                let of_node = Platform::linux(node.loader()?.arch.oci_name());
                Some(image.open(Which::Image, platform, of_node)?)
            }
        };
        let node = Rc::clone(node);
        Ok(Sources { node, image })
    }

    /// The node's loader.
    ///
    /// # Errors
    /// Where there is none.
    pub fn node(&self) -> Result<Loader<'_>, SourceError> {
        self.node.loader().map(Loader::of_source)
    }

    /// The image's loader, where there is an image.
    ///
    /// # Errors
    /// Where there is none in it.
    pub fn image(&self) -> Result<Option<Loader<'_>>, SourceError> {
        self.image.as_ref().map(Opened::loader).transpose()
    }

    /// What the image is called: as it was given, and by those who saved it.
    #[must_use]
    pub fn image_names(&self) -> Option<(&str, Vec<String>)> {
        let image = self.image.as_ref()?;
        Some((&image.path, image.tree.references()))
    }
}
