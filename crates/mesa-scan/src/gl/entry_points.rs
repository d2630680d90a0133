//! Where GL begins: the libraries that programs ask for, the vendors that libglvnd finds, the drivers that Mesa loads.

use super::vendor::{PassedOver, Vendor};
use crate::loader::{Loader, Paths, Search};
use crate::tree::{RealPath, Tree, TreeError};

/// The libraries that programs ask for by name. libepoxy, and so QEMU, opens them at run time.
pub const LIBRARIES: [&str; 7] = [
    "libEGL.so.1",
    "libGL.so.1",
    "libGLESv2.so.2",
    "libGLX.so.0",
    "libGLdispatch.so.0",
    "libOpenGL.so.0",
    GBM,
];

/// The library that finds buffers, next to which Mesa keeps its drivers.
const GBM: &str = "libgbm.so.1";

/// Mesa's backend of GBM.
const MESA_GBM: &str = "dri_gbm.so";

/// Where Mesa looks for what applications need of it; compiled in.
pub const DRIRC_DIRECTORY: &str = "/usr/share/drirc.d";

/// What a tree offers to begin with.
#[derive(Debug, Default)]
pub struct EntryPoints {
    /// The vendors in libglvnd's order.
    pub vendors: Vec<Vendor>,
    /// The vendor JSON files that libglvnd passes over.
    pub passed_over: Vec<PassedOver>,
    /// `dri/*_dri.so`.
    pub dri: Vec<RealPath>,
    /// `gbm/*_gbm.so`: Mesa asks for a name and no more (`gbm/main/backend.c`).
    pub gbm: Vec<RealPath>,
    /// `drirc.d/*.conf`.
    pub drirc: Vec<RealPath>,
}

impl EntryPoints {
    /// Finds the entries of a tree, with drivers in `drivers`' `dri/` and `gbm/`.
    ///
    /// # Errors
    /// Where the tree cannot be read.
    pub fn of(tree: &dyn Tree, drivers: &RealPath) -> Result<Self, TreeError> {
        let files = |directory: &str, suffix: &str| -> Result<Vec<RealPath>, TreeError> {
            let mut files = tree.children(directory)?;
            files.retain(|path| path.name().ends_with(suffix));
            Ok(files)
        };
        let (vendors, passed_over) = Vendor::of(tree)?;
        Ok(EntryPoints {
            dri: files(&format!("{drivers}/dri"), "_dri.so")?,
            gbm: files(&format!("{drivers}/gbm"), "_gbm.so")?,
            drirc: files(DRIRC_DIRECTORY, ".conf")?,
            vendors,
            passed_over,
        })
    }

    /// The names to load: of the well-known libraries those that `loader` has, the vendors' and the drivers.
    ///
    /// # Errors
    /// Where the tree cannot be read.
    pub fn names(&self, loader: &Loader<'_>) -> Result<Vec<String>, TreeError> {
        let mut names = Vec::new();
        for name in LIBRARIES.into_iter().map(str::to_owned) {
            if !matches!(loader.find(&name, &Paths::default())?, Search::Absent(why) if why.is_empty())
            {
                names.push(name);
            }
        }
        for vendor in &self.vendors {
            names.push(vendor.library.clone());
            if let Some(glx) = glx_of(&vendor.library)
                && let Search::Found(_) = loader.find(&glx, &Paths::default())?
            {
                names.push(glx);
            }
        }
        names.extend(self.drivers().map(ToString::to_string));
        Ok(names)
    }

    /// Takes the vendors away that libEGL cannot load, as long as one is left that it can. Whatever of the others is missing
    /// is then no matter.
    ///
    /// # Errors
    /// Where the tree cannot be read.
    pub fn pass_over(
        &mut self,
        mut lacks: impl FnMut(&Vendor) -> Result<Option<String>, TreeError>,
    ) -> Result<(), TreeError> {
        // The only one stays, whatever it lacks: as on most nodes, which then are not read twice.
        if self.vendors.len() < 2 {
            return Ok(());
        }
        let (mut usable, mut others) = (Vec::new(), Vec::new());
        for vendor in &self.vendors {
            match lacks(vendor)? {
                None => usable.push(vendor.clone()),
                Some(why) => others.push(PassedOver {
                    json: vendor.json.clone(),
                    why,
                }),
            }
        }
        if usable.iter().any(|vendor| !vendor.is_relative) {
            self.vendors = usable;
            self.passed_over.append(&mut others);
        }
        Ok(())
    }

    /// Takes NVIDIA's driver away, and says what of it there was. Half of it is opened by names that only it knows, and all
    /// of it must be of the kernel module's version: NVIDIA's own toolkit brings it where it is needed.
    pub fn leave_out_nvidia(&mut self) -> Vec<RealPath> {
        let of_nvidia = self.vendors.iter().filter(|vendor| vendor.is_nvidia());
        let mut left_out: Vec<RealPath> = of_nvidia.map(|vendor| vendor.json.clone()).collect();
        self.vendors.retain(|vendor| !vendor.is_nvidia());
        let is_nvidias = |path: &RealPath| path.name().starts_with("nvidia");
        left_out.extend(self.gbm.iter().filter(|path| is_nvidias(path)).cloned());
        self.gbm.retain(|path| !is_nvidias(path));
        left_out
    }

    /// Mesa's own backend of GBM, which newer Mesa has and opens by this name; others are other drivers'.
    pub fn mesa_gbm(&self) -> impl Iterator<Item = &RealPath> {
        self.gbm.iter().filter(|path| path.name() == MESA_GBM)
    }

    /// `dri/` and `gbm/` together.
    pub fn drivers(&self) -> impl Iterator<Item = &RealPath> {
        self.dri.iter().chain(&self.gbm)
    }
}

/// The directory whose `dri/` and `gbm/` a tree's Mesa searches: compiled in, and always that of its libraries.
///
/// # Errors
/// Where the tree cannot be read.
pub fn driver_directory(loader: &Loader<'_>) -> Result<RealPath, TreeError> {
    Ok(match loader.find(GBM, &Paths::default())? {
        Search::Found(library) => library.path.parent(),
        Search::Absent(_) | Search::Broken { .. } => loader.libdir.clone(),
    })
}

/// `libGLX_mesa.so.0` for `libEGL_mesa.so.0`.
fn glx_of(library: &str) -> Option<String> {
    let (directory, name) = match library.rsplit_once('/') {
        Some((directory, name)) => (format!("{directory}/"), name),
        None => (String::new(), library),
    };
    let vendor = name.strip_prefix("libEGL_")?.split(".so").next()?;
    Some(format!("{directory}libGLX_{vendor}.so.0"))
}
