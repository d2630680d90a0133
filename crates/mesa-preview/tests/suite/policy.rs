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
        "pod.yaml: vms/virt-launcher-vm-*: accepted, unchanged\n  why the pod has no label kubevirt.io=virt-launcher\n"
    );
}

#[test]
fn unknown_settings_are_refused() {
    let preview = Preview::of_policy();
    preview.file("pod.yaml", POD);
    let complaint = preview.complains(&["--settings-json", r#"{"hostPath": []}"#, "pod.yaml"]);
    assert!(
        complaint.starts_with("error: Provided settings are not valid: "),
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

#[test]
fn why_a_pod_is_unchanged_is_said() {
    let preview = Preview::of_policy();
    preview.file("pod.yaml", POD);
    let why = |arguments: &[&str]| {
        let report = preview.prints(arguments);
        report.lines().last().unwrap().to_owned()
    };
    assert_eq!(
        why(&["--operation", "UPDATE", "pod.yaml"]),
        "  why no pod is being created"
    );
    assert_eq!(
        why(&["--settings-json", r#"{"hostPaths": []}"#, "pod.yaml"]),
        "  why everything is there already"
    );
    let opted_in = r#"{"injectByDefault": false}"#;
    assert_eq!(
        why(&["--settings-json", opted_in, "pod.yaml"]),
        "  audit skip-reason: not-opted-in"
    );
}

#[test]
fn a_policy_is_asked_about_what_the_api_server_sends_it() {
    let preview = Preview::of_policy();
    let policy = fs::read_to_string(crate::common::repository("policy.yaml")).unwrap();
    preview.file("pod.yaml", POD).file("policy.yaml", &policy);
    let preview_of = |arguments: &[&str]| {
        let mut all = vec!["--policy-yaml", "policy.yaml"];
        all.extend(arguments);
        preview.prints(&all)
    };
    let report = preview_of(&["pod.yaml"]);
    let reason = "not sent: namespaceSelector: the namespace has kubernetes.io/metadata.name=vms";
    assert!(report.contains(reason), "{report}");
    assert!(!report.contains("mesa-libgl"), "{report}");
    let report = preview_of(&["--namespace", "kubevirt", "pod.yaml"]);
    assert!(
        report.contains("mutated") && report.contains("mesa-libgl"),
        "{report}"
    );
    let report = preview_of(&[
        "--namespace",
        "kubevirt",
        "--operation",
        "UPDATE",
        "pod.yaml",
    ]);
    assert!(report.contains("not sent: rules: "), "{report}");

    let output = preview
        .command(&["--policy-yaml", "policy.yaml", "-o", "patch", "pod.yaml"])
        .assert()
        .success()
        .stdout("[]\n")
        .get_output()
        .clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("note: pod.yaml: not sent: "), "{said}");
}

#[test]
fn the_creator_can_be_another() {
    let preview = Preview::of_policy();
    preview.file("pod.yaml", POD);
    let settings = r#"{"match": {"creators": ["system:serviceaccount:cnv:kubevirt-controller"]}}"#;
    let ours = preview.prints(&["--settings-json", settings, "pod.yaml"]);
    assert!(ours.contains("skip-reason: other-creator"), "{ours}");
    let user = "system:serviceaccount:cnv:kubevirt-controller";
    let theirs = preview.prints(&["--settings-json", settings, "--user", user, "pod.yaml"]);
    assert!(theirs.contains("mutated"), "{theirs}");
}

#[test]
fn requests_and_settings_are_given_as_to_kwctl() {
    let preview = Preview::of_policy();
    preview.file("pod.yaml", POD);
    let response = preview.prints(&["-o", "response", "pod.yaml"]);
    let case = crate::common::repository("test_data/row-10-host-paths");
    let (request, settings) = (case.join("request.json"), case.join("settings.json"));
    let (request, settings) = (request.to_str().unwrap(), settings.to_str().unwrap());
    let as_kwctl = preview.prints(&["-o", "response", "-r", request, "-s", settings]);
    let long = preview.prints(&[
        "--output",
        "response",
        "--request-path",
        request,
        "--settings-path",
        settings,
    ]);
    assert_eq!(as_kwctl, long);
    assert_ne!(as_kwctl, response);
    assert!(
        as_kwctl.contains("\"allowed\":true,\"patchType\":\"JSONPatch\""),
        "{as_kwctl}"
    );
}

#[test]
fn json_is_the_pod_as_yaml_has_it() {
    let preview = Preview::of_policy();
    preview.file("pod.yaml", POD);
    let json = preview.prints(&["--output", "json", "pod.yaml"]);
    let yaml = preview.prints(&["--output", "yaml", "pod.yaml"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let source = manifests::Source {
        name: "yaml".to_owned(),
        text: yaml,
    };
    assert_eq!(source.objects().unwrap(), [json]);
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    let preview = Preview::of_policy();
    let pods = format!("{POD}---\n").repeat(200);
    preview.file("pods.yaml", pods);
    let mut child = Command::new(env!("CARGO_BIN_EXE_mesa-preview"))
        .args(["-o", "yaml", "pods.yaml"])
        .current_dir(preview.directory())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 16]).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}
