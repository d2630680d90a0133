//! `--output response` is what `kwctl run` prints.

use crate::common::{Act, Preview, guest, shared};
use rstest::rstest;
use serde_json::{Value, json};

/// A request with everything in it that the policy server drops.
fn request() -> Value {
    json!({
        "uid": "u-1",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "userInfo": {"username": "me"},
        "object": {"kind": "Pod", "metadata": {"name": "p"}},
        "oldObject": null,
    })
}

fn respond(policy: &Act<'_>, request: &Value) -> String {
    let preview = Preview::of(policy);
    preview.file("request.json", request.to_string());
    preview.prints(&["--output", "response", "request.json"])
}

#[rstest]
#[case::accepted(
    r#"{"accepted": true}"#,
    r#""allowed":true,"auditAnnotations":null,"warnings":null"#
)]
#[case::rejected(
    r#"{"accepted": false, "message": "no", "code": 409, "warnings": ["w"], "audit_annotations": {"k": "v"}}"#,
    r#""allowed":false,"status":{"message":"no","code":409},"auditAnnotations":{"k":"v"},"warnings":["w"]"#
)]
#[case::without_a_reason(
    r#"{"accepted": false}"#,
    r#""allowed":false,"auditAnnotations":null,"warnings":null"#
)]
#[case::unchanged(
    r#"{"accepted": true, "mutated_object": {"metadata": {"name": "p"}, "kind": "Pod"}}"#,
    r#""allowed":true,"auditAnnotations":null,"warnings":null"#
)]
// The patch is [{"op":"replace","path":"/metadata/name","value":"q"}].
#[case::mutated(
    r#"{"accepted": true, "mutated_object": {"kind": "Pod", "metadata": {"name": "q"}}}"#,
    r#""allowed":true,"patchType":"JSONPatch","patch":"W3sib3AiOiJyZXBsYWNlIiwicGF0aCI6Ii9tZXRhZGF0YS9uYW1lIiwidmFsdWUiOiJxIn1d","auditAnnotations":null,"warnings":null"#
)]
#[case::no_response(
    "[]",
    r#""allowed":false,"status":{"message":"internal server error: invalid response from policy: invalid length 0, expected struct ValidationResponse with 6 elements at line 1 column 2","code":500},"auditAnnotations":null,"warnings":null"#
)]
fn an_answer_becomes_the_response(#[case] answer: &str, #[case] response: &str) {
    assert_eq!(
        respond(&Act::Return(answer), &request()),
        format!("{{\"uid\":\"u-1\",{response}}}\n")
    );
}

#[test]
fn an_error_of_the_policy_is_an_internal_server_error() {
    let response: Value = serde_json::from_str(&respond(&Act::Fail("boom"), &request())).unwrap();
    let message = "internal server error: Guest call failure: boom";
    assert_eq!(response["status"], json!({"message": message, "code": 500}));
}

#[test]
fn a_trap_is_an_internal_server_error() {
    let response: Value =
        serde_json::from_str(&respond(&Act::Run("unreachable"), &request())).unwrap();
    assert_eq!(
        (&response["allowed"], &response["status"]["code"]),
        (&json!(false), &json!(500))
    );
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("internal server error: Guest call failure: "),
        "{message}"
    );
}

#[test]
fn a_policy_that_runs_for_ever_is_interrupted() {
    let response: Value =
        serde_json::from_str(&respond(&Act::Run("(loop (br 0))"), &request())).unwrap();
    let message = "Policy execution interrupted because it exceeded the allowed execution time";
    assert_eq!(response["status"], json!({"message": message, "code": 500}));
}

#[test]
fn a_mutation_of_nothing_is_rejected() {
    let mut request = request();
    request["operation"] = json!("DELETE");
    request["object"] = Value::Null;
    let response: Value = serde_json::from_str(&respond(
        &Act::Return(r#"{"accepted": true, "mutated_object": {}}"#),
        &request,
    ))
    .unwrap();
    assert_eq!(response["allowed"], json!(false));
    assert!(
        response["status"]["message"]
            .as_str()
            .unwrap()
            .contains("DELETE"),
        "{response}"
    );
}

/// Needs the file that records what the real `kwctl` did.
#[test]
fn every_recorded_run_of_kwctl_is_repeated_byte_for_byte() {
    let Some(file) = shared("kwctl-contract.json") else {
        println!("skipped: ../shared/kwctl-contract.json is not there");
        return;
    };
    let contract: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    for case in contract["cases"].as_array().unwrap() {
        let preview = Preview::of_module(&recorded_guest(&case["validate_returns"]));
        preview.file("request.json", contract["request"].to_string());
        let run = preview.command(&["--output", "response", "request.json"]);
        let output = { run }
            .assert()
            .code(i32::try_from(case["exit"].as_i64().unwrap()).unwrap())
            .get_output()
            .clone();
        let (stdout, stderr) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        );
        assert_eq!(
            stdout.trim_end_matches('\n'),
            case["stdout"].as_str().unwrap(),
            "{}",
            case["case"]
        );
        let said = case["stderr_says"].as_str().unwrap_or_default();
        // The label of an error is ours, what it says is kwctl's.
        let said = said.trim_start_matches("Error: ");
        assert!(
            stderr.contains(said.trim_end()),
            "{}: {stderr}",
            case["case"]
        );
    }
}

fn recorded_guest(returns: &Value) -> Vec<u8> {
    let (answer, valid) = (returns.to_string(), Act::Return(r#"{"valid": true}"#));
    let text = |key: &str| returns.get(key).and_then(Value::as_str);
    if returns.get("settingsErr").is_some() {
        return guest(&Act::Run("unreachable"), &Act::Fail("settings error text"));
    }
    if let Some(settings) = returns.get("settingsResponse") {
        return guest(
            &Act::Run("unreachable"),
            &Act::Return(&settings.to_string()),
        );
    }
    match (text("err"), text("raw")) {
        (Some(error), _) => guest(&Act::Fail(error), &valid),
        (_, Some(raw)) => guest(&Act::Return(raw), &valid),
        _ => guest(&Act::Return(&answer), &valid),
    }
}
