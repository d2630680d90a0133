//! The log: what a line holds, whatever the VMI.

use mesa_node::log::Vm;
use rstest::rstest;

#[test]
fn a_vm_is_known_by_its_metadata() {
    let vm = Vm::of(br#"{"kind": "VirtualMachineInstance", "metadata": {"namespace": "a", "name": "b", "uid": "c", "labels": {}}}"#);
    assert_eq!((&*vm.namespace, &*vm.name, &*vm.uid), ("a", "b", "c"));
}

#[rstest]
#[case::nothing("")]
#[case::another_type("[]")]
#[case::no_metadata("{}")]
#[case::wrong_metadata(r#"{"metadata": 7}"#)]
#[case::wrong_name(r#"{"metadata": {"name": 7}}"#)]
#[case::cut_off(r#"{"metadata": {"name": "a"#)]
#[case::deep(&"[".repeat(1_000_000))]
#[case::deep_in_spec(&format!(r#"{{"spec": {}"#, r#"{"a":"#.repeat(1_000_000)))]
fn a_vmi_that_cannot_be_read_has_no_name(#[case] vmi: &str) {
    assert_eq!(Vm::of(vmi.as_bytes()), Vm::default());
}

#[test]
fn names_are_short_and_steer_no_terminal() {
    let vmi = serde_json::json!({"metadata": {"name": "\u{1b}[2Ja\n\u{202e}", "namespace": "n".repeat(1000)}});
    let vm = Vm::of(vmi.to_string().as_bytes());
    assert_eq!(vm.name, "\u{fffd}[2Ja\u{fffd}\u{fffd}");
    assert_eq!(vm.namespace.len(), 253);
}
