//! A JSON text, read once by `serde_json`: only the levels that a [`Shape`] names are opened.
//!
//! A request is a few kilobytes of which we read a few dozen values, and each request pays for every pass over
//! the text. So there is one pass, which borrows everything and remembers where each opened value stands; that is
//! also what lets [`crate::pod`] extend a pod without touching what it does not know.
//!
//! A value that stays closed is skipped by `serde_json`, not decoded: how deep it nests, whether its numbers fit a
//! float and whether its escaped surrogates come in pairs is not checked. The policy server has parsed the whole
//! text before it calls us.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Which levels of a text to open. What is of another type than its shape says is left closed, not refused:
/// whether that matters is for the reader to say.
#[derive(Debug)]
pub enum Shape {
    /// Any value, left closed.
    Value,
    /// An object of which only these members are of interest.
    Object(&'static [(&'static str, Shape)]),
    /// An object whose every member is of interest.
    Map,
    /// A list of values of one shape.
    List(&'static Shape),
    /// Everything, down to the leaves.
    Tree,
}

impl Shape {
    /// The shape of a member, if it is of interest.
    fn member(&self, key: &str) -> Option<&Shape> {
        match self {
            Shape::Object(fields) => {
                let field = fields.iter().find(|(name, _)| *name == key);
                field.map(|(_, shape)| shape)
            }
            Shape::Tree => Some(self),
            _ => Some(&Shape::Value),
        }
    }

    fn item(&self) -> &Shape {
        match self {
            Shape::List(shape) => shape,
            _ => self,
        }
    }
}

/// A value and where it stands.
#[derive(Debug)]
pub struct Node<'a> {
    /// The value as it is written.
    pub text: &'a str,
    /// The byte offset of `text` in the whole text.
    pub start: usize,
    content: Content<'a>,
}

/// A member of an object.
pub type Member<'a> = (Cow<'a, str>, Node<'a>);

#[derive(Debug)]
enum Content<'a> {
    Object(Vec<Member<'a>>),
    List(Vec<Node<'a>>),
    Closed,
}

impl<'a> Node<'a> {
    /// Reads a whole text. Of members with the same key the last one counts, as it does for the policy server.
    ///
    /// # Errors
    /// The text is not exactly one JSON value, or what the shape opens nests deeper than 127 levels.
    pub fn parse(text: &'a str, shape: &Shape) -> Result<Self, serde_json::Error> {
        let cursor = Cursor {
            text,
            at: Cell::new(0),
        };
        let mut reader = serde_json::Deserializer::from_str(text);
        let node = Opening {
            shape,
            cursor: &cursor,
        }
        .deserialize(&mut reader)?;
        reader.end()?;
        Ok(node)
    }

    /// The member of an opened object; nothing where it is missing, `null`, or this is no object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node<'a>> {
        self.member(key).filter(|member| !member.is_null())
    }

    /// Like [`Node::get`], but a `null` is a member too.
    #[must_use]
    pub fn member(&self, key: &str) -> Option<&Node<'a>> {
        let members = self.members()?;
        let (_, member) = members.iter().rev().find(|(name, _)| name == key)?;
        Some(member)
    }

    /// The members of an opened object, as far as its shape names them.
    #[must_use]
    pub fn members(&self) -> Option<&[Member<'a>]> {
        match &self.content {
            Content::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The items of an opened list.
    #[must_use]
    pub fn items(&self) -> Option<&[Node<'a>]> {
        match &self.content {
            Content::List(items) => Some(items),
            _ => None,
        }
    }

    /// The string that this is, without its escapes.
    #[must_use]
    pub fn as_str(&self) -> Option<Cow<'a, str>> {
        if !self.text.starts_with('"') {
            return None;
        }
        unquoted(self.text).ok()
    }

    /// Whether this is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.text == "null"
    }

    /// Whether an object or a list holds nothing at all, named by its shape or not.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let inner = self.text.get(1..self.text.len().saturating_sub(1));
        inner.is_some_and(|inner| inner.trim_ascii().is_empty())
    }

    /// The byte offset just behind the value.
    #[must_use]
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// A text as JSON writes it, quotes and all.
#[must_use]
pub fn quoted(text: &str) -> String {
    // Only what is no text can fail to be written.
    serde_json::to_string(text).unwrap_or_default()
}

