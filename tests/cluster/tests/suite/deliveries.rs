//! Each way to deliver Mesa, through to QEMU's display.

use serde_json::Value;

use crate::machine::repository;
use crate::world::{DISPLAY, FLAT, LIBRARIES, World, mounts, names};

/// Five mounts, the sidecar, and a display.
pub(crate) fn assert_has_its_display(world: &World, namespace: &str) -> Value {
    let (pod, log) = world.run(&world.pod(namespace, "vm", DISPLAY));
    assert!(
        log.contains("the display is up"),
        "{log}\n{}",
        world.events(&pod)
    );
    assert!(log.contains("hook: socket of 107"), "{log}");
    assert_eq!(pod["status"]["phase"], "Succeeded");
    let status = &pod["metadata"]["annotations"]["mesa-injector.io/status"];
    let injected = "injected: 5 mounts in compute, and the hook for the display";
    assert_eq!(status, injected);
    let (_, paths) = mounts(&pod);
    assert!(paths.contains(&LIBRARIES), "{paths:?}");
    let hook = &pod["status"]["initContainerStatuses"][0];
    assert_eq!(hook["name"], "mesa-injector-hook");
    assert_eq!(hook["restartCount"], 0, "{hook}");
    assert_eq!(hook["state"]["terminated"]["exitCode"], 0, "{hook}");
    pod
}

pub(crate) fn flat(world: &World) {
    world.namespace("flat", Some("restricted"));
    let _installed = world
        .cluster
        .install(&world.flat, &world.module, &[])
        .unwrap();
    let pod = assert_has_its_display(world, "flat");
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let image = volumes
        .iter()
        .find(|volume| volume["name"] == "mesa")
        .unwrap();
    assert_eq!(image["image"]["reference"], FLAT);
}

pub(crate) fn staged(world: &World) {
    world.namespace("staged", None);
    // No one else may write above it, as in the cluster's own directory below /tmp.
    let to = std::fs::canonicalize(repository("target"))
        .unwrap()
        .join("staged");
    let policy = world.stage(&to);
    let installed = world.cluster.install(&policy, &world.module, &[]);
    assert_has_its_display(world, "staged");
    drop(installed.unwrap());
    std::fs::remove_dir_all(to).unwrap();
}

/// The default settings, as the webhook that came before: the node has nothing at these paths.
pub(crate) fn host_paths(world: &World) {
    let policy = std::fs::read_to_string(repository("policy.yaml")).unwrap();
    let policy = serde_norway::from_str(&policy).unwrap();
    let _installed = world.cluster.install(&policy, &world.module, &[]).unwrap();
    let pod = world.create(&world.pod("kubevirt", "vm", DISPLAY)).unwrap();
    let (volumes, _) = mounts(&pod);
    assert!(volumes.contains(&"mesa-libgl"), "{volumes:?}");
    world.wait_for_event(&pod, "hostPath type check failed: /usr/lib64/");
    assert_eq!(world.wait(&pod, |_| true)["status"]["phase"], "Pending");
    world.delete(&pod);
}

pub(crate) fn no_image(world: &World) {
    world.namespace("no-image", Some("restricted"));
    let mut policy = world.flat.clone();
    let missing = "registry.example/nothing:1";
    policy.spec.settings["images"][0]["reference"] = missing.into();
    let _installed = world.cluster.install(&policy, &world.module, &[]).unwrap();
    let pod = world.create(&world.pod("no-image", "vm", DISPLAY)).unwrap();
    world.wait_for_event(&pod, &format!("Failed to pull image \"{missing}\""));
    assert_eq!(world.wait(&pod, |_| true)["status"]["phase"], "Pending");
    world.delete(&pod);
}

pub(crate) fn dry_run(world: &World) {
    world.namespace("dry-run", Some("restricted"));
    let _installed = world
        .cluster
        .install(&world.flat, &world.module, &[])
        .unwrap();
    let pod = world.pod("dry-run", "vm", DISPLAY);
    let kubectl = world.cluster.kubectl();
    let shown = kubectl.create(&pod, &["--dry-run=server"]).unwrap();
    assert!(mounts(&shown).1.contains(&LIBRARIES), "{shown}");
    let [namespace, name] = names(&pod);
    let found = kubectl.get(&["pod", name, "--namespace", namespace]);
    assert!(found.unwrap_err().to_string().contains("not found"));
}
