//! What holds for every pod and every valid setting.
use std::collections::BTreeSet;

use crate::common::{request, validate};
use mesa_injector::path::CleanPath;
use mesa_injector::settings::Settings;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

/// Names that pods and settings share, so that they meet.
const VOLUMES: [&str; 4] = ["mesa-dri", "mesa-libgl", "vendor", "data"];
const PATHS: [&str; 4] = [
    "/usr/lib64/dri",
    "/usr/lib64/libGL.so.1",
    "/opt/a",
    "/opt/b",
];
/// What pods mount besides: at the same places, above them, below them and elsewhere, written in all ways.
const OTHER_PATHS: [&str; 7] = [
    "usr/lib64/dri",
    "/usr/lib64/../lib64/libGL.so.1",
    "/opt",
    "/opt/a/below",
    "/opt/ab",
    "//usr//share/",
    "/var/run/kubevirt",
];
const CONTAINERS: [&str; 4] = ["compute", "sidecar", "init", "other"];
const LABELS: [&str; 3] = ["kubevirt.io", "ready", "example.com/zone"];
const RESOURCES: [&str; 3] = ["squat.ai/dri", "nvidia.com/gpu", "cpu"];

const STATUS: &str = "/metadata/annotations/mesa-injector.io~1status";

/// An object of some of these members.
fn some_of(members: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let members: Vec<_> = members
        .into_iter()
        .map(|(key, value)| prop::option::weighted(0.7, value.prop_map(move |value| (key, value))))
        .collect();
    members
        .prop_map(|members| {
            let members = members.into_iter().flatten();
            members
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<Map<_, _>>()
                .into()
        })
        .boxed()
}

/// A list whose items differ under `key`.
fn list(item: BoxedStrategy<Value>, key: &'static str, most: usize) -> BoxedStrategy<Value> {
    prop::collection::vec(item, 0..=most)
        .prop_map(move |items| {
            let mut seen = BTreeSet::new();
            let mut items = items;
            items.retain(|item| seen.insert(item[key].to_string()));
            Value::from(items)
        })
        .boxed()
}

/// Volume mounts of which no two are at one place: that no runtime would make.
fn mounts(mount: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop::collection::vec(mount, 0..=4)
        .prop_map(|mut mounts| {
            let mut seen = BTreeSet::new();
            mounts.retain(|mount| seen.insert(path(mount).to_string()));
            Value::from(mounts)
        })
        .boxed()
}

fn or_null(value: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop_oneof![6 => value, 1 => Just(Value::Null)].boxed()
}

fn word(words: &'static [&'static str]) -> BoxedStrategy<Value> {
    select(words).prop_map(Value::from).boxed()
}

fn map(keys: &'static [&'static str], values: &'static [&'static str]) -> BoxedStrategy<Value> {
    prop::collection::btree_map(select(keys), select(values), 0..3)
        .prop_map(|map| json!(map))
        .boxed()
}

/// What the API has more of than we know.
fn anything() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Such as serde_json reads back exactly, which it does not promise of all.
        any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |value| {
        prop_oneof![
            prop::collection::vec(value.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), value, 0..3).prop_map(|map| json!(map)),
        ]
    })
    .boxed()
}

/// A pod that the API server would take: names and mount paths are unique.
fn pod() -> BoxedStrategy<Value> {
    let volume = (select(&VOLUMES[..]), 0..3).prop_map(|(name, source)| match source {
        0 => json!({"name": name, "emptyDir": {}}),
        1 => json!({"name": name, "hostPath": {"path": "/usr/lib64/dri", "type": "Directory"}}),
        _ => json!({"hostPath": {"type": "File", "path": "/usr/lib64/libGL.so.1"}, "name": name}),
    });
    let path = prop_oneof![5 => select(&PATHS[..]), 1 => select(&OTHER_PATHS[..])];
    let mount = (select(&VOLUMES[..]), path, any::<bool>()).prop_map(
        |(name, path, read_only)| json!({"name": name, "mountPath": path, "readOnly": read_only}),
    );
    let container = |mount: BoxedStrategy<Value>| {
        (
            word(&CONTAINERS),
            some_of(vec![
                ("image", anything()),
                ("volumeMounts", or_null(mounts(mount))),
                (
                    "resources",
                    or_null(some_of(vec![
                        ("limits", or_null(map(&RESOURCES, &["1", "2"]))),
                        ("requests", or_null(map(&RESOURCES, &["1", "2"]))),
                    ])),
                ),
                ("zzz", anything()),
            ]),
        )
            .prop_map(|(name, mut container)| {
                container["name"] = name;
                container
            })
            .boxed()
    };
    let annotations = prop::collection::btree_map(
        select(
            &[
                "mesa-injector.io/inject",
                "kubevirt.io/ephemeral-provisioning",
                "mesa-injector.io/status",
                "a",
            ][..],
        ),
        select(&["enabled", "disabled", "true", "x"][..]),
        0..2,
    );
    let metadata = some_of(vec![
        (
            "annotations",
            or_null(annotations.prop_map(|map| json!(map)).boxed()),
        ),
        (
            "ownerReferences",
            or_null(list(
                word(&["VirtualMachineInstance", "Pod"])
                    .prop_map(|kind| json!({"kind": kind}))
                    .boxed(),
                "kind",
                2,
            )),
        ),
        ("name", anything()),
    ]);
    let spec = some_of(vec![
        ("volumes", or_null(list(volume.boxed(), "name", 4))),
        (
            "containers",
            list(container(mount.clone().boxed()), "name", 3),
        ),
        (
            "initContainers",
            or_null(list(container(mount.boxed()), "name", 2)),
        ),
        ("nodeSelector", or_null(map(&LABELS, &["true", "false"]))),
        ("affinity", anything()),
    ]);
    (metadata, spec, anything())
        .prop_map(|(mut metadata, spec, unknown)| {
            metadata["labels"] = json!({"kubevirt.io": "virt-launcher"});
            json!({"metadata": metadata, "spec": spec, "unknown": unknown})
        })
        .boxed()
}

