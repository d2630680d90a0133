//! A tree that is an image in an archive: its layers, merged as a runtime would unpack them, but read where they are.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::layers::{Change, Content, Layer, Slot};
use super::store::Store;
use super::{FileId, Kind, Lookup, Node, ReadSeek, RealPath, Tree, TreeError};
use crate::arch::Arch;
use crate::elf::{Elf, ElfError};

/// The most bytes of a manifest (the OCI distribution specification allows registries 4 MiB).
const MAX_MANIFEST: u64 = 4 << 20;
/// How deep an index of indexes may go.
const MAX_INDEXES: usize = 4;

/// An image archive as the tree that its layers make.
#[derive(Debug)]
pub struct Archive {
    shown: String,
    layers: Vec<Layer>,
    slots: BTreeMap<RealPath, Slot>,
}

/// An entry of the `manifest.json` that `docker save` writes.
#[derive(Deserialize)]
struct DockerImage {
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

/// An OCI image index.
#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
}

/// An OCI image manifest.
#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Descriptor>,
}

impl Archive {
    /// Opens an archive that `docker save`, `podman save` or `skopeo copy` wrote; `None` where `path` is a directory and
    /// not in OCI layout. Where it holds images for several architectures, the one for `arch` is taken.
    ///
    /// # Errors
    /// Where it is no such archive, or one of hostile make.
    pub fn open(path: &Path, arch: Arch) -> Result<Option<Self>, TreeError> {
        let Some(store) = Store::open(path)? else {
            return Ok(None);
        };
        let mut archive = Archive {
            shown: path.display().to_string(),
            layers: Vec::new(),
            slots: BTreeMap::from([(RealPath::root(), made_directory())]),
        };
        for name in layer_names(&store, arch)? {
            archive.add(Layer::open(store.part(&name)?, store.show(&name))?)?;
        }
        Ok(Some(archive))
    }

    /// Puts a layer on top. What it takes away is taken from the layers below, never from itself.
    fn add(&mut self, layer: Layer) -> Result<(), TreeError> {
        let changes = layer.changes(self.layers.len())?;
        let shown = layer.shown.clone();
        self.layers.push(layer);
        let (removals, additions): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .partition(|(_, change)| matches!(change, Change::Remove | Change::Empty));
        for (path, change) in removals {
            if let Some(there) = self.existing(&path)? {
                self.clear(&there);
                if matches!(change, Change::Remove) {
                    self.slots.remove(&there);
                }
            }
        }
        for (path, change) in additions {
            let place = self.place(&shown, &path)?;
            let slot = match change {
                Change::Add(slot) => slot,
                Change::Link(target) => self.linked(&shown, &path, &target)?,
                Change::Remove | Change::Empty => continue,
            };
            let stays = slot.node.kind == Kind::Directory
                && self
                    .slots
                    .get(&place)
                    .is_some_and(|old| old.node.kind == Kind::Directory);
            if !stays {
                self.clear(&place);
            }
            if place != RealPath::root() {
                self.slots.insert(place, slot);
            }
        }
        Ok(())
    }

    /// Where an entry goes: its directory's links are followed inside the image, and missing directories made.
    fn place(&mut self, shown: &str, path: &str) -> Result<RealPath, TreeError> {
        let mut here = RealPath::root();
        let mut names = super::names(path).peekable();
        while let Some(name) = names.next() {
            let next = here.join(&name);
            if names.peek().is_none() {
                return Ok(next);
            }
            let tree: &dyn Tree = self;
            here = match tree.lookup(next.as_str())? {
                Lookup::Found(entry) if entry.is_directory() => entry.path,
                Lookup::Found(_) | Lookup::Dangling { .. } => {
                    return Err(TreeError::invalid(
                        shown,
                        format_args!(
                            "the entry {path} goes through {next}, which is not a directory"
                        ),
                    )
                    .with_fix("save the image again"));
                }
                Lookup::Missing => {
                    self.slots.insert(next.clone(), made_directory());
                    next
                }
            };
        }
        Ok(here)
    }

