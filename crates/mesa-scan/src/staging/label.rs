//! Labels for Node Feature Discovery, by which the policy's node selector finds nodes that are ready.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::{fs, io};

use super::{Generation, StagingError};

/// What Node Feature Discovery puts before the names in a feature file.
const DOMAIN: &str = "feature.node.kubernetes.io";
const READY: &str = "mesa-injector.ready";

/// The selector of nodes that are ready.
#[must_use]
pub fn selector() -> BTreeMap<String, String> {
    BTreeMap::from([(format!("{DOMAIN}/{READY}"), "true".to_owned())])
}

/// Writes what is staged.
///
/// # Errors
/// Where the file cannot be written.
pub fn write(file: &Path, ready: bool, generation: &Generation<'_>) -> Result<(), StagingError> {
    let manifest = generation.manifest();
    let mut text = format!("{READY}={ready}\n");
    if let Some(version) = &manifest.mesa {
        text += &format!("mesa-injector.mesa={}\n", label_value(version));
    }
    if let Some(version) = &manifest.minimal_glibc {
        text += &format!("mesa-injector.glibc={version}\n");
    }
    replace(file, &text).map_err(StagingError::io(file))
}

/// Writes that nothing is staged.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_not_ready(file: &Path) -> Result<(), StagingError> {
    replace(file, &format!("{READY}=false\n")).map_err(StagingError::io(file))
}

/// Replaces the file at once. Node Feature Discovery passes over the dot file that it is first.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(file).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let directory = match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut new = tempfile::Builder::new()
        .prefix(".")
        .tempfile_in(directory)?;
    new.write_all(text.as_bytes())?;
    new.as_file()
        .set_permissions(fs::Permissions::from_mode(0o644))?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    fs::File::open(directory)?.sync_all()
}

/// A version as a label may hold it: letters, digits and `-_.`, at most 63.
fn label_value(version: &str) -> String {
    let letter = |letter: char| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => letter,
        _ => '_',
    };
    let value: String = version.chars().map(letter).take(63).collect();
    value.trim_end_matches(['-', '_', '.']).to_owned()
}
