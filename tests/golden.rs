//! One directory of `test_data` a case: a request, settings, and the answer with the patch that the policy server
//! makes of it. `BLESS=1 cargo test` rewrites the answers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test may panic"
)]

mod common;

use std::collections::BTreeSet;
use std::path::PathBuf;

use common::{assert_golden, files, read_json, repository, validate};
use mesa_injector::target::SkipReason;
use serde_json::{Value, json};

fn cases() -> Vec<PathBuf> {
    let mut cases = files(repository("test_data"));
    cases.retain(|case| name(case).starts_with("row-"));
    assert!(cases.len() > 60, "the cases are gone");
    cases
}

fn name(case: &std::path::Path) -> &str {
    case.file_name().unwrap().to_str().unwrap()
}

/// The answer to a case, with the patch in the place of the object.
fn said(case: &std::path::Path) -> Value {
    let request = read_json(case.join("request.json"));
    let answer = validate(&request, &read_json(case.join("settings.json")));
    let mut said = answer.response.clone();
    let members = said.as_object_mut().unwrap();
    if members.remove("mutated_object").is_some() {
        members.insert("patch".to_owned(), answer.patch_json());
    }
    said
}

#[test]
fn every_case_is_answered_as_expected() {
    for case in cases() {
        let text = serde_json::to_string_pretty(&said(&case)).unwrap() + "\n";
        assert_golden(case.join("expected.json"), &text);
    }
}

#[test]
fn every_row_of_the_table_has_a_case() {
    let rows: BTreeSet<String> = cases()
        .iter()
        .map(|case| name(case)[..6].to_owned())
        .collect();
    let expected = (1..=10).map(|row| format!("row-{row:02}"));
    assert_eq!(rows, expected.collect());
}

#[test]
fn every_skip_reason_has_a_case() {
    let reasons: BTreeSet<String> = cases()
        .iter()
        .filter_map(|case| {
            let expected = said(case);
            Some(
                expected["audit_annotations"]["skip-reason"]
                    .as_str()?
                    .to_owned(),
            )
        })
        .collect();
    // These two no policy server can send: see tests/any_bytes.rs.
    let elsewhere = [SkipReason::MalformedRequest, SkipReason::InvalidSettings];
    for reason in SkipReason::ALL {
        assert_eq!(
            reasons.contains(reason.text().id),
            !elsewhere.contains(&reason),
            "{reason:?}"
        );
    }
}

#[test]
fn the_outcome_of_a_case_is_that_of_its_row() {
    for case in cases() {
        let said = said(&case);
        let skip = said["audit_annotations"]["skip-reason"].as_str();
        let (accepted, warned) = (said["accepted"] == true, said.get("warnings").is_some());
        let patched = said.get("patch").is_some();
        let fits = match &name(&case)[..6] {
            "row-01" | "row-09" => said == json!({"accepted": true}),
            "row-02" => skip == Some("malformed-pod") && warned && !patched,
            "row-03" => skip.is_some() && !warned && !patched,
            "row-04" => skip.is_some() && !patched,
            "row-05" => skip.is_some() && !warned,
            "row-06" => skip == Some("no-container") && warned && !patched,
            "row-07" => skip == Some("conflict") && warned,
            "row-08" => !accepted && said["code"] == 409 && !patched,
            _ => skip.is_none() && patched && said["audit_annotations"]["injected"].is_string(),
        };
        assert!(
            fits && (accepted || name(&case).starts_with("row-08")),
            "{}",
            name(&case)
        );
    }
}

#[test]
fn a_warning_is_short_and_an_audit_key_has_no_slash() {
    for case in cases() {
        let said = said(&case);
        for warning in said["warnings"].as_array().into_iter().flatten() {
            let length = warning.as_str().unwrap().chars().count();
            assert!(length <= 120, "{}: {length}", name(&case));
        }
        let audit = said["audit_annotations"].as_object();
        assert!(
            !audit
                .into_iter()
                .flatten()
                .any(|(key, _)| key.contains('/')),
            "{}",
            name(&case)
        );
    }
}

#[test]
fn the_policy_says_the_same_on_its_second_pass() {
    for case in cases() {
        let (mut request, settings) = (
            read_json(case.join("request.json")),
            read_json(case.join("settings.json")),
        );
        let first = validate(&request, &settings);
        request["object"] = first.object(&request);
        let second = validate(&request, &settings);
        assert!(second.patch.is_empty(), "{}", name(&case));
        assert_eq!(
            first.audit("skip-reason"),
            second.audit("skip-reason"),
            "{}",
            name(&case)
        );
        assert_eq!(first.warnings(), second.warnings(), "{}", name(&case));
    }
}

#[test]
fn the_original_stands_in_the_answer_byte_for_byte() {
    let case = repository("test_data/row-10-strange-bytes");
    let request = std::fs::read_to_string(case.join("request.json")).unwrap();
    let settings = read_json(case.join("settings.json"));
    let payload = format!("{{\"settings\":{settings},\"request\":{request}}}");
    let mut answer = mesa_injector::validate(payload.as_bytes());
    for inserted in [
        r#"{"accepted":true,"mutated_object":"#,
        r#","mesa-injector.io/status":"injected: 1 mount in compute""#,
        r#",{"name":"mesa-dri","hostPath":{"path":"/usr/lib64/dri","type":"Directory"}}"#,
        r#"{"name":"mesa-dri","readOnly":true,"mountPath":"/usr/lib64/dri"}"#,
        r#","audit_annotations":{"injected":"1 mount in compute"}}"#,
    ] {
        assert!(answer.contains(inserted), "{inserted} is not in {answer}");
        answer = answer.replacen(inserted, "", 1);
    }
    assert!(request.contains(&answer), "{answer}");
}
