//! `mesa-node status`: what a node has, and whether it is sound.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;
use staging::label::{self, Held};
use staging::{CURRENT, FLAT_MANIFEST, Manifest, StagingError};

use super::Place;

/// What a node has.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Of this form.
    pub version: u32,
    /// Whether there is something, all of it is whole, and the labels say so.
    pub ready: bool,
    /// Sorted by name.
    pub layouts: Vec<LayoutStatus>,
}

/// The files for one launcher.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayoutStatus {
    /// Its name.
    pub layout: String,
    /// The id of the generation that new containers get; none where all that is left is what old containers have.
    pub generation: Option<String>,
    /// Mesa's version, where its drivers say one.
    pub mesa: Option<String>,
    /// What is wrong with the files.
    pub problem: Option<String>,
    /// What the label says now, where one was asked for.
    pub label: Option<Held>,
}

impl LayoutStatus {
    /// Whether new containers can have it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.problem.is_none() && self.label.is_none_or(|label| label == Held::Ready)
    }

    /// Whether it is only left for containers that have it mounted.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.generation.is_none()
    }
}

/// Looks at one layout, or at all. Sizes are compared always, checksums where they are asked for: these take a second.
///
/// # Errors
/// Where the directory cannot be read.
pub fn status(
    place: &Place,
    only: Option<&str>,
    with_checksums: bool,
) -> Result<Status, StagingError> {
    let mut layouts = Vec::new();
    for layout in place.layouts()? {
        if only.is_none_or(|only| only == layout) {
            layouts.push(of(place, layout, with_checksums)?);
        }
    }
    let live = || layouts.iter().filter(|layout| !layout.is_retired());
    Ok(Status {
        version: 1,
        ready: live().next().is_some() && live().all(LayoutStatus::is_ready),
        layouts,
    })
}

fn of(place: &Place, layout: String, with_checksums: bool) -> Result<LayoutStatus, StagingError> {
    let current = place.of(&layout).join(CURRENT);
    let generation = staging::current(&place.of(&layout));
    let label = match (&generation, place.label_of(&layout)) {
        (Some(_), Some(file)) => Some(label::holds(&file, SystemTime::now())?),
        _ => None,
    };
    let mut status = LayoutStatus {
        layout,
        generation,
        mesa: None,
        problem: None,
        label,
    };
    if status.generation.is_some() {
        match judge(&current, with_checksums) {
            Ok(manifest) => status.mesa = manifest.mesa,
            Err(problem) => status.problem = Some(problem),
        }
    }
    Ok(status)
}

/// What a generation holds, where it is what its own manifest says.
///
/// # Errors
/// The first thing that is not so.
pub(super) fn judge(directory: &Path, with_checksums: bool) -> Result<Manifest, String> {
    let text = fs::read(directory.join(FLAT_MANIFEST));
    let text = text.map_err(|error| format!("{FLAT_MANIFEST}: {error}"))?;
    let manifest = Manifest::parse(&text).map_err(|error| format!("{FLAT_MANIFEST}: {error}"))?;
    for file in &manifest.files {
        let there = fs::metadata(directory.join(&file.path));
        let there = there.map_err(|error| format!("{}: {error}", file.path))?;
        if there.len() != file.size {
            let size = there.len();
            return Err(format!(
                "{}: {size} bytes instead of {}",
                file.path, file.size
            ));
        }
    }
    if with_checksums && !manifest.is_at(directory) {
        return Err("a file has other bytes than the image's".to_owned());
    }
    Ok(manifest)
}
