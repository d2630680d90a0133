//! The image on the node, for clusters without image volumes: deploy/node and docs/node.md as they stand, from the DaemonSet to
//! the display, and away again.

use std::fs;
use std::path::{Path, PathBuf};

use cluster_tests::cluster::NODE;
use serde_json::{Value, json};

use crate::deliveries::assert_has_its_display;
use crate::machine::{built, repository};
use crate::world::{DISPLAY, FLAT, LAUNCHER, World, policy_of, scanner};

const NAMESPACE: &str = "mesa-injector";

pub(crate) fn life(world: &World) {
    let cluster = &world.cluster;
    let kubectl = cluster.kubectl();
    let _scheduler = cluster.start_scheduler().unwrap();
    let _controllers = cluster.start_controllers().unwrap();
    let here = cluster.directory().join("node-delivery");
    let [files, features] = ["files", "features.d"].map(|name| here.join(name));
    fs::create_dir(&here).unwrap();

    let archive = here.join("flat.tar");
    let mut scan = scanner("image", &world.source, &world.launcher);
    scan.arg("--to").arg(&archive).args(["--reference", FLAT]);
    scan.args(["--launcher-reference", LAUNCHER, "--deliver", "node"]);
    scan.arg("--node-path").arg(&files).arg("--node-program");
    let policy = policy_of(scan.arg(built("MESA_NODE", "target/mesa-node")));
    let settings = &policy.spec.settings;
    assert!(settings.get("images").is_none(), "{settings:?}");
    let selector = settings["nodeSelector"].as_object().unwrap().clone();

    let text = fs::read_to_string(repository("docs/node.md")).unwrap();
    let second = overlay(&here.join("second"), &fenced(&text, "yaml")[0]);
    assert_has_a_selector_of_its_own(&kubectl.run(&["kustomize", &second]).unwrap());

    // The documented commands, with directories of this test.
    let run = |line: &str| {
        let line = line.strip_prefix("kubectl ").unwrap();
        let words = line.split_whitespace().map(|word| match word {
            "deploy/node" | "deploy/node/remove" => patched(&here, word, &files, &features),
            word => word.to_owned(),
        });
        let mut words: Vec<String> = words.collect();
        if words[0] == "rollout" {
            words.push("--timeout=60s".to_owned());
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        kubectl.run(&words)
    };
    let blocks = fenced(&text, "console");
    let [install, remove] = ["apply -k deploy/node\n", "delete daemonset"]
        .map(|says| blocks.iter().find(|block| block.contains(says)).unwrap());
    let installing: Vec<&str> = install.lines().collect();
    run(installing[0]).unwrap();
    // What controllers that are not here would make.
    let account = [
        "create",
        "serviceaccount",
        "default",
        "--namespace",
        NAMESPACE,
    ];
    kubectl.run(&account).unwrap();
    let done = run(installing[1]).unwrap_or_else(|error| panic!("{error}\n{}", describe(world)));
    assert!(done.contains("successfully rolled out"), "{done}");

    // As Node Feature Discovery labels the node; before, it gets no such pod.
    world.namespace("node", None);
    let _installed = cluster.install(&policy, &world.module, &[]).unwrap();
    let early = world.create(&world.pod("node", "early", DISPLAY)).unwrap();
    let early = world.wait(&early, |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(early["status"]["reason"], "NodeAffinity", "{early}");
    let labels = labels(&features);
    for (key, value) in &selector {
        assert_eq!(labels.get(key), value.as_str().map(str::to_owned).as_ref());
        let label = format!("{key}={}", value.as_str().unwrap());
        kubectl.run(&["label", "node", NODE, &label]).unwrap();
    }
    assert_has_its_display(world, "node");

    // A VM that runs keeps its files, and the removal says so.
    let holder = world
        .create(&world.pod("node", "holder", "sleep 1000"))
        .unwrap();
    world.wait(&holder, |pod| pod["status"]["phase"] == "Running");
    let removing: Vec<&str> = remove.lines().collect();
    run(removing[0]).unwrap();
    run(removing[1]).unwrap();
    let is_removing = |pod: &Value| pod["metadata"]["name"].as_str().unwrap().contains("remove");
    let pod = loop_until(|| pods(world).into_iter().find(is_removing));
    let says = loop_until(|| {
        let log = world.log(&pod, "mesa-node");
        log.contains("has it mounted").then_some(log)
    });
    assert!(
        says.contains("the label ") && says.contains(" stays: process "),
        "{says}"
    );
    assert_eq!(fs::read_dir(&features).unwrap().count(), 0);
    assert!(fs::read_dir(&files).unwrap().next().is_some());
    world.delete(&holder);
    let done = run(removing[2]).unwrap_or_else(|error| panic!("{error}\n{}", describe(world)));
    assert!(done.contains("successfully rolled out"), "{done}");
    assert_eq!(fs::read_dir(&files).unwrap().count(), 0);
    run(removing[3]).unwrap();
}

/// The fenced blocks of a language.
fn fenced(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let blocks = text.split(&fence).skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap().to_owned())
        .collect()
}

/// A kustomization in a directory, whose path is returned. Its resources are named as docs/node.md does.
fn overlay(directory: &Path, kustomization: &str) -> String {
    fs::create_dir_all(directory).unwrap();
    let directory = fs::canonicalize(directory).unwrap();
    let root = fs::canonicalize(repository("")).unwrap();
    let up = "../".repeat(directory.components().count() - 1);
    let to = format!(
        "- {up}{}/deploy/",
        root.display().to_string().trim_start_matches('/')
    );
    let text = kustomization.replace("- ../deploy/", &to);
    fs::write(directory.join("kustomization.yaml"), text).unwrap();
    directory.display().to_string()
}

/// One of the project's kustomizations with this test's image and directories, and probes that do not wait.
fn patched(here: &Path, of: &str, files: &PathBuf, features: &PathBuf) -> String {
    let pod = "/spec/template/spec";
    let patch = json!([
        {"op": "replace", "path": format!("{pod}/volumes/0/hostPath/path"), "value": files},
        {"op": "replace", "path": format!("{pod}/volumes/1/hostPath/path"), "value": features},
        {"op": "replace", "path": format!("{pod}/containers/0/readinessProbe/periodSeconds"), "value": 1},
    ]);
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [format!("../{of}")],
        "patches": [{"target": {"kind": "DaemonSet"}, "patch": patch.to_string()}],
    });
    let text = serde_norway::to_string(&kustomization).unwrap();
    overlay(&here.join(of.replace('/', "-")), &text)
}

