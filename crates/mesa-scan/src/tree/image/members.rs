//! The members of a tar file, with a limit on what stands before each: a name is kept in memory, and a hostile archive
//! may have one of gigabytes.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

use super::super::TreeError;

/// The most bytes of names and headers before a member.
const MAX_HEADERS: u64 = 1 << 20;

/// What members are read through.
pub(super) struct Metered<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.get().checked_sub(read as u64) {
            Some(left) => self.left.set(left),
            None => return Err(io::Error::other("names and headers of more than 1 MiB")),
        }
        Ok(read)
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// What a visitor is shown.
pub(super) type Member<'a, R> = tar::Entry<'a, Metered<R>>;

/// Visits the members of a tar file whose contents can be passed over.
pub(super) fn seek_through<R: Read + Seek>(
    file: R,
    bad: impl Fn(&io::Error) -> TreeError,
    mut visit: impl FnMut(&mut Member<'_, R>) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    let left = Rc::new(Cell::new(MAX_HEADERS));
    let mut tar = tar::Archive::new(Metered {
        inner: file,
        left: Rc::clone(&left),
    });
    let entries = tar.entries_with_seek().map_err(|error| bad(&error))?;
    for entry in entries {
        left.set(u64::MAX);
        visit(&mut entry.map_err(|error| bad(&error))?)?;
        left.set(MAX_HEADERS);
    }
    Ok(())
}

/// Visits the members of a tar file that goes by.
pub(super) fn read_through<R: Read>(
    stream: R,
    bad: impl Fn(&io::Error) -> TreeError,
    mut visit: impl FnMut(&mut Member<'_, R>) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    let left = Rc::new(Cell::new(MAX_HEADERS));
    let mut tar = tar::Archive::new(Metered {
        inner: stream,
        left: Rc::clone(&left),
    });
    let entries = tar.entries().map_err(|error| bad(&error))?;
    for entry in entries {
        left.set(u64::MAX);
        let mut entry = entry.map_err(|error| bad(&error))?;
        visit(&mut entry)?;
        // What was not read would be passed over before the next member, and be taken for headers.
        io::copy(&mut entry, &mut io::sink()).map_err(|error| bad(&error))?;
        left.set(MAX_HEADERS);
    }
    Ok(())
}
