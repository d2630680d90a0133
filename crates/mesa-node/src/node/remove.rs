//! `mesa-node remove`: the node as it was, but for what containers still have mounted.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use staging::label;
use staging::{Area, StagingError};

use super::Place;

/// What was removed, and what was not.
#[derive(Debug, Default)]
pub struct Removed {
    /// What is gone, a line each.
    pub gone: Vec<String>,
    /// What stays and why, a line each.
    pub stays: Vec<String>,
}

/// Removes labels first, then every generation that no container has mounted; of one layout, or of all.
///
/// # Errors
/// Where something cannot be read or removed.
pub fn remove(place: &Place, only: Option<&str>, proc: &Path) -> Result<Removed, StagingError> {
    let mut removed = Removed::default();
    let there: BTreeSet<String> = place.layouts()?.into_iter().collect();
    let labelled = place.labelled()?;
    let all: BTreeSet<String> = there.iter().cloned().chain(labelled).collect();
    let wanted = all
        .iter()
        .filter(|layout| only.is_none_or(|only| only == *layout));
    for layout in wanted {
        let area = match there
            .contains(layout)
            .then(|| Area::open(&place.of(layout)))
        {
            Some(Err(StagingError::Locked(_))) => {
                removed.stays.push(format!(
                    "layout {layout} stays: an install looks after it; delete its DaemonSet first"
                ));
                continue;
            }
            area => area.transpose()?,
        };
        if let Some(file) = place.label_of(layout) {
            removed.label(&file)?;
        }
        let Some(area) = area else { continue };
        let pruned = area.remove(proc)?;
        let gone = pruned.removed.iter();
        removed
            .gone
            .extend(gone.map(|id| format!("generation {id} of layout {layout} is removed")));
        let mounted = pruned.mounted.iter();
        removed.stays.extend(mounted.map(|(id, user)| {
            format!("generation {id} of layout {layout} stays: {user} has it mounted")
        }));
    }
    // A label without files is wrong whoever wrote it.
    if let Some(file) = place.label.as_ref().filter(|label| label.is_file())
        && all.is_empty()
    {
        removed.label(file)?;
    }
    // Where it is a mount, or somebody else has something there, it stays.
    let _ = fs::remove_dir(&place.directory);
    Ok(removed)
}

impl Removed {
    fn label(&mut self, file: &Path) -> Result<(), StagingError> {
        if label::remove(file)? {
            self.gone
                .push(format!("the label {} is removed", file.display()));
        }
        Ok(())
    }
}
