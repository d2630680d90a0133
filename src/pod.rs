//! The pod as it is written: JSON that can be extended and not otherwise changed.
//!
//! A typed pod would drop the fields that its version of the API does not know, and what is missing in the answer is
//! removed from the pod. So nothing is ever written anew: an [`Edit`] holds texts to insert, each at a place in
//! the original, and the original stays around them byte for byte. An edit can append to a list, add a missing key
//! and give a `null` a value, which to Kubernetes is a missing key too.

use std::borrow::Cow;
use std::fmt;

use crate::json::{Node, Quoted, Shape, quote};

const VOLUME: Shape = Shape::Object(&[("name", Shape::Value)]);
const MOUNT: Shape = Shape::Object(&[
    ("name", Shape::Value),
    ("mountPath", Shape::Value),
    ("readOnly", Shape::Value),
    ("subPath", Shape::Value),
    ("subPathExpr", Shape::Value),
]);
const CONTAINER: Shape = Shape::Object(&[
    ("name", Shape::Value),
    ("volumeMounts", Shape::List(&MOUNT)),
    (
        "resources",
        Shape::Object(&[("limits", Shape::Map), ("requests", Shape::Map)]),
    ),
]);
const OWNER: Shape = Shape::Object(&[("kind", Shape::Value)]);

/// The levels of a pod that we read or extend.
pub const SHAPE: Shape = Shape::Object(&[
    (
        "metadata",
        Shape::Object(&[
            ("labels", Shape::Map),
            ("annotations", Shape::Map),
            ("ownerReferences", Shape::List(&OWNER)),
        ]),
    ),
    (
        "spec",
        Shape::Object(&[
            ("volumes", Shape::List(&VOLUME)),
            ("containers", Shape::List(&CONTAINER)),
            ("initContainers", Shape::List(&CONTAINER)),
            ("nodeSelector", Shape::Map),
        ]),
    ),
]);

/// A pod that was read with [`SHAPE`].
///
/// Nothing is checked before it is read: a pod is malformed only where we must look.
#[derive(Debug, Clone, Copy)]
pub struct Pod<'a>(&'a Node<'a>);

/// A part of the pod that cannot be read, as in `spec.volumes is not a list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

/// A member of a map of strings, such as a label.
pub type Entry<'a> = (Cow<'a, str>, Node<'a>);

impl<'a> Pod<'a> {
    /// Takes the object of a request for a pod.
    #[must_use]
    pub fn new(object: &'a Node<'a>) -> Self {
        Pod(object)
    }

