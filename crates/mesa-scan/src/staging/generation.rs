//! One generation: what is in it, its id, and how it is written.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use sha2::{Digest, Sha256};

use super::StagingError;
use super::selinux::Context;
use crate::gl::mesa_version::Finder;
use crate::gl::{Item, Placed, Role};
use crate::loader::{Arch, Program, glibc};
use crate::text::hex;
use crate::tree::{FileId, Kind, RealPath, Tree, TreeError};

/// The file that says what a generation holds.
pub(super) const MANIFEST: &str = "manifest.json";
/// How many bytes are read at once.
const CHUNK: usize = 256 * 1024;
/// Hexadecimal digits of an id.
const ID_LENGTH: usize = 32;

/// A generation that is to be.
pub struct Generation<'a> {
    /// Made of the paths and bytes of all files.
    pub id: String,
    manifest: Manifest,
    /// Where to copy each file from, in the manifest's order.
    originals: Vec<Original<'a>>,
}

struct Original<'a> {
    tree: &'a dyn Tree,
    path: RealPath,
    id: FileId,
    /// The permissions of its copy.
    mode: u32,
}

/// A program that goes with the files.
pub struct Addition<'a> {
    /// Where, below the generation.
    pub path: String,
    /// The program.
    pub program: &'a Program,
}

/// What a generation holds, as `manifest.json` says it.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) id: String,
    pub(super) arch: Arch,
    /// Mesa's version, where its drivers say one.
    pub(super) mesa: Option<String>,
    /// The oldest glibc that all of it can load with.
    pub(super) minimal_glibc: Option<glibc::Version>,
    pub(super) files: Vec<StagedFile>,
}

/// A file of a generation.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StagedFile {
    /// Below the generation.
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) sha256: String,
    /// On the node, when it was copied.
    pub(super) source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) build_id: Option<String>,
}

