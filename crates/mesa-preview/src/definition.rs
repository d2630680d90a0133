//! How the policy server is told to run the policy: its settings, and what a `ClusterAdmissionPolicy` says beyond
//! them.

use std::{fs, io, path::Path};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::documents;

/// The kinds that hold one policy.
const POLICY_KINDS: [&str; 2] = ["ClusterAdmissionPolicy", "AdmissionPolicy"];

/// The API group of Kubewarden's policies.
const API_GROUP: &str = "policies.kubewarden.io/";

/// What the policy server knows of a policy, besides its Wasm module.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// The policy's name, for the server's messages.
    pub name: String,
    /// Given to the policy with each request.
    pub settings: Map<String, Value>,
    /// Whether the policy decides, or only says what it would do.
    pub mode: Mode,
    /// Whether the policy may change objects; the server rejects a request that it changes all the same.
    pub mutating: bool,
    /// Put in place of the policy's own message, when it rejects.
    pub message: Option<String>,
    /// The file that the settings came from, for messages.
    pub file: Option<String>,
}

/// `spec.mode` of a policy.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The policy's answer counts.
    #[default]
    Protect,
    /// Every request is accepted and no patch is made; warnings and audit annotations get through.
    Monitor,
}

/// Why a file defines no policy, or no settings.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The file cannot be read.
    #[error("{file}: {error}; name a file that can be read")]
    Read {
        /// The file.
        file: String,
        /// What the system says.
        error: io::Error,
    },
    /// The text is neither JSON nor YAML.
    #[error("{place}: {problem}; mend it there")]
    Syntax {
        /// The file or option.
        place: String,
        /// Place and problem.
        problem: String,
    },
    /// Settings are something else than an object.
    #[error("{place}: settings must be one object, not {found}; `{{}}` stands for the defaults")]
    NotSettings {
        /// The file or option.
        place: String,
        /// What was found.
        found: String,
    },
    /// The file does not hold exactly one policy.
    #[error(
        "{file}: holds {found}, not one ClusterAdmissionPolicy or AdmissionPolicy; give a file with the one to preview"
    )]
    NotOnePolicy {
        /// The file.
        file: String,
        /// What was found.
        found: String,
    },
    /// The policy's fields have wrong types.
    #[error("{file}: not a valid policy: {error}; mend it there")]
    Policy {
        /// The file.
        file: String,
        /// The field and the problem.
        error: serde_json::Error,
    },
}

impl Default for Definition {
    fn default() -> Self {
        Self {
            name: "mesa-injector".to_owned(),
            settings: Map::new(),
            mode: Mode::Protect,
            mutating: true,
            message: None,
            file: None,
        }
    }
}

impl Definition {
    /// A policy that may mutate, with the settings in a YAML or JSON file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or holds something else than an object.
    pub fn from_settings_file(file: &Path) -> Result<Self, DefinitionError> {
        let (file, documents) = read(file)?;
        Ok(Self {
            settings: one_object(&file, documents)?,
            file: Some(file),
            ..Self::default()
        })
    }

    /// A policy that may mutate, with settings given as JSON.
    ///
    /// # Errors
    ///
    /// When `json` is something else than an object.
    pub fn from_settings_json(json: &str) -> Result<Self, DefinitionError> {
        let place = "--settings-json";
        let settings = serde_json::from_str(json).map_err(|error| DefinitionError::Syntax {
            place: place.to_owned(),
            problem: format!("not JSON: {error}"),
        })?;
        Ok(Self {
            settings: one_object(place, vec![settings])?,
            ..Self::default()
        })
    }

    /// The `ClusterAdmissionPolicy` or `AdmissionPolicy` in a file, which may hold other objects too.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or does not hold exactly one policy.
    pub fn from_policy_file(file: &Path) -> Result<Self, DefinitionError> {
        let (file, documents) = read(file)?;
        let mut policies: Vec<Value> = documents.into_iter().filter(is_policy).collect();
        let (Some(policy), true) = (policies.pop(), policies.is_empty()) else {
            let found = match policies.len() {
                0 => "no policy".to_owned(),
                others => format!("{} policies", others + 1),
            };
            return Err(DefinitionError::NotOnePolicy { file, found });
        };
        let Resource { metadata, spec } = match serde_json::from_value(policy) {
            Ok(resource) => resource,
            Err(error) => return Err(DefinitionError::Policy { file, error }),
        };
        Ok(Self {
            name: metadata.name,
            settings: one_object(
                &format!("{file}: spec.settings"),
                spec.settings.into_iter().collect(),
            )?,
            mode: spec.mode.unwrap_or_default(),
            mutating: spec.mutating,
            message: spec.message,
            file: Some(file),
        })
    }
}

