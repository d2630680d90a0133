//! The image that this program lies in: a flat image of `mesa-scan image`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use manifests::console::Failure;
use staging::{FLAT_MANIFEST, Generation, Manifest, ManifestError, Original};

/// A flat image's files.
#[derive(Debug)]
pub struct FlatImage {
    root: PathBuf,
    manifest: Manifest,
    /// What its pods mount and which QEMU it is for.
    pub layout: String,
}

/// Why a directory is not the root of a flat image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No manifest.
    #[error("cannot read {path}, which lists the files of the image")]
    Read {
        /// The manifest.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A manifest of something else.
    #[error("{path} is no list of an image's files")]
    Manifest {
        /// The manifest.
        path: String,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// A generation that `stage` has made.
    #[error("{0} does not say its layout")]
    NoLayout(String),
}

impl Failure for ImageError {
    fn fix(&self) -> Option<String> {
        Some("run this in an image that `mesa-scan image` has made".to_owned())
    }
}

impl FlatImage {
    /// Opens the image whose root is at `root`.
    ///
    /// # Errors
    /// Where it is not one.
    pub fn open(root: &Path) -> Result<Self, ImageError> {
        let path = root.join(FLAT_MANIFEST);
        let shown = path.display().to_string();
        let text = fs::read(&path).map_err(|source| ImageError::Read {
            path: shown.clone(),
            source,
        })?;
        let manifest = Manifest::parse(&text).map_err(|source| ImageError::Manifest {
            path: shown.clone(),
            source,
        })?;
        let layout = manifest.layout.clone();
        Ok(FlatImage {
            root: root.to_owned(),
            layout: layout.ok_or(ImageError::NoLayout(shown))?,
            manifest,
        })
    }

    /// Its files as a generation.
    #[must_use]
    pub fn generation(&self) -> Generation<'static> {
        let files = self.manifest.files.iter().map(|file| {
            let path = self.root.join(&file.path);
            let original = Original {
                on_this_machine: Some(path.clone()),
                open: Box::new(move || Ok(Box::new(File::open(&path)?) as Box<dyn Read>)),
            };
            (file.path.clone(), original)
        });
        let files: BTreeMap<String, Original<'static>> = files.collect();
        Generation::new(self.manifest.clone(), FLAT_MANIFEST, files)
    }
}
