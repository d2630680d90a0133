//! A file tree: what a node or an image holds, read without running, mounting or unpacking any of it.
//!
//! Every kind of tree answers the same three questions about a path that has no links in it: what stands there,
//! what is in it, what are its bytes. Links are followed here, once for all kinds, and never out of the root.

mod directory;
pub mod image;
mod overlay;
mod path;
mod selection;

pub use directory::Directory;
pub use image::Image;
pub use overlay::{MountError, Overlay};
pub use path::{RealPath, base_name};
pub use selection::Selection;

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use manifests::console::Failure;
use path::names;

/// As many links as Linux follows in one path.
const MAX_LINKS: usize = 40;

/// Two names of the same file have the same identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// The device, or the layer of an archive.
    pub device: u64,
    /// The inode, or the place in the layer.
    pub inode: u64,
    /// When it last changed, in seconds and nanoseconds; in an archive nothing does.
    pub changed: (i64, i64),
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of so many bytes.
    File(u64),
    /// A directory.
    Directory,
    /// A symbolic link and where it leads.
    Link(String),
    /// A device, a socket or a pipe: nothing that is ever opened.
    Other,
}

/// What stands at a path, with who may read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// The permission bits.
    pub mode: u32,
    /// Which file it is.
    pub id: FileId,
}

impl Node {
    /// A directory that stands nowhere but has to be there.
    fn made_directory() -> Self {
        Node {
            kind: Kind::Directory,
            mode: 0o755,
            id: FileId {
                device: u64::MAX,
                inode: 0,
                changed: (0, 0),
            },
        }
    }
}

/// A regular file or directory and where it really is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path without links.
    pub path: RealPath,
    /// Never a [`Kind::Link`].
    pub node: Node,
}

impl Entry {
    /// The size in bytes where this is a regular file.
    #[must_use]
    pub fn file_size(&self) -> Option<u64> {
        match self.node.kind {
            Kind::File(size) => Some(size),
            _ => None,
        }
    }

    /// Whether this is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.node.kind == Kind::Directory
    }
}

/// The end of following a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// It is there.
    Found(Entry),
    /// Nothing of that name.
    Missing,
    /// The link `link` is there, and it leads to `target`, which is not.
    Dangling {
        /// The last link that was followed.
        link: RealPath,
        /// What that link says.
        target: String,
    },
    /// More links follow each other than Linux follows, most likely in a circle.
    Loop {
        /// The last one.
        link: RealPath,
    },
}

impl Lookup {
    /// What was found.
    #[must_use]
    pub fn found(self) -> Option<Entry> {
        match self {
            Lookup::Found(entry) => Some(entry),
            Lookup::Missing | Lookup::Dangling { .. } | Lookup::Loop { .. } => None,
        }
    }
}

/// Why a tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The system refused.
    #[error("cannot read {path}")]
    Io {
        /// The file, as the user knows it.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The bytes are not what they should be.
    #[error("{path}: {what}")]
    Invalid {
        /// The file, as the user knows it.
        path: String,
        /// What is wrong.
        what: String,
        /// What to do about it, for those to whom that is not clear.
        fix: Option<&'static str>,
    },
    /// An archive holds several images, or another than the one that was asked for.
    #[error("{path}: {what}: {}", candidates.join("; "))]
    Choice {
        /// The archive.
        path: String,
        /// What cannot be decided.
        what: String,
        /// What there is, each as its tags, platform and digest.
        candidates: Vec<String>,
    },
}

impl Failure for TreeError {
    fn fix(&self) -> Option<String> {
        let fix = match self {
            TreeError::Io { .. } => None,
            TreeError::Invalid { fix, .. } => *fix,
            TreeError::Choice { .. } => Some("choose one by its tag or platform"),
        };
        fix.map(str::to_owned)
    }
}

impl TreeError {
    pub(crate) fn io(path: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_string();
        move |source| TreeError::Io { path, source }
    }

    pub(crate) fn invalid(path: impl fmt::Display, what: impl fmt::Display) -> Self {
        TreeError::Invalid {
            path: path.to_string(),
            what: what.to_string(),
            fix: None,
        }
    }

    /// The same with what to do about it.
    pub(crate) fn with_fix(mut self, what_to_do: &'static str) -> Self {
        if let TreeError::Invalid { fix, .. } = &mut self {
            *fix = Some(what_to_do);
        }
        self
    }
}

/// Opens what a user names: an image in any of the forms that tools write, or a directory that is a root itself.
///
/// # Errors
/// Where it is none of them, or the image that `choice` asks for is not in it.
pub fn open(
    path: &Path,
    choice: &image::Choice,
    read_ahead: &dyn image::ReadAhead,
) -> Result<Box<dyn Tree>, TreeError> {
    Ok(match Image::open(path, choice, read_ahead)? {
        Some(image) => Box::new(image),
        None => Box::new(Directory::open(path)?),
    })
}

