//! The third way in: module and image go to a registry, and both hosts fetch them from there.

use std::fs;
use std::process::Command;

use cluster_tests::cluster::run;

use crate::deliveries::assert_has_its_display;
use crate::machine::{Registry, built, repository};
use crate::world::{LAUNCHER, World, policy_of, scanner};

pub(crate) fn push_pull_and_run(world: &World) {
    let registry = Registry::start();
    let address = format!("127.0.0.1:{}", registry.port);
    let directory = world.cluster.directory().join("registry");
    fs::create_dir(&directory).unwrap();
    let sources = directory.join("sources.yml");
    fs::write(&sources, format!("insecure_sources: ['{address}']\n")).unwrap();
    let kwctl = |command: &str| {
        let mut kwctl = Command::new(world.hosts.path("kwctl"));
        // Its store of policies.
        kwctl.env("HOME", &directory).arg(command);
        kwctl.arg("--sources-path").arg(&sources);
        kwctl
    };
    let module = format!("registry://{address}/policies/mesa-injector:v0.1.0");
    let annotated = world.module.strip_prefix("file://").unwrap();
    run(kwctl("push").args([annotated, &module])).unwrap();
    let pulled = directory.join("pulled.wasm");
    run(kwctl("pull").arg("--output-path").arg(&pulled).arg(&module)).unwrap();
    assert!(fs::read(&pulled).unwrap() == fs::read(annotated).unwrap());

    // kwctl takes the resource too, where its module is a file.
    let policy = fs::read_to_string(repository("policy.yaml")).unwrap();
    let line = policy
        .lines()
        .find(|line| line.starts_with("  module: "))
        .unwrap();
    let of_file = policy.replace(line, &format!("  module: file://{}", pulled.display()));
    let yaml = directory.join("policy.yaml");
    fs::write(&yaml, of_file).unwrap();
    let request = repository("test_data/row-10-default/request.json");
    let said = run(kwctl("run").arg("--request-path").arg(request).arg(yaml)).unwrap();
    let answer = said
        .lines()
        .find(|line| line.starts_with("{\"uid\""))
        .unwrap();
    let answer: serde_json::Value = serde_json::from_str(answer).unwrap();
    assert_eq!(
        answer["auditAnnotations"]["injected"],
        "6 mounts in compute"
    );

    // The image by its digest, which no node has yet.
    let archive = registry.root.path().join("flat.tar");
    let reference = format!("{address}/mesa:1");
    let policy = policy_of(
        scanner("image", &world.source, &world.launcher)
            .arg("--to")
            .arg(&archive)
            .args(["--reference", &reference, "--launcher-reference", LAUNCHER])
            .arg("--node-program")
            .arg(built("MESA_NODE", "target/mesa-node")),
    );
    let volume = policy.spec.settings["images"][0]["reference"]
        .as_str()
        .unwrap();
    assert!(
        volume.starts_with(&format!("{reference}@sha256:")),
        "{volume}"
    );
    let to = format!("docker://{reference}");
    registry.skopeo(&[
        "copy",
        "--dest-tls-verify=false",
        "oci-archive:/flat.tar",
        &to,
    ]);

    world.namespace("registry", Some("restricted"));
    let sources = sources.display().to_string();
    let installed = world
        .cluster
        .install(&policy, &module, &["--sources-path", &sources]);
    assert_has_its_display(world, "registry");
    drop(installed.unwrap());
}
