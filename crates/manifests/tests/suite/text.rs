//! Names that would steer a terminal or end a comment.

use crate::common::source;
use manifests::{POLICY_MODULE, Policy, printable, to_json};
use rstest::rstest;
use serde_json::{Map, Value, json};

const SMUGGLED: &str = "\napiVersion: v1\nkind: Secret\n---\n";

/// The characters that must not be printed.
fn unsafe_letters() -> impl Iterator<Item = char> {
    let ranges = [
        '\0'..='\x1f',
        '\x7f'..='\u{9f}',
        '\u{ad}'..='\u{ad}',
        '\u{61c}'..='\u{61c}',
        '\u{180e}'..='\u{180e}',
        '\u{200b}'..='\u{200f}',
        '\u{2028}'..='\u{202e}',
        '\u{2060}'..='\u{2064}',
        '\u{2066}'..='\u{206f}',
        '\u{feff}'..='\u{feff}',
        '\u{fff9}'..='\u{fffb}',
        '\u{fffe}'..='\u{ffff}',
        '\u{e0001}'..='\u{e0001}',
        '\u{e0020}'..='\u{e007f}',
    ];
    ranges.into_iter().flatten()
}

#[test]
fn what_steers_a_terminal_or_breaks_a_line_is_replaced() {
    for letter in unsafe_letters() {
        assert_eq!(
            printable(&format!("a{letter}b")),
            "a\u{fffd}b",
            "{letter:?}"
        );
    }
}

#[rstest]
#[case("libGL.so.1")]
#[case("/usr/lib64/a b/~!@#$%^&*()")]
#[case("é ü 漢字 कि שלום עֶרְבִּית 𝄞 😀")]
fn what_is_seen_stays(#[case] text: &str) {
    assert_eq!(printable(text), text);
}

/// As go-yaml and libyaml break lines, which is more often than YAML 1.2 does.
fn read_by_libyaml(text: &str) -> Vec<Value> {
    use serde::Deserialize as _;
    serde_norway::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

#[test]
fn no_name_in_a_comment_smuggles_an_object_into_a_policy() {
    let policy = Policy::new(POLICY_MODULE, Map::new());
    let expected = [serde_json::to_value(&policy).unwrap()];
    for letter in unsafe_letters() {
        let name = format!("lib{}", SMUGGLED.replace('\n', &letter.to_string()));
        let yaml = policy
            .to_yaml(&[format!("Note: {name} is not there")])
            .unwrap();
        assert_eq!(source(&yaml).objects().unwrap(), expected, "{letter:?}");
        assert_eq!(read_by_libyaml(&yaml), expected, "{letter:?}");
        assert_eq!(
            yaml.lines().next(),
            Some(&*printable(&format!("# Note: {name} is not there")))
        );
    }
}

#[test]
fn no_name_in_the_settings_smuggles_an_object_into_a_policy() {
    for letter in unsafe_letters() {
        let name = SMUGGLED.replace('\n', &letter.to_string());
        let settings = json!({"hostPaths": [{"path": format!("/{name}"), &name: &name}]});
        let policy = Policy::new(POLICY_MODULE, settings.as_object().unwrap().clone());
        let expected = [serde_json::to_value(&policy).unwrap()];
        let yaml = policy.to_yaml(&[]).unwrap();
        assert_eq!(source(&yaml).objects().unwrap(), expected, "{letter:?}");
        assert_eq!(read_by_libyaml(&yaml), expected, "{letter:?}");

        // The settings alone are printed as JSON, to be pasted into YAML.
        let json = to_json(&settings).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&json).unwrap(),
            settings,
            "{letter:?}"
        );
        assert_eq!(read_by_libyaml(&json), [settings], "{letter:?}");
    }
}

#[test]
fn json_is_plain_but_for_what_must_be_escaped() {
    let value = json!({"a": ["é", "\u{2028}\u{202e}\u{85}\u{7f}\u{feff}"], "b": {}});
    let expected = r#"{
  "a": [
    "é",
    "\u2028\u202e\u0085\u007f\ufeff"
  ],
  "b": {}
}
"#;
    assert_eq!(to_json(&value).unwrap(), expected);
}
