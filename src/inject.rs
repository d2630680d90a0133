//! What is missing in the pod, what is in the way, and then the edit that adds the former if there is none of the latter.

use std::fmt;

use crate::json::{Node, Quoted, Shape, quote};
use crate::pod::{self, Container, Edit, Malformed, Pod};
use crate::settings::{Mount, Settings, Source, Volume};

/// Everything that is missing; nothing where the pod has it all.
#[derive(Debug, Default)]
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
#[allow(missing_docs, reason = "the text of each says it")]
pub enum Conflict {
    /// A volume of our name with another source.
    Volume { name: String },
    /// A mount at our path that is not ours.
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

/// How a mount at our path differs from ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundMount {
    /// It is of another volume, which this names.
    OfVolume(String),
    /// It is of another part of our volume.
    OfOtherSubPath,
    /// It is our volume, and writable.
    Writable,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Conflict::Volume { name } => write!(f, "volume {name} is there with another source"),
            Conflict::Mount {
                container,
                path,
                found,
            } => {
                write!(f, "{container} mounts ")?;
                match found {
                    FoundMount::OfVolume(volume) => write!(f, "volume {volume} at {path}"),
                    FoundMount::OfOtherSubPath => write!(f, "another sub-path at {path}"),
                    FoundMount::Writable => write!(f, "{path} writable"),
                }
            }
            Conflict::NodeSelector { key, found, wanted } => {
                let (found, wanted) = (Quoted(found), Quoted(wanted));
                write!(f, "nodeSelector {key} is {found}, not {wanted}")
            }
        }
    }
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
    /// Finds what is missing in a launcher pod.
    ///
    /// # Errors
    /// There is a conflict, or the pod is malformed.
    pub fn for_launcher(
        pod: Pod<'_>,
        containers: &'a [Container<'a>],
        settings: &'a Settings,
    ) -> Result<Self, NoPlan> {
        let mut conflicts = Vec::new();
        let mut plan = Plan {
            volumes: missing_volumes(pod, settings, &mut conflicts)?,
            node_selector: Vec::new(),
            containers: Vec::with_capacity(containers.len()),
        };
        for container in containers {
            plan.containers.push(Missing {
                container,
                mounts: missing_mounts(container, settings, &mut conflicts)?,
                resources: missing_resources(container, settings)?,
            });
        }
        plan.node_selector = missing_node_labels(pod, settings, &mut conflicts)?;
        plan.unless(conflicts)
    }

    /// Finds what is missing in a pod that provisions a volume: only the constraints on its node.
    ///
    /// # Errors
    /// There is a conflict, or the pod is malformed.
    pub fn for_provisioning(pod: Pod<'_>, settings: &'a Settings) -> Result<Self, NoPlan> {
        let mut conflicts = Vec::new();
        let plan = Plan {
            node_selector: missing_node_labels(pod, settings, &mut conflicts)?,
            ..Plan::default()
        };
        plan.unless(conflicts)
    }

    fn unless(self, conflicts: Vec<Conflict>) -> Result<Self, NoPlan> {
        if conflicts.is_empty() {
            Ok(self)
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
            .map(|volume| volume_json(volume))
            .collect();
        edit.add_volumes(&volumes);
        for missing in &self.containers {
            let mounts: Vec<String> = missing
                .mounts
                .iter()
                .map(|(volume, mount)| mount_json(volume, mount))
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
    settings: &'a Settings,
    conflicts: &mut Vec<Conflict>,
) -> Result<Vec<&'a Volume>, Malformed> {
    let present = pod.volumes()?;
    let mut missing = Vec::with_capacity(settings.volumes.len());
    for volume in &settings.volumes {
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
    let Ok(present) = Node::parse(present.text, &Shape::Tree) else {
        return false;
    };
    let holds = |source, members: &[(&str, Option<&str>)]| {
        has_only(&present, &["name", source])
            && present.get(source).is_some_and(|source| {
                let keys: Vec<&str> = members.iter().map(|(key, _)| *key).collect();
                let is = |key, value| source.get(key).and_then(Node::as_str).as_deref() == value;
                has_only(source, &keys) && members.iter().all(|(key, value)| is(key, *value))
            })
    };
    match &volume.source {
        Source::HostPath { path, kind } => holds(
            "hostPath",
            &[("path", Some(path)), ("type", Some(kind.as_str()))],
        ),
        Source::Image {
            reference,
            pull_policy,
        } => {
            let written = present
                .get("image")
                .and_then(|image| image.get("pullPolicy"));
            let written = written.and_then(Node::as_str);
            // Where the settings leave it open the API server fills in a default.
            let policy = pull_policy
                .map(|policy| policy.as_str())
                .or(written.as_deref());
            holds(
                "image",
                &[("reference", Some(reference)), ("pullPolicy", policy)],
            )
        }
    }
}

/// Whether an object has no other members than these, `null` being none.
fn has_only(node: &Node<'_>, keys: &[&str]) -> bool {
    let members = node.members().unwrap_or_default();
    members
        .iter()
        .all(|(key, value)| value.is_null() || keys.contains(&&**key))
}

fn missing_mounts<'a>(
    container: &Container<'_>,
    settings: &'a Settings,
    conflicts: &mut Vec<Conflict>,
) -> Result<Vec<(&'a Volume, &'a Mount)>, Malformed> {
    let present = container.mounts()?;
    let mut missing = Vec::new();
    for volume in &settings.volumes {
        for mount in &volume.mounts {
            let at_path = |present: &&pod::Mount<'_>| present.path == mount.path;
            let Some(present) = present.iter().find(at_path) else {
                missing.push((volume, mount));
                continue;
            };
            if let Some(found) = difference(present, volume, mount) {
                conflicts.push(Conflict::Mount {
                    container: container.name.to_string(),
                    path: mount.path.to_string(),
                    found,
                });
            }
        }
    }
    Ok(missing)
}

fn difference(present: &pod::Mount<'_>, volume: &Volume, mount: &Mount) -> Option<FoundMount> {
    let sub_path = mount.sub_path.as_deref().unwrap_or_default();
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
    let present: Vec<&str> = container.resource_names()?.collect();
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
        match found.map(|(_, value)| value.as_str().unwrap_or(value.text.into())) {
            None => missing.push((key.as_str(), wanted.as_str())),
            Some(found) if found == *wanted => {}
            Some(found) => conflicts.push(Conflict::NodeSelector {
                key: key.clone(),
                found: found.into_owned(),
                wanted: wanted.clone(),
            }),
        }
    }
    Ok(missing)
}

