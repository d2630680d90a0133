//! What was decided, as Kubewarden's `ValidationResponse`.
//!
//! The SDK's type holds the mutated object as a parsed value, which would write the pod anew. Ours leaves room for the
//! pod's text behind its own members, and leaves out what is not there, which the policy server reads as null.

use crate::decide::Outcome;
use crate::json::{list, object, quoted};
use crate::messages;
use crate::pod::Edit;
use crate::settings::Problems;

/// The HTTP status of a rejection: the pod conflicts with what the settings ask for.
const CONFLICT: u16 = 409;

/// The answer to `validate`.
#[must_use]
pub fn validation(outcome: &Outcome<'_>) -> String {
    match outcome {
        Outcome::Untouched => response(true, []),
        Outcome::Injected { edit, injected } => {
            let audit = object([("injected", quoted(injected))]);
            with_object(response(true, [("audit_annotations", audit)]), edit)
        }
        Outcome::Skipped(skip, edit) => {
            let reason = ("skip-reason", quoted(skip.reason.id));
            let details = skip.details.join("; ");
            let detail = Some(("skip-detail", quoted(&details))).filter(|_| !details.is_empty());
            let audit = object([reason].into_iter().chain(detail));
            let warnings = || {
                let warnings = messages::warnings(skip);
                let warnings: Vec<String> = warnings.iter().map(|it| quoted(it)).collect();
                ("warnings", list(&warnings))
            };
            let warnings = skip.reason.warns.then(warnings);
            let audit = [("audit_annotations", audit)];
            let response = response(true, audit.into_iter().chain(warnings));
            match edit {
                Some(edit) => with_object(response, edit),
                None => response,
            }
        }
        Outcome::Rejected(conflicts) => {
            let message = quoted(&messages::rejection(conflicts));
            response(
                false,
                [("message", message), ("code", CONFLICT.to_string())],
            )
        }
    }
}

fn response(accepted: bool, members: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let accepted = [("accepted", accepted.to_string())];
    object(accepted.into_iter().chain(members))
}

/// The answer to `validate_settings`.
#[must_use]
pub fn settings_validation(problems: Option<&Problems>) -> String {
    let message = problems.map(|problems| ("message", quoted(&problems.to_string())));
    let valid = [("valid", problems.is_none().to_string())];
    object(valid.into_iter().chain(message))
}

/// Adds the pod as the last member of a response.
fn with_object(mut response: String, edit: &Edit<'_>) -> String {
    const KEY: &str = ",\"mutated_object\":";
    response.pop();
    // The pod is nearly all of the answer: it is copied only once.
    response.reserve_exact(KEY.len() + edit.len() + 1);
    response.push_str(KEY);
    edit.write(&mut response);
    response.push('}');
    response
}