    /// What a whiteout names: its directory's links are followed, its own are not.
    fn existing(&self, path: &str) -> Result<Option<RealPath>, TreeError> {
        let path = path.trim_matches('/');
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let tree: &dyn Tree = self;
        let Some(directory) = tree.lookup(directory)?.found() else {
            return Ok(None);
        };
        let there = match name {
            "" | "." => directory.path,
            name => directory.path.join(name),
        };
        Ok(self.slots.contains_key(&there).then_some(there))
    }

    fn linked(&self, shown: &str, path: &str, target: &str) -> Result<Slot, TreeError> {
        if target.split('/').any(|name| name == "..") {
            return Err(TreeError::invalid(
                shown,
                format_args!("the hard link {path} leads to {target}, out of the image"),
            )
            .with_fix("do not use this image"));
        }
        let slot = self
            .existing(target)?
            .and_then(|target| self.slots.get(&target));
        slot.cloned().ok_or_else(|| {
            TreeError::invalid(
                shown,
                format_args!(
                    "the hard link {path} leads to {target}, which the image does not have"
                ),
            )
            .with_fix("save the image again")
        })
    }

    /// Removes all that is below a directory.
    fn clear(&mut self, directory: &RealPath) {
        let below: Vec<RealPath> = self
            .below(directory)
            .map(|(path, _)| path.clone())
            .collect();
        for path in below {
            self.slots.remove(&path);
        }
    }

    fn below<'a>(
        &'a self,
        directory: &'a RealPath,
    ) -> impl Iterator<Item = (&'a RealPath, &'a Slot)> {
        // The first name that a directory can have sorts right after its slash.
        self.slots
            .range((Bound::Excluded(directory.join("")), Bound::Unbounded))
            .take_while(|(path, _)| path.below(directory).is_some())
    }

    fn slot(&self, path: &RealPath) -> Result<&Slot, TreeError> {
        self.slots
            .get(path)
            .ok_or_else(|| TreeError::invalid(path, "not in the image"))
    }

    fn stored(
        &self,
        path: &RealPath,
        content: &Content,
        size: u64,
    ) -> Result<Box<dyn ReadSeek>, TreeError> {
        match content {
            Content::Stored { layer, offset } => match self.layers.get(*layer) {
                Some(layer) => layer.file(*offset, size),
                None => Err(TreeError::invalid(path, "not in the image")),
            },
            Content::Kept(bytes) => Ok(Box::new(std::io::Cursor::new(bytes.to_vec()))),
            Content::Library(_, stored) => self.stored(path, stored, size),
            Content::None => Err(TreeError::invalid(path, "not a regular file")),
        }
    }
}

impl Tree for Archive {
    fn shown(&self) -> String {
        self.shown.clone()
    }

    fn node(&self, path: &RealPath) -> Result<Option<Node>, TreeError> {
        Ok(self.slots.get(path).map(|slot| slot.node.clone()))
    }

    fn list(&self, path: &RealPath) -> Result<Vec<String>, TreeError> {
        if self.slot(path)?.node.kind != Kind::Directory {
            return Err(TreeError::invalid(path, "not a directory"));
        }
        let names = self.below(path).filter_map(|(below, _)| below.below(path));
        Ok(names
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect())
    }

    fn open(&self, path: &RealPath) -> Result<Box<dyn ReadSeek + '_>, TreeError> {
        let slot = self.slot(path)?;
        match slot.node.kind {
            Kind::File(size) => Ok(self.stored(path, &slot.content, size)?),
            _ => Err(TreeError::invalid(path, "not a regular file")),
        }
    }

    fn elf(&self, path: &RealPath) -> Result<Elf, ElfError> {
        match &self.slot(path)?.content {
            Content::Library(parsed, _) => parsed.result(),
            _ => Elf::read(self.open(path)?),
        }
    }
}

