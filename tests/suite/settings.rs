//! What settings are taken for, and what is said of those that are wrong.

use mesa_injector::path::CleanPath;
use mesa_injector::settings::{
    HostPathType, Mount, OnConflict, PullPolicy, Settings, Source, Volume, is_glibc_name,
};
use rstest::rstest;
use serde_json::{Value, json};

fn read(settings: &Value) -> Settings {
    Settings::from_json(&settings.to_string()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problems(settings: &Value) -> Vec<String> {
    let problems = Settings::from_json(&settings.to_string()).expect_err("there is a problem");
    problems.as_slice().to_vec()
}

fn host_path(name: &str, path: &str, kind: HostPathType, mount_path: &str) -> Volume {
    Volume {
        name: name.to_owned().into(),
        source: Source::HostPath {
            path: CleanPath::new(path.to_owned()),
            kind,
        },
        mounts: vec![Mount {
            path: CleanPath::new(mount_path.to_owned()),
            sub_path: None,
        }],
    }
}

#[rstest]
#[case::empty(json!({}))]
#[case::null(json!(null))]
#[case::every_key_null(json!({
    "hostPaths": null, "images": null, "containers": null, "match": null, "injectByDefault": null,
    "nodeSelector": null, "resources": null, "onConflict": null, "annotate": null,
}))]
#[case::no_images(json!({"images": []}))]
#[case::empty_match(json!({"match": {}}))]
#[case::null_in_match(json!({"match": {"labels": null, "resources": null, "creators": [], "owners": [], "images": []}}))]
#[case::written_out(json!({
    "hostPaths": [
        {"path": "/usr/lib64/libGL.so.1", "type": "File"},
        {"path": "/usr/lib64/libEGL.so.1"},
        {"path": "/usr/lib64/libGLESv2.so.2"},
        {"path": "/usr/lib64/libGLX.so.0"},
        {"path": "/usr/lib64/dri/", "type": "Directory", "mountPath": "/usr/lib64/dri/"},
        {"path": "/usr/share/glvnd/egl_vendor.d", "type": "Directory", "name": "mesa-egl-vendor"},
    ],
    "containers": ["compute"],
    "match": {"labels": {"kubevirt.io": "virt-launcher"}},
    "injectByDefault": true,
    "nodeSelector": {},
    "resources": {},
    "onConflict": "skip",
    "annotate": true,
}))]
fn these_are_the_defaults(#[case] settings: Value) {
    assert_eq!(read(&settings), Settings::default());
}

#[test]
fn the_default_volumes_are_not_injected_where_images_are() {
    let image = json!({"name": "mesa", "reference": "registry.example/mesa", "mounts": [{"mountPath": "/opt/mesa"}]});
    let settings = read(&json!({"images": [image]}));
    let expected = Volume {
        name: "mesa".into(),
        source: Source::Image {
            reference: "registry.example/mesa".to_owned(),
            pull_policy: None,
        },
        mounts: vec![Mount {
            path: CleanPath::new("/opt/mesa"),
            sub_path: None,
        }],
    };
    assert_eq!(settings.volumes, [expected]);
}

#[test]
fn every_setting_is_read() {
    let settings = read(&json!({
        "hostPaths": [{"path": "/a/dri/", "type": "Directory", "mountPath": "/b", "name": "c"}],
        "images": [{
            "name": "mesa", "reference": "registry.example/mesa@sha256:0", "pullPolicy": "Always",
            "mounts": [{"subPath": "lib/x", "mountPath": "/d/"}],
        }],
        "containers": ["*", "init"],
        "match": {
            "labels": {"z": "", "a.example/b": "1"}, "resources": ["nvidia.com/*"],
            "creators": ["system:serviceaccount:kubevirt:kubevirt-controller"], "owners": ["VirtualMachineInstance"],
        },
        "injectByDefault": false,
        "nodeSelector": {"ready": "true"},
        "resources": {"squat.ai/dri": 9_223_372_036_854_775_807_u64},
        "onConflict": "reject",
        "annotate": false,
    }));
    assert_eq!(
        settings.volumes[0],
        host_path("c", "/a/dri", HostPathType::Directory, "/b")
    );
    assert_eq!(
        settings.volumes[1].mounts[0].sub_path.as_deref(),
        Some("lib/x")
    );
    assert_eq!(settings.volumes[1].mounts[0].path, "/d");
    assert!(matches!(
        settings.volumes[1].source,
        Source::Image {
            pull_policy: Some(PullPolicy::Always),
            ..
        }
    ));
    assert_eq!(settings.containers, ["*", "init"]);
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        settings.matches.labels,
        [pair("a.example/b", "1"), pair("z", "")]
    );
    assert_eq!(settings.matches.resources, ["nvidia.com/*"]);
    assert_eq!(
        settings.matches.creators,
        ["system:serviceaccount:kubevirt:kubevirt-controller"]
    );
    assert_eq!(settings.matches.owners, ["VirtualMachineInstance"]);
    assert!(!settings.inject_by_default);
    assert_eq!(settings.node_selector, [pair("ready", "true")]);
    assert_eq!(
        settings.resources,
        [("squat.ai/dri".to_owned(), 9_223_372_036_854_775_807)]
    );
    assert_eq!(settings.on_conflict, OnConflict::Reject);
    assert!(!settings.annotate);
}

