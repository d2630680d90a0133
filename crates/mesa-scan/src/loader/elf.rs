//! What the dynamic loader reads of a library: the dynamic segment, the version tables, the build id.
//!
//! Read through the program headers, as the loader does, and never more than a few kilobytes of a file, however
//! large it is. All counts and sizes are checked against limits that no real library comes near.

use std::collections::BTreeSet;
use std::io::{Read, Seek};

use object::elf::{self, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, ReadCache, ReadRef};

use super::arch::Arch;
use crate::tree::{RealPath, Tree, TreeError};

/// The most bytes of a dynamic or note segment: real ones have less than 2 KB.
const MAX_SEGMENT: u64 = 256 * 1024;
/// The longest name.
const MAX_NAME: u64 = 4096;
/// The most records in the version tables of one file.
const MAX_VERSIONS: usize = 16 * 1024;

/// A symbol version that a library needs of another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Requirement {
    /// The soname of the provider.
    pub library: String,
    /// As in `GLIBC_2.38`.
    pub version: String,
}

/// A library as the loader sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Elf {
    /// Class and machine.
    pub arch: Arch,
    /// `DT_SONAME`.
    pub soname: Option<String>,
    /// `DT_NEEDED`, in order.
    pub needed: Vec<String>,
    /// `DT_RPATH`, which the libraries below inherit; the loader ignores it where there is a `DT_RUNPATH`.
    pub rpath: Option<String>,
    /// `DT_RUNPATH`.
    pub runpath: Option<String>,
    /// The versions it needs, weak ones left out.
    pub requires: BTreeSet<Requirement>,
    /// The versions it defines.
    pub defines: BTreeSet<String>,
    /// The linker's id, in hexadecimal.
    pub build_id: Option<String>,
}

/// Why a file is no library for us.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// Another class or machine: the loader passes over it.
    #[error("{0}")]
    Foreign(String),
    /// Not what the loader expects: it stops here.
    #[error("{0}")]
    Malformed(String),
    /// The file cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

type Header = FileHeader64<Endianness>;

impl Elf {
    /// Reads a library of a tree.
    ///
    /// # Errors
    /// Where `path` cannot be read or is no library of an architecture that we know.
    pub fn in_tree(tree: &dyn Tree, path: &RealPath) -> Result<Self, ElfError> {
        Elf::read(tree.open(path)?)
    }

    /// Where the constants of a program or library are: what is mapped neither to be written nor to be run, each part as its
    /// start and size in the file.
    ///
    /// # Errors
    /// As [`Elf::read`].
    pub fn read_only_segments(file: impl Read + Seek) -> Result<Vec<(u64, u64)>, ElfError> {
        let cache = ReadCache::new(file);
        let file = &cache;
        identify(file)?;
        let header = Header::parse(file).map_err(malformed)?;
        let endian = header.endian().map_err(malformed)?;
        let segments = header.program_headers(endian, file).map_err(malformed)?;
        let is_constant = |segment: &&elf::ProgramHeader64<Endianness>| {
            let flags = segment.p_flags(endian);
            segment.p_type(endian) == elf::PT_LOAD
                && !flags.contains(elf::PF_W)
                && !flags.contains(elf::PF_X)
        };
        let constants = segments.iter().filter(is_constant);
        Ok(constants
            .map(|segment| (segment.p_offset(endian), segment.p_filesz(endian)))
            .collect())
    }

    /// The architecture of a program, and whether it runs without a loader and without libraries.
    ///
    /// # Errors
    /// As [`Elf::read`].
    pub fn is_static(file: impl Read + Seek) -> Result<(Arch, bool), ElfError> {
        let cache = ReadCache::new(file);
        let file = &cache;
        let arch = identify(file)?;
        let header = Header::parse(file).map_err(malformed)?;
        let endian = header.endian().map_err(malformed)?;
        let segments = header.program_headers(endian, file).map_err(malformed)?;
        let image = Image {
            file,
            endian,
            segments,
        };
        let has_loader = !image.of_type(elf::PT_INTERP)?.is_empty();
        // A static program at a fixed address has no dynamic segment at all.
        let dynamic = match image.of_type(elf::PT_DYNAMIC)?.is_empty() {
            true => &[],
            false => image.dynamic()?,
        };
        let needs = dynamic
            .iter()
            .any(|entry| entry.tag(endian) == elf::DT_NEEDED);
        let starts = header.e_entry(endian) != 0;
        Ok((arch, starts && !has_loader && !needs))
    }

    /// Reads the parts of a library that matter.
    ///
    /// # Errors
    /// [`ElfError::Foreign`] or [`ElfError::Malformed`], without a path: the caller has it.
    pub fn read(file: impl Read + Seek) -> Result<Self, ElfError> {
        let cache = ReadCache::new(file);
        let file = &cache;
        let arch = identify(file)?;
        let header = Header::parse(file).map_err(malformed)?;
        let endian = header.endian().map_err(malformed)?;
        if header.e_phnum(endian) == elf::PN_XNUM {
            return Err(ElfError::Malformed(
                "more than 65534 program headers".to_owned(),
            ));
        }
        let segments = header.program_headers(endian, file).map_err(malformed)?;
        let image = Image {
            file,
            endian,
            segments,
        };
        image.read(arch)
    }
}

