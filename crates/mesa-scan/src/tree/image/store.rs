//! Where an image keeps its parts: a tar file, or a directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use mesa_injector::path::CleanPath;

use super::super::{Directory, Lookup, Tree, TreeError};
use super::compression::Compression;
use super::members;
use super::window::Window;

/// How many links of a tar file follow each other: podman writes one for a layer that occurs twice.
const MAX_LINKS: usize = 8;

/// The parts of an image by name.
pub(super) enum Store {
    /// The members of a tar file.
    Tar {
        path: PathBuf,
        members: BTreeMap<String, Part>,
        bytes: Window,
    },
    /// The files below a directory.
    Directory(Directory),
}

pub(super) enum Part {
    Bytes(Window),
    Link(String),
}

impl Store {
    /// Opens what an image is kept in; `None` where `path` is a directory and not an image.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, TreeError> {
        let shown = &path.display();
        if path.is_dir() {
            return Ok(match is_image(path) {
                true => Some(Store::Directory(Directory::open(path)?)),
                false => None,
            });
        }
        let metadata = std::fs::metadata(path).map_err(TreeError::io(shown))?;
        if !metadata.is_file() {
            return Err(TreeError::invalid(shown, "neither a file nor a directory"));
        }
        let bytes = File::open(path)
            .and_then(Window::whole)
            .map_err(TreeError::io(shown))?;
        let bytes = match Compression::of(&bytes).map_err(TreeError::io(shown))? {
            Compression::None => bytes,
            Compression::Other(program) => return Err(other_compression(shown, program)),
            known => known.unpacked(&bytes).map_err(TreeError::io(shown))?,
        };
        Ok(Some(Store::Tar {
            path: path.to_owned(),
            members: members_of(path, &bytes)?,
            bytes,
        }))
    }

    /// Whether there is a part of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Store::Tar { members, .. } => members.contains_key(name),
            Store::Directory(directory) => {
                let tree: &dyn Tree = directory;
                let found = tree.lookup(name).ok().and_then(Lookup::found);
                found.is_some_and(|entry| entry.file_size().is_some())
            }
        }
    }

    /// A part by name. Nothing outside of a directory is opened, nor anything there that is not a regular file.
    pub(super) fn part(&self, name: &str) -> Result<Window, TreeError> {
        let missing = || {
            TreeError::invalid(self.shown(), format_args!("has no {}", brief(name)))
                .with_fix("save the image again")
        };
        match self {
            Store::Tar { members, .. } => {
                let mut name = name.to_owned();
                for _ in 0..MAX_LINKS {
                    match members.get(&name) {
                        Some(Part::Bytes(window)) => return Ok(window.clone()),
                        Some(Part::Link(target)) => name.clone_from(target),
                        None => break,
                    }
                }
                Err(missing())
            }
            Store::Directory(directory) => {
                let tree: &dyn Tree = directory;
                let entry = tree.lookup(name)?.found().ok_or_else(missing)?;
                if entry.file_size().is_none() {
                    return Err(TreeError::invalid(self.show(name), "not a regular file")
                        .with_fix("do not use this image"));
                }
                let path = directory.real(&entry.path);
                File::open(&path)
                    .and_then(Window::whole)
                    .map_err(TreeError::io(path.display()))
            }
        }
    }

    /// All of a tar file that holds a root instead of an image, as `docker export` writes it.
    pub(super) fn as_root(&self) -> Option<Window> {
        match self {
            Store::Tar { members, bytes, .. } => members
                .keys()
                .any(|name| ["etc/", "usr/"].iter().any(|top| name.starts_with(top)))
                .then(|| bytes.clone()),
            Store::Directory(_) => None,
        }
    }

    /// The name of the whole.
    pub(super) fn shown(&self) -> String {
        match self {
            Store::Tar { path, .. } => path.display().to_string(),
            Store::Directory(directory) => directory.shown(),
        }
    }

    /// The name of a part as the user can find it.
    pub(super) fn show(&self, name: &str) -> String {
        let separator = match self {
            Store::Tar { .. } => ": ",
            Store::Directory(_) => "/",
        };
        format!("{}{separator}{}", self.shown(), brief(name))
    }
}

/// A directory in OCI layout or of skopeo's `dir:`, or an archive of docker's that was unpacked. A root may have a
/// `/manifest.json` too.
fn is_image(directory: &Path) -> bool {
    let has = |name: &str| directory.join(name).is_file();
    let is_root = ["bin", "etc", "lib", "usr"]
        .iter()
        .any(|name| directory.join(name).is_dir());
    has("oci-layout") || !is_root && (has("index.json") || has("manifest.json"))
}

/// What is compressed in a way that is not built in.
pub(super) fn other_compression(shown: impl std::fmt::Display, program: &str) -> TreeError {
    TreeError::invalid(
        shown,
        format_args!("compressed with {program}, which is not read"),
    )
    .with_fix("unpack it first, or save the image again with gzip or zstd")
}

/// A name, without its end where it is absurdly long.
pub(super) fn brief(name: &str) -> String {
    const MOST: usize = 200;
    match name.char_indices().nth(MOST) {
        Some(_) => format!("{}…", name.chars().take(MOST).collect::<String>()),
        None => name.to_owned(),
    }
}

fn members_of(path: &Path, archive: &Window) -> Result<BTreeMap<String, Part>, TreeError> {
    let shown = &path.display();
    let bad = |error: &io::Error| {
        // The tar library quotes what it read, which may be any bytes.
        let what = Some(error.to_string())
            .filter(|text| text.bytes().all(|byte| (b' '..=b'~').contains(&byte)))
            .map(|text| format!(": {text}"))
            .unwrap_or_default();
        TreeError::invalid(
            shown,
            format_args!("not an image as docker, podman or skopeo save it{what}"),
        )
    };
    let mut members = BTreeMap::new();
    members::seek_through(archive.clone(), bad, |entry| {
        let name = clean(&String::from_utf8_lossy(&entry.path_bytes()));
        let link = entry.link_name_bytes().unwrap_or_default();
        let link = String::from_utf8_lossy(&link);
        let member = match entry.header().entry_type() {
            tar::EntryType::Regular => {
                let part = archive.part(entry.raw_file_position(), entry.size());
                Part::Bytes(part.ok_or_else(|| {
                    TreeError::invalid(
                        shown,
                        format_args!("ends in the middle of {}", brief(&name)),
                    )
                    .with_fix("copy the image again")
                })?)
            }
            tar::EntryType::Symlink => {
                let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                Part::Link(clean(&format!("{directory}/{link}")))
            }
            tar::EntryType::Link => Part::Link(clean(&link)),
            _ => return Ok(()),
        };
        members.insert(name, member);
        Ok(())
    })?;
    Ok(members)
}

/// A name in a tar file without what does not matter. Links are not looked at: this is for comparing names.
fn clean(path: &str) -> String {
    CleanPath::new(path).trim_start_matches('/').to_owned()
}
