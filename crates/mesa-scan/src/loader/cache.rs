//! `/etc/ld.so.cache`: which file the loader takes for a name, as `ldconfig` found it when it ran last.
//!
//! The format is glibc's (`sysdeps/generic/dl-cache.h`): a header, a record for each name, then the texts, all places counted
//! from the header. Older files have a table of an older format before it. What cannot be read is no cache, as for the
//! loader.

use std::collections::BTreeMap;
use std::io::Read;

use super::arch::Arch;
use crate::tree::{Tree, TreeError};

const PATH: &str = "/etc/ld.so.cache";
/// The most bytes of a cache: a large system's has 200 KB.
const MAX_CACHE: u64 = 16 << 20;

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
const HEADER: usize = 48;
const RECORD: usize = 24;
const OLD_HEADER: usize = 16;
const OLD_RECORD: usize = 12;
/// Of a record's `hwcap`: its low half counts the names of subdirectories of `glibc-hwcaps`.
const IS_HWCAPS: u64 = 1 << 62;
const EXTENSIONS_MAGIC: u32 = 0xeaa4_2174;
/// The extension that lists those names.
const HWCAPS_TAG: u32 = 1;

/// What a cache lists, for one architecture.
#[derive(Debug, Clone, Default)]
pub(super) struct Cache(BTreeMap<String, Vec<String>>);

impl Cache {
    /// The cache of a tree; nothing where it has none that the loader would read.
    ///
    /// # Errors
    /// Where the tree cannot be read.
    pub(super) fn of(tree: &dyn Tree, arch: Arch) -> Result<Option<Self>, TreeError> {
        let Some(entry) = tree.lookup(PATH)?.found() else {
            return Ok(None);
        };
        if entry.file_size().is_none_or(|size| size > MAX_CACHE) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut file = tree.open(&entry.path)?;
        file.read_to_end(&mut bytes).map_err(TreeError::io(PATH))?;
        Ok(Cache::parse(&bytes, arch))
    }

    /// The paths for a name, that for newer processors first.
    pub(super) fn paths(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    fn parse(bytes: &[u8], arch: Arch) -> Option<Self> {
        let file = File {
            bytes: bytes.get(start(bytes, arch)?..)?,
            is_big: arch == Arch::S390x,
        };
        let count = file.u32(20)? as usize;
        let hwcaps = file.hwcaps();
        let mut names: BTreeMap<String, Vec<(bool, String)>> = BTreeMap::new();
        for number in 0..count {
            let record = HEADER.checked_add(number.checked_mul(RECORD)?)?;
            let hwcap = file.u64(record + 16)?;
            let subdirectory = match hwcap & IS_HWCAPS {
                0 => None,
                _ => Some(hwcaps.get(usize::try_from(hwcap & 0xffff_ffff).ok()?)),
            };
            let is_for_all = match subdirectory {
                None => true,
                // Which others a node's processor has is not known.
                Some(name) => name.map(String::as_str) == arch.hwcaps(),
            };
            if file.u32(record)? != id(arch) || !is_for_all {
                continue;
            }
            let name = file.text(file.u32(record + 4)?)?;
            let path = file.text(file.u32(record + 8)?)?;
            let paths = names.entry(name).or_default();
            paths.push((subdirectory.is_none(), path));
        }
        let in_order = names.into_iter().map(|(name, mut paths)| {
            paths.sort_by_key(|(is_plain, _)| *is_plain);
            (name, paths.into_iter().map(|(_, path)| path).collect())
        });
        Some(Cache(in_order.collect()))
    }
}

/// Where the newer format begins.
fn start(bytes: &[u8], arch: Arch) -> Option<usize> {
    if bytes.starts_with(MAGIC) {
        return Some(0);
    }
    let is_big = arch == Arch::S390x;
    let old = bytes
        .starts_with(OLD_MAGIC)
        .then_some(File { bytes, is_big })?;
    let records = (old.u32(12)? as usize).checked_mul(OLD_RECORD)?;
    let end = OLD_HEADER
        .checked_add(records)?
        .checked_next_multiple_of(8)?;
    bytes.get(end..)?.starts_with(MAGIC).then_some(end)
}

/// What a record is marked with that is for libraries of an architecture.
fn id(arch: Arch) -> u32 {
    match arch {
        Arch::X86_64 => 0x0303,
        Arch::S390x => 0x0403,
        Arch::Aarch64 => 0x0a03,
    }
}

struct File<'a> {
    bytes: &'a [u8],
    is_big: bool,
}

impl File<'_> {
    fn u32(&self, at: usize) -> Option<u32> {
        let (bytes, _) = self.bytes.get(at..)?.split_first_chunk()?;
        Some(match self.is_big {
            true => u32::from_be_bytes(*bytes),
            false => u32::from_le_bytes(*bytes),
        })
    }

    fn u64(&self, at: usize) -> Option<u64> {
        let (bytes, _) = self.bytes.get(at..)?.split_first_chunk()?;
        Some(match self.is_big {
            true => u64::from_be_bytes(*bytes),
            false => u64::from_le_bytes(*bytes),
        })
    }

    fn text(&self, at: u32) -> Option<String> {
        let bytes = self.bytes.get(at as usize..)?;
        let end = memchr::memchr(0, bytes)?;
        Some(String::from_utf8_lossy(bytes.get(..end)?).into_owned())
    }

    /// The names of subdirectories of `glibc-hwcaps` that records count.
    fn hwcaps(&self) -> Vec<String> {
        let read = || {
            let extensions = self.u32(32)? as usize;
            if extensions == 0 || self.u32(extensions)? != EXTENSIONS_MAGIC {
                return None;
            }
            let count = self.u32(extensions + 4)?.min(64) as usize;
            let sections = (0..count).map(|number| extensions + 8 + number * 16);
            let mut sections = sections.filter(|at| self.u32(*at) == Some(HWCAPS_TAG));
            let section = sections.next()?;
            let (offset, size) = (self.u32(section + 8)? as usize, self.u32(section + 12)?);
            let count = (size / 4).min(4096) as usize;
            let texts = (0..count).map(|number| self.text(self.u32(offset + number * 4)?));
            texts.collect()
        };
        read().unwrap_or_default()
    }
}
