//! A directory of generations: copies of GL's files, which an update of the node does not change.
//!
//! ```text
//! DIR/current -> generations/<content id>
//! DIR/generations/<content id>/…, and a manifest
//! ```
//!
//! A generation is built under another name, made durable and then renamed; `current` is flipped last, by a rename too.
//! Whenever this is interrupted, `current` leads to a complete generation, the old or the new one. Containers that run
//! keep the generation that they were started with.
//!
//! What is in a generation comes from elsewhere: `mesa-scan stage` finds it on a node, `mesa-node install` in the image
//! that it lies in.

mod area;
mod generation;
mod in_use;
pub mod label;
mod manifest;
mod selinux;

use std::io;
use std::path::Path;

use manifests::console::Failure;

pub use area::{Area, CURRENT, Pruned, current};
pub use generation::{Generation, Original, sha256};
pub use in_use::User;
pub use manifest::{FLAT_MANIFEST, MANIFEST, Manifest, ManifestError, StagedFile};
pub use selinux::{Context, Selinux};

/// Where a node has the files unless told otherwise.
pub const DIRECTORY: &str = "/var/lib/mesa-injector";

/// Hears how many bytes more are done.
pub type Progress<'a> = &'a dyn Fn(u64);

/// Why nothing was staged. The generation that was current still is.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// Somebody else is at it.
    #[error("{0}: another mesa-scan stages there, or mesa-node installs")]
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
    /// An update of the node at the same moment, or an image that is damaged.
    #[error("{0}: changed while it was copied")]
    Changed(String),
}

impl Failure for StagingError {
    fn fix(&self) -> Option<String> {
        let fix = match self {
            StagingError::Io { .. } => return None,
            StagingError::Proc(..) => {
                "show the node's: a container needs the host's process namespace (hostPID), or the node's proc mounted, and \
                 where that hides processes (hidepid) the capability SYS_PTRACE"
            }
            StagingError::Locked(_) => "wait until it is done",
            StagingError::Unsafe { fix, .. } => fix,
            StagingError::NoSpace { .. } => "free some, or stage elsewhere",
            StagingError::Changed(_) => {
                "run this again once the node's update is done; of an image, pull it again"
            }
        };
        Some(fix.to_owned())
    }
}

impl StagingError {
    /// Names the file of an error.
    #[must_use = "it makes the error"]
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| StagingError::Io { path, source }
    }

    /// Says of a full disk how many bytes are needed, `shown` as people read them.
    #[must_use]
    pub fn with_size(self, shown: &str) -> Self {
        match self {
            StagingError::Io { path, source }
                if matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                let needed = shown.to_owned();
                StagingError::NoSpace { path, needed }
            }
            other => other,
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes in the unit that suits them, powers of ten.
#[must_use]
pub fn human_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.95 {
            return match unit {
                "B" => format!("{bytes} B"),
                unit => format!("{value:.1} {unit}"),
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::human_size;

    #[test]
    fn sizes_have_the_unit_that_suits_them() {
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (25_766_648, "25.8 MB"),
            (u64::MAX, "18446744.1 TB"),
        ] {
            assert_eq!(human_size(bytes), expected);
        }
    }
}