    /// A label's value.
    ///
    /// # Errors
    /// The labels cannot be read.
    pub fn label(self, key: &str) -> Result<Option<Cow<'a, str>>, Malformed> {
        string(self.metadata()?, "labels", key)
    }

    /// An annotation's value.
    ///
    /// # Errors
    /// The annotations cannot be read.
    pub fn annotation(self, key: &str) -> Result<Option<Cow<'a, str>>, Malformed> {
        string(self.metadata()?, "annotations", key)
    }

    /// The kinds of the objects that own the pod.
    ///
    /// # Errors
    /// The owner references cannot be read.
    pub fn owner_kinds(self) -> Result<Vec<Cow<'a, str>>, Malformed> {
        let owners = list(self.metadata()?, "ownerReferences", &"metadata")?;
        let kind =
            |(index, owner)| required(owner, "kind", &Item("metadata.ownerReferences", index));
        owners.iter().enumerate().map(kind).collect()
    }

    /// The volumes.
    ///
    /// # Errors
    /// The list or a volume's name cannot be read.
    pub fn volumes(self) -> Result<Vec<Volume<'a>>, Malformed> {
        let volumes = list(Some(self.spec()?), "volumes", &"spec")?;
        let volume = |(index, node): (usize, &'a Node<'a>)| {
            Ok(Volume {
                name: required(node, "name", &Item("spec.volumes", index))?,
                text: node.text,
            })
        };
        volumes.iter().enumerate().map(volume).collect()
    }

    /// The node selector.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn node_selector(self) -> Result<&'a [Entry<'a>], Malformed> {
        map(Some(self.spec()?), "nodeSelector", &"spec")
    }

    /// The containers, without the init containers.
    ///
    /// # Errors
    /// The list or a container's name cannot be read.
    pub fn containers(self) -> Result<Vec<Container<'a>>, Malformed> {
        self.containers_of("containers", "spec.containers")
    }

    /// The init containers, native sidecars among them.
    ///
    /// # Errors
    /// The list or a container's name cannot be read.
    pub fn init_containers(self) -> Result<Vec<Container<'a>>, Malformed> {
        self.containers_of("initContainers", "spec.initContainers")
    }

    fn containers_of(
        self,
        key: &str,
        place: &'static str,
    ) -> Result<Vec<Container<'a>>, Malformed> {
        let containers = list(Some(self.spec()?), key, &"spec")?;
        let container = |(index, node): (usize, &'a Node<'a>)| {
            let place = Item(place, index);
            let name = required(node, "name", &place)?;
            Ok(Container { name, place, node })
        };
        containers.iter().enumerate().map(container).collect()
    }

    fn metadata(self) -> Result<Option<&'a Node<'a>>, Malformed> {
        if self.0.members().is_none() {
            return Err(Malformed("it is not an object".to_owned()));
        }
        let metadata = self.0.get("metadata");
        match metadata.map(Node::members) {
            Some(None) => Err(Malformed("metadata is not an object".to_owned())),
            _ => Ok(metadata),
        }
    }

    fn spec(self) -> Result<&'a Node<'a>, Malformed> {
        let spec = self.0.get("spec");
        spec.filter(|spec| spec.members().is_some())
            .ok_or_else(|| Malformed("spec is not an object".to_owned()))
    }
}

/// A volume of the pod.
#[derive(Debug)]
pub struct Volume<'a> {
    /// The volume's name.
    pub name: Cow<'a, str>,
    /// The whole volume as JSON.
    pub text: &'a str,
}

/// A container of the pod.
#[derive(Debug)]
pub struct Container<'a> {
    /// The container's name.
    pub name: Cow<'a, str>,
    place: Item,
    node: &'a Node<'a>,
}

/// A volume mount of a container.
#[derive(Debug)]
pub struct Mount<'a> {
    /// The name of the volume.
    pub volume: Cow<'a, str>,
    /// The path in the container, without extra slashes and dots.
    pub path: Cow<'a, str>,
    /// Whether the container cannot write to it.
    pub read_only: bool,
    /// The part of the volume that is mounted; empty for all of it.
    pub sub_path: Cow<'a, str>,
    /// Whether the part is computed from the environment.
    pub sub_path_expr: bool,
}

impl<'a> Container<'a> {
    /// The volume mounts.
    ///
    /// # Errors
    /// The list, or a mount's volume or path, cannot be read.
    pub fn mounts(&self) -> Result<Vec<Mount<'a>>, Malformed> {
        let mounts = list(Some(self.node), "volumeMounts", &self.place)?;
        let mount = |(index, node)| {
            Mount::read(node, &format_args!("{}.volumeMounts[{index}]", self.place))
        };
        mounts.iter().enumerate().map(mount).collect()
    }

    /// The resources that the container asks for, by limit or by request.
    ///
    /// # Errors
    /// The resources cannot be read.
    pub fn resource_names(&self) -> Result<impl Iterator<Item = &'a str>, Malformed> {
        map(Some(self.node), "resources", &self.place)?;
        let resources = self.node.get("resources");
        let limits = map(
            resources,
            "limits",
            &format_args!("{}.resources", self.place),
        )?;
        let requests = map(
            resources,
            "requests",
            &format_args!("{}.resources", self.place),
        )?;
        Ok(limits.iter().chain(requests).map(|(name, _)| &**name))
    }
}

