//! YAML that every reader reads alike.

use crate::common::source;
use manifests::{to_json, to_yaml};
use proptest::prelude::*;
use rstest::rstest;
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

/// Read by libyaml, which is what `kubectl`'s parser was made from.
fn read_by_libyaml(yaml: &str) -> Value {
    let mut documents = serde_norway::Deserializer::from_str(yaml);
    let value = Value::deserialize(documents.next().unwrap()).unwrap();
    assert!(documents.next().is_none(), "{yaml}");
    value
}

#[test]
fn nested_values_are_laid_out_in_blocks() {
    let value = json!({
        "empty": {"list": [], "map": {}, "null": null},
        "list": [1, [2, [3]], {"a": {"b": ["c"]}, "d": "e"}],
    });
    let expected = "\
empty:
  list: []
  map: {}
  \"null\": null
list:
- 1
- - 2
  - - 3
- a:
    b:
    - c
  d: e
";
    assert_eq!(to_yaml(&value).unwrap(), expected);
}

#[rstest]
#[case("virt-launcher")]
#[case("/usr/lib64/libGL.so.1")]
#[case("registry.example/kubevirt/virt-launcher:v1.9.0")]
#[case("IfNotPresent")]
#[case("é𝄞")]
fn ordinary_texts_stand_plain(#[case] text: &str) {
    assert_eq!(to_yaml(&json!(text)).unwrap(), format!("{text}\n"));
}

/// Written in double quotes as they are.
const QUOTED: &[&str] = &[
    "",
    "~",
    "null",
    "Null",
    "nULL",
    "y",
    "N",
    "no",
    "NO",
    "yes",
    "on",
    "Off",
    "true",
    "FALSE",
    "1_000",
    "1_",
    "1__0",
    "_1",
    "0x1F",
    "0X1F",
    "0x_1",
    "0644",
    "0o17",
    "0O17",
    "0b11",
    "0b+1",
    "08",
    "1e3",
    "1E+3",
    "1_e3",
    ".5",
    "5.",
    "+1",
    "-0",
    "1_0.5",
    "12:30:00",
    "190:20:30",
    "1:30",
    "2024-01-01",
    "2024-01-01T00:00:00Z",
    ".inf",
    "-.Inf",
    ".NaN",
    "nan",
    "1.2.3",
    "=",
    "<<",
    "!a",
    "!!str a",
    "&a",
    "*a",
    "%a",
    "@a",
    "`a",
    "#a",
    "a #b",
    "a # b",
    "- a",
    "? a",
    "?",
    ": a",
    ":",
    "a: b",
    "a:",
    "{a: 1}",
    "[a]",
    "---",
    "--- a",
    "...",
    "'a'",
    " a",
    "a ",
    "|",
    "> a",
];

/// Written with escapes.
const ESCAPED: &[(&str, &str)] = &[
    ("\"a\"", r#""\"a\"""#),
    ("a\tb", r#""a\tb""#),
    ("a\n", r#""a\n""#),
    ("two\nlines\n", r#""two\nlines\n""#),
    ("cr\rlf\r\n", r#""cr\rlf\r\n""#),
    ("nul\0", r#""nul\0""#),
    ("del\u{7f}", r#""del\x7F""#),
    ("next\u{85}line", r#""next\Nline""#),
    ("\u{2028}", r#""\L""#),
    ("\u{2029}", r#""\P""#),
    ("\u{feff}a", r#""\uFEFFa""#),
    ("a\u{feff}", r#""a\uFEFF""#),
    ("\u{fffe}", r#""\uFFFE""#),
];

/// Written as they are; these look like something that they are not.
const PLAIN: &[&str] = &[
    "a:b", "a, b", "it's", "a\\b", "é", "𝄞", "\u{202e}", "\u{e000}", "0o8", "++1", "Infinity",
];

fn texts() -> impl Iterator<Item = &'static str> {
    let escaped = ESCAPED.iter().map(|(text, _)| text);
    QUOTED.iter().chain(escaped).chain(PLAIN).copied()
}

/// `kubectl annotate --local -f FILE -o json a=b` of version 1.37.1 printed these texts, as values and as keys, of an
/// object that was written so.
#[test]
fn what_could_be_read_as_something_else_is_quoted() {
    let written = |text: &str| to_yaml(&json!({ "v": text })).unwrap();
    for text in QUOTED {
        assert_eq!(written(text), format!("v: \"{text}\"\n"));
    }
    for (text, quoted) in ESCAPED {
        assert_eq!(written(text), format!("v: {quoted}\n"));
    }
    for text in PLAIN {
        assert_eq!(written(text), format!("v: {text}\n"));
    }
}

fn assert_read_back(value: &Value) {
    let (yaml, json) = (to_yaml(value).unwrap(), to_json(value).unwrap());
    let expected: Vec<Value> = Some(value.clone())
        .into_iter()
        .filter(|value| !value.is_null())
        .collect();
    for text in [&yaml, &json] {
        assert_eq!(source(text).objects().unwrap(), expected, "{text}");
        assert_eq!(read_by_libyaml(text), *value, "{text}");
    }
    // As one document among others.
    let two = source(&format!("---\n{yaml}---\n{yaml}"))
        .objects()
        .unwrap();
    assert_eq!(two, [&*expected, &*expected].concat(), "{yaml}");
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), *value);
}

#[test]
fn every_text_is_read_back_as_a_value_an_item_and_a_key() {
    for text in texts() {
        assert_read_back(
            &json!({"v": text, "list": [text, [text], {text: text}], text: {text: [text]}}),
        );
        assert_read_back(&json!(text));
    }
}

#[rstest]
#[case("1e3", "1000.0")]
#[case("0.10", "0.1")]
#[case("18446744073709551615", "18446744073709551615")]
#[case("-9223372036854775808", "-9223372036854775808")]
#[case("123456789012345678901", "1.2345678901234567e+20")]
#[case("1e-7", "1.0e-7")]
fn numbers_are_what_the_policy_server_makes_of_them(#[case] json: &str, #[case] yaml: &str) {
    let value: Value = serde_json::from_str(json).unwrap();
    assert_eq!(to_yaml(&value).unwrap(), format!("{yaml}\n"));
    assert_eq!(read_by_libyaml(yaml), value);
}

/// Texts of any characters, and many of those that mean something in YAML.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[-+0-9._:xobeEnNyYaf~ ]{0,8}",
        "[-\\[\\]{}#&*!|>'\"%@`?:,= \t\n\ra\u{85}\u{a0}\u{2028}\u{2029}\u{feff}\u{202e}]{0,12}",
        proptest::sample::select(texts().collect::<Vec<_>>()).prop_map(str::to_owned),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Not whole ones, which come back without their point, nor such as serde_json itself reads only nearly right.
        any::<i32>().prop_map(|number| json!(f64::from(number) + 0.25)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(text(), inner, 0..5)
                .prop_map(|map| Value::from(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn any_text_is_read_back(text in text()) {
        assert_read_back(&json!({"v": text, "list": [text], &text: text}));
    }

    #[test]
    fn any_value_is_read_back(value in value()) {
        assert_read_back(&value);
    }
}
