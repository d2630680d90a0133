//! policy.wasm itself: its size, its imports, and that it answers as the library does.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may panic"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use wapc::WapcHost;
use wasmtime_provider::wasmtime::{Engine, Module};
use wasmtime_provider::{WasmtimeEngineProviderBuilder, WasmtimeEngineProviderPre};

/// The largest module that a policy server should have to fetch and compile, in bytes.
const MAX_SIZE: usize = 200_000;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

fn policy_wasm() -> Vec<u8> {
    let file = std::env::var_os("POLICY_WASM").map_or(repository("policy.wasm"), PathBuf::from);
    fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}: run `make policy.wasm` first", file.display()))
}

/// A module that was linked once, as the policy server does it.
struct Policy {
    linked: WasmtimeEngineProviderPre,
    host_calls: Arc<AtomicUsize>,
}

impl Policy {
    fn new() -> Self {
        let engine = Engine::default();
        let module = Module::new(&engine, policy_wasm()).unwrap();
        let builder = WasmtimeEngineProviderBuilder::new()
            .engine(engine)
            .module(module);
        Policy {
            linked: builder.build_pre().unwrap(),
            host_calls: Arc::default(),
        }
    }

    fn call(&self, function: &str, payload: &[u8]) -> String {
        let host_calls = Arc::clone(&self.host_calls);
        let count = move |_: u64, _: &str, _: &str, _: &str, _: &[u8]| {
            host_calls.fetch_add(1, Ordering::Relaxed);
            Ok(Vec::new())
        };
        let instance = self.linked.rehydrate(None).unwrap();
        let host = WapcHost::new(Box::new(instance), Some(Box::new(count))).unwrap();
        let answer = host.call(function, payload);
        String::from_utf8(answer.unwrap_or_else(|error| panic!("{function}: {error}"))).unwrap()
    }
}

fn read_json(file: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn it_is_small() {
    let size = policy_wasm().len();
    assert!(size <= MAX_SIZE, "{size} bytes are more than {MAX_SIZE}");
}

#[test]
fn it_imports_from_wapc_and_wasi_alone() {
    let module = Module::new(&Engine::default(), policy_wasm()).unwrap();
    for import in module.imports() {
        let from = import.module();
        assert!(
            matches!(from, "wapc" | "wasi_snapshot_preview1"),
            "{from}.{}",
            import.name()
        );
    }
}

#[test]
fn it_names_no_path_of_the_machine_that_built_it() {
    let module = policy_wasm();
    for path in [env!("CARGO_MANIFEST_DIR"), env!("CARGO")] {
        // The part below the root that would be in every path.
        let path: PathBuf = Path::new(path).components().take(3).collect();
        let path = path.to_str().unwrap().as_bytes();
        let found = module.windows(path.len()).any(|bytes| bytes == path);
        assert!(!found, "{}", String::from_utf8_lossy(path));
    }
}

#[test]
fn every_case_is_answered_as_expected_and_without_a_host_call() {
    let policy = Policy::new();
    let mut cases = 0;
    for case in fs::read_dir(repository("test_data")).unwrap() {
        let case = case.unwrap().path();
        if !case.join("request.json").is_file() {
            continue;
        }
        cases += 1;
        let (request, settings) = (
            read_json(case.join("request.json")),
            read_json(case.join("settings.json")),
        );
        let payload = json!({"request": request, "settings": settings}).to_string();
        let mut answer: Value =
            serde_json::from_str(&policy.call("validate", payload.as_bytes())).unwrap();
        let members = answer.as_object_mut().unwrap();
        if let Some(object) = members.remove("mutated_object") {
            let patch = json_patch::diff(&request["object"], &object);
            members.insert("patch".to_owned(), serde_json::to_value(patch).unwrap());
        }
        assert_eq!(
            answer,
            read_json(case.join("expected.json")),
            "{}",
            case.display()
        );
        let settings = policy.call("validate_settings", settings.to_string().as_bytes());
        assert_eq!(settings, "{\"valid\":true}", "{}", case.display());
    }
    assert!(cases > 60, "the cases are gone");
    assert_eq!(policy.host_calls.load(Ordering::Relaxed), 0);
}

#[test]
fn no_payload_traps() {
    let policy = Policy::new();
    let deep = "[".repeat(1_000_000);
    let long = format!(
        "{{\"request\":{{\"object\":\"{}\"}}}}",
        "x".repeat(3_000_000)
    );
    for payload in [
        "",
        "\u{0}",
        "{}",
        "null",
        "{\"request\":",
        deep.as_str(),
        &long,
    ] {
        for function in ["validate", "validate_settings", "protocol_version"] {
            let answer = policy.call(function, payload.as_bytes());
            assert!(
                serde_json::from_str::<Value>(&answer).is_ok(),
                "{function}: {answer}"
            );
        }
    }
    assert_eq!(policy.call("protocol_version", b""), "\"v1\"");
    let answer = policy.call("validate", &[0xff, 0xfe]);
    assert!(answer.starts_with("{\"accepted\":true,"), "{answer}");
}