/// Bytes that can be read anywhere.
pub trait ReadSeek: Read + Seek {}
impl<T: Read + Seek> ReadSeek for T {}

/// A file tree. The paths that it takes have no links among their directories; `lookup` makes such paths.
pub trait Tree {
    /// What the user calls this tree.
    fn shown(&self) -> String;

    /// What stands at `path`, a link not followed; `None` where nothing does.
    ///
    /// # Errors
    /// Where the system does not let us look.
    fn node(&self, path: &RealPath) -> Result<Option<Node>, TreeError>;

    /// The names in a directory, sorted. Names that are not UTF-8 are left out: no setting could hold them.
    ///
    /// # Errors
    /// Where `path` is no readable directory.
    fn list(&self, path: &RealPath) -> Result<Vec<String>, TreeError>;

    /// The bytes of a regular file.
    ///
    /// # Errors
    /// Where `path` is no readable file.
    fn open(&self, path: &RealPath) -> Result<Box<dyn ReadSeek + '_>, TreeError>;

    /// The references under which it was saved, for a tree that is an image.
    fn references(&self) -> Vec<String> {
        Vec::new()
    }

    /// Where a path is on this machine, for a tree that is a directory of it.
    fn on_this_machine(&self, _path: &RealPath) -> Option<PathBuf> {
        None
    }
}

impl dyn Tree + '_ {
    /// Follows `path` from the root, links included, as a process in a chroot would: `..` does not lead above it.
    ///
    /// # Errors
    /// What the system said.
    pub fn lookup(&self, path: &str) -> Result<Lookup, TreeError> {
        let mut entry = self.root_entry()?;
        let mut ahead: VecDeque<String> = names(path).map(str::to_owned).collect();
        let mut links = 0;
        let mut last_link = None;
        let missing = |last_link| match last_link {
            None => Lookup::Missing,
            Some((link, target)) => Lookup::Dangling { link, target },
        };
        while let Some(name) = ahead.pop_front() {
            if !entry.is_directory() {
                return Ok(missing(last_link));
            }
            if name == ".." {
                entry = self.directory_entry(entry.path.parent())?;
                continue;
            }
            let here = entry.path.join(&name);
            match self.node(&here)? {
                None => return Ok(missing(last_link)),
                Some(Node {
                    kind: Kind::Link(target),
                    ..
                }) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Ok(Lookup::Loop { link: here });
                    }
                    for name in names(&target).rev() {
                        ahead.push_front(name.to_owned());
                    }
                    if target.starts_with('/') {
                        entry = self.root_entry()?;
                    }
                    last_link = Some((here, target));
                }
                Some(node) => entry = Entry { path: here, node },
            }
        }
        Ok(Lookup::Found(entry))
    }

    /// The text of a small file.
    ///
    /// # Errors
    /// Where it cannot be read, is larger than `limit` bytes or is not UTF-8.
    pub fn read_text(&self, path: &RealPath, limit: u64) -> Result<String, TreeError> {
        let shown = self.shown_path(path.as_str());
        let mut bytes = Vec::new();
        self.open(path)?
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(TreeError::io(&shown))?;
        if bytes.len() as u64 > limit {
            return Err(TreeError::invalid(
                shown,
                format_args!("larger than {limit} bytes, which no file of this kind is"),
            ));
        }
        String::from_utf8(bytes).map_err(|_| TreeError::invalid(shown, "not UTF-8 text"))
    }

    /// The entries of a directory that a path leads to, links followed; none where there is no such directory.
    ///
    /// # Errors
    /// What `lookup` says.
    pub fn children(&self, directory: &str) -> Result<Vec<RealPath>, TreeError> {
        let Some(found) = self.lookup(directory)?.found() else {
            return Ok(Vec::new());
        };
        if !found.is_directory() {
            return Ok(Vec::new());
        }
        let names = self.list(&found.path)?;
        Ok(names.iter().map(|name| found.path.join(name)).collect())
    }

    fn shown_path(&self, path: &str) -> String {
        format!("{path} of {}", self.shown())
    }

    fn root_entry(&self) -> Result<Entry, TreeError> {
        self.directory_entry(RealPath::root())
    }

    fn directory_entry(&self, path: RealPath) -> Result<Entry, TreeError> {
        let node = self
            .node(&path)?
            .ok_or_else(|| TreeError::invalid(&path, "went away while it was read"))?;
        Ok(Entry { path, node })
    }
}