/// Class and machine from the first bytes, before anything is parsed for one class.
fn identify<R: Read + Seek>(file: &ReadCache<R>) -> Result<Arch, ElfError> {
    let start = file
        .read_bytes_at(0, 20)
        .map_err(|()| ElfError::Malformed("too short for an ELF file".to_owned()))?;
    let [
        0x7f,
        b'E',
        b'L',
        b'F',
        class,
        data,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        m0,
        m1,
    ] = *start
    else {
        return Err(ElfError::Malformed("not an ELF file".to_owned()));
    };
    let machine = if data == elf::ELFDATA2MSB.0 {
        u16::from_be_bytes([m0, m1])
    } else {
        u16::from_le_bytes([m0, m1])
    };
    if class == elf::ELFCLASS32.0 {
        return Err(ElfError::Foreign("a 32-bit file".to_owned()));
    }
    let big = data == elf::ELFDATA2MSB.0;
    match elf::Machine(machine) {
        elf::EM_X86_64 if !big => Ok(Arch::X86_64),
        elf::EM_AARCH64 if !big => Ok(Arch::Aarch64),
        elf::EM_S390 if big => Ok(Arch::S390x),
        _ => Err(ElfError::Foreign(format!(
            "a file for machine {machine}, which KubeVirt does not run on"
        ))),
    }
}

fn malformed(error: object::Error) -> ElfError {
    ElfError::Malformed(error.to_string())
}

/// A file whose headers are read.
struct Image<'a, R: Read + Seek> {
    file: &'a ReadCache<R>,
    endian: Endianness,
    segments: &'a [elf::ProgramHeader64<Endianness>],
}

