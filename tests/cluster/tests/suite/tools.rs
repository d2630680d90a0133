//! What an administrator runs: preflight, deploy, verify, status, undeploy.

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::machine::repository;
use crate::world::{LAUNCHER, REF, World};

/// The resource of Kubewarden that is tested against is the real one.
const POLICIES: &str = "../shared/crds/clusteradmissionpolicies.yaml";

fn assert_says(said: &str, texts: &[&str]) {
    for text in texts {
        assert!(said.contains(text), "{text} is not in\n{said}");
    }
}

/// A kind of resource, of which nothing is checked.
fn define(world: &World, group: &str, kind: &str, scope: &str, version: &str) {
    let singular = kind.to_lowercase();
    let plural = format!("{singular}s");
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group,
            "scope": scope,
            "names": {"kind": kind, "singular": singular, "plural": plural},
            "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": anything}}],
        },
    });
    let kubectl = world.cluster.kubectl();
    kubectl.create(&definition, &[]).unwrap();
    let name = format!("crd/{plural}.{group}");
    kubectl
        .run(&["wait", "--for=condition=Established", &name])
        .unwrap();
}

/// virt-controller with the launcher's image that it gives to pods.
fn virt_controller(image: &str) -> serde_json::Value {
    let labels = json!({"kubevirt.io": "virt-controller"});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "virt-controller", "namespace": "kubevirt", "labels": labels},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{
                "name": "virt-controller",
                "image": "quay.io/kubevirt/virt-controller:v1.9.0",
                "command": ["virt-controller"],
                "args": ["--launcher-image", image, "--port", "8443"],
            }]}},
        },
    })
}

pub(crate) fn preflight(world: &World) {
    let policy = world.policy_file(&world.flat);
    let kubectl = world.cluster.kubectl();
    let (code, said) = world.tool(&kubectl, &["preflight"], &policy);
    assert_eq!(code, 1, "{said}");
    let missing = ["Kubewarden is missing; install", "KubeVirt is missing"];
    assert_says(&said, &missing);
    assert_says(
        &said,
        &[
            "keeps image volumes",
            "nodes node: containerd",
            "2 problems",
        ],
    );

    if !repository(POLICIES).is_file() {
        eprintln!("skipped: {POLICIES} is not there");
        return;
    }
    let policies = repository(POLICIES).display().to_string();
    kubectl.run(&["create", "--filename", &policies]).unwrap();
    define(
        world,
        "policies.kubewarden.io",
        "PolicyServer",
        "Cluster",
        "v1",
    );
    define(world, "kubevirt.io", "KubeVirt", "Namespaced", "v1");
    define(world, "plugin.kubevirt.io", "Plugin", "Cluster", "v1alpha1");
    let server = json!({"apiVersion": "policies.kubewarden.io/v1", "kind": "PolicyServer", "metadata": {"name": "default"}});
    kubectl.create(&server, &[]).unwrap();
    let kubevirt = |gates: &[&str]| {
        json!({
            "apiVersion": "kubevirt.io/v1",
            "kind": "KubeVirt",
            "metadata": {"name": "kubevirt", "namespace": "kubevirt"},
            "spec": {"configuration": {"developerConfiguration": {"featureGates": gates}}},
            "status": {"observedKubeVirtVersion": "v1.9.0"},
        })
    };
    kubectl.create(&kubevirt(&[]), &[]).unwrap();
    kubectl.create(&virt_controller(LAUNCHER), &[]).unwrap();
    let (code, said) = world.tool(&kubectl, &["preflight"], &policy);
    assert_eq!(code, 0, "{said}");
    assert_says(&said, &[LAUNCHER, "KubeVirt v1.9.0", "there is no skopeo"]);
    let before = kubectl.run(&["get", "pods", "--namespace", "default"]);
    assert_eq!(before.unwrap(), "");

    // Somebody's Plugin, and another launcher.
    let plugin = json!({"apiVersion": "plugin.kubevirt.io/v1alpha1", "kind": "Plugin", "metadata": {"name": "other"}});
    kubectl.create(&plugin, &[]).unwrap();
    for (kind, object) in [
        ("kubevirt", kubevirt(&["Plugins"])),
        (
            "deployment",
            virt_controller("quay.io/kubevirt/virt-launcher:v1.10.0"),
        ),
    ] {
        let name = object["metadata"]["name"].as_str().unwrap();
        let delete = ["delete", kind, name, "--namespace", "kubevirt"];
        kubectl.run(&delete).unwrap();
        kubectl.create(&object, &[]).unwrap();
    }
    let (code, said) = world.tool(&kubectl, &["preflight"], &policy);
    assert_eq!(code, 1, "{said}");
    let other = "this cluster's launcher image is quay.io/kubevirt/virt-launcher:v1.10.0; make an image for it";
    assert_says(
        &said,
        &[other, "apply examples/display/plugin.yaml", "2 problems"],
    );
    for delete in [
        [
            "delete",
            "deployment",
            "virt-controller",
            "--namespace",
            "kubevirt",
        ],
        ["delete", "kubevirt", "kubevirt", "--namespace", "kubevirt"],
    ] {
        kubectl.run(&delete).unwrap();
    }
    kubectl.create(&virt_controller(LAUNCHER), &[]).unwrap();

    // Host paths, under Pod Security.
    world.namespace("strict", Some("restricted"));
    let mut of_node = world.flat.clone();
    of_node.spec.settings = serde_json::Map::new();
    let (_, said) = world.tool(&kubectl, &["preflight"], &world.policy_file(&of_node));
    assert_says(&said, &["strict", "Pod Security forbids host paths there"]);

    // Files on nodes that have none.
    let labels = json!({"feature.node.kubernetes.io/mesa-injector.ready": "true"});
    of_node
        .spec
        .settings
        .insert("nodeSelector".to_owned(), labels);
    let (_, said) = world.tool(&kubectl, &["preflight"], &world.policy_file(&of_node));
    assert_says(
        &said,
        &["no node has the labels feature.node.kubernetes.io/mesa-injector.ready=true"],
    );
}

