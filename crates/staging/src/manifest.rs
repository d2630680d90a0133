//! What a generation holds: a file of it, and of a flat image that is to become one.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hex;

/// The manifest of a generation whose directories are mounted, not its root.
pub const MANIFEST: &str = "manifest.json";
/// The manifest of a flat image, and of a generation made of it. Its root is mounted where readers go by the ends of names:
/// nobody reads this one.
pub const FLAT_MANIFEST: &str = "mesa-injector.manifest";
/// Hexadecimal digits of an id.
const ID_LENGTH: usize = 32;

/// What a generation holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Made of the paths and bytes of all files: the same files have the same, wherever they come from.
    pub id: String,
    /// What a launcher's pod mounts of it and which QEMU it is for, in hexadecimal digits; where that is fixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// The architecture, as `uname` says it.
    pub arch: String,
    /// Mesa's version, where its drivers say one.
    pub mesa: Option<String>,
    /// The oldest glibc that all of it can load with.
    pub minimal_glibc: Option<String>,
    /// Sorted by their paths.
    pub files: Vec<StagedFile>,
}

/// A file of a generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StagedFile {
    /// Below the generation.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Of its bytes, in hexadecimal digits.
    pub sha256: String,
    /// Where it came from.
    pub source: String,
    /// Of an ELF file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// Whether it is a program.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// Why a text is no manifest that could be followed.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not a manifest.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// It names something that no generation has.
    #[error("{0}")]
    Invalid(String),
}

impl Manifest {
    /// The manifest of these files, with the id that follows from them.
    #[must_use]
    pub fn of(files: impl IntoIterator<Item = StagedFile>, arch: &str) -> Self {
        let mut files: Vec<StagedFile> = files.into_iter().collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Manifest {
            id: content_id(&files),
            layout: None,
            arch: arch.to_owned(),
            mesa: None,
            minimal_glibc: None,
            files,
        }
    }

    /// Reads a manifest, and believes nothing of it that could lead out of a generation.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Manifest = serde_json::from_slice(text)?;
        let invalid = |what: String| Err(ManifestError::Invalid(what));
        let mut paths = BTreeSet::new();
        for StagedFile { path, .. } in &manifest.files {
            let mut parts = Path::new(path).components();
            let is_below = parts.all(|part| matches!(part, Component::Normal(_)));
            if path.is_empty() || !is_below {
                return invalid(format!("{path:?} is no path below a generation"));
            }
            if !paths.insert(path) {
                return invalid(format!("{path:?} is there twice"));
            }
        }
        if content_id(&manifest.files) != manifest.id {
            return invalid(format!("{:?} is not the id of these files", manifest.id));
        }
        let is_plain = |layout: &String| {
            !layout.is_empty() && layout.len() < 40 && layout.bytes().all(|b| b.is_ascii_hexdigit())
        };
        if let Some(layout) = manifest.layout.as_ref().filter(|layout| !is_plain(layout)) {
            return invalid(format!("{layout:?} is no layout"));
        }
        Ok(manifest)
    }

    /// The text of its file.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        // Nothing in it fails to be JSON.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// The bytes of all files.
    #[must_use]
    pub fn total_size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// Whether a name is one of a generation.
pub(crate) fn is_id(name: &str) -> bool {
    name.len() == ID_LENGTH && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The same files with the same bytes have the same id, wherever they come from.
fn content_id(files: &[StagedFile]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        hash.update(format!("{} {}\n", file.sha256, file.path));
    }
    hex(&hash.finalize()).chars().take(ID_LENGTH).collect()
}
