//! What is missing in the pod and what is in the way; then the edit that adds the former if nothing is in the way.

use crate::json::{Node, Shape, object, quoted};
use crate::path::CleanPath;
use crate::pod::{self, Container, Edit, Malformed, Pod, key};
use crate::settings::{Mount, Settings, Source, Volume};
use crate::target::Target;

/// Everything that is missing; nothing where the pod has it all.
#[derive(Debug)]
pub struct Plan<'a> {
    volumes: Vec<&'a Volume>,
    node_selector: Vec<(&'a str, &'a str)>,
    containers: Vec<Missing<'a>>,
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
        edit
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
    let ours = pod_volume(volume);
    let nodes = [present.text, &ours].map(|text| Node::parse(text, &Shape::Tree));
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
    let present = pod.node_selector()?;
    for (key, wanted) in &settings.node_selector {
        let found = present.iter().rev().find(|(name, _)| name == key);
        let value = |node: &Node<'_>| node.as_str().unwrap_or(node.text.into()).into_owned();
        match found.map(|(_, node)| value(node)) {
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
