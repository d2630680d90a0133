//! Labels for Node Feature Discovery, by which the policy's node selector finds nodes that are ready.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use super::{Generation, StagingError};

/// What Node Feature Discovery puts before the names in a feature file.
const DOMAIN: &str = "feature.node.kubernetes.io";
const READY: &str = "mesa-injector.ready";
const LAYOUT: &str = "mesa-injector.layout";

/// The selector of nodes that are ready for the mounts of a layout: other nodes have others.
#[must_use]
pub fn selector(layout: &str) -> BTreeMap<String, String> {
    [(READY, "true"), (LAYOUT, layout)]
        .map(|(name, value)| (format!("{DOMAIN}/{name}"), value.to_owned()))
        .into()
}

/// What is said of a generation.
#[derive(Debug, Clone)]
pub struct Label {
    /// Whether GL loads with it.
    pub ready: bool,
    /// What its mounts are.
    pub layout: String,
    /// How long that holds; for ever without.
    pub expiry: Option<Duration>,
}

/// Writes what is staged.
///
/// # Errors
/// Where the file cannot be written.
pub fn write(file: &Path, label: &Label, generation: &Generation<'_>) -> Result<(), StagingError> {
    let manifest = generation.manifest();
    let mut text = String::new();
    if let Some(expiry) = label.expiry {
        let until = humantime::format_rfc3339_seconds(SystemTime::now() + expiry);
        text += &format!("# +expiry-time={until}\n");
    }
    text += &format!("{READY}={}\n{LAYOUT}={}\n", label.ready, label.layout);
    if let Some(version) = &manifest.mesa {
        text += &format!("mesa-injector.mesa={}\n", label_value(version));
    }
    if let Some(version) = &manifest.minimal_glibc {
        text += &format!("mesa-injector.glibc={version}\n");
    }
    replace(file, &text).map_err(StagingError::io(file))
}

/// Writes that the node is not ready.
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
