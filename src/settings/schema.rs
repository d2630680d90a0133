//! From JSON to [`Settings`]: the keys, what each may hold, and what must hold between them.

use std::borrow::Cow;

use super::reader::{Place, Reader, filled, list, object, text};
use super::{
    ALL_CONTAINERS, Architecture, Display, HostPathType, Match, Mount, OnConflict, Problems,
    PullPolicy, Settings, Source, Volume, rules,
};
use crate::hook;
use crate::json::{Node, Shape, quoted};
use crate::path::CleanPath;

pub(super) fn read(json: &str) -> Result<Settings, Problems> {
    let value = Node::parse(json, &Shape::Tree)
        .map_err(|error| Problems(vec![format!("settings: not JSON: {error}")]))?;
    let mut reader = Reader::default();
    let settings = if value.is_null() {
        Some(Settings::default())
    } else {
        settings(&mut reader, &value)
    };
    reader.finish(settings)
}

fn settings(reader: &mut Reader, value: &Node<'_>) -> Option<Settings> {
    reader.object(&Place::ROOT, value, |reader, fields| {
        let mut read = Settings::default();
        let host_paths = fields.get(reader, list("hostPaths"), |reader, place, value| {
            reader.list(place, value, host_path)
        });
        let images = fields.get(reader, list("images"), |reader, place, value| {
            reader.list(place, value, image)
        });
        let images = images.unwrap_or_default();
        unique(reader, host_paths.as_deref().unwrap_or_default(), &images);
        if host_paths.is_some() || !images.is_empty() {
            let host_paths = host_paths.unwrap_or_default().into_iter();
            read.volumes = host_paths.chain(images).flatten().collect();
        }
        let Settings {
            containers,
            matches,
            inject_by_default,
            node_selector,
            resources,
            architecture,
            image_pull_secrets,
            display: wanted_display,
            on_conflict,
            annotate,
            volumes,
        } = &mut read;
        fields.set(reader, list("containers"), containers, container_names);
        fields.set(reader, object("match"), matches, match_);
        let flag = Reader::boolean;
        fields.set(reader, filled("injectByDefault"), inject_by_default, flag);
        fields.set(reader, object("nodeSelector"), node_selector, labels);
        fields.set(reader, object("resources"), resources, extended_resources);
        fields.set(
            reader,
            text("architecture"),
            architecture,
            |reader, place, value| {
                let chosen = reader.choice(place, value, &Architecture::NAMES);
                chosen.map(Some)
            },
        );
        fields.set(
            reader,
            list("imagePullSecrets"),
            image_pull_secrets,
            |reader, place, value| patterns(reader, place, value, secret_name),
        );
        fields.set(
            reader,
            object("display"),
            wanted_display,
            |reader, place, value| display(reader, place, value, volumes).map(Some),
        );
        fields.set(
            reader,
            text("onConflict"),
            on_conflict,
            |reader, place, value| reader.choice(place, value, &OnConflict::NAMES),
        );
        fields.set(reader, filled("annotate"), annotate, flag);
        Some(read)
    })
}

