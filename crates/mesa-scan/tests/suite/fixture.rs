//! Small roots made for one test: a node with GL, an image without.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use mesa_scan::commands::scan::{ScanError, scan};
use mesa_scan::commands::{Root as Place, SourceError, Sources};
use mesa_scan::gl::Item;
use mesa_scan::gl::Layout;
use mesa_scan::loader::Arch;
use mesa_scan::output::Scan;
use tempfile::TempDir;

use crate::elf::{Library, library};

/// A root that is removed with its owner.
pub(crate) struct Root(TempDir);

impl Root {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Root(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.path().join(path.trim_start_matches('/'))
    }

    pub(crate) fn file(&self, path: &str, bytes: impl AsRef<[u8]>) -> &Self {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    pub(crate) fn library(&self, path: &str, library: &Library) -> &Self {
        self.file(path, library.bytes())
    }

    pub(crate) fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    pub(crate) fn directory(&self, path: &str) -> &Self {
        fs::create_dir_all(self.at(path)).unwrap();
        self
    }
}

/// The library directory of a layout.
pub(crate) fn libdir(arch: Arch, multiarch: bool) -> String {
    match multiarch {
        true => format!("/usr/lib/{}", arch.multiarch()),
        false => "/usr/lib64".to_owned(),
    }
}

/// A glibc of some version in a root.
pub(crate) fn glibc(root: &Root, arch: Arch, multiarch: bool, newest: u32) {
    let libdir = libdir(arch, multiarch);
    let mut libc = library("libc.so.6").arch(arch);
    for version in 17..=newest {
        libc = libc.defines(&format!("GLIBC_2.{version}"));
    }
    root.library(&format!("{libdir}/libc.so.6"), &libc);
    if !root.at("/lib").exists() {
        root.directory("/usr/lib").directory("/usr/lib64");
        root.link("/lib", "usr/lib").link("/lib64", "usr/lib64");
    }
}

/// An image with a glibc of that version, and nothing else.
pub(crate) fn image(arch: Arch, multiarch: bool, newest: u32) -> Root {
    let root = Root::new();
    glibc(&root, arch, multiarch, newest);
    root
}

/// A node with GL in a few small files, needing glibc 2.34.
pub(crate) fn node(arch: Arch, multiarch: bool) -> Root {
    let root = Root::new();
    glibc(&root, arch, multiarch, 36);
    let libdir = libdir(arch, multiarch);
    let put = |name: &str, library: Library| {
        root.library(
            &format!("{libdir}/{name}"),
            &library.requires("libc.so.6", "GLIBC_2.34"),
        );
    };
    let gl = |name: &str| library(name).arch(arch);
    put("libGLdispatch.so.0", gl("libGLdispatch.so.0"));
    for name in [
        "libEGL.so.1",
        "libGL.so.1",
        "libGLESv2.so.2",
        "libGLX.so.0",
        "libOpenGL.so.0",
    ] {
        put(name, gl(name).needs("libGLdispatch.so.0"));
    }
    put("libgbm.so.1", gl("libgbm.so.1").needs("libdrm.so.2"));
    put("libdrm.so.2", gl("libdrm.so.2"));
    put(
        "libgallium-1.2.3.so",
        gl("libgallium-1.2.3.so").needs("libdrm.so.2"),
    );
    put(
        "libEGL_mesa.so.0",
        gl("libEGL_mesa.so.0")
            .needs("libgallium-1.2.3.so")
            .needs("libgbm.so.1"),
    );
    put(
        "libGLX_mesa.so.0",
        gl("libGLX_mesa.so.0").needs("libgallium-1.2.3.so"),
    );
    put(
        "dri/swrast_dri.so",
        gl("swrast_dri.so").needs("libgallium-1.2.3.so"),
    );
    put(
        "gbm/dri_gbm.so",
        gl("dri_gbm.so").needs("libgallium-1.2.3.so"),
    );
    vendor(&root, "50_mesa.json", "libEGL_mesa.so.0");
    root.file("/usr/share/drirc.d/00-mesa-defaults.conf", "<driconf/>");
    root
}

/// An `ld.so.cache` of names and paths, as `ldconfig` of today writes it for x86_64: sorted by name from the last to the first.
pub(crate) fn cache(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut entries = entries.to_vec();
    entries.sort();
    entries.reverse();
    let texts_at = 48 + 24 * entries.len();
    let mut texts = Vec::new();
    let mut text = |text: &str| {
        let at = texts_at + texts.len();
        texts.extend(text.as_bytes());
        texts.push(0);
        at as u32
    };
    let mut records = Vec::new();
    for (name, path) in &entries {
        for number in [0x0303, text(name), text(path), 0, 0, 0] {
            records.extend(number.to_le_bytes());
        }
    }
    let mut bytes = b"glibc-ld.so.cache1.1".to_vec();
    for number in [entries.len() as u32, texts.len() as u32, 2, 0, 0, 0, 0] {
        bytes.extend(number.to_le_bytes());
    }
    [bytes, records, texts].concat()
}

/// A vendor JSON.
pub(crate) fn vendor(root: &Root, name: &str, library_path: &str) {
    root.file(
        &format!("/usr/share/glvnd/egl_vendor.d/{name}"),
        format!(
            r#"{{"file_format_version": "1.0.0", "ICD": {{"library_path": "{library_path}"}}}}"#
        ),
    );
}

/// A scan with the base of the staged layout that is not there.
pub(crate) fn scan_of(node: &Root, image: &Root, layout: Layout) -> Result<Scan, ScanError> {
    scan_paths(node.path(), image.path(), layout)
}

pub(crate) fn scan_paths(node: &Path, image: &Path, layout: Layout) -> Result<Scan, ScanError> {
    let sources = sources(node, image)?;
    scan(&sources, layout, "/var/lib/mesa-injector/current")
}

/// A node's root and an image.
pub(crate) fn sources(node: &Path, image: &Path) -> Result<Sources, SourceError> {
    Sources::open(&Place::at(node), Some(&Place::at(image)), None)
}

/// The names that would be mounted.
pub(crate) fn names(scan: &Scan) -> Vec<&str> {
    scan.files
        .items
        .iter()
        .map(|item| item.name.as_str())
        .collect()
}

/// The item of the set that has a name.
pub(crate) fn item<'s>(scan: &'s Scan, name: &str) -> &'s Item {
    let mut items = scan.files.items.iter();
    items.find(|item| item.name == name).unwrap()
}

/// An error with its causes, in one line.
pub(crate) fn complaint(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The notes as one text.
pub(crate) fn notes(scan: &Scan) -> String {
    let notes: Vec<String> = scan.findings.notes().map(ToString::to_string).collect();
    notes.join("\n")
}

/// The reasons as one text.
pub(crate) fn reasons(scan: &Scan) -> String {
    let reasons: Vec<String> = scan.findings.fatal().map(ToString::to_string).collect();
    reasons.join("\n")
}
