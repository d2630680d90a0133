//! What is read of a pod. Nothing is checked before it is read: a pod is malformed only where we must look.

use std::borrow::Cow;
use std::fmt;

use super::key;
use crate::json::{Member, Node, Shape, quoted};
use crate::path::CleanPath;

const VOLUME: Shape = Shape::Object(&[(key::NAME, Shape::Value)]);
const MOUNT: Shape = Shape::Object(&[
    (key::NAME, Shape::Value),
    (key::MOUNT_PATH, Shape::Value),
    (key::READ_ONLY, Shape::Value),
    (key::SUB_PATH, Shape::Value),
    (key::SUB_PATH_EXPR, Shape::Value),
]);
const CONTAINER: Shape = Shape::Object(&[
    (key::NAME, Shape::Value),
    (key::IMAGE, Shape::Value),
    (key::IMAGE_PULL_POLICY, Shape::Value),
    (key::COMMAND, Shape::List(&Shape::Value)),
    (key::ARGS, Shape::List(&Shape::Value)),
    (key::VOLUME_MOUNTS, Shape::List(&MOUNT)),
    (
        key::RESOURCES,
        Shape::Object(&[(key::LIMITS, Shape::Map), (key::REQUESTS, Shape::Map)]),
    ),
]);
const OWNER: Shape = Shape::Object(&[(key::KIND, Shape::Value)]);

/// The levels of a pod that we read or extend.
pub const SHAPE: Shape = Shape::Object(&[
    (
        key::METADATA,
        Shape::Object(&[
            (key::LABELS, Shape::Map),
            (key::ANNOTATIONS, Shape::Map),
            (key::OWNER_REFERENCES, Shape::List(&OWNER)),
        ]),
    ),
    (
        key::SPEC,
        Shape::Object(&[
            (key::VOLUMES, Shape::List(&VOLUME)),
            (key::CONTAINERS, Shape::List(&CONTAINER)),
            (key::INIT_CONTAINERS, Shape::List(&CONTAINER)),
            (key::NODE_SELECTOR, Shape::Map),
            (key::IMAGE_PULL_SECRETS, Shape::List(&VOLUME)),
        ]),
    ),
]);

/// A pod that was read with [`SHAPE`].
#[derive(Debug, Clone, Copy)]
pub struct Pod<'a>(&'a Node<'a>);

/// A part of the pod that cannot be read, as in `spec.volumes is not a list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub String);

impl<'a> Pod<'a> {
    /// Takes the object of a request for a pod.
    #[must_use]
    pub fn new(object: &'a Node<'a>) -> Self {
        Pod(object)
    }

    /// The pod as it was read.
    pub(super) fn node(self) -> &'a Node<'a> {
        self.0
    }

