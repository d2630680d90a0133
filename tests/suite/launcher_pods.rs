//! The default settings on pods as KubeVirt renders them: real ones where they are at hand, our samples always.
use crate::common::{launcher_pod, rendered_pods, request, validate};
use json_patch::PatchOperation;
use k8s_openapi::api::core::v1::{Pod, Volume, VolumeMount};
use serde_json::{Value, json};

/// Name, path and type of what the incumbent promises to mount.
const DEFAULT: [(&str, &str, &str); 6] = [
    ("mesa-libgl", "/usr/lib64/libGL.so.1", "File"),
    ("mesa-libegl", "/usr/lib64/libEGL.so.1", "File"),
    ("mesa-libglesv2", "/usr/lib64/libGLESv2.so.2", "File"),
    ("mesa-libglx", "/usr/lib64/libGLX.so.0", "File"),
    ("mesa-dri", "/usr/lib64/dri", "Directory"),
    (
        "mesa-egl-vendor",
        "/usr/share/glvnd/egl_vendor.d",
        "Directory",
    ),
];

fn sample_pods() -> Vec<(String, Value)> {
    let read = |file: std::path::PathBuf| {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        (name, serde_norway::from_str(&text).unwrap())
    };
    let files = crate::common::files(crate::common::repository("test_data/pods"));
    files.into_iter().map(read).collect()
}

fn pods() -> impl Iterator<Item = (String, Value)> {
    rendered_pods().into_iter().chain(sample_pods())
}

fn is_launcher(name: &str) -> bool {
    !name.starts_with("not-a-launcher") && !name.contains("provisioning")
}

#[test]
fn every_launcher_pod_gets_six_volumes_six_mounts_and_an_annotation() {
    for (name, pod) in pods().filter(|(name, _)| is_launcher(name)) {
        let answer = validate(&request(&pod), &json!({}));
        let added_below = |prefix: &str| {
            let paths = answer.patch.iter().map(|operation| match operation {
                PatchOperation::Add(add) => add.path.to_string(),
                other => panic!("{name}: {other}"),
            });
            paths.filter(|path| path.starts_with(prefix)).count()
        };
        assert_eq!(added_below("/spec/volumes/"), 6, "{name}");
        assert_eq!(added_below("/spec/containers/0/volumeMounts/"), 6, "{name}");
        assert_eq!(added_below("/metadata/annotations"), 1, "{name}");
        assert_eq!(answer.patch.len(), 13, "{name}");
        assert_eq!(
            answer.audit("injected"),
            Some("6 mounts in compute"),
            "{name}"
        );
        assert!(answer.warnings().is_empty(), "{name}");
    }
}

#[test]
fn without_annotation_there_are_twelve_additions_and_nothing_else() {
    for (name, pod) in pods().filter(|(name, _)| is_launcher(name)) {
        let answer = validate(&request(&pod), &json!({"annotate": false}));
        assert_eq!(answer.patch.len(), 12, "{name}");
    }
}

#[test]
fn a_pod_that_is_no_launcher_is_not_even_mentioned() {
    for (name, pod) in pods().filter(|(name, _)| name.starts_with("not-a-launcher")) {
        let answer = validate(&request(&pod), &json!({}));
        assert_eq!(answer.response, json!({"accepted": true}), "{name}");
    }
}

#[test]
fn a_provisioning_pod_gets_the_node_selector_alone() {
    for (name, pod) in pods().filter(|(name, _)| name.contains("provisioning")) {
        let answer = validate(&request(&pod), &json!({}));
        assert!(answer.patch.is_empty(), "{name}");
        assert_eq!(
            answer.audit("skip-reason"),
            Some("provisioning-pod"),
            "{name}"
        );

        let settings = json!({"nodeSelector": {"mesa-injector.io/ready": "true"}});
        let answer = validate(&request(&pod), &settings);
        let expected = json!([{
            "op": "add",
            "path": "/spec/nodeSelector/mesa-injector.io~1ready",
            "value": "true",
        }]);
        assert_eq!(answer.patch_json(), expected, "{name}");
    }
}

#[test]
fn the_second_pass_finds_nothing_to_do() {
    for (name, pod) in pods() {
        let first = validate(&request(&pod), &json!({}));
        let mutated = request(&first.object(&request(&pod)));
        let second = validate(&mutated, &json!({}));
        assert!(second.patch.is_empty(), "{name}");
    }
}

#[test]
fn what_is_added_is_typed_and_read_only() {
    for pod in [launcher_pod()].into_iter().chain(
        pods()
            .filter(|(name, _)| is_launcher(name))
            .map(|(_, pod)| pod),
    ) {
        let request = request(&pod);
        let object = validate(&request, &json!({})).object(&request);
        let before: Pod = serde_json::from_value(pod).unwrap();
        let after: Pod = serde_json::from_value(object).unwrap();

        let volumes = added(
            before.spec.as_ref().unwrap().volumes.as_deref(),
            after.spec.as_ref().unwrap().volumes.as_deref(),
        );
        let expected: Vec<Volume> = DEFAULT
            .into_iter()
            .map(|(name, path, kind)| {
                let source = json!({"name": name, "hostPath": {"path": path, "type": kind}});
                serde_json::from_value(source).unwrap()
            })
            .collect();
        assert_eq!(volumes, expected);

        let mounts = |pod: &Pod| {
            pod.spec.as_ref().unwrap().containers[0]
                .volume_mounts
                .clone()
        };
        let mounts = added(mounts(&before).as_deref(), mounts(&after).as_deref());
        let expected: Vec<VolumeMount> = DEFAULT
            .into_iter()
            .map(|(name, path, _)| VolumeMount {
                name: name.to_owned(),
                mount_path: path.to_owned(),
                read_only: Some(true),
                ..VolumeMount::default()
            })
            .collect();
        assert_eq!(mounts, expected);
    }
}

/// What a list has at its end that it did not have before.
fn added<T: Clone + PartialEq + std::fmt::Debug>(
    before: Option<&[T]>,
    after: Option<&[T]>,
) -> Vec<T> {
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    assert_eq!(
        before,
        &after[..before.len()],
        "the list was only appended to"
    );
    after[before.len()..].to_vec()
}
