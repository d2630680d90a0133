//! `test_data`, each case a test of its own name. `BLESS=1 cargo test` rewrites what is expected.
//!
//! A directory `row-…` has a request, settings, and the answer with the patch that the policy server makes of it; the
//! number is that of the row in the table of `docs/settings.md`. In `settings`, each file of wrong settings stands beside
//! what is said of them.
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
use std::path::{Path, PathBuf};

use common::{assert_golden, files, read_json, repository, validate};
use libtest_mimic::{Arguments, Trial};
use mesa_injector::settings::Settings;
use mesa_injector::skip::SkipReason;
use serde_json::{Value, json};

fn main() {
    let mut trials = Vec::new();
    for case in rows() {
        let name = name(&case).to_owned();
        trials.push(trial(name, move || row(&case)));
    }
    for file in wrong_settings() {
        let name = format!("settings-{}", name(&file));
        trials.push(trial(name, move || settings(&file)));
    }
    let tables: [(&str, fn()); 3] = [
        ("every row of the table has a case", every_row_has_a_case),
        ("every skip reason has a case", every_skip_reason_has_a_case),
        (
            "the original stands in the answer byte for byte",
            the_original_stands_in_the_answer_byte_for_byte,
        ),
    ];
    trials.extend(tables.map(|(name, test)| trial(name, test)));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// A failed assertion is the failure of its trial alone.
fn trial(name: impl Into<String>, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, || {
        test();
        Ok(())
    })
}

fn rows() -> Vec<PathBuf> {
    let mut rows = files(repository("test_data"));
    rows.retain(|row| name(row).starts_with("row-"));
    assert!(rows.len() > 60, "the cases are gone");
    rows
}

fn wrong_settings() -> Vec<PathBuf> {
    let mut files = files(repository("test_data/settings"));
    files.retain(|file| file.extension().is_some_and(|it| it == "yaml"));
    assert!(files.len() >= 9, "the cases are gone");
    files
}

fn name(case: &Path) -> &str {
    case.file_stem().unwrap().to_str().unwrap()
}

/// The answer to a case, with the patch in the place of the object.
fn said(case: &Path) -> Value {
    let request = read_json(case.join("request.json"));
    let answer = validate(&request, &read_json(case.join("settings.json")));
    let mut said = answer.response.clone();
    let members = said.as_object_mut().unwrap();
    if members.remove("mutated_object").is_some() {
        members.insert("patch".to_owned(), answer.patch_json());
    }
    said
}

fn row(case: &Path) {
    let said = said(case);
    let text = serde_json::to_string_pretty(&said).unwrap() + "\n";
    assert_golden(case.join("expected.json"), &text);
    assert!(
        fits_its_row(&name(case)[..6], &said),
        "another row's outcome"
    );
    for warning in said["warnings"].as_array().into_iter().flatten() {
        let length = warning.as_str().unwrap().chars().count();
        assert!(length <= 120, "a warning of {length} characters");
    }
    let audit = said["audit_annotations"].as_object();
    let mut keys = audit.into_iter().flatten().map(|(key, _)| key);
    assert!(!keys.any(|key| key.contains('/')), "an audit key");
    the_second_pass_agrees(case);
}

fn fits_its_row(row: &str, said: &Value) -> bool {
    let skip = said["audit_annotations"]["skip-reason"].as_str();
    let (accepted, warned) = (said["accepted"] == true, said.get("warnings").is_some());
    let patched = said.get("patch").is_some();
    let patched_only_status = || {
        let paths: Vec<&Value> = said["patch"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|operation| &operation["path"])
            .collect();
        paths
            .iter()
            .all(|path| path.as_str().unwrap().starts_with("/metadata"))
    };
    let fits = match row {
        "row-01" | "row-09" => *said == json!({"accepted": true}),
        "row-02" => skip == Some("malformed-pod") && warned && patched_only_status(),
        "row-03" => skip.is_some() && !warned && !patched,
        "row-04" => skip.is_some() && patched == (patched && warned) && patched_only_status(),
        "row-05" => skip.is_some() && !warned,
        "row-06" => {
            let reasons = [Some("no-container"), Some("no-hook-sidecars")];
            reasons.contains(&skip) && warned && patched_only_status()
        }
        "row-07" => skip == Some("conflict") && warned && patched_only_status(),
        "row-08" => said["code"] == 409 && !patched,
        _ => skip.is_none() && patched && said["audit_annotations"]["injected"].is_string(),
    };
    fits && accepted != (row == "row-08")
}

fn the_second_pass_agrees(case: &Path) {
    let mut request = read_json(case.join("request.json"));
    let settings = read_json(case.join("settings.json"));
    let first = validate(&request, &settings);
    request["object"] = first.object(&request);
    let second = validate(&request, &settings);
    assert!(second.patch.is_empty(), "{}", second.response);
    assert_eq!(first.audit("skip-reason"), second.audit("skip-reason"));
    assert_eq!(first.warnings(), second.warnings());
}

fn settings(file: &Path) {
    let yaml = std::fs::read_to_string(file).unwrap();
    let settings: Value = serde_norway::from_str(&yaml).unwrap();
    let problems = Settings::from_json(&settings.to_string()).expect_err("there is a problem");
    assert_golden(file.with_extension("txt"), &format!("{problems}\n"));
}

fn every_row_has_a_case() {
    let rows: BTreeSet<String> = rows()
        .iter()
        .map(|case| name(case)[..6].to_owned())
        .collect();
    let expected = (1..=10).map(|row| format!("row-{row:02}"));
    assert_eq!(rows, expected.collect());
}

fn every_skip_reason_has_a_case() {
    let reasons: BTreeSet<String> = rows()
        .iter()
        .filter_map(|case| {
            let expected = said(case);
            let reason = expected["audit_annotations"]["skip-reason"].as_str()?;
            Some(reason.to_owned())
        })
        .collect();
    // These two no policy server can send: see any_bytes.
    let elsewhere = [SkipReason::MALFORMED_REQUEST, SkipReason::INVALID_SETTINGS];
    for reason in SkipReason::ALL {
        let expected = !elsewhere.contains(&reason);
        assert_eq!(reasons.contains(reason.id), expected, "{reason:?}");
    }
}

fn the_original_stands_in_the_answer_byte_for_byte() {
    let case = repository("test_data/row-10-strange-bytes");
    let request = std::fs::read_to_string(case.join("request.json")).unwrap();
    let settings = read_json(case.join("settings.json"));
    let payload = format!("{{\"settings\":{settings},\"request\":{request}}}");
    let mut answer = mesa_injector::validate(payload.as_bytes());
    for inserted in [
        r#"{"accepted":true,"audit_annotations":{"injected":"1 mount in compute"},"mutated_object":"#,
        r#","mesa-injector.io/status":"injected: 1 mount in compute""#,
        r#",{"name":"mesa-dri","hostPath":{"path":"/usr/lib64/dri","type":"Directory"}}"#,
        r#"{"name":"mesa-dri","readOnly":true,"mountPath":"/usr/lib64/dri"}"#,
    ] {
        assert!(answer.contains(inserted), "{inserted} is not in {answer}");
        answer = answer.replacen(inserted, "", 1);
    }
    let original = answer.strip_suffix('}').unwrap();
    assert!(request.contains(original), "{original}");
}
