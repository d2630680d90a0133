//! What is missing in the pod and what is in the way; then the edit that adds the former if nothing is in the way.

use std::borrow::Cow;

use crate::hook::{self, Flag, Sidecar};
use crate::json::{Node, Shape, list, object, quoted};
use crate::path::CleanPath;
use crate::pod::{self, Container, Edit, Malformed, Pod, key};
use crate::settings::{Mount, Settings, Source, Volume};
use crate::target::Target;

/// Everything that is missing; nothing where the pod has it all.
#[derive(Debug)]
pub struct Plan<'a> {
    volumes: Vec<&'a Volume>,
    node_selector: Vec<(&'a str, &'a str)>,
    image_pull_secrets: Vec<&'a str>,
    containers: Vec<Missing<'a>>,
    hook: Option<Hook<'a>>,
}

/// What is missing of the hook.
#[derive(Debug)]
struct Hook<'a> {
    compute: &'a Container<'a>,
    /// The list of the compute container that gets these words.
    flag: (&'static str, [String; 2]),
    container: String,
    /// Whether the pod has no volume for the sockets of hooks.
    needs_volume: bool,
    /// Whether the compute container has none.
    needs_mount: bool,
}

/// What is missing in one container.
#[derive(Debug)]
struct Missing<'a> {
    container: &'a Container<'a>,
    mounts: Vec<(&'a Volume, &'a Mount)>,
    resources: Vec<(&'a str, u64)>,
}

/// Something in the pod that is where ours would be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "its sentence in `messages` says it")]
pub enum Conflict {
    /// A volume of our name with another source.
    Volume { name: String },
    /// A mount that is at one of our paths and not ours, or keeps ours from being made.
    Mount {
        container: String,
        path: String,
        found: FoundMount,
    },
    /// A container of the hook's name that runs something else.
    Container { name: String },
    /// A label of the node selector with another value.
    NodeSelector {
        key: String,
        found: String,
        wanted: String,
    },
}

/// How a mount of the pod is in the way of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundMount {
    /// It is of another volume, which this names.
    OfVolume(String),
    /// It is of another part of our volume.
    OfOtherSubPath,
    /// It is our volume, and writable.
    Writable,
    /// It is above our path, in which the runtime could not make our mount point: the volume and its path.
    Above(String, String),
    /// It is below our path, in which the runtime could not make its mount point: the volume and its path.
    Below(String, String),
}

/// Why there is no plan.
#[derive(Debug)]
pub enum NoPlan {
    /// All that is in the way, at least one thing.
    Conflicts(Vec<Conflict>),
    /// The pod cannot be read where it must be.
    Malformed(Malformed),
}

impl From<Malformed> for NoPlan {
    fn from(malformed: Malformed) -> Self {
        NoPlan::Malformed(malformed)
    }
}

impl<'a> Plan<'a> {
    /// Finds what is missing in a pod. One that provisions a volume needs only what decides on its node: the node
    /// selector and the resources.
    ///
    /// # Errors
    /// There is a conflict, or the pod is malformed.
    pub fn new(
        pod: Pod<'_>,
        target: &'a Target<'a>,
        settings: &'a Settings,
    ) -> Result<Self, NoPlan> {
        let mut conflicts = Vec::new();
        let (containers, volumes) = match target {
            Target::Launcher(containers) => (containers, &*settings.volumes),
            Target::Provisioning(containers) => (containers, &[][..]),
        };
        let mut plan = Plan {
            volumes: missing_volumes(pod, volumes, &mut conflicts)?,
            node_selector: Vec::new(),
            image_pull_secrets: Vec::new(),
            hook: None,
            containers: Vec::with_capacity(containers.len()),
        };
        for container in containers {
            plan.containers.push(Missing {
                container,
                mounts: missing_mounts(container, volumes, &mut conflicts)?,
                resources: missing_resources(container, settings)?,
            });
        }
        plan.node_selector = missing_node_labels(pod, settings, &mut conflicts)?;
        if let Target::Launcher(containers) = target {
            plan.image_pull_secrets = missing_secrets(pod, settings)?;
            plan.hook = missing_hook(pod, containers, settings, &mut conflicts)?;
        }
        if conflicts.is_empty() {
            Ok(plan)
        } else {
            Err(NoPlan::Conflicts(conflicts))
        }
    }

