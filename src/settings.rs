//! The settings: schema, defaults and validation.
//!
//! Invalid settings keep the whole policy server from starting, so validation reports every problem at once and
//! each one says where it is, what stands there and what to write instead.

mod reader;
mod rules;
mod schema;

use std::borrow::Cow;
use std::fmt;

pub use rules::{derived_name, is_glibc_name};

use crate::path::CleanPath;

/// What the policy does, as the user set it. The JSON keys are documented in `docs/settings.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The volumes of `hostPaths` and then those of `images`, in their order.
    pub volumes: Vec<Volume>,
    /// The names of the containers that get the mounts. [`ALL_CONTAINERS`] is every one of `spec.containers`;
    /// init containers are reached by name only.
    pub containers: Vec<String>,
    /// Which pods are ours.
    pub matches: Match,
    /// Whether a pod without annotation gets the mounts.
    pub inject_by_default: bool,
    /// Labels of the nodes that have the files, added to the pod's node selector.
    pub node_selector: Vec<(String, String)>,
    /// Extended resources and how many, added to limits and requests of the containers.
    pub resources: Vec<(String, u64)>,
    /// The architecture of the files: pods that ask for nodes of another one are not ours.
    pub architecture: Option<Architecture>,
    /// The names of secrets that the kubelet pulls our images with, in the pod's namespace.
    pub image_pull_secrets: Vec<String>,
    /// The hook that gives the libvirt domain its GL display.
    pub display: Option<Display>,
    /// What happens to a pod that holds something else where ours would go.
    pub on_conflict: OnConflict,
    /// Whether the pod records what was done to it.
    pub annotate: bool,
}

/// The entry of `containers` that stands for every one of `spec.containers`.
pub const ALL_CONTAINERS: &str = "*";

/// One pod volume of ours and where it is mounted, always read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The volume's name, a DNS label that is unique among the volumes.
    pub name: Cow<'static, str>,
    /// What the volume holds.
    pub source: Source,
    /// Where it is mounted in each container, at least once.
    pub mounts: Vec<Mount>,
}

/// Where a volume's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file or directory of the node.
    HostPath {
        /// The path on the node.
        path: CleanPath<'static>,
        /// What the kubelet must find there before it starts the container.
        kind: HostPathType,
    },
    /// An OCI image or artifact, which the kubelet pulls (Kubernetes 1.33 and newer).
    Image {
        /// The image reference, best by digest.
        reference: String,
        /// When the kubelet pulls; the API server decides where there is none.
        pull_policy: Option<PullPolicy>,
    },
}

/// Where in a container a volume appears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The path in the container, unique among all mounts.
    pub path: CleanPath<'static>,
    /// The part of the volume that is mounted, a clean relative path; all of it where there is none.
    pub sub_path: Option<String>,
}

/// The `hostPath.type` values that make the kubelet check and never create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostPathType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
}

/// When the kubelet pulls an image volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// At every start of a pod.
    Always,
    /// Never: the image must be on the node.
    Never,
    /// Where the node does not have it.
    IfNotPresent,
}

/// An architecture that KubeVirt runs on, as Kubernetes calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names say it")]
pub enum Architecture {
    Amd64,
    Arm64,
    S390x,
}

/// A hook beside the compute container, which adds a GL display to the libvirt domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Display {
    /// The name of the volume in whose directory the hook's program and QEMU's modules lie.
    pub volume: String,
    /// The render node that QEMU opens.
    pub render_node: CleanPath<'static>,
    /// Whether even a domain without a device that has a display gets one.
    pub always: bool,
    /// The name of the KubeVirt Plugin by which the hook is called too, in clusters that have Plugins.
    pub plugin: Option<String>,
}

/// What happens to a pod with a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnConflict {
    /// The pod is accepted as it is.
    Skip,
    /// The pod is rejected.
    Reject,
}

/// Which pods are ours; a list that is empty matches all. All but the labels are patterns, see [`crate::pattern`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Labels that the pod must have.
    pub labels: Vec<(String, String)>,
    /// A target container must ask for a resource of such a name.
    pub resources: Vec<String>,
    /// A user of such a name must create the pod.
    pub creators: Vec<String>,
    /// An object of such a kind must own the pod.
    pub owners: Vec<String>,
    /// A target container must run such an image.
    pub images: Vec<String>,
}

