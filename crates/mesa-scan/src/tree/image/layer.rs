//! One layer of an image: a tar file, plain or compressed, of what it adds and what it takes away.

use std::cell::OnceCell;
use std::io::{self, Read};

use super::super::path::base_name;
use super::super::{FileId, Kind, Node, TreeError};
use super::compression::Compression;
use super::kept::Kept;
use super::members::{self, Member};
use super::sparse::Sparse;
use super::store::{brief, other_compression};
use super::window::Window;
use super::{Content, ReadAhead, Slot};

/// The most bytes of a file that is held in memory, for a moment, from a compressed layer.
const MAX_IN_MEMORY: u64 = 1 << 30;
/// The most bytes of a file that is stored sparse.
const MAX_SPARSE: u64 = 256 << 20;
/// The most bytes of a name: what Linux takes, its final NUL left out.
const PATH_MAX: usize = 4095;

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// A layer of an image.
pub(super) struct Layer {
    /// The name as the user can find it.
    pub(super) shown: String,
    bytes: Window,
    compression: Compression,
    /// What a compressed layer holds, once something is asked of it that was not read ahead.
    unpacked: OnceCell<Window>,
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

impl Layer {
    pub(super) fn open(bytes: Window, shown: String) -> Result<Self, TreeError> {
        let compression = Compression::of(&bytes).map_err(TreeError::io(&shown))?;
        if let Compression::Other(program) = compression {
            return Err(other_compression(shown, program));
        }
        Ok(Layer {
            shown,
            bytes,
            compression,
            unpacked: OnceCell::new(),
        })
    }

    /// All that the layer does, in its order; it is the image's layer number `index`.
    pub(super) fn changes(
        &self,
        index: usize,
        read_ahead: &dyn ReadAhead,
    ) -> Result<Vec<(String, Change)>, TreeError> {
        let mut reader = LayerReader {
            layer: self,
            index,
            read_ahead,
            changes: Vec::new(),
        };
        let bad = |error: &io::Error| self.bad(error);
        match self.compression {
            Compression::None => {
                members::seek_through(self.bytes.clone(), bad, |member| reader.member(member))
            }
            _ => {
                let stream = self
                    .compression
                    .stream(&self.bytes)
                    .map_err(|error| self.bad(&error))?;
                members::read_through(stream, bad, |member| reader.member(member))
            }
        }?;
        Ok(reader.changes)
    }

    /// The bytes of a file at `offset` of the layer.
    pub(super) fn file(&self, offset: u64, size: u64) -> Result<Window, TreeError> {
        let bytes = match (self.compression, self.unpacked.get()) {
            (Compression::None, _) => &self.bytes,
            (_, Some(unpacked)) => unpacked,
            (compression, None) => {
                let unpacked = compression.unpacked(&self.bytes);
                let unpacked = unpacked.map_err(|error| self.bad(&error))?;
                self.unpacked.get_or_init(|| unpacked)
            }
        };
        bytes
            .part(offset, size)
            .ok_or_else(|| TreeError::invalid(&self.shown, "ends too early"))
    }

    fn bad(&self, error: &io::Error) -> TreeError {
        TreeError::invalid(
            &self.shown,
            format_args!("not a layer that can be read: {error}"),
        )
        .with_fix("save the image again")
    }
}

/// A layer that goes by.
struct LayerReader<'a> {
    layer: &'a Layer,
    index: usize,
    read_ahead: &'a dyn ReadAhead,
    changes: Vec<(String, Change)>,
}

