//! QEMU's own part of a GL display: modules of exactly the image's build, and libepoxy.

use crate::loader::{Loader, Paths, Search};
use crate::tree::{RealPath, TreeError};

/// The modules of a GL display without a window.
const MODULES: [&str; 2] = ["ui-opengl.so", "ui-egl-headless.so"];
/// What they call GL through.
pub const EPOXY: &str = "libepoxy.so.0";

/// What of QEMU's own a tree has.
#[derive(Debug, Default)]
pub struct Qemu {
    /// The modules that are there.
    pub modules: Vec<RealPath>,
    /// The names of those that are not.
    pub missing: Vec<&'static str>,
    /// Whether the library is there through which they call GL.
    pub has_epoxy: bool,
}

impl Qemu {
    /// Looks where Fedora, Debian and their kin put QEMU's modules.
    ///
    /// # Errors
    /// Where the tree cannot be read.
    pub fn of(loader: &Loader<'_>) -> Result<Self, TreeError> {
        let mut qemu = Qemu::default();
        for module in MODULES {
            match find(loader, module)? {
                Some(path) => qemu.modules.push(path),
                None => qemu.missing.push(module),
            }
        }
        qemu.has_epoxy = matches!(loader.find(EPOXY, &Paths::default())?, Search::Found(_));
        Ok(qemu)
    }
}

fn find(loader: &Loader<'_>, module: &str) -> Result<Option<RealPath>, TreeError> {
    let libdir = &loader.libdir;
    for directory in [
        "/usr/lib64/qemu-kvm".to_owned(),
        "/usr/lib64/qemu".to_owned(),
        format!("{libdir}/qemu"),
        format!("{libdir}/qemu-kvm"),
        "/usr/lib/qemu".to_owned(),
    ] {
        let found = loader
            .tree()
            .lookup(&format!("{directory}/{module}"))?
            .found();
        if let Some(found) = found.filter(|found| found.file_size().is_some()) {
            return Ok(Some(found.path));
        }
    }
    Ok(None)
}
