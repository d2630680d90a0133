//! A tree that is a directory of this machine: a node's root, or an image unpacked.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{FileId, Kind, Node, ReadSeek, RealPath, Tree, TreeError};

/// A directory as the root of a tree.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The tree below `root`.
    ///
    /// # Errors
    /// Where `root` is no directory.
    pub fn open(root: &Path) -> Result<Self, TreeError> {
        let shown = root.display();
        let root = fs::canonicalize(root).map_err(TreeError::io(shown))?;
        if !root.is_dir() {
            return Err(TreeError::invalid(root.display(), "not a directory"));
        }
        Ok(Directory { root })
    }

    /// Where a path of the tree is on this machine.
    pub(super) fn real(&self, path: &RealPath) -> PathBuf {
        self.root.join(path.relative())
    }
}

impl Tree for Directory {
    fn shown(&self) -> String {
        self.root.display().to_string()
    }

    fn node(&self, path: &RealPath) -> Result<Option<Node>, TreeError> {
        let real = self.real(path);
        let metadata = match fs::symlink_metadata(&real) {
            Ok(metadata) => metadata,
            Err(error) if is_absence(&error) => return Ok(None),
            Err(error) => return Err(TreeError::io(real.display())(error)),
        };
        let kind = if metadata.is_file() {
            Kind::File(metadata.len())
        } else if metadata.is_dir() {
            Kind::Directory
        } else if metadata.is_symlink() {
            let target = fs::read_link(&real).map_err(TreeError::io(real.display()))?;
            Kind::Link(target.to_string_lossy().into_owned())
        } else {
            Kind::Other
        };
        Ok(Some(Node {
            kind,
            mode: metadata.permissions().mode() & 0o7777,
            id: FileId {
                device: metadata.dev(),
                inode: metadata.ino(),
                changed: (metadata.mtime(), metadata.mtime_nsec()),
            },
        }))
    }

    fn list(&self, path: &RealPath) -> Result<Vec<String>, TreeError> {
        let real = self.real(path);
        let mut names = Vec::new();
        for entry in fs::read_dir(&real).map_err(TreeError::io(real.display()))? {
            let entry = entry.map_err(TreeError::io(real.display()))?;
            names.extend(entry.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &RealPath) -> Result<Box<dyn ReadSeek + '_>, TreeError> {
        let real = self.real(path);
        let file = File::open(&real).map_err(TreeError::io(real.display()))?;
        Ok(Box::new(file))
    }

    fn on_this_machine(&self, path: &RealPath) -> Option<PathBuf> {
        Some(self.real(path))
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename
    )
}
