//! YAML and JSON, as `kubectl` reads them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::Serialize;
use serde_json::{Map, Number, Value};
use serde_saphyr::options::{DuplicateKeyPolicy, Options};

use crate::text::is_printable;

/// Why a value cannot be written. A `serde_json::Value` always can.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Something that YAML does not have.
    #[error("cannot be written as YAML")]
    Yaml(#[from] serde_saphyr::ser::Error),
    /// Something that JSON does not have.
    #[error("cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// Why a text is neither JSON nor YAML: the problem and its line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SyntaxError(String);

/// The most that aliases may add to a text: bytes and values.
const EXPANDED: usize = 1 << 28;
const ALIASED: usize = 100_000;

/// Below this, every whole number is one of both i64 and f64.
const WHOLE: f64 = 1e15;

/// The documents of a text, empty ones left out.
///
/// What starts with a brace is read as JSON, where several values may follow each other, and as YAML only if it is not
/// JSON. So the numbers of JSON become what the policy server makes of them.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>, SyntaxError> {
    let text = text.trim_start_matches('\u{feff}');
    let mut documents = if text.trim_start().starts_with('{') {
        let json: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text)
            .into_iter()
            .collect();
        match json {
            Ok(documents) => documents,
            Err(error) => yaml_documents(text).map_err(|_| SyntaxError(error.to_string()))?,
        }
    } else {
        yaml_documents(text)?
    };
    documents.retain(|document| !document.is_null());
    Ok(documents)
}

/// `kubectl` reads YAML 1.1 as go-yaml 2 does: `yes` and `on` are booleans, `0644` is octal, of several equal keys
/// the last one counts.
fn yaml_documents(text: &str) -> Result<Vec<Value>, SyntaxError> {
    let documents: Vec<Document> =
        serde_saphyr::from_multiple_with_options(text, options(text.len()))
            .map_err(|error| SyntaxError(error.to_string()))?;
    Ok(documents.into_iter().map(|Document(value)| value).collect())
}

/// A text is read whatever its size. What aliases make of it has a bound, and so has its depth, which is the library's
/// default of 64.
fn options(length: usize) -> Options {
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        bom_inside_document_as_content: true,
        with_snippet: false,
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: (EXPANDED / length.max(1)).min(ALIASED),
        },
        budget: serde_saphyr::budget! {
            enforce_alias_anchor_ratio: false,
            max_aliases: usize::MAX,
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_documents: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
        },
    }
}

/// A value of JSON. In YAML its keys may also be numbers and booleans.
struct Document(Value);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor).map(Self)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value of JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        // Go writes 1.0 and 1e3 as whole numbers.
        if value.fract() == 0.0 && value.abs() < WHOLE {
            return Ok((value as i64).into());
        }
        Number::from_f64(value)
            .map(Value::from)
            .ok_or_else(|| E::custom(format!("{value} is not a number of JSON")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Document(value)) = sequence.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut mapping: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(Document(key)) = mapping.next_key()? {
            let key = match key {
                Value::String(key) => key,
                Value::Bool(_) | Value::Number(_) => key.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    return Err(A::Error::custom(format!("{key} is not a key for JSON")));
                }
            };
            let Document(value) = mapping.next_value()?;
            object.insert(key, value);
        }
        Ok(object.into())
    }
}

/// A value as one YAML document, with a line break at its end. Readers of YAML 1.1 and 1.2 read it alike.
///
/// # Errors
/// Where the value has keys or numbers that JSON does not have.
pub fn to_yaml(value: &impl Serialize) -> Result<String, WriteError> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    Ok(serde_saphyr::to_string_with_options(value, options)?)
}

/// A value as JSON for people, with a line break at its end. It is YAML too: what only YAML takes for a line break
/// or a control character is escaped, as is what steers a terminal.
///
/// # Errors
/// Where the value has keys or numbers that JSON does not have.
pub fn to_json(value: &impl Serialize) -> Result<String, WriteError> {
    let json = serde_json::to_string_pretty(value)?;
    let mut printable = String::with_capacity(json.len() + 1);
    for letter in json.chars() {
        // Outside of strings there are only ASCII and line breaks; YAML knows no surrogates.
        match u16::try_from(u32::from(letter)) {
            Ok(unit) if letter != '\n' && !is_printable(letter) => {
                printable.push_str(&format!("\\u{unit:04x}"));
            }
            _ => printable.push(letter),
        }
    }
    printable.push('\n');
    Ok(printable)
}
