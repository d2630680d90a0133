//! Documents, lists and settings.

use std::io::Write as _;

use crate::common::{complaint, source};
use manifests::Source;
use manifests::console::Failure as _;
use rstest::rstest;
use serde_json::{Value, json};

#[rstest]
#[case::empty("", &[])]
#[case::comment("# only a comment\n", &[])]
#[case::markers("---\n---\n...\n---\n", &[])]
#[case::null("null", &[])]
#[case::between("# c\n---\na: 1\n---\n# d\n---\nb: 2\n...\n", &["{\"a\": 1}", "{\"b\": 2}"])]
#[case::byte_order_mark("\u{feff}a: 1\n", &["{\"a\": 1}"])]
#[case::byte_order_mark_and_json("\u{feff}{\"a\": 1}", &["{\"a\": 1}"])]
#[case::carriage_returns("a: 1\r\nb:\r\n- 2\r\n---\r\nc: x\r\n", &["{\"a\": 1, \"b\": [2]}", "{\"c\": \"x\"}"])]
#[case::carriage_returns_and_json("{\r\n\"a\": 1\r\n}\r\n", &["{\"a\": 1}"])]
#[case::directive("%YAML 1.1\n---\na: no\n", &["{\"a\": false}"])]
#[case::several_of_json("{\"a\": 1}\n{\"b\": 2}\n", &["{\"a\": 1}", "{\"b\": 2}"])]
#[case::several_of_json_as_yaml("{\"a\": 1}\n---\n{\"b\": 2}\n", &["{\"a\": 1}", "{\"b\": 2}"])]
#[case::yaml_in_braces("{a: yes}", &["{\"a\": true}"])]
#[case::last_key_of_json("{\"a\": 1, \"a\": 2}", &["{\"a\": 2}"])]
#[case::list("kind: List\nitems: [{kind: A}, {kind: B}]", &["{\"kind\": \"A\"}", "{\"kind\": \"B\"}"])]
#[case::typed_list(
    "{apiVersion: v1, kind: PodList, items: [{metadata: {}}, {kind: Pod, apiVersion: v1}]}",
    &["{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {}}", "{\"apiVersion\": \"v1\", \"kind\": \"Pod\"}"]
)]
#[case::empty_list("{kind: List, items: []}", &[])]
#[case::no_list("{kind: Box, items: [1]}", &["{\"kind\": \"Box\", \"items\": [1]}"])]
fn a_text_holds_documents(#[case] text: &str, #[case] expected: &[&str]) {
    let expected: Vec<Value> = expected
        .iter()
        .map(|json| serde_json::from_str(json).unwrap())
        .collect();
    assert_eq!(source(text).objects().unwrap(), expected);
}

#[test]
fn json_numbers_are_read_as_the_policy_server_reads_them() {
    let text = r#"{"a": 1e3, "b": 123456789012345678901, "c": 18446744073709551615, "d": 1.0}"#;
    let expected: Value = serde_json::from_str(text).unwrap();
    assert_eq!(source(text).objects().unwrap(), [expected]);
}

#[rstest]
#[case::json("{\n\"a\": ]", "line 2")]
#[case::yaml("a: 1\nb: [\n", "line 2")]
#[case::second_document("a: 1\n---\n}\n", "line 3")]
#[case::deep(&"[".repeat(100_000), "line 1")]
fn a_syntax_error_names_its_line(#[case] text: &str, #[case] place: &str) {
    let error = source(text).objects().unwrap_err();
    assert_eq!(error.to_string(), "f is neither JSON nor YAML");
    let complaint = complaint(&error);
    assert!(complaint.contains(place), "{complaint}");
    assert!(!complaint.contains('\n'), "{complaint}");
    assert_eq!(error.fix().as_deref(), Some("correct it there"));
}

/// Ten times ten times ten …
fn laughs(depth: usize, line: impl Fn(usize) -> String) -> String {
    (1..depth).fold("a0: &a0 lol\n".to_owned(), |text, level| {
        text + &line(level)
    })
}

#[rstest]
#[case::lists(laughs(12, |n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "))))]
#[case::maps(laughs(30, |n| format!("a{n}: &a{n} {{x: *a{0}, y: *a{0}}}\n", n - 1)))]
#[case::merges("b0: &b0 {k: 1}\n".to_owned() + &laughs(30, |n| format!("b{n}: &b{n} {{<<: [*b{0}, *b{0}], k{n}: 1}}\n", n - 1)))]
#[case::long_text(format!("a: &a {}\nb: [{}]\n", "x".repeat(1_000_000), vec!["*a"; 99].join(", ")).repeat(9))]
#[case::itself("a: &a [*a]\n".to_owned())]
#[case::deep_blocks((0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect())]
fn what_would_not_end_is_an_error(#[case] text: String) {
    source(&text).objects().unwrap_err();
}

