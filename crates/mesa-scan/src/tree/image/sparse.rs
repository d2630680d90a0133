//! Files that a tar file holds without their zeros, in the form that POSIX archives have (`tar -S --format=posix`).
//!
//! GNU's older form, a member of a type of its own, is read by the tar library.

use std::io::{self, Read};

use super::members::Member;

/// The most pieces that a sparse file has.
const MAX_PIECES: usize = 1 << 20;
/// The most bytes of a number in the list that stands before the data.
const MAX_DIGITS: usize = 20;
/// Tar files are made of blocks.
const BLOCK: usize = 512;

/// What the extended header of a sparse member says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    /// The file's name; the member's own is a made-up one.
    pub(super) name: Option<String>,
    /// The file's size in bytes, zeros included.
    pub(super) size: u64,
    /// Offset and length of each piece; where there are none, the list stands before the data.
    pieces: Option<Vec<(u64, u64)>>,
}

impl Sparse {
    /// Looks at the extended header of a member; `None` where it is not sparse.
    pub(super) fn of<R: Read>(member: &mut Member<'_, R>) -> io::Result<Option<Self>> {
        let Some(records) = member.pax_extensions()? else {
            return Ok(None);
        };
        let mut sparse = Sparse::default();
        let mut is_sparse = false;
        let mut list: Vec<u64> = Vec::new();
        let mut has_list = false;
        for record in records {
            let record = record?;
            let Some(key) = record
                .key()
                .ok()
                .and_then(|key| key.strip_prefix("GNU.sparse."))
            else {
                continue;
            };
            is_sparse = true;
            let value = String::from_utf8_lossy(record.value_bytes());
            match key {
                "name" => sparse.name = Some(value.into_owned()),
                "size" | "realsize" => sparse.size = number(&value)?,
                "map" => {
                    has_list = true;
                    list = value.split(',').map(number).collect::<io::Result<_>>()?;
                }
                "offset" | "numbytes" => {
                    has_list = true;
                    list.push(number(&value)?);
                }
                _ => {}
            }
        }
        if has_list {
            let pairs = list.chunks_exact(2).filter_map(|pair| match *pair {
                [offset, length] => Some((offset, length)),
                _ => None,
            });
            sparse.pieces = Some(pairs.collect());
        }
        Ok(is_sparse.then_some(sparse))
    }

    /// The whole file, zeros included, from the data of its member.
    pub(super) fn read(self, data: &mut dyn Read) -> io::Result<Vec<u8>> {
        let pieces = match self.pieces {
            Some(pieces) => pieces,
            None => list_before(data)?,
        };
        let size = usize::try_from(self.size).map_err(io::Error::other)?;
        let mut bytes = vec![0; size];
        for (offset, length) in pieces {
            let start = usize::try_from(offset).map_err(io::Error::other)?;
            let length = usize::try_from(length).map_err(io::Error::other)?;
            let piece = start
                .checked_add(length)
                .and_then(|end| bytes.get_mut(start..end))
                .ok_or_else(|| io::Error::other("a piece of a sparse file is outside of it"))?;
            data.read_exact(piece)?;
        }
        Ok(bytes)
    }
}

/// The list of version 1.0: decimal numbers, a line each, their count first, filled up to a whole block.
fn list_before(data: &mut dyn Read) -> io::Result<Vec<(u64, u64)>> {
    let mut lines = Lines { data, read: 0 };
    let count = usize::try_from(lines.next()?).unwrap_or(usize::MAX);
    if count > MAX_PIECES {
        return Err(io::Error::other("a sparse file of too many pieces"));
    }
    let mut pieces = Vec::new();
    for _ in 0..count {
        pieces.push((lines.next()?, lines.next()?));
    }
    let rest = lines.read.next_multiple_of(BLOCK) - lines.read;
    let mut filling = vec![0; rest];
    data.read_exact(&mut filling)?;
    Ok(pieces)
}

struct Lines<'a> {
    data: &'a mut dyn Read,
    read: usize,
}

impl Lines<'_> {
    fn next(&mut self) -> io::Result<u64> {
        let mut digits = String::new();
        loop {
            let mut byte = [0];
            self.data.read_exact(&mut byte)?;
            self.read += 1;
            match byte {
                [b'\n'] => return number(&digits),
                [digit @ b'0'..=b'9'] if digits.len() < MAX_DIGITS => {
                    digits.push(char::from(digit))
                }
                _ => return Err(io::Error::other("a sparse file without its list of pieces")),
            }
        }
    }
}

fn number(text: &str) -> io::Result<u64> {
    text.parse()
        .map_err(|_| io::Error::other("a sparse file with a number that is none"))
}
