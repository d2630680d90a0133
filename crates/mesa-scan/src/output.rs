//! What a scan is written as: for people, for the policy, for other tools.

mod cdi;
mod manifest;
mod policy;
mod settings;
mod table;

pub use cdi::cdi;
pub use manifest::manifest;
pub use manifests::POLICY_MODULE;
pub use policy::policy;
pub use settings::{NodeSelector, settings};
pub use table::{table, verdict};

use manifests::console::Failure;
use mesa_injector::settings::Problems;

/// Why something cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// What we wrote is not what the policy accepts.
    #[error("the policy would not accept what was found")]
    Refused(#[source] Problems),
    /// Not representable.
    #[error(transparent)]
    Write(#[from] manifests::WriteError),
    /// Not representable.
    #[error("cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

impl Failure for OutputError {
    fn fix(&self) -> Option<String> {
        match self {
            OutputError::Refused(_) => {
                Some("correct these paths on the node, or mount them by hand".to_owned())
            }
            OutputError::Write(_) | OutputError::Json(_) => None,
        }
    }
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
