//! policy.wasm answers in mesa-preview's interpreter what it answers in the engine that the policy server embeds.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use engine_tests::Embedded;
use mesa_preview::engine::Policy;
use mesa_preview::request::AdmissionRequest;
use serde_json::{Value, json};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// Both engines with the policy, compiled once for all tests.
struct Engines {
    embedded: Embedded,
    interpreter: Policy,
}

static ENGINES: LazyLock<Engines> = LazyLock::new(|| {
    let file = repository("policy.wasm");
    let wasm = fs::read(&file).unwrap_or_else(|error| {
        panic!("{}: {error}: run `make policy.wasm` first", file.display())
    });
    Engines {
        embedded: Embedded::new(&wasm).unwrap(),
        interpreter: Policy::compile(&wasm)
            .map_err(|error| error.to_string())
            .unwrap(),
    }
});

/// The answer to a payload, which is that of both engines.
fn answer(function: &str, payload: &[u8]) -> String {
    let expected = ENGINES.embedded.call(function, payload).unwrap();
    let mut instance = ENGINES.interpreter.instantiate().unwrap();
    let actual = instance.call(function, payload).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&actual),
        String::from_utf8_lossy(&expected),
        "{function}"
    );
    String::from_utf8(expected).unwrap()
}

fn validate(request: &Value, settings: &Value) -> Value {
    let payload = json!({"request": request, "settings": settings}).to_string();
    answer("validate_settings", settings.to_string().as_bytes());
    serde_json::from_str(&answer("validate", payload.as_bytes())).unwrap()
}

fn files(directory: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn read_json(file: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn every_case_is_answered_as_expected_in_both() {
    let mut cases = 0;
    for case in files(repository("test_data")) {
        if !case.join("request.json").is_file() {
            continue;
        }
        cases += 1;
        let request = read_json(case.join("request.json"));
        let mut answer = validate(&request, &read_json(case.join("settings.json")));
        let members = answer.as_object_mut().unwrap();
        if let Some(object) = members.remove("mutated_object") {
            let patch = json_patch::diff(&request["object"], &object);
            members.insert("patch".to_owned(), serde_json::to_value(patch).unwrap());
        }
        let expected = read_json(case.join("expected.json"));
        assert_eq!(answer, expected, "{}", case.display());
    }
    assert!(cases > 100, "the cases are gone");
}

#[test]
fn every_rendered_pod_is_answered_alike() {
    let image = json!({"name": "mesa", "reference": "registry.example/mesa", "mounts": [{"mountPath": "/opt/mesa"}]});
    let settings = [
        json!({}),
        json!({"containers": ["*"], "resources": {"squat.ai/dri": 1}, "nodeSelector": {"a": "b"}}),
        json!({"images": [image]}),
    ];
    let mut pods = files(repository("test_data/pods"));
    match repository("../shared/pods") {
        shared if shared.is_dir() => pods.extend(files(shared)),
        _ => println!("skipped: no ../shared/pods beside this repository"),
    }
    for (number, file) in pods.iter().enumerate() {
        for pod in manifests::Source::read(file).unwrap().objects().unwrap() {
            let request = serde_json::to_value(AdmissionRequest::to_create(pod, number)).unwrap();
            for settings in &settings {
                let accepted = validate(&request, settings)["accepted"] == true;
                assert!(accepted, "{}", file.display());
            }
        }
    }
}

#[test]
fn wrong_settings_are_refused_alike() {
    for file in files(repository("test_data/settings")) {
        if file
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let settings = manifests::Source::read(&file).unwrap().settings().unwrap();
            let settings = Value::from(settings).to_string();
            let answer = answer("validate_settings", settings.as_bytes());
            assert!(answer.starts_with("{\"valid\":false"), "{answer}");
        }
    }
}

#[test]
fn any_payload_is_answered_alike() {
    let deep = "[".repeat(1_000_000);
    let object = "x".repeat(3_000_000);
    let long = format!("{{\"request\":{{\"object\":\"{object}\"}}}}");
    for payload in ["", "\u{0}", "{}", "null", "{\"request\":", &deep, &long] {
        for function in ["validate", "validate_settings", "protocol_version"] {
            answer(function, payload.as_bytes());
        }
    }
    answer("validate", &[0xff, 0xfe]);
}