    /// The edit that adds what is missing.
    #[must_use]
    pub fn apply<'p>(&self, pod: Pod<'p>) -> Edit<'p> {
        let mut edit = Edit::new(pod);
        let volumes: Vec<String> = self
            .volumes
            .iter()
            .map(|volume| pod_volume(volume))
            .collect();
        edit.add_volumes(&volumes);
        if let Some(hook) = &self.hook {
            hook.add_to(&mut edit);
        }
        for missing in &self.containers {
            let mounts: Vec<String> = missing
                .mounts
                .iter()
                .map(|(volume, mount)| volume_mount(volume, mount))
                .collect();
            edit.add_mounts(missing.container, &mounts);
            edit.add_resources(missing.container, &missing.resources);
        }
        edit.select_nodes(&self.node_selector);
        let secrets = self.image_pull_secrets.iter();
        let secrets: Vec<String> = secrets
            .map(|name| object(&[(key::NAME, quoted(name))]))
            .collect();
        edit.add_image_pull_secrets(&secrets);
        edit
    }
}

impl Hook<'_> {
    fn add_to(&self, edit: &mut Edit<'_>) {
        if self.needs_volume {
            edit.add_volumes(&[hook::sockets_volume()]);
        }
        if self.needs_mount {
            edit.add_mounts(self.compute, &[hook::sockets_mount()]);
        }
        let (list, words) = &self.flag;
        edit.add_words(self.compute, list, words);
        edit.add_init_container(self.container.clone());
    }
}

fn missing_volumes<'a>(
    pod: Pod<'_>,
    volumes: &'a [Volume],
    conflicts: &mut Vec<Conflict>,
) -> Result<Vec<&'a Volume>, Malformed> {
    let mut missing = Vec::with_capacity(volumes.len());
    if volumes.is_empty() {
        return Ok(missing);
    }
    let present = pod.volumes()?;
    for volume in volumes {
        match present.iter().find(|present| present.name == volume.name) {
            None => missing.push(volume),
            Some(present) if is_same_volume(present, volume) => {}
            Some(_) => conflicts.push(Conflict::Volume {
                name: volume.name.to_string(),
            }),
        }
    }
    Ok(missing)
}

/// Whether a volume of the pod has the source of ours and no other.
fn is_same_volume(present: &pod::Volume<'_>, volume: &Volume) -> bool {
    is_same_text(present.text, &pod_volume(volume))
}

fn is_same_text(present: &str, ours: &str) -> bool {
    let nodes = [present, ours].map(|text| Node::parse(text, &Shape::Tree));
    matches!(&nodes, [Ok(present), Ok(ours)] if is_same("", present, ours))
}

/// Whether a value of the pod is ours, which stands under a key. To Kubernetes a `null` is a missing key.
fn is_same(key: &str, present: &Node<'_>, ours: &Node<'_>) -> bool {
    let (Some(present_members), Some(our_members)) = (present.members(), ours.members()) else {
        return match (present.as_str(), ours.as_str()) {
            (Some(present), Some(ours)) if key == key::PATH => {
                CleanPath::new(present) == CleanPath::new(ours)
            }
            (Some(present), Some(ours)) => present == ours,
            _ => false,
        };
    };
    let is_ours = |key: &str| match (present.get(key), ours.get(key)) {
        (Some(present), Some(ours)) => is_same(key, present, ours),
        (None, None) => true,
        // Where the settings leave it open the API server fills in a default.
        (Some(_), None) => key == key::PULL_POLICY,
        (None, Some(_)) => false,
    };
    let mut members = present_members.iter().chain(our_members);
    members.all(|(key, _)| is_ours(key))
}