fn host_path(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<Volume> {
    reader.object(place, value, |reader, fields| {
        let path = filled("path");
        let written = fields.value(path).and_then(Node::as_str);
        let is_library = written.is_some_and(|path| rules::is_library_name(&path));
        let kind = |reader: &mut Reader, place: &Place<'_>, value: &Node<'_>| {
            reader.choice(place, value, &HostPathType::NAMES)
        };
        let kind = if is_library {
            fields.get_or(reader, text("type"), Some(HostPathType::File), kind)
        } else {
            fields.require(reader, text("type"), "File or Directory", kind)
        };
        let example = "the path on the node, as in /usr/lib64/libGL.so.1";
        let path = fields.require(reader, path, example, |reader, place, value| {
            node_path(reader, place, value, kind)
        });
        let mount_path = |reader: &mut Reader, place: &Place<'_>, value: &Node<'_>| {
            mount_path(reader, place, value, kind)
        };
        let mount_path = fields.get_or(reader, text("mountPath"), path.clone(), mount_path);
        let derived = path.as_deref().map(rules::derived_name);
        let name = fields.get_or(reader, text("name"), derived, dns_label);
        Some(Volume {
            name: Cow::Owned(name?),
            source: Source::HostPath {
                path: path?,
                kind: kind?,
            },
            mounts: vec![Mount {
                path: mount_path?,
                sub_path: None,
            }],
        })
    })
}

fn image(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<Volume> {
    reader.object(place, value, |reader, fields| {
        let name = fields.require(reader, filled("name"), "a volume name", dns_label);
        let example = "an image reference, as in registry.example/mesa@sha256:…";
        let reference = fields.require(reader, filled("reference"), example, no_spaces);
        let policy = |reader: &mut Reader, place: &Place<'_>, value: &Node<'_>| {
            reader.choice(place, value, &PullPolicy::NAMES).map(Some)
        };
        let pull_policy = fields.get_or(reader, text("pullPolicy"), Some(None), policy);
        let example =
            "at least one, as in {subPath: lib, mountPath: /usr/lib64/glibc-hwcaps/x86-64-v2}";
        let mounts = fields.require(reader, list("mounts"), example, |reader, place, value| {
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
    })
}

/// A string in which a space can only be a mistake, such as an image's reference.
fn no_spaces(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<String> {
    let string = reader.string(place, value)?;
    if string.contains(|letter: char| letter <= ' ') {
        reader.refuse(place, value, "has a space in it; remove it");
        return None;
    }
    Some(string)
}

fn image_mount(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<Mount> {
    reader.object(place, value, |reader, fields| {
        let part = |reader: &mut Reader, place: &Place<'_>, value: &Node<'_>| {
            sub_path(reader, place, value).map(Some)
        };
        let sub_path = fields.get_or(reader, text("subPath"), Some(None), part);
        let example = "the path in the container";
        let path = fields.require(
            reader,
            filled("mountPath"),
            example,
            |reader, place, value| mount_path(reader, place, value, None),
        );
        Some(Mount {
            path: path?,
            sub_path: sub_path?,
        })
    })
}

fn sub_path(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<String> {
    let path = reader.string(place, value)?;
    let clean = CleanPath::new(&*path);
    let clean = clean.trim_start_matches('/');
    if clean.is_empty() {
        reader.refuse(place, value, "is all of the image; leave it out");
    } else if let Some(problem) = unusual(clean) {
        reader.refuse(place, value, &problem);
    } else if rules::is_glibc_name(clean) {
        reader.refuse(place, value, OF_GLIBC);
    } else if path != clean {
        let problem = format!("is not a clean relative path; write {clean}");
        reader.refuse(place, value, &problem);
    } else {
        return Some(path);
    }
    None
}

const OF_GLIBC: &str = "belongs to glibc, which must be the image's own; leave it out";

const OF_NIXOS: &str = "is of NixOS, whose libraries need others in /nix/store, which is not supported; mount an image with Mesa in it (images)";

/// A path on the node that a pod may be given.
fn node_path(
    reader: &mut Reader,
    place: &Place<'_>,
    value: &Node<'_>,
    kind: Option<HostPathType>,
) -> Option<CleanPath<'static>> {
    clean_path(reader, place, value, kind, |path| {
        if rules::is_of_nixos(path) {
            Some(OF_NIXOS.into())
        } else if let Some(what) = rules::node_only(path) {
            let problem =
                format!("is {what}, which no pod is given; name the libraries themselves");
            Some(problem.into())
        } else if rules::is_glibc_name(path) {
            Some(OF_GLIBC.into())
        } else if rules::covers_glibc(path) {
            let problem =
                "holds glibc, which must be the image's own; name the libraries themselves";
            Some(problem.into())
        } else {
            None
        }
    })
}

/// A path in the container at which something may be mounted.
fn mount_path(
    reader: &mut Reader,
    place: &Place<'_>,
    value: &Node<'_>,
    kind: Option<HostPathType>,
) -> Option<CleanPath<'static>> {
    clean_path(reader, place, value, kind, |path| {
        let problem = if path.contains(':') {
            "has a colon, which Kubernetes refuses in a mount path; write another"
        } else if rules::is_glibc_name(path) {
            OF_GLIBC
        } else if rules::covers_glibc(path) {
            "would hide the image's glibc; write a path below it"
        } else {
            return None;
        };
        Some(problem.into())
    })
}

/// The longest path that Linux takes, in bytes, with the zero behind it.
const PATH_MAX: usize = 4096;

/// What no path may be, however it is written.
fn unusual(path: &str) -> Option<String> {
    if path.len() >= PATH_MAX {
        let problem = format!("has {} bytes; write {} at most", path.len(), PATH_MAX - 1);
        return Some(problem);
    }
    let control = path.contains(|letter: char| letter < ' ');
    control.then(|| "has a control character in it; remove it".to_owned())
}

/// An absolute and clean path; a directory's may end in one `/`, which is dropped.
///
/// `problem` is what else is wrong with the path that was meant: that comes first, so that the path which a message says
/// to write is not refused next.
fn clean_path(
    reader: &mut Reader,
    place: &Place<'_>,
    value: &Node<'_>,
    kind: Option<HostPathType>,
    problem: impl FnOnce(&CleanPath<'_>) -> Option<Cow<'static, str>>,
) -> Option<CleanPath<'static>> {
    let mut path = reader.string(place, value)?;
    if kind != Some(HostPathType::File) && path.len() > 1 && path.ends_with('/') {
        path.pop();
    }
    let clean = CleanPath::new(path.clone());
    if let Some(problem) = unusual(&path) {
        reader.refuse(place, value, &problem);
    } else if let Some(problem) = problem(&clean) {
        reader.refuse(place, value, &problem);
    } else if !path.starts_with('/') {
        let problem = format!("is not an absolute path; write {clean}");
        reader.refuse(place, value, &problem);
    } else if clean.as_str() != path {
        let problem = format!("is not a clean path; write {clean}");
        reader.refuse(place, value, &problem);
    } else {
        return Some(clean);
    }
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
                let fix = match &volume.source {
                    Source::HostPath { path, .. } if rules::derived_name(path) == volume.name => {
                        "its path gives it; write a name of its own"
                    }
                    _ => "write another",
                };
                let name = quoted(&volume.name);
                let problem = format!("{name} is the name of {list}[{index}] too; {fix}");
                reader.problem(&place.field("name"), problem);
            }
            for (mount_index, mount) in volume.mounts.iter().enumerate() {
                if let Some((list, index)) = earlier(&mut paths, &mount.path, here) {
                    let path = quoted(&mount.path);
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

fn container_names(
    reader: &mut Reader,
    place: &Place<'_>,
    value: &Node<'_>,
) -> Option<Vec<String>> {
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
            let problem = format!("{} is containers[{earlier}] too; remove one", quoted(name));
            reader.problem(&place.index(index), problem);
        }
    }
    names.into_iter().collect()
}

fn match_(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<Match> {
    reader.object(place, value, |reader, fields| {
        let mut read = Settings::default().matches;
        let Match {
            labels: wanted_labels,
            resources,
            creators,
            owners,
            images,
        } = &mut read;
        fields.set(reader, object("labels"), wanted_labels, labels);
        fields.set(
            reader,
            list("resources"),
            resources,
            |reader, place, value| patterns(reader, place, value, resource_pattern),
        );
        fields.set(
            reader,
            list("creators"),
            creators,
            |reader, place, value| patterns(reader, place, value, Reader::string),
        );
        fields.set(reader, list("owners"), owners, |reader, place, value| {
            patterns(reader, place, value, no_spaces)
        });
        fields.set(reader, list("images"), images, |reader, place, value| {
            patterns(reader, place, value, no_spaces)
        });
        Some(read)
    })
}

fn secret_name(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<String> {
    let name = reader.string(place, value)?;
    if rules::is_dns_subdomain(&name) {
        return Some(name);
    }
    let problem = "is not the name of a secret; write a-z, 0-9 and, between them, - and .";
    reader.refuse(place, value, problem);
    None
}

fn display(
    reader: &mut Reader,
    place: &Place<'_>,
    value: &Node<'_>,
    volumes: &[Volume],
) -> Option<Display> {
    reader.object(place, value, |reader, fields| {
        let example = "the name of the volume with mesa-node, as mesa-scan writes it";
        let volume = fields.require(reader, filled("volume"), example, |reader, place, value| {
            let name = reader.string(place, value)?;
            let volume = volumes.iter().find(|volume| volume.name == name);
            let problem = match volume.map(|volume| &volume.source) {
                None => "is no volume of images or hostPaths; write the name of one",
                Some(Source::HostPath { kind, .. }) if *kind == HostPathType::File => {
                    "is a file; write the name of a directory's volume"
                }
                Some(_) => return Some(name),
            };
            reader.refuse(place, value, problem);
            None
        });
        let node = |reader: &mut Reader, place: &Place<'_>, value: &Node<'_>| {
            clean_path(reader, place, value, Some(HostPathType::File), |path| {
                let is_known = *path == hook::NO_RENDER_NODE || path.starts_with("/dev/dri/");
                let problem = "is no render node; write /dev/null or one as /dev/dri/renderD128";
                (!is_known).then(|| problem.into())
            })
        };
        let none = CleanPath::new(hook::NO_RENDER_NODE);
        let render_node = fields.get_or(reader, text("renderNode"), Some(none), node);
        let always = fields.get_or(reader, filled("always"), Some(false), Reader::boolean);
        let plugin = |reader: &mut Reader, place: &Place<'_>, value: &Node<'_>| {
            dns_label(reader, place, value).map(Some)
        };
        let plugin = fields.get_or(reader, text("plugin"), Some(None), plugin);
        for (volume, mount) in mounts_of(volumes) {
            if hook::takes(&mount.path) {
                let path = quoted(&mount.path);
                let problem = format!(
                    "the hook has its own at {path}, where {} is mounted; mount that elsewhere",
                    volume.name
                );
                reader.problem(place, problem);
            }
        }
        Some(Display {
            volume: volume?,
            render_node: render_node?,
            always: always?,
            plugin: plugin?,
        })
    })
}

fn mounts_of(volumes: &[Volume]) -> impl Iterator<Item = (&Volume, &Mount)> {
    volumes
        .iter()
        .flat_map(|volume| volume.mounts.iter().map(move |mount| (volume, mount)))
}

fn patterns(
    reader: &mut Reader,
    place: &Place<'_>,
    value: &Node<'_>,
    pattern: fn(&mut Reader, &Place<'_>, &Node<'_>) -> Option<String>,
) -> Option<Vec<String>> {
    reader.list(place, value, pattern)?.into_iter().collect()
}

fn resource_pattern(reader: &mut Reader, place: &Place<'_>, value: &Node<'_>) -> Option<String> {
    let pattern = reader.string(place, value)?;
    if rules::fits_a_resource(&pattern) {
        return Some(pattern);
    }
    let example = || "a device plugin's, as in nvidia.com/*".to_owned();
    let nearest = rules::nearest_resource(&pattern).unwrap_or_else(example);
    let problem = format!("cannot be the name of a resource; write {nearest}");
    reader.refuse(place, value, &problem);
    None
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
