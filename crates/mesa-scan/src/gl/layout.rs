//! The two ways to bring GL's files into a container.

use std::collections::{BTreeMap, BTreeSet};

use mesa_injector::settings::{HostPathType, derived_name};

use super::entry_points::{DRIRC_DIRECTORY, VENDOR_DIRECTORY};
use super::files::{GlFiles, Item, Role};
use crate::loader::{Arch, Loader, glibc};

/// How the files are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Layout {
    /// One mount for each file, straight from where the node has it.
    Files,
    /// A few directories with copies, made by `mesa-scan stage`.
    Staged,
}

/// A host path and where the container gets it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPath {
    /// The volume's name.
    pub name: String,
    /// On the node.
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
    pub mounts: Vec<HostPath>,
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
    /// Below a generation: `lib/libEGL.so.1`.
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

/// Why a set cannot be staged.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NoStaging {
    /// The architecture's loader has no such directories.
    #[error("glibc has no glibc-hwcaps directory on {0}, where staged libraries go")]
    Architecture(Arch),
    /// The image's loader does not know of them.
    #[error(
        "the image's glibc {0} does not search glibc-hwcaps directories, which came with {first}",
        first = glibc::FIRST_WITH_HWCAPS
    )]
    Glibc(glibc::Version),
}

impl Plan {
    /// One mount for each file. The next update of the node's Mesa breaks it where a name holds the version.
    #[must_use]
    pub fn files(files: &GlFiles) -> Self {
        let mut names = Names::default();
        let mount = |item: &Item| HostPath {
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
    pub fn staged(files: &GlFiles, container: &Loader<'_>, base: &str) -> Result<Self, NoStaging> {
        let hwcaps = container
            .arch
            .hwcaps()
            .ok_or(NoStaging::Architecture(container.arch))?;
        let glibc = container.glibc.unwrap_or(glibc::Version(0, 0));
        if glibc < glibc::FIRST_WITH_HWCAPS {
            return Err(NoStaging::Glibc(glibc));
        }
        let library_directory = format!("{}/glibc-hwcaps/{hwcaps}", container.libdir);
        let mut names = Names::default();
        let mut directories = BTreeMap::new();
        let mut single = Vec::new();
        let mut placed: Vec<Placed> = Vec::new();
        for item in &files.items {
            let directory = match item.role {
                Role::Library => library_directory.clone(),
                Role::Dri => format!("{}/dri", files.drivers),
                Role::Gbm => format!("{}/gbm", files.drivers),
                Role::Vendor => VENDOR_DIRECTORY.to_owned(),
                Role::Drirc => DRIRC_DIRECTORY.to_owned(),
                Role::LibraryAtPath => {
                    // Two may have the same name at different paths; volume names are unique.
                    let name = names.unique(&item.name);
                    let staged = format!("{}/{name}", directory_of(item.role));
                    placed.push(Placed {
                        staged: staged.clone(),
                        ..Placed::new(item, item.container_path.clone())
                    });
                    single.push(HostPath {
                        name,
                        path: format!("{base}/{staged}"),
                        kind: HostPathType::File,
                        mount_path: item.container_path.clone(),
                    });
                    continue;
                }
            };
            // Of two vendor files of one name libglvnd's first directory, which comes first, has the say.
            let container_path = format!("{directory}/{}", item.name);
            if placed
                .iter()
                .all(|file| file.container_path != container_path)
            {
                placed.push(Placed::new(item, container_path));
            }
            directories.insert(directory_of(item.role), directory);
        }
        let mut mounts: Vec<HostPath> = directories
            .into_iter()
            .map(|(kind, mount_path)| HostPath {
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
}

/// The directory of a generation that holds the files of a role.
#[must_use]
pub fn directory_of(role: Role) -> &'static str {
    match role {
        Role::Library => "lib",
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
