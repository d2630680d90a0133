//! A stretch of a file, read at its own position.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// A part of a file that several readers share.
#[derive(Debug, Clone)]
pub(super) struct Window {
    file: Arc<File>,
    start: u64,
    length: u64,
    position: u64,
}

impl Window {
    /// All of a file.
    pub(super) fn whole(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Window {
            file: Arc::new(file),
            start: 0,
            length,
            position: 0,
        })
    }

    /// A part of this window; `None` where it is not wholly inside.
    pub(super) fn part(&self, start: u64, length: u64) -> Option<Self> {
        let end = start.checked_add(length)?;
        (end <= self.length).then(|| Window {
            file: Arc::clone(&self.file),
            start: self.start + start,
            length,
            position: 0,
        })
    }

    /// The first bytes, fewer than asked for where there are no more.
    pub(super) fn first<const N: usize>(&self) -> io::Result<Vec<u8>> {
        let mut start = vec![0; N];
        let mut from_start = Window {
            position: 0,
            ..self.clone()
        };
        let read = from_start.read(&mut start)?;
        start.truncate(read);
        Ok(start)
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.position);
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most) else {
            return Ok(0);
        };
        let read = self.file.read_at(buffer, self.start + self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.length.checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}
