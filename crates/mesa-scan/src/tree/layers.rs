//! One layer of an image: a tar file, plain or compressed, of what it adds and what it takes away.

use std::io::{self, Cursor, Read, Seek};
use std::rc::Rc;

use super::entries::{self, Entry};
use super::store::Window;
use super::{FileId, Kind, Node, ReadSeek, TreeError};
use crate::elf::{Elf, ElfError};

/// The most bytes of a layer once it is unpacked: no image has such a layer, a decompression bomb may.
const MAX_LAYER: u64 = 64 << 30;
/// The most bytes of a file that is held in memory, from a compressed layer.
const MAX_IN_MEMORY: u64 = 1 << 30;
/// The most bytes of a configuration file that is kept while a compressed layer goes by.
const MAX_KEPT: u64 = 64 * 1024;

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// A layer of an image.
#[derive(Debug)]
pub(super) struct Layer {
    /// The name as the user can find it.
    pub(super) shown: String,
    bytes: Window,
    compression: Compression,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

/// What a layer does to a path.
pub(super) enum Change {
    /// Something new stands there.
    Add(Slot),
    /// A hard link to another path.
    Link(String),
    /// What lower layers have there is gone.
    Remove,
    /// What lower layers have in this directory is gone.
    Empty,
}

/// A file of an image and where its bytes are.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) node: Node,
    pub(super) content: Content,
}

/// The bytes of a file, or what was read of them when they went by.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Nothing: no regular file.
    None,
    /// In a layer, so many bytes on.
    Stored { layer: usize, offset: u64 },
    /// Text that may be needed.
    Kept(Rc<[u8]>),
    /// What the loader reads of a library.
    Library(Rc<Parsed>, Box<Content>),
}

/// A library that was read while its layer went by.
#[derive(Debug)]
pub(super) enum Parsed {
    Library(Elf),
    Foreign(String),
    Malformed(String),
}

impl Parsed {
    fn of(bytes: Vec<u8>) -> Option<Self> {
        match Elf::read(Cursor::new(bytes)) {
            Ok(elf) => Some(Parsed::Library(elf)),
            Err(ElfError::Foreign(what)) => Some(Parsed::Foreign(what)),
            Err(ElfError::Malformed(what)) => Some(Parsed::Malformed(what)),
            Err(ElfError::Tree(_)) => None,
        }
    }

    pub(super) fn result(&self) -> Result<Elf, ElfError> {
        match self {
            Parsed::Library(elf) => Ok(elf.clone()),
            Parsed::Foreign(what) => Err(ElfError::Foreign(what.clone())),
            Parsed::Malformed(what) => Err(ElfError::Malformed(what.clone())),
        }
    }
}

impl Layer {
    pub(super) fn open(mut bytes: Window, shown: String) -> Result<Self, TreeError> {
        let mut magic = [0; 4];
        let read = bytes.read(&mut magic).map_err(TreeError::io(&shown))?;
        let compression = match magic.get(..read) {
            Some([0x1f, 0x8b, ..]) => Compression::Gzip,
            Some([0x28, 0xb5, 0x2f, 0xfd]) => Compression::Zstd,
            _ => Compression::None,
        };
        bytes.rewind().map_err(TreeError::io(&shown))?;
        Ok(Layer {
            shown,
            bytes,
            compression,
        })
    }

    /// All that the layer does, in its order; it is the image's layer number `index`.
    pub(super) fn changes(&self, index: usize) -> Result<Vec<(String, Change)>, TreeError> {
        let mut changes = Vec::new();
        let bad = |error: &io::Error| self.bad(error);
        match self.compression {
            Compression::None => entries::seek_through(self.bytes.clone(), bad, |entry| {
                changes.extend(self.change(index, entry)?);
                Ok(())
            }),
            Compression::Gzip | Compression::Zstd => {
                entries::read_through(self.stream()?, bad, |entry| {
                    changes.extend(self.change(index, entry)?);
                    Ok(())
                })
            }
        }?;
        Ok(changes)
    }

    fn change<R: Read>(
        &self,
        index: usize,
        entry: &mut Entry<'_, R>,
    ) -> Result<Option<(String, Change)>, TreeError> {
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if path.split('/').any(|name| name == "..") {
            return Err(TreeError::invalid(
                &self.shown,
                format_args!(
                    "the entry {path} has `..` in its name, which no image builder writes"
                ),
            )
            .with_fix("do not use this image"));
        }
        let (directory, name) = split(&path);
        if name == OPAQUE {
            return Ok(Some((directory.to_owned(), Change::Empty)));
        }
        if let Some(removed) = name.strip_prefix(WHITEOUT) {
            let path = format!("{directory}/{removed}");
            return Ok((!removed.is_empty()).then_some((path, Change::Remove)));
        }
        let change = self.addition(index, entry, &path)?;
        Ok(change.map(|change| (path, change)))
    }

