//! What must be mounted: the node's GL files and all they need, without what the image has.

use std::collections::{BTreeMap, BTreeSet};

use mesa_injector::path::CleanPath;

use super::closure::{Absent, Closure};
use super::entry_points::{self, EntryPoints};
use super::qemu::{self, Qemu};
use super::vendor::PassedOver;
use crate::loader::{Elf, Library, Loader, Paths, Search, glibc};
use crate::tree::{FileId, RealPath, TreeError, base_name};

/// The part that a file plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// A library that is found by its soname.
    Library,
    /// A library that something names by its path.
    LibraryAtPath,
    /// A DRI driver.
    Dri,
    /// A GBM backend.
    Gbm,
    /// A vendor JSON of libglvnd.
    Vendor,
    /// A configuration of Mesa.
    Drirc,
    /// A module of QEMU.
    QemuModule,
}

/// A file of the node that the container must have.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// The part that it plays.
    pub role: Role,
    /// Its name in the container: for a library the soname.
    pub name: String,
    /// Its stable name on the node, which may be a link.
    pub node_path: RealPath,
    /// The file itself.
    pub real_path: RealPath,
    /// Where the container must have it: libraries in the image's library directory, all else at the node's path.
    pub container_path: String,
    /// Bytes.
    pub size: u64,
    /// Which file it is: names of one inode are counted once.
    #[serde(skip)]
    pub id: FileId,
    /// What the loader reads, where it is a library.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elf: Option<Elf>,
}

/// GL's files of one node for one image.
#[derive(Debug)]
pub struct GlFiles {
    /// By role and name.
    pub items: Vec<Item>,
    /// What the image has already: name and path in the image.
    pub present: BTreeMap<String, String>,
    /// The node's vendor JSON files that libglvnd passes over.
    pub passed_over: Vec<PassedOver>,
    /// Whether a vendor is left that libEGL loads.
    pub has_vendor: bool,
    /// What of NVIDIA's driver is left out.
    pub nvidia: Vec<RealPath>,
    /// The libraries that the node's own files need and the node does not have.
    pub absent: BTreeMap<String, Absent>,
    /// What the node has in place of a file.
    pub irregular: Vec<RealPath>,
    /// The node's directory that holds `dri/` and `gbm/`.
    pub drivers: RealPath,
    /// The image's QEMU.
    pub qemu: Option<Qemu>,
}

impl GlFiles {
    /// Works out what they are. Without an image nothing is left out but glibc.
    ///
    /// # Errors
    /// Where node or image cannot be read.
    pub fn work_out(node: &Loader<'_>, image: Option<&Loader<'_>>) -> Result<Self, TreeError> {
        let drivers = entry_points::driver_directory(node)?;
        let mut entries = EntryPoints::of(node.tree(), &drivers)?;
        let nvidia = entries.leave_out_nvidia();
        entries.pass_over(|vendor| vendor.lacks(node))?;
        let mut files = GlFiles {
            items: Vec::new(),
            present: BTreeMap::new(),
            passed_over: entries.passed_over.clone(),
            has_vendor: entries.vendors.iter().any(|vendor| !vendor.is_relative),
            nvidia,
            absent: BTreeMap::new(),
            irregular: Vec::new(),
            drivers,
            qemu: image.map(Qemu::of).transpose()?,
        };
        let modules = files.missing_modules(node)?;
        let mut names = entries.names(node)?;
        names.extend(modules.iter().map(ToString::to_string));
        if let (Some(image), Some(qemu)) = (image, &files.qemu) {
            names.extend(needs_of(&qemu.modules, image, node)?);
        }
        let closure = Closure::follow(node, names, |name| {
            let own = image
                .map(|image| path_in(image, name))
                .transpose()?
                .flatten();
            let leave_out = own.is_some() || glibc::is_family(base_name(name));
            files
                .present
                .extend(own.map(|path| (name.to_owned(), path)));
            Ok(leave_out)
        })?;
        files.absent = closure.absent;
        let places = Places {
            entries: &entries,
            modules: &modules,
            libdir: image.map_or(&node.libdir, |image| &image.libdir),
            drivers: &files.drivers,
            module_directory: match &files.qemu {
                Some(qemu) => qemu.module_directory.clone(),
                None => modules
                    .first()
                    .map(RealPath::parent)
                    .unwrap_or_else(RealPath::root)
                    .to_string(),
            },
        };
        files.items = closure
            .libraries
            .into_iter()
            .map(|(name, library)| places.item(&name, library))
            .collect();
        let texts = entries
            .vendors
            .iter()
            .map(|vendor| (Role::Vendor, &vendor.json));
        let texts = texts.chain(entries.drirc.iter().map(|path| (Role::Drirc, path)));
        for (role, path) in texts {
            files.add_text(node, image, role, path)?;
        }
        files
            .items
            .sort_by(|a, b| (a.role, &a.name, &a.node_path).cmp(&(b.role, &b.name, &b.node_path)));
        Ok(files)
    }

    /// The bytes of all files, one inode counted once.
    #[must_use]
    pub fn total_size(&self) -> u64 {
        size_of(self.items.iter())
    }

