//! A launcher pod that KubeVirt rendered, made runnable on a node without KubeVirt's devices.

use serde_json::{Value, json};

/// The container that runs virt-launcher.
pub(crate) const COMPUTE: &str = "compute";

/// Takes from a rendered pod what needs more than a node: other containers with their images, devices, and the volumes of
/// images; says the seccomp profile that Pod Security `restricted` asks for, as KubeVirt does where it is configured so. All
/// else stays, above all volumes, mounts, users, capabilities and the words of the command.
pub(crate) fn runnable(rendered: &Value) -> Value {
    let mut pod = rendered.clone();
    let spec = &mut pod["spec"];
    let is_image = |volume: &Value| volume["image"].is_object();
    let images: Vec<Value> = list(&spec["volumes"])
        .iter()
        .filter(|volume| is_image(volume))
        .map(|volume| volume["name"].clone())
        .collect();
    retain(&mut spec["volumes"], |volume| !is_image(volume));
    retain(&mut spec["containers"], |container| {
        container["name"] == COMPUTE
    });
    remove(spec, "initContainers");
    // Of virt-handler.
    remove(spec, "readinessGates");
    spec["nodeName"] = json!("node");
    spec["terminationGracePeriodSeconds"] = json!(2);
    spec["securityContext"]["seccompProfile"] = json!({"type": "RuntimeDefault"});
    let compute = &mut spec["containers"][0];
    retain(&mut compute["volumeMounts"], |mount| {
        !images.contains(&mount["name"])
    });
    compute["resources"] = json!({"requests": {"cpu": "100m", "memory": "64Mi"}});
    compute["imagePullPolicy"] = json!("Never");
    pod
}

/// The same whose compute container runs a script. The words of virt-launcher's command are the script's.
pub(crate) fn with_script(mut pod: Value, script: &str) -> Value {
    let compute = &mut pod["spec"]["containers"][0];
    compute["command"] = json!(["/bin/bash", "-c", script, "virt-launcher"]);
    pod
}

/// The same in a namespace, under a name.
pub(crate) fn named(mut pod: Value, namespace: &str, name: &str) -> Value {
    remove(&mut pod["metadata"], "generateName");
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["namespace"] = json!(namespace);
    pod
}

/// The same with a label.
pub(crate) fn labelled(mut pod: Value, key: &str, value: &str) -> Value {
    pod["metadata"]["labels"][key] = json!(value);
    pod
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn retain(value: &mut Value, keep: impl Fn(&Value) -> bool) {
    if let Some(list) = value.as_array_mut() {
        list.retain(keep);
    }
}

fn remove(value: &mut Value, key: &str) {
    value.as_object_mut().map(|object| object.remove(key));
}
