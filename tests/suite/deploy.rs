//! What is deployed is what Kubernetes knows, field by field, and may do no more than it needs.

use crate::common::{files, repository};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Namespace;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Reads an object, which has no field that its type does not know.
fn typed<T: DeserializeOwned + Serialize>(value: &Value) -> T {
    let object: T = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(&serde_json::to_value(&object).unwrap(), value);
    object
}

fn read(file: &str) -> Value {
    let text = std::fs::read_to_string(repository(file)).unwrap();
    serde_norway::from_str(&text).unwrap()
}

fn daemon_sets() -> [Value; 2] {
    [
        "deploy/node/daemonset.yaml",
        "deploy/node/remove/daemonset.yaml",
    ]
    .map(read)
}

#[test]
fn every_object_is_of_its_type_and_in_its_kustomization() {
    let mut seen = 0;
    for directory in ["deploy/node", "deploy/node/remove"] {
        let kustomization = read(&format!("{directory}/kustomization.yaml"));
        let resources = kustomization["resources"].as_array().unwrap();
        for file in files(repository(directory)) {
            let name = file.file_name().unwrap().to_str().unwrap();
            if !file.is_file() || name == "kustomization.yaml" {
                continue;
            }
            assert!(resources.contains(&json!(name)), "{directory}/{name}");
            let value = read(&format!("{directory}/{name}"));
            match value["kind"].as_str().unwrap() {
                "DaemonSet" => drop(typed::<DaemonSet>(&value)),
                "Namespace" => drop(typed::<Namespace>(&value)),
                other => panic!("{other}"),
            }
            assert!(value.to_string().contains("mesa-injector"), "{value}");
            seen += 1;
        }
        assert_eq!(kustomization["images"][0]["name"], "mesa");
    }
    assert_eq!(seen, 3);
}

#[test]
fn a_container_on_every_node_may_do_what_it_needs() {
    for value in daemon_sets() {
        let daemon_set: DaemonSet = typed(&value);
        let spec = daemon_set.spec.unwrap();
        assert_eq!(
            Some(spec.selector.match_labels.unwrap()["app.kubernetes.io/name"].clone()),
            daemon_set.metadata.name
        );
        let pod = spec.template.spec.unwrap();
        assert_eq!(pod.automount_service_account_token, Some(false));
        assert_eq!(
            (pod.host_pid, pod.host_network, pod.host_ipc),
            (None, None, None)
        );
        let selector = pod.node_selector.unwrap();
        assert_eq!(selector["kubernetes.io/arch"], "amd64");
        let [container] = pod.containers.try_into().unwrap();
        assert_eq!(container.image.as_deref(), Some("mesa"));
        let context = container.security_context.unwrap();
        assert_eq!(
            (context.privileged, context.allow_privilege_escalation),
            (Some(false), Some(false))
        );
        assert_eq!(context.read_only_root_filesystem, Some(true));
        let capabilities = context.capabilities.unwrap();
        assert_eq!(
            (capabilities.drop.unwrap(), capabilities.add),
            (vec!["ALL".to_owned()], None)
        );
        let mounts = container.volume_mounts.unwrap();
        let writable = mounts
            .iter()
            .filter(|mount| mount.read_only != Some(true))
            .count();
        assert_eq!((mounts.len(), writable), (3, 2));
    }
}

/// Whoever removes sees what whoever installs has written.
#[test]
fn both_are_alike_but_for_what_they_run() {
    let [install, remove] = daemon_sets().map(|mut value| {
        let pod = &mut value["spec"]["template"]["spec"];
        let container = &mut pod["containers"][0];
        container["command"] = json!(null);
        container["readinessProbe"] = json!(null);
        pod.clone()
    });
    assert_eq!(install, remove);
}
