//! The ways to bring GL's files into a container.

use std::collections::{BTreeMap, BTreeSet};

use mesa_injector::settings::{HostPathType, derived_name};

use super::entry_points::DRIRC_DIRECTORY;
use super::files::{GlFiles, Item, Role};
use super::vendor::{VENDOR_DIRECTORIES, VENDOR_DIRECTORY};
use crate::loader::{Arch, Loader, glibc};
use crate::tree::{FileId, RealPath};

/// How the files are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Layout {
    /// One mount for each file, straight from where the node has it.
    Files,
    /// A few directories with copies, made by `mesa-scan stage`.
    Staged,
    /// One image with all files in its root, made by `mesa-scan image`, mounted whole at each directory.
    Flat,
}

/// The volume of the flat image.
pub const FLAT_VOLUME: &str = "mesa";

/// What is mounted, and where the container gets it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// The volume's name.
    pub name: String,
    /// On the node; in the flat image its root.
    pub path: String,
    /// What the kubelet must find there.
    #[serde(rename = "type", serialize_with = "type_name")]
    pub kind: HostPathType,
    /// In the container.
    pub mount_path: String,
}

fn type_name<S: serde::Serializer>(kind: &HostPathType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

/// A set laid out.
#[derive(Debug)]
pub struct Plan {
    /// Which way.
    pub layout: Layout,
    /// What the pod gets.
    pub mounts: Vec<Mount>,
    /// Where each file appears in the container.
    pub files: Vec<Placed>,
}

/// A file of the set in its place.
#[derive(Debug)]
pub struct Placed {
    /// The file.
    pub item: Item,
    /// In the container.
    pub container_path: String,
    /// Below a generation: `lib/libEGL.so.1`; in a flat image just the name.
    pub staged: String,
}

impl Placed {
    fn new(item: &Item, container_path: String) -> Self {
        Placed {
            item: item.clone(),
            container_path,
            staged: format!("{}/{}", directory_of(item.role), item.name),
        }
    }
}

/// Why a set cannot be laid out so.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LayoutError {
    /// The architecture's loader has no such directories.
    #[error("glibc has no glibc-hwcaps directory on {0}, where staged libraries go")]
    Architecture(Arch),
    /// The image's loader does not know of them.
    #[error(
        "the image's glibc {0} does not search glibc-hwcaps directories, which came with {first}",
        first = glibc::FIRST_WITH_HWCAPS
    )]
    Glibc(glibc::Version),
    /// Two files of one name, of which a flat image holds one.
    #[error(
        "{first} and {second} have the same name, and a flat image has one directory for all files"
    )]
    SameName {
        /// The one.
        first: RealPath,
        /// The other.
        second: RealPath,
    },
}

impl Plan {
    /// One mount for each file. The next update of the node's Mesa breaks it where a name holds the version.
    #[must_use]
    pub fn files(files: &GlFiles) -> Self {
        let mut names = Names::default();
        let mount = |item: &Item| Mount {
            name: names.unique(&item.name),
            path: item.node_path.to_string(),
            kind: HostPathType::File,
            mount_path: item.container_path.clone(),
        };
        Plan {
            layout: Layout::Files,
            mounts: files.items.iter().map(mount).collect(),
            files: files
                .items
                .iter()
                .map(|item| Placed::new(item, item.container_path.clone()))
                .collect(),
        }
    }

    /// Directories of a generation below `base`, the directory that always is the current one.
    ///
    /// # Errors
    /// Where the image's loader, that of the node without an image, would not search them.
    pub fn staged(
        files: &GlFiles,
        container: &Loader<'_>,
        base: &str,
    ) -> Result<Self, LayoutError> {
        let library_directory = library_directory(container)?;
        let mut names = Names::default();
        let mut directories = BTreeMap::new();
        let mut single = Vec::new();
        let mut placed: Vec<Placed> = Vec::new();
        for item in &in_one_directory(&files.items) {
            let Some(directory) = shared_directory(item.role, &library_directory, &files.drivers)
            else {
                // Two may have the same name at different paths; volume names are unique.
                let name = names.unique(&item.name);
                let staged = format!("{}/{name}", directory_of(item.role));
                placed.push(Placed {
                    staged: staged.clone(),
                    ..Placed::new(item, item.container_path.clone())
                });
                single.push(Mount {
                    name,
                    path: format!("{base}/{staged}"),
                    kind: HostPathType::File,
                    mount_path: item.container_path.clone(),
                });
                continue;
            };
            placed.push(Placed::new(item, format!("{directory}/{}", item.name)));
            directories.insert(directory_of(item.role), directory);
        }
        let mut mounts: Vec<Mount> = directories
            .into_iter()
            .map(|(kind, mount_path)| Mount {
                name: names.unique(kind),
                path: format!("{base}/{kind}"),
                kind: HostPathType::Directory,
                mount_path,
            })
            .collect();
        mounts.append(&mut single);
        Ok(Plan {
            layout: Layout::Staged,
            mounts,
            files: placed,
        })
    }