    fn addition<R: Read>(
        &self,
        index: usize,
        entry: &mut Entry<'_, R>,
        path: &str,
    ) -> Result<Option<Change>, TreeError> {
        let link =
            || String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()).into_owned();
        let kind = match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => Kind::File(entry.size()),
            tar::EntryType::Directory => Kind::Directory,
            tar::EntryType::Symlink => Kind::Link(link()),
            tar::EntryType::Link => return Ok(Some(Change::Link(link()))),
            tar::EntryType::XGlobalHeader => return Ok(None),
            _ => Kind::Other,
        };
        let offset = entry.raw_file_position();
        let node = Node {
            mode: entry.header().mode().unwrap_or(0) & 0o7777,
            id: FileId {
                device: index as u64,
                inode: offset,
            },
            kind,
        };
        let content = match node.kind {
            Kind::File(size) => self.content(index, entry, path, offset, size)?,
            _ => Content::None,
        };
        Ok(Some(Change::Add(Slot { node, content })))
    }

    /// Of a compressed layer, what may be asked for is read now, so that it need not be unpacked again.
    fn content<R: Read>(
        &self,
        index: usize,
        entry: &mut Entry<'_, R>,
        path: &str,
        offset: u64,
        size: u64,
    ) -> Result<Content, TreeError> {
        let stored = Content::Stored {
            layer: index,
            offset,
        };
        if self.compression == Compression::None {
            return match self.bytes.part(offset, size) {
                Some(_) => Ok(stored),
                None => Err(TreeError::invalid(
                    &self.shown,
                    format_args!("ends in the middle of {path}"),
                )
                .with_fix("save the image again")),
            };
        }
        let mut read = || {
            let mut bytes = Vec::new();
            entry
                .read_to_end(&mut bytes)
                .map_err(|error| self.bad(&error))?;
            Ok::<_, TreeError>(bytes)
        };
        let (_, name) = split(path);
        if name.contains(".so") && size <= MAX_IN_MEMORY {
            if let Some(parsed) = Parsed::of(read()?) {
                return Ok(Content::Library(Rc::new(parsed), Box::new(stored)));
            }
        } else if (name.ends_with(".conf") || name.ends_with(".json")) && size <= MAX_KEPT {
            return Ok(Content::Kept(read()?.into()));
        }
        Ok(stored)
    }

    /// The bytes of a file at `offset` of the layer.
    pub(super) fn file(&self, offset: u64, size: u64) -> Result<Box<dyn ReadSeek>, TreeError> {
        if self.compression == Compression::None {
            let part = self.bytes.part(offset, size);
            let part = part.ok_or_else(|| TreeError::invalid(&self.shown, "ends too early"))?;
            return Ok(Box::new(part));
        }
        if size > MAX_IN_MEMORY {
            return Err(TreeError::invalid(
                &self.shown,
                format_args!("a file of {size} bytes in a compressed layer is not read"),
            ));
        }
        let mut stream = self.stream()?;
        let mut bytes = Vec::new();
        io::copy(&mut stream.by_ref().take(offset), &mut io::sink())
            .and_then(|_| stream.take(size).read_to_end(&mut bytes))
            .map_err(|error| self.bad(&error))?;
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn stream(&self) -> Result<Box<dyn Read>, TreeError> {
        let bytes = io::BufReader::new(self.bytes.clone());
        let stream: Box<dyn Read> = match self.compression {
            Compression::None => Box::new(bytes),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(bytes)),
            Compression::Zstd => Box::new(
                zstd::stream::read::Decoder::with_buffer(bytes)
                    .map_err(|error| self.bad(&error))?,
            ),
        };
        Ok(Box::new(stream.take(MAX_LAYER)))
    }

    fn bad(&self, error: &io::Error) -> TreeError {
        TreeError::invalid(
            &self.shown,
            format_args!("not a layer that can be read: {error}"),
        )
        .with_fix("save the image again")
    }
}

/// Directory and name.
fn split(path: &str) -> (&str, &str) {
    let path = path.trim_end_matches('/');
    path.rsplit_once('/').unwrap_or(("", path))
}