impl<R: Read + Seek> Image<'_, R> {
    fn read(&self, arch: Arch) -> Result<Elf, ElfError> {
        let dynamic = self.dynamic()?;
        let value = |tag: elf::DynamicTag| {
            let mut of_tag = dynamic.iter().filter(|entry| entry.tag(self.endian) == tag);
            of_tag.next().map(|entry| entry.val(self.endian))
        };
        let strings = Strings {
            file: self.file,
            start: match value(elf::DT_STRTAB) {
                Some(address) => self.offset_of(address)?,
                None => 0,
            },
            size: value(elf::DT_STRSZ).unwrap_or(0),
        };
        let string = |tag| value(tag).map(|index| strings.get(index)).transpose();
        let needed = dynamic
            .iter()
            .filter(|entry| entry.tag(self.endian) == elf::DT_NEEDED)
            .map(|entry| strings.get(entry.val(self.endian)))
            .collect::<Result<_, _>>()?;
        Ok(Elf {
            arch,
            soname: string(elf::DT_SONAME)?,
            needed,
            rpath: string(elf::DT_RPATH)?,
            runpath: string(elf::DT_RUNPATH)?,
            requires: self.requirements(value(elf::DT_VERNEED), &strings)?,
            defines: self.definitions(value(elf::DT_VERDEF), &strings)?,
            // It tells builds apart, and no loader reads it.
            build_id: self.build_id().unwrap_or_default(),
        })
    }

    fn dynamic(&self) -> Result<&[elf::Dyn64<Endianness>], ElfError> {
        for segment in self.of_type(elf::PT_DYNAMIC)? {
            if let Some(dynamic) = segment.dynamic(self.endian, self.file).map_err(malformed)? {
                let end = dynamic
                    .iter()
                    .position(|entry| entry.tag(self.endian) == elf::DT_NULL);
                return Ok(dynamic
                    .get(..end.unwrap_or(dynamic.len()))
                    .unwrap_or(dynamic));
            }
        }
        Err(ElfError::Malformed(
            "no dynamic segment: not a shared library".to_owned(),
        ))
    }

    fn build_id(&self) -> Result<Option<String>, ElfError> {
        for segment in self.of_type(elf::PT_NOTE)? {
            let notes = segment.notes(self.endian, self.file).map_err(malformed)?;
            for note in notes.into_iter().flatten() {
                let note = note.map_err(malformed)?;
                if note.name() == elf::ELF_NOTE_GNU
                    && note.n_type(self.endian) == elf::NT_GNU_BUILD_ID
                {
                    return Ok(Some(staging::hex(note.desc())));
                }
            }
        }
        Ok(None)
    }

    /// The segments of a type, none of them absurdly large.
    fn of_type(
        &self,
        kind: elf::ProgramType,
    ) -> Result<Vec<&elf::ProgramHeader64<Endianness>>, ElfError> {
        let of_kind = |segment: &&elf::ProgramHeader64<_>| segment.p_type(self.endian) == kind;
        let segments: Vec<_> = self.segments.iter().filter(of_kind).collect();
        for segment in &segments {
            let size = segment.p_filesz(self.endian);
            if size > MAX_SEGMENT {
                return Err(ElfError::Malformed(format!(
                    "a segment of {size} bytes where real ones have a few hundred"
                )));
            }
        }
        Ok(segments)
    }

    /// Where in the file the loader would map `address` from.
    fn offset_of(&self, address: u64) -> Result<u64, ElfError> {
        self.segments
            .iter()
            .filter(|segment| segment.p_type(self.endian) == elf::PT_LOAD)
            .find_map(|segment| {
                let inside = address.checked_sub(segment.p_vaddr(self.endian))?;
                (inside < segment.p_filesz(self.endian))
                    .then(|| segment.p_offset(self.endian).checked_add(inside))?
            })
            .ok_or_else(|| ElfError::Malformed(format!("address {address:#x} is in no segment")))
    }

    fn requirements(
        &self,
        table: Option<u64>,
        strings: &Strings<'_, R>,
    ) -> Result<BTreeSet<Requirement>, ElfError> {
        let mut found = BTreeSet::new();
        let mut records = Records::default();
        let mut at = table.map(|address| self.offset_of(address)).transpose()?;
        while let Some(offset) = at {
            let need: &elf::Verneed<Endianness> = self.record(&mut records, offset)?;
            let library = strings.get(need.vn_file.get(self.endian).into())?;
            let mut version_at = step(offset, need.vn_aux.get(self.endian))?;
            for _ in 0..need.vn_cnt.get(self.endian) {
                let Some(offset) = version_at else { break };
                let version: &elf::Vernaux<Endianness> = self.record(&mut records, offset)?;
                if !version
                    .vna_flags
                    .get(self.endian)
                    .contains(elf::VER_FLG_WEAK)
                {
                    found.insert(Requirement {
                        library: library.clone(),
                        version: strings.get(version.vna_name.get(self.endian).into())?,
                    });
                }
                version_at = step(offset, version.vna_next.get(self.endian))?;
            }
            at = step(offset, need.vn_next.get(self.endian))?;
        }
        Ok(found)
    }

    fn definitions(
        &self,
        table: Option<u64>,
        strings: &Strings<'_, R>,
    ) -> Result<BTreeSet<String>, ElfError> {
        let mut found = BTreeSet::new();
        let mut records = Records::default();
        let mut at = table.map(|address| self.offset_of(address)).transpose()?;
        while let Some(offset) = at {
            let definition: &elf::Verdef<Endianness> = self.record(&mut records, offset)?;
            let names = step(offset, definition.vd_aux.get(self.endian))?;
            // The first name is the version, the others are what it succeeds; the base version is the soname.
            if let Some(names) = names
                && !definition
                    .vd_flags
                    .get(self.endian)
                    .contains(elf::VER_FLG_BASE)
            {
                let name: &elf::Verdaux<Endianness> = self.record(&mut records, names)?;
                found.insert(strings.get(name.vda_name.get(self.endian).into())?);
            }
            at = step(offset, definition.vd_next.get(self.endian))?;
        }
        Ok(found)
    }

    fn record<T: object::Pod>(&self, records: &mut Records, offset: u64) -> Result<&T, ElfError> {
        records.count()?;
        self.file
            .read_at(offset)
            .map_err(|()| ElfError::Malformed("a version table runs past the end".to_owned()))
    }
}

/// How many version records were read: a table may lead backwards through itself many times.
#[derive(Default)]
struct Records(usize);

impl Records {
    fn count(&mut self) -> Result<(), ElfError> {
        self.0 += 1;
        if self.0 > MAX_VERSIONS {
            return Err(ElfError::Malformed(format!(
                "more than {MAX_VERSIONS} version records"
            )));
        }
        Ok(())
    }
}

/// The next record, `distance` on; none where the distance is zero.
fn step(offset: u64, distance: u32) -> Result<Option<u64>, ElfError> {
    match distance {
        0 => Ok(None),
        distance => match offset.checked_add(distance.into()) {
            Some(next) => Ok(Some(next)),
            None => Err(ElfError::Malformed("a version table overflows".to_owned())),
        },
    }
}

/// The dynamic string table.
struct Strings<'a, R: Read + Seek> {
    file: &'a ReadCache<R>,
    start: u64,
    size: u64,
}

impl<R: Read + Seek> Strings<'_, R> {
    fn get(&self, index: u64) -> Result<String, ElfError> {
        let bad = || ElfError::Malformed(format!("no name at {index} of its string table"));
        let left = self.size.checked_sub(index).ok_or_else(bad)?;
        let start = self.start.checked_add(index).ok_or_else(bad)?;
        let length = self.file.len().map_err(|()| bad())?;
        let end = start.saturating_add(left.min(MAX_NAME)).min(length);
        if start >= end {
            return Err(bad());
        }
        let bytes = self
            .file
            .read_bytes_at_until(start..end, 0)
            .map_err(|()| bad())?;
        let name = std::str::from_utf8(bytes).map_err(|_| bad())?;
        Ok(name.to_owned())
    }
}