    /// One image that is mounted whole at each directory: every reader picks its own files by name.
    ///
    /// # Errors
    /// Where two files have the same name, or the image's loader, that of the node without an image, would not search the
    /// directory.
    pub fn flat(files: &GlFiles, container: &Loader<'_>) -> Result<Self, LayoutError> {
        let library_directory = library_directory(container)?;
        let mut by_name: BTreeMap<String, (RealPath, FileId)> = BTreeMap::new();
        let mut directories = BTreeSet::new();
        let mut placed: Vec<Placed> = Vec::new();
        for item in &in_one_directory(&files.items) {
            let directory = shared_directory(item.role, &library_directory, &files.drivers);
            let directory = directory.unwrap_or_else(|| {
                let (directory, _) = item.container_path.rsplit_once('/').unwrap_or_default();
                directory.to_owned()
            });
            if let Some((first, id)) = by_name.get(&item.name)
                && *id != item.id
            {
                return Err(LayoutError::SameName {
                    first: first.clone(),
                    second: item.node_path.clone(),
                });
            }
            by_name.insert(item.name.clone(), (item.node_path.clone(), item.id));
            placed.push(Placed {
                staged: item.name.clone(),
                ..Placed::new(item, format!("{directory}/{}", item.name))
            });
            directories.insert(directory);
        }
        let mount = |mount_path| Mount {
            name: FLAT_VOLUME.to_owned(),
            path: "/".to_owned(),
            kind: HostPathType::Directory,
            mount_path,
        };
        // First the one in which QEMU's modules are found too.
        directories.remove(&library_directory);
        let directories = [library_directory].into_iter().chain(directories);
        Ok(Plan {
            layout: Layout::Flat,
            mounts: directories.map(mount).collect(),
            files: placed,
        })
    }

    /// The directory of the container in which QEMU is to look for its modules first, where it needs to be told: in a
    /// flat image, and where modules come in a directory with libraries.
    #[must_use]
    pub fn module_directory(&self) -> Option<&str> {
        let brings_modules = || {
            let mut files = self.files.iter();
            files.any(|file| file.item.role == Role::QemuModule)
        };
        match self.layout {
            Layout::Files => None,
            Layout::Staged if !brings_modules() => None,
            Layout::Staged | Layout::Flat => {
                let mount = self.library_mount()?;
                Some(mount.mount_path.as_str())
            }
        }
    }

    /// The directory that holds the libraries; none where each is mounted by itself.
    #[must_use]
    pub fn library_mount(&self) -> Option<&Mount> {
        self.mounts.iter().find(|mount| {
            mount.kind == HostPathType::Directory && mount.mount_path.contains("/glibc-hwcaps/")
        })
    }
}

/// The files with names that keep libglvnd's order of its vendors where all of them lie in one directory: there it goes by
/// name alone, and of two directories it reads one after the other.
fn in_one_directory(items: &[Item]) -> Vec<Item> {
    let mut items = items.to_vec();
    let mut vendors: Vec<&mut Item> = items
        .iter_mut()
        .filter(|item| item.role == Role::Vendor)
        .collect();
    let rank = |item: &Item| {
        let directory = item.node_path.parent();
        VENDOR_DIRECTORIES
            .iter()
            .position(|it| *it == directory.as_str())
    };
    vendors.sort_by(|a, b| (rank(a), &a.name).cmp(&(rank(b), &b.name)));
    if !vendors.is_sorted_by(|a, b| a.name < b.name) {
        for (number, vendor) in vendors.into_iter().enumerate() {
            vendor.name = format!("{number:02}_{}", vendor.name);
        }
    }
    items
}

/// The directory that the loader searches first of its default ones.
fn library_directory(container: &Loader<'_>) -> Result<String, LayoutError> {
    let hwcaps = container
        .arch
        .hwcaps()
        .ok_or(LayoutError::Architecture(container.arch))?;
    let glibc = container.glibc.unwrap_or(glibc::Version(0, 0));
    if glibc < glibc::FIRST_WITH_HWCAPS {
        return Err(LayoutError::Glibc(glibc));
    }
    Ok(format!("{}/glibc-hwcaps/{hwcaps}", container.libdir))
}

/// The directory of the container that holds all files of a role; none where each has its own place.
fn shared_directory(role: Role, library_directory: &str, drivers: &RealPath) -> Option<String> {
    Some(match role {
        Role::Library | Role::QemuModule => library_directory.to_owned(),
        Role::Dri => format!("{drivers}/dri"),
        Role::Gbm => format!("{drivers}/gbm"),
        Role::Vendor => VENDOR_DIRECTORY.to_owned(),
        Role::Drirc => DRIRC_DIRECTORY.to_owned(),
        Role::LibraryAtPath => return None,
    })
}

/// The directory of a generation that holds the files of a role.
#[must_use]
pub fn directory_of(role: Role) -> &'static str {
    match role {
        Role::Library | Role::QemuModule => "lib",
        Role::LibraryAtPath => "paths",
        Role::Dri => "dri",
        Role::Gbm => "gbm",
        Role::Vendor => "egl_vendor.d",
        Role::Drirc => "drirc.d",
    }
}

/// Volume names, of which no two are the same.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    /// The name that the policy itself derives of a file, with a number where it is taken.
    fn unique(&mut self, file: &str) -> String {
        let name = derived_name(file);
        let mut unique = name.clone();
        let mut number = 1;
        while !self.0.insert(unique.clone()) {
            number += 1;
            // A DNS label has 63 letters; this leaves four for the number.
            unique = format!("{name:.58}-{number}");
        }
        unique
    }
}