    /// A label's value.
    ///
    /// # Errors
    /// The labels cannot be read.
    pub fn label(self, name: &str) -> Result<Option<Cow<'a, str>>, Malformed> {
        string(self.metadata()?, key::LABELS, name)
    }

    /// An annotation's value.
    ///
    /// # Errors
    /// The annotations cannot be read.
    pub fn annotation(self, name: &str) -> Result<Option<Cow<'a, str>>, Malformed> {
        string(self.metadata()?, key::ANNOTATIONS, name)
    }

    /// The kinds of the objects that own the pod.
    ///
    /// # Errors
    /// The owner references cannot be read.
    pub fn owner_kinds(self) -> Result<Vec<Cow<'a, str>>, Malformed> {
        let owners = list(self.metadata()?, key::OWNER_REFERENCES, &key::METADATA)?;
        let kind = |(index, owner)| {
            let place = Item(key::METADATA, key::OWNER_REFERENCES, index);
            required(owner, key::KIND, &place)
        };
        owners.iter().enumerate().map(kind).collect()
    }

    /// The volumes.
    ///
    /// # Errors
    /// The list or a volume's name cannot be read.
    pub fn volumes(self) -> Result<Vec<Volume<'a>>, Malformed> {
        let volumes = list(Some(self.spec()?), key::VOLUMES, &key::SPEC)?;
        let volume = |(index, node): (usize, &'a Node<'a>)| {
            let place = Item(key::SPEC, key::VOLUMES, index);
            Ok(Volume {
                name: required(node, key::NAME, &place)?,
                text: node.text,
            })
        };
        volumes.iter().enumerate().map(volume).collect()
    }

    /// The node selector.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn node_selector(self) -> Result<&'a [Member<'a>], Malformed> {
        map(Some(self.spec()?), key::NODE_SELECTOR, &key::SPEC)
    }

    /// A label of the node selector; nothing where there is none of that name.
    ///
    /// # Errors
    /// The node selector cannot be read.
    pub fn selected(self, label: &str) -> Result<Option<Cow<'a, str>>, Malformed> {
        let selector = self.node_selector()?.iter().rev();
        let mut values = selector.filter(|(name, _)| name == label);
        let value = |node: &Node<'a>| node.as_str().unwrap_or(node.text.into());
        Ok(values.next().map(|(_, node)| value(node)))
    }

    /// The names of the secrets that its images are pulled with.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn image_pull_secrets(self) -> Result<Vec<Cow<'a, str>>, Malformed> {
        let secrets = list(Some(self.spec()?), key::IMAGE_PULL_SECRETS, &key::SPEC)?;
        let names = secrets.iter().map(|secret| secret.get(key::NAME)?.as_str());
        Ok(names.flatten().collect())
    }

    /// The containers, without the init containers.
    ///
    /// # Errors
    /// The list or a container's name cannot be read.
    pub fn containers(self) -> Result<Vec<Container<'a>>, Malformed> {
        self.containers_of(key::CONTAINERS)
    }

    /// The init containers, native sidecars among them.
    ///
    /// # Errors
    /// The list or a container's name cannot be read.
    pub fn init_containers(self) -> Result<Vec<Container<'a>>, Malformed> {
        self.containers_of(key::INIT_CONTAINERS)
    }

    fn containers_of(self, list_key: &'static str) -> Result<Vec<Container<'a>>, Malformed> {
        let containers = list(Some(self.spec()?), list_key, &key::SPEC)?;
        let container = |(index, node): (usize, &'a Node<'a>)| {
            let place = Item(key::SPEC, list_key, index);
            let name = required(node, key::NAME, &place)?;
            Ok(Container { name, place, node })
        };
        containers.iter().enumerate().map(container).collect()
    }

    fn metadata(self) -> Result<Option<&'a Node<'a>>, Malformed> {
        if self.0.members().is_none() {
            return Err(Malformed("it is not an object".to_owned()));
        }
        let metadata = self.0.get(key::METADATA);
        match metadata.map(Node::members) {
            Some(None) => Err(Malformed(format!("{} is not an object", key::METADATA))),
            _ => Ok(metadata),
        }
    }

    fn spec(self) -> Result<&'a Node<'a>, Malformed> {
        let spec = self.0.get(key::SPEC);
        spec.filter(|spec| spec.members().is_some())
            .ok_or_else(|| Malformed(format!("{} is not an object", key::SPEC)))
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
    /// The path in the container.
    pub path: CleanPath<'a>,
    /// Whether the container cannot write to it.
    pub read_only: bool,
    /// The part of the volume that is mounted, as a path from the volume's root.
    pub sub_path: CleanPath<'a>,
    /// Whether the part is computed from the environment.
    pub sub_path_expr: bool,
}

impl<'a> Container<'a> {
    /// The container as it was read.
    pub(super) fn node(&self) -> &'a Node<'a> {
        self.node
    }

    /// The image that the container runs; empty where the pod names none.
    #[must_use]
    pub fn image(&self) -> Cow<'a, str> {
        let image = self.node.get(key::IMAGE).and_then(Node::as_str);
        image.unwrap_or_default()
    }

    /// When the container's image is pulled, as JSON; nothing where the pod leaves it to the API server.
    #[must_use]
    pub fn image_pull_policy(&self) -> Option<&'a str> {
        let policy = self.node.get(key::IMAGE_PULL_POLICY);
        policy.map(|policy| policy.text)
    }

    /// The words of `command` or of `args`; what is no string is an empty one.
    ///
    /// # Errors
    /// It is not a list.
    pub fn words(&self, list_key: &str) -> Result<Vec<Cow<'a, str>>, Malformed> {
        let words = list(Some(self.node), list_key, &self.place)?.iter();
        Ok(words
            .map(|word| word.as_str().unwrap_or_default())
            .collect())
    }

    /// The volume mounts.
    ///
    /// # Errors
    /// The list, or a mount's volume or path, cannot be read.
    pub fn mounts(&self) -> Result<Vec<Mount<'a>>, Malformed> {
        let mounts = list(Some(self.node), key::VOLUME_MOUNTS, &self.place)?;
        let mount = |(index, node)| {
            let list = key::VOLUME_MOUNTS;
            Mount::read(node, &format_args!("{}.{list}[{index}]", self.place))
        };
        mounts.iter().enumerate().map(mount).collect()
    }

    /// The resources that the container has a limit or a request for, with the quantities as they are written.
    ///
    /// # Errors
    /// The resources cannot be read.
    pub fn resources(&self) -> Result<impl Iterator<Item = &'a Member<'a>>, Malformed> {
        map(Some(self.node), key::RESOURCES, &self.place)?;
        let resources = self.node.get(key::RESOURCES);
        let quantities = |list| {
            let (place, key) = (&self.place, key::RESOURCES);
            map(resources, list, &format_args!("{place}.{key}"))
        };
        let limits = quantities(key::LIMITS)?;
        Ok(limits.iter().chain(quantities(key::REQUESTS)?))
    }
}

