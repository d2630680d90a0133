//! How the policy server is told to run the policy: its settings, and what a `ClusterAdmissionPolicy` says beyond
//! them.

use std::path::Path;

pub use manifests::Mode;
use manifests::{Policy, Source, SourceError};
use serde_json::{Map, Value};

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
    /// The resource that all this was read from, with the rules and selectors of its webhook.
    pub policy: Option<Policy>,
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
            policy: None,
        }
    }
}

impl From<Policy> for Definition {
    fn from(policy: Policy) -> Self {
        let Policy { metadata, spec, .. } = policy.clone();
        Self {
            name: metadata.name,
            settings: spec.settings,
            mode: spec.mode.unwrap_or_default(),
            mutating: spec.mutating,
            message: spec.message,
            file: None,
            policy: Some(policy),
        }
    }
}

impl Definition {
    /// A policy that may mutate, with the settings in a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or has no settings.
    pub fn from_settings_file(file: &Path) -> Result<Self, SourceError> {
        let source = Source::read(file)?;
        Ok(Self {
            settings: source.settings()?,
            file: Some(source.name),
            ..Self::default()
        })
    }

    /// A policy that may mutate, with the settings in the option `--settings-json`.
    ///
    /// # Errors
    ///
    /// When `json` is something else than an object.
    pub fn from_settings_json(json: &str) -> Result<Self, SourceError> {
        let source = Source {
            name: "--settings-json".to_owned(),
            text: json.to_owned(),
        };
        Ok(Self {
            settings: source.settings()?,
            ..Self::default()
        })
    }

    /// The `ClusterAdmissionPolicy` or `AdmissionPolicy` in a file, which may hold other objects too.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or does not hold exactly one policy.
    pub fn from_policy_file(file: &Path) -> Result<Self, SourceError> {
        let source = Source::read(file)?;
        Ok(Self {
            file: Some(source.name.clone()),
            ..source.policy()?.into()
        })
    }
}
