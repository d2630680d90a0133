//! Parts of a file that are kept in memory.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::rc::Rc;

use super::ReadAhead;
use super::window::Window;

/// How fine the zeros of a sparse file are left out.
const BLOCK: usize = 4096;

/// Parts of a file, and what the rest is.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    /// Where each begins. They do not overlap.
    pieces: Rc<BTreeMap<u64, Vec<u8>>>,
    rest: Rest,
}

/// What is not kept of a file.
#[derive(Debug, Clone, Copy)]
enum Rest {
    /// In a layer, so many bytes on.
    Stored {
        layer: usize,
        offset: u64,
    },
    Zeros,
}

impl Kept {
    /// What `read_ahead` reads of a file, which is also in a layer.
    pub(super) fn ahead(
        read_ahead: &dyn ReadAhead,
        name: &str,
        bytes: &[u8],
        (layer, offset): (usize, u64),
    ) -> Self {
        let mut recorder = Recorder {
            file: Cursor::new(bytes),
            read: BTreeMap::new(),
        };
        read_ahead.read(name, &mut recorder);
        let mut pieces: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut kept_to = 0;
        for (start, end) in recorder.read {
            let start = start.max(kept_to);
            if start >= end {
                continue;
            }
            let piece = usize::try_from(start).ok().zip(usize::try_from(end).ok());
            let Some(piece) = piece.and_then(|(start, end)| bytes.get(start..end)) else {
                continue;
            };
            if start == kept_to
                && let Some(mut last) = pieces.last_entry()
            {
                last.get_mut().extend(piece);
            } else {
                pieces.insert(start, piece.to_vec());
            }
            kept_to = end;
        }
        Kept {
            pieces: Rc::new(pieces),
            rest: Rest::Stored { layer, offset },
        }
    }

    /// All of a file, of which most is zeros.
    pub(super) fn sparse(bytes: &[u8]) -> Self {
        let starts = (0..).step_by(BLOCK);
        let blocks = starts.zip(bytes.chunks(BLOCK));
        let pieces = blocks
            .filter(|(_, block)| block.iter().any(|byte| *byte != 0))
            .map(|(start, block)| (start, block.to_vec()));
        Kept {
            pieces: Rc::new(pieces.collect()),
            rest: Rest::Zeros,
        }
    }

    /// The file of `size` bytes; `stored` opens it in its layer.
    pub(super) fn open<S>(&self, size: u64, stored: S) -> KeptFile<S>
    where
        S: Fn(usize, u64) -> io::Result<Window>,
    {
        KeptFile {
            kept: self.clone(),
            size,
            position: 0,
            stored,
            opened: None,
        }
    }
}

/// A file of which parts are kept.
pub(super) struct KeptFile<S> {
    kept: Kept,
    size: u64,
    position: u64,
    stored: S,
    opened: Option<Window>,
}

impl<S: Fn(usize, u64) -> io::Result<Window>> KeptFile<S> {
    fn read_rest(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.kept.rest {
            Rest::Zeros => {
                buffer.fill(0);
                Ok(buffer.len())
            }
            Rest::Stored { layer, offset } => {
                let file = match &mut self.opened {
                    Some(file) => file,
                    None => self.opened.insert((self.stored)(layer, offset)?),
                };
                file.seek(SeekFrom::Start(self.position))?;
                file.read(buffer)
            }
        }
    }
}

impl<S: Fn(usize, u64) -> io::Result<Window>> Read for KeptFile<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let position = self.position;
        let pieces = Rc::clone(&self.kept.pieces);
        let before = pieces.range(..=position).next_back();
        let piece = before.and_then(|(start, piece)| {
            let from = usize::try_from(position - start).ok()?;
            piece.get(from..).filter(|rest| !rest.is_empty())
        });
        let read = match piece {
            Some(mut piece) => piece.read(buffer)?,
            None => {
                let next = pieces.range(position..).next();
                let end = next.map_or(self.size, |(start, _)| *start).min(self.size);
                let left = usize::try_from(end.saturating_sub(position)).unwrap_or(usize::MAX);
                let most = left.min(buffer.len());
                match buffer.get_mut(..most) {
                    Some(buffer) if !buffer.is_empty() => self.read_rest(buffer)?,
                    _ => 0,
                }
            }
        };
        self.position += read as u64;
        Ok(read)
    }
}

impl<S> Seek for KeptFile<S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.size.checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

/// A file that remembers what was read of it.
struct Recorder<'a> {
    file: Cursor<&'a [u8]>,
    /// From where to where; of two with the same start the longer one.
    read: BTreeMap<u64, u64>,
}

impl Read for Recorder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let start = self.file.position();
        let read = self.file.read(buffer)?;
        let end = self.read.entry(start).or_insert(start);
        *end = (*end).max(start + read as u64);
        Ok(read)
    }
}

impl Seek for Recorder<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ReadSeek;
    use super::*;

    struct Ranges(Vec<(u64, usize)>);

    impl ReadAhead for Ranges {
        fn wants(&self, _: &str) -> bool {
            true
        }

        fn read(&self, _: &str, file: &mut dyn ReadSeek) {
            for (start, length) in &self.0 {
                file.seek(SeekFrom::Start(*start)).unwrap();
                let mut bytes = vec![0; *length];
                let _ = file.read_exact(&mut bytes);
            }
        }
    }

    proptest::proptest! {
        /// Whatever was read ahead, the file reads as it is, and what was read ahead needs no layer.
        #[test]
        fn a_kept_file_reads_as_the_whole(
            bytes in proptest::collection::vec(0..4u8, 0..3000),
            ahead in proptest::collection::vec((0..3000u64, 0..900usize), 0..6),
        ) {
            use std::io::Write;
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let whole = Window::whole(file).unwrap();
            let kept = Kept::ahead(&Ranges(ahead.clone()), "", &bytes, (0, 0));
            let size = bytes.len() as u64;
            let mut read = Vec::new();
            kept.open(size, |_, _| Ok(whole.clone())).read_to_end(&mut read).unwrap();
            proptest::prop_assert_eq!(&read, &bytes);
            let mut only_kept = kept.open(size, |_, _| Err(io::Error::other("unpacked again")));
            for (start, length) in ahead {
                only_kept.seek(SeekFrom::Start(start)).unwrap();
                let mut piece = Vec::new();
                (&mut only_kept).take(length as u64).read_to_end(&mut piece).unwrap();
                let from = usize::try_from(start).unwrap().min(bytes.len());
                let to = (from + length).min(bytes.len());
                proptest::prop_assert_eq!(&piece, &bytes[from..to]);
            }
        }

        #[test]
        fn a_sparse_file_reads_as_the_whole(blocks in proptest::collection::vec(proptest::bool::ANY, 0..6), more in 0..100usize) {
            let mut bytes: Vec<u8> = blocks.iter().flat_map(|full| vec![u8::from(*full); BLOCK]).collect();
            bytes.extend(vec![7; more]);
            let kept = Kept::sparse(&bytes);
            let mut read = Vec::new();
            let no_layer = |_, _| Err(io::Error::other("no layer"));
            kept.open(bytes.len() as u64, no_layer).read_to_end(&mut read).unwrap();
            proptest::prop_assert_eq!(read, bytes);
        }
    }
}