#[rstest]
#[case("/usr/lib64/libGL.so.1", "mesa-libgl")]
#[case("/usr/lib64/libGLESv2.so.2", "mesa-libglesv2")]
#[case(
    "/usr/lib/x86_64-linux-gnu/libgallium-25.0.7-2.so",
    "mesa-libgallium-25-0-7-2"
)]
#[case("/usr/lib64/libLLVM.so.19.1", "mesa-libllvm")]
#[case("/usr/lib64/libLLVM-15.so.1", "mesa-libllvm-15")]
#[case("/usr/lib64/libstdc++.so.6", "mesa-libstdc")]
#[case("/usr/lib64/dri", "mesa-dri")]
#[case("/usr/share/glvnd/egl_vendor.d", "mesa-egl-vendor-d")]
#[case("/usr/share/glvnd/egl_vendor.d/50_mesa.json", "mesa-50-mesa-json")]
#[case(
    "/opt/a-name-that-is-much-longer-than-the-sixty-three-letters-that-fit",
    "mesa-a-name-that-is-much-longer-than-the-sixty-three-letters-th"
)]
#[case("/opt/é", "mesa")]
fn a_volume_is_named_after_its_path(#[case] path: &str, #[case] name: &str) {
    let settings = read(&json!({"hostPaths": [{"path": path, "type": "File"}]}));
    assert_eq!(settings.volumes[0].name, name);
}

#[test]
fn the_message_has_a_problem_a_line_in_the_order_of_the_schema() {
    let settings =
        json!({"onConflict": "no", "hostPaths": [{"path": "x", "type": "File"}], "annotate": 0});
    let message = Settings::from_json(&settings.to_string())
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "hostPaths[0].path: \"x\" is not an absolute path; write /x\n\
         onConflict: \"no\" is not one of skip, reject; write skip or reject\n\
         annotate: 0 is not a boolean; write true or false"
    );
}

#[test]
fn a_value_is_shown_as_it_is_written_and_not_at_any_length() {
    let problem = Settings::from_json(r#"{"annotate":  1e3 }"#)
        .unwrap_err()
        .to_string();
    assert!(problem.starts_with("annotate: 1e3 is not"), "{problem}");
    let problem = problems(&json!({"annotate": "é".repeat(500)})).remove(0);
    assert!(
        problem.chars().count() < 120 && problem.contains('…'),
        "{problem}"
    );
}

#[test]
fn glibc_is_told_from_its_neighbours() {
    for name in [
        "libc.so.6",
        "libm.so.6",
        "ld-linux-x86-64.so.2",
        "ld-linux-aarch64.so.1",
        "ld64.so.1",
        "ld-2.31.so",
        "libc-2.31.so",
        "libnss_files.so.2",
        "libpthread.so.0",
        "libresolv.so.2",
    ] {
        assert!(is_glibc_name(name), "{name}");
    }
    for name in [
        "libcrypt.so.1",
        "libcap.so.2",
        "libmd.so.0",
        "libdrm.so.2",
        "libX11-xcb.so.1",
        "libgcc_s.so.1",
        "libstdc++.so.6",
        "libc++.so.1",
        "libLLVM-15.so.1",
    ] {
        assert!(!is_glibc_name(name), "{name}");
    }
}
