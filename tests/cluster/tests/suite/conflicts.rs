//! Pods that get nothing, and pods that are refused.

use serde_json::json;

use crate::world::{DISPLAY, World, mounts, names};

/// What a script needs that only says so.
const NOTHING: &str = "echo started";

/// The API server does not ask: the policy server is away, and the policy says Fail.
pub(crate) fn without_label(world: &World) {
    world.namespace("without-label", Some("restricted"));
    let mut installed = world
        .cluster
        .install(&world.flat, &world.module, &[])
        .unwrap();
    installed.stop_server();
    let mut pod = world.pod("without-label", "vm", NOTHING);
    let labels = pod["metadata"]["labels"].as_object_mut().unwrap();
    labels.remove("mesa-injector.io/inject").unwrap();
    let (ran, log) = world.run(&pod);
    assert_eq!(log, "started\n");
    assert_eq!(mounts(&ran), mounts(&pod));
}

pub(crate) fn opted_out(world: &World) {
    world.namespace("opted-out", Some("restricted"));
    let _installed = world
        .cluster
        .install(&world.flat, &world.module, &[])
        .unwrap();
    let mut pod = world.pod("opted-out", "vm", NOTHING);
    pod["metadata"]["annotations"]["mesa-injector.io/inject"] = json!("disabled");
    let (ran, log) = world.run(&pod);
    assert_eq!(log, "started\n");
    assert_eq!(mounts(&ran), mounts(&pod));
    assert!(ran["spec"]["initContainers"].is_null(), "{ran}");
    let annotations = &ran["metadata"]["annotations"];
    assert!(annotations["mesa-injector.io/status"].is_null(), "{ran}");
}

pub(crate) fn rejected(world: &World) {
    world.namespace("rejected", Some("restricted"));
    let _installed = world
        .cluster
        .install(&world.flat, &world.module, &[])
        .unwrap();
    let mut pod = world.pod("rejected", "vm", NOTHING);
    let volumes = pod["spec"]["volumes"].as_array_mut().unwrap();
    volumes.push(json!({"name": "mesa", "emptyDir": {}}));
    let said = world.create(&pod).unwrap_err().to_string();
    assert!(said.contains("admission webhook"), "{said}");
    assert!(said.contains("volume mesa"), "{said}");
    let [namespace, name] = names(&pod);
    let found = world
        .cluster
        .kubectl()
        .get(&["pod", name, "--namespace", namespace]);
    assert!(found.unwrap_err().to_string().contains("not found"));
}

pub(crate) fn second_pass(world: &World) {
    world.namespace("second-pass", Some("restricted"));
    let _installed = world
        .cluster
        .install(&world.flat, &world.module, &[])
        .unwrap();
    let pod = world.pod("second-pass", "vm", DISPLAY);
    let kubectl = world.cluster.kubectl();
    let once = kubectl.create(&pod, &["--dry-run=server"]).unwrap();
    let mut again = once.clone();
    for key in [
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "managedFields",
    ] {
        again["metadata"].as_object_mut().unwrap().remove(key);
    }
    let twice = kubectl.create(&again, &["--dry-run=server"]).unwrap();
    assert_eq!(once["spec"], twice["spec"]);
    assert_eq!(
        once["metadata"]["annotations"],
        twice["metadata"]["annotations"]
    );
}
