//! Labels for Node Feature Discovery, by which the policy's node selector finds nodes that are ready.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use super::{Manifest, StagingError};

/// What Node Feature Discovery puts before the names in a feature file.
const DOMAIN: &str = "feature.node.kubernetes.io";
const READY: &str = "mesa-injector.ready";
const LAYOUT: &str = "mesa-injector.layout";
/// What follows holds until then (Node Feature Discovery, local features).
const EXPIRY: &str = "# +expiry-time=";

/// The selector of nodes that `mesa-scan stage` made ready for the mounts of a layout: other nodes have others.
#[must_use]
pub fn selector(layout: &str) -> BTreeMap<String, String> {
    [(READY, "true"), (LAYOUT, layout)]
        .map(|(name, value)| (format!("{DOMAIN}/{name}"), value.to_owned()))
        .into()
}

/// The selector of nodes where an image has installed itself: one node may have several, during an upgrade of KubeVirt one
/// for each launcher, so the layout is a part of the name.
#[must_use]
pub fn selector_of_image(layout: &str) -> BTreeMap<String, String> {
    let name = format!("{DOMAIN}/{}", of_image(layout));
    BTreeMap::from([(name, "true".to_owned())])
}

fn of_image(layout: &str) -> String {
    format!("{LAYOUT}.{layout}")
}

/// What is said of a generation.
#[derive(Debug, Clone)]
pub struct Label {
    /// Whether GL loads with it.
    pub ready: bool,
    /// What its mounts are.
    pub layout: String,
    /// Whether the generation is that of an image, of which a node may have several.
    pub of_image: bool,
    /// How long that holds; for ever without.
    pub expiry: Option<Duration>,
}

/// Writes what is staged.
///
/// # Errors
/// Where the file cannot be written.
pub fn write(file: &Path, label: &Label, manifest: &Manifest) -> Result<(), StagingError> {
    let mut text = String::new();
    if let Some(expiry) = label.expiry {
        let until = humantime::format_rfc3339_seconds(SystemTime::now() + expiry);
        text += &format!("{EXPIRY}{until}\n");
    }
    text += &format!("{READY}={}\n{LAYOUT}={}\n", label.ready, label.layout);
    if label.of_image {
        text += &format!("{}={}\n", of_image(&label.layout), label.ready);
    }
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

/// Takes a label away. Returns whether there was one.
///
/// # Errors
/// Where the file cannot be removed.
pub fn remove(file: &Path) -> Result<bool, StagingError> {
    match fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StagingError::io(file)(error)),
    }
}

/// Whether the file says that the node is ready, and still holds.
///
/// # Errors
/// Where it cannot be read.
pub fn holds(file: &Path, now: SystemTime) -> Result<Held, StagingError> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Held::Missing),
        Err(error) => return Err(StagingError::io(file)(error)),
    };
    if !text.lines().any(|line| line == format!("{READY}=true")) {
        return Ok(Held::NotReady);
    }
    let expiry = text.lines().find_map(|line| line.strip_prefix(EXPIRY));
    let expiry = expiry.and_then(|until| humantime::parse_rfc3339(until).ok());
    Ok(match expiry {
        Some(until) if until <= now => Held::Expired,
        _ => Held::Ready,
    })
}

/// What a label says at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Held {
    /// The node is ready.
    Ready,
    /// The node is not.
    NotReady,
    /// It was, and nobody has renewed that.
    Expired,
    /// There is none.
    Missing,
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
