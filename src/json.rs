//! A JSON text, read once: all of it is checked, and only the levels that a [`Shape`] names are opened.
//!
//! A request is a few kilobytes of which we read a few dozen values, and each request pays for every pass over
//! the text. So there is one pass, which borrows everything and remembers where each opened value stands; that is
//! also what lets [`crate::pod`] extend a pod without touching what it does not know.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::str::Chars;

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

#[derive(Debug)]
enum Content<'a> {
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
    List(Vec<Node<'a>>),
    Closed,
}

/// The text is no JSON from this byte on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invalid {
    /// Byte offset of the first byte that does not fit.
    pub at: usize,
}

/// How deep lists and objects may nest: the bound of the policy server, which reads our answer.
const MAX_DEPTH: u32 = 127;

impl<'a> Node<'a> {
    /// Reads a whole text. Of members with the same key the last one counts, as it does for the policy server.
    ///
    /// # Errors
    /// The text is not exactly one JSON value, or nests deeper than 127 levels.
    pub fn parse(text: &'a str, shape: &Shape) -> Result<Self, Invalid> {
        let mut reader = Reader {
            text,
            at: 0,
            depth: 0,
        };
        reader.skip_space();
        let node = reader.open(shape)?;
        reader.skip_space();
        match reader.peek() {
            None => Ok(node),
            Some(_) => Err(reader.invalid()),
        }
    }

    /// The member of an opened object; none where it is absent, `null`, or this is no object.
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
    pub fn members(&self) -> Option<&[(Cow<'a, str>, Node<'a>)]> {
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
        let inside = self.text.strip_prefix('"')?.strip_suffix('"')?;
        Some(unescape(inside))
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
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for letter in self.0.chars() {
            match letter {
                '"' | '\\' => {
                    f.write_char('\\')?;
                    f.write_char(letter)?;
                }
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\0'..' ' => write!(f, "\\u{:04x}", u32::from(letter))?,
                _ => f.write_char(letter)?,
            }
        }
        f.write_char('"')
    }
}

/// Appends a text as JSON writes it; nearly always there is nothing to escape.
pub fn quote(text: &str, out: &mut String) {
    if text
        .bytes()
        .any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\'))
    {
        out.push_str(&Quoted(text).to_string());
    } else {
        out.push('"');
        out.push_str(text);
        out.push('"');
    }
}

/// What the inside of a string that was checked stands for.
fn unescape(raw: &str) -> Cow<'_, str> {
    if !raw.contains('\\') {
        return Cow::Borrowed(raw);
    }
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw.chars();
    while let Some(letter) = rest.next() {
        let letter = match letter {
            '\\' => escaped(&mut rest).unwrap_or(char::REPLACEMENT_CHARACTER),
            letter => letter,
        };
        text.push(letter);
    }
    Cow::Owned(text)
}

/// The character that an escape stands for, read from behind its backslash.
fn escaped(rest: &mut Chars<'_>) -> Option<char> {
    Some(match rest.next()? {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => match code_unit(rest)? {
            high @ 0xD800..=0xDBFF => {
                let low = rest.by_ref().nth(1).and_then(|_| code_unit(rest))?;
                char::from_u32(0x10000 + ((high - 0xD800) << 10) + low.checked_sub(0xDC00)?)?
            }
            unit => char::from_u32(unit)?,
        },
        itself => itself,
    })
}

fn code_unit(rest: &mut Chars<'_>) -> Option<u32> {
    let digits = rest.as_str().get(..4)?;
    rest.nth(3)?;
    u32::from_str_radix(digits, 16).ok()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
}

type Read<T> = Result<T, Invalid>;

