//! The test tool makes of a pod what kubelet and runtime would: what it gets wrong, the other tests would believe.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use display_tests::pod::Container;
use rstest::rstest;
use rustix::fs::{CWD, FileType, makedev, mknodat};
use serde_json::{Value, json};

use crate::stand::Stand;

/// A pod with these volumes and mounts.
fn pod(volumes: &Value, mounts: &Value) -> Value {
    json!({"spec": {
        "securityContext": {"runAsUser": 107, "runAsGroup": 108, "fsGroup": 109, "supplementalGroups": [110]},
        "containers": [{
            "name": "compute",
            "env": [
                {"name": "HERE", "value": "yes"},
                {"name": "THERE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ],
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            },
            "volumeMounts": mounts,
        }],
        "volumes": volumes,
    }})
}

fn stand(volumes: &Value, mounts: &Value) -> Option<Stand> {
    Some(Stand::of_trixie()?.with_pod(pod(volumes, mounts)))
}

/// A host path of a type, mounted as it is.
fn of_type(kind: &str, path: &str) -> Option<Stand> {
    let volumes = json!([{"name": "it", "hostPath": {"path": path, "type": kind}}]);
    stand(
        &volumes,
        &json!([{"name": "it", "mountPath": "/it", "readOnly": true}]),
    )
}

/// What is on every node of these tests.
fn furnish(stand: &Stand) {
    let place = stand.node.path().join("place");
    fs::create_dir_all(place.join("directory")).unwrap();
    fs::write(place.join("file"), "of the node").unwrap();
    symlink("/place/file", place.join("link")).unwrap();
    symlink("/place/nothing", place.join("dangling")).unwrap();
    let (null, number) = (place.join("null"), makedev(1, 3));
    mknodat(CWD, null, FileType::CharacterDevice, 0o666.into(), number).unwrap();
    // Of the machine, not of the node.
    symlink(
        "../../../../../../../../../../proc/version",
        place.join("out"),
    )
    .unwrap();
}

#[rstest]
#[case("File", "/place/file", "/place/file")]
#[case("File", "/place/link", "/place/file")]
#[case("Directory", "/place/directory", "/place/directory")]
#[case("DirectoryOrCreate", "/place/directory", "/place/directory")]
#[case("DirectoryOrCreate", "/place/new/directory", "/place/new/directory")]
#[case("FileOrCreate", "/place/new-file", "/place/new-file")]
#[case("CharDevice", "/place/null", "/place/null")]
#[case("", "/place/link", "/place/file")]
fn a_host_path_of_its_type_is_mounted(#[case] kind: &str, #[case] path: &str, #[case] real: &str) {
    let Some(stand) = of_type(kind, path) else {
        return;
    };
    furnish(&stand);
    let pod = stand.not_admitted();
    let said = pod.says(&["/usr/bin/stat", "--format=%d %i", "/it"]);
    let source = fs::metadata(stand.node.path().join(&real[1..])).unwrap();
    assert_eq!(said, Ok(format!("{} {}\n", source.dev(), source.ino())));
}

#[rstest]
#[case("File", "/place/nothing", "does not exist")]
#[case("File", "/place/dangling", "does not exist")]
#[case("File", "/place/out", "does not exist")]
#[case("File", "/place/directory", "is not a file")]
#[case("FileOrCreate", "/place/directory", "is not a file")]
#[case("Directory", "/place/nothing", "does not exist")]
#[case("Directory", "/place/link", "is not a directory")]
#[case("DirectoryOrCreate", "/place/file", "is not a directory")]
#[case("Socket", "/place/file", "is not a socket")]
#[case("CharDevice", "/place/file", "is not a character device")]
#[case("BlockDevice", "/place/file", "is not a block device")]
fn a_host_path_of_another_type_keeps_the_container_from_starting(
    #[case] kind: &str,
    #[case] path: &str,
    #[case] reason: &str,
) {
    let Some(stand) = of_type(kind, path) else {
        return;
    };
    furnish(&stand);
    let said = stand.not_admitted().says(&["/usr/bin/true"]).unwrap_err();
    let expected = format!("hostPath type check failed: {path} {reason}");
    assert!(said.contains(&expected), "{said}");
}

/// The trap of a hostPath without a type.
#[test]
fn where_no_type_is_asked_for_a_directory_of_the_librarys_name_appears_on_the_node() {
    let Some(stand) = of_type("", "/usr/lib64/libGL.so.1") else {
        return;
    };
    stand.not_admitted().says(&["/usr/bin/true"]).unwrap();
    assert!(stand.node.path().join("usr/lib64/libGL.so.1").is_dir());
}

#[test]
fn every_mount_of_the_pod_is_there_and_read_only_where_it_says_so() {
    let Some(stand) = Stand::of_trixie() else {
        return;
    };
    for settings in [stand.stage(), stand.files()] {
        let said = stand
            .admit(&settings)
            .says(&["/usr/bin/cat", "/proc/self/mountinfo"])
            .unwrap();
        let options = |path: &str| {
            let mounts = said.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            let mount = mounts.rev().find(|fields| fields[4] == path);
            mount.map(|fields| fields[5].split(',').next().unwrap().to_owned())
        };
        for mount in settings["hostPaths"].as_array().unwrap() {
            let path = mount["mountPath"].as_str().unwrap();
            assert_eq!(options(path).as_deref(), Some("ro"), "{path}: {said}");
        }
        assert_eq!(options("/sys").as_deref(), Some("ro"), "{said}");
        let own = options("/var/run/kubevirt-private");
        assert_eq!(own.as_deref(), Some("rw"), "{said}");
    }
}

#[test]
fn an_outer_mount_does_not_cover_an_inner_one_that_the_pod_lists_before() {
    let volumes = json!([
        {"name": "inner", "hostPath": {"path": "/place/file", "type": "File"}},
        {"name": "outer", "emptyDir": {}},
    ]);
    let mounts = json!([
        {"name": "inner", "mountPath": "/var/outer/inner"},
        {"name": "outer", "mountPath": "/var/outer"},
    ]);
    let Some(stand) = stand(&volumes, &mounts) else {
        return;
    };
    furnish(&stand);
    let said = stand
        .not_admitted()
        .says(&["/usr/bin/cat", "/var/outer/inner"]);
    assert_eq!(said.as_deref(), Ok("of the node"));
}

#[test]
fn nothing_is_written_to_the_image() {
    let Some(stand) = stand(
        &json!([{"name": "it", "emptyDir": {}}]),
        &json!([{"name": "it", "mountPath": "/new/it"}]),
    ) else {
        return;
    };
    let pod = stand.not_admitted();
    pod.says(&["/usr/bin/ls", "/new/it"]).unwrap();
    assert!(!stand.image.path().join("new").exists());
}

#[test]
fn the_command_has_the_identity_and_the_environment_of_the_pod_and_no_other() {
    let Some(stand) = stand(&json!([]), &json!([])) else {
        return;
    };
    let pod = stand.not_admitted();
    let said = pod.says(&["/usr/bin/env"]);
    assert_eq!(said.as_deref(), Ok("HERE=yes\n"));
    let status = pod.says(&["/usr/bin/cat", "/proc/self/status"]).unwrap();
    for line in [
        "Uid:\t107\t107\t107\t107\n",
        "Gid:\t108\t108\t108\t108\n",
        "Groups:\t109 110 \n",
        "CapPrm:\t0000000000000000\n",
        "CapEff:\t0000000000000000\n",
        "CapBnd:\t0000000000000400\n",
        "NoNewPrivs:\t1\n",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
}

/// KubeVirt's feature gate Root: the runtime's own capabilities and those that the pod adds.
#[test]
fn root_has_the_capabilities_of_the_bounding_set() {
    let mut root = pod(&json!([]), &json!([]));
    root["spec"]["securityContext"] = json!({"runAsUser": 0});
    root["spec"]["containers"][0]["securityContext"] =
        json!({"capabilities": {"add": ["SYS_NICE"], "drop": ["NET_RAW"]}});
    let Some(stand) = Stand::of_trixie() else {
        return;
    };
    let stand = stand.with_pod(root);
    let status = stand
        .not_admitted()
        .says(&["/usr/bin/cat", "/proc/self/status"])
        .unwrap();
    for line in [
        "Uid:\t0\t0\t0\t0\n",
        "Gid:\t0\t0\t0\t0\n",
        "CapEff:\t00000000a88405fb\n",
        "CapBnd:\t00000000a88405fb\n",
        "NoNewPrivs:\t0\n",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
}

#[test]
fn an_image_volume_needs_a_directory_that_has_the_part_that_is_mounted() {
    let volumes = json!([{"name": "it", "image": {"reference": "registry.example/it:1"}}]);
    let mounts = json!([{"name": "it", "mountPath": "/it", "subPath": "lib"}]);
    let Some(stand) = stand(&volumes, &mounts) else {
        return;
    };
    furnish(&stand);
    let said = stand.not_admitted().says(&["/usr/bin/true"]).unwrap_err();
    assert!(
        said.contains("image volume registry.example/it:1: lib: No such file"),
        "{said}"
    );
    let place = stand.node.path().join("place");
    fs::create_dir(place.join("lib")).unwrap();
    let stand = stand.with_image("registry.example/it:1", place);
    let pod = stand.not_admitted();
    pod.says(&["/usr/bin/ls", "/it"]).unwrap();
    let said = pod.says(&["/usr/bin/touch", "/it/new"]).unwrap_err();
    assert!(said.contains("Read-only file system"), "{said}");
}

#[rstest]
#[case::no_yaml("{", "the pod cannot be read")]
#[case::no_pod("{kind: Pod}", "missing field `spec`")]
#[case::no_compute("spec: {containers: [{name: other}]}", "no container compute")]
#[case::no_user(
    "spec: {containers: [{name: compute}]}",
    "the container has no runAsUser"
)]
#[case::no_group(
    "spec: {containers: [{name: compute, securityContext: {runAsUser: 107}}]}",
    "the container has no runAsGroup"
)]
#[case::no_volume(
    "spec: {securityContext: {runAsUser: 0}, containers: [{name: compute, volumeMounts: [{name: a, mountPath: /b}]}]}",
    "mount /b: the pod has no volume a"
)]
#[case::no_type(
    "spec: {securityContext: {runAsUser: 0}, containers: [{name: compute}], volumes: [{name: a, hostPath: {path: /, type: Folder}}]}",
    "unknown variant `Folder`"
)]
#[case::part_of_a_host_path(
    "spec: {securityContext: {runAsUser: 0}, containers: [{name: compute, volumeMounts: [{name: a, mountPath: /b, subPath: c}]}],
     volumes: [{name: a, hostPath: {path: /}}]}",
    "subPath of a hostPath, which is not realised here"
)]
fn a_pod_that_cannot_be_realised_is_refused(#[case] pod: &str, #[case] reason: &str) {
    let error = Container::of(pod, "compute").unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
}
