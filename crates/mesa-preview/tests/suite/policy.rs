//! The policy of this repository, in the command.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::common::{POD, Preview, shared};

/// The six libraries and directories that the policy mounts by default.
const VOLUMES: [&str; 6] = [
    "mesa-libgl",
    "mesa-libegl",
    "mesa-libglesv2",
    "mesa-libglx",
    "mesa-dri",
    "mesa-egl-vendor",
];

#[test]
fn a_launcher_pod_gets_six_volumes_and_six_mounts() {
    let preview = Preview::of_policy();
    preview.file("pod.yaml", POD);
    let report = preview.prints(&["pod.yaml"]);
    assert!(
        report.starts_with("pod.yaml: vms/virt-launcher-vm-*: mutated\n"),
        "{report}"
    );
    for volume in VOLUMES {
        assert!(report.contains(&format!("+ {volume} ")), "{report}");
        assert!(
            report.contains(&format!("from {volume}, read-only")),
            "{report}"
        );
    }
}

#[test]
fn the_yaml_of_a_mutated_pod_is_left_as_it_is() {
    let preview = Preview::of_policy();
    preview.file("pod.yaml", POD);
    preview.file(
        "mutated.yaml",
        preview.prints(&["--output", "yaml", "pod.yaml"]),
    );
    assert_eq!(
        preview.prints(&["--output", "patch", "mutated.yaml"]),
        "[]\n"
    );
}

#[test]
fn a_pod_that_is_no_launcher_is_left_as_it_is() {
    let preview = Preview::of_policy();
    preview.file("pod.yaml", POD.replace("virt-launcher}", "virt-exporter}"));
    assert_eq!(
        preview.prints(&["pod.yaml"]),
        "pod.yaml: vms/virt-launcher-vm-*: accepted, unchanged\n"
    );
}

#[test]
fn unknown_settings_are_refused() {
    let preview = Preview::of_policy();
    preview.file("pod.yaml", POD);
    let complaint = preview.complains(&["--settings-json", r#"{"hostPath": []}"#, "pod.yaml"]);
    assert!(
        complaint.starts_with("Error: Provided settings are not valid: "),
        "{complaint}"
    );
    assert!(complaint.contains("hostPath"), "{complaint}");
}

/// Needs the pods that KubeVirt renders.
#[test]
fn every_launcher_pod_of_kubevirt_is_only_added_to() {
    let Some(directory) = shared("pods") else {
        println!("skipped: ../shared/pods is not there");
        return;
    };
    let files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let mut arguments = vec!["--output", "patch"];
    arguments.extend(files.iter().map(|file| file.to_str().unwrap()));
    let patches = Preview::of_policy().prints(&arguments);
    assert_eq!(patches.lines().count(), files.len());
    for (file, patch) in files.iter().zip(patches.lines()) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let operations: Vec<Value> = serde_json::from_str(patch).unwrap();
        let untouched = name.starts_with("not-a-launcher") || name.starts_with("wffc");
        assert_eq!(operations.is_empty(), untouched, "{name}: {patch}");
        assert!(
            operations
                .iter()
                .all(|operation| operation["op"] == json!("add")),
            "{name}: {patch}"
        );
    }
}
