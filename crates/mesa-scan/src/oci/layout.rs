//! Images as an OCI layout: a directory, or an archive of it where the name ends with `.tar`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use oci_spec::image::MediaType;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::layer::digest;
use super::{Image, OciError};

const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
const BLOBS: &str = "blobs/sha256";
/// Says in an index that all of its layout is ours to replace.
const MADE_BY: (&str, &str) = ("io.mesa-injector.made-by", "mesa-scan image");

/// A part that is small enough for memory.
pub(super) struct Blob {
    pub(super) bytes: Vec<u8>,
    pub(super) digest: String,
}

impl Blob {
    pub(super) fn json(value: &Value) -> Result<Self, OciError> {
        let bytes = serde_json::to_vec(value)?;
        let mut hash = Sha256::new();
        hash.update(&bytes);
        let digest = digest(hash);
        Ok(Blob { bytes, digest })
    }

    pub(super) fn descriptor(&self, kind: &MediaType) -> Value {
        json!({"mediaType": kind, "digest": self.digest, "size": self.bytes.len()})
    }
}

/// A part of a layout.
enum Part<'a> {
    Bytes(&'a [u8]),
    File(&'a NamedTempFile),
}

/// Whether a path is to be an archive.
#[must_use]
pub(super) fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tar")
}

/// Writes images to one layout, which takes the place of an older one whole. Temporary files are made beside it.
///
/// # Errors
/// Where something else is there, or it cannot be written.
pub fn write(images: &[Image], to: &Path) -> Result<(), OciError> {
    let layout = Blob::json(&json!({"imageLayoutVersion": "1.0.0"}))?;
    let descriptors: Vec<Value> = images.iter().map(Image::descriptor).collect();
    let index = Blob::json(&json!({
        "schemaVersion": 2,
        "mediaType": MediaType::ImageIndex,
        "manifests": descriptors,
        "annotations": {MADE_BY.0: MADE_BY.1},
    }))?;
    let mut parts: BTreeMap<String, Part<'_>> = BTreeMap::new();
    for image in images {
        let blob = |digest: &str| format!("{BLOBS}/{}", digest.trim_start_matches("sha256:"));
        parts.insert(blob(&image.config.digest), Part::Bytes(&image.config.bytes));
        parts.insert(
            blob(&image.manifest.digest),
            Part::Bytes(&image.manifest.bytes),
        );
        parts.insert(blob(&image.layer.digest), Part::File(&image.layer.file));
    }
    match is_archive(to) {
        true => {
            parts.insert(LAYOUT.to_owned(), Part::Bytes(&layout.bytes));
            parts.insert(INDEX.to_owned(), Part::Bytes(&index.bytes));
            archive(&parts, to)
        }
        false => {
            // The index last: whoever reads meanwhile finds the old images or the new ones.
            directory(&parts, to)?;
            put(to, LAYOUT, &Part::Bytes(&layout.bytes))?;
            put(to, INDEX, &Part::Bytes(&index.bytes))?;
            remove_others(&parts, to)
        }
    }
}

fn archive(parts: &BTreeMap<String, Part<'_>>, to: &Path) -> Result<(), OciError> {
    let bad = |error| OciError::io(to)(error);
    let file = NamedTempFile::new_in(parent(to)).map_err(bad)?;
    let mut tar = tar::Builder::new(io::BufWriter::new(file));
    for (name, part) in parts {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_size(part.size().map_err(bad)?);
        let bytes = part.open().map_err(bad)?;
        tar.append_data(&mut header, name, bytes).map_err(bad)?;
    }
    let file = tar.into_inner().map_err(bad)?;
    let file = file.into_inner().map_err(|error| bad(error.into_error()))?;
    persist(file, to)
}

fn directory(parts: &BTreeMap<String, Part<'_>>, to: &Path) -> Result<(), OciError> {
    let is_ours = || {
        let index = fs::read(to.join(INDEX)).unwrap_or_default();
        let index: Value = serde_json::from_slice(&index).unwrap_or_default();
        index
            .pointer("/annotations")
            .and_then(|all| all.get(MADE_BY.0))
            == Some(&json!(MADE_BY.1))
    };
    let is_empty = || fs::read_dir(to).is_ok_and(|mut names| names.next().is_none());
    if to.exists() && !is_ours() && !is_empty() {
        return Err(OciError::Occupied(to.display().to_string()));
    }
    fs::create_dir_all(to.join(BLOBS)).map_err(OciError::io(to))?;
    for (name, part) in parts {
        put(to, name, part)?;
    }
    Ok(())
}

/// Writes one file of a layout.
fn put(directory: &Path, name: &str, part: &Part<'_>) -> Result<(), OciError> {
    let path = directory.join(name);
    let bad = |error| OciError::io(&path)(error);
    let mut file = NamedTempFile::new_in(parent(&path)).map_err(bad)?;
    io::copy(&mut part.open().map_err(bad)?, &mut file).map_err(bad)?;
    persist(file, &path)
}

/// Removes what an older image had.
fn remove_others(parts: &BTreeMap<String, Part<'_>>, to: &Path) -> Result<(), OciError> {
    let blobs = to.join(BLOBS);
    for entry in fs::read_dir(&blobs).map_err(OciError::io(&blobs))? {
        let entry = entry.map_err(OciError::io(&blobs))?;
        let name = format!("{BLOBS}/{}", entry.file_name().to_string_lossy());
        if !parts.contains_key(&name) {
            fs::remove_file(entry.path()).map_err(OciError::io(&entry.path()))?;
        }
    }
    Ok(())
}

/// Gives a file its name, readable by all, once it is whole.
fn persist(mut file: NamedTempFile, to: &Path) -> Result<(), OciError> {
    use std::os::unix::fs::PermissionsExt;

    let bad = |error| OciError::io(to)(error);
    file.flush().map_err(bad)?;
    let mode = fs::Permissions::from_mode(0o644);
    file.as_file().set_permissions(mode).map_err(bad)?;
    file.persist(to).map_err(|error| bad(error.error))?;
    Ok(())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

impl Part<'_> {
    fn size(&self) -> io::Result<u64> {
        match self {
            Part::Bytes(bytes) => Ok(bytes.len() as u64),
            Part::File(file) => Ok(file.as_file().metadata()?.len()),
        }
    }

    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match self {
            Part::Bytes(bytes) => Box::new(*bytes),
            Part::File(file) => Box::new(File::open(file.path())?),
        })
    }
}
