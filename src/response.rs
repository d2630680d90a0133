//! What we found, as Kubewarden's `ValidationResponse`.
//!
//! The SDK's type holds the mutated object as a parsed value, which would write the pod anew. Ours holds it as text
//! and leaves out what is absent, which the policy server reads as null.

use crate::inject::Conflict;
use crate::json::{Quoted, quote};
use crate::pod::Edit;
use crate::settings::Problems;
use crate::target::Skip;

/// What is to be said of a request.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// Not a launcher pod, or one that has everything: accepted, and nothing is said.
    Untouched,
    /// Accepted without mounts. The edit holds what the pod gets all the same: a record of the reason, or a
    /// node selector.
    Skipped(Skip, Option<Edit<'a>>),
    /// Accepted with what was missing.
    Injected {
        /// What is added.
        edit: Edit<'a>,
        /// What the pod has now, for the audit log.
        status: String,
    },
    /// Rejected.
    Rejected(Vec<Conflict>),
}

/// The HTTP status of a rejection: the pod conflicts with what the settings ask for.
const CONFLICT: u16 = 409;

/// The longest warning that clients show whole, in characters.
const WARNING_LENGTH: usize = 120;

/// The answer to `validate`.
#[must_use]
pub fn validation(outcome: Outcome<'_>) -> String {
    match outcome {
        Outcome::Untouched => "{\"accepted\":true}".to_owned(),
        Outcome::Injected { edit, status } => {
            let mut response = String::from("{\"accepted\":true");
            mutated_object(&edit, &mut response);
            audit_annotations(&[("injected", &status)], &mut response);
            response + "}"
        }
        Outcome::Skipped(skip, edit) => {
            let mut response = String::from("{\"accepted\":true");
            if let Some(edit) = edit {
                mutated_object(&edit, &mut response);
            }
            let text = skip.reason.text();
            let details = skip.details.join("; ");
            let mut audit = vec![("skip-reason", text.id)];
            if !details.is_empty() {
                audit.push(("skip-detail", &details));
            }
            audit_annotations(&audit, &mut response);
            if text.warns {
                warnings(text.sentence, &skip.details, &mut response);
            }
            response + "}"
        }
        Outcome::Rejected(conflicts) => {
            let conflicts: Vec<String> = conflicts.iter().map(Conflict::to_string).collect();
            let message = format!("mesa-injector: conflict: {}", conflicts.join("; "));
            let message = Quoted(&message);
            format!("{{\"accepted\":false,\"message\":{message},\"code\":{CONFLICT}}}")
        }
    }
}

fn mutated_object(edit: &Edit<'_>, response: &mut String) {
    // The pod is nearly all of the answer: room for it and the rest, so that it is copied only once.
    response.reserve(edit.len() + 1024);
    response.push_str(",\"mutated_object\":");
    edit.write(response);
}

fn audit_annotations(annotations: &[(&str, &str)], response: &mut String) {
    let mut open = ",\"audit_annotations\":{";
    for (key, value) in annotations {
        response.push_str(open);
        quote(key, response);
        response.push(':');
        quote(value, response);
        open = ",";
    }
    response.push('}');
}

/// One warning for each detail, or one without.
fn warnings(sentence: &str, details: &[String], response: &mut String) {
    let mut open = ",\"warnings\":[";
    let mut warn = |warning: String| {
        response.push_str(open);
        quote(&shortened(&warning), response);
        open = ",";
    };
    if details.is_empty() {
        warn(format!("mesa-injector: nothing injected: {sentence}"));
    }
    for detail in details {
        warn(format!(
            "mesa-injector: nothing injected: {sentence}: {detail}"
        ));
    }
    response.push(']');
}

fn shortened(warning: &str) -> String {
    if warning.chars().count() <= WARNING_LENGTH {
        return warning.to_owned();
    }
    warning
        .chars()
        .take(WARNING_LENGTH - 1)
        .chain(['…'])
        .collect()
}

/// The answer to `validate_settings`.
#[must_use]
pub fn settings_validation(problems: Option<&Problems>) -> String {
    match problems {
        None => "{\"valid\":true}".to_owned(),
        Some(problems) => {
            let message = problems.to_string();
            let message = Quoted(&message);
            format!("{{\"valid\":false,\"message\":{message}}}")
        }
    }
}
