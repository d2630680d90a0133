//! What is away, or another than was thought.

use crate::world::{DISPLAY, LIBRARIES, World, mounts};

pub(crate) fn no_policy_server(world: &World) {
    world.namespace("no-policy-server", Some("restricted"));
    let pod = world.pod("no-policy-server", "vm", DISPLAY);

    assert_eq!(world.flat.spec.failure_policy.as_deref(), Some("Fail"));
    let mut installed = world
        .cluster
        .install(&world.flat, &world.module, &[])
        .unwrap();
    installed.stop_server();
    let said = world.create(&pod).unwrap_err().to_string();
    assert!(said.contains("failed calling webhook"), "{said}");
    drop(installed);

    let mut policy = world.flat.clone();
    policy.spec.failure_policy = Some("Ignore".to_owned());
    let mut installed = world.cluster.install(&policy, &world.module, &[]).unwrap();
    installed.stop_server();
    let (ran, log) = world.run(&pod);
    assert_eq!(mounts(&ran), mounts(&pod));
    assert!(
        log.contains("Display 'egl-headless' is not available"),
        "{log}"
    );
    assert!(!log.contains("the display is up"), "{log}");
}

/// Kubernetes 1.34 without the gate ImageVolume drops the volume and its mounts after admission, without a word.
pub(crate) fn gate_off(world: &World) {
    world.namespace("gate-off", Some("restricted"));
    let _installed = world
        .cluster
        .install(&world.flat, &world.module, &[])
        .unwrap();
    let flags = [
        "--emulated-version=1.34",
        "--feature-gates=ImageVolume=false",
    ];
    let old = world
        .cluster
        .start_api_server("apiserver-1.34", 6444, &flags);
    let old = old.unwrap();
    let policy = world.policy_file(&world.flat);
    let (code, said) = world.tool(&old, &["preflight"], &policy);
    let warning = "drops image volumes without a word; update to 1.35";
    assert_eq!((code, said.contains(warning)), (1, true), "{said}");
    let created = old.create(&world.pod("gate-off", "vm", DISPLAY), &[]);
    let created = created.unwrap();
    let (volumes, paths) = mounts(&created);
    assert!(!volumes.contains(&"mesa"), "{volumes:?}");
    assert!(!paths.contains(&LIBRARIES), "{paths:?}");

    // The hook's program lies in that volume, and compute does not start before the hook.
    world.wait_for_event(&created, "/mesa-injector/mesa-node");
    let now = world.wait(&created, |_| true);
    assert_eq!(now["status"]["phase"], "Pending", "{now}");
    let said = world.log(&now, "compute");
    assert!(said.contains("is waiting to start"), "{said}");
    world.delete(&created);
}