/// After `preflight`, whose resources it needs.
pub(crate) fn life(world: &World) {
    if !repository(POLICIES).is_file() {
        eprintln!("skipped: {POLICIES} is not there");
        return;
    }
    let policy = world.policy_file(&world.flat);
    let name = world.flat.metadata.name.as_str();
    let resource = format!("clusteradmissionpolicy/{name}");
    let _scheduler = world.cluster.start_scheduler().unwrap();
    let kubectl = world.cluster.kubectl();
    let (code, said) = world.tool(&kubectl, &["deploy", "status"], &policy);
    assert_eq!(
        (code, said.contains("is not deployed")),
        (1, true),
        "{said}"
    );
    let (code, said) = world.tool(&kubectl, &["verify"], &policy);
    assert_eq!(
        (code, said.contains("the policy added nothing")),
        (1, true),
        "{said}"
    );

    // Kubewarden's controller says when the policy is active.
    let controller = thread::spawn({
        let (kubectl, resource) = (kubectl.clone(), resource.clone());
        move || {
            let status = r#"--patch={"status": {"policyStatus": "active"}}"#;
            let patch = [
                "patch",
                &resource,
                "--subresource=status",
                "--type=merge",
                status,
            ];
            while kubectl.run(&patch).is_err() {
                thread::sleep(Duration::from_millis(200));
            }
        }
    });
    let (code, said) = world.tool(&kubectl, &["deploy", "deploy"], &policy);
    assert_eq!((code, said.contains("is active")), (0, true), "{said}");
    controller.join().unwrap();
    let module = kubectl.get(&[&resource]).unwrap();
    assert_eq!(module["spec"]["module"], REF);

    let installed = world.cluster.install(&world.flat, &world.module, &[]);
    let mut installed = installed.unwrap();
    let (code, said) = world.tool(&kubectl, &["verify"], &policy);
    assert_eq!(code, 0, "{said}");
    assert_says(
        &said,
        &[
            "the policy added 6 mounts",
            "the policy added the hook",
            "QEMU's GL display came up",
        ],
    );
    let pods = kubectl.run(&["get", "pods", "--namespace", "default"]);
    assert_eq!(pods.unwrap(), "");

    let pod = world
        .create(&world.pod("kubevirt", "status", "sleep 100"))
        .unwrap();
    let (code, said) = world.tool(&kubectl, &["deploy", "status"], &policy);
    assert_eq!(code, 0, "{said}");
    // Pods of other cases are there too.
    let injected = " pods: injected: 5 mounts in compute, and the hook for the display\n";
    let active = format!("{name} is active");
    assert_says(&said, &[&active, injected, "    kubevirt/status\n"]);
    world.delete(&pod);

    installed.stop_server();
    let (code, said) = world.tool(&kubectl, &["verify"], &policy);
    assert_eq!(
        (code, said.contains("the policy server does not answer")),
        (1, true),
        "{said}"
    );
    drop(installed);

    let (code, said) = world.tool(&kubectl, &["deploy", "undeploy"], &policy);
    assert_eq!((code, said.contains("is gone")), (0, true), "{said}");
    assert!(kubectl.get(&[&resource]).is_err());
    let (code, _) = world.tool(&kubectl, &["deploy", "undeploy"], &policy);
    assert_eq!(code, 0);

    let several = world.cluster.directory().join("several.yaml");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&several, format!("{text}---\n{text}")).unwrap();
    let (code, said) = world.tool(&kubectl, &["verify"], &several);
    let advice = "give each policy a file of its own";
    assert_eq!((code, said.contains(advice)), (2, true), "{said}");
    let nowhere = world.cluster.directory().join("nowhere.yaml");
    fs::write(&nowhere, "kind: Pod\napiVersion: v1\nmetadata: {name: a}\n").unwrap();
    let (code, said) = world.tool(&kubectl, &["verify"], &nowhere);
    assert_eq!(
        (
            code,
            said.contains("there is no ClusterAdmissionPolicy in it")
        ),
        (2, true),
        "{said}"
    );
}
