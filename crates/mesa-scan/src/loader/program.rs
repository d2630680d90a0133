//! A static program of this machine, which is delivered with the files: it must run in any image.

use std::fs::File;
use std::path::Path;

use manifests::console::Failure;

use super::{Arch, Elf, ElfError};
use crate::tree::{Directory, FileId, RealPath, Tree, TreeError};

/// A program that needs nothing but a kernel.
#[derive(Debug)]
pub struct Program {
    tree: Directory,
    /// Below the tree.
    pub path: RealPath,
    /// Which file it is.
    pub id: FileId,
    /// Bytes.
    pub size: u64,
}

/// Why a program cannot be delivered.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The file.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Not a regular file.
    #[error("{0} is not a file")]
    NoFile(String),
    /// Not a program.
    #[error("{path} is not a program")]
    Elf {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: ElfError,
    },
    /// It would not find its libraries in another image, or find others.
    #[error("{0} is not static: it would need libraries of the image that it runs in")]
    Dynamic(String),
    /// It would not run.
    #[error("{path} is a program for {found}, and the launcher's image is for {wanted}")]
    Arch {
        /// The file.
        path: String,
        /// Its architecture.
        found: Arch,
        /// The image's.
        wanted: Arch,
    },
}

impl Failure for ProgramError {
    fn fix(&self) -> Option<String> {
        match self {
            ProgramError::Tree(error) => error.fix(),
            _ => Some("give mesa-node as `make mesa-node` builds it".to_owned()),
        }
    }
}

impl Program {
    /// Whether a file is a program that could be delivered.
    #[must_use]
    pub fn is_static(file: &Path) -> bool {
        let file = File::open(file);
        file.is_ok_and(|file| Elf::is_static(file).is_ok_and(|(_, is_static)| is_static))
    }

    /// Opens a program for an architecture.
    ///
    /// # Errors
    /// Where it cannot be read, needs another program or a library, or is for another architecture.
    pub fn open(file: &Path, arch: Arch) -> Result<Self, ProgramError> {
        let shown = file.display().to_string();
        let bad = |source| TreeError::io(&shown)(source);
        let file = std::fs::canonicalize(file).map_err(bad)?;
        let no_file = || ProgramError::NoFile(shown.clone());
        let (directory, name) = file.parent().zip(file.file_name()).ok_or_else(no_file)?;
        let tree = Directory::open(directory)?;
        let path = RealPath::root().join(&name.to_string_lossy());
        let found = (&tree as &dyn Tree).lookup(path.as_str())?.found();
        let found = found.ok_or_else(no_file)?;
        let size = found.file_size().ok_or_else(no_file)?;
        let elf = |source| ProgramError::Elf {
            path: shown.clone(),
            source,
        };
        let (of, is_static) = Elf::is_static(tree.open(&found.path)?).map_err(elf)?;
        if !is_static {
            return Err(ProgramError::Dynamic(shown));
        }
        if of != arch {
            return Err(ProgramError::Arch {
                path: shown,
                found: of,
                wanted: arch,
            });
        }
        Ok(Program {
            path: found.path,
            id: found.node.id,
            size,
            tree,
        })
    }

    /// The directory that holds it.
    #[must_use]
    pub fn tree(&self) -> &dyn Tree {
        &self.tree
    }
}
