//! One generation: how it is compared with what is there, and how it is written.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::selinux::Context;
use super::{Manifest, Progress, StagedFile, StagingError, hex};

/// How many bytes are read at once.
const CHUNK: usize = 256 * 1024;

/// A generation that is to be.
pub struct Generation<'a> {
    manifest: Manifest,
    /// What the manifest's file is called.
    name: &'static str,
    /// Where to copy each file from, by its path.
    originals: BTreeMap<String, Original<'a>>,
}

/// Where the bytes of a file are.
pub struct Original<'a> {
    /// Opens it.
    pub open: Box<dyn Fn() -> io::Result<Box<dyn Read + 'a>> + 'a>,
    /// The file of this machine that it is, where it is one: the file system may be able to share its blocks.
    pub on_this_machine: Option<PathBuf>,
}

impl<'a> Generation<'a> {
    /// The generation of a manifest, which is called `name` in it, with an original for each path.
    #[must_use]
    pub fn new(
        manifest: Manifest,
        name: &'static str,
        originals: BTreeMap<String, Original<'a>>,
    ) -> Self {
        Generation {
            manifest,
            name,
            originals,
        }
    }

    /// Made of the paths and bytes of all files.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.manifest.id
    }

    /// What it holds.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether `directory` holds this generation whole.
    pub(super) fn is_at(&self, directory: &Path) -> bool {
        self.manifest.is_at(directory)
    }

    /// Writes the manifest of a generation that is there already, where it says something else, and labels all of it anew.
    pub(super) fn refresh(
        &self,
        directory: &Path,
        context: Option<&Context>,
    ) -> Result<(), StagingError> {
        let manifest = directory.join(self.name);
        let there = fs::read(&manifest);
        if !there.is_ok_and(|there| there == self.manifest.text()) {
            let new = directory.join(".manifest");
            // What an interrupted run left.
            let _ = fs::remove_file(&new);
            create(&new, 0o644)
                .and_then(|mut file| {
                    file.write_all(&self.manifest.text())?;
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

    /// Writes the generation into `directory`, which must not exist, so that it survives a loss of power. What has the
    /// same bytes is stored once.
    pub(super) fn write(
        &self,
        directory: &Path,
        context: Option<&Context>,
        progress: Progress<'_>,
    ) -> Result<(), StagingError> {
        make_directory(directory, context)?;
        let mut copies: BTreeMap<(&str, bool), PathBuf> = BTreeMap::new();
        for file in &self.manifest.files {
            let to = directory.join(&file.path);
            if let Some(parent) = to.parent()
                && !parent.is_dir()
            {
                make_directory(parent, context)?;
            }
            let content = (file.sha256.as_str(), file.executable);
            match copies.get(&content) {
                Some(copy) => fs::hard_link(copy, &to).map_err(StagingError::io(&to))?,
                None => {
                    self.copy(file, &to, progress)?;
                    copies.insert(content, to.clone());
                }
            }
            context.inspect(|context| context.apply(&to));
        }
        let manifest = directory.join(self.name);
        create(&manifest, 0o644)
            .and_then(|mut file| {
                file.write_all(&self.manifest.text())?;
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

    /// Copies by sharing the blocks where the file system can, and byte by byte elsewhere.
    fn copy(
        &self,
        file: &StagedFile,
        to: &Path,
        progress: Progress<'_>,
    ) -> Result<(), StagingError> {
        let Some(original) = self.originals.get(&file.path) else {
            return Err(StagingError::Changed(file.source.clone()));
        };
        let shared = |target: &File| {
            let source = original.on_this_machine.as_ref().map(File::open);
            let source = source.transpose()?;
            Ok::<bool, io::Error>(
                source.is_some_and(|source| rustix::fs::ioctl_ficlone(target, &source).is_ok()),
            )
        };
        let write = || {
            let mut target = create(to, if file.executable { 0o755 } else { 0o644 })?;
            if !shared(&target)? {
                let mut source = (original.open)()?;
                each_chunk(&mut source, |bytes| {
                    progress(bytes.len() as u64);
                    target.write_all(bytes)
                })?;
            }
            target.sync_all()
        };
        write().map_err(StagingError::io(to))?;
        match sum(to).map_err(StagingError::io(to))? == file.sha256 {
            true => Ok(()),
            false => Err(StagingError::Changed(file.source.clone())),
        }
    }
}

impl Manifest {
    /// Whether `directory` holds these files whole, for all to read: they are what they are, and not what a manifest there
    /// says of them.
    #[must_use]
    pub fn is_at(&self, directory: &Path) -> bool {
        let mut files = self.files.iter();
        may_be_read(directory, true)
            && files.all(|file| {
                let path = directory.join(&file.path);
                may_be_read(&path, file.executable)
                    && sum(&path).is_ok_and(|sum| sum == file.sha256)
            })
    }
}

/// Whether everybody may read a file, and run it or go through it.
fn may_be_read(path: &Path, or_run: bool) -> bool {
    let needed = if or_run { 0o555 } else { 0o444 };
    fs::metadata(path).is_ok_and(|it| it.permissions().mode() & needed == needed)
}

/// The SHA-256 of a file.
fn sum(path: &Path) -> io::Result<String> {
    sha256(&mut File::open(path)?, |_| {})
}

/// The SHA-256 of bytes, in hexadecimal digits, which `see` sees as they go by.
///
/// # Errors
/// Where they cannot be read.
pub fn sha256(source: &mut dyn Read, mut see: impl FnMut(&[u8])) -> io::Result<String> {
    let mut hash = Sha256::new();
    each_chunk(source, |bytes| {
        hash.update(bytes);
        see(bytes);
        Ok(())
    })?;
    Ok(hex(&hash.finalize()))
}

fn each_chunk(
    source: &mut dyn Read,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = match source.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        match buffer.get(..read) {
            None | Some([]) => return Ok(()),
            Some(bytes) => take(bytes)?,
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
