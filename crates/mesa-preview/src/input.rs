//! What a POD on the command line is: one or more admission requests.

use std::{fmt, path::Path};

use manifests::{SourceError, console::Failure};
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

/// What is said of the requests for Pod manifests, which do not say it themselves.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Who creates the pods.
    pub user: Option<String>,
    /// Where they are created.
    pub namespace: Option<String>,
    /// What is done to them, such as `UPDATE`.
    pub operation: Option<String>,
}

/// What was found in files.
#[derive(Debug, Default)]
pub struct Found {
    /// The requests, in order.
    pub inputs: Vec<Input>,
    /// What was passed over, for people.
    pub notes: Vec<String>,
}

/// Why a file has no request.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The file cannot be read, or is neither JSON nor YAML.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The file is empty.
    #[error("{file}: no pod in it")]
    Empty {
        /// The file.
        file: String,
    },
    /// The document is something else.
    #[error("{place}: not a Pod but {found}")]
    NotAPod {
        /// The document.
        place: Source,
        /// What it is.
        found: String,
    },
    /// A request lacks what the policy server insists on.
    #[error("{place}: not an AdmissionRequest")]
    Request {
        /// The document.
        place: Source,
        /// What it lacks.
        #[source]
        error: serde_json::Error,
    },
}

impl Failure for InputError {
    fn fix(&self) -> Option<String> {
        let fix = match self {
            Self::Source(error) => return error.fix(),
            Self::Empty { .. } | Self::NotAPod { .. } => {
                "give a Pod manifest, an AdmissionRequest or an AdmissionReview"
            }
            Self::Request { .. } => "complete it as the API server writes it",
        };
        Some(fix.to_owned())
    }
}

/// The requests of all `files`.
///
/// # Errors
///
/// At the first file that cannot be read, or in which there is no pod.
pub fn read(files: &[String], overrides: &Overrides) -> Result<Found, InputError> {
    let mut found = Found::default();
    for file in files {
        let source = manifests::Source::read(Path::new(file))?;
        parse(&source, overrides, &mut found)?;
    }
    Ok(found)
}

fn parse(
    file: &manifests::Source,
    overrides: &Overrides,
    found: &mut Found,
) -> Result<(), InputError> {
    let objects = file.objects()?;
    let one = objects.len() == 1;
    let before = found.inputs.len();
    let mut passed_over = Vec::new();
    for (index, object) in objects.into_iter().enumerate() {
        let source = Source {
            file: file.name.clone(),
            number: (!one).then_some(index + 1),
        };
        match to_request(&source, object, found.inputs.len() + 1, overrides) {
            Ok((request, note)) => {
                found.notes.extend(note);
                found.inputs.push(Input { source, request });
            }
            Err(error @ InputError::NotAPod { .. }) => passed_over.push(error),
            Err(error) => return Err(error),
        }
    }
    if found.inputs.len() == before {
        let nothing = InputError::Empty {
            file: file.name.clone(),
        };
        return Err(passed_over.into_iter().next().unwrap_or(nothing));
    }
    let notes = passed_over.iter().map(|it| format!("passed over: {it}"));
    found.notes.extend(notes);
    Ok(())
}

/// The request that a document is or means, and what is to be said of it.
fn to_request(
    place: &Source,
    mut document: Value,
    number: usize,
    overrides: &Overrides,
) -> Result<(AdmissionRequest, Option<String>), InputError> {
    let request = match document.get("kind") {
        Some(Value::String(kind)) if kind == "Pod" => {
            let request = AdmissionRequest::to_create(document, number);
            return Ok((request.with(overrides), None));
        }
        Some(Value::String(kind)) if kind == "AdmissionReview" => document
            .get_mut("request")
            .map(Value::take)
            .unwrap_or_default(),
        // In a request, `kind` is the kind of its object, with group and version.
        Some(Value::Object(_)) => document,
        other => {
            return Err(InputError::NotAPod {
                place: place.clone(),
                found: describe(&document, other),
            });
        }
    };
    let request = serde_json::from_value(request).map_err(|error| InputError::Request {
        place: place.clone(),
        error,
    })?;
    let Overrides {
        user,
        namespace,
        operation,
    } = overrides;
    let any = user.is_some() || namespace.is_some() || operation.is_some();
    let note =
        format!("{place} is a request: --user, --namespace and --operation are for manifests");
    Ok((request, any.then_some(note)))
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
        found(text, &Overrides::default()).map(|found| found.inputs)
    }

    fn found(text: &str, overrides: &Overrides) -> Result<Found, InputError> {
        let mut found = Found::default();
        let file = manifests::Source {
            name: "f".to_owned(),
            text: text.to_owned(),
        };
        parse(&file, overrides, &mut found).map(|()| found)
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
    #[case::item("kind: List\nitems: [{kind: Node}]", "f: not a Pod but a Node")]
    #[case::no_kind("a: 1", "f: not a Pod but an object without a kind")]
    #[case::list_of_lists("[1]", "f: not a Pod but a list")]
    #[case::text("hello", "f: not a Pod but the value \"hello\"")]
    #[case::empty("---\n# nothing\n", "f: no pod in it")]
    #[case::empty_list("{kind: List, items: []}", "f: no pod in it")]
    #[case::broken("kind: [", "f is neither JSON nor YAML")]
    #[case::review("kind: AdmissionReview", "f: not an AdmissionRequest")]
    #[case::request(
        "kind: {group: '', version: v1, kind: Pod}",
        "f: not an AdmissionRequest"
    )]
    fn anything_else_is_an_error_that_names_the_place(#[case] text: &str, #[case] message: &str) {
        let error = parse_all(text).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn other_objects_beside_a_pod_are_passed_over_with_a_note() {
        let text = "kind: Pod\n---\nkind: Service\n---\n[1]\n";
        let found = found(text, &Overrides::default()).unwrap();
        assert_eq!(found.inputs.len(), 1);
        let notes = [
            "f (no. 2): not a Pod but a Service",
            "f (no. 3): not a Pod but a list",
        ];
        assert_eq!(
            found.notes,
            notes.map(|note| format!("passed over: {note}"))
        );
    }

    #[test]
    fn what_a_manifest_does_not_say_can_be_said() {
        let overrides = Overrides {
            user: Some("system:serviceaccount:cnv:kubevirt-controller".to_owned()),
            namespace: Some("vms".to_owned()),
            operation: Some("DELETE".to_owned()),
        };
        let found = found("kind: Pod", &overrides).unwrap();
        let request = &found.inputs[0].request;
        assert_eq!(request.user_info.username, overrides.user);
        let groups = request.user_info.groups.as_ref().unwrap();
        assert!(groups.contains(&"system:serviceaccounts:cnv".to_owned()));
        assert_eq!(request.namespace, overrides.namespace);
        assert_eq!(request.operation, "DELETE");
        assert!(request.object.is_none() && request.old_object.is_some());
    }
}
