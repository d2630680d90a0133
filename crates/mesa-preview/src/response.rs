//! The admission response, as the policy server sends it to the API server.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use json_patch::Patch;
use serde::{Serialize, Serializer, ser::SerializeStruct as _};

/// `admission.k8s.io/v1` `AdmissionResponse`. It serializes to the very line that `kwctl run` prints.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AdmissionResponse {
    /// The request's.
    pub uid: String,
    /// Whether the object may be stored.
    pub allowed: bool,
    /// What the API server changes in the object.
    #[serde(
        flatten,
        skip_serializing_if = "Option::is_none",
        serialize_with = "encode_patch"
    )]
    pub patch: Option<Patch>,
    /// Why the object may not be stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// For the API server's audit log.
    pub audit_annotations: Option<BTreeMap<String, String>>,
    /// For the API client.
    pub warnings: Option<Vec<String>>,
}

/// The part of a `meta/v1` `Status` that the policy server fills in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What a message of the `ClusterAdmissionPolicy` took the place of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
    /// As in HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
}

/// `StatusDetails`, for its causes alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Details {
    /// The policy's own messages.
    pub causes: Vec<Cause>,
}

/// `StatusCause`. The policy server writes its empty fields out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cause {
    reason: Option<String>,
    /// For people.
    pub message: Option<String>,
    field: Option<String>,
}

impl AdmissionResponse {
    /// What the API server goes on with where it asks nobody.
    #[must_use]
    pub fn untouched(uid: &str) -> Self {
        Self {
            uid: uid.to_owned(),
            allowed: true,
            ..Self::default()
        }
    }

    /// A refusal.
    #[must_use]
    pub fn reject(uid: &str, status: Status) -> Self {
        Self {
            uid: uid.to_owned(),
            status: Some(status),
            ..Self::default()
        }
    }

    /// A refusal in one sentence: its code, its message and the message that it took the place of.
    #[must_use]
    pub fn reason(&self) -> String {
        let status = self.status.clone().unwrap_or_default();
        let code = status
            .code
            .map(|code| format!(" ({code})"))
            .unwrap_or_default();
        let causes = status
            .details
            .into_iter()
            .flat_map(|details| details.causes);
        let messages = status
            .message
            .into_iter()
            .chain(causes.filter_map(|cause| cause.message));
        let messages: Vec<String> = messages.filter(|message| !message.is_empty()).collect();
        let colon = if messages.is_empty() { "" } else { ": " };
        format!("rejected{code}{colon}{}", messages.join("; "))
    }
}

impl Status {
    /// A status with a message alone.
    #[must_use]
    pub fn of(message: impl Into<String>) -> Self {
        Self {
            message: Some(message.into()),
            ..Self::default()
        }
    }

    /// The status whose message is `message`, and whose cause is this one.
    #[must_use]
    pub fn replaced_by(self, message: String) -> Self {
        let cause = Cause {
            message: Some(self.message.unwrap_or_default()),
            ..Cause::default()
        };
        Self {
            message: Some(message),
            details: Some(Details {
                causes: vec![cause],
            }),
            code: self.code,
        }
    }
}

/// A patch travels as the Base64 of its JSON, with its type beside it.
fn encode_patch<S: Serializer>(patch: &Option<Patch>, serializer: S) -> Result<S::Ok, S::Error> {
    let json = serde_json::to_vec(patch).map_err(serde::ser::Error::custom)?;
    let mut fields = serializer.serialize_struct("Patch", 2)?;
    fields.serialize_field("patchType", "JSONPatch")?;
    fields.serialize_field("patch", &STANDARD.encode(json))?;
    fields.end()
}
