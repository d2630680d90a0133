//! From a request to what is to be said of it: the rows of the table in `docs/settings.md`, from the top.

use crate::messages;
use crate::plan::{Conflict, NoPlan, Plan};
use crate::pod::{Edit, Malformed, Pod};
use crate::request::Request;
use crate::settings::{OnConflict, Settings};
use crate::skip::{Skip, SkipReason};
use crate::target::{self, Target};

/// Records in the pod what was done to it: the client that sees the warnings is `KubeVirt`, not the user.
pub const STATUS_ANNOTATION: &str = "mesa-injector.io/status";

/// What is to be said of a request.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// Not a launcher pod, or one that has everything: accepted, and nothing is said.
    Untouched,
    /// Accepted without mounts. The edit holds what the pod gets all the same: a record of the reason, or what decides on
    /// its node.
    Skipped(Skip, Option<Edit<'a>>),
    /// Accepted with what was missing.
    Injected {
        /// What is added.
        edit: Edit<'a>,
        /// What the pod has now, for the audit log.
        injected: String,
    },
    /// Rejected.
    Rejected(Vec<Conflict>),
}

/// Decides what happens to a request.
#[must_use]
pub fn decide<'a>(request: &'a Request<'a>) -> Outcome<'a> {
    if !request.creates_pod() {
        return Outcome::Untouched;
    }
    let settings = match Settings::from_json(request.settings()) {
        Ok(settings) => settings,
        Err(problems) => {
            let skip = Skip::with(SkipReason::INVALID_SETTINGS, problems.to_string());
            return Outcome::Skipped(skip, None);
        }
    };
    let Some(object) = request.object() else {
        let malformed = Malformed("the request has none".to_owned());
        return Outcome::Skipped(malformed.into(), None);
    };
    let pod = Pod::new(object);
    match target::has_labels(pod, &settings) {
        Ok(true) => {}
        Ok(false) => return Outcome::Untouched,
        Err(malformed) => return Outcome::Skipped(malformed.into(), None),
    }
    match target::find(request, pod, &settings) {
        Ok(target) => inject(pod, &target, &settings),
        Err(skip) => skipped(pod, skip, &settings),
    }
}

fn inject<'a>(pod: Pod<'a>, target: &Target<'_>, settings: &Settings) -> Outcome<'a> {
    let plan = match Plan::new(pod, target, settings) {
        Ok(plan) => plan,
        Err(NoPlan::Malformed(malformed)) => return skipped(pod, malformed.into(), settings),
        Err(NoPlan::Conflicts(conflicts)) if settings.on_conflict == OnConflict::Reject => {
            return Outcome::Rejected(conflicts);
        }
        Err(NoPlan::Conflicts(conflicts)) => {
            let skip = Skip {
                reason: SkipReason::CONFLICT,
                details: conflicts.iter().map(ToString::to_string).collect(),
            };
            return skipped(pod, skip, settings);
        }
    };
    let mut edit = plan.apply(pod);
    match target {
        Target::Provisioning(_) => {
            let edit = Some(edit).filter(|edit| !edit.is_empty());
            Outcome::Skipped(SkipReason::PROVISIONING.into(), edit)
        }
        Target::Launcher(_) if edit.is_empty() => Outcome::Untouched,
        Target::Launcher(containers) => {
            let injected = messages::injected(containers, settings);
            let status = messages::injected_status(&injected);
            // Whatever an earlier pass said, or somebody else: from now on this is true.
            if settings.annotate && pod.annotation(STATUS_ANNOTATION) != Ok(Some((&*status).into()))
            {
                edit.annotate(STATUS_ANNOTATION, &status);
            }
            Outcome::Injected { edit, injected }
        }
    }
}

/// A skip that warns is recorded in the pod, unless the pod has a status already.
fn skipped<'a>(pod: Pod<'a>, skip: Skip, settings: &Settings) -> Outcome<'a> {
    if !skip.reason.warns || !settings.annotate || pod.annotation(STATUS_ANNOTATION) != Ok(None) {
        return Outcome::Skipped(skip, None);
    }
    let mut edit = Edit::new(pod);
    edit.annotate(STATUS_ANNOTATION, &messages::skipped_status(&skip));
    Outcome::Skipped(skip, Some(edit))
}
