//! The documents of a JSON or YAML file, read as `kubectl` would.

use serde::Deserialize as _;
use serde_json::Value;

/// The documents of `text`, empty ones left out.
///
/// JSON is read as JSON, so that its numbers become what the policy server makes of them.
///
/// # Errors
///
/// With the place and the problem, when `text` is neither JSON nor YAML.
pub fn parse(text: &str) -> Result<Vec<Value>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let documents = match serde_json::from_str(text) {
        Ok(document) => vec![document],
        Err(error) => parse_yaml(text).map_err(|yaml| {
            let json = text.trim_start().starts_with('{');
            if json { error.to_string() } else { yaml }
        })?,
    };
    Ok(documents
        .into_iter()
        .filter(|document| !document.is_null())
        .collect())
}

fn parse_yaml(text: &str) -> Result<Vec<Value>, String> {
    serde_norway::Deserializer::from_str(text)
        .map(|document| {
            let mut yaml = serde_norway::Value::deserialize(document).map_err(|e| e.to_string())?;
            yaml.apply_merge().map_err(|e| e.to_string())?;
            let mut json = serde_json::to_value(yaml).map_err(|e| e.to_string())?;
            read_octal_modes(&mut json);
            Ok(json)
        })
        .collect()
}

/// Kubernetes reads YAML 1.1, where `defaultMode: 0644` is a number; to a parser of YAML 1.2 it is a text, which
/// no field of these names may hold.
fn read_octal_modes(value: &mut Value) {
    match value {
        Value::Object(map) => map.iter_mut().for_each(|(key, value)| match octal(value) {
            Some(mode) if key == "mode" || key == "defaultMode" => *value = mode.into(),
            _ => read_octal_modes(value),
        }),
        Value::Array(items) => items.iter_mut().for_each(read_octal_modes),
        _ => {}
    }
}

fn octal(value: &Value) -> Option<u32> {
    let digits = value.as_str()?.strip_prefix('0')?;
    u32::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_numbers_are_read_as_the_policy_server_reads_them() {
        let text = r#"{"a": 1e3, "b": 123456789012345678901, "c": 18446744073709551615}"#;
        assert_eq!(
            parse(text).unwrap(),
            [serde_json::from_str::<Value>(text).unwrap()]
        );
    }

    #[test]
    fn empty_documents_are_left_out() {
        assert_eq!(
            parse("# only a comment\n---\na: 1\n---\n---\nb: 2\n").unwrap(),
            [json!({"a": 1}), json!({"b": 2})]
        );
        assert_eq!(parse("").unwrap(), [Value::Null; 0]);
    }

    #[test]
    fn anchors_and_merges_are_resolved() {
        let text = "base: &base {a: 1}\nmore: {<<: *base, b: 2}\n";
        assert_eq!(
            parse(text).unwrap(),
            [json!({"base": {"a": 1}, "more": {"a": 1, "b": 2}})]
        );
    }

    #[test]
    fn file_modes_are_octal_and_other_texts_stay_texts() {
        let text =
            "volumes: [{configMap: {defaultMode: 0644, items: [{mode: 0400}]}}]\nlabel: \"0644\"\n";
        let expected = json!({
            "volumes": [{"configMap": {"defaultMode": 0o644, "items": [{"mode": 0o400}]}}],
            "label": "0644",
        });
        assert_eq!(parse(text).unwrap(), [expected]);
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        assert!(parse("{\n\"a\": ]").unwrap_err().contains("line 2"));
        assert!(parse("a: 1\nb: [\n").unwrap_err().contains("line"));
    }
}
