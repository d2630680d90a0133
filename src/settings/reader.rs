//! Reads JSON values by their expected type and collects what is wrong with them instead of stopping at the first.

use std::borrow::Cow;
use std::fmt;

use super::Problems;
use crate::json::{Member, Node, quoted};

/// Where a value stands, as in `hostPaths[3].mountPath`.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    /// A key that the user chose.
    Key(&'a str),
}

impl Place<'_> {
    pub(super) const ROOT: Place<'static> = Place {
        parent: None,
        step: Step::Root,
    };
}

impl<'a> Place<'a> {
    pub(super) fn field(&'a self, name: &'a str) -> Self {
        self.then(Step::Field(name))
    }

    pub(super) fn index(&'a self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    fn key(&'a self, key: &'a str) -> Self {
        self.then(Step::Key(key))
    }

    fn then(&'a self, step: Step<'a>) -> Self {
        Place {
            parent: Some(self),
            step,
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else {
            return f.write_str("settings");
        };
        if parent.parent.is_some() {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Field(name) if parent.parent.is_none() => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Key(key) => write!(f, "[{}]", quoted(key)),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Root => Ok(()),
        }
    }
}

/// Reads values and remembers every problem.
#[derive(Default)]
pub(super) struct Reader {
    problems: Vec<String>,
}

/// A key of an object, with what a form sends for it when its field is left empty.
#[derive(Clone, Copy)]
pub(super) struct Key {
    name: &'static str,
    is_empty_field: fn(&Node<'_>) -> bool,
}

/// A key whose value is a string, an empty one where a form's field is left empty.
pub(super) const fn text(name: &'static str) -> Key {
    Key {
        name,
        is_empty_field: |value| value.text == "\"\"",
    }
}

/// A key whose value is a list, `{}` where a form's field is left empty.
pub(super) const fn list(name: &'static str) -> Key {
    Key {
        name,
        is_empty_field: |value| value.members().is_some_and(<[_]>::is_empty),
    }
}

/// A key whose value is an object, `[]` where a form's field is left empty.
pub(super) const fn object(name: &'static str) -> Key {
    Key {
        name,
        is_empty_field: |value| value.items().is_some_and(<[_]>::is_empty),
    }
}

/// A key whose value no form leaves empty: a boolean, or a string that must be there.
pub(super) const fn filled(name: &'static str) -> Key {
    Key {
        name,
        is_empty_field: |_| false,
    }
}

/// An object that is being read, and the keys that it was asked for.
pub(super) struct Fields<'v> {
    place: Place<'v>,
    object: &'v Node<'v>,
    asked: Vec<&'static str>,
}

impl Reader {
    /// What was read, unless there was a problem.
    pub(super) fn finish<T>(self, read: Option<T>) -> Result<T, Problems> {
        match read {
            Some(read) if self.problems.is_empty() => Ok(read),
            _ => Err(Problems(self.problems)),
        }
    }

    pub(super) fn problem(&mut self, place: &Place<'_>, problem: impl fmt::Display) {
        self.problems.push(format!("{place}: {problem}"));
    }

    /// A problem of the value that stands there.
    pub(super) fn refuse(&mut self, place: &Place<'_>, value: &Node<'_>, problem: &str) {
        self.problem(place, format_args!("{} {problem}", shown(value)));
    }

    fn mismatch(&mut self, place: &Place<'_>, value: &Node<'_>, expected: &str) {
        self.refuse(place, value, &format!("is not {expected}"));
    }

    /// An object, and no other keys in it than those that `read` asks for.
    pub(super) fn object<'v, T>(
        &mut self,
        place: &Place<'v>,
        value: &'v Node<'v>,
        read: impl FnOnce(&mut Self, &mut Fields<'v>) -> Option<T>,
    ) -> Option<T> {
        let members = self.members(place, value)?;
        let mut fields = Fields {
            place: *place,
            object: value,
            asked: Vec::new(),
        };
        let before = self.problems.len();
        let read = read(self, &mut fields);
        // What is wrong inside comes behind what should not be there at all.
        let inside = self.problems.split_off(before);
        for (key, _) in members {
            if fields.asked.contains(&&**key) {
                continue;
            }
            let problem = match nearest(key, &fields.asked) {
                Some(nearest) => format!("no such key; did you mean {nearest}?"),
                None => format!("no such key; the keys are {}", fields.asked.join(", ")),
            };
            self.problem(&place.field(key), problem);
        }
        self.problems.extend(inside);
        read
    }

