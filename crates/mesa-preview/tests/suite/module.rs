//! policy.wasm itself: its size, what it names, and that it answers as the library does.

use std::{
    fs,
    path::{Path, PathBuf},
};

use mesa_preview::engine::Policy;
use serde_json::{Value, json};

use crate::common::{policy_wasm, repository};

/// The largest module that a policy server should have to fetch and compile, in bytes.
const MAX_SIZE: usize = 260_000;

/// Debian's compiler is older, and makes it larger.
const MAX_SIZE_OF_DEBIAN: usize = 270_000;

fn wasm() -> Vec<u8> {
    fs::read(policy_wasm()).unwrap()
}

fn call(policy: &Policy, function: &str, payload: &[u8]) -> String {
    let mut instance = policy.instantiate().unwrap();
    let answer = instance.call(function, payload);
    let answer = answer.unwrap_or_else(|error| panic!("{function}: {error}"));
    String::from_utf8(answer).unwrap()
}

/// That it loads says that it imports from waPC and WASI alone.
fn policy() -> Policy {
    Policy::compile(&wasm())
        .map_err(|error| error.to_string())
        .unwrap()
}

fn read_json(file: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn it_is_small() {
    let by_debian = repository("target/debian-roots/wasm-toolchain").exists();
    let most = if by_debian {
        MAX_SIZE_OF_DEBIAN
    } else {
        MAX_SIZE
    };
    let size = wasm().len();
    assert!(size <= most, "{size} bytes are more than {most}");
}

#[test]
fn it_names_no_path_of_the_machine_that_built_it() {
    let module = wasm();
    for path in [env!("CARGO_MANIFEST_DIR"), env!("CARGO")] {
        // The part below the root that would be in every path.
        let path: PathBuf = Path::new(path).components().take(3).collect();
        let path = path.to_str().unwrap().as_bytes();
        let found = module.windows(path.len()).any(|bytes| bytes == path);
        assert!(!found, "{}", String::from_utf8_lossy(path));
    }
}

#[test]
fn every_case_is_answered_as_expected() {
    let policy = policy();
    let mut cases = 0;
    for case in fs::read_dir(repository("test_data")).unwrap() {
        let case = case.unwrap().path();
        if !case.join("request.json").is_file() {
            continue;
        }
        cases += 1;
        let request = read_json(case.join("request.json"));
        let settings = read_json(case.join("settings.json"));
        let payload = json!({"request": request, "settings": settings}).to_string();
        let answer = call(&policy, "validate", payload.as_bytes());
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        let members = answer.as_object_mut().unwrap();
        if let Some(object) = members.remove("mutated_object") {
            let patch = json_patch::diff(&request["object"], &object);
            members.insert("patch".to_owned(), serde_json::to_value(patch).unwrap());
        }
        let expected = read_json(case.join("expected.json"));
        assert_eq!(answer, expected, "{}", case.display());
        let settings = call(
            &policy,
            "validate_settings",
            settings.to_string().as_bytes(),
        );
        assert_eq!(settings, "{\"valid\":true}", "{}", case.display());
    }
    assert!(cases > 100, "the cases are gone");
}

#[test]
fn no_payload_traps() {
    let policy = policy();
    let deep = "[".repeat(100_000);
    for payload in ["", "\u{0}", "{}", "null", "{\"request\":", deep.as_str()] {
        for function in ["validate", "validate_settings", "protocol_version"] {
            let answer = call(&policy, function, payload.as_bytes());
            assert!(
                serde_json::from_str::<Value>(&answer).is_ok(),
                "{function}: {answer}"
            );
        }
    }
    assert_eq!(call(&policy, "protocol_version", b""), "\"v1\"");
}
