//! Where documents come from, and what must be among them.

use std::io::{self, Read as _};
use std::path::Path;

use serde_json::{Map, Value};

use crate::console::Failure;
use crate::policy::{self, Policy};
use crate::yaml::{self, SyntaxError};

/// The name that stands for standard input.
const STDIN: &str = "-";

/// A text with documents, and what it is called in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file or option.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// What is wrong with a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be read.
    #[error("cannot read {place}")]
    Read {
        /// The file.
        place: String,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// The text is neither JSON nor YAML.
    #[error("{place} is neither JSON nor YAML")]
    Syntax {
        /// The file or option.
        place: String,
        /// Line and problem.
        #[source]
        error: SyntaxError,
    },
    /// Settings are something else than an object.
    #[error("{place}: settings must be one object, not {found}")]
    NotSettings {
        /// The file or option.
        place: String,
        /// What was found.
        found: String,
    },
    /// There is not exactly one policy.
    #[error("{place} holds {found}, not one ClusterAdmissionPolicy or AdmissionPolicy")]
    NotOnePolicy {
        /// The file or option.
        place: String,
        /// What was found.
        found: String,
    },
    /// A policy has a field that Kubewarden does not know, or of another type.
    #[error("{place}: not a valid policy")]
    Policy {
        /// The file or option.
        place: String,
        /// The field and the problem.
        #[source]
        error: serde_path_to_error::Error<serde_json::Error>,
    },
}

impl Failure for SourceError {
    fn fix(&self) -> Option<String> {
        let fix = match self {
            Self::Read { .. } => "name a file that can be read, or - for standard input",
            Self::Syntax { .. } | Self::Policy { .. } => "correct it there",
            Self::NotSettings { .. } => {
                "write the settings as keys with values, or {} for the defaults"
            }
            Self::NotOnePolicy { .. } => "give a file with the one that is meant",
        };
        Some(fix.to_owned())
    }
}

impl Source {
    /// Reads a file; `-` is standard input.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(file: &Path) -> Result<Self, SourceError> {
        let mut text = String::new();
        let (name, read) = match file == Path::new(STDIN) {
            true => {
                let read = io::stdin().read_to_string(&mut text).map(|_| text);
                ("standard input".to_owned(), read)
            }
            false => (file.display().to_string(), std::fs::read_to_string(file)),
        };
        match read {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => Err(SourceError::Read { place: name, error }),
        }
    }

    /// The values in the text, with the items of a list in place of the list. Empty documents are left out.
    ///
    /// # Errors
    /// Where the text is neither JSON nor YAML.
    pub fn objects(&self) -> Result<Vec<Value>, SourceError> {
        let documents = yaml::documents(&self.text).map_err(|error| SourceError::Syntax {
            place: self.name.clone(),
            error,
        })?;
        Ok(documents.into_iter().flat_map(items).collect())
    }

    /// The settings: an object, or those of the policy in the text. An empty text stands for the defaults, as absent
    /// settings do to the policy server.
    ///
    /// ```
    /// let source = |text: &str| manifests::Source { name: "settings.yaml".to_owned(), text: text.to_owned() };
    ///
    /// assert_eq!(source("annotate: no").settings()?["annotate"], false);
    /// assert!(source("# the defaults").settings()?.is_empty());
    /// # Ok::<(), manifests::SourceError>(())
    /// ```
    ///
    /// # Errors
    /// Where the text holds something else, or several policies.
    pub fn settings(&self) -> Result<Map<String, Value>, SourceError> {
        let objects = self.objects()?;
        if objects.iter().any(policy::is_policy) {
            return Ok(self.one_policy(objects)?.spec.settings);
        }
        self.one_object(objects)
    }

    /// The policy. Other objects beside it are left out.
    ///
    /// # Errors
    /// Where the text does not hold exactly one policy, or one with fields that Kubewarden does not know.
    pub fn policy(&self) -> Result<Policy, SourceError> {
        self.one_policy(self.objects()?)
    }

    fn one_policy(&self, objects: Vec<Value>) -> Result<Policy, SourceError> {
        let mut policies: Vec<Value> = objects.into_iter().filter(policy::is_policy).collect();
        let (Some(policy), true) = (policies.pop(), policies.is_empty()) else {
            let found = match policies.len() {
                0 => "no policy".to_owned(),
                others => format!("{} policies", others + 1),
            };
            let place = self.name.clone();
            return Err(SourceError::NotOnePolicy { place, found });
        };
        serde_path_to_error::deserialize(policy).map_err(|error| SourceError::Policy {
            place: self.name.clone(),
            error,
        })
    }

    fn one_object(&self, mut objects: Vec<Value>) -> Result<Map<String, Value>, SourceError> {
        let found = match (objects.pop(), objects.len()) {
            (None, _) => return Ok(Map::new()),
            (Some(Value::Object(object)), 0) => {
                match (object.get("apiVersion"), object.get("kind")) {
                    (Some(_), Some(Value::String(kind))) => format!("a {kind}"),
                    _ => return Ok(object),
                }
            }
            (Some(Value::Array(_)), 0) => "a list".to_owned(),
            (Some(other), 0) => format!("the value {other}"),
            (Some(_), others) => format!("{} documents", others + 1),
        };
        let place = self.name.clone();
        Err(SourceError::NotSettings { place, found })
    }
}

/// The items of a list of Kubernetes, such as a `List` or a `PodList`; any other document is itself.
fn items(mut document: Value) -> Vec<Value> {
    let Some(kind) = document
        .get("kind")
        .and_then(Value::as_str)
        .and_then(|kind| kind.strip_suffix("List"))
    else {
        return vec![document];
    };
    // The API server leaves out of an item what the list tells already.
    let known = [
        ("apiVersion", document.get("apiVersion").cloned()),
        ("kind", Some(kind.into())),
    ];
    let is_typed = !kind.is_empty();
    let Some(Value::Array(mut items)) = document.get_mut("items").map(Value::take) else {
        return vec![document];
    };
    if is_typed {
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            for (key, value) in &known {
                if let Some(value) = value {
                    item.entry(*key).or_insert_with(|| value.clone());
                }
            }
        }
    }
    items
}
