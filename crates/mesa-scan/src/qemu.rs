//! QEMU's own part of a GL display: modules of exactly the image's build, and libepoxy.

use crate::ldso::{Loader, Paths, Search};
use crate::tree::{RealPath, TreeError};

/// The modules of a GL display without a window.
const MODULES: [&str; 2] = ["ui-opengl.so", "ui-egl-headless.so"];
/// What they call GL through.
const EPOXY: &str = "libepoxy.so.0";

/// What of QEMU's own a tree has.
#[derive(Debug, Default)]
pub struct Qemu {
    /// The modules that are there.
    pub modules: Vec<RealPath>,
    /// What is not, each in a sentence with the mend.
    pub absent: Vec<String>,
}

impl Qemu {
    /// Looks where Fedora, Debian and their kin put QEMU's modules.
    ///
    /// # Errors
    /// Where the tree cannot be read.
    pub fn of(loader: &Loader<'_>) -> Result<Self, TreeError> {
        let mut qemu = Qemu::default();
        let mut absent = Vec::new();
        for module in MODULES {
            match find(loader, module)? {
                Some(path) => qemu.modules.push(path),
                None => absent.push(module),
            }
        }
        if !absent.is_empty() {
            qemu.absent.push(format!(
                "the image has no {}: QEMU there has no GL display, whatever is mounted; add the packages of the image's \
                 exact QEMU build (qemu-kvm-ui-opengl and qemu-kvm-ui-egl-headless, or qemu-system-modules-opengl)",
                absent.join(" and no ")
            ));
        }
        if !matches!(loader.find(EPOXY, &Paths::default())?, Search::Found(_)) {
            qemu.absent.push(format!(
                "the image has no {EPOXY}, which QEMU's GL modules need; add libepoxy to the image"
            ));
        }
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
