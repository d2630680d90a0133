//! The other outputs, and what is said when something is wrong.

use crate::common::{Act, MUTATION, POD, Preview};
use predicates::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

const ACCEPT: Act<'static> = Act::Return(r#"{"accepted": true}"#);
const REJECT: Act<'static> =
    Act::Return(r#"{"accepted": false, "message": "volume mesa-dri is there", "code": 409}"#);

#[test]
fn the_report_says_what_is_added_where() {
    let preview = Preview::of(&Act::Return(MUTATION));
    preview.file("pod.yaml", POD);
    let expected = "\
pod.yaml: vms/virt-launcher-vm-*: mutated
  volumes
    + mesa-libgl  hostPath /usr/lib64/libGL.so.1 (File)
    + mesa        image registry.example/mesa:1 (IfNotPresent)
  container compute
    + resources.limits.squat.ai/dri    1
    + resources.requests.squat.ai/dri  1
    + mount /usr/lib64/libGL.so.1      from mesa-libgl, read-only
    + mount /usr/lib64/dri             from mesa, sub-path dri, writable
  metadata.annotations
    + mesa-injector.io/status  injected
  spec.nodeSelector
    + mesa  yes
  warning look out
  audit result: injected
";
    assert_eq!(preview.prints(&["pod.yaml"]), expected);
}

#[test]
fn what_is_replaced_or_removed_is_told_too() {
    let answer =
        r#"{"accepted": true, "mutated_object": {"kind": "Pod", "metadata": {"name": "q"}}}"#;
    let preview = Preview::of(&Act::Return(answer));
    preview.file(
        "pod.yaml",
        "{kind: Pod, metadata: {name: p}, spec: {containers: []}}",
    );
    let expected = "pod.yaml: kubevirt/p: mutated\n  metadata\n    ~ name  p -> q\n  spec\n    - containers  []\n";
    assert_eq!(preview.prints(&["pod.yaml"]), expected);
}

#[test]
fn a_container_that_is_new_has_a_section_of_its_own() {
    let answer = r#"{"accepted": true, "mutated_object": {"kind": "Pod", "metadata": {"name": "p"}, "spec":
        {"initContainers": [{"name": "hook", "command": ["/a", "b"], "volumeMounts": [{"name": "mesa", "mountPath": "/m"}]}]}}}"#;
    let preview = Preview::of(&Act::Return(answer));
    preview.file("pod.yaml", "{kind: Pod, metadata: {name: p}, spec: {}}");
    let expected = r#"pod.yaml: kubevirt/p: mutated
  container hook (init)
    + command   ["/a","b"]
    + name      hook
    + mount /m  from mesa, writable
"#;
    assert_eq!(preview.prints(&["pod.yaml"]), expected);
}

#[rstest]
#[case::accepted(
    ACCEPT,
    "pod.yaml: vms/virt-launcher-vm-*: accepted, unchanged\n  why everything is there already\n"
)]
#[case::rejected(
    REJECT,
    "pod.yaml: vms/virt-launcher-vm-*: rejected (409): volume mesa-dri is there\n"
)]
fn the_report_gives_the_verdict(#[case] policy: Act<'_>, #[case] report: &str) {
    let preview = Preview::of(&policy);
    preview.file("pod.yaml", POD);
    assert_eq!(preview.prints(&["pod.yaml"]), report);
}

#[test]
fn colours_are_for_terminals_or_on_demand() {
    let preview = Preview::of(&ACCEPT);
    preview.file("pod.yaml", POD);
    let escape = predicate::str::contains("\u{1b}[");
    preview
        .command(&["pod.yaml"])
        .assert()
        .stdout(escape.clone().not());
    preview
        .command(&["--color", "always", "pod.yaml"])
        .assert()
        .stdout(escape.clone());
    preview
        .command(&["--color", "never", "pod.yaml"])
        .assert()
        .stdout(escape.not());
}

#[test]
fn patches_are_one_json_document_per_pod_and_line() {
    let preview = Preview::of(&Act::Return(MUTATION));
    preview.file("pods.yaml", format!("{POD}---\n{POD}"));
    let output = preview.prints(&["--output", "patch", "pods.yaml"]);
    let patches: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(patches.len(), 2);
    assert!(
        patches[0]
            .as_array()
            .unwrap()
            .iter()
            .all(|operation| operation["op"] == json!("add"))
    );

    let preview = Preview::of(&ACCEPT);
    preview.file("pod.yaml", POD);
    assert_eq!(preview.prints(&["--output", "patch", "pod.yaml"]), "[]\n");
}

