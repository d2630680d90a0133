//! The files of a set, each read once: their checksums, and what Mesa says of itself.

use std::collections::BTreeMap;
use std::io::Read;

use staging::{Manifest, StagedFile, sha256};

use super::mesa_version::Finder;
use super::{Item, Placed, Role};
use crate::loader::{Arch, Program, glibc};
use crate::tree::{FileId, Kind, RealPath, Tree, TreeError};

/// The files of a set, by where they go, and their manifest.
pub struct Originals<'a> {
    /// What a generation or an image of them holds.
    pub manifest: Manifest,
    /// By the paths in the manifest.
    pub files: BTreeMap<String, Original<'a>>,
}

/// Where a file is.
#[derive(Clone)]
pub struct Original<'a> {
    /// The tree.
    pub tree: &'a dyn Tree,
    /// In that tree.
    pub path: RealPath,
}

/// A program that goes with the files.
pub struct Addition<'a> {
    /// Where it goes.
    pub path: String,
    /// The program.
    pub program: &'a Program,
}

impl<'a> Originals<'a> {
    /// Reads all files once, each inode once. `arch` is that of the node in `tree`, and `minimal_glibc` the oldest glibc
    /// that all of them can load with. `read` hears how many bytes were read.
    ///
    /// # Errors
    /// Where a file cannot be read, or is not any more what was judged.
    pub fn read(
        tree: &'a dyn Tree,
        placed: &[Placed],
        addition: Option<&Addition<'a>>,
        (arch, minimal_glibc): (Arch, Option<glibc::Version>),
        read: &dyn Fn(u64),
    ) -> Result<Self, TreeError> {
        let mut sums = Sums::default();
        let mut files = Vec::new();
        let mut originals = BTreeMap::new();
        for placed in placed {
            let item = &placed.item;
            // Of several under one name in a flat image, which are one file.
            if originals.contains_key(&placed.staged) {
                continue;
            }
            files.push(StagedFile {
                path: placed.staged.clone(),
                size: item.size,
                sha256: sums.of(tree, item, read)?,
                source: item.node_path.to_string(),
                build_id: item.elf.as_ref().and_then(|elf| elf.build_id.clone()),
                executable: false,
            });
            let path = item.real_path.clone();
            originals.insert(placed.staged.clone(), Original { tree, path });
        }
        if let Some(Addition { path, program }) = addition {
            let tree = program.tree();
            let mut file = tree.open(&program.path)?;
            files.push(StagedFile {
                path: path.clone(),
                size: program.size,
                sha256: sha256(&mut file, |bytes| read(bytes.len() as u64))
                    .map_err(TreeError::io(&program.path))?,
                // Where it was on this machine is nobody's business.
                source: path.clone(),
                build_id: None,
                executable: true,
            });
            let original = Original {
                tree,
                path: program.path.clone(),
            };
            originals.insert(path.clone(), original);
        }
        Ok(Originals {
            manifest: Manifest {
                mesa: sums.mesa,
                minimal_glibc: minimal_glibc.map(|version| version.to_string()),
                ..Manifest::of(files, arch.name())
            },
            files: originals,
        })
    }
}

impl<'a> Original<'a> {
    /// Its bytes.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn open(&self) -> std::io::Result<Box<dyn Read + 'a>> {
        let file = self.tree.open(&self.path).map_err(std::io::Error::other)?;
        Ok(Box::new(file))
    }
}

/// The checksums of the files that were read, and Mesa's version, where one of them says it.
#[derive(Default)]
struct Sums {
    by_file: BTreeMap<FileId, String>,
    mesa: Option<String>,
}

impl Sums {
    /// The checksum of a file, which is read once under all its names.
    fn of(
        &mut self,
        tree: &dyn Tree,
        item: &Item,
        read: &dyn Fn(u64),
    ) -> Result<String, TreeError> {
        if let Some(known) = self.by_file.get(&item.id) {
            return Ok(known.clone());
        }
        let before = tree.node(&item.real_path)?;
        let is_judged =
            before.is_some_and(|node| node.id == item.id && node.kind == Kind::File(item.size));
        if !is_judged {
            return Err(
                TreeError::invalid(&item.real_path, "changed while it was copied")
                    .with_fix("run this again once the node's update is done"),
            );
        }
        let is_driver = item.role == Role::Dri || item.name.starts_with("libgallium");
        let mut finder = (is_driver && self.mesa.is_none()).then(Finder::default);
        let mut file = tree.open(&item.real_path)?;
        let sum = sha256(&mut file, |bytes| {
            read(bytes.len() as u64);
            if let Some(finder) = &mut finder {
                finder.feed(bytes);
            }
        })
        .map_err(TreeError::io(&item.real_path))?;
        self.mesa = self.mesa.take().or(finder.and_then(Finder::finish));
        self.by_file.insert(item.id, sum.clone());
        Ok(sum)
    }
}
