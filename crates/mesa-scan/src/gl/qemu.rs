//! QEMU's own part of a GL display: modules, which QEMU loads only where they are of its own build.
//!
//! Every module exports a symbol `qemu_stamp_<hash>`, and QEMU itself holds the same text; it refuses a module with
//! another one (`module_load_dso` in QEMU's `util/module.c`). Both can be read without running anything.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read, SeekFrom};

use memchr::memmem;

use crate::loader::{Arch, Elf, Loader};
use crate::tree::{ReadSeek, RealPath, Tree, TreeError};

/// The modules without which there is no `-display egl-headless`.
pub const DISPLAY_MODULES: [&str; 2] = ["ui-opengl.so", "ui-egl-headless.so"];
/// What they call GL through.
pub const EPOXY: &str = "libepoxy.so.0";

const STAMP: &[u8] = b"qemu_stamp_";
const VERSION: &[u8] = b"QEMU emulator version ";
/// The longest stamp, version or directory that is believed.
const MAX_TEXT: usize = 256;
/// The most bytes that are searched of one file: an emulator has about 30 MB.
const MAX_SEARCHED: u64 = 256 << 20;
const CHUNK: usize = 256 * 1024;

/// Whether a module of that name is the display's.
#[must_use]
pub fn is_of_display(name: &str) -> bool {
    DISPLAY_MODULES.contains(&name)
}

/// Whether QEMU has a module of that name for GL: the display's, and where a distribution builds them the virtio GPUs
/// that render with it.
#[must_use]
pub fn is_gl_module(name: &str) -> bool {
    is_of_display(name) || name.starts_with("hw-display-virtio-") && name.ends_with("-gl.so")
}

/// Whether a file of that name may be QEMU itself.
#[must_use]
pub fn is_emulator(name: &str) -> bool {
    name == "qemu-kvm"
        || name
            .strip_prefix("qemu-system-")
            .is_some_and(|arch| Arch::ALL.iter().any(|known| known.name() == arch))
}

/// What of QEMU a tree has.
#[derive(Debug)]
pub struct Qemu {
    /// QEMU itself.
    pub emulator: Option<Emulator>,
    /// Where it looks for modules, links not resolved.
    pub module_directory: String,
    /// The modules for GL that are there, by name.
    pub modules: Vec<RealPath>,
}

/// QEMU itself.
#[derive(Debug)]
pub struct Emulator {
    /// The file.
    pub path: RealPath,
    /// Which build it is; none where it does not say.
    pub build: Option<Build>,
}

/// A build of QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// The hash that its modules carry too.
    pub stamp: String,
    /// What it calls itself, as `10.1.0 (qemu-kvm-10.1.0-5.el9)`; a module does not say it.
    pub version: Option<String>,
}

impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => f.write_str(version),
            None => write!(f, "stamp {:.12}", self.stamp),
        }
    }
}

impl Qemu {
    /// Looks where Fedora, Debian and their kin put QEMU and its modules.
    ///
    /// # Errors
    /// Where the tree cannot be read.
    pub fn of(loader: &Loader<'_>) -> Result<Self, TreeError> {
        let directories = module_directories(loader);
        let mut emulator = None;
        let mut said = None;
        for path in [
            "/usr/libexec/qemu-kvm".to_owned(),
            "/usr/bin/qemu-kvm".to_owned(),
            format!("/usr/bin/qemu-system-{}", loader.arch.name()),
        ] {
            let Some(found) = loader.tree().lookup(&path)?.found() else {
                continue;
            };
            if found.file_size().is_none() {
                continue;
            }
            let marks = Marks::of_emulator(loader.tree(), &found.path, &directories)?;
            let build = marks.build();
            said = said.or(marks.directory);
            let is_it = build.is_some();
            if is_it || emulator.is_none() {
                let path = found.path;
                emulator = Some(Emulator { path, build });
            }
            if is_it {
                break;
            }
        }
        let mut qemu = Qemu {
            emulator,
            module_directory: String::new(),
            modules: Vec::new(),
        };
        for directory in said.iter().chain(&directories) {
            let modules = modules_in(loader.tree(), directory)?;
            if !modules.is_empty() {
                qemu.module_directory.clone_from(directory);
                qemu.modules = modules;
                return Ok(qemu);
            }
        }
        let mut likely = said.into_iter().chain(directories);
        qemu.module_directory = likely.next().unwrap_or_default();
        Ok(qemu)
    }

