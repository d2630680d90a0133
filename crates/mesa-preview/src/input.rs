//! What a POD on the command line is: one or more admission requests.

use std::{fmt, path::Path};

use manifests::SourceError;
use serde_json::Value;

use crate::request::AdmissionRequest;

/// A request, and where it was found.
#[derive(Clone, Debug)]
pub struct Input {
    /// For messages.
    pub source: Source,
    /// What the policy is asked.
    pub request: AdmissionRequest,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    file: String,
    /// Counted from 1; absent when the file holds one only.
    number: Option<usize>,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "{} (no. {number})", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// Why a file holds no request.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file cannot be read, or is neither JSON nor YAML.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The file is empty.
    #[error("{file}: holds no pod; give a Pod manifest, an AdmissionRequest or an AdmissionReview")]
    Empty {
        /// The file.
        file: String,
    },
    /// The document is something else.
    #[error(
        "{place}: not a Pod but {found}; give a Pod manifest, an AdmissionRequest or an AdmissionReview"
    )]
    NotAPod {
        /// The document.
        place: Source,
        /// What it is.
        found: String,
    },
    /// A request lacks what the policy server insists on.
    #[error("{place}: not an AdmissionRequest: {error}; complete it as the API server writes it")]
    Request {
        /// The document.
        place: Source,
        /// What it lacks.
        error: serde_json::Error,
    },
}

/// The requests of all `files`, in order.
///
/// # Errors
///
/// At the first file that cannot be read, or document that is no pod.
pub fn read(files: &[String]) -> Result<Vec<Input>, InputError> {
    let mut inputs = Vec::new();
    for file in files {
        parse(&manifests::Source::read(Path::new(file))?, &mut inputs)?;
    }
    Ok(inputs)
}

fn parse(file: &manifests::Source, inputs: &mut Vec<Input>) -> Result<(), InputError> {
    let objects = file.objects()?;
    if objects.is_empty() {
        return Err(InputError::Empty {
            file: file.name.clone(),
        });
    }
    let one = objects.len() == 1;
    for (index, object) in objects.into_iter().enumerate() {
        let source = Source {
            file: file.name.clone(),
            number: (!one).then_some(index + 1),
        };
        let request = to_request(&source, object, inputs.len() + 1)?;
        inputs.push(Input { source, request });
    }
    Ok(())
}

fn to_request(
    place: &Source,
    mut document: Value,
    number: usize,
) -> Result<AdmissionRequest, InputError> {
    let to_admission_request = |value| {
        serde_json::from_value(value).map_err(|error| InputError::Request {
            place: place.clone(),
            error,
        })
    };
    match document.get("kind") {
        Some(Value::String(kind)) if kind == "Pod" => {
            Ok(AdmissionRequest::to_create(document, number))
        }
        Some(Value::String(kind)) if kind == "AdmissionReview" => {
            let request = document
                .get_mut("request")
                .map(Value::take)
                .unwrap_or_default();
            to_admission_request(request)
        }
        // In a request, `kind` is the kind of its object, with group and version.
        Some(Value::Object(_)) => to_admission_request(document),
        other => Err(InputError::NotAPod {
            place: place.clone(),
            found: describe(&document, other),
        }),
    }
}

fn describe(document: &Value, kind: Option<&Value>) -> String {
    match (document, kind) {
        (_, Some(Value::String(kind))) => format!("a {kind}"),
        (Value::Object(_), _) => "an object without a kind".to_owned(),
        (Value::Array(_), _) => "a list".to_owned(),
        (other, _) => format!("the value {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn parse_all(text: &str) -> Result<Vec<Input>, InputError> {
        let mut inputs = Vec::new();
        let file = manifests::Source {
            name: "f".to_owned(),
            text: text.to_owned(),
        };
        parse(&file, &mut inputs).map(|()| inputs)
    }

    #[test]
    fn a_pod_is_wrapped_as_virt_controller_would_create_it() {
        let inputs =
            parse_all("{apiVersion: v1, kind: Pod, metadata: {generateName: p-, namespace: vms}}")
                .unwrap();
        let expected = json!({
            "uid": "00000000-0000-4000-8000-000000000001",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "vms",
            "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kubevirt:kubevirt-controller",
                "groups": ["system:serviceaccounts", "system:serviceaccounts:kubevirt", "system:authenticated"],
            },
            "object": {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-", "namespace": "vms"}},
            "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        });
        assert_eq!(serde_json::to_value(&inputs[0].request).unwrap(), expected);
    }

    #[test]
    fn a_pod_without_a_namespace_is_taken_to_be_in_kubevirt() {
        let inputs = parse_all(r#"{"kind": "Pod", "metadata": {"name": "p"}}"#).unwrap();
        assert_eq!(inputs[0].request.namespace.as_deref(), Some("kubevirt"));
        assert_eq!(inputs[0].request.name.as_deref(), Some("p"));
    }

    #[rstest]
    #[case::documents("kind: Pod\n---\nkind: Pod\n")]
    #[case::list("kind: List\nitems: [{kind: Pod}, {kind: Pod}]\n")]
    #[case::pod_list("kind: PodList\nitems: [{metadata: {}}, {metadata: {}}]\n")]
    fn every_pod_of_a_file_is_an_input_with_its_number(#[case] text: &str) {
        let inputs = parse_all(text).unwrap();
        let places: Vec<String> = inputs
            .iter()
            .map(|input| input.source.to_string())
            .collect();
        assert_eq!(places, ["f (no. 1)", "f (no. 2)"]);
        assert_ne!(inputs[0].request.uid, inputs[1].request.uid);
    }

    #[test]
    fn what_is_null_or_unknown_in_a_request_is_dropped() {
        let group = r#"{"group": "", "version": "v1""#;
        let request = format!(
            r#"{{"uid": "u", "kind": {group}, "kind": "Pod"}}, "resource": {group}, "resource": "pods"}},
                "operation": "DELETE", "userInfo": {{"unknown": 1}}, "object": null, "oldObject": {{}}, "other": 1}}"#
        );
        for text in [
            request.clone(),
            format!(r#"{{"kind": "AdmissionReview", "request": {request}}}"#),
        ] {
            let expected = json!({
                "uid": "u",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
                "operation": "DELETE",
                "userInfo": {},
                "oldObject": {},
            });
            assert_eq!(
                serde_json::to_value(&parse_all(&text).unwrap()[0].request).unwrap(),
                expected
            );
        }
    }

    #[rstest]
    #[case::another_kind("kind: Service", "f: not a Pod but a Service")]
    #[case::second_document("kind: Pod\n---\nkind: Service", "f (no. 2): not a Pod but a Service")]
    #[case::item("kind: List\nitems: [{kind: Node}]", "f: not a Pod but a Node")]
    #[case::no_kind("a: 1", "f: not a Pod but an object without a kind")]
    #[case::list_of_lists("[1]", "f: not a Pod but a list")]
    #[case::text("hello", "f: not a Pod but the value \"hello\"")]
    #[case::empty("---\n# nothing\n", "f: holds no pod")]
    #[case::empty_list("{kind: List, items: []}", "f: holds no pod")]
    #[case::broken("kind: [", "f is neither JSON nor YAML")]
    #[case::review(
        "kind: AdmissionReview",
        "f: not an AdmissionRequest: invalid type: null"
    )]
    #[case::request(
        "kind: {group: '', version: v1, kind: Pod}",
        "f: not an AdmissionRequest: missing field `uid`"
    )]
    fn anything_else_is_an_error_that_names_the_place(#[case] text: &str, #[case] message: &str) {
        let error = parse_all(text).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
