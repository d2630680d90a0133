//! What a scan reads of an image's files, so that a compressed layer is unpacked once.

use super::qemu;
use crate::loader::Elf;
use crate::tree::ReadSeek;
use crate::tree::image::ReadAhead;

/// Libraries as the loader reads them, the texts of the loader, of libglvnd and of Mesa, and of which build QEMU and its
/// modules are.
#[derive(Debug, Clone, Copy)]
pub struct GlReadAhead;

/// The most bytes of a text: what is longer is refused when it is read.
const MAX_TEXT: u64 = 64 * 1024;

impl ReadAhead for GlReadAhead {
    fn wants(&self, name: &str) -> bool {
        is_text(name) || name.contains(".so") || qemu::is_emulator(name)
    }

    fn read(&self, name: &str, file: &mut dyn ReadSeek) {
        // What is wrong with a file is said when it is asked for, if it ever is.
        if is_text(name) {
            let most = if name == CACHE { u64::MAX } else { MAX_TEXT };
            let _ = std::io::copy(&mut std::io::Read::take(file, most), &mut std::io::sink());
            return;
        }
        if qemu::is_emulator(name) || qemu::is_gl_module(name) {
            qemu::read_ahead(name, file);
        }
        if name.contains(".so") {
            let _ = Elf::read(file);
        }
    }
}

/// The loader's, which is read as a whole.
const CACHE: &str = "ld.so.cache";

/// Asked first: `ld.so.conf` looks like a library otherwise.
fn is_text(name: &str) -> bool {
    name.ends_with(".conf") || name.ends_with(".json") || name == CACHE
}