    /// Whether it has a module of that name.
    #[must_use]
    pub fn has(&self, module: &str) -> bool {
        self.modules.iter().any(|path| path.name() == module)
    }

    /// The build of the emulator, where it is known.
    #[must_use]
    pub fn build(&self) -> Option<&Build> {
        self.emulator.as_ref()?.build.as_ref()
    }
}

/// The modules for GL that a directory has, by name.
///
/// # Errors
/// Where the tree cannot be read.
pub fn modules_in(tree: &dyn Tree, directory: &str) -> Result<Vec<RealPath>, TreeError> {
    let mut modules = tree.children(directory)?;
    modules.retain(|path| is_gl_module(path.name()));
    let mut files = Vec::new();
    for module in modules {
        let found = tree.lookup(module.as_str())?.found();
        if found.is_some_and(|found| found.file_size().is_some()) {
            files.push(module);
        }
    }
    Ok(files)
}

/// Of which build a module is; none where it does not say.
///
/// # Errors
/// Where the module cannot be read.
pub fn build_of_module(tree: &dyn Tree, module: &RealPath) -> Result<Option<Build>, TreeError> {
    let Some(found) = tree.lookup(module.as_str())?.found() else {
        return Ok(None);
    };
    let mut file = tree.open(&found.path)?;
    let marks = Marks::of_module(&mut file).map_err(TreeError::io(module))?;
    Ok(marks.build())
}

/// The build that the package database of a tree says: dpkg's of QEMU's modules, or the source package that rpm recorded.
///
/// # Errors
/// Where the tree cannot be read.
pub fn packaged_version(tree: &dyn Tree) -> Result<Option<String>, TreeError> {
    let file = |path: &str| -> Result<Option<Vec<u8>>, TreeError> {
        let Some(found) = tree.lookup(path)?.found() else {
            return Ok(None);
        };
        if found.file_size().is_none_or(|size| size > MAX_SEARCHED) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut file = tree.open(&found.path)?;
        file.read_to_end(&mut bytes).map_err(TreeError::io(path))?;
        Ok(Some(bytes))
    };
    if let Some(status) = file("/var/lib/dpkg/status")? {
        return Ok(dpkg_version(&String::from_utf8_lossy(&status)));
    }
    for database in [
        "/usr/lib/sysimage/rpm/rpmdb.sqlite",
        "/var/lib/rpm/rpmdb.sqlite",
    ] {
        if let Some(bytes) = file(database)? {
            return Ok(source_rpm(&bytes));
        }
    }
    Ok(None)
}

/// `Version` of the first of Debian's packages that hold QEMU's modules for GL.
fn dpkg_version(status: &str) -> Option<String> {
    const PACKAGES: [&str; 3] = [
        "qemu-system-modules-opengl",
        "qemu-system-gui",
        "qemu-system-common",
    ];
    let field = |record: &str, key: &str| {
        let value = record.lines().find_map(|line| line.strip_prefix(key))?;
        Some(value.trim().to_owned())
    };
    let records: Vec<&str> = status.split("\n\n").collect();
    PACKAGES.iter().find_map(|package| {
        let mut records = records.iter();
        let record = records
            .find(|record| field(record, "Package:").is_some_and(|name| name == **package))?;
        Some(format!("{package} {}", field(record, "Version:")?))
    })
}

/// The source package of QEMU that every package built of it names; none where a database remembers several.
fn source_rpm(database: &[u8]) -> Option<String> {
    const START: &[u8] = b"qemu-kvm-";
    const END: &[u8] = b".src.rpm\0";
    let mut names = BTreeSet::new();
    for at in memmem::find_iter(database, START) {
        let text = database.get(at..)?;
        let text = text.get(..text.len().min(MAX_TEXT))?;
        let Some(name) = memmem::find(text, END).and_then(|end| text.get(..end)) else {
            continue;
        };
        let version = name.get(START.len()..)?;
        let is_version = version.first().is_some_and(u8::is_ascii_digit)
            && version.iter().all(u8::is_ascii_graphic);
        if is_version {
            names.insert(String::from_utf8_lossy(name).into_owned());
        }
    }
    names.pop_first().filter(|_| names.is_empty())
}

