//! Where GL begins: the libraries that programs ask for, the vendors that libglvnd finds, the drivers that Mesa loads.

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

/// Where packages put the vendors of libglvnd.
pub const VENDOR_DIRECTORY: &str = "/usr/share/glvnd/egl_vendor.d";

/// Where libglvnd looks for vendors, in this order; compiled into libEGL.
pub const VENDOR_DIRECTORIES: [&str; 2] = ["/etc/glvnd/egl_vendor.d", VENDOR_DIRECTORY];

/// Where Mesa looks for what applications need of it; compiled in.
pub const DRIRC_DIRECTORY: &str = "/usr/share/drirc.d";

/// The most bytes of a vendor JSON.
const MAX_VENDOR: u64 = 64 * 1024;

/// What a tree offers to begin with.
#[derive(Debug, Default)]
pub struct EntryPoints {
    /// The vendors in libglvnd's order.
    pub vendors: Vec<Vendor>,
    /// What is wrong with the other vendor JSON files.
    pub bad_vendors: Vec<BadVendor>,
    /// `dri/*_dri.so`.
    pub dri: Vec<RealPath>,
    /// `gbm/*_gbm.so`: Mesa asks for a name and no more (`gbm/main/backend.c`).
    pub gbm: Vec<RealPath>,
    /// `drirc.d/*.conf`.
    pub drirc: Vec<RealPath>,
}

/// A vendor of libglvnd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vendor {
    /// The JSON file.
    pub json: RealPath,
    /// The library that it names: a soname, or an absolute path.
    pub library: String,
    /// Whether the file says a path relative to itself. libEGL hands that to `dlopen`, which takes it from the process's
    /// working directory, so that the library is found by accident only.
    pub is_relative: bool,
}

/// A vendor JSON that libglvnd does not understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadVendor {
    /// The file.
    pub json: RealPath,
    /// What is wrong with it.
    pub what: String,
}

#[derive(serde::Deserialize)]
struct VendorJson {
    file_format_version: String,
    #[serde(rename = "ICD")]
    icd: Icd,
}

#[derive(serde::Deserialize)]
struct Icd {
    library_path: String,
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
        let mut entries = EntryPoints {
            dri: files(&format!("{drivers}/dri"), "_dri.so")?,
            gbm: files(&format!("{drivers}/gbm"), "_gbm.so")?,
            drirc: files(DRIRC_DIRECTORY, ".conf")?,
            ..EntryPoints::default()
        };
        for directory in VENDOR_DIRECTORIES {
            for json in files(directory, ".json")? {
                match Vendor::read(tree, &json)? {
                    Ok(vendor) => entries.vendors.push(vendor),
                    Err(what) => entries.bad_vendors.push(BadVendor { json, what }),
                }
            }
        }
        Ok(entries)
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

impl Vendor {
    /// Reads a vendor JSON as libglvnd does (`libeglvendor.c`), or says what is wrong with it.
    fn read(tree: &dyn Tree, json: &RealPath) -> Result<Result<Self, String>, TreeError> {
        let Some(entry) = tree.lookup(json.as_str())?.found() else {
            return Ok(Err("a dangling link".to_owned()));
        };
        if entry.file_size().is_none() {
            return Ok(Err("not a regular file".to_owned()));
        }
        let text = match tree.read_text(&entry.path, MAX_VENDOR) {
            Ok(text) => text,
            Err(TreeError::Invalid { what, .. }) => return Ok(Err(what)),
            Err(error) => return Err(error),
        };
        Ok(match serde_json::from_str(&text) {
            Ok(vendor) => Vendor::of(json, vendor),
            Err(error) => Err(format!("not a vendor file as libglvnd reads it: {error}")),
        })
    }

    fn of(json: &RealPath, vendor: VendorJson) -> Result<Self, String> {
        let version = vendor.file_format_version;
        let mut numbers = version.split('.');
        if numbers.next() != Some("1") || !matches!(numbers.next(), None | Some("0")) {
            return Err(format!(
                "file_format_version {version:?} is not 1.0, which libglvnd reads"
            ));
        }
        let library = vendor.icd.library_path;
        if library.is_empty() {
            return Err("ICD.library_path is empty".to_owned());
        }
        let is_relative = library.contains('/') && !library.starts_with('/');
        Ok(Vendor {
            json: json.clone(),
            library: match is_relative {
                true => format!("{}/{library}", json.parent()),
                false => library,
            },
            is_relative,
        })
    }
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
