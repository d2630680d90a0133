//! The tree that a container sees: an image, and over it files and directories of other trees.

use std::collections::{BTreeMap, BTreeSet};

use super::path::names;
use super::{Kind, Lookup, Node, ReadSeek, RealPath, Tree, TreeError};
use manifests::console::Failure;

/// Why a runtime could not make a mount point.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A directory on the way is a file.
    #[error("mount path {path}: {file} is a file in the image")]
    ThroughFile {
        /// The mount path.
        path: String,
        /// The file.
        file: RealPath,
    },
    /// A directory on the way is a link to nothing.
    #[error("mount path {path}: the image's link {link} leads to {target}, which it does not have")]
    ThroughLink {
        /// The mount path.
        path: String,
        /// The link.
        link: RealPath,
        /// What the link says.
        target: String,
    },
    /// A directory on the way is a link to itself.
    #[error("mount path {path}: the image's link {link} leads to itself")]
    ThroughLoop {
        /// The mount path.
        path: String,
        /// The link.
        link: RealPath,
    },
    /// A directory on the way is another mount.
    #[error(
        "mount path {path} lies in the mount {mount}, which has nothing there and is read-only"
    )]
    InMount {
        /// The mount path.
        path: String,
        /// The other mount.
        mount: RealPath,
    },
    /// The image has a file where a directory goes, or the other way round.
    #[error(
        "mount path {path}: the image has a {there} there, and a {brought} cannot be mounted over it"
    )]
    Kind {
        /// The mount path.
        path: String,
        /// What the image has.
        there: &'static str,
        /// What is mounted.
        brought: &'static str,
    },
    /// The image cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl Failure for MountError {
    fn fix(&self) -> Option<String> {
        match self {
            MountError::Tree(error) => error.fix(),
            _ => Some("mount at another path".to_owned()),
        }
    }
}

/// An image with mounts.
pub struct Overlay<'a> {
    image: &'a dyn Tree,
    /// Where in the container, and what of which tree.
    mounts: BTreeMap<RealPath, (&'a dyn Tree, RealPath)>,
    /// Directories that the runtime makes for the mount points.
    made: BTreeMap<RealPath, BTreeSet<String>>,
}

/// Where a path of the container is kept.
enum Place<'a> {
    Image(RealPath),
    Mount(&'a dyn Tree, RealPath),
    Made,
}

impl<'a> Overlay<'a> {
    /// The image as it is.
    #[must_use]
    pub fn new(image: &'a dyn Tree) -> Self {
        Overlay {
            image,
            mounts: BTreeMap::new(),
            made: BTreeMap::new(),
        }
    }

    /// Mounts `source` of `tree` at `mount_path`, whose links the image resolves, as a runtime does. Returns where in
    /// the container that is.
    ///
    /// # Errors
    /// Where the runtime could not make the mount point.
    pub fn mount(
        &mut self,
        tree: &'a dyn Tree,
        source: RealPath,
        mount_path: &str,
    ) -> Result<RealPath, MountError> {
        let place = self.place_for(mount_path)?;
        if let (Some(there), Some(brought)) = (self.node(&place)?, tree.node(&source)?)
            && (there.kind == Kind::Directory) != (brought.kind == Kind::Directory)
        {
            return Err(MountError::Kind {
                path: mount_path.to_owned(),
                there: name_of(&there.kind),
                brought: name_of(&brought.kind),
            });
        }
        let mut child = place.clone();
        while child != RealPath::root() {
            let parent = child.parent();
            self.made
                .entry(parent.clone())
                .or_default()
                .insert(child.name().to_owned());
            child = parent;
        }
        self.mounts.insert(place.clone(), (tree, source));
        Ok(place)
    }

    /// The mount that covers a path of the container.
    #[must_use]
    pub fn mount_of(&self, path: &RealPath) -> Option<&RealPath> {
        match self.place(path) {
            Place::Mount(..) => self.covering(path).map(|(mount, _)| mount),
            Place::Image(_) | Place::Made => None,
        }
    }

    /// Where a mount path is once the links in it are followed; what is missing is made, though not in another mount.
    fn place_for(&self, path: &str) -> Result<RealPath, MountError> {
        let tree: &dyn Tree = self;
        let shown = || path.to_owned();
        let mut there = RealPath::root();
        let mut ahead = names(path).peekable();
        while let Some(name) = ahead.next() {
            let next = there.join(name);
            there = match tree.lookup(next.as_str())? {
                Lookup::Found(entry) if !entry.is_directory() && ahead.peek().is_some() => {
                    return Err(MountError::ThroughFile {
                        path: shown(),
                        file: next,
                    });
                }
                Lookup::Found(entry) => entry.path,
                Lookup::Dangling { link, target } => {
                    return Err(MountError::ThroughLink {
                        path: shown(),
                        link,
                        target,
                    });
                }
                Lookup::Loop { link } => {
                    return Err(MountError::ThroughLoop {
                        path: shown(),
                        link,
                    });
                }
                Lookup::Missing => match self.mount_of(&there) {
                    None => next,
                    Some(mount) => {
                        return Err(MountError::InMount {
                            path: shown(),
                            mount: mount.clone(),
                        });
                    }
                },
            };
        }
        Ok(there)
    }

    fn covering(&self, path: &RealPath) -> Option<(&RealPath, &(&'a dyn Tree, RealPath))> {
        let mut here = path.clone();
        loop {
            if let Some(found) = self.mounts.get_key_value(&here) {
                return Some(found);
            }
            if here == RealPath::root() {
                return None;
            }
            here = here.parent();
        }
    }

    fn place(&self, path: &RealPath) -> Place<'a> {
        match self.covering(path) {
            Some((mount, (tree, source))) => {
                let there = match path.below(mount) {
                    None => source.clone(),
                    Some(rest) => source.join(rest),
                };
                Place::Mount(*tree, there)
            }
            None if self.made.contains_key(path) => Place::Made,
            None => Place::Image(path.clone()),
        }
    }
}

impl Tree for Overlay<'_> {
    fn shown(&self) -> String {
        format!("{} with mounts", self.image.shown())
    }

    fn node(&self, path: &RealPath) -> Result<Option<Node>, TreeError> {
        match self.place(path) {
            Place::Mount(tree, source) => tree.node(&source),
            Place::Image(path) => self.image.node(&path),
            Place::Made => Ok(Some(
                self.image.node(path)?.unwrap_or_else(Node::made_directory),
            )),
        }
    }

    fn list(&self, path: &RealPath) -> Result<Vec<String>, TreeError> {
        match self.place(path) {
            Place::Mount(tree, source) => tree.list(&source),
            Place::Image(path) => self.image.list(&path),
            Place::Made => {
                let mut names = self.made.get(path).cloned().unwrap_or_default();
                if self.image.node(path)?.is_some() {
                    names.extend(self.image.list(path)?);
                }
                Ok(names.into_iter().collect())
            }
        }
    }

    fn open(&self, path: &RealPath) -> Result<Box<dyn ReadSeek + '_>, TreeError> {
        match self.place(path) {
            Place::Mount(tree, source) => tree.open(&source),
            Place::Image(_) | Place::Made => self.image.open(path),
        }
    }
}

fn name_of(kind: &Kind) -> &'static str {
    match kind {
        Kind::Directory => "directory",
        Kind::File(_) => "file",
        Kind::Link(_) | Kind::Other => "special file",
    }
}