impl<'a> Mount<'a> {
    fn read(node: &'a Node<'a>, place: &dyn fmt::Display) -> Result<Self, Malformed> {
        let text = |key| node.get(key).and_then(Node::as_str);
        Ok(Mount {
            volume: required(node, "name", place)?,
            path: clean(required(node, "mountPath", place)?),
            read_only: node.get("readOnly").is_some_and(|flag| flag.text == "true"),
            sub_path: text("subPath").unwrap_or_default(),
            sub_path_expr: text("subPathExpr").is_some_and(|expr| !expr.is_empty()),
        })
    }
}

/// The API server takes a path as it is written, and to the container runtime all ways to write it are one.
fn clean(path: Cow<'_, str>) -> Cow<'_, str> {
    let mut pairs = path.as_bytes().windows(2);
    if !path.ends_with('/') && !pairs.any(|pair| matches!(pair, b"//" | b"/.")) {
        return path;
    }
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    Cow::Owned(parts.flat_map(|part| ["/", part]).collect())
}

/// An item of a list, as in `spec.volumes[3]`.
#[derive(Debug, Clone, Copy)]
struct Item(&'static str, usize);

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.0, self.1)
    }
}

fn list<'a>(
    parent: Option<&'a Node<'a>>,
    key: &str,
    place: &dyn fmt::Display,
) -> Result<&'a [Node<'a>], Malformed> {
    let Some(node) = parent.and_then(|parent| parent.get(key)) else {
        return Ok(&[]);
    };
    let items = node.items();
    items.ok_or_else(|| Malformed(format!("{place}.{key} is not a list")))
}

fn map<'a>(
    parent: Option<&'a Node<'a>>,
    key: &str,
    place: &dyn fmt::Display,
) -> Result<&'a [Entry<'a>], Malformed> {
    let Some(node) = parent.and_then(|parent| parent.get(key)) else {
        return Ok(&[]);
    };
    let members = node.members();
    members.ok_or_else(|| Malformed(format!("{place}.{key} is not an object")))
}

/// The string under `key` of a map in the metadata, if there is one.
fn string<'a>(
    metadata: Option<&'a Node<'a>>,
    name: &str,
    key: &str,
) -> Result<Option<Cow<'a, str>>, Malformed> {
    let members = map(metadata, name, &"metadata")?;
    let member = members.iter().rev().find(|(name, _)| name == key);
    let Some((_, value)) = member.filter(|(_, value)| !value.is_null()) else {
        return Ok(None);
    };
    let text = value.as_str();
    text.map(Some)
        .ok_or_else(|| Malformed(format!("metadata.{name}[{}] is not a string", Quoted(key))))
}

fn required<'a>(
    node: &'a Node<'a>,
    key: &str,
    place: &dyn fmt::Display,
) -> Result<Cow<'a, str>, Malformed> {
    let value = node.get(key).and_then(Node::as_str);
    value.ok_or_else(|| Malformed(format!("{place}.{key} is not a string")))
}

/// What is to be inserted into a pod, and where.
#[derive(Debug)]
pub struct Edit<'a> {
    pod: Pod<'a>,
    insertions: Vec<Insertion>,
}

#[derive(Debug)]
struct Insertion {
    /// Byte offset in the pod's own text.
    at: usize,
    /// How many bytes it stands for: those of a `null`, or none.
    replaces: usize,
    text: String,
}

impl<'a> Edit<'a> {
    /// An edit that inserts nothing yet.
    #[must_use]
    pub fn new(pod: Pod<'a>) -> Self {
        Edit {
            pod,
            insertions: Vec::new(),
        }
    }

