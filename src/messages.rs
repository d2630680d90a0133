//! Everything that is said of a pod: in its status annotation, in warnings, in the audit log and in a rejection.

use std::fmt;

use crate::json::quoted;
use crate::plan::{Conflict, FoundMount};
use crate::pod::Container;
use crate::settings::Settings;
use crate::skip::Skip;

/// The longest warning that clients show whole, in characters.
const WARNING_LENGTH: usize = 120;

/// The longest status, in characters: all annotations of a pod have 256 KB together, and a detail quotes the pod.
const STATUS_LENGTH: usize = 500;

/// What the pod has in the end, whoever put it there, as in `6 mounts in compute`.
#[must_use]
pub fn injected(containers: &[Container<'_>], settings: &Settings) -> String {
    let mounts: usize = settings
        .volumes
        .iter()
        .map(|volume| volume.mounts.len())
        .sum();
    let names: Vec<&str> = containers
        .iter()
        .map(|container| &*container.name)
        .collect();
    let plural = if mounts == 1 { "" } else { "s" };
    let hook = match settings.display {
        Some(_) => ", and the hook for the display",
        None => "",
    };
    format!("{mounts} mount{plural} in {}{hook}", names.join(", "))
}

/// The status of a pod that has its mounts.
#[must_use]
pub fn injected_status(injected: &str) -> String {
    format!("injected: {injected}")
}

/// The status of a pod that was left without: the first detail, and how many more the audit log has.
#[must_use]
pub fn skipped_status(skip: &Skip) -> String {
    let sentence = skip.reason.sentence;
    let status = match &*skip.details {
        [] => format!("skipped: {sentence}"),
        [detail] => format!("skipped: {sentence}: {detail}"),
        [first, others @ ..] => {
            format!("skipped: {sentence}: {first}, and {} more", others.len())
        }
    };
    shortened(status, STATUS_LENGTH)
}

/// The warnings of a pod that was left without: one for each detail, or one if there is none.
#[must_use]
pub fn warnings(skip: &Skip) -> Vec<String> {
    let sentence = skip.reason.sentence;
    let general = format!("mesa-injector: nothing injected: {sentence}");
    if skip.details.is_empty() {
        return vec![shortened(general, WARNING_LENGTH)];
    }
    let details = skip.details.iter();
    details
        .map(|detail| shortened(format!("{general}: {detail}"), WARNING_LENGTH))
        .collect()
}

/// The message of a rejection.
#[must_use]
pub fn rejection(conflicts: &[Conflict]) -> String {
    let conflicts: Vec<String> = conflicts.iter().map(Conflict::to_string).collect();
    format!("mesa-injector: conflict: {}", conflicts.join("; "))
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Conflict::Volume { name } => write!(f, "volume {name} is there with another source"),
            Conflict::Mount {
                container,
                path,
                found,
            } => {
                write!(f, "{container} mounts ")?;
                match found {
                    FoundMount::OfVolume(volume) => write!(f, "volume {volume} at {path}"),
                    FoundMount::OfOtherSubPath => write!(f, "another sub-path at {path}"),
                    FoundMount::Writable => write!(f, "{path} writable"),
                    FoundMount::Above(volume, at) => {
                        write!(f, "volume {volume} at {at}, above {path}")
                    }
                    FoundMount::Below(volume, at) => {
                        write!(f, "volume {volume} at {at}, below {path}")
                    }
                }
            }
            Conflict::Container { name } => {
                write!(f, "container {name} is there and runs something else")
            }
            Conflict::NodeSelector { key, found, wanted } => {
                let (found, wanted) = (quoted(found), quoted(wanted));
                write!(f, "nodeSelector {key} is {found}, not {wanted}")
            }
        }
    }
}

fn shortened(text: String, most: usize) -> String {
    if text.chars().count() <= most {
        return text;
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