impl<'a> Mount<'a> {
    fn read(node: &'a Node<'a>, place: &dyn fmt::Display) -> Result<Self, Malformed> {
        let text = |key| node.get(key).and_then(Node::as_str).unwrap_or_default();
        let flag = node.get(key::READ_ONLY);
        Ok(Mount {
            volume: required(node, key::NAME, place)?,
            path: CleanPath::new(required(node, key::MOUNT_PATH, place)?),
            read_only: flag.is_some_and(|flag| flag.text == "true"),
            sub_path: CleanPath::new(text(key::SUB_PATH)),
            sub_path_expr: !text(key::SUB_PATH_EXPR).is_empty(),
        })
    }
}

/// An item of a list, as in `spec.volumes[3]`.
#[derive(Debug, Clone, Copy)]
struct Item(&'static str, &'static str, usize);

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Item(parent, list, index) = self;
        write!(f, "{parent}.{list}[{index}]")
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
) -> Result<&'a [Member<'a>], Malformed> {
    let Some(node) = parent.and_then(|parent| parent.get(key)) else {
        return Ok(&[]);
    };
    let members = node.members();
    members.ok_or_else(|| Malformed(format!("{place}.{key} is not an object")))
}

/// The string under a name in a map of the metadata, if there is one.
fn string<'a>(
    metadata: Option<&'a Node<'a>>,
    key: &str,
    name: &str,
) -> Result<Option<Cow<'a, str>>, Malformed> {
    let members = map(metadata, key, &key::METADATA)?;
    let member = members.iter().rev().find(|(member, _)| member == name);
    let Some((_, value)) = member.filter(|(_, value)| !value.is_null()) else {
        return Ok(None);
    };
    let place = || format!("{}.{key}[{}]", key::METADATA, quoted(name));
    let text = value.as_str();
    text.map(Some)
        .ok_or_else(|| Malformed(format!("{} is not a string", place())))
}

fn required<'a>(
    node: &'a Node<'a>,
    key: &str,
    place: &dyn fmt::Display,
) -> Result<Cow<'a, str>, Malformed> {
    let value = node.get(key).and_then(Node::as_str);
    value.ok_or_else(|| Malformed(format!("{place}.{key} is not a string")))
}