#[test]
fn one_anchor_may_have_many_aliases() {
    let text = format!("a: &a {{b: 1}}\nlist: [{}]\n", vec!["*a"; 2000].join(", "));
    let objects = source(&text).objects().unwrap();
    assert_eq!(objects[0]["list"].as_array().unwrap().len(), 2000);
}

#[test]
fn a_large_file_without_aliases_is_read_whole() {
    let pod = "- {a: {b: [1, 2, 3, 4, 5, 6, 7, 8, 9]}}\n";
    let objects = source(&("kind: List\nitems:\n".to_owned() + &pod.repeat(20_000)))
        .objects()
        .unwrap();
    assert_eq!(objects.len(), 20_000);
}

#[rstest]
#[case::empty("", json!({}))]
#[case::comment("# the defaults\n", json!({}))]
#[case::null("null", json!({}))]
#[case::object("containers: ['*']", json!({"containers": ["*"]}))]
#[case::json("{\"annotate\": false}", json!({"annotate": false}))]
#[case::words("annotate: no", json!({"annotate": false}))]
#[case::merge("x: &x {onConflict: reject}\n<<: *x", json!({"onConflict": "reject", "x": {"onConflict": "reject"}}))]
#[case::byte_order_mark("\u{feff}annotate: true", json!({"annotate": true}))]
#[case::policy(POLICY, json!({"onConflict": "reject"}))]
#[case::policy_without(&POLICY.replace(", settings: {onConflict: reject}", ""), json!({}))]
#[case::policy_with_null(&POLICY.replace("{onConflict: reject}", "null"), json!({}))]
#[case::policy_among_others(&format!("kind: Namespace\n---{POLICY}"), json!({"onConflict": "reject"}))]
#[case::list_of_policies(
    "{apiVersion: policies.kubewarden.io/v1, kind: ClusterAdmissionPolicyList,
      items: [{metadata: {name: a}, spec: {settings: {annotate: off}}}]}",
    json!({"annotate": false})
)]
fn settings_are_an_object_or_those_of_a_policy(#[case] text: &str, #[case] settings: Value) {
    assert_eq!(Value::from(source(text).settings().unwrap()), settings);
}

const POLICY: &str = "
apiVersion: policies.kubewarden.io/v1
kind: ClusterAdmissionPolicy
metadata: {name: mesa}
spec: {module: m, mutating: true, settings: {onConflict: reject}}
";

#[rstest]
#[case::list("[1]", "f: settings must be one object, not a list")]
#[case::text("7", "f: settings must be one object, not the value 7")]
#[case::two("a: 1\n---\nb: 2", "f: settings must be one object, not 2 documents")]
#[case::other_object(
    "apiVersion: v1\nkind: Namespace",
    "f: settings must be one object, not a Namespace"
)]
#[case::foreign_group(
    &POLICY.replace("policies.kubewarden.io", "example.com"),
    "f: settings must be one object, not a ClusterAdmissionPolicy"
)]
#[case::two_policies(
    &format!("{POLICY}---{POLICY}"),
    "f holds 2 policies, not one ClusterAdmissionPolicy or AdmissionPolicy"
)]
#[case::settings_of_a_policy(
    &POLICY.replace("{onConflict: reject}", "[1]"),
    "f: not a valid policy: spec.settings: invalid type: sequence, expected a map"
)]
#[case::syntax(
    "a: [",
    "f is neither JSON nor YAML: unclosed bracket '[' at line 1, column 4"
)]
fn other_settings_are_an_error_with_a_fix(#[case] text: &str, #[case] message: &str) {
    let error = source(text).settings().unwrap_err();
    assert_eq!(complaint(&error), message);
    assert!(error.fix().is_some());
}

#[test]
fn a_file_is_read_and_one_that_cannot_be_is_an_error() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"a: 1").unwrap();
    let source = Source::read(file.path()).unwrap();
    assert_eq!(source.text, "a: 1");
    assert_eq!(source.name, file.path().display().to_string());

    file.write_all(b"\xff").unwrap();
    for (path, cause) in [
        (file.path().to_owned(), "valid UTF-8"),
        (file.path().join("x"), "Not a directory"),
    ] {
        let error = Source::read(&path).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot read {}", path.display()));
        assert!(complaint(&error).contains(cause), "{error:?}");
        assert!(error.fix().is_some());
    }
}
