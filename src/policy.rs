//! From a request to what is to be said of it: the rows of the table in `docs/settings.md`, from the top.

use crate::inject::{NoPlan, Plan};
use crate::pod::{Container, Edit, Malformed, Pod};
use crate::request::Request;
use crate::response::Outcome;
use crate::settings::{OnConflict, Settings};
use crate::target::{self, Skip, SkipReason, Target};

/// Records in the pod what was done to it: the client that sees the warnings is `KubeVirt`, not the user.
pub const STATUS_ANNOTATION: &str = "mesa-injector.io/status";

/// Decides what happens to a request.
#[must_use]
pub fn decide<'a>(request: &'a Request<'a>) -> Outcome<'a> {
    if !request.creates_pod() {
        return Outcome::Untouched;
    }
    let settings = match Settings::from_json(request.settings()) {
        Ok(settings) => settings,
        Err(problems) => {
            return skipped(Skip::with(
                SkipReason::InvalidSettings,
                problems.to_string(),
            ));
        }
    };
    let Some(object) = request.object() else {
        return skipped(Malformed("the request has none".to_owned()).into());
    };
    let pod = Pod::new(object);
    match target::has_labels(pod, &settings) {
        Ok(true) => {}
        Ok(false) => return Outcome::Untouched,
        Err(malformed) => return skipped(malformed.into()),
    }
    match target::find(request, pod, &settings) {
        Ok(Target::Launcher(containers)) => launcher(pod, &containers, &settings),
        Ok(Target::Provisioning) => provisioning(pod, &settings),
        Err(skip) => skipped(skip),
    }
}

fn skipped<'a>(skip: Skip) -> Outcome<'a> {
    Outcome::Skipped(skip, None)
}

fn launcher<'a>(pod: Pod<'a>, containers: &[Container<'a>], settings: &Settings) -> Outcome<'a> {
    let plan = match Plan::for_launcher(pod, containers, settings) {
        Ok(plan) => plan,
        Err(no_plan) => return without_plan(pod, no_plan, settings),
    };
    let mut edit = plan.apply(pod);
    if edit.is_empty() {
        return Outcome::Untouched;
    }
    let status = status(containers, settings);
    record(&mut edit, pod, &format!("injected: {status}"), settings);
    Outcome::Injected { edit, status }
}

fn provisioning<'a>(pod: Pod<'a>, settings: &Settings) -> Outcome<'a> {
    match Plan::for_provisioning(pod, settings) {
        Ok(plan) => {
            let edit = Some(plan.apply(pod)).filter(|edit| !edit.is_empty());
            Outcome::Skipped(SkipReason::Provisioning.into(), edit)
        }
        Err(no_plan) => without_plan(pod, no_plan, settings),
    }
}

fn without_plan<'a>(pod: Pod<'a>, no_plan: NoPlan, settings: &Settings) -> Outcome<'a> {
    let conflicts = match no_plan {
        NoPlan::Malformed(malformed) => return skipped(malformed.into()),
        NoPlan::Conflicts(conflicts) => conflicts,
    };
    if settings.on_conflict == OnConflict::Reject {
        return Outcome::Rejected(conflicts);
    }
    let skip = Skip {
        reason: SkipReason::Conflict,
        details: conflicts.iter().map(ToString::to_string).collect(),
    };
    let mut edit = Edit::new(pod);
    record(&mut edit, pod, &skipped_status(&skip), settings);
    Outcome::Skipped(skip, Some(edit).filter(|edit| !edit.is_empty()))
}

/// Annotates the pod, unless it is annotated already: a second pass says the same as the first.
fn record(edit: &mut Edit<'_>, pod: Pod<'_>, status: &str, settings: &Settings) {
    if settings.annotate && pod.annotation(STATUS_ANNOTATION) == Ok(None) {
        edit.annotate(STATUS_ANNOTATION, status);
    }
}

/// The first thing that is in the way, and how many more there are: the audit log has them all.
fn skipped_status(skip: &Skip) -> String {
    let first = skip.details.first().map_or("", String::as_str);
    match skip.details.len() {
        0 | 1 => format!("skipped: conflict: {first}"),
        several => format!("skipped: conflict: {first}, and {} more", several - 1),
    }
}

/// What the pod has in the end, whoever put it there.
fn status(containers: &[Container<'_>], settings: &Settings) -> String {
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
    format!("{mounts} mount{plural} in {}", names.join(", "))
}
