//! What we read of the payload that the policy server sends: `{"request": AdmissionRequest, "settings": {…}}`.

use std::borrow::Cow;

use crate::json::{Node, Shape};
use crate::pod;

/// The keys of the payload, each spelled once.
mod key {
    pub(super) const GROUP: &str = "group";
    pub(super) const KIND: &str = "kind";
    pub(super) const OBJECT: &str = "object";
    pub(super) const OPERATION: &str = "operation";
    pub(super) const REQUEST: &str = "request";
    pub(super) const SETTINGS: &str = "settings";
    pub(super) const SUB_RESOURCE: &str = "subResource";
    pub(super) const USER_INFO: &str = "userInfo";
    pub(super) const USER_NAME: &str = "username";
    pub(super) const VERSION: &str = "version";
}

const PAYLOAD: Shape = Shape::Object(&[
    (
        key::REQUEST,
        Shape::Object(&[
            (
                key::KIND,
                Shape::Object(&[
                    (key::GROUP, Shape::Value),
                    (key::VERSION, Shape::Value),
                    (key::KIND, Shape::Value),
                ]),
            ),
            (key::OPERATION, Shape::Value),
            (key::SUB_RESOURCE, Shape::Value),
            (
                key::USER_INFO,
                Shape::Object(&[(key::USER_NAME, Shape::Value)]),
            ),
            (key::OBJECT, pod::SHAPE),
        ]),
    ),
    (key::SETTINGS, Shape::Value),
]);

/// An admission request and the settings that came with it.
#[derive(Debug)]
pub struct Request<'a>(Node<'a>);

impl<'a> Request<'a> {
    /// Reads a payload.
    ///
    /// # Errors
    /// Why the payload is not a request, as the end of a sentence.
    pub fn parse(payload: &'a [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(payload).map_err(|error| error.to_string())?;
        let node = Node::parse(text, &PAYLOAD).map_err(|error| format!("not JSON: {error}"))?;
        match node.get(key::REQUEST).and_then(Node::members) {
            Some(_) => Ok(Request(node)),
            None => Err(format!("it has no object `{}`", key::REQUEST)),
        }
    }

    fn get(&self, key: &str) -> Option<&Node<'a>> {
        self.0.get(key::REQUEST)?.get(key)
    }

    /// Whether a v1 Pod is being created, and not one of its sub-resources.
    #[must_use]
    pub fn creates_pod(&self) -> bool {
        let is = |node: Option<&Node<'_>>, text| {
            node.and_then(Node::as_str)
                .is_some_and(|value| value == text)
        };
        let kind = |key| self.get(key::KIND).and_then(|kind| kind.get(key));
        let sub_resource = self.get(key::SUB_RESOURCE);
        is(self.get(key::OPERATION), "CREATE")
            && is(kind(key::KIND), "Pod")
            && is(kind(key::VERSION), "v1")
            && (kind(key::GROUP).is_none() || is(kind(key::GROUP), ""))
            && (sub_resource.is_none() || is(sub_resource, ""))
    }

    /// Who creates the object; empty where the request does not say.
    #[must_use]
    pub fn user_name(&self) -> Cow<'a, str> {
        let user = self.get(key::USER_INFO);
        let name = user.and_then(|user| user.get(key::USER_NAME));
        name.and_then(Node::as_str).unwrap_or_default()
    }

    /// The object that is being created.
    #[must_use]
    pub fn object(&self) -> Option<&Node<'a>> {
        self.get(key::OBJECT)
    }

    /// The settings, as JSON.
    #[must_use]
    pub fn settings(&self) -> &'a str {
        let settings = self.0.get(key::SETTINGS);
        settings.map_or("{}", |settings| settings.text)
    }
}