fn volume_json(volume: &Volume) -> String {
    let mut json = Json::new("{\"name\":", &volume.name);
    match &volume.source {
        Source::HostPath { path, kind } => {
            json.string(",\"hostPath\":{\"path\":", path);
            json.string(",\"type\":", kind.as_str());
        }
        Source::Image {
            reference,
            pull_policy,
        } => {
            json.string(",\"image\":{\"reference\":", reference);
            if let Some(policy) = pull_policy {
                json.string(",\"pullPolicy\":", policy.as_str());
            }
        }
    }
    json.0 + "}}"
}

fn mount_json(volume: &Volume, mount: &Mount) -> String {
    let mut json = Json::new("{\"name\":", &volume.name);
    json.string(",\"readOnly\":true,\"mountPath\":", &mount.path);
    if let Some(sub_path) = &mount.sub_path {
        json.string(",\"subPath\":", sub_path);
    }
    json.0 + "}"
}

struct Json(String);

impl Json {
    /// Begins with room for a volume of usual names.
    fn new(before: &str, value: &str) -> Self {
        let mut json = Json(String::with_capacity(192));
        json.string(before, value);
        json
    }

    fn string(&mut self, before: &str, value: &str) {
        self.0.push_str(before);
        quote(value, &mut self.0);
    }
}
