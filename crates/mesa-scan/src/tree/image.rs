//! A tree that is an image: its layers, merged as a runtime would unpack them, but read where they are.
//!
//! ```text
//! store    the parts of an image by name, in a tar file or a directory
//! resolve  which of several images, and so which layers
//! layer    what one layer adds and takes away
//! merge    the layers on top of each other
//! ```

mod compression;
mod kept;
mod layer;
mod members;
mod merge;
mod resolve;
mod sparse;
mod store;
mod window;

use std::collections::BTreeMap;
use std::path::Path;

use self::kept::Kept;
use self::layer::Layer;
use self::store::Store;
use super::{Kind, Node, ReadSeek, RealPath, Tree, TreeError};

pub use self::resolve::{Choice, Platform};

/// Reads of a file, while its compressed layer goes by, what will be asked of it later. Just that is kept in memory, and
/// the layer need not be unpacked again for it.
pub trait ReadAhead {
    /// Whether anything will be asked of a file of this name.
    fn wants(&self, name: &str) -> bool;

    /// Reads of that file what will be read of it.
    fn read(&self, name: &str, file: &mut dyn ReadSeek);
}

/// An image as the tree that its layers make.
pub struct Image {
    shown: String,
    references: Vec<String>,
    layers: Vec<Layer>,
    slots: BTreeMap<RealPath, Slot>,
    /// Bytes of all paths in `slots`.
    names: usize,
}

/// A file of an image and where its bytes are.
#[derive(Debug, Clone)]
struct Slot {
    node: Node,
    content: Content,
}

/// The bytes of a file.
#[derive(Debug, Clone)]
enum Content {
    /// None: not a regular file.
    None,
    /// In a layer, so many bytes on.
    Stored { layer: usize, offset: u64 },
    /// Some in memory, the others perhaps in a layer.
    Kept(Kept),
    /// Not to be had, with the reason.
    Unread(&'static str),
}

impl Image {
    /// Opens an image as `docker save`, `podman save` or `skopeo copy` write it, in a tar file or a directory, or the tar
    /// file of a root; `None` where `path` is a directory and none of these.
    ///
    /// # Errors
    /// Where it is no such image, one of hostile make, or not the one that `choice` asks for.
    pub fn open(
        path: &Path,
        choice: &Choice,
        read_ahead: &dyn ReadAhead,
    ) -> Result<Option<Self>, TreeError> {
        let Some(store) = Store::open(path)? else {
            return Ok(None);
        };
        let mut image = Image::empty(path.display().to_string());
        let resolved = resolve::image(&store, choice)?;
        image.references = resolved.references;
        for (shown, bytes) in resolved.layers {
            image.add(Layer::open(bytes, shown)?, read_ahead)?;
        }
        Ok(Some(image))
    }

    fn slot(&self, path: &RealPath) -> Result<&Slot, TreeError> {
        self.slots
            .get(path)
            .ok_or_else(|| TreeError::invalid(path, "not in the image"))
    }
}

impl Tree for Image {
    fn shown(&self) -> String {
        self.shown.clone()
    }

    fn references(&self) -> Vec<String> {
        self.references.clone()
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
        let Kind::File(size) = slot.node.kind else {
            return Err(TreeError::invalid(path, "not a regular file"));
        };
        let named = path.clone();
        let stored = move |layer: usize, offset: u64| match self.layers.get(layer) {
            Some(layer) => layer.file(offset, size),
            None => Err(TreeError::invalid(&named, "not in the image")),
        };
        match &slot.content {
            Content::None => Err(TreeError::invalid(path, "not a regular file")),
            Content::Stored { layer, offset } => Ok(Box::new(stored(*layer, *offset)?)),
            Content::Kept(kept) => Ok(Box::new(kept.open(size, move |layer, offset| {
                stored(layer, offset).map_err(std::io::Error::other)
            }))),
            Content::Unread(why) => Err(TreeError::invalid(
                format_args!("{path} of {}", self.shown),
                why,
            )
            .with_fix("save the image again without sparse files")),
        }
    }
}
