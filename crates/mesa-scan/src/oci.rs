//! A flat OCI image: all files in its root, written so that the same files give the same digest on every machine.
//!
//! ```text
//! layer    the files as one compressed tar
//! layout   images as an OCI layout: a directory, or an archive of it
//! ```

mod layer;
mod layout;
mod reference;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use indicatif::ProgressBar;
use manifests::console::Failure;
use oci_spec::image::MediaType;
use serde_json::{Value, json};

use crate::loader::Arch;

pub use layer::{File, Layer};
pub use layout::write;
pub use reference::{Reference, ReferenceError, short_name};

use layout::Blob;

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// A file of the image.
    #[error("cannot read {path}, which is to go into the image")]
    Read {
        /// Its name there.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// An update at the same moment.
    #[error("{0}: changed while it was copied")]
    Changed(String),
    /// The system refused.
    #[error("cannot write {path}")]
    Io {
        /// The file.
        path: String,
        /// What it said.
        source: io::Error,
    },
    /// Something else is there.
    #[error("{0} holds something else than images of mesa-scan, and nothing in it is touched")]
    Occupied(String),
    /// Not representable.
    #[error("cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

impl Failure for OciError {
    fn fix(&self) -> Option<String> {
        match self {
            OciError::Occupied(_) => Some("name another directory".to_owned()),
            OciError::Changed(_) => Some("run this again once the update is done".to_owned()),
            OciError::Read { .. } | OciError::Io { .. } | OciError::Json(_) => None,
        }
    }
}

impl OciError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| OciError::Io { path, source }
    }
}

/// An image that is ready to be written.
pub struct Image {
    /// The name under which it is saved.
    pub reference: Reference,
    /// The digest of its manifest: `sha256:…`.
    pub digest: String,
    layer: Layer,
    config: Blob,
    manifest: Blob,
}

impl Image {
    /// The image that has one layer. Nothing in it tells when or where it was made.
    ///
    /// # Errors
    /// Where it cannot be written as JSON.
    pub fn of(
        layer: Layer,
        arch: Arch,
        reference: Reference,
        annotations: &BTreeMap<String, String>,
    ) -> Result<Self, OciError> {
        // Written as values, whose keys are sorted: the maps of oci-spec have no order.
        let config = Blob::json(&json!({
            "architecture": arch.oci_name(),
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        }))?;
        let manifest = Blob::json(&json!({
            "schemaVersion": 2,
            "mediaType": MediaType::ImageManifest,
            "config": config.descriptor(&MediaType::ImageConfig),
            "layers": [{
                "mediaType": MediaType::ImageLayerZstd,
                "digest": layer.digest,
                "size": layer.size,
            }],
            "annotations": annotations,
        }))?;
        Ok(Image {
            reference,
            digest: manifest.digest.clone(),
            layer,
            config,
            manifest,
        })
    }

    /// The bytes of its layer: what a node pulls.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layer.size
    }

    /// What `index.json` says of it: the names are skopeo's and containerd's.
    fn descriptor(&self) -> Value {
        let mut descriptor = self.manifest.descriptor(&MediaType::ImageManifest);
        if let Value::Object(members) = &mut descriptor {
            members.insert(
                "annotations".to_owned(),
                json!({
                    "io.containerd.image.name": self.reference.to_string(),
                    "org.opencontainers.image.ref.name": self.reference.tag(),
                }),
            );
        }
        descriptor
    }
}

/// Packs files into a layer, in a temporary file in `directory`.
///
/// # Errors
/// Where a file cannot be read, or the layer cannot be written.
pub fn pack(
    files: Vec<File<'_>>,
    directory: &Path,
    progress: &ProgressBar,
) -> Result<Layer, OciError> {
    layer::pack(files, directory, progress)
}