/// Settings that are valid, of every kind.
fn settings() -> BoxedStrategy<Value> {
    let host_path = (select(&VOLUMES[..]), select(&PATHS[..]), any::<bool>()).prop_map(
        |(name, path, is_file)| {
            let kind = if is_file { "File" } else { "Directory" };
            json!({"name": name, "path": path, "type": kind, "mountPath": path})
        },
    );
    let image = (
        select(&["data", "image"][..]),
        prop::option::of(select(&["Always", "Never"][..])),
    )
        .prop_map(|(name, policy)| {
            json!({
                "name": name, "reference": "registry.example/mesa", "pullPolicy": policy,
                "mounts": [{"subPath": "a", "mountPath": "/opt/c"}, {"mountPath": "/opt/d"}],
            })
        });
    let settings = some_of(vec![
        (
            "hostPaths",
            list(
                list(host_path.boxed(), "name", 4)
                    .prop_map(Value::from)
                    .boxed(),
                "none",
                1,
            )
            .prop_map(|lists| lists.get(0).cloned().unwrap_or(json!([])))
            .boxed(),
        ),
        ("images", list(image.boxed(), "none", 1)),
        (
            "containers",
            prop_oneof![
                Just(json!(["compute"])),
                Just(json!(["*"])),
                Just(json!(["init", "compute"])),
                Just(json!(["*", "init"])),
            ]
            .boxed(),
        ),
        (
            "match",
            some_of(vec![
                (
                    "resources",
                    prop_oneof![4 => Just(json!([])), 1 => Just(json!(["nvidia.com/*"]))].boxed(),
                ),
                (
                    "owners",
                    prop_oneof![4 => Just(json!([])), 1 => Just(json!(["VirtualMachineInstance"]))]
                        .boxed(),
                ),
            ]),
        ),
        (
            "injectByDefault",
            prop::bool::weighted(0.8).prop_map(Value::from).boxed(),
        ),
        ("nodeSelector", map(&LABELS[1..], &["true"])),
        (
            "resources",
            prop_oneof![
                Just(json!({})),
                Just(json!({"squat.ai/dri": 1, "a.example/b": 2}))
            ]
            .boxed(),
        ),
        ("onConflict", word(&["skip", "reject"])),
        ("annotate", any::<bool>().prop_map(Value::from).boxed()),
    ]);
    (settings, any::<bool>())
        .prop_map(|(mut settings, has_display)| {
            let volume = settings.pointer("/images/0/name").cloned();
            if let (Some(volume), true) = (volume, has_display) {
                settings["display"] = json!({"volume": volume});
            }
            settings
        })
        .prop_filter("the settings are valid", |settings| {
            Settings::from_json(&settings.to_string()).is_ok()
        })
        .boxed()
}

fn path(mount: &Value) -> CleanPath<'_> {
    CleanPath::new(mount["mountPath"].as_str().unwrap())
}

/// Whether all of `part` is in `whole`: lists have more only at their end, objects more keys, and `null` became a
/// list or an object.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(key, part)| whole.get(key).is_some_and(|whole| contains(whole, part))),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() >= part.len()
                && part
                    .iter()
                    .zip(whole)
                    .all(|(part, whole)| contains(whole, part))
        }
        (Value::Object(_) | Value::Array(_), Value::Null) => true,
        _ => whole == part,
    }
}

fn unique<'v>(values: impl Iterator<Item = &'v Value>) -> bool {
    let mut seen = BTreeSet::new();
    values
        .into_iter()
        .all(|value| seen.insert(value.to_string()))
}

fn items<'v>(object: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    object[key].as_array().into_iter().flatten()
}