    /// Whether the pod stays as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.insertions.is_empty()
    }

    /// Adds an annotation that is not there yet.
    pub fn annotate(&mut self, key: &str, value: &str) {
        let annotation = member(key, value);
        match self.pod.0.get("metadata") {
            Some(metadata) => self.extend(metadata, "annotations", '{', &[annotation]),
            None => {
                let annotations = format!("\"annotations\":{{{annotation}}}");
                self.extend(self.pod.0, "metadata", '{', &[annotations]);
            }
        }
    }

    /// Adds labels to the node selector that are not there yet.
    pub fn select_nodes(&mut self, labels: &[(&str, &str)]) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(key, value)| member(key, value))
            .collect();
        self.extend_spec("nodeSelector", '{', &labels);
    }

    /// Appends volumes, given as JSON.
    pub fn add_volumes(&mut self, volumes: &[String]) {
        self.extend_spec("volumes", '[', volumes);
    }

    /// Appends volume mounts, given as JSON, to a container.
    pub fn add_mounts(&mut self, container: &Container<'_>, mounts: &[String]) {
        self.extend(container.node, "volumeMounts", '[', mounts);
    }

    /// Adds resources that are not there yet to the limits and the requests of a container.
    pub fn add_resources(&mut self, container: &Container<'_>, resources: &[(&str, u64)]) {
        if resources.is_empty() {
            return;
        }
        let quantities: Vec<String> = resources
            .iter()
            .map(|(name, count)| member(name, &count.to_string()))
            .collect();
        match container.node.get("resources") {
            Some(present) => {
                self.extend(present, "limits", '{', &quantities);
                self.extend(present, "requests", '{', &quantities);
            }
            None => {
                let quantities = quantities.join(",");
                let both = ["limits", "requests"].map(|key| format!("\"{key}\":{{{quantities}}}"));
                self.extend(container.node, "resources", '{', &both);
            }
        }
    }

    fn extend_spec(&mut self, key: &str, open: char, items: &[String]) {
        if let Some(spec) = self.pod.0.get("spec") {
            self.extend(spec, key, open, items);
        }
    }

    /// Appends items to the list or object `key` of `parent`, which need not be there.
    fn extend(&mut self, parent: &Node<'_>, key: &str, open: char, items: &[String]) {
        if items.is_empty() {
            return;
        }
        let close = if open == '[' { ']' } else { '}' };
        let items = items.join(",");
        match parent.member(key) {
            Some(null) if null.is_null() => {
                let text = format!("{open}{items}{close}");
                self.insert(null.start, null.text.len(), text);
            }
            Some(present) => self.append(present, &items),
            None => self.append(parent, &format!("\"{key}\":{open}{items}{close}")),
        }
    }

    /// Inserts items behind the last one of a list or object.
    fn append(&mut self, node: &Node<'_>, items: &str) {
        let at = node.end().saturating_sub(1);
        let first = node.is_empty()
            && !self
                .insertions
                .iter()
                .any(|insertion| insertion.at == at - self.pod.0.start);
        let comma = if first { "" } else { "," };
        self.insert(at, 0, format!("{comma}{items}"));
    }

    fn insert(&mut self, at: usize, replaces: usize, text: String) {
        let at = at.saturating_sub(self.pod.0.start);
        // In the order of the text, and what comes to one place in the order of coming.
        let index = self.insertions.partition_point(|earlier| earlier.at <= at);
        let insertion = Insertion { at, replaces, text };
        self.insertions.insert(index, insertion);
    }

    /// The length of the extended pod, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        let inserted = self.insertions.iter().map(|insertion| insertion.text.len());
        self.pod.0.text.len() + inserted.sum::<usize>()
    }

    /// Writes the extended pod.
    pub fn write(&self, out: &mut String) {
        let original = self.pod.0.text;
        let mut written = 0;
        for insertion in &self.insertions {
            out.push_str(original.get(written..insertion.at).unwrap_or_default());
            out.push_str(&insertion.text);
            written = insertion.at + insertion.replaces;
        }
        out.push_str(original.get(written..).unwrap_or_default());
    }
}

fn member(key: &str, value: &str) -> String {
    let mut text = String::with_capacity(key.len() + value.len() + 5);
    quote(key, &mut text);
    text.push(':');
    quote(value, &mut text);
    text
}