/// The names of an image's layers in the store, lowest first.
fn layer_names(store: &Store, arch: Arch) -> Result<Vec<String>, TreeError> {
    const DOCKER: &str = "manifest.json";
    if store.has(DOCKER) {
        let mut images: Vec<DockerImage> = json(store, DOCKER)?;
        return match (images.pop(), images.len()) {
            (Some(image), 0) => Ok(image.layers),
            (_, others) => Err(TreeError::invalid(
                store.show(DOCKER),
                format_args!(
                    "names {} images where one is looked at",
                    if others == 0 { 0 } else { others + 1 }
                ),
            )
            .with_fix("save one image")),
        };
    }
    let mut name = "index.json".to_owned();
    for _ in 0..MAX_INDEXES {
        if !store.has(&name) {
            return Err(TreeError::invalid(
                store.show(&name),
                "not there, and no manifest.json: not an image as docker, podman or skopeo save it",
            ));
        }
        let descriptor = choose(store, &name, arch)?;
        let is_index = descriptor.media_type.contains("index")
            || descriptor.media_type.contains("manifest.list");
        name = blob(store, &name, &descriptor.digest)?;
        if !is_index {
            let manifest: Manifest = json(store, &name)?;
            let layers = manifest.layers.iter();
            return layers
                .map(|layer| blob(store, &name, &layer.digest))
                .collect();
        }
    }
    Err(TreeError::invalid(
        store.show(&name),
        format_args!("more than {MAX_INDEXES} indexes lead to each other"),
    )
    .with_fix("save the image again"))
}

/// The one manifest of an index that is for `arch`.
fn choose(store: &Store, name: &str, arch: Arch) -> Result<Descriptor, TreeError> {
    let index: Index = json(store, name)?;
    let fits = |descriptor: &Descriptor| match &descriptor.platform {
        Some(platform) => platform.architecture == arch.oci_name(),
        None => true,
    };
    let mut fitting: Vec<Descriptor> = index.manifests.into_iter().filter(fits).collect();
    match (fitting.pop(), fitting.len()) {
        (Some(descriptor), 0) => Ok(descriptor),
        (None, _) => Err(TreeError::invalid(
            store.show(name),
            format_args!(
                "has no image for {}, the node's architecture",
                arch.oci_name()
            ),
        )
        .with_fix("save the image of that architecture")),
        (Some(_), others) => Err(TreeError::invalid(
            store.show(name),
            format_args!("has {} images where one is looked at", others + 1),
        )
        .with_fix("save one image")),
    }
}

/// The name of a blob. The digest is checked, for it becomes part of a path.
fn blob(store: &Store, of: &str, digest: &str) -> Result<String, TreeError> {
    let good =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match digest.split_once(':') {
        Some((algorithm, hex)) if good(algorithm) && good(hex) => {
            Ok(format!("blobs/{algorithm}/{hex}"))
        }
        _ => Err(
            TreeError::invalid(store.show(of), format_args!("{digest:?} is not a digest"))
                .with_fix("do not use this image"),
        ),
    }
}

fn json<T: DeserializeOwned>(store: &Store, name: &str) -> Result<T, TreeError> {
    use std::io::Read;

    let mut bytes = Vec::new();
    let shown = store.show(name);
    let part = store.part(name)?;
    part.take(MAX_MANIFEST + 1)
        .read_to_end(&mut bytes)
        .map_err(TreeError::io(&shown))?;
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(TreeError::invalid(shown, "larger than a manifest can be"));
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        TreeError::invalid(shown, format_args!("not what an image has there: {error}"))
    })
}

fn made_directory() -> Slot {
    Slot {
        node: Node {
            kind: Kind::Directory,
            mode: 0o755,
            id: FileId {
                device: u64::MAX,
                inode: 0,
            },
        },
        content: Content::None,
    }
}