    fn members<'v>(&mut self, place: &Place<'_>, value: &'v Node<'v>) -> Option<&'v [Member<'v>]> {
        let members = value.members();
        if members.is_none() {
            self.mismatch(place, value, "an object; write one in { }");
        }
        members
    }

    /// A string that is not empty.
    pub(super) fn string(&mut self, place: &Place<'_>, value: &Node<'_>) -> Option<String> {
        let string = value.as_str();
        match &string {
            None => self.mismatch(place, value, "a string; write it in quotes"),
            Some(string) if string.is_empty() => {
                self.refuse(place, value, "is empty; write a value or leave it out");
            }
            Some(_) => return string.map(Cow::into_owned),
        }
        None
    }

    /// A whole number from 1.
    pub(super) fn count(&mut self, place: &Place<'_>, value: &Node<'_>) -> Option<u64> {
        let count = value.text.parse().ok();
        let count = count.filter(|count| (1..=MAX_COUNT).contains(count));
        if count.is_none() {
            self.mismatch(place, value, "a whole number from 1; write one, as in 1");
        }
        count
    }

    pub(super) fn boolean(&mut self, place: &Place<'_>, value: &Node<'_>) -> Option<bool> {
        let boolean = value.text.parse().ok();
        if boolean.is_none() {
            self.mismatch(place, value, "a boolean; write true or false");
        }
        boolean
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        place: &Place<'_>,
        value: &Node<'_>,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let word = value.as_str().unwrap_or_default();
        let chosen = choices.iter().find(|(name, _)| *name == word);
        if chosen.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let fix = nearest(&word, &names).map_or_else(|| names.join(" or "), str::to_owned);
            let expected = format!("one of {}; write {fix}", names.join(", "));
            self.mismatch(place, value, &expected);
        }
        chosen.map(|(_, choice)| *choice)
    }

    /// A list, with none for an item that has a problem.
    pub(super) fn list<T>(
        &mut self,
        place: &Place<'_>,
        value: &Node<'_>,
        mut item: impl FnMut(&mut Self, &Place<'_>, &Node<'_>) -> Option<T>,
    ) -> Option<Vec<Option<T>>> {
        let Some(items) = value.items() else {
            self.mismatch(place, value, "a list; write one in [ ]");
            return None;
        };
        let items = items.iter().enumerate();
        Some(
            items
                .map(|(index, value)| item(self, &place.index(index), value))
                .collect(),
        )
    }

    /// An object whose keys the user chooses, ordered by them.
    pub(super) fn map<T>(
        &mut self,
        place: &Place<'_>,
        value: &Node<'_>,
        mut member: impl FnMut(&mut Self, &Place<'_>, &str, &Node<'_>) -> Option<T>,
    ) -> Option<Vec<(String, T)>> {
        let mut read: Vec<(String, T)> = Vec::new();
        for (key, value) in self.members(place, value)? {
            if let Some(value) = member(self, &place.key(key), key, value) {
                // The last one counts, as in every object.
                read.retain(|(earlier, _)| earlier != key);
                let at = read.partition_point(|(earlier, _)| **earlier < **key);
                read.insert(at, (key.to_string(), value));
            }
        }
        Some(read)
    }
}

/// Kubernetes keeps a quantity in 64 bits with a sign.
const MAX_COUNT: u64 = i64::MAX as u64;

impl<'v> Fields<'v> {
    /// A member, unless it is missing, `null` or what a form sends for an empty field.
    pub(super) fn value(&mut self, key: Key) -> Option<&'v Node<'v>> {
        if !self.asked.contains(&key.name) {
            self.asked.push(key.name);
        }
        let value = self.object.get(key.name);
        value.filter(|value| !(key.is_empty_field)(value))
    }

    /// Reads a member, if there is one.
    pub(super) fn get<T>(
        &mut self,
        reader: &mut Reader,
        key: Key,
        read: impl FnOnce(&mut Reader, &Place<'_>, &'v Node<'v>) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        read(reader, &self.place.field(key.name), value)
    }

    /// Reads a member; where there is none, `default` stands for it, and where it is wrong, nothing.
    pub(super) fn get_or<T>(
        &mut self,
        reader: &mut Reader,
        key: Key,
        default: Option<T>,
        read: impl FnOnce(&mut Reader, &Place<'_>, &'v Node<'v>) -> Option<T>,
    ) -> Option<T> {
        match self.value(key) {
            Some(_) => self.get(reader, key, read),
            None => default,
        }
    }

    /// Reads a member into its place; where there is none, or it is wrong, what is there stays.
    pub(super) fn set<T>(
        &mut self,
        reader: &mut Reader,
        key: Key,
        target: &mut T,
        read: impl FnOnce(&mut Reader, &Place<'_>, &'v Node<'v>) -> Option<T>,
    ) {
        if let Some(value) = self.get(reader, key, read) {
            *target = value;
        }
    }

    /// Reads a member; that there is none is a problem, and `fix` is what to write.
    pub(super) fn require<T>(
        &mut self,
        reader: &mut Reader,
        key: Key,
        fix: &str,
        read: impl FnOnce(&mut Reader, &Place<'_>, &'v Node<'v>) -> Option<T>,
    ) -> Option<T> {
        if self.value(key).is_none() {
            let place = self.place.field(key.name);
            reader.problem(&place, format_args!("missing; write {fix}"));
        }
        self.get(reader, key, read)
    }
}

/// A value as a message shows it: whole where it is short.
fn shown(value: &Node<'_>) -> String {
    const LONGEST: usize = 60;
    match value.text.char_indices().nth(LONGEST) {
        None => value.text.to_owned(),
        Some((end, _)) => format!("{}…", value.text.get(..end).unwrap_or_default()),
    }
}

/// The candidate that a misspelt word most likely meant.
fn nearest<'c>(word: &str, candidates: &[&'c str]) -> Option<&'c str> {
    let word = word.to_ascii_lowercase();
    let distance = |candidate: &str| strsim::levenshtein(&word, &candidate.to_ascii_lowercase());
    let best = candidates
        .iter()
        .min_by_key(|candidate| distance(candidate))?;
    // With more than every fourth letter wrong it is another word.
    (distance(best) <= 1 + best.len() / 4).then_some(best)
}