/// Everything that is wrong with the settings; displayed as one problem a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<String>);

impl Problems {
    /// The problems in the order of the schema, each with its place, its value and the fix.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Problems {}

/// What a value is called in Kubernetes and in the settings; the tables have every value.
fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    let found = names.iter().find(|(_, named)| named == value);
    found.map_or("", |(name, _)| name)
}

impl HostPathType {
    const NAMES: [(&'static str, Self); 2] = [("File", Self::File), ("Directory", Self::Directory)];

    /// The name that Kubernetes and the settings use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        name_of(&Self::NAMES, &self)
    }
}

impl PullPolicy {
    const NAMES: [(&'static str, Self); 3] = [
        ("Always", Self::Always),
        ("Never", Self::Never),
        ("IfNotPresent", Self::IfNotPresent),
    ];

    /// The name that Kubernetes and the settings use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        name_of(&Self::NAMES, &self)
    }
}

impl Architecture {
    const NAMES: [(&'static str, Self); 3] = [
        ("amd64", Self::Amd64),
        ("arm64", Self::Arm64),
        ("s390x", Self::S390x),
    ];

    /// The name that Kubernetes and the settings use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        name_of(&Self::NAMES, &self)
    }
}

impl OnConflict {
    const NAMES: [(&'static str, Self); 2] = [("skip", Self::Skip), ("reject", Self::Reject)];
}

/// What the incumbent webhook promises to mount.
const DEFAULT_HOST_PATHS: [(&str, &str, HostPathType); 6] = [
    ("mesa-libgl", "/usr/lib64/libGL.so.1", HostPathType::File),
    ("mesa-libegl", "/usr/lib64/libEGL.so.1", HostPathType::File),
    (
        "mesa-libglesv2",
        "/usr/lib64/libGLESv2.so.2",
        HostPathType::File,
    ),
    ("mesa-libglx", "/usr/lib64/libGLX.so.0", HostPathType::File),
    ("mesa-dri", "/usr/lib64/dri", HostPathType::Directory),
    (
        "mesa-egl-vendor",
        "/usr/share/glvnd/egl_vendor.d",
        HostPathType::Directory,
    ),
];

impl Default for Settings {
    fn default() -> Self {
        Settings {
            volumes: default_volumes(),
            containers: vec!["compute".to_owned()],
            matches: Match {
                labels: vec![("kubevirt.io".to_owned(), "virt-launcher".to_owned())],
                resources: Vec::new(),
                creators: Vec::new(),
                owners: Vec::new(),
                images: Vec::new(),
            },
            inject_by_default: true,
            node_selector: Vec::new(),
            resources: Vec::new(),
            architecture: None,
            image_pull_secrets: Vec::new(),
            display: None,
            on_conflict: OnConflict::Skip,
            annotate: true,
        }
    }
}

fn default_volumes() -> Vec<Volume> {
    let volume = |(name, path, kind)| Volume {
        name: Cow::Borrowed(name),
        source: Source::HostPath {
            path: CleanPath::new(path),
            kind,
        },
        mounts: vec![Mount {
            path: CleanPath::new(path),
            sub_path: None,
        }],
    };
    DEFAULT_HOST_PATHS.into_iter().map(volume).collect()
}

impl Settings {
    /// A volume by its name.
    #[must_use]
    pub fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.name == name)
    }

    /// Reads settings from JSON; a key that is missing or `null` has its default.
    ///
    /// ```
    /// use mesa_injector::settings::Settings;
    ///
    /// assert_eq!(Settings::from_json("{}"), Ok(Settings::default()));
    /// let problems = Settings::from_json(r#"{"hostPath": []}"#).unwrap_err();
    /// assert_eq!(problems.to_string(), "hostPath: no such key; did you mean hostPaths?");
    /// ```
    ///
    /// # Errors
    /// The problems, all of them.
    pub fn from_json(json: &str) -> Result<Self, Problems> {
        match json {
            "{}" | "null" => Ok(Settings::default()),
            _ => schema::read(json),
        }
    }
}