/// The part of a policy resource that the policy server looks at when it answers.
#[derive(Deserialize)]
struct Resource {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
struct Spec {
    settings: Option<Value>,
    mode: Option<Mode>,
    #[serde(default)]
    mutating: bool,
    message: Option<String>,
}

fn read(file: &Path) -> Result<(String, Vec<Value>), DefinitionError> {
    let name = file.display().to_string();
    match fs::read_to_string(file) {
        Err(error) => Err(DefinitionError::Read { file: name, error }),
        Ok(text) => match documents::parse(&text) {
            Err(problem) => Err(DefinitionError::Syntax {
                place: name,
                problem,
            }),
            Ok(documents) => Ok((name, documents)),
        },
    }
}

fn is_policy(document: &Value) -> bool {
    let field = |key| {
        document
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    field("apiVersion").starts_with(API_GROUP) && POLICY_KINDS.contains(&field("kind"))
}

/// Absent settings are `{}`, as the policy server has it.
fn one_object(
    place: &str,
    mut documents: Vec<Value>,
) -> Result<Map<String, Value>, DefinitionError> {
    let found = match (documents.pop(), documents.len()) {
        (None | Some(Value::Null), 0) => return Ok(Map::new()),
        (Some(Value::Object(settings)), 0) => return Ok(settings),
        (Some(Value::Array(_)), 0) => "a list".to_owned(),
        (Some(other), 0) => format!("the value {other}"),
        (_, others) => format!("{} documents", others + 1),
    };
    Err(DefinitionError::NotSettings {
        place: place.to_owned(),
        found,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use rstest::rstest;
    use serde_json::json;

    const POLICY: &str = "
apiVersion: policies.kubewarden.io/v1
kind: ClusterAdmissionPolicy
metadata: {name: mesa}
spec: {module: m, mutating: true, settings: {onConflict: reject}}
";

    fn with_file<T>(text: &str, read: impl Fn(&Path) -> T) -> T {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        read(file.path())
    }

    fn policy(text: &str) -> Result<Definition, DefinitionError> {
        with_file(text, Definition::from_policy_file)
    }

    #[test]
    fn a_policy_resource_gives_settings_and_all_that_the_server_heeds() {
        let definition = policy(POLICY).unwrap();
        assert_eq!(definition.name, "mesa");
        assert_eq!(
            Value::from(definition.settings),
            json!({"onConflict": "reject"})
        );
        assert_eq!(
            (definition.mode, definition.mutating, definition.message),
            (Mode::Protect, true, None)
        );

        let definition = policy(
            "{apiVersion: policies.kubewarden.io/v1, kind: AdmissionPolicy, metadata: {name: mesa, namespace: vms},
              spec: {mode: monitor, mutating: false, message: ask the admin}}",
        )
        .unwrap();
        assert_eq!(definition.settings, Map::new());
        assert_eq!(
            (definition.mode, definition.mutating),
            (Mode::Monitor, false)
        );
        assert_eq!(definition.message.as_deref(), Some("ask the admin"));
    }

    #[test]
    fn other_objects_beside_the_policy_do_no_harm() {
        let definition = policy(&format!("kind: Namespace\n---{POLICY}---\n# end\n")).unwrap();
        assert_eq!(definition.name, "mesa");
    }

    #[rstest]
    #[case::none("kind: Namespace".to_owned(), "holds no policy, not one")]
    #[case::two(format!("{POLICY}---{POLICY}"), "holds 2 policies, not one")]
    #[case::foreign_group(POLICY.replace("policies.kubewarden.io", "example.com"), "holds no policy, not one")]
    #[case::mode(POLICY.replace("mutating: true", "mode: off"), "unknown variant `off`")]
    #[case::settings(POLICY.replace("{onConflict: reject}", "[1]"), "spec.settings: settings must be one object, not a list")]
    #[case::syntax("a: [".to_owned(), "mend it there")]
    fn a_file_without_exactly_one_valid_policy_is_an_error(
        #[case] text: String,
        #[case] message: &str,
    ) {
        let error = policy(&text).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }

    #[rstest]
    #[case("", json!({}))]
    #[case("null", json!({}))]
    #[case("containers: ['*']", json!({"containers": ["*"]}))]
    #[case("{\"annotate\": false}", json!({"annotate": false}))]
    fn a_settings_file_holds_an_object_or_nothing(#[case] text: &str, #[case] settings: Value) {
        assert_eq!(
            Value::from(
                with_file(text, Definition::from_settings_file)
                    .unwrap()
                    .settings
            ),
            settings
        );
    }

    #[rstest]
    #[case("[1]", "not a list")]
    #[case("a: 1\n---\nb: 2", "not 2 documents")]
    #[case("7", "not the value 7")]
    fn other_settings_are_an_error(#[case] text: &str, #[case] message: &str) {
        let error = with_file(text, Definition::from_settings_file)
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{error}");
    }
}