#[test]
fn yaml_is_the_pod_as_the_policy_leaves_it() {
    let preview = Preview::of(&Act::Return(MUTATION));
    preview.file("pods.yaml", format!("{POD}---\n{POD}"));
    let output = preview.prints(&["--output", "yaml", "pods.yaml"]);
    let mutation: Value = serde_json::from_str(MUTATION).unwrap();
    let source = manifests::Source {
        name: "standard output".to_owned(),
        text: output.clone(),
    };
    let documents = source.objects().unwrap();
    assert_eq!(
        documents,
        [
            mutation["mutated_object"].clone(),
            mutation["mutated_object"].clone()
        ]
    );
    assert_eq!(output.matches("---\napiVersion: v1\n").count(), 2);
}

#[test]
fn yaml_gives_back_what_the_policy_did_not_touch() {
    let preview = Preview::of(&ACCEPT);
    preview.file(
        "pod.json",
        r#"{"kind": "Pod", "odd": [1e3, 12345678901234567890, "NO", "0644", null, {}, "é\n"]}"#,
    );
    let expected = "---\nkind: Pod\nodd:\n- 1000.0\n- 12345678901234567890\n- \"NO\"\n- \"0644\"\n- null\n- {}\n- \"é\\n\"\n";
    assert_eq!(preview.prints(&["--output", "yaml", "pod.json"]), expected);
}

#[rstest]
#[case("patch")]
#[case("yaml")]
fn a_rejected_pod_has_neither_patch_nor_yaml(#[case] output: &str) {
    let preview = Preview::of(&REJECT);
    preview.file("pod.yaml", POD);
    preview
        .command(&["--output", output, "pod.yaml"])
        .assert()
        .success()
        .stdout("")
        .stderr("note: pod.yaml: rejected (409): volume mesa-dri is there\n");
}

#[test]
fn a_pod_comes_from_standard_input_too() {
    Preview::of(&ACCEPT)
        .command(&["-"])
        .write_stdin(POD)
        .assert()
        .success()
        .stdout("standard input: vms/virt-launcher-vm-*: accepted, unchanged\n  why everything is there already\n");
}

#[test]
fn several_pods_are_shown_in_order() {
    let preview = Preview::of(&ACCEPT);
    preview
        .file("a.yaml", POD)
        .file("b.yaml", format!("{POD}---\n{POD}"));
    let report = preview.prints(&["b.yaml", "a.yaml"]);
    let places: Vec<&str> = report
        .lines()
        .filter(|line| !line.starts_with(' '))
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert_eq!(places, ["b.yaml (no. 1)", "b.yaml (no. 2)", "a.yaml"]);
}

#[rstest]
#[case::trap(
    Act::Run("unreachable"),
    "policy.wasm fails on pod.yaml; caused by: internal server error"
)]
#[case::error(Act::Fail("boom"), "Guest call failure: boom; fix: build it again")]
#[case::nonsense(Act::Return("{}"), "missing field `accepted`")]
#[case::endless(
    Act::Run("(loop (br 0))"),
    "exceeded the allowed execution time; fix: build it again"
)]
fn a_failing_policy_is_told_with_its_file_and_the_pods(
    #[case] policy: Act<'_>,
    #[case] message: &str,
) {
    let preview = Preview::of(&policy);
    preview.file("pod.yaml", POD);
    let complaint = preview.complains(&["pod.yaml"]);
    assert!(complaint.contains(message), "{complaint}");
    assert!(
        complaint.contains("policy.wasm") && complaint.contains("pod.yaml"),
        "{complaint}"
    );
}

#[test]
fn a_policy_cannot_take_all_memory() {
    // Takes 64 MiB at a time for as long as there is more, then runs for ever if it got more than 512 MiB.
    let grow = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1024)) (i32.const -1))))
                (if (i32.gt_u (memory.size) (i32.const 8192)) (then (loop (br 0))))
                unreachable";
    let preview = Preview::of(&Act::Run(grow));
    preview.file("pod.yaml", POD);
    let complaint = preview.complains(&["pod.yaml"]);
    assert!(!complaint.contains("execution time"), "{complaint}");
}

