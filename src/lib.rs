//! A Kubewarden policy that mounts a node's Mesa libraries into `KubeVirt` virt-launcher pods.
//!
//! A request goes through the modules in one direction:
//!
//! ```text
//! payload ─ request ─ target ─ inject ─ pod ─ response ─ answer
//!              └──── json ────────────────┘
//! ```
//!
//! [`request`] reads what the policy server sends, [`target`] says whether the pod is ours, [`inject`] what it lacks and
//! what is in the way, [`pod`] adds it to the pod's text, and [`response`] says so. [`settings`] is the schema that
//! `mesa-scan` writes too, and [`policy`] walks the whole way. Nothing but the entry points in this file knows waPC.

pub mod inject;
pub mod json;
pub mod pod;
pub mod policy;
pub mod request;
pub mod response;
pub mod settings;
pub mod target;

use request::Request;
use response::Outcome;
use settings::Settings;
use target::{Skip, SkipReason};

/// Answers a payload of `validate`, whatever its bytes.
#[must_use]
pub fn validate(payload: &[u8]) -> String {
    match Request::parse(payload) {
        Ok(request) => response::validation(policy::decide(&request)),
        Err(error) => {
            let skip = Skip::with(SkipReason::MalformedRequest, error);
            response::validation(Outcome::Skipped(skip, None))
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
