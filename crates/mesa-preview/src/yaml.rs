//! A pod as YAML that every YAML parser reads alike.
//!
//! `kubectl` reads YAML 1.1, where a plain `no`, `1_000` or `0o7` is not a text. So a text stands plain only when
//! it can be nothing else, and in double quotes otherwise; numbers are written as JSON writes them.

use serde_json::{Map, Value};

/// Words that YAML 1.1 takes for a boolean or null, in any case.
const RESERVED: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// `value` as one YAML document, with a line break at its end.
#[must_use]
pub fn document(value: &Value) -> String {
    let mut yaml = String::new();
    item(&mut yaml, value, 0);
    yaml
}

/// Writes `value` behind `- `, or at the start of a line.
fn item(yaml: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => mapping(yaml, map, indent),
        Value::Array(items) if !items.is_empty() => sequence(yaml, items, indent),
        _ => line(yaml, &scalar(value)),
    }
}

fn mapping(yaml: &mut String, map: &Map<String, Value>, indent: usize) {
    for (number, (key, value)) in map.iter().enumerate() {
        pad(yaml, if number == 0 { 0 } else { indent });
        yaml.push_str(&text(key));
        yaml.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                line(yaml, "");
                pad(yaml, indent + 2);
                mapping(yaml, map, indent + 2);
            }
            Value::Array(items) if !items.is_empty() => {
                line(yaml, "");
                pad(yaml, indent);
                sequence(yaml, items, indent);
            }
            _ => {
                yaml.push(' ');
                line(yaml, &scalar(value));
            }
        }
    }
}

fn sequence(yaml: &mut String, items: &[Value], indent: usize) {
    for (number, value) in items.iter().enumerate() {
        pad(yaml, if number == 0 { 0 } else { indent });
        yaml.push_str("- ");
        item(yaml, value, indent + 2);
    }
}

fn pad(yaml: &mut String, width: usize) {
    yaml.extend(std::iter::repeat_n(' ', width));
}

fn line(yaml: &mut String, end: &str) {
    yaml.push_str(end);
    yaml.push('\n');
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(string) => text(string),
        other => other.to_string(),
    }
}

fn text(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

fn is_plain(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || " /._-:@+=,()".contains(c))
        && !text.contains(": ")
        && !text.ends_with([':', ' '])
        && !RESERVED.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// A JSON string is a double-quoted YAML text, but for the characters that only YAML takes for control characters
/// or line breaks.
fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for c in Value::from(text).to_string().chars() {
        match c {
            '\u{7f}'..='\u{a0}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'..='\u{ffff}' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

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
        assert_eq!(document(&value), expected);
        assert_eq!(serde_norway::from_str::<Value>(expected).unwrap(), value);
    }

    #[rstest]
    #[case("virt-launcher")]
    #[case("/usr/lib64/libGL.so.1")]
    #[case("registry.example/kubevirt/virt-launcher:v1.9.0")]
    #[case("IfNotPresent")]
    fn ordinary_texts_stand_plain(#[case] text: &str) {
        assert_eq!(document(&json!(text)), format!("{text}\n"));
    }

    #[rstest]
    #[case("")]
    #[case("NO")]
    #[case("y")]
    #[case("on")]
    #[case("Null")]
    #[case("~")]
    #[case("1_000")]
    #[case("0x1F")]
    #[case("0644")]
    #[case("1e3")]
    #[case(".5")]
    #[case("2024-01-01")]
    #[case("1:30")]
    #[case("<<")]
    #[case("=")]
    #[case("a: b")]
    #[case("a:")]
    #[case("a #b")]
    #[case("- a")]
    #[case("*a")]
    #[case("{\"a\": 1}")]
    #[case(" a")]
    #[case("a ")]
    #[case("two\nlines\n")]
    #[case("next\u{85}line\u{2028}")]
    #[case("tab\tnul\u{0}del\u{7f}")]
    #[case("é𝄞")]
    fn everything_else_is_quoted_and_read_back(#[case] text: &str) {
        let yaml = document(&json!({ text: text }));
        assert!(yaml.starts_with('"'), "{yaml}");
        assert_eq!(
            serde_norway::from_str::<Value>(&yaml).unwrap(),
            json!({ text: text })
        );
    }

    #[rstest]
    #[case("1e3", "1000.0")]
    #[case("0.10", "0.1")]
    #[case("18446744073709551615", "18446744073709551615")]
    #[case("123456789012345678901", "1.2345678901234567e+20")]
    fn numbers_are_what_the_policy_server_makes_of_them(#[case] json: &str, #[case] yaml: &str) {
        let value: Value = serde_json::from_str(json).unwrap();
        assert_eq!(document(&value), format!("{yaml}\n"));
        assert_eq!(serde_norway::from_str::<Value>(yaml).unwrap(), value);
    }
}