#[rstest]
#[case::text(b"hello".to_vec(), "cannot load policy.wasm; caused by: not a Wasm module; fix: build it with")]
#[case::broken(b"\0asm\x01\0\0\0\xff".to_vec(), "cannot load policy.wasm; caused by: mesa-preview's interpreter cannot load it")]
#[case::foreign_import(
    wat::parse_str("(module (import \"env\" \"f\" (func)))").unwrap(),
    "cannot load policy.wasm; caused by: not a waPC policy: unknown import: `env::f` has not been defined; a policy may import only"
)]
#[case::no_entry_point(wat::parse_str("(module)").unwrap(), "cannot start policy.wasm; caused by: not a waPC policy that starts: ")]
fn what_is_no_policy_is_told(#[case] module: Vec<u8>, #[case] message: &str) {
    let preview = Preview::of_module(&module);
    preview.file("pod.yaml", POD);
    let complaint = preview.complains(&["pod.yaml"]);
    assert!(
        complaint.starts_with(&format!("error: {message}")),
        "{complaint}"
    );
}

#[rstest]
#[case::pod(&["missing.yaml"], "cannot read missing.yaml; caused by: No such file")]
#[case::policy(&["--policy", "missing.wasm", "pod.yaml"], "cannot load missing.wasm; caused by: No such file")]
#[case::settings(&["--settings", "missing.yaml", "pod.yaml"], "cannot read missing.yaml; caused by: No such file")]
#[case::policy_yaml(&["--policy-yaml", "missing.yaml", "pod.yaml"], "cannot read missing.yaml; caused by: No such file")]
#[case::settings_json(&["--settings-json", "{", "pod.yaml"], "--settings-json is neither JSON nor YAML; caused by: ")]
#[case::not_a_pod(&["service.yaml"], "service.yaml: not a Pod but a Service; fix: give a Pod")]
fn bad_input_is_told_with_its_file(#[case] arguments: &[&str], #[case] message: &str) {
    let preview = Preview::of(&ACCEPT);
    preview
        .file("pod.yaml", POD)
        .file("service.yaml", "kind: Service");
    let complaint = preview.complains(arguments);
    assert!(
        complaint.starts_with(&format!("error: {message}")),
        "{complaint}"
    );
}

#[rstest]
#[case(&[])]
#[case(&["--output", "xml", "pod.yaml"])]
#[case(&["--settings", "a", "--settings-json", "{}", "pod.yaml"])]
#[case(&["--settings", "a", "--policy-yaml", "b", "pod.yaml"])]
fn wrong_usage_exits_with_2(#[case] arguments: &[&str]) {
    Preview::of(&ACCEPT)
        .command(arguments)
        .assert()
        .code(2)
        .stdout("");
}

#[test]
fn the_log_of_the_policy_goes_to_standard_error_and_other_host_calls_are_refused() {
    // __host_call(binding, namespace, operation, payload), each as offset and length; 1 is success.
    let call = |namespace: &str| {
        format!(
            "(call $host (i32.const 512) (i32.const 10) {namespace} (i32.const 529) (i32.const 3) (i32.const 532) (i32.const 2))"
        )
    };
    let log = call("(i32.const 522) (i32.const 7)");
    let preview = Preview::of(&Act::Run(&format!(
        "(if (i32.eqz {log}) (then unreachable))"
    )));
    preview.file("pod.yaml", POD);
    preview
        .command(&["pod.yaml"])
        .assert()
        .stderr(predicate::str::starts_with("policy log: {}\n"));

    let other = call("(i32.const 522) (i32.const 5)");
    let preview = Preview::of(&Act::Run(&format!("(if {other} (then unreachable))")));
    preview.file("pod.yaml", POD);
    let complaint = preview.complains(&["pod.yaml"]);
    assert!(
        complaint.contains("No error message OR response set"),
        "{complaint}"
    );
}

#[test]
fn the_help_has_examples() {
    let help = Preview::of(&ACCEPT).prints(&["--help"]);
    assert!(
        help.contains("mesa-preview --policy-yaml policy.yaml"),
        "{help}"
    );
}