impl LayerReader<'_> {
    fn member<R: Read>(&mut self, member: &mut Member<'_, R>) -> Result<(), TreeError> {
        let bad = |error: io::Error| self.layer.bad(&error);
        let sparse = Sparse::of(member).map_err(bad)?;
        let path = match sparse.as_ref().and_then(|sparse| sparse.name.clone()) {
            Some(name) => name,
            None => String::from_utf8_lossy(&member.path_bytes()).into_owned(),
        };
        let link = member.link_name_bytes().unwrap_or_default();
        let link = String::from_utf8_lossy(&link).into_owned();
        self.check(&path, &link)?;
        let (directory, name) = split(&path);
        let change = if name == OPAQUE {
            (directory.to_owned(), Change::Empty)
        } else if let Some(removed) = name.strip_prefix(WHITEOUT) {
            if removed.is_empty() {
                return Ok(());
            }
            (format!("{directory}/{removed}"), Change::Remove)
        } else {
            let Some(change) = self.addition(member, &path, link, sparse)? else {
                return Ok(());
            };
            (path, change)
        };
        self.changes.push(change);
        Ok(())
    }

    /// No name may lead out of the image, nor be longer than Linux takes.
    fn check(&self, path: &str, link: &str) -> Result<(), TreeError> {
        let hostile = |what: String| {
            Err(TreeError::invalid(&self.layer.shown, what).with_fix("do not use this image"))
        };
        if path.split('/').any(|name| name == "..") {
            return hostile(format!(
                "the member {} has `..` in its name, which no image builder writes",
                brief(path)
            ));
        }
        if let Some(long) = [path, link].into_iter().find(|name| name.len() > PATH_MAX) {
            return hostile(format!(
                "a name of {} bytes where Linux takes {PATH_MAX}: {}",
                long.len(),
                brief(long)
            ));
        }
        Ok(())
    }

    fn addition<R: Read>(
        &self,
        member: &mut Member<'_, R>,
        path: &str,
        link: String,
        sparse: Option<Sparse>,
    ) -> Result<Option<Change>, TreeError> {
        let kind = match member.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                Kind::File(sparse.as_ref().map_or(member.size(), |sparse| sparse.size))
            }
            tar::EntryType::Directory => Kind::Directory,
            tar::EntryType::Symlink => Kind::Link(link),
            tar::EntryType::Link => return Ok(Some(Change::Link(link))),
            tar::EntryType::XGlobalHeader => return Ok(None),
            _ => Kind::Other,
        };
        let content = match kind {
            Kind::File(size) => self.content(member, path, size, sparse)?,
            _ => Content::None,
        };
        let node = Node {
            mode: member.header().mode().unwrap_or(0) & 0o7777,
            id: FileId {
                device: self.index as u64,
                inode: member.raw_header_position(),
                changed: (0, 0),
            },
            kind,
        };
        Ok(Some(Change::Add(Slot { node, content })))
    }

    /// Of a compressed layer, what may be asked for is read now, so that it need not be unpacked again.
    fn content<R: Read>(
        &self,
        member: &mut Member<'_, R>,
        path: &str,
        size: u64,
        sparse: Option<Sparse>,
    ) -> Result<Content, TreeError> {
        let name = base_name(path);
        let wanted = self.read_ahead.wants(name);
        if sparse.is_some() || member.header().entry_type() == tar::EntryType::GNUSparse {
            if !wanted || size > MAX_SPARSE {
                return Ok(Content::Unread("is stored sparse, which is not read"));
            }
            let bytes = match sparse {
                Some(sparse) => sparse.read(member),
                None => whole(member),
            };
            let bytes = bytes.map_err(|error| self.layer.bad(&error))?;
            return Ok(Content::Kept(Kept::sparse(&bytes)));
        }
        let offset = member.raw_file_position();
        let stored = Content::Stored {
            layer: self.index,
            offset,
        };
        if self.layer.compression == Compression::None {
            return match self.layer.bytes.part(offset, size) {
                Some(_) => Ok(stored),
                None => Err(TreeError::invalid(
                    &self.layer.shown,
                    format_args!("ends in the middle of {}", brief(path)),
                )
                .with_fix("save the image again")),
            };
        }
        if !wanted || size > MAX_IN_MEMORY {
            return Ok(stored);
        }
        let bytes = whole(member).map_err(|error| self.layer.bad(&error))?;
        let place = (self.index, offset);
        Ok(Content::Kept(Kept::ahead(
            self.read_ahead,
            name,
            &bytes,
            place,
        )))
    }
}

fn whole(member: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    member.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Directory and name.
fn split(path: &str) -> (&str, &str) {
    let path = path.trim_end_matches('/');
    path.rsplit_once('/').unwrap_or(("", path))
}