impl<'a> Reader<'a> {
    fn invalid(&self) -> Invalid {
        Invalid { at: self.at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn since(&self, start: usize) -> Read<&'a str> {
        self.text.get(start..self.at).ok_or(self.invalid())
    }

    fn skip_space(&mut self) {
        self.at = space_end(self.text.as_bytes(), self.at);
    }

    fn expect(&mut self, byte: u8) -> Read<()> {
        self.at = expect(self.text.as_bytes(), self.at, byte)?;
        Ok(())
    }

    fn skip(&mut self) -> Read<()> {
        self.at = value_end(self.text.as_bytes(), self.at, self.depth)?;
        Ok(())
    }

    fn open(&mut self, shape: &Shape) -> Read<Node<'a>> {
        let start = self.at;
        let content = match (shape, self.peek()) {
            (Shape::Object(_) | Shape::Map | Shape::Tree, Some(b'{')) => {
                Content::Object(self.members(shape)?)
            }
            (Shape::List(_) | Shape::Tree, Some(b'[')) => Content::List(self.items(shape)?),
            _ => {
                self.skip()?;
                Content::Closed
            }
        };
        let text = self.since(start)?;
        Ok(Node {
            text,
            start,
            content,
        })
    }

    fn members(&mut self, shape: &Shape) -> Read<Vec<(Cow<'a, str>, Node<'a>)>> {
        let mut members = Vec::new();
        self.nested(b'{', b'}', |reader| {
            let key = reader.key()?;
            match shape.member(&key) {
                Some(shape) => members.push((key, reader.open(shape)?)),
                None => reader.skip()?,
            }
            Ok(())
        })?;
        Ok(members)
    }

    /// Reads a key and what stands between it and its value.
    fn key(&mut self) -> Read<Cow<'a, str>> {
        let bytes = self.text.as_bytes();
        let start = expect(bytes, self.at, b'"')?;
        let plain = plain_end(bytes, start);
        let (key, end) = match bytes.get(plain) {
            Some(b'"') => (self.text.get(start..plain).map(Cow::Borrowed), plain + 1),
            _ => {
                let end = string_end(bytes, plain)?;
                (self.text.get(start..end - 1).map(unescape), end)
            }
        };
        self.at = colon_end(bytes, end)?;
        key.ok_or(self.invalid())
    }

    fn items(&mut self, shape: &Shape) -> Read<Vec<Node<'a>>> {
        let mut items = Vec::new();
        self.nested(b'[', b']', |reader| {
            items.push(reader.open(shape.item())?);
            Ok(())
        })?;
        Ok(items)
    }

    fn nested(
        &mut self,
        open: u8,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Read<()>,
    ) -> Read<()> {
        self.expect(open)?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.invalid());
        }
        self.skip_space();
        if self.peek() != Some(close) {
            loop {
                item(self)?;
                self.skip_space();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
                self.skip_space();
            }
        }
        self.depth -= 1;
        self.expect(close)
    }
}

// Nearly all of a request is closed values: what follows is where the time goes. Each function takes where something
// begins and returns where it ends.

/// Reads any value, nested ones without recursion: the depth of a text must not be that of our stack.
fn value_end(bytes: &[u8], mut at: usize, outer_depth: u32) -> Read<usize> {
    let mut depth = outer_depth;
    // A bit for each open level, the innermost lowest: is it an object?
    let mut objects: u128 = 0;
    loop {
        let byte = bytes.get(at).copied();
        match byte {
            Some(b'"') => at = string_end(bytes, at + 1)?,
            Some(open @ (b'{' | b'[')) => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Invalid { at });
                }
                let is_object = open == b'{';
                objects = (objects << 1) | u128::from(is_object);
                at = space_end(bytes, at + 1);
                match bytes.get(at) {
                    Some(b'}') if is_object => {}
                    Some(b']') if !is_object => {}
                    _ if is_object => {
                        at = key_end(bytes, at)?;
                        continue;
                    }
                    _ => continue,
                }
            }
            Some(b't') => at = literal_end(bytes, at, b"true")?,
            Some(b'f') => at = literal_end(bytes, at, b"false")?,
            Some(b'n') => at = literal_end(bytes, at, b"null")?,
            _ => at = number_end(bytes, at)?,
        }
        // Behind a value: close what ends here, up to the next value.
        loop {
            if depth == outer_depth {
                return Ok(at);
            }
            let is_object = objects & 1 == 1;
            at = space_end(bytes, at);
            match bytes.get(at) {
                Some(b',') => {
                    at = space_end(bytes, at + 1);
                    if is_object {
                        at = key_end(bytes, at)?;
                    }
                    break;
                }
                Some(b'}') if is_object => {}
                Some(b']') if !is_object => {}
                _ => return Err(Invalid { at }),
            }
            at += 1;
            depth -= 1;
            objects >>= 1;
        }
    }
}