/// Where QEMU may look for modules: compiled in, and one of these.
fn module_directories(loader: &Loader<'_>) -> Vec<String> {
    let libdir = &loader.libdir;
    let mut directories = vec![
        "/usr/lib64/qemu-kvm".to_owned(),
        "/usr/lib64/qemu".to_owned(),
        format!("{libdir}/qemu"),
        format!("{libdir}/qemu-kvm"),
        "/usr/lib/qemu".to_owned(),
    ];
    // Where no QEMU says it: as its distribution lays out libraries.
    if !libdir.as_str().ends_with("/lib64") {
        directories.rotate_left(2);
    }
    directories
}

/// What is looked for in QEMU's files.
#[derive(Debug, Default)]
struct Marks {
    stamp: Option<String>,
    version: Option<String>,
    /// The first of the given directories that the file names.
    directory: Option<String>,
}

impl Marks {
    fn build(&self) -> Option<Build> {
        Some(Build {
            stamp: self.stamp.clone()?,
            version: self.version.clone(),
        })
    }

    fn of_emulator(
        tree: &dyn Tree,
        path: &RealPath,
        directories: &[String],
    ) -> Result<Self, TreeError> {
        let mut file = tree.open(path)?;
        Marks::in_emulator(&mut file, directories).map_err(TreeError::io(path))
    }

    /// In the constants of an emulator, which come last of what it has read-only, or else anywhere in it.
    fn in_emulator(file: &mut dyn ReadSeek, directories: &[String]) -> io::Result<Self> {
        let mut marks = Marks::default();
        let mut constants = Elf::read_only_segments(&mut *file).unwrap_or_default();
        constants.reverse();
        for (start, size) in constants {
            if marks.search(file, start, size, directories)? {
                return Ok(marks);
            }
        }
        if marks.stamp.is_none() {
            marks.search(file, 0, MAX_SEARCHED, directories)?;
        }
        Ok(marks)
    }

    /// Modules are small, and export the stamp as a symbol.
    fn of_module(file: &mut dyn ReadSeek) -> io::Result<Self> {
        let mut marks = Marks::default();
        marks.search(file, 0, MAX_SEARCHED, &[])?;
        Ok(marks)
    }

    /// Searches a part of a file. Returns whether nothing is left to look for.
    fn search(
        &mut self,
        file: &mut dyn ReadSeek,
        start: u64,
        size: u64,
        directories: &[String],
    ) -> io::Result<bool> {
        file.seek(SeekFrom::Start(start))?;
        let mut part = file.take(size.min(MAX_SEARCHED));
        let mut seen: Vec<u8> = Vec::with_capacity(CHUNK + MAX_TEXT);
        loop {
            let read = part.by_ref().take(CHUNK as u64).read_to_end(&mut seen)?;
            self.look_at(&seen, directories);
            if self.is_complete(directories) {
                return Ok(true);
            }
            if read < CHUNK {
                return Ok(false);
            }
            // A text may have begun at the end of what was read.
            seen.drain(..seen.len().saturating_sub(MAX_TEXT));
        }
    }

    fn is_complete(&self, directories: &[String]) -> bool {
        let is_emulator = !directories.is_empty();
        self.stamp.is_some() && (!is_emulator || self.version.is_some() && self.directory.is_some())
    }

