//! A directory of generations: copies of GL's files, which an update of the node does not change.
//!
//! ```text
//! DIR/current -> generations/<content id>
//! DIR/generations/<content id>/{lib,dri,gbm,egl_vendor.d,drirc.d}/…, manifest.json
//! ```
//!
//! A generation is built under another name, made durable and then renamed; `current` is flipped last, by a rename too.
//! Whenever this is interrupted, `current` leads to a complete generation, the old or the new one. Containers that run
//! keep the generation that they were started with.

mod area;
mod generation;
mod in_use;
pub mod label;
mod selinux;

use std::io;
use std::path::Path;

use manifests::console::Failure;

use crate::text::human_size;
use crate::tree::TreeError;

pub use area::{Area, CURRENT};
pub use generation::{Addition, Generation};
pub use selinux::{Context, Selinux};

/// Why nothing was staged. The generation that was current still is.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// The node's files.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Somebody else is at it.
    #[error("{0}: another mesa-scan stages there")]
    Locked(String),
    /// Others could change what containers load.
    #[error("{path}: {what}")]
    Unsafe {
        /// The directory.
        path: String,
        /// What is wrong with it.
        what: String,
        /// What to do about it.
        fix: &'static str,
    },
    /// The disk is full.
    #[error("{path}: no space left on the device, the files have {needed}")]
    NoSpace {
        /// What was written.
        path: String,
        /// How much all of it needs.
        needed: String,
    },
    /// The system refused.
    #[error("cannot read or write {path}")]
    Io {
        /// The file.
        path: String,
        /// What it said.
        source: io::Error,
    },
    /// Not the node's processes.
    #[error("cannot tell which generations are in use by {0}")]
    Proc(String, #[source] io::Error),
    /// An update of the node at the same moment.
    #[error("{0}: changed while it was copied")]
    Changed(String),
}

impl Failure for StagingError {
    fn fix(&self) -> Option<String> {
        let fix = match self {
            StagingError::Tree(error) => return error.fix(),
            StagingError::Io { .. } => return None,
            StagingError::Proc(..) => {
                "show the node's: a container needs the host's process namespace (hostPID), or the node's proc mounted"
            }
            StagingError::Locked(_) => "wait until it is done",
            StagingError::Unsafe { fix, .. } => fix,
            StagingError::NoSpace { .. } => "free some, or stage elsewhere",
            StagingError::Changed(_) => "run this again once the node's update is done",
        };
        Some(fix.to_owned())
    }
}

impl StagingError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| StagingError::Io { path, source }
    }

    /// Says of a full disk how much is needed.
    #[must_use]
    pub fn with_size(self, bytes: u64) -> Self {
        match self {
            StagingError::Io { path, source }
                if matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                let needed = human_size(bytes);
                StagingError::NoSpace { path, needed }
            }
            other => other,
        }
    }
}
