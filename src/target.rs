//! Is this pod ours, and which of its containers?

use crate::json::Quoted;
use crate::pod::{Container, Malformed, Pod};
use crate::request::Request;
use crate::settings::{ALL_CONTAINERS, Settings};

/// Says whether a pod gets the mounts, `enabled` or `disabled`, whatever `injectByDefault` says.
pub const INJECT_ANNOTATION: &str = "mesa-injector.io/inject";

/// Marks the pod that `KubeVirt` runs only to have a volume bound to a node before the VM starts there.
const PROVISIONING_ANNOTATION: &str = "kubevirt.io/ephemeral-provisioning";

/// A pod that is ours.
#[derive(Debug)]
pub enum Target<'a> {
    /// Runs QEMU in these containers.
    Launcher(Vec<Container<'a>>),
    /// Fixes the node on which the launcher will run and needs no libraries itself.
    Provisioning,
}

/// Why a pod is left without mounts. What each one is called and says stands in [`SkipReason::text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table says it")]
pub enum SkipReason {
    MalformedRequest,
    InvalidSettings,
    MalformedPod,
    OtherCreator,
    OtherOwner,
    NoResource,
    OptedOut,
    NotOptedIn,
    UnknownAnnotation,
    Provisioning,
    NoContainer,
    Conflict,
}

/// What is said of a skipped pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkipText {
    /// The value of audit annotation `skip-reason`, which is never renamed.
    pub id: &'static str,
    /// The warning, without what is particular to the pod.
    pub sentence: &'static str,
    /// Whether the client is warned: the user most likely wanted the mounts.
    pub warns: bool,
}

impl SkipReason {
    /// Every reason, in the order in which they are looked for.
    pub const ALL: [SkipReason; 12] = [
        SkipReason::MalformedRequest,
        SkipReason::InvalidSettings,
        SkipReason::MalformedPod,
        SkipReason::OtherCreator,
        SkipReason::OtherOwner,
        SkipReason::NoResource,
        SkipReason::OptedOut,
        SkipReason::NotOptedIn,
        SkipReason::UnknownAnnotation,
        SkipReason::Provisioning,
        SkipReason::NoContainer,
        SkipReason::Conflict,
    ];

    /// What is said of the reason.
    #[must_use]
    #[rustfmt::skip]
    pub fn text(self) -> SkipText {
        let (id, sentence, warns) = match self {
            SkipReason::MalformedRequest => ("malformed-request", "the request cannot be read", true),
            SkipReason::InvalidSettings => ("invalid-settings", "the policy's settings are invalid", true),
            SkipReason::MalformedPod => ("malformed-pod", "the pod cannot be read", true),
            SkipReason::OtherCreator => ("other-creator", "the pod's creator is not in match.creators", false),
            SkipReason::OtherOwner => ("other-owner", "the pod's owner is not in match.owners", false),
            SkipReason::NoResource => ("no-resource", "no container asks for a resource of match.resources", false),
            SkipReason::OptedOut => ("opted-out", "annotation mesa-injector.io/inject is disabled", false),
            SkipReason::NotOptedIn => ("not-opted-in", "annotation mesa-injector.io/inject is not enabled", false),
            SkipReason::UnknownAnnotation => ("unknown-annotation", "annotation mesa-injector.io/inject is neither enabled nor disabled", true),
            SkipReason::Provisioning => ("provisioning-pod", "the pod only provisions a volume", false),
            SkipReason::NoContainer => ("no-container", "the pod has no container of the settings", true),
            SkipReason::Conflict => ("conflict", "conflict", true),
        };
        SkipText { id, sentence, warns }
    }
}

/// A pod that is left without mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// Why.
    pub reason: SkipReason,
    /// What is particular to this pod; may be empty.
    pub details: Vec<String>,
}

impl Skip {
    /// A skip with one detail.
    #[must_use]
    pub fn with(reason: SkipReason, detail: String) -> Self {
        Skip {
            reason,
            details: vec![detail],
        }
    }
}

impl From<SkipReason> for Skip {
    fn from(reason: SkipReason) -> Self {
        Skip {
            reason,
            details: Vec::new(),
        }
    }
}

impl From<Malformed> for Skip {
    fn from(malformed: Malformed) -> Self {
        Skip::with(SkipReason::MalformedPod, malformed.0)
    }
}

/// Whether the pod's labels are those of `match.labels`. All other pods are none of our business.
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
    if !matches.creators.is_empty() {
        let user = request.user_name();
        if !matches.creators.iter().any(|creator| *creator == user) {
            return Err(SkipReason::OtherCreator.into());
        }
    }
    if !matches.owners.is_empty() {
        let kinds = pod.owner_kinds()?;
        if !kinds
            .iter()
            .any(|kind| matches.owners.iter().any(|owner| owner == kind))
        {
            return Err(SkipReason::OtherOwner.into());
        }
    }
    if !matches.resources.is_empty() {
        let containers = target_containers(pod, settings)?;
        if !asks_for(&containers, &matches.resources)? {
            return Err(SkipReason::NoResource.into());
        }
    }
    match pod.annotation(INJECT_ANNOTATION)?.as_deref() {
        Some("enabled") => {}
        None if settings.inject_by_default => {}
        None => return Err(SkipReason::NotOptedIn.into()),
        Some("disabled") => return Err(SkipReason::OptedOut.into()),
        Some(other) => {
            return Err(Skip::with(
                SkipReason::UnknownAnnotation,
                format!("it is {}", Quoted(other)),
            ));
        }
    }
    if pod.annotation(PROVISIONING_ANNOTATION)?.as_deref() == Some("true") {
        return Ok(Target::Provisioning);
    }
    let containers = target_containers(pod, settings)?;
    if containers.is_empty() {
        let names = settings.containers.join(", ");
        return Err(Skip::with(
            SkipReason::NoContainer,
            format!("looked for {names}"),
        ));
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

fn asks_for(containers: &[Container<'_>], patterns: &[String]) -> Result<bool, Malformed> {
    for container in containers {
        for name in container.resource_names()? {
            if patterns.iter().any(|pattern| is_like(name, pattern)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether a name fits a pattern, of which a `*` is any text.
fn is_like(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((head, tail)) => name
            .strip_prefix(head)
            .is_some_and(|rest| rest.ends_with(tail)),
    }
}
