//! The values of members, in the members' order. Most are the vendor's own texts: such a one takes one word, which goes from a
//! register to its place. Larger values that are put together first and moved then are waited for.

use std::borrow::Cow;

use super::convert::Value;
use crate::{
    identity::data::Field,
    json::{Document, Index},
};

/// Members of one object and their values.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Values {
    entries: Vec<Entry>,
    /// What is not the vendor's own.
    made: Vec<Value>,
}

/// A member's number, whether its value is made, and where it is: in the document, or in `made`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry(u64);

/// A member's value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kept<'a> {
    /// The vendor's own JSON text.
    Verbatim(Index),
    Made(&'a Value),
}

impl Values {
    pub(super) fn with_capacity(count: usize) -> Self {
        Self { entries: Vec::with_capacity(count), made: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds the vendor's own text.
    #[inline]
    pub(super) fn push_verbatim(&mut self, field: Field, at: Index) {
        self.entries.push(Entry::new(field, false, at));
    }

    /// Adds a value behind all others.
    pub(super) fn push(&mut self, field: Field, value: Value) {
        let entry = self.keep(field, value);
        self.entries.push(entry);
    }

    /// Adds a value where it belongs among those from `start` on.
    pub(super) fn insert(&mut self, start: usize, field: Field, value: Value) {
        let place = start + self.entries[start..].partition_point(|entry| entry.field() < field);
        let entry = self.keep(field, value);
        self.entries.insert(place, entry);
    }

    fn keep(&mut self, field: Field, value: Value) -> Entry {
        if let Value::Verbatim(at) = value {
            return Entry::new(field, false, at);
        }
        // There are no more than nodes in a document, and members.
        let at = self.made.len() as Index;
        self.made.push(value);
        Entry::new(field, true, at)
    }

    /// The members from `start` on that have a value.
    pub(super) fn fields(&self, start: usize) -> impl Iterator<Item = Field> + Clone {
        self.entries[start..].iter().map(|entry| entry.field())
    }

    pub(super) fn get(&self, field: Field) -> Option<Kept<'_>> {
        self.entries.iter().find(|entry| entry.field() == field).map(|entry| self.kept(*entry))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Field, Kept<'_>)> {
        self.entries.iter().map(|entry| (entry.field(), self.kept(*entry)))
    }

    fn kept(&self, entry: Entry) -> Kept<'_> {
        if entry.is_made() { Kept::Made(&self.made[entry.at() as usize]) } else { Kept::Verbatim(entry.at()) }
    }
}

impl Entry {
    fn new(field: Field, made: bool, at: Index) -> Self {
        Self(u64::from(field.0) << 40 | u64::from(made) << 32 | u64::from(at))
    }

    fn field(self) -> Field {
        Field((self.0 >> 40) as u8)
    }

    fn is_made(self) -> bool {
        self.0 >> 32 & 1 == 1
    }

    fn at(self) -> Index {
        self.0 as Index
    }
}

impl<'a> Kept<'a> {
    /// The value as text, where it is one.
    #[must_use]
    pub(super) fn text(self, document: &'a Document) -> Option<Cow<'a, str>> {
        match self {
            Self::Verbatim(at) | Self::Made(&Value::Verbatim(at)) => document.scalar(at),
            Self::Made(Value::Text(text)) => Some(Cow::Borrowed(text)),
            Self::Made(Value::Word(word)) => Some(Cow::Borrowed(word)),
            Self::Made(
                Value::Json(_)
                | Value::Tags(_)
                | Value::Bool(_)
                | Value::Time(..)
                | Value::Number(_)
                | Value::List(_),
            ) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_members_and_their_order() {
        let mut values = Values::with_capacity(1);
        values.push_verbatim(Field(7), Index::MAX);
        values.push(Field(255), Value::Word("word"));
        values.push(Field(255), Value::Verbatim(3));
        values.insert(1, Field(9), Value::Bool(true));
        values.insert(0, Field(0), Value::Text("text".into()));
        let kept: Vec<_> = values.iter().map(|(field, kept)| (field.0, format!("{kept:?}"))).collect();
        let expected = [
            (0, "Made(Text(\"text\"))"),
            (7, "Verbatim(4294967295)"),
            (9, "Made(Bool(true))"),
            (255, "Made(Word(\"word\"))"),
            (255, "Verbatim(3)"),
        ];
        assert_eq!(kept, expected.map(|(field, kept)| (field, kept.to_owned())));
        assert_eq!(values.fields(2).map(|field| field.0).collect::<Vec<_>>(), [9, 255, 255]);
        assert!(matches!(values.get(Field(9)), Some(Kept::Made(Value::Bool(true)))));
        assert!(values.get(Field(8)).is_none());
    }
}
