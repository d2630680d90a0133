//! What the policy server makes of a policy's answers.

use std::collections::BTreeMap;

use json_patch::Patch;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    definition::{Definition, Mode},
    engine::{CallError, Instance, Policy},
    request::AdmissionRequest,
    response::{AdmissionResponse, Status},
};

/// A policy with its definition, the settings of which it has accepted.
pub struct Server<'a> {
    policy: &'a Policy,
    definition: &'a Definition,
}

/// Why the policy server would not run the policy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The module has no waPC entry point, or its initialization fails.
    #[error("not a waPC policy that starts: {0}")]
    Module(CallError),
    /// The policy refuses the settings, or cannot say.
    #[error("Provided settings are not valid: {0}")]
    Settings(String),
}

/// Why there is no answer of the policy. The texts are the policy server's.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFailure {
    /// The policy returned an error or trapped.
    #[error("internal server error: {0}")]
    Call(CallError),
    /// The policy took too long.
    #[error("Policy execution interrupted because it exceeded the allowed execution time")]
    Interrupted,
    /// What the policy returned is no `ValidationResponse`.
    #[error("internal server error: {0}")]
    Answer(#[from] InvalidAnswer),
}

/// The policy's answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidAnswer {
    /// The name shows in the server's message about settings.
    #[error("invalid response from policy: {0}")]
    InvalidResponseWithError(serde_json::Error),
}

/// What `validate` returns.
#[derive(Deserialize)]
struct ValidationResponse {
    accepted: bool,
    message: Option<String>,
    code: Option<u16>,
    mutated_object: Option<Value>,
    audit_annotations: Option<BTreeMap<String, String>>,
    warnings: Option<Vec<String>>,
}

/// What `validate_settings` returns.
#[derive(Deserialize)]
struct SettingsValidationResponse {
    valid: bool,
    message: Option<String>,
}

impl<'a> Server<'a> {
    /// Has the policy validate its settings, as the server does when it starts.
    ///
    /// # Errors
    ///
    /// When the policy does not start, or refuses the settings.
    pub fn start(policy: &'a Policy, definition: &'a Definition) -> Result<Self, StartError> {
        let mut instance = policy.instantiate().map_err(StartError::Module)?;
        validate_settings(&mut instance, &definition.settings).map_err(StartError::Settings)?;
        Ok(Self { policy, definition })
    }

    /// The response to the API server, whatever the policy does.
    #[must_use]
    pub fn answer(&self, request: &AdmissionRequest) -> AdmissionResponse {
        self.ask(request).unwrap_or_else(|failure| {
            let status = Status {
                code: Some(500),
                ..Status::of(failure.to_string())
            };
            self.constrain(AdmissionResponse::reject(&request.uid, status))
        })
    }

    /// The response to the API server, if the policy has an answer.
    ///
    /// # Errors
    ///
    /// When the policy returns an error, traps, takes too long, or returns nonsense.
    pub fn ask(&self, request: &AdmissionRequest) -> Result<AdmissionResponse, PolicyFailure> {
        // By way of `Value`, because that is how the policy server comes to its sorted keys.
        let payload = json!({"request": request, "settings": self.definition.settings}).to_string();
        let answer = self
            .policy
            .instantiate()
            .and_then(|mut instance| instance.call("validate", payload.as_bytes()))
            .map_err(PolicyFailure::from)?;
        let answer =
            serde_json::from_slice(&answer).map_err(InvalidAnswer::InvalidResponseWithError)?;
        Ok(self.constrain(respond(request, answer)))
    }

    /// Applies what the policy's definition allows, in the server's order.
    fn constrain(&self, mut response: AdmissionResponse) -> AdmissionResponse {
        match self.definition.mode {
            Mode::Monitor => {
                response.allowed = true;
                response.patch = None;
                response.status = None;
            }
            Mode::Protect if !self.definition.mutating && response.patch.is_some() => {
                response.allowed = false;
                response.patch = None;
                response.status = Some(Status::of(format!(
                    "Request rejected by policy {}. The policy attempted to mutate the request, but it is currently \
                     configured to not allow mutations.",
                    self.definition.name
                )));
            }
            Mode::Protect => {}
        }
        if let (false, Some(message)) = (response.allowed, &self.definition.message) {
            let status = response.status.unwrap_or_default();
            response.status = Some(status.replaced_by(message.clone()));
        }
        response
    }
}

impl From<CallError> for PolicyFailure {
    fn from(error: CallError) -> Self {
        if error.is_interruption() {
            Self::Interrupted
        } else {
            Self::Call(error)
        }
    }
}

fn validate_settings(instance: &mut Instance, settings: &Map<String, Value>) -> Result<(), String> {
    let settings = Value::from(settings.clone()).to_string();
    let answer = instance
        .call("validate_settings", settings.as_bytes())
        .map_err(|error| format!("Error invoking settings validation callback: {error:?}"))?;
    let answer: SettingsValidationResponse = serde_json::from_slice(&answer)
        .map_err(InvalidAnswer::InvalidResponseWithError)
        .map_err(|error| format!("error: {error:?}"))?;
    if answer.valid {
        Ok(())
    } else {
        Err(answer.message.unwrap_or_default())
    }
}

fn respond(request: &AdmissionRequest, answer: ValidationResponse) -> AdmissionResponse {
    let patch = match (&request.object, &answer.mutated_object) {
        (None, Some(_)) => {
            let message = "Incoming object is null, which happens only with DELETE operations, but the policy is \
                           attempting a mutation. This is not allowed";
            return AdmissionResponse::reject(&request.uid, Status::of(message));
        }
        (Some(object), Some(mutated)) => Some(json_patch::diff(object, mutated)),
        (_, None) => None,
    };
    let status = Status {
        message: answer.message,
        details: None,
        code: answer.code,
    };
    AdmissionResponse {
        uid: request.uid.clone(),
        allowed: answer.accepted,
        patch: patch.filter(|Patch(operations)| !operations.is_empty()),
        status: Some(status).filter(|status| *status != Status::default()),
        audit_annotations: answer.audit_annotations,
        warnings: answer.warnings,
    }
}
