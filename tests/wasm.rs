//! The library on a 32-bit Wasm target, under Node: `make test-wasm`. There the pointers are half as long, and a
//! panic would be a trap.
#![cfg(all(target_family = "wasm", target_os = "unknown"))]

use wasm_bindgen_test::wasm_bindgen_test;

/// The answer to a case of `test_data`.
macro_rules! answer {
    ($case:literal) => {
        mesa_injector::validate(
            concat!(
                "{\"settings\":",
                include_str!(concat!("../test_data/", $case, "/settings.json")),
                ",\"request\":",
                include_str!(concat!("../test_data/", $case, "/request.json")),
                "}"
            )
            .as_bytes(),
        )
    };
}

#[wasm_bindgen_test]
fn a_launcher_pod_is_extended() {
    let answer = answer!("row-10-default");
    assert!(
        answer.starts_with("{\"accepted\":true,\"audit_annotations\":{\"injected\":\"6 mounts in compute\"},\"mutated_object\":{"),
        "{answer}"
    );
    assert_eq!(answer.matches("\"readOnly\":true").count(), 6, "{answer}");
}

#[wasm_bindgen_test]
fn strange_bytes_stay_as_they_are() {
    let answer = answer!("row-10-strange-bytes");
    for strange in [
        "1e3, 0.10, -0, 12345678901234567890, 1E-7",
        "\"caf\\u00e9\": \"é\"",
        "\\ud83d\\ude00",
    ] {
        assert!(answer.contains(strange), "{strange} is not in {answer}");
    }
}

#[wasm_bindgen_test]
fn another_pod_is_untouched() {
    assert_eq!(answer!("row-01-other-labels"), "{\"accepted\":true}");
}

#[wasm_bindgen_test]
fn a_conflict_is_rejected() {
    let answer = answer!("row-08-several-conflicts");
    assert!(
        answer.starts_with("{\"accepted\":false,") && answer.contains("\"code\":409"),
        "{answer}"
    );
}

#[wasm_bindgen_test]
fn malformed_input_is_answered() {
    for payload in [&b""[..], b"\xff", b"{\"request\":{", &b"[".repeat(100_000)] {
        let answer = mesa_injector::validate(payload);
        assert!(answer.starts_with("{\"accepted\":true"), "{answer}");
        let answer = mesa_injector::validate_settings(payload);
        assert!(answer.starts_with("{\"valid\":false"), "{answer}");
    }
}

#[wasm_bindgen_test]
fn settings_are_checked() {
    assert_eq!(mesa_injector::validate_settings(b"{}"), "{\"valid\":true}");
    let answer = mesa_injector::validate_settings(
        b"{\"resources\":{\"a.b/c\":9223372036854775807},\"annotate\":1}",
    );
    assert_eq!(
        answer,
        "{\"valid\":false,\"message\":\"annotate: 1 is not a boolean; write true or false\"}"
    );
}
