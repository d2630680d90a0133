//! What was decided, as Kubewarden's `ValidationResponse`.
//!
//! The SDK's type holds the mutated object as a parsed value, which would write the pod again. Ours leaves room for the
//! pod's text behind its own members, and leaves out what is not there, which the policy server reads as null.

use crate::decide::Outcome;
use crate::json::{list, object, quoted};
use crate::messages;
use crate::pod::Edit;
use crate::settings::Problems;
use crate::skip::Skip;

/// The HTTP status of a rejection: the pod conflicts with what the settings ask for.
const CONFLICT: u16 = 409;

/// The answer to `validate`.
#[must_use]
pub fn validation(outcome: &Outcome<'_>) -> String {
    let accepted = ("accepted", "true".to_owned());
    match outcome {
        Outcome::Untouched => object(&[accepted]),
        Outcome::Injected { edit, injected } => {
            let audit = audit_annotations(&[("injected", quoted(injected))]);
            with_object(object(&[accepted, audit]), edit)
        }
        Outcome::Skipped(skip, edit) => {
            let response = object(&skipped(accepted, skip));
            match edit {
                Some(edit) => with_object(response, edit),
                None => response,
            }
        }
        Outcome::Rejected(conflicts) => object(&[
            ("accepted", "false".to_owned()),
            ("message", quoted(&messages::rejection(conflicts))),
            ("code", CONFLICT.to_string()),
        ]),
    }
}

/// A member of the response, of a value that is JSON.
type Member = (&'static str, String);

fn skipped(accepted: Member, skip: &Skip) -> Vec<Member> {
    let mut audit = vec![("skip-reason", quoted(skip.reason.id))];
    if !skip.details.is_empty() {
        audit.push(("skip-detail", quoted(&skip.details.join("; "))));
    }
    let mut members = vec![accepted, audit_annotations(&audit)];
    if skip.reason.warns {
        let warnings = messages::warnings(skip);
        let warnings: Vec<String> = warnings.iter().map(|it| quoted(it)).collect();
        members.push(("warnings", list(&warnings)));
    }
    members
}

fn audit_annotations(annotations: &[Member]) -> Member {
    ("audit_annotations", object(annotations))
}

/// The answer to `validate_settings`.
#[must_use]
pub fn settings_validation(problems: Option<&Problems>) -> String {
    let mut members = vec![("valid", problems.is_none().to_string())];
    members.extend(problems.map(|problems| ("message", quoted(&problems.to_string()))));
    object(&members)
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
