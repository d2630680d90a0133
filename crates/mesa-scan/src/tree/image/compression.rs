//! How an archive or a layer is compressed, told by its first bytes.

use std::io::{self, BufReader, Read, Write as _};

use super::window::Window;

/// The most bytes that are read through: no image has such a layer, a decompression bomb may.
const MAX_STREAM: u64 = 64 << 30;
/// The most bytes that are unpacked to a temporary file.
const MAX_UNPACKED: u64 = 16 << 30;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
    /// By a program of this name, which we have not built in.
    Other(&'static str),
}

impl Compression {
    /// Looks at the first bytes.
    pub(super) fn of(bytes: &Window) -> io::Result<Self> {
        Ok(match *bytes.first::<6>()? {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            // A zstd frame, or one that is skipped: containers/storage and pzstd begin with such.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Compression::Other("xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Compression::Other("bzip2"),
            [0x04, 0x22, 0x4d, 0x18, ..] => Compression::Other("lz4"),
            [b'L', b'Z', b'I', b'P', ..] => Compression::Other("lzip"),
            [0x5d, 0, 0, ..] => Compression::Other("lzma"),
            [0x1f, 0x9d, ..] => Compression::Other("compress"),
            _ => Compression::None,
        })
    }

    /// The bytes as they were before, read once from the beginning.
    pub(super) fn stream(self, bytes: &Window) -> io::Result<Box<dyn Read>> {
        let bytes = BufReader::new(bytes.clone());
        let stream: Box<dyn Read> = match self {
            Compression::None | Compression::Other(_) => Box::new(bytes),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(bytes)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(bytes)?),
        };
        Ok(Box::new(stream.take(MAX_STREAM)))
    }

    /// The bytes as they were before, in a temporary file without a name, which goes with the last who reads it.
    pub(super) fn unpacked(self, bytes: &Window) -> io::Result<Window> {
        let mut file = tempfile::tempfile()?;
        let mut stream = self.stream(bytes)?.take(MAX_UNPACKED + 1);
        if io::copy(&mut stream, &mut file)? > MAX_UNPACKED {
            return Err(io::Error::other("more than 16 GiB once it is unpacked"));
        }
        file.flush()?;
        Window::whole(file)
    }
}
