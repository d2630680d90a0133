//! Settings and policy resources, from the command line to the response.

use crate::common::{Act, MUTATION, POD, Preview, guest};
use rstest::rstest;
use serde_json::{Value, json};

fn policy_yaml(spec: &str) -> String {
    format!(
        "apiVersion: policies.kubewarden.io/v1\nkind: ClusterAdmissionPolicy\nmetadata: {{name: mesa}}\nspec: {{{spec}}}\n"
    )
}

fn response(spec: &str, answer: &str) -> Value {
    let preview = Preview::of(&Act::Return(answer));
    preview
        .file("pod.yaml", POD)
        .file("policy.yaml", policy_yaml(spec));
    let line = preview.prints(&[
        "--policy-yaml",
        "policy.yaml",
        "--output",
        "response",
        "pod.yaml",
    ]);
    serde_json::from_str(&line).unwrap()
}

#[test]
fn a_policy_that_may_mutate_does() {
    let response = response("mutating: true", MUTATION);
    assert_eq!(
        (&response["allowed"], &response["patchType"]),
        (&json!(true), &json!("JSONPatch"))
    );
}

#[test]
fn a_policy_that_may_not_mutate_is_rejected_when_it_does() {
    let response = response("mutating: false", MUTATION);
    let message = "Request rejected by policy mesa. The policy attempted to mutate the request, but it is currently \
                   configured to not allow mutations.";
    assert_eq!(
        (&response["allowed"], &response["patch"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(response["status"], json!({"message": message}));
    assert_eq!(response["warnings"], json!(["look out"]));
}

#[rstest]
#[case::mutation(MUTATION)]
#[case::rejection(r#"{"accepted": false, "code": 409, "warnings": ["look out"]}"#)]
fn monitor_mode_accepts_all_and_keeps_the_warnings(#[case] answer: &str) {
    let response = response("mutating: true, mode: monitor", answer);
    assert_eq!(
        (
            &response["allowed"],
            &response["patch"],
            &response["status"]
        ),
        (&json!(true), &Value::Null, &Value::Null)
    );
    assert_eq!(response["warnings"], json!(["look out"]));
}

#[test]
fn the_report_says_that_monitor_mode_hides_the_change() {
    let preview = Preview::of(&Act::Return(MUTATION));
    preview.file("pod.yaml", POD);
    preview.file("policy.yaml", policy_yaml("mutating: true, mode: monitor"));
    let expected = "\
pod.yaml: vms/virt-launcher-vm-*: accepted, unchanged
  note mode is monitor: the server drops what the policy would change or reject
  warning look out
  audit result: injected
";
    assert_eq!(
        preview.prints(&["--policy-yaml", "policy.yaml", "pod.yaml"]),
        expected
    );
}

#[test]
fn the_message_of_the_resource_takes_the_place_of_the_policys() {
    let response = response(
        "message: ask the admin",
        r#"{"accepted": false, "message": "no", "code": 409}"#,
    );
    let cause = json!({"reason": null, "message": "no", "field": null});
    assert_eq!(
        response["status"],
        json!({"message": "ask the admin", "details": {"causes": [cause]}, "code": 409})
    );
}

/// The guest is its own witness: it returns the payload that it was called with as an error.
fn payload_of(function: &str, arguments: &[&str], files: &[(&str, &str)]) -> Value {
    let module = wat::parse_str(format!(
        r#"(module
             (import "wapc" "__guest_request" (func $request (param i32 i32)))
             (import "wapc" "__guest_response" (func $respond (param i32 i32)))
             (import "wapc" "__guest_error" (func $fail (param i32 i32)))
             (memory (export "memory") 16)
             (data (i32.const 0) "{{\"valid\":true}}")
             (func (export "__guest_call") (param $function i32) (param $payload i32) (result i32)
               (call $request (i32.const 1024) (i32.const 2048))
               (if (result i32) (i32.eq (local.get $function) (i32.const {}))
                 (then (call $fail (i32.const 2048) (local.get $payload)) (i32.const 0))
                 (else (call $respond (i32.const 0) (i32.const 14)) (i32.const 1)))))"#,
        function.len()
    ));
    let preview = Preview::of_module(&module.unwrap());
    preview.file("pod.yaml", POD);
    for (name, content) in files {
        preview.file(name, content);
    }
    let arguments = [arguments, &["pod.yaml"]].concat();
    let complaint = preview.complains(&arguments);
    let (start, end) = (complaint.find('{').unwrap(), complaint.rfind('}').unwrap());
    serde_json::from_str(&complaint[start..=end].replace("\\\"", "\"")).unwrap()
}

#[rstest]
#[case::none(&[], json!({}))]
#[case::json(&["--settings-json", r#"{"b": 1, "a": {}}"#], json!({"a": {}, "b": 1}))]
#[case::yaml(&["--settings", "settings.yaml"], json!({"onConflict": "reject"}))]
#[case::policy(&["--policy-yaml", "policy.yaml"], json!({"annotate": false}))]
#[case::null(&["--settings-json", "null"], json!({}))]
fn the_policy_is_given_its_settings(#[case] arguments: &[&str], #[case] settings: Value) {
    let policy = policy_yaml("settings: {annotate: false}");
    let files = [
        ("settings.yaml", "onConflict: reject\n"),
        ("policy.yaml", &policy),
    ];
    assert_eq!(payload_of("validate_settings", arguments, &files), settings);
    let payload = payload_of("validate", arguments, &files);
    assert_eq!(payload["settings"], settings);
    assert_eq!(
        payload["request"]["object"]["spec"]["containers"][0]["name"],
        json!("compute")
    );
}

#[rstest]
#[case(&[], "error: Provided settings are not valid: containers: not a list; fix: docs/settings.md has every setting")]
#[case(
    &["--settings", "settings.yaml"],
    "error: Provided settings are not valid: containers: not a list; fix: correct them in settings.yaml; docs/settings.md has every setting"
)]
fn refused_settings_are_told_with_their_file(#[case] arguments: &[&str], #[case] complaint: &str) {
    let refusal = Act::Return(r#"{"valid": false, "message": "containers: not a list"}"#);
    let preview = Preview::of_module(&guest(&Act::Run("unreachable"), &refusal));
    preview
        .file("pod.yaml", POD)
        .file("settings.yaml", "containers: 1");
    assert_eq!(
        preview.complains(&[arguments, &["pod.yaml"]].concat()),
        complaint
    );
}