fn has_no_duplicates(pod: &Value) -> bool {
    let spec = &pod["spec"];
    let containers = items(spec, "containers").chain(items(spec, "initContainers"));
    unique(items(spec, "volumes").map(|volume| &volume["name"]))
        && containers.into_iter().all(|container| {
            let paths = items(container, "volumeMounts").map(|mount| path(mount).to_string());
            unique(paths.map(Value::from).collect::<Vec<_>>().iter())
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_original_is_in_the_result_and_the_patch_only_adds(pod in pod(), settings in settings()) {
        let request = request(&pod);
        let answer = validate(&request, &settings);
        let mut object = answer.object(&request);
        for operation in answer.patch_json().as_array().unwrap() {
            let path = operation["path"].as_str().unwrap();
            // A status that is no longer true is written over.
            if path == STATUS && operation["op"] == "replace" {
                *object.pointer_mut(STATUS).unwrap() = pod.pointer(STATUS).unwrap().clone();
                continue;
            }
            let was_null = || pod.pointer(path) == Some(&Value::Null);
            prop_assert!(operation["op"] == "add" || (operation["op"] == "replace" && was_null()), "{operation}");
        }
        prop_assert!(contains(&object, &pod), "{}", answer.response);
    }

    #[test]
    fn the_second_pass_changes_nothing_and_says_the_same(pod in pod(), settings in settings()) {
        let first_request = request(&pod);
        let first = validate(&first_request, &settings);
        let second = validate(&request(&first.object(&first_request)), &settings);
        prop_assert!(second.patch.is_empty(), "{}", second.response);
        prop_assert_eq!(&first.response["accepted"], &second.response["accepted"]);
        prop_assert_eq!(first.audit("skip-reason"), second.audit("skip-reason"));
        prop_assert_eq!(first.warnings(), second.warnings());
    }

    #[test]
    fn no_volume_and_no_mount_path_is_there_twice(pod in pod(), settings in settings()) {
        prop_assert!(has_no_duplicates(&pod));
        let request = request(&pod);
        let answer = validate(&request, &settings);
        prop_assert!(has_no_duplicates(&answer.object(&request)), "{}", answer.response);
    }

    #[test]
    fn a_conflict_leaves_the_spec_as_it_is(pod in pod(), settings in settings()) {
        let request = request(&pod);
        let answer = validate(&request, &settings);
        if answer.audit("skip-reason") == Some("conflict") || answer.response["accepted"] == false {
            prop_assert_eq!(&answer.object(&request)["spec"], &pod["spec"]);
        }
    }

    #[test]
    fn what_is_injected_is_there_in_full(pod in pod(), settings in settings()) {
        let request = request(&pod);
        let answer = validate(&request, &settings);
        if answer.audit("injected").is_some() {
            let read = Settings::from_json(&settings.to_string()).unwrap();
            let object = answer.object(&request);
            let spec = &object["spec"];
            for volume in &read.volumes {
                prop_assert!(items(spec, "volumes").any(|there| there["name"] == *volume.name));
            }
            let targets = items(spec, "containers").filter(|container| {
                read.containers.iter().any(|name| name == "*" || container["name"] == **name)
            });
            for container in targets {
                for (volume, mount) in read.volumes.iter().flat_map(|volume| volume.mounts.iter().map(move |mount| (volume, mount))) {
                    let there = items(container, "volumeMounts").any(|there| {
                        there["name"] == *volume.name && path(there) == mount.path && there["readOnly"] == true
                    });
                    prop_assert!(there, "{} in {container}", mount.path);
                    let in_the_way = items(container, "volumeMounts").find(|other| {
                        mount.path.is_below(&path(other)) || path(other).is_below(&mount.path)
                    });
                    prop_assert_eq!(in_the_way, None);
                }
            }
            for (key, value) in &read.node_selector {
                prop_assert_eq!(&spec["nodeSelector"][key], value);
            }
        }
    }

    #[test]
    fn the_same_input_gives_the_same_bytes(pod in pod(), settings in settings()) {
        let payload = json!({"request": request(&pod), "settings": settings}).to_string();
        prop_assert_eq!(mesa_injector::validate(payload.as_bytes()), mesa_injector::validate(payload.as_bytes()));
    }
}

#[test]
fn the_generated_pods_and_settings_reach_every_outcome() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut outcomes = BTreeSet::new();
    for _ in 0..3000 {
        let (pod, settings) = (pod(), settings()).new_tree(&mut runner).unwrap().current();
        let answer = validate(&request(&pod), &settings);
        let outcome = match (answer.audit("skip-reason"), answer.audit("injected")) {
            (Some(reason), _) => reason.to_owned(),
            (_, Some(_)) => "injected".to_owned(),
            _ if answer.response["accepted"] == false => "rejected".to_owned(),
            _ => "untouched".to_owned(),
        };
        outcomes.insert(outcome);
    }
    for outcome in [
        "injected",
        "rejected",
        "untouched",
        "conflict",
        "provisioning-pod",
        "no-container",
        "opted-out",
        "not-opted-in",
        "no-resource",
        "other-owner",
    ] {
        assert!(
            outcomes.contains(outcome),
            "{outcome} is not among {outcomes:?}"
        );
    }
}