fn missing_mounts<'a>(
    container: &Container<'_>,
    volumes: &'a [Volume],
    conflicts: &mut Vec<Conflict>,
) -> Result<Vec<(&'a Volume, &'a Mount)>, Malformed> {
    let mut missing = Vec::new();
    if volumes.is_empty() {
        return Ok(missing);
    }
    let present = container.mounts()?;
    let mut conflict = |mount: &Mount, found| {
        conflicts.push(Conflict::Mount {
            container: container.name.to_string(),
            path: mount.path.to_string(),
            found,
        });
    };
    let ours = || {
        let volumes = volumes.iter();
        volumes.flat_map(|volume| volume.mounts.iter().map(move |mount| (volume, mount)))
    };
    for (volume, mount) in ours() {
        let mut there = present.iter().filter(|it| it.path == mount.path).peekable();
        if there.peek().is_none() {
            missing.push((volume, mount));
        } else if let Some(found) = there.find_map(|it| difference(it, volume, mount)) {
            conflict(mount, found);
        }
    }
    for present in &present {
        if ours().any(|(_, mount)| mount.path == present.path) {
            continue;
        }
        let (volume, at) = (present.volume.to_string(), present.path.to_string());
        if let Some((_, mount)) = ours().find(|(_, mount)| mount.path.is_below(&present.path)) {
            conflict(mount, FoundMount::Above(volume, at));
        } else if let Some((_, mount)) =
            ours().find(|(_, mount)| present.path.is_below(&mount.path))
        {
            conflict(mount, FoundMount::Below(volume, at));
        }
    }
    Ok(missing)
}

fn difference(present: &pod::Mount<'_>, volume: &Volume, mount: &Mount) -> Option<FoundMount> {
    let sub_path = CleanPath::new(mount.sub_path.as_deref().unwrap_or_default());
    if present.volume != volume.name {
        Some(FoundMount::OfVolume(present.volume.to_string()))
    } else if present.sub_path != sub_path || present.sub_path_expr {
        Some(FoundMount::OfOtherSubPath)
    } else if !present.read_only {
        Some(FoundMount::Writable)
    } else {
        None
    }
}

/// A container that already asks for the resource, by limit or request, knows better how many it needs.
fn missing_resources<'a>(
    container: &Container<'_>,
    settings: &'a Settings,
) -> Result<Vec<(&'a str, u64)>, Malformed> {
    if settings.resources.is_empty() {
        return Ok(Vec::new());
    }
    let present: Vec<&str> = container.resources()?.map(|(name, _)| &**name).collect();
    let resources = settings.resources.iter();
    Ok(resources
        .map(|(name, count)| (name.as_str(), *count))
        .filter(|(name, _)| !present.contains(name))
        .collect())
}

fn missing_node_labels<'a>(
    pod: Pod<'_>,
    settings: &'a Settings,
    conflicts: &mut Vec<Conflict>,
) -> Result<Vec<(&'a str, &'a str)>, Malformed> {
    let mut missing = Vec::new();
    if settings.node_selector.is_empty() {
        return Ok(missing);
    }
    for (key, wanted) in &settings.node_selector {
        match pod.selected(key)?.map(Cow::into_owned) {
            None => missing.push((key.as_str(), wanted.as_str())),
            Some(found) if found == *wanted => {}
            Some(found) => conflicts.push(Conflict::NodeSelector {
                key: key.clone(),
                found,
                wanted: wanted.clone(),
            }),
        }
    }
    Ok(missing)
}