    fn look_at(&mut self, bytes: &[u8], directories: &[String]) {
        if self.stamp.is_none() {
            self.stamp = memmem::find_iter(bytes, STAMP)
                .filter_map(|at| text(bytes.get(at + STAMP.len()..)?, 0))
                .find(|stamp| stamp.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        }
        if self.version.is_none() {
            self.version = memmem::find_iter(bytes, VERSION)
                .filter_map(|at| text(bytes.get(at + VERSION.len()..)?, b'\n'))
                .find(|version| version.starts_with(|first: char| first.is_ascii_digit()));
        }
        if self.directory.is_none() {
            let is_named = |directory: &&String| {
                let text = format!("{directory}\0");
                memmem::find(bytes, text.as_bytes()).is_some()
            };
            self.directory = directories.iter().find(is_named).cloned();
        }
    }
}

/// The text up to `end`, where it is one.
fn text(bytes: &[u8], end: u8) -> Option<String> {
    let bytes = bytes.get(..bytes.len().min(MAX_TEXT))?;
    let text = bytes.get(..memchr::memchr(end, bytes)?)?;
    let is_text = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    (!text.is_empty() && text.iter().all(is_text))
        .then(|| String::from_utf8_lossy(text).into_owned())
}

/// Reads of QEMU's files what will be read of them.
pub(super) fn read_ahead(name: &str, file: &mut dyn ReadSeek) {
    // What is wrong with a file is said when it is asked for, if it ever is. All directories that may be meant, whatever
    // the tree's library directory is.
    if is_emulator(name) {
        let directories: Vec<String> = Arch::ALL
            .iter()
            .map(|arch| format!("/usr/lib/{}/qemu", arch.multiarch()))
            .chain(["/usr/lib64/qemu-kvm", "/usr/lib64/qemu"].map(str::to_owned))
            .collect();
        let _ = Elf::read_only_segments(&mut *file);
        let _ = Marks::in_emulator(file, &directories);
    } else {
        let _ = Marks::of_module(file);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const DIRECTORY: &str = "/usr/lib64/qemu-kvm";

    #[test]
    fn marks_are_found_wherever_the_pieces_are_cut() {
        let text = b"\0qemu_stamp_%s\0qemu_stamp_0123456789abcdef\0QEMU emulator version 10.1.0 (qemu-kvm-10.1.0-5.el9)\n(c)\0/usr/lib64/qemu-kvm\0";
        for before in (CHUNK - text.len()..CHUNK).step_by(7) {
            let mut bytes = vec![b'.'; before];
            bytes.extend(text);
            bytes.extend(vec![b'.'; 3 * CHUNK]);
            let marks =
                Marks::in_emulator(&mut Cursor::new(bytes), &[DIRECTORY.to_owned()]).unwrap();
            let build = marks.build().unwrap();
            assert_eq!(build.stamp, "0123456789abcdef", "{before}");
            assert_eq!(
                build.to_string(),
                "10.1.0 (qemu-kvm-10.1.0-5.el9)",
                "{before}"
            );
            assert_eq!(marks.directory.as_deref(), Some(DIRECTORY), "{before}");
        }
    }

    #[test]
    fn names_of_gl_modules_and_emulators() {
        for name in [
            "ui-opengl.so",
            "ui-egl-headless.so",
            "hw-display-virtio-vga-gl.so",
        ] {
            assert!(is_gl_module(name), "{name}");
        }
        for name in ["ui-gtk.so", "hw-display-virtio-vga.so", "hw-display-qxl.so"] {
            assert!(!is_gl_module(name), "{name}");
        }
        assert!(is_emulator("qemu-kvm") && is_emulator("qemu-system-x86_64"));
        assert!(!is_emulator("qemu-system-arm") && !is_emulator("qemu-img"));
    }

    #[test]
    fn package_databases_name_the_build() {
        let status = "Package: bash\nVersion: 5\n\nPackage: qemu-system-common\nVersion: 1:1\n\nPackage: qemu-system-gui\nStatus: install ok installed\nVersion: 1:7.2+dfsg-7\n";
        assert_eq!(
            dpkg_version(status).as_deref(),
            Some("qemu-system-gui 1:7.2+dfsg-7")
        );
        assert_eq!(dpkg_version("Package: bash\nVersion: 5\n"), None);
        let one = b"xx\0qemu-kvm-10.1.0-5.el9.src.rpm\0..qemu-kvm-common\0qemu-kvm-10.1.0-5.el9.src.rpm\0";
        assert_eq!(source_rpm(one).as_deref(), Some("qemu-kvm-10.1.0-5.el9"));
        let two = b"qemu-kvm-10.1.0-5.el9.src.rpm\0qemu-kvm-10.1.0-4.el9.src.rpm\0";
        assert_eq!(source_rpm(two), None);
    }
}
