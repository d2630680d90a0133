//! Files of a tree under names of their own: what a delivery will hold, before it is written.

use std::collections::{BTreeMap, BTreeSet};

use super::path::names;
use super::{Kind, Node, ReadSeek, RealPath, Tree, TreeError};

/// A tree of chosen files, each readable by all, as they will be once they are copied.
pub struct Selection<'a> {
    tree: &'a dyn Tree,
    files: BTreeMap<RealPath, RealPath>,
    directories: BTreeMap<RealPath, BTreeSet<String>>,
}

impl<'a> Selection<'a> {
    /// Nothing yet of `tree`.
    #[must_use]
    pub fn of(tree: &'a dyn Tree) -> Self {
        Selection {
            tree,
            files: BTreeMap::new(),
            directories: BTreeMap::from([(RealPath::root(), BTreeSet::new())]),
        }
    }

    /// Adds the file `source` of the tree as `path`.
    pub fn add(&mut self, path: &str, source: RealPath) {
        let mut here = RealPath::root();
        for name in names(path) {
            let names = self.directories.entry(here.clone()).or_default();
            names.insert(name.to_owned());
            here = here.join(name);
        }
        self.files.insert(here, source);
    }

    fn source(&self, path: &RealPath) -> Result<&RealPath, TreeError> {
        self.files
            .get(path)
            .ok_or_else(|| TreeError::invalid(path, "not a regular file"))
    }
}

impl Tree for Selection<'_> {
    fn shown(&self) -> String {
        format!("what is taken of {}", self.tree.shown())
    }

    fn node(&self, path: &RealPath) -> Result<Option<Node>, TreeError> {
        if self.directories.contains_key(path) {
            return Ok(Some(Node::made_directory()));
        }
        let Some(source) = self.files.get(path) else {
            return Ok(None);
        };
        let node = self.tree.node(source)?;
        let as_written = |node: Node| Node {
            mode: 0o644,
            ..node
        };
        Ok(node
            .filter(|node| matches!(node.kind, Kind::File(_)))
            .map(as_written))
    }

    fn list(&self, path: &RealPath) -> Result<Vec<String>, TreeError> {
        match self.directories.get(path) {
            Some(names) => Ok(names.iter().cloned().collect()),
            None => Err(TreeError::invalid(path, "not a directory")),
        }
    }

    fn open(&self, path: &RealPath) -> Result<Box<dyn ReadSeek + '_>, TreeError> {
        self.tree.open(self.source(path)?)
    }
}