fn missing_secrets<'a>(pod: Pod<'_>, settings: &'a Settings) -> Result<Vec<&'a str>, Malformed> {
    if settings.image_pull_secrets.is_empty() {
        return Ok(Vec::new());
    }
    let present = pod.image_pull_secrets()?;
    let secrets = settings.image_pull_secrets.iter().map(String::as_str);
    Ok(secrets
        .filter(|name| !present.iter().any(|it| it == name))
        .collect())
}

/// The hook, unless the pod has it: then it was counted in the flag too.
fn missing_hook<'a>(
    pod: Pod<'_>,
    containers: &'a [Container<'a>],
    settings: &'a Settings,
    conflicts: &mut Vec<Conflict>,
) -> Result<Option<Hook<'a>>, Malformed> {
    let Some(display) = &settings.display else {
        return Ok(None);
    };
    let (Some(flag), Some(volume)) = (Flag::among(containers)?, settings.volume(&display.volume))
    else {
        return Ok(None);
    };
    let Some(compute) = containers.get(flag.container) else {
        return Ok(None);
    };
    let sidecar = Sidecar::beside(compute, display, volume)?;
    let is_named = |container: &Container<'_>| container.name == hook::CONTAINER;
    let conflict = || Conflict::Container {
        name: hook::CONTAINER.to_owned(),
    };
    if pod.containers()?.iter().any(is_named) {
        conflicts.push(conflict());
        return Ok(None);
    }
    if let Some(present) = pod.init_containers()?.into_iter().find(is_named) {
        let command = present.words(key::COMMAND)?;
        let command: Vec<String> = command.iter().map(|word| quoted(word)).collect();
        if list(&command) != sidecar.command() {
            conflicts.push(conflict());
        }
        return Ok(None);
    }
    let (needs_volume, needs_mount) = missing_sockets(pod, &sidecar, conflicts)?;
    Ok(Some(Hook {
        compute,
        flag: (flag.list, flag.raised()),
        container: sidecar.container(),
        needs_volume,
        needs_mount,
    }))
}

/// Whether pod and compute container lack our volume of sockets; neither does where another hook has brought one.
fn missing_sockets(
    pod: Pod<'_>,
    sidecar: &Sidecar<'_>,
    conflicts: &mut Vec<Conflict>,
) -> Result<(bool, bool), Malformed> {
    let name = hook::SOCKETS_VOLUME;
    let mounts = sidecar.compute.mounts()?;
    if sidecar.sockets.0 != name || mounts.iter().any(|mount| mount.volume == name) {
        return Ok((false, false));
    }
    let volumes = pod.volumes()?;
    let Some(present) = volumes.iter().find(|present| present.name == name) else {
        return Ok((true, true));
    };
    if !is_same_text(present.text, &hook::sockets_volume()) {
        let name = name.to_owned();
        conflicts.push(Conflict::Volume { name });
    }
    Ok((false, true))
}

/// A volume of ours as a pod has it.
fn pod_volume(volume: &Volume) -> String {
    let source = match &volume.source {
        Source::HostPath { path, kind } => {
            let members = [
                (key::PATH, quoted(path)),
                (key::TYPE, quoted(kind.as_str())),
            ];
            (key::HOST_PATH, object(&members))
        }
        Source::Image {
            reference,
            pull_policy,
        } => {
            let mut members = vec![(key::REFERENCE, quoted(reference))];
            members.extend(pull_policy.map(|policy| (key::PULL_POLICY, quoted(policy.as_str()))));
            (key::IMAGE, object(&members))
        }
    };
    object(&[(key::NAME, quoted(&volume.name)), source])
}

/// A mount of ours as a container has it.
fn volume_mount(volume: &Volume, mount: &Mount) -> String {
    let mut members = vec![
        (key::NAME, quoted(&volume.name)),
        (key::READ_ONLY, "true".to_owned()),
        (key::MOUNT_PATH, quoted(&mount.path)),
    ];
    let sub_path = mount.sub_path.as_ref();
    members.extend(sub_path.map(|path| (key::SUB_PATH, quoted(path))));
    object(&members)
}
