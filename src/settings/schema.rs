//! From JSON to [`Settings`]: the keys, what each may hold, and what must hold between them.

use std::borrow::Cow;

use super::reader::{Place, Reader};
use super::{
    ALL_CONTAINERS, HostPathType, Match, Mount, OnConflict, Problems, PullPolicy, Settings, Source,
    Volume, rules,
};
use crate::json::{Node, Quoted, Shape};

const SETTINGS: [&str; 9] = [
    "hostPaths",
    "images",
    "containers",
    "match",
    "injectByDefault",
    "nodeSelector",
    "resources",
    "onConflict",
    "annotate",
];
const HOST_PATH: [&str; 4] = ["path", "type", "mountPath", "name"];
const IMAGE: [&str; 4] = ["name", "reference", "pullPolicy", "mounts"];
const IMAGE_MOUNT: [&str; 2] = ["subPath", "mountPath"];
const MATCH: [&str; 4] = ["labels", "resources", "creators", "owners"];

const HOST_PATH_TYPES: [(&str, HostPathType); 2] = [
    ("File", HostPathType::File),
    ("Directory", HostPathType::Directory),
];
const PULL_POLICIES: [(&str, PullPolicy); 3] = [
    ("Always", PullPolicy::Always),
    ("Never", PullPolicy::Never),
    ("IfNotPresent", PullPolicy::IfNotPresent),
];
const ON_CONFLICT: [(&str, OnConflict); 2] =
    [("skip", OnConflict::Skip), ("reject", OnConflict::Reject)];

pub(super) fn read(json: &str) -> Result<Settings, Problems> {
    let value = Node::parse(json, &Shape::Tree).map_err(|error| {
        let problem = format!("settings: not JSON from byte {} on", error.at);
        Problems(vec![problem])
    })?;
    let mut reader = Reader::default();
    let settings = if value.is_null() {
        Some(Settings::default())
    } else {
        settings(&mut reader, &value)
    };
    reader.finish(settings)
}

fn settings(reader: &mut Reader, value: &Node<'_>) -> Option<Settings> {
    let fields = reader.fields(&Place::ROOT, value, &SETTINGS)?;
    let mut read = Settings::default();
    let host_paths = fields.get(reader, "hostPaths", |reader, place, value| {
        reader.list(place, value, host_path)
    });
    let images = fields.get(reader, "images", |reader, place, value| {
        reader.list(place, value, image)
    });
    let images = images.unwrap_or_default();
    unique(reader, host_paths.as_deref().unwrap_or_default(), &images);
    if host_paths.is_some() || !images.is_empty() {
        let host_paths = host_paths.unwrap_or_default().into_iter();
        read.volumes = host_paths.chain(images).flatten().collect();
    }
    fields.set(reader, "containers", &mut read.containers, containers);
    fields.set(reader, "match", &mut read.matches, matches);
    fields.set(
        reader,
        "injectByDefault",
        &mut read.inject_by_default,
        Reader::boolean,
    );
    fields.set(reader, "nodeSelector", &mut read.node_selector, labels);
    fields.set(reader, "resources", &mut read.resources, extended_resources);
    fields.set(reader, "onConflict", &mut read.on_conflict, on_conflict);
    fields.set(reader, "annotate", &mut read.annotate, Reader::boolean);
    Some(read)
}