    /// How many different files there are.
    #[must_use]
    pub fn file_count(&self) -> usize {
        self.items
            .iter()
            .map(|item| item.id)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// The oldest glibc that all of it can load with.
    #[must_use]
    pub fn minimal_glibc(&self) -> Option<glibc::Version> {
        glibc::Version::needed_by(self.items.iter().filter_map(|item| item.elf.as_ref()))
    }

    /// The modules for GL that the node's QEMU has and the image's has not, as the node has them. One that is not the
    /// display's is left out where the node does not have what it needs.
    fn missing_modules(&self, node: &Loader<'_>) -> Result<Vec<RealPath>, TreeError> {
        let mut missing = Vec::new();
        for module in Qemu::of(node)?.modules {
            if self
                .qemu
                .as_ref()
                .is_some_and(|qemu| qemu.has(module.name()))
            {
                continue;
            }
            let is_whole = || -> Result<bool, TreeError> {
                let entry = [module.to_string()];
                Ok(Closure::follow(node, entry, |_| Ok(false))?
                    .absent
                    .is_empty())
            };
            if qemu::is_of_display(module.name()) || is_whole()? {
                missing.push(module);
            }
        }
        Ok(missing)
    }

    /// Adds a file that is no library, unless the image has one at the same path.
    fn add_text(
        &mut self,
        node: &Loader<'_>,
        image: Option<&Loader<'_>>,
        role: Role,
        path: &RealPath,
    ) -> Result<(), TreeError> {
        if let Some(image) = image
            && image.tree().lookup(path.as_str())?.found().is_some()
        {
            self.present.insert(path.to_string(), path.to_string());
            return Ok(());
        }
        let found = node.tree().lookup(path.as_str())?.found();
        let Some((entry, size)) = found.and_then(|entry| Some((entry.clone(), entry.file_size()?)))
        else {
            self.irregular.push(path.clone());
            return Ok(());
        };
        self.items.push(Item {
            role,
            name: path.name().to_owned(),
            node_path: path.clone(),
            real_path: entry.path,
            container_path: path.to_string(),
            size,
            id: entry.node.id,
            elf: None,
        });
        Ok(())
    }
}

/// The bytes of some items, one inode counted once.
pub fn size_of<'a>(items: impl Iterator<Item = &'a Item>) -> u64 {
    let sizes: BTreeMap<FileId, u64> = items.map(|item| (item.id, item.size)).collect();
    sizes.values().sum()
}

/// Where the image has what goes by that name, whatever it is.
fn path_in(image: &Loader<'_>, name: &str) -> Result<Option<String>, TreeError> {
    Ok(match image.find(name, &Paths::default())? {
        Search::Found(library) => Some(library.path.to_string()),
        Search::Broken { path, .. } => Some(path.to_string()),
        Search::Absent(_) => None,
    })
}

/// What modules of the image need and the node can give: an image may have the modules without what they need.
fn needs_of(
    modules: &[RealPath],
    image: &Loader<'_>,
    node: &Loader<'_>,
) -> Result<Vec<String>, TreeError> {
    let mut names = Vec::new();
    for module in modules {
        let Search::Found(module) = image.find(module.as_str(), &Paths::default())? else {
            continue;
        };
        for name in module.elf.needed {
            if let Search::Found(_) = node.find(&name, &Paths::default())? {
                names.push(name);
            }
        }
    }
    Ok(names)
}

/// Where the container must have what.
struct Places<'a> {
    entries: &'a EntryPoints,
    modules: &'a [RealPath],
    libdir: &'a RealPath,
    drivers: &'a RealPath,
    module_directory: String,
}

impl Places<'_> {
    fn role(&self, name: &str) -> Role {
        let is_one_of = |paths: &[RealPath]| paths.iter().any(|path| path.as_str() == name);
        if is_one_of(&self.entries.dri) {
            Role::Dri
        } else if is_one_of(&self.entries.gbm) {
            Role::Gbm
        } else if is_one_of(self.modules) {
            Role::QemuModule
        } else if name.contains('/') {
            Role::LibraryAtPath
        } else {
            Role::Library
        }
    }

    fn item(&self, name: &str, library: Library) -> Item {
        let role = self.role(name);
        let container_path = match role {
            Role::Library => self.libdir.join(name).to_string(),
            // Where Mesa looks, whatever the node's directory is a link to.
            Role::Dri => format!("{}/dri/{}", self.drivers, base_name(name)),
            Role::Gbm => format!("{}/gbm/{}", self.drivers, base_name(name)),
            Role::QemuModule => format!("{}/{}", self.module_directory, base_name(name)),
            // As it is written, for that is what will be opened.
            _ => CleanPath::new(name).to_string(),
        };
        Item {
            role,
            name: base_name(name).to_owned(),
            size: library.entry.file_size().unwrap_or_default(),
            id: library.entry.node.id,
            node_path: library.path,
            real_path: library.entry.path,
            container_path,
            elf: Some(library.elf),
        }
    }
}