fn space_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\t' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

fn expect(bytes: &[u8], at: usize, byte: u8) -> Read<usize> {
    if bytes.get(at) == Some(&byte) {
        Ok(at + 1)
    } else {
        Err(Invalid { at })
    }
}

/// From a key to its value.
fn key_end(bytes: &[u8], at: usize) -> Read<usize> {
    colon_end(bytes, string_end(bytes, expect(bytes, at, b'"')?)?)
}

/// From behind a key to its value.
fn colon_end(bytes: &[u8], at: usize) -> Read<usize> {
    let at = expect(bytes, space_end(bytes, at), b':')?;
    Ok(space_end(bytes, at))
}

/// From behind a string's first quote to behind its last.
fn string_end(bytes: &[u8], mut at: usize) -> Read<usize> {
    loop {
        at = plain_end(bytes, at);
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at = escape_end(bytes, at + 1)?,
            _ => return Err(Invalid { at }),
        }
    }
}

/// The first byte that is a quote, a backslash or a control character: eight are looked at together.
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    /// Sets the high bit of the lowest zero byte, of none below it, and of bytes above it maybe.
    fn zero(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word
    }
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*word);
        let quotes = zero(word ^ (ONES * b'"' as u64));
        let backslashes = zero(word ^ (ONES * b'\\' as u64));
        let controls = word.wrapping_sub(ONES * b' ' as u64) & !word;
        let found = (quotes | backslashes | controls) & HIGHS;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..b' ') {
            break;
        }
        at += 1;
    }
    at
}

/// From behind a backslash.
fn escape_end(bytes: &[u8], at: usize) -> Read<usize> {
    if let Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') = bytes.get(at) {
        return Ok(at + 1);
    }
    let (unit, end) = code_unit_end(bytes, at)?;
    match unit {
        // A surrogate is half a character: the other half must follow.
        0xD800..0xDC00 => match code_unit_end(bytes, expect(bytes, end, b'\\')?)? {
            (0xDC00..0xE000, end) => Ok(end),
            _ => Err(Invalid { at: end }),
        },
        0xDC00..0xE000 => Err(Invalid { at }),
        _ => Ok(end),
    }
}

fn code_unit_end(bytes: &[u8], at: usize) -> Read<(u32, usize)> {
    let at = expect(bytes, at, b'u')?;
    let digits: &[u8; 4] = bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .ok_or(Invalid { at })?;
    let mut unit = 0;
    for digit in digits {
        let digit = char::from(*digit).to_digit(16).ok_or(Invalid { at })?;
        unit = (unit << 4) | digit;
    }
    Ok((unit, at + digits.len()))
}

fn literal_end(bytes: &[u8], at: usize, word: &[u8]) -> Read<usize> {
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.starts_with(word) {
        Ok(at + word.len())
    } else {
        Err(Invalid { at })
    }
}

fn number_end(bytes: &[u8], mut at: usize) -> Read<usize> {
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    at = match bytes.get(at) {
        Some(b'0') => at + 1,
        _ => digits_end(bytes, at)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits_end(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = digits_end(bytes, at)?;
    }
    Ok(at)
}

fn digits_end(bytes: &[u8], start: usize) -> Read<usize> {
    let mut at = start;
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at += 1;
    }
    if at == start {
        return Err(Invalid { at });
    }
    Ok(at)
}