/// Two DaemonSets that select the same pods would fight for them.
fn assert_has_a_selector_of_its_own(rendered: &str) {
    let documents = rendered
        .split("\n---\n")
        .map(|text| serde_norway::from_str(text).unwrap());
    let daemon_set = documents
        .into_iter()
        .find(|it: &Value| it["kind"] == "DaemonSet")
        .unwrap();
    assert_eq!(daemon_set["metadata"]["name"], "mesa-node-v1-10");
    let spec = &daemon_set["spec"];
    let labels = &spec["selector"]["matchLabels"];
    assert_eq!(labels["app.kubernetes.io/instance"], "v1-10");
    assert_eq!(
        labels["app.kubernetes.io/instance"],
        spec["template"]["metadata"]["labels"]["app.kubernetes.io/instance"]
    );
    assert_eq!(
        spec["template"]["spec"]["containers"][0]["image"],
        "registry.example/mesa:2"
    );
}

/// What Node Feature Discovery would make of its directory.
fn labels(features: &Path) -> std::collections::BTreeMap<String, String> {
    let files = fs::read_dir(features)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let texts = files.map(|file| fs::read_to_string(file).unwrap());
    let lines: Vec<String> = texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert!(lines[0].starts_with("# +expiry-time="), "{lines:?}");
    let pairs = lines
        .iter()
        .filter_map(|line| line.split_once('=').filter(|_| !line.starts_with('#')));
    pairs
        .map(|(key, value)| {
            (
                format!("feature.node.kubernetes.io/{key}"),
                value.to_owned(),
            )
        })
        .collect()
}

fn pods(world: &World) -> Vec<Value> {
    let pods = world
        .cluster
        .kubectl()
        .get(&["pods", "--namespace", NAMESPACE])
        .unwrap();
    pods["items"].as_array().unwrap().clone()
}

fn describe(world: &World) -> String {
    let described = world
        .cluster
        .kubectl()
        .run(&["describe", "pods", "--namespace", NAMESPACE]);
    let logs = pods(world)
        .iter()
        .map(|pod| world.log(pod, "mesa-node"))
        .collect::<Vec<_>>();
    format!("{}\n{}", described.unwrap_or_default(), logs.join("\n"))
}

/// Waits until there is something.
fn loop_until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let late = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(std::time::Instant::now() < late, "it never comes");
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
}
