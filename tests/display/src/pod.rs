//! The part of a pod that decides how one of its containers starts.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// Why a pod cannot be realised.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// Neither YAML nor JSON of a pod.
    #[error("the pod cannot be read: {0}")]
    Syntax(#[from] serde_norway::Error),
    /// Another pod.
    #[error("the pod has no container {0}")]
    NoContainer(String),
    /// The kubelet would refuse it too.
    #[error("mount {path}: the pod has no volume {volume}")]
    NoVolume {
        /// The mount's path in the container.
        path: String,
        /// The volume's name.
        volume: String,
    },
    /// What this tool does not do.
    #[error("mount {path}: {what}, which is not realised here")]
    Unknown {
        /// The mount's path in the container.
        path: String,
        /// What it would need.
        what: &'static str,
    },
    /// The image's own user is not looked up.
    #[error("the container has no {0}")]
    NoIdentity(&'static str),
}

/// A container, with all that the pod says of it.
#[derive(Debug)]
pub struct Container {
    /// What it runs: `command` and `args`.
    pub command: Vec<String>,
    /// As which user and with what privileges.
    pub identity: Identity,
    /// The whole environment: the literal values of the pod. What comes from the cluster is left out.
    pub env: BTreeMap<String, String>,
    /// The mounts in the order of the runtime: by depth, and as the pod lists them where that is equal.
    pub mounts: Vec<Mount>,
    /// `readOnlyRootFilesystem`.
    pub is_read_only: bool,
}

/// As whom a container runs.
#[derive(Debug)]
pub struct Identity {
    /// `runAsUser`.
    pub user: u32,
    /// `runAsGroup`.
    pub group: u32,
    /// `fsGroup`, which owns the volumes.
    pub fs_group: Option<u32>,
    /// `supplementalGroups`.
    pub supplemental_groups: Vec<u32>,
    /// The bounding set, by the names of capabilities(7) without `CAP_`: all that root has, and all that a file capability
    /// may give to another user, who has none.
    pub capabilities: BTreeSet<String>,
    /// `allowPrivilegeEscalation: false`.
    pub no_new_privileges: bool,
}

/// One mount.
#[derive(Debug)]
pub struct Mount {
    /// Where in the container.
    pub path: String,
    /// What is there.
    pub source: Source,
    /// Whether it cannot be written to.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone)]
pub enum Source {
    /// A path of the node, which must be of a type.
    Host(HostPath),
    /// An image volume, or a part of it.
    Image {
        /// Which image.
        reference: String,
        /// A path below its root.
        sub_path: Option<String>,
    },
    /// A directory that belongs to the pod. Claims and config maps are such too: QEMU's display needs nothing of theirs.
    Own(String),
}

/// `hostPath`.
#[derive(Debug, Clone, Deserialize)]
pub struct HostPath {
    /// On the node.
    pub path: String,
    /// What the kubelet demands of it.
    #[serde(default, rename = "type")]
    pub kind: HostPathType,
}

/// `hostPath.type`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum HostPathType {
    /// Not checked.
    #[default]
    #[serde(rename = "")]
    Unchecked,
    /// A directory, which is made where nothing is.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A regular file, which is made where nothing is.
    FileOrCreate,
    /// A regular file.
    File,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// What containerd gives to a container that says nothing of its capabilities.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

impl Container {
    /// A container of a pod, as YAML or JSON; init containers are among them, for some run all the time.
    ///
    /// # Errors
    /// Where there is none, or one that cannot be realised.
    pub fn of(pod: &str, name: &str) -> Result<Self, PodError> {
        let pod: Pod = serde_norway::from_str(pod)?;
        let spec = pod.spec;
        let mut containers = spec.containers.into_iter().chain(spec.init_containers);
        let container = containers.find(|container| container.name == name);
        let container = container.ok_or_else(|| PodError::NoContainer(name.to_owned()))?;
        let is_read_only = container.security_context.read_only_root_filesystem;
        let identity = identity(spec.security_context, container.security_context)?;
        let mut mounts = container
            .volume_mounts
            .iter()
            .map(|mount| realisable(mount, &spec.volumes))
            .collect::<Result<Vec<_>, _>>()?;
        mounts.sort_by_key(|mount| mount.path.matches('/').count());
        let env = container.env.into_iter();
        let env = env.filter_map(|variable| Some((variable.name, variable.value?)));
        let words = container.command.into_iter().chain(container.args);
        Ok(Container {
            command: words.collect(),
            is_read_only: is_read_only == Some(true),
            identity,
            env: env.collect(),
            mounts,
        })
    }
}

fn identity(pod: Security, container: Security) -> Result<Identity, PodError> {
    let missing = PodError::NoIdentity;
    let user = container.run_as_user.or(pod.run_as_user);
    let user = user.ok_or(missing("runAsUser"))?;
    let group = container.run_as_group.or(pod.run_as_group);
    // Root's group is 0 in every image.
    let group = group.or((user == 0).then_some(0));
    Ok(Identity {
        user,
        group: group.ok_or(missing("runAsGroup"))?,
        fs_group: pod.fs_group,
        supplemental_groups: pod.supplemental_groups,
        capabilities: container.capabilities.bounding_set(),
        no_new_privileges: container.allow_privilege_escalation == Some(false),
    })
}

impl Capabilities {
    fn bounding_set(self) -> BTreeSet<String> {
        let defaults = DEFAULT_CAPABILITIES.map(str::to_owned).into_iter();
        let is_kept = |name: &String| !self.drop.iter().any(|drop| drop == "ALL" || drop == name);
        defaults.filter(is_kept).chain(self.add).collect()
    }
}

fn realisable(mount: &VolumeMount, volumes: &[Volume]) -> Result<Mount, PodError> {
    let path = || mount.mount_path.clone();
    let volume = volumes.iter().find(|volume| volume.name == mount.name);
    let volume = volume.ok_or_else(|| PodError::NoVolume {
        path: path(),
        volume: mount.name.clone(),
    })?;
    let sub_path = mount.sub_path.clone();
    let source = match (&volume.host_path, &volume.image) {
        (Some(_), _) if sub_path.is_some() => {
            return Err(PodError::Unknown {
                path: path(),
                what: "subPath of a hostPath",
            });
        }
        (Some(host), _) => Source::Host(host.clone()),
        (None, Some(image)) => Source::Image {
            reference: image.reference.clone(),
            sub_path,
        },
        (None, None) => Source::Own(match sub_path {
            Some(part) => format!("{}/{part}", mount.name),
            None => mount.name.clone(),
        }),
    };
    Ok(Mount {
        path: path(),
        source,
        read_only: mount.read_only,
    })
}

#[derive(Deserialize)]
struct Pod {
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    containers: Vec<Written>,
    #[serde(default)]
    init_containers: Vec<Written>,
    #[serde(default)]
    volumes: Vec<Volume>,
    #[serde(default)]
    security_context: Security,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    name: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
    #[serde(default)]
    volume_mounts: Vec<VolumeMount>,
    #[serde(default)]
    security_context: Security,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Security {
    run_as_user: Option<u32>,
    run_as_group: Option<u32>,
    fs_group: Option<u32>,
    #[serde(default)]
    supplemental_groups: Vec<u32>,
    allow_privilege_escalation: Option<bool>,
    read_only_root_filesystem: Option<bool>,
    #[serde(default)]
    capabilities: Capabilities,
}

#[derive(Default, Deserialize)]
struct Capabilities {
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    drop: Vec<String>,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    value: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VolumeMount {
    name: String,
    mount_path: String,
    sub_path: Option<String>,
    #[serde(default)]
    read_only: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Volume {
    name: String,
    host_path: Option<HostPath>,
    image: Option<Image>,
}

#[derive(Deserialize)]
struct Image {
    reference: String,
}