fn on_conflict(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<OnConflict> {
    reader.choice(place, value, &ON_CONFLICT)
}

fn host_path(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<Volume> {
    let fields = reader.fields(place, value, &HOST_PATH)?;
    let written = fields.value("path").and_then(Node::as_str);
    let is_library = written.is_some_and(|path| rules::is_library_name(&path));
    let kind = if is_library && fields.value("type").is_none() {
        Some(HostPathType::File)
    } else {
        let kind = |reader: &mut Reader, place: &Place<'_>, value: &Node<'_>| {
            reader.choice(place, value, &HOST_PATH_TYPES)
        };
        fields.require(reader, "type", "File or Directory", kind)
    };
    let example = "the path on the node, as in /usr/lib64/libGL.so.1";
    let path = fields.require(reader, "path", example, |reader, place, value| {
        node_path(reader, place, value, kind)
    });
    let mount_path = match fields.value("mountPath") {
        Some(_) => fields.get(reader, "mountPath", |reader, place, value| {
            mount_path(reader, place, value, kind)
        }),
        None => path.clone(),
    };
    let name = match fields.value("name") {
        Some(_) => fields.get(reader, "name", dns_label),
        None => path.as_deref().map(rules::derived_name),
    };
    Some(Volume {
        name: Cow::Owned(name?),
        source: Source::HostPath {
            path: Cow::Owned(path?),
            kind: kind?,
        },
        mounts: vec![Mount {
            path: Cow::Owned(mount_path?),
            sub_path: None,
        }],
    })
}

fn image(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<Volume> {
    let fields = reader.fields(place, value, &IMAGE)?;
    let name = fields.require(reader, "name", "a volume name", dns_label);
    let example = "an image reference, as in registry.example/mesa@sha256:…";
    let reference = fields.require(reader, "reference", example, image_reference);
    let pull_policy = match fields.value("pullPolicy") {
        Some(_) => fields.get(reader, "pullPolicy", |reader, place, value| {
            reader.choice(place, value, &PULL_POLICIES).map(Some)
        }),
        None => Some(None),
    };
    let example =
        "at least one, as in {subPath: lib, mountPath: /usr/lib64/glibc-hwcaps/x86-64-v2}";
    let mounts = fields.require(reader, "mounts", example, |reader, place, value| {
        let mounts = reader.list(place, value, image_mount)?;
        if mounts.is_empty() {
            reader.refuse(place, value, &format!("is empty; write {example}"));
            return None;
        }
        mounts.into_iter().collect()
    });
    Some(Volume {
        name: Cow::Owned(name?),
        source: Source::Image {
            reference: reference?,
            pull_policy: pull_policy?,
        },
        mounts: mounts?,
    })
}

fn image_reference(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<String> {
    let reference = reader.string(place, value)?;
    if reference.contains(|letter: char| letter <= ' ') {
        reader.refuse(place, value, "has a space in it; remove it");
        return None;
    }
    Some(reference)
}

fn image_mount(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<Mount> {
    let fields = reader.fields(place, value, &IMAGE_MOUNT)?;
    let sub_path = match fields.value("subPath") {
        Some(_) => fields.get(reader, "subPath", sub_path).map(Some),
        None => Some(None),
    };
    let example = "the path in the container";
    let mount_path = fields.require(reader, "mountPath", example, |reader, place, value| {
        mount_path(reader, place, value, None)
    });
    Some(Mount {
        path: Cow::Owned(mount_path?),
        sub_path: sub_path?,
    })
}

fn sub_path(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<String> {
    let path = reader.string(place, value)?;
    let clean = rules::clean(&path);
    let clean = clean.trim_start_matches('/');
    if path != clean {
        let problem = format!("is not a clean relative path; write {clean}");
        reader.refuse(place, value, &problem);
    } else if rules::is_glibc_name(&path) {
        reader.refuse(place, value, OF_GLIBC);
    } else {
        return Some(path);
    }
    None
}

const OF_GLIBC: &str = "belongs to glibc, which must be the image's own; leave it out";

/// A path on the node that a pod may be given.
fn node_path(
    reader: &mut Reader,
    place: &Place<'_>,
    value: &Node<'_>,
    kind: Option<HostPathType>,
) -> Option<String> {
    let path = absolute_path(reader, place, value, kind)?;
    if let Some(what) = rules::node_only(&path) {
        let problem = format!("is {what}, which no pod is given; name the libraries themselves");
        reader.refuse(place, value, &problem);
    } else if rules::is_glibc_name(&path) {
        reader.refuse(place, value, OF_GLIBC);
    } else if rules::covers_glibc(&path) {
        let problem = "holds glibc, which must be the image's own; name the libraries themselves";
        reader.refuse(place, value, problem);
    } else {
        return Some(path);
    }
    None
}

/// A path in the container at which something may be mounted.
fn mount_path(
    reader: &mut Reader,
    place: &Place<'_>,
    value: &Node<'_>,
    kind: Option<HostPathType>,
) -> Option<String> {
    let path = absolute_path(reader, place, value, kind)?;
    let problem = if path.contains(':') {
        "has a colon, which Kubernetes refuses in a mount path; write another"
    } else if rules::is_glibc_name(&path) {
        OF_GLIBC
    } else if rules::covers_glibc(&path) {
        "would hide the image's glibc; write a path below it"
    } else {
        return Some(path);
    };
    reader.refuse(place, value, problem);
    None
}

/// The longest path that Linux takes, in bytes, with the zero behind it.
const PATH_MAX: usize = 4096;

/// An absolute and clean path; a directory's may end in one `/`, which is dropped.
fn absolute_path(
    reader: &mut Reader,
    place: &Place<'_>,
    value: &Node<'_>,
    kind: Option<HostPathType>,
) -> Option<String> {
    let mut path = reader.string(place, value)?;
    if kind != Some(HostPathType::File) && path.len() > 1 && path.ends_with('/') {
        path.pop();
    }
    let problem = if path.len() >= PATH_MAX {
        format!("has {} bytes; write {} at most", path.len(), PATH_MAX - 1)
    } else if path.contains(|letter: char| letter < ' ') {
        "has a control character in it; remove it".to_owned()
    } else if !path.starts_with('/') {
        format!("is not an absolute path; write {}", rules::clean(&path))
    } else if !rules::is_clean(&path) {
        format!("is not a clean path; write {}", rules::clean(&path))
    } else {
        return Some(path);
    };
    reader.refuse(place, value, &problem);
    None
}

fn dns_label(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<String> {
    let name = reader.string(place, value)?;
    if rules::is_dns_label(&name) {
        return Some(name);
    }
    let problem = "is not a DNS label; write a-z, 0-9 and, between them, -, 63 at most";
    reader.refuse(place, value, problem);
    None
}

/// The API server refuses a pod with two volumes of a name, or two mounts at a path.
fn unique(reader: &mut Reader, host_paths: &[Option<Volume>], images: &[Option<Volume>]) {
    let lists = [("hostPaths", host_paths), ("images", images)];
    let mut names: Vec<(&str, (&str, usize))> = Vec::new();
    let mut paths: Vec<(&str, (&str, usize))> = Vec::new();
    for (list, volumes) in lists {
        let place = Place::ROOT.field(list);
        let volumes = volumes.iter().enumerate();
        for (index, volume) in volumes.filter_map(|(index, volume)| Some((index, volume.as_ref()?)))
        {
            let place = place.index(index);
            let here = (list, index);
            if let Some((list, index)) = earlier(&mut names, &volume.name, here) {
                let mend = match &volume.source {
                    Source::HostPath { path, .. } if rules::derived_name(path) == volume.name => {
                        "its path gives it; write a name of its own"
                    }
                    _ => "write another",
                };
                let name = Quoted(&volume.name);
                let problem = format!("{name} is the name of {list}[{index}] too; {mend}");
                reader.problem(&place.field("name"), problem);
            }
            for (mount_index, mount) in volume.mounts.iter().enumerate() {
                if let Some((list, index)) = earlier(&mut paths, &mount.path, here) {
                    let path = Quoted(&mount.path);
                    let problem =
                        format!("{path} is a mount path of {list}[{index}] too; write another");
                    match volume.source {
                        Source::HostPath { .. } => {
                            reader.problem(&place.field("mountPath"), problem);
                        }
                        Source::Image { .. } => {
                            let mounts = place.field("mounts");
                            let mount = mounts.index(mount_index);
                            reader.problem(&mount.field("mountPath"), problem);
                        }
                    }
                }
            }
        }
    }
}

/// Where a text was seen before; else it is seen now. The texts are kept in order.
fn earlier<'t, P: Copy>(seen: &mut Vec<(&'t str, P)>, text: &'t str, place: P) -> Option<P> {
    match seen.binary_search_by(|(other, _)| (*other).cmp(text)) {
        Ok(index) => seen.get(index).map(|(_, place)| *place),
        Err(index) => {
            seen.insert(index, (text, place));
            None
        }
    }
}

fn containers(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<Vec<String>> {
    let names = reader.list(place, value, |reader, place, value| match value.as_str() {
        Some(name) if name == ALL_CONTAINERS => Some(name.into_owned()),
        _ => dns_label(reader, place, value),
    })?;
    if names.is_empty() {
        reader.refuse(
            place,
            value,
            "names no container; write [compute], or leave it out",
        );
    }
    for (index, name) in names.iter().enumerate() {
        let earlier = names.iter().take(index).position(|earlier| earlier == name);
        if let (Some(name), Some(earlier)) = (name, earlier) {
            let problem = format!("{} is containers[{earlier}] too; remove one", Quoted(name));
            reader.problem(&place.index(index), problem);
        }
    }
    names.into_iter().collect()
}

fn matches(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<Match> {
    let fields = reader.fields(place, value, &MATCH)?;
    let mut read = Settings::default().matches;
    fields.set(reader, "labels", &mut read.labels, labels);
    fields.set(reader, "resources", &mut read.resources, patterns);
    fields.set(reader, "creators", &mut read.creators, strings);
    fields.set(reader, "owners", &mut read.owners, strings);
    Some(read)
}

fn strings(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<Vec<String>> {
    reader
        .list(place, value, Reader::string)?
        .into_iter()
        .collect()
}

fn patterns(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<Vec<String>> {
    reader.list(place, value, pattern)?.into_iter().collect()
}

fn pattern(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<String> {
    let pattern = reader.string(place, value)?;
    if pattern.matches('*').count() > 1 {
        reader.refuse(place, value, "has more than one *; keep one");
        return None;
    }
    Some(pattern)
}

fn labels(
    reader: &mut Reader,
    place: &Place<'_>,
    value: &Node<'_>,
) -> Option<Vec<(String, String)>> {
    reader.map(place, value, |reader, place, key, value| {
        let Some(text) = value.as_str() else {
            let problem = format!("is not a string; write \"{}\"", value.text);
            reader.refuse(place, value, &problem);
            return None;
        };
        if !rules::is_qualified_name(key) {
            let problem = "not a label key; write one, as in kubevirt.io/schedulable";
            reader.problem(place, problem);
            return None;
        }
        if !rules::is_label_value(&text) {
            let rule = "letters, digits and, between them, - _ ., 63 at most";
            reader.refuse(place, value, &format!("is not a label value; write {rule}"));
            return None;
        }
        Some(text.into_owned())
    })
}

fn extended_resources(
    reader: &mut Reader,
    place: &Place<'_>,
    value: &Node<'_>,
) -> Option<Vec<(String, u64)>> {
    reader.map(place, value, |reader, place, key, value| {
        let domain = key.split_once('/').map(|(domain, _)| domain);
        let native = domain
            .is_none_or(|domain| domain == "kubernetes.io" || domain.ends_with(".kubernetes.io"));
        if native || !rules::is_qualified_name(key) {
            let problem = "not an extended resource; write a device plugin's, as in squat.ai/dri";
            reader.problem(place, problem);
            return None;
        }
        reader.count(place, value)
    })
}
