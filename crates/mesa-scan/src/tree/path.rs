//! A path in a tree, once all links are followed.

use std::fmt;

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
        base_name(&self.0)
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

    /// The path of an entry of this directory. `name` must be one name that [`Tree::list`](super::Tree::list) or a
    /// clean path gave.
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

/// The last name of any path.
#[must_use]
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The names of a path, `..` among them.
pub(super) fn names(path: &str) -> impl DoubleEndedIterator<Item = &str> {
    path.split('/').filter(|name| !matches!(*name, "" | "."))
}
