//! What a scan is written as: for people, for the policy, for other tools.

mod json;
mod policy;
mod report;
mod settings;
mod table;

pub use json::{check, image, scan, stage};
pub use manifests::POLICY_MODULE;
pub use policy::{image_policy, policy};
pub use report::{Imaged, Made, Scan, Staged, System};
pub use settings::{Delivery, ImageVolume, image_settings, settings, staged_settings};
pub use table::{findings, table};

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
