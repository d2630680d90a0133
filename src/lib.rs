//! A Kubewarden policy that mounts Mesa's libraries into `KubeVirt` virt-launcher pods, and adds the hook that gives the
//! libvirt domain its GL display.
//!
//! A request goes through the modules in one direction:
//!
//! ```text
//! payload ─ request ─ decide ─ response ─ answer
//!                       │
//!                       ├─ settings   what was asked for
//!                       ├─ target     is the pod ours, which containers?   ─▶ skip
//!                       └─ plan       what is missing, what is in the way? ─▶ pod::Edit
//!                            └─ hook  the sidecar for the domain's display
//! ```
//!
//! [`request`] reads what the policy server sends, [`mod@decide`] goes through the rows of the table in `docs/settings.md`,
//! and [`response`] writes the answer. [`skip`] is the table of reasons, [`messages`] has every sentence that is said of a
//! pod, and [`pod`] reads a pod and extends its text. [`json`], [`path`] and [`pattern`] know nothing of all that.
//! [`settings`] is the schema that `mesa-scan` writes too. Nothing but the entry points in this file knows waPC.

pub mod decide;
pub mod hook;
pub mod json;
pub mod messages;
pub mod path;
pub mod pattern;
pub mod plan;
pub mod pod;
pub mod request;
pub mod response;
pub mod settings;
pub mod skip;
pub mod target;

use decide::Outcome;
use request::Request;
use settings::Settings;
use skip::{Skip, SkipReason};

/// Answers a payload of `validate`, whatever its bytes.
#[must_use]
pub fn validate(payload: &[u8]) -> String {
    match Request::parse(payload) {
        Ok(request) => response::validation(&decide::decide(&request)),
        Err(error) => {
            let skip = Skip::with(SkipReason::MALFORMED_REQUEST, error);
            response::validation(&Outcome::Skipped(skip, None))
        }
    }
}

/// Answers a payload of `validate_settings`, whatever its bytes.
#[must_use]
pub fn validate_settings(payload: &[u8]) -> String {
    let settings = Settings::from_json(&String::from_utf8_lossy(payload));
    response::settings_validation(settings.err().as_ref())
}

/// Answers `protocol_version`: the version of Kubewarden's protocol that the functions above speak.
#[must_use]
pub fn protocol_version() -> String {
    "\"v1\"".to_owned()
}

#[cfg(target_family = "wasm")]
mod guest {
    //! The functions as waPC calls them. None of them fails: a failed call rejects the pod.

    use wapc_guest::register_function;

    #[unsafe(no_mangle)]
    #[allow(unsafe_code, reason = "waPC finds the entry point by its name")]
    extern "C" fn wapc_init() {
        register_function("validate", |payload| {
            Ok(crate::validate(payload).into_bytes())
        });
        register_function("validate_settings", |payload| {
            Ok(crate::validate_settings(payload).into_bytes())
        });
        register_function("protocol_version", |_| {
            Ok(crate::protocol_version().into_bytes())
        });
    }
}
