//! An image's files on a node, for clusters whose pods cannot mount the image itself.
//!
//! ```text
//! DIR/<layout>/current -> generations/<id>
//! DIR/<layout>/generations/<id>/…, mesa-injector.manifest
//! ```
//!
//! A layout is what a launcher's pod mounts and which QEMU it is for. A node has one for each launcher that there is, two
//! during an upgrade of `KubeVirt`; each is looked after by an [`install`] of its own, which holds the lock of its
//! directory as long as it lives.

pub mod image;
pub mod install;
pub mod remove;
pub mod status;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use staging::StagingError;

/// Where files and labels are.
#[derive(Debug, Clone)]
pub struct Place {
    /// The directory of all layouts.
    pub directory: PathBuf,
    /// Node Feature Discovery's file, or the directory that gets one for each layout.
    pub label: Option<PathBuf>,
}

/// What the names of label files begin with, in a directory of them.
const LABEL: &str = "mesa-injector-";

impl Place {
    /// The directory of a layout.
    #[must_use]
    pub fn of(&self, layout: &str) -> PathBuf {
        self.directory.join(layout)
    }

    /// The label of a layout, where there is to be one.
    #[must_use]
    pub fn label_of(&self, layout: &str) -> Option<PathBuf> {
        let label = self.label.as_ref()?;
        Some(match label.is_dir() {
            true => label.join(format!("{LABEL}{layout}")),
            false => label.clone(),
        })
    }

    /// The layouts that the directory has, sorted.
    ///
    /// # Errors
    /// Where it cannot be read. That it is missing is no error.
    pub fn layouts(&self) -> Result<Vec<String>, StagingError> {
        let mut layouts = names(&self.directory)?;
        layouts.retain(|name| is_layout(name) && self.of(name).is_dir());
        Ok(layouts)
    }

    /// The layouts that have labels of their own, sorted.
    fn labelled(&self) -> Result<Vec<String>, StagingError> {
        let Some(directory) = self.label.as_ref().filter(|label| label.is_dir()) else {
            return Ok(Vec::new());
        };
        let names = names(directory)?.into_iter();
        let layouts = names.filter_map(|name| Some(name.strip_prefix(LABEL)?.to_owned()));
        Ok(layouts.filter(|layout| is_layout(layout)).collect())
    }
}

/// What a directory holds, sorted; nothing where it is missing.
fn names(directory: &Path) -> Result<Vec<String>, StagingError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(StagingError::io(directory))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(StagingError::io(directory))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn is_layout(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}
