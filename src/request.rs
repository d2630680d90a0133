//! What we read of the payload that the policy server sends: `{"request": AdmissionRequest, "settings": {…}}`.

use crate::json::{Node, Shape};
use crate::pod;

const PAYLOAD: Shape = Shape::Object(&[
    (
        "request",
        Shape::Object(&[
            (
                "kind",
                Shape::Object(&[
                    ("group", Shape::Value),
                    ("version", Shape::Value),
                    ("kind", Shape::Value),
                ]),
            ),
            ("operation", Shape::Value),
            ("subResource", Shape::Value),
            ("userInfo", Shape::Object(&[("username", Shape::Value)])),
            ("object", pod::SHAPE),
        ]),
    ),
    ("settings", Shape::Value),
]);

/// An admission request and the settings that came with it.
#[derive(Debug)]
pub struct Request<'a>(Node<'a>);

impl<'a> Request<'a> {
    /// Reads a payload.
    ///
    /// # Errors
    /// Why the payload is none, as the end of a sentence.
    pub fn parse(payload: &'a [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(payload).map_err(|error| error.to_string())?;
        let node = Node::parse(text, &PAYLOAD)
            .map_err(|error| format!("no JSON from byte {} on", error.at))?;
        match node.get("request").and_then(Node::members) {
            Some(_) => Ok(Request(node)),
            None => Err("it has no object `request`".to_owned()),
        }
    }

    fn get(&self, key: &str) -> Option<&Node<'a>> {
        self.0.get("request")?.get(key)
    }

    /// Whether a v1 Pod is being created, and not one of its sub-resources.
    #[must_use]
    pub fn creates_pod(&self) -> bool {
        let is = |node: Option<&Node<'_>>, text| {
            node.and_then(Node::as_str)
                .is_some_and(|value| value == text)
        };
        let kind = |key| self.get("kind").and_then(|kind| kind.get(key));
        let sub_resource = self.get("subResource");
        is(self.get("operation"), "CREATE")
            && is(kind("kind"), "Pod")
            && is(kind("version"), "v1")
            && (kind("group").is_none() || is(kind("group"), ""))
            && (sub_resource.is_none() || is(sub_resource, ""))
    }

    /// Who creates the object; empty where the request does not say.
    #[must_use]
    pub fn user_name(&self) -> std::borrow::Cow<'a, str> {
        let user = self.get("userInfo").and_then(|user| user.get("username"));
        user.and_then(Node::as_str).unwrap_or_default()
    }

    /// The object that is being created.
    #[must_use]
    pub fn object(&self) -> Option<&Node<'a>> {
        self.get("object")
    }

    /// The settings, as JSON.
    #[must_use]
    pub fn settings(&self) -> &'a str {
        self.0
            .get("settings")
            .map_or("{}", |settings| settings.text)
    }
}