impl<'a> Generation<'a> {
    /// Reads all files once, each inode once. `arch` is that of the node in `tree`, and `minimal_glibc` the oldest glibc
    /// that all of them can load with.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn read(
        tree: &'a dyn Tree,
        placed: &[Placed],
        addition: Option<&Addition<'a>>,
        (arch, minimal_glibc): (Arch, Option<glibc::Version>),
        progress: &ProgressBar,
    ) -> Result<Self, StagingError> {
        progress.set_message("reading");
        let mut sums = Sums::default();
        let mut files = BTreeMap::new();
        for placed in placed {
            let item = &placed.item;
            let staged = StagedFile {
                path: placed.staged.clone(),
                size: item.size,
                sha256: sums.of(tree, item, progress)?,
                source: item.node_path.to_string(),
                build_id: item.elf.as_ref().and_then(|elf| elf.build_id.clone()),
            };
            let original = Original {
                tree,
                path: item.real_path.clone(),
                id: item.id,
                mode: 0o644,
            };
            files.insert(placed.staged.clone(), (staged, original));
        }
        if let Some(Addition { path, program }) = addition {
            let mut file = program.tree().open(&program.path)?;
            let sum = sum(&mut file, progress, |_| {}).map_err(TreeError::io(&program.path))?;
            let staged = StagedFile {
                path: path.clone(),
                size: program.size,
                sha256: sum,
                source: format!("{}{}", program.tree().shown(), program.path),
                build_id: None,
            };
            let original = Original {
                tree: program.tree(),
                path: program.path.clone(),
                id: program.id,
                mode: 0o755,
            };
            files.insert(path.clone(), (staged, original));
        }
        let (files, originals): (Vec<StagedFile>, Vec<Original<'a>>) = files.into_values().unzip();
        let id = content_id(&files);
        Ok(Generation {
            manifest: Manifest {
                id: id.clone(),
                arch,
                mesa: sums.mesa,
                minimal_glibc,
                files,
            },
            id,
            originals,
        })
    }

    /// What it holds.
    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether a name is one of a generation.
    pub(super) fn is_id(name: &str) -> bool {
        name.len() == ID_LENGTH && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    }

    /// Whether `directory` holds this generation whole: its files are what it is, and not what the manifest says of them.
    pub(super) fn is_at(&self, directory: &Path) -> bool {
        let hidden = ProgressBar::hidden();
        self.manifest.files.iter().all(|file| {
            sum_of_file(&directory.join(&file.path), &hidden).is_ok_and(|sum| sum == file.sha256)
        })
    }

    /// Writes the manifest of a generation that is there already, where it says something else, and labels all of it anew.
    /// No container has the manifest mounted.
    pub(super) fn refresh(
        &self,
        directory: &Path,
        context: Option<&Context>,
    ) -> Result<(), StagingError> {
        let manifest = directory.join(MANIFEST);
        let there = fs::read(&manifest);
        if !there.is_ok_and(|there| there == self.manifest_text()) {
            let new = directory.join(".manifest");
            // What an interrupted run left.
            let _ = fs::remove_file(&new);
            create(&new, 0o644)
                .and_then(|mut file| {
                    file.write_all(&self.manifest_text())?;
                    file.sync_all()
                })
                .and_then(|()| fs::rename(&new, &manifest))
                .map_err(StagingError::io(&manifest))?;
            sync_directory(directory)?;
        }
        if let Some(context) = context {
            context.apply(directory);
            context.apply(&manifest);
            for file in &self.manifest.files {
                let path = directory.join(&file.path);
                path.parent().inspect(|parent| context.apply(parent));
                context.apply(&path);
            }
        }
        Ok(())
    }

    /// Writes the generation into `directory`, which must not exist, so that it survives a loss of power.
    pub(super) fn write(
        &self,
        directory: &Path,
        context: Option<&Context>,
        progress: &ProgressBar,
    ) -> Result<(), StagingError> {
        progress.set_message("copying");
        make_directory(directory, context)?;
        let mut copies: BTreeMap<FileId, PathBuf> = BTreeMap::new();
        for (file, original) in self.manifest.files.iter().zip(&self.originals) {
            let to = directory.join(&file.path);
            if let Some(parent) = to.parent()
                && !parent.is_dir()
            {
                make_directory(parent, context)?;
            }
            match copies.get(&original.id) {
                Some(copy) => fs::hard_link(copy, &to).map_err(StagingError::io(&to))?,
                None => {
                    original.copy(&to, progress)?;
                    let copied =
                        sum_of_file(&to, &ProgressBar::hidden()).map_err(StagingError::io(&to))?;
                    if copied != file.sha256 {
                        return Err(StagingError::Changed(original.path.to_string()));
                    }
                    copies.insert(original.id, to.clone());
                }
            }
            context.inspect(|context| context.apply(&to));
        }
        let manifest = directory.join(MANIFEST);
        create(&manifest, 0o644)
            .and_then(|mut file| {
                file.write_all(&self.manifest_text())?;
                file.sync_all()
            })
            .map_err(StagingError::io(&manifest))?;
        context.inspect(|context| context.apply(&manifest));
        for entry in fs::read_dir(directory).map_err(StagingError::io(directory))? {
            let path = entry.map_err(StagingError::io(directory))?.path();
            if path.is_dir() {
                sync_directory(&path)?;
            }
        }
        sync_directory(directory)
    }

    fn manifest_text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(&self.manifest).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

impl Original<'_> {
    /// Copies by sharing the blocks where the file system can, and byte by byte elsewhere.
    fn copy(&self, to: &Path, progress: &ProgressBar) -> Result<(), StagingError> {
        let mut source = self.tree.open(&self.path)?;
        let mut write = || {
            let target = create(to, self.mode)?;
            let on_this_machine = self.tree.on_this_machine(&self.path).map(File::open);
            let shared = on_this_machine
                .transpose()?
                .is_some_and(|source| rustix::fs::ioctl_ficlone(&target, &source).is_ok());
            if !shared {
                io::copy(&mut progress.wrap_read(&mut source), &mut &target)?;
            }
            target.sync_all()
        };
        write().map_err(StagingError::io(to))
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
        progress: &ProgressBar,
    ) -> Result<String, StagingError> {
        if let Some(known) = self.by_file.get(&item.id) {
            return Ok(known.clone());
        }
        let before = tree.node(&item.real_path)?;
        let is_judged =
            before.is_some_and(|node| node.id == item.id && node.kind == Kind::File(item.size));
        if !is_judged {
            return Err(StagingError::Changed(item.real_path.to_string()));
        }
        let is_driver = item.role == Role::Dri || item.name.starts_with("libgallium");
        let mut finder = (is_driver && self.mesa.is_none()).then(Finder::default);
        let mut file = tree.open(&item.real_path)?;
        let sum = sum(&mut file, progress, |bytes| {
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

/// The same files with the same bytes have the same id, wherever they come from.
fn content_id(files: &[StagedFile]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(format!("{} {}\n", file.sha256, file.path));
    }
    hex(&hash.finalize()).chars().take(ID_LENGTH).collect()
}

fn sum_of_file(path: &Path, progress: &ProgressBar) -> io::Result<String> {
    sum(&mut File::open(path)?, progress, |_| {})
}

/// The SHA-256 of a file, whose bytes `see` sees as they go by.
fn sum(
    file: &mut dyn Read,
    progress: &ProgressBar,
    mut see: impl FnMut(&[u8]),
) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = file.read(&mut buffer)?;
        match buffer.get(..read) {
            None | Some([]) => return Ok(hex(&hash.finalize())),
            Some(bytes) => {
                hash.update(bytes);
                see(bytes);
                progress.inc(bytes.len() as u64);
            }
        }
    }
}

/// A new file that all may read and only its owner may write, whatever the umask.
fn create(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(file)
}

/// A new directory that all may read and only its owner may write, whatever the umask.
pub(super) fn make_directory(path: &Path, context: Option<&Context>) -> Result<(), StagingError> {
    let make = || {
        DirBuilder::new().mode(0o755).create(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
    };
    make().map_err(StagingError::io(path))?;
    context.inspect(|context| context.apply(path));
    Ok(())
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), StagingError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(StagingError::io(path))
}
