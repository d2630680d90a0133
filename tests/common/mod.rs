//! What the tests over the public API share.

// Every test file compiles this module for itself and uses its part of it.
#![allow(dead_code)]

use std::path::PathBuf;

use json_patch::PatchOperation;
use serde_json::{Value, json};

/// A file or directory of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The files of a directory that is there, in the order of their names.
pub(crate) fn files(directory: PathBuf) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// The pods that KubeVirt's own code rendered, by file name; none where `shared` is not there.
pub(crate) fn rendered_pods() -> Vec<(String, Value)> {
    let directory = repository("../shared/pods");
    if !directory.is_dir() {
        println!("skipped: no ../shared/pods beside this repository");
        return Vec::new();
    }
    let read = |file: PathBuf| {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, read_json(file))
    };
    files(directory).into_iter().map(read).collect()
}

/// A JSON file.
pub(crate) fn read_json(file: PathBuf) -> Value {
    let text = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The request with which virt-controller creates a pod.
pub(crate) fn request(pod: &Value) -> Value {
    json!({
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "namespace": "kubevirt",
        "userInfo": {"username": "system:serviceaccount:kubevirt:kubevirt-controller"},
        "object": pod,
    })
}

/// A pod that is ours under the default settings.
pub(crate) fn launcher_pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "virt-launcher-vm-", "labels": {"kubevirt.io": "virt-launcher"}},
        "spec": {"containers": [{"name": "compute", "image": "virt-launcher"}]},
    })
}

/// What the policy says of a request.
pub(crate) struct Answer {
    /// The whole response.
    pub(crate) response: Value,
    /// The difference between the object and the mutated object, as the policy server computes it.
    pub(crate) patch: Vec<PatchOperation>,
}

impl Answer {
    /// The patch operations as JSON.
    pub(crate) fn patch_json(&self) -> Value {
        serde_json::to_value(&self.patch).unwrap()
    }

    /// The object that the API server would go on with.
    pub(crate) fn object(&self, request: &Value) -> Value {
        self.response
            .get("mutated_object")
            .unwrap_or(&request["object"])
            .clone()
    }

    /// A value of the audit annotations.
    pub(crate) fn audit(&self, key: &str) -> Option<&str> {
        self.response["audit_annotations"][key].as_str()
    }

    /// The warnings.
    pub(crate) fn warnings(&self) -> Vec<&str> {
        let warnings = self.response["warnings"].as_array();
        warnings
            .into_iter()
            .flatten()
            .map(|warning| warning.as_str().unwrap())
            .collect()
    }
}

/// Calls the policy as the policy server does.
pub(crate) fn validate(request: &Value, settings: &Value) -> Answer {
    let payload = json!({"request": request, "settings": settings}).to_string();
    let response = mesa_injector::validate(payload.as_bytes());
    let response: Value = serde_json::from_str(&response).unwrap();
    let patch = match response.get("mutated_object") {
        Some(object) => json_patch::diff(&request["object"], object).0,
        None => Vec::new(),
    };
    Answer { response, patch }
}

/// Compares a text with a golden file, or writes the file where `BLESS=1` is set.
pub(crate) fn assert_golden(file: PathBuf, actual: &str) {
    if std::env::var_os("BLESS").is_some() {
        // At one go, for the tests that read the file meanwhile.
        let new = file.with_extension("new");
        std::fs::write(&new, actual).unwrap();
        std::fs::rename(&new, &file).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        expected == actual,
        "{} differs; BLESS=1 cargo test rewrites it\n--- expected\n{expected}\n--- actual\n{actual}",
        file.display()
    );
}
