//! Is this pod ours, and which of its containers?

use crate::hook;
use crate::json::quoted;
use crate::pattern;
use crate::pod::{Container, Malformed, Pod};
use crate::request::Request;
use crate::settings::{ALL_CONTAINERS, Settings};
use crate::skip::{Skip, SkipReason};

/// Says whether a pod gets the mounts, `enabled` or `disabled`, whatever `injectByDefault` says.
pub const INJECT_ANNOTATION: &str = "mesa-injector.io/inject";

/// Marks the pod that `KubeVirt` runs only to have a volume bound to a node before the VM starts there.
const PROVISIONING_ANNOTATION: &str = "kubevirt.io/ephemeral-provisioning";

/// The label by which a pod asks for nodes of an architecture.
const ARCHITECTURE_LABEL: &str = "kubernetes.io/arch";

/// A pod that is ours, with the containers that the settings name.
#[derive(Debug)]
pub enum Target<'a> {
    /// Runs QEMU in these containers, at least one.
    Launcher(Vec<Container<'a>>),
    /// Fixes the node on which the launcher will run and needs no libraries itself.
    Provisioning(Vec<Container<'a>>),
}

/// Whether the pod's labels are those of `match.labels`. No other pod is touched or mentioned.
///
/// # Errors
/// The labels cannot be read.
pub fn has_labels(pod: Pod<'_>, settings: &Settings) -> Result<bool, Malformed> {
    for (key, value) in &settings.matches.labels {
        if pod.label(key)?.as_deref() != Some(value) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Finds what to inject into, in a pod whose labels match.
///
/// # Errors
/// The pod is not to be injected into, and why; the first reason of [`SkipReason::ALL`] that holds.
pub fn find<'a>(
    request: &Request<'_>,
    pod: Pod<'a>,
    settings: &Settings,
) -> Result<Target<'a>, Skip> {
    let matches = &settings.matches;
    if !matches.creators.is_empty() && !pattern::any_fits(&matches.creators, &request.user_name()) {
        return Err(SkipReason::OTHER_CREATOR.into());
    }
    if !matches.owners.is_empty() {
        let kinds = pod.owner_kinds()?;
        if !kinds
            .iter()
            .any(|kind| pattern::any_fits(&matches.owners, kind))
        {
            return Err(SkipReason::OTHER_OWNER.into());
        }
    }
    if let Some(ours) = settings.architecture {
        let wanted = pod.selected(ARCHITECTURE_LABEL)?;
        if wanted.is_some_and(|wanted| wanted != ours.as_str()) {
            return Err(SkipReason::OTHER_ARCHITECTURE.into());
        }
    }
    // Whether they can be read matters only where they are asked for.
    let containers = target_containers(pod, settings);
    let readable = || containers.as_ref().map_err(Malformed::clone);
    if !matches.images.is_empty() {
        let fits =
            |container: &Container<'_>| pattern::any_fits(&matches.images, &container.image());
        if !readable()?.iter().any(fits) {
            return Err(SkipReason::OTHER_IMAGE.into());
        }
    }
    if !matches.resources.is_empty() && !ask_for(readable()?, &matches.resources)? {
        return Err(SkipReason::NO_RESOURCE.into());
    }
    match pod.annotation(INJECT_ANNOTATION)?.as_deref() {
        Some("enabled") => {}
        None if settings.inject_by_default => {}
        None => return Err(SkipReason::NOT_OPTED_IN.into()),
        Some("disabled") => return Err(SkipReason::OPTED_OUT.into()),
        Some(other) => {
            let detail = format!("it is {}", quoted(other));
            return Err(Skip::with(SkipReason::UNKNOWN_ANNOTATION, detail));
        }
    }
    if pod.annotation(PROVISIONING_ANNOTATION)?.as_deref() == Some("true") {
        return Ok(Target::Provisioning(containers?));
    }
    let containers = containers?;
    if containers.is_empty() {
        let detail = format!("looked for {}", settings.containers.join(", "));
        return Err(Skip::with(SkipReason::NO_CONTAINER, detail));
    }
    if settings.display.is_some() && hook::Flag::among(&containers)?.is_none() {
        return Err(SkipReason::NO_HOOK_FLAG.into());
    }
    Ok(Target::Launcher(containers))
}

fn target_containers<'a>(
    pod: Pod<'a>,
    settings: &Settings,
) -> Result<Vec<Container<'a>>, Malformed> {
    let named = |container: &Container<'_>| {
        settings
            .containers
            .iter()
            .any(|name| *name == container.name)
    };
    let all = settings
        .containers
        .iter()
        .any(|name| name == ALL_CONTAINERS);
    let mut targets = pod.containers()?;
    targets.retain(|container| all || named(container));
    // A pod's container names are unique, init containers included.
    let others = settings.containers.iter().filter(|name| {
        *name != ALL_CONTAINERS && !targets.iter().any(|target| target.name == **name)
    });
    if others.count() > 0 {
        targets.extend(pod.init_containers()?.into_iter().filter(named));
    }
    Ok(targets)
}

/// Whether a container has a limit or request above zero for a resource that fits a pattern.
fn ask_for(containers: &[Container<'_>], patterns: &[String]) -> Result<bool, Malformed> {
    for container in containers {
        let mut resources = container.resources()?;
        if resources
            .any(|(name, quantity)| !is_zero(quantity.text) && pattern::any_fits(patterns, name))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a Kubernetes quantity, as JSON, is zero in any of its forms, such as `0`, `"0"`, `"0.0Gi"` and `"0e3"`.
fn is_zero(quantity: &str) -> bool {
    let quantity = quantity.trim_matches('"').trim_start_matches(['+', '-']);
    let number = quantity.split(|letter: char| !matches!(letter, '0'..='9' | '.'));
    let number = number.into_iter().next().unwrap_or_default();
    number.contains('0') && !number.contains(|letter| matches!(letter, '1'..='9'))
}