/// An object as JSON writes it, of values that are JSON already.
///
/// ```
/// use mesa_injector::json::{object, quoted};
///
/// assert_eq!(object(&[("name", quoted("mesa-dri"))]), "{\"name\":\"mesa-dri\"}");
/// ```
#[must_use]
pub fn object(members: &[(&str, String)]) -> String {
    let members = members.iter().map(|(key, value)| member(key, value));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// A member of an object as JSON writes it, of a value that is JSON already.
#[must_use]
pub fn member(key: &str, value: &str) -> String {
    quoted(key) + ":" + value
}

/// A list as JSON writes it, of values that are JSON already.
#[must_use]
pub fn list(items: &[String]) -> String {
    format!("[{}]", items.join(","))
}

/// The methods of a visitor for values that it is never given, because their first byte was looked at before. By default
/// they are errors that could name any value, which brings the printing of floating-point numbers: 30 KB of tables.
macro_rules! never_a_scalar {
    ($value:expr) => {
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
}

/// What a JSON string stands for; borrowed where nothing in it is escaped.
fn unquoted(string: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    let inside = string
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    match inside {
        Some(inside) if !inside.contains('\\') => Ok(Cow::Borrowed(inside)),
        _ => serde_json::from_str(string).map(|Unescaped(text)| Cow::Owned(text)),
    }
}

/// A string that something is escaped in.
struct Unescaped(String);

impl<'de> Deserialize<'de> for Unescaped {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Escaped;

        impl<'de> Visitor<'de> for Escaped {
            type Value = Unescaped;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Unescaped, E> {
                Ok(Unescaped(text.to_owned()))
            }

            never_a_scalar!(Unescaped(String::new()));

            fn visit_seq<A>(self, _: A) -> Result<Unescaped, A::Error>
            where
                A: SeqAccess<'de>,
            {
                Ok(Unescaped(String::new()))
            }

            fn visit_map<A>(self, _: A) -> Result<Unescaped, A::Error>
            where
                A: MapAccess<'de>,
            {
                Ok(Unescaped(String::new()))
            }
        }

        reader.deserialize_any(Escaped)
    }
}

/// Where in the text `serde_json` is, which does not tell: it is led along beside it.
struct Cursor<'a> {
    text: &'a str,
    at: Cell<usize>,
}

impl Cursor<'_> {
    /// Goes on to the next byte that is neither white space nor between two values, and says what it is.
    fn next(&self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at.get()..)?;
        let between = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\t' | b'\r' | b',' | b':');
        let skipped = rest.iter().position(|byte| !between(byte))?;
        self.advance(skipped);
        rest.get(skipped).copied()
    }

    fn advance(&self, bytes: usize) {
        self.at.set(self.at.get() + bytes);
    }

    /// Goes past the next value.
    fn pass(&self, value: &RawValue) {
        self.next();
        self.advance(value.get().len());
    }
}

/// A value that is about to be read.
struct Opening<'s, 'a> {
    shape: &'s Shape,
    cursor: &'s Cursor<'a>,
}

impl<'s, 'a> Opening<'s, 'a> {
    fn of(&self, shape: &'s Shape) -> Self {
        Opening {
            shape,
            cursor: self.cursor,
        }
    }
}

impl<'a> DeserializeSeed<'a> for Opening<'_, 'a> {
    type Value = Node<'a>;

    fn deserialize<D: Deserializer<'a>>(self, reader: D) -> Result<Node<'a>, D::Error> {
        let Opening { shape, cursor } = self;
        let first = cursor.next();
        let start = cursor.at.get();
        let content = match (shape, first) {
            (Shape::Object(_) | Shape::Map | Shape::Tree, Some(b'{')) => {
                cursor.advance(1);
                reader.deserialize_any(self)?
            }
            (Shape::List(_) | Shape::Tree, Some(b'[')) => {
                cursor.advance(1);
                reader.deserialize_any(self)?
            }
            _ => {
                cursor.pass(<&RawValue>::deserialize(reader)?);
                Content::Closed
            }
        };
        if !matches!(content, Content::Closed) {
            // The closing bracket.
            cursor.next();
            cursor.advance(1);
        }
        let text = cursor.text.get(start..cursor.at.get()).unwrap_or_default();
        Ok(Node {
            text,
            start,
            content,
        })
    }
}

impl<'a> Visitor<'a> for Opening<'_, 'a> {
    type Value = Content<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    never_a_scalar!(Content::Closed);

    fn visit_str<E>(self, _: &str) -> Result<Content<'a>, E> {
        Ok(Content::Closed)
    }

    fn visit_map<A: MapAccess<'a>>(self, mut object: A) -> Result<Content<'a>, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = object.next_key::<&RawValue>()? {
            self.cursor.pass(key);
            let key = unquoted(key.get()).map_err(A::Error::custom)?;
            match self.shape.member(&key) {
                Some(shape) => members.push((key, object.next_value_seed(self.of(shape))?)),
                None => self.cursor.pass(object.next_value()?),
            }
        }
        Ok(Content::Object(members))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<Content<'a>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(self.of(self.shape.item()))? {
            items.push(item);
        }
        Ok(Content::List(items))
    }
}
