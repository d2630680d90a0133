//! How a pod is extended: nothing is written again. An [`Edit`] holds texts to insert, each at a place in the original, and
//! the original stays around them byte for byte. An edit can append to a list, add a missing key, give a `null` a
//! value, which to Kubernetes is a missing key too, and write over an annotation.

use super::{Container, Pod, key};
use crate::json::{Node, member, object, quoted};

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
    /// How many bytes it stands for: those of a value that it takes the place of, or none.
    replaces: usize,
    text: String,
    /// The list or object that it makes, which then ends with its bracket: what else is for that goes before the bracket.
    makes: Option<&'static str>,
}

/// A list or an object, by its brackets.
#[derive(Debug, Clone, Copy)]
enum Kind {
    List,
    Object,
}

impl Kind {
    fn of(self, items: &str) -> String {
        match self {
            Kind::List => format!("[{items}]"),
            Kind::Object => format!("{{{items}}}"),
        }
    }
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

    /// Gives an annotation a value, whether it is there already or not.
    pub fn annotate(&mut self, name: &str, value: &str) {
        let pod = self.pod.node();
        let Some(metadata) = pod.get(key::METADATA) else {
            let annotations = object(&[(name, quoted(value))]);
            self.extend(
                pod,
                key::METADATA,
                Kind::Object,
                &[member(key::ANNOTATIONS, &annotations)],
            );
            return;
        };
        let present = metadata.get(key::ANNOTATIONS);
        match present.and_then(|annotations| annotations.member(name)) {
            Some(present) => self.insert(present.start, present.text.len(), quoted(value), None),
            None => {
                let annotation = member(name, &quoted(value));
                self.extend(metadata, key::ANNOTATIONS, Kind::Object, &[annotation]);
            }
        }
    }

    /// Adds labels to the node selector that are not there yet.
    pub fn select_nodes(&mut self, labels: &[(&str, &str)]) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| member(name, &quoted(value)))
            .collect();
        self.extend_spec(key::NODE_SELECTOR, Kind::Object, &labels);
    }

    /// Appends volumes, given as JSON.
    pub fn add_volumes(&mut self, volumes: &[String]) {
        self.extend_spec(key::VOLUMES, Kind::List, volumes);
    }

    /// Appends secrets to those that images are pulled with, given as JSON.
    pub fn add_image_pull_secrets(&mut self, secrets: &[String]) {
        self.extend_spec(key::IMAGE_PULL_SECRETS, Kind::List, secrets);
    }

    /// Appends an init container, given as JSON.
    pub fn add_init_container(&mut self, container: String) {
        self.extend_spec(key::INIT_CONTAINERS, Kind::List, &[container]);
    }

    /// Appends words, given as JSON, to the `command` or the `args` of a container.
    pub fn add_words(&mut self, container: &Container<'_>, list: &'static str, words: &[String]) {
        self.extend(container.node(), list, Kind::List, words);
    }

    /// Appends volume mounts, given as JSON, to a container.
    pub fn add_mounts(&mut self, container: &Container<'_>, mounts: &[String]) {
        self.extend(container.node(), key::VOLUME_MOUNTS, Kind::List, mounts);
    }

    /// Adds resources that are not there yet to the limits and the requests of a container.
    pub fn add_resources(&mut self, container: &Container<'_>, resources: &[(&str, u64)]) {
        if resources.is_empty() {
            return;
        }
        let quantities: Vec<String> = resources
            .iter()
            .map(|(name, count)| member(name, &quoted(&count.to_string())))
            .collect();
        let lists = [key::LIMITS, key::REQUESTS];
        match container.node().get(key::RESOURCES) {
            Some(present) => {
                for list in lists {
                    self.extend(present, list, Kind::Object, &quantities);
                }
            }
            None => {
                let both = lists.map(|list| member(list, &Kind::Object.of(&quantities.join(","))));
                self.extend(container.node(), key::RESOURCES, Kind::Object, &both);
            }
        }
    }

    fn extend_spec(&mut self, key: &'static str, kind: Kind, items: &[String]) {
        if let Some(spec) = self.pod.node().get(key::SPEC) {
            self.extend(spec, key, kind, items);
        }
    }

    /// Appends items to the list or object `key` of `parent`, which need not be there.
    fn extend(&mut self, parent: &Node<'_>, key: &'static str, kind: Kind, items: &[String]) {
        if items.is_empty() {
            return;
        }
        let items = items.join(",");
        let present = parent.member(key);
        if let Some(present) = present.filter(|present| !present.is_null()) {
            return self.append(present, &items, None);
        }
        let at = self.place(present.map_or_else(|| inner_end(parent), |null| null.start));
        let made = |it: &&mut Insertion| it.at == at && it.makes == Some(key);
        if let Some(made) = self.insertions.iter_mut().find(made) {
            let bracket = made.text.pop();
            made.text.push(',');
            made.text.push_str(&items);
            made.text.extend(bracket);
            return;
        }
        let list = kind.of(&items);
        match present {
            Some(null) => self.insert(null.start, null.text.len(), list, Some(key)),
            None => self.append(parent, &member(key, &list), Some(key)),
        }
    }

    /// Inserts items behind the last one of a list or object.
    fn append(&mut self, node: &Node<'_>, items: &str, makes: Option<&'static str>) {
        let at = inner_end(node);
        let place = self.place(at);
        let first = node.is_empty() && !self.insertions.iter().any(|it| it.at == place);
        let comma = if first { "" } else { "," };
        self.insert(at, 0, format!("{comma}{items}"), makes);
    }

    fn insert(&mut self, at: usize, replaces: usize, text: String, makes: Option<&'static str>) {
        let at = self.place(at);
        // In the order of the text, and what comes to one place in the order of coming.
        let index = self.insertions.partition_point(|earlier| earlier.at <= at);
        let insertion = Insertion {
            at,
            replaces,
            text,
            makes,
        };
        self.insertions.insert(index, insertion);
    }

    /// An offset in the pod's own text.
    fn place(&self, at: usize) -> usize {
        at.saturating_sub(self.pod.node().start)
    }

    /// The length of the extended pod, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        let replaced: usize = self.insertions.iter().map(|it| it.replaces).sum();
        let inserted: usize = self.insertions.iter().map(|it| it.text.len()).sum();
        self.pod.node().text.len() - replaced + inserted
    }

    /// Writes the extended pod.
    pub fn write(&self, out: &mut String) {
        let original = self.pod.node().text;
        let mut copied = 0;
        for insertion in &self.insertions {
            out.push_str(original.get(copied..insertion.at).unwrap_or_default());
            out.push_str(&insertion.text);
            copied = insertion.at + insertion.replaces;
        }
        out.push_str(original.get(copied..).unwrap_or_default());
    }
}

/// Where a list or an object ends inside its brackets.
fn inner_end(node: &Node<'_>) -> usize {
    node.end().saturating_sub(1)
}
