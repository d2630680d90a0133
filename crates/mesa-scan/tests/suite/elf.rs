//! Writes shared libraries that hold what the loader reads, and nothing to execute.

use mesa_scan::loader::Arch;

/// A library that is to be written.
#[derive(Clone)]
pub(crate) struct Library {
    pub(crate) arch: Arch,
    pub(crate) soname: Option<String>,
    pub(crate) needed: Vec<String>,
    pub(crate) rpath: Option<String>,
    pub(crate) runpath: Option<String>,
    /// Version needed of a library.
    pub(crate) requires: Vec<(String, String)>,
    pub(crate) defines: Vec<String>,
}

/// A library of that soname for x86_64.
pub(crate) fn library(soname: &str) -> Library {
    Library {
        arch: Arch::X86_64,
        soname: Some(soname.to_owned()),
        needed: Vec::new(),
        rpath: None,
        runpath: None,
        requires: Vec::new(),
        defines: Vec::new(),
    }
}

impl Library {
    pub(crate) fn arch(mut self, arch: Arch) -> Self {
        self.arch = arch;
        self
    }

    pub(crate) fn needs(mut self, name: &str) -> Self {
        self.needed.push(name.to_owned());
        self
    }

    pub(crate) fn rpath(mut self, list: &str) -> Self {
        self.rpath = Some(list.to_owned());
        self
    }

    pub(crate) fn runpath(mut self, list: &str) -> Self {
        self.runpath = Some(list.to_owned());
        self
    }

    /// Needs a library, and of it a version.
    pub(crate) fn requires(mut self, library: &str, version: &str) -> Self {
        if !self.needed.iter().any(|needed| needed == library) {
            self = self.needs(library);
        }
        self.requires.push((library.to_owned(), version.to_owned()));
        self
    }

    pub(crate) fn defines(mut self, version: &str) -> Self {
        self.defines.push(version.to_owned());
        self
    }

    /// The file: header, two program headers, dynamic segment, version tables, names. Address and offset are the same.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let big = self.arch == Arch::S390x;
        let mut strings = Strings(vec![0]);
        let mut dynamic: Vec<(u64, u64)> = Vec::new();
        for name in &self.needed {
            dynamic.push((1, strings.add(name)));
        }
        for (tag, text) in [(14, &self.soname), (15, &self.rpath), (29, &self.runpath)] {
            if let Some(text) = text {
                dynamic.push((tag, strings.add(text)));
            }
        }
        let needs = Output::new(big).needs(&self.requires, &mut strings);
        let definitions = Output::new(big).definitions(&self.defines, &mut strings);
        let tables = 2 + 2 * u64::from(!needs.is_empty()) + 2 * u64::from(!definitions.is_empty());
        let start = 64 + 2 * 56;
        let dynamic_size = (dynamic.len() as u64 + tables + 1) * 16;
        let needs_at = start + dynamic_size;
        let definitions_at = needs_at + needs.len() as u64;
        let strings_at = definitions_at + definitions.len() as u64;
        if !needs.is_empty() {
            dynamic.extend([(0x6fff_fffe, needs_at), (0x6fff_ffff, 1)]);
        }
        if !definitions.is_empty() {
            dynamic.extend([(0x6fff_fffc, definitions_at), (0x6fff_fffd, 1)]);
        }
        dynamic.extend([(5, strings_at), (10, strings.0.len() as u64), (0, 0)]);
        let total = strings_at + strings.0.len() as u64;

        let mut out = Output::new(big);
        out.raw(&[0x7f, b'E', b'L', b'F', 2, if big { 2 } else { 1 }, 1, 0]);
        out.raw(&[0; 8]);
        let machine = match self.arch {
            Arch::X86_64 => 62,
            Arch::Aarch64 => 183,
            Arch::S390x => 22,
        };
        out.u16(3).u16(machine).u32(1).u64(0).u64(64).u64(0).u32(0);
        out.u16(64).u16(56).u16(2).u16(64).u16(0).u16(0);
        out.u32(1)
            .u32(4)
            .u64(0)
            .u64(0)
            .u64(0)
            .u64(total)
            .u64(total)
            .u64(4096);
        out.u32(2)
            .u32(4)
            .u64(start)
            .u64(start)
            .u64(start)
            .u64(dynamic_size)
            .u64(dynamic_size)
            .u64(8);
        for (tag, value) in dynamic {
            out.u64(tag).u64(value);
        }
        out.raw(&needs).raw(&definitions).raw(&strings.0);
        out.0
    }
}

/// A program with a loader or without, which does nothing.
pub(crate) fn program(arch: Arch, loader: Option<&str>) -> Vec<u8> {
    let mut bytes = library("program").arch(arch).bytes();
    // An entry, and in the place of the dynamic segment the loader's name or nothing.
    let start = 64 + 2 * 56;
    let mut out = Output::new(arch == Arch::S390x);
    out.u64(start);
    bytes[24..32].copy_from_slice(&out.0);
    let mut out = Output::new(arch == Arch::S390x);
    out.u32(if loader.is_some() { 3 } else { 0 });
    bytes[64 + 56..64 + 60].copy_from_slice(&out.0);
    bytes.extend(loader.unwrap_or_default().as_bytes());
    bytes
}

struct Strings(Vec<u8>);

impl Strings {
    fn add(&mut self, text: &str) -> u64 {
        let at = self.0.len() as u64;
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        at
    }
}

struct Output(Vec<u8>, bool);

impl Output {
    fn new(big: bool) -> Self {
        Output(Vec::new(), big)
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn number(&mut self, value: u64, size: usize) -> &mut Self {
        let big = value.to_be_bytes();
        let little = value.to_le_bytes();
        match self.1 {
            true => self.raw(&big[8 - size..]),
            false => self.raw(&little[..size]),
        }
    }

    fn u16(&mut self, value: u64) -> &mut Self {
        self.number(value, 2)
    }

    fn u32(&mut self, value: u64) -> &mut Self {
        self.number(value, 4)
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.number(value, 8)
    }

    fn needs(mut self, requires: &[(String, String)], strings: &mut Strings) -> Vec<u8> {
        for (index, (library, version)) in requires.iter().enumerate() {
            let last = index + 1 == requires.len();
            let (library, version) = (strings.add(library), strings.add(version));
            self.u16(1)
                .u16(1)
                .u32(library)
                .u32(16)
                .u32(if last { 0 } else { 32 });
            self.u32(0).u16(0).u16(2).u32(version).u32(0);
        }
        self.0
    }

    fn definitions(mut self, defines: &[String], strings: &mut Strings) -> Vec<u8> {
        for (index, version) in defines.iter().enumerate() {
            let last = index + 1 == defines.len();
            let version = strings.add(version);
            self.u16(1)
                .u16(0)
                .u16(2)
                .u16(1)
                .u32(0)
                .u32(20)
                .u32(if last { 0 } else { 28 });
            self.u32(version).u32(0);
        }
        self.0
    }
}
