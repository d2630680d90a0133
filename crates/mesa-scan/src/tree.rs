//! A file tree: what a node or an image holds, read without running, mounting or unpacking any of it.
//!
//! Every kind of tree answers the same three questions about a path that has no links in it: what stands there,
//! what is in it, what are its bytes. Links are followed here, once for all kinds, and never out of the root.

mod archive;
mod directory;
mod entries;
mod layers;
mod overlay;
mod store;

pub use archive::Archive;
pub use directory::Directory;
pub use overlay::{MountError, Overlay};

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Seek};

use crate::elf::{Elf, ElfError};
use manifests::console::Failure;
use mesa_injector::path::CleanPath;

/// As many links as Linux follows in one path.
const MAX_LINKS: usize = 40;

/// An absolute path in a tree without links, `.`, `..` or doubled slashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct RealPath(String);

impl RealPath {
    /// The root of the tree.
    #[must_use]
    pub fn root() -> Self {
        RealPath("/".to_owned())
    }

    /// The path as text, with its leading slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path below the root, without a leading slash: empty for the root.
    #[must_use]
    pub fn relative(&self) -> &str {
        self.0.strip_prefix('/').unwrap_or_default()
    }

    /// The last name of the path: empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The directory that holds this; the root's is the root.
    #[must_use]
    pub fn parent(&self) -> Self {
        match self.0.rsplit_once('/') {
            None | Some(("", _)) => RealPath::root(),
            Some((parent, _)) => RealPath(parent.to_owned()),
        }
    }

    /// What this is relative to `directory`, where it lies in it.
    #[must_use]
    pub fn below(&self, directory: &RealPath) -> Option<&str> {
        match directory.as_str() {
            "/" => Some(self.relative()).filter(|rest| !rest.is_empty()),
            directory => self.0.strip_prefix(directory)?.strip_prefix('/'),
        }
    }

    /// The path of an entry of this directory. `name` must be one name that [`Tree::list`] or a clean path gave.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        match self.as_str() {
            "/" => RealPath(format!("/{name}")),
            directory => RealPath(format!("{directory}/{name}")),
        }
    }
}

impl fmt::Display for RealPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Two names of the same file have the same identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// The device, or the layer of an archive.
    pub device: u64,
    /// The inode, or the place in the layer.
    pub inode: u64,
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
}

impl Lookup {
    /// What was found.
    #[must_use]
    pub fn found(self) -> Option<Entry> {
        match self {
            Lookup::Found(entry) => Some(entry),
            Lookup::Missing | Lookup::Dangling { .. } => None,
        }
    }
}

/// Why a tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A path goes above the root.
    #[error(
        "{path}: leads out of the root (more `..` than directories above it), and nothing outside is read"
    )]
    Escape {
        /// The path that was looked up.
        path: String,
    },
    /// Links that lead to each other.
    #[error("{path}: more than {MAX_LINKS} links follow each other")]
    Loop {
        /// The path that was looked up.
        path: String,
    },
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
}

impl Failure for TreeError {
    fn fix(&self) -> Option<String> {
        let fix = match self {
            TreeError::Escape { .. } => Some("correct the link or path"),
            TreeError::Loop { .. } => Some("remove the loop"),
            TreeError::Io { .. } => None,
            TreeError::Invalid { fix, .. } => *fix,
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

    /// What the loader reads of a library.
    ///
    /// # Errors
    /// Where `path` cannot be read or is no library of an architecture that we know.
    fn elf(&self, path: &RealPath) -> Result<Elf, ElfError> {
        Elf::read(self.open(path)?)
    }
}

impl dyn Tree + '_ {
    /// Follows `path` from the root, links included, as a process in a chroot would: but where that would stop at
    /// the root, `..` above it is an error.
    ///
    /// # Errors
    /// [`TreeError::Escape`], [`TreeError::Loop`], or what the system said.
    pub fn lookup(&self, path: &str) -> Result<Lookup, TreeError> {
        let mut entry = self.root_entry()?;
        let mut ahead: VecDeque<String> = names(path).collect();
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
                if entry.path == RealPath::root() {
                    let path = self.shown_path(path);
                    return Err(TreeError::Escape { path });
                }
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
                        let path = self.shown_path(path);
                        return Err(TreeError::Loop { path });
                    }
                    for name in names(&target).rev() {
                        ahead.push_front(name);
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
    pub fn entries(&self, directory: &str) -> Result<Vec<RealPath>, TreeError> {
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

/// The names of a path, `..` among them.
fn names(path: &str) -> impl DoubleEndedIterator<Item = String> + '_ {
    path.split('/')
        .filter(|name| !matches!(*name, "" | "."))
        .map(str::to_owned)
}

/// A path as the kubelet reads it, below the root. Links are not looked at: this is for comparing names.
pub(crate) fn clean(path: &str) -> String {
    CleanPath::new(path).trim_start_matches('/').to_owned()
}
