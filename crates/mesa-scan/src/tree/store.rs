//! Where an image keeps its parts: a tar file as `docker save` writes it, or a directory in OCI layout.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{TreeError, clean, entries};

/// How many links of a tar file follow each other: podman writes one for a layer that occurs twice.
const MAX_LINKS: usize = 8;

/// A stretch of a file, read at its own position.
#[derive(Debug, Clone)]
pub(super) struct Window {
    file: Arc<File>,
    start: u64,
    length: u64,
    position: u64,
}

impl Window {
    fn whole(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Window {
            file: Arc::new(file),
            start: 0,
            length,
            position: 0,
        })
    }

    /// A part of this window; `None` where it is not wholly inside.
    pub(super) fn part(&self, start: u64, length: u64) -> Option<Self> {
        let end = start.checked_add(length)?;
        (end <= self.length).then(|| Window {
            file: Arc::clone(&self.file),
            start: self.start + start,
            length,
            position: 0,
        })
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.position);
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most) else {
            return Ok(0);
        };
        let read = self.file.read_at(buffer, self.start + self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.length.checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

/// The parts of an image by name.
#[derive(Debug)]
pub(super) enum Store {
    /// The members of a tar file.
    Tar {
        path: PathBuf,
        members: BTreeMap<String, Member>,
    },
    /// The files below a directory.
    Directory(PathBuf),
}

#[derive(Debug)]
pub(super) enum Member {
    Bytes(Window),
    Link(String),
}

impl Store {
    /// Opens an image archive; `None` where `path` is a directory and not in OCI layout.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, TreeError> {
        let shown = &path.display();
        if path.is_dir() {
            let is_layout = path.join("oci-layout").is_file();
            return Ok(is_layout.then(|| Store::Directory(path.to_owned())));
        }
        let file = File::open(path).map_err(TreeError::io(shown))?;
        let metadata = file.metadata().map_err(TreeError::io(shown))?;
        if !metadata.is_file() {
            return Err(TreeError::invalid(shown, "neither a file nor a directory"));
        }
        let archive = Window::whole(file).map_err(TreeError::io(shown))?;
        let members = members(path, &archive)?;
        Ok(Some(Store::Tar {
            path: path.to_owned(),
            members,
        }))
    }

    /// Whether there is a part of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Store::Tar { members, .. } => members.contains_key(name),
            Store::Directory(directory) => directory.join(name).is_file(),
        }
    }

    /// A part by name.
    pub(super) fn part(&self, name: &str) -> Result<Window, TreeError> {
        match self {
            Store::Tar { path, members } => {
                let mut name = name.to_owned();
                for _ in 0..MAX_LINKS {
                    match members.get(&name) {
                        Some(Member::Bytes(window)) => return Ok(window.clone()),
                        Some(Member::Link(target)) => name.clone_from(target),
                        None => break,
                    }
                }
                Err(
                    TreeError::invalid(path.display(), format_args!("has no {name}"))
                        .with_fix("save the image again"),
                )
            }
            Store::Directory(directory) => {
                let path = directory.join(name);
                File::open(&path)
                    .and_then(Window::whole)
                    .map_err(TreeError::io(path.display()))
            }
        }
    }

    /// The name of a part as the user can find it.
    pub(super) fn show(&self, name: &str) -> String {
        match self {
            Store::Tar { path, .. } => format!("{}: {name}", path.display()),
            Store::Directory(directory) => directory.join(name).display().to_string(),
        }
    }
}

fn members(path: &Path, archive: &Window) -> Result<BTreeMap<String, Member>, TreeError> {
    let shown = &path.display();
    let mut magic = [0; 4];
    let start = archive
        .file
        .read_at(&mut magic, 0)
        .map_err(TreeError::io(shown))?;
    if matches!(
        magic.get(..start),
        Some([0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd])
    ) {
        return Err(TreeError::invalid(shown, "compressed as a whole").with_fix(
            "unpack it with gunzip or unzstd first (compressed layers inside are fine)",
        ));
    }
    let bad = |error: &io::Error| {
        TreeError::invalid(
            path.display(),
            format_args!("not an image as docker, podman or skopeo save it: {error}"),
        )
    };
    let mut members = BTreeMap::new();
    entries::seek_through(archive.clone(), bad, |entry| {
        let name = clean(&String::from_utf8_lossy(&entry.path_bytes()));
        let link = entry.link_name_bytes().unwrap_or_default();
        let link = String::from_utf8_lossy(&link);
        let member = match entry.header().entry_type() {
            tar::EntryType::Regular => {
                let part = archive.part(entry.raw_file_position(), entry.size());
                Member::Bytes(part.ok_or_else(|| {
                    TreeError::invalid(shown, format_args!("ends in the middle of {name}"))
                        .with_fix("copy the image again")
                })?)
            }
            tar::EntryType::Symlink => {
                let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                Member::Link(clean(&format!("{directory}/{link}")))
            }
            tar::EntryType::Link => Member::Link(clean(&link)),
            _ => return Ok(()),
        };
        members.insert(name, member);
        Ok(())
    })?;
    Ok(members)
}
