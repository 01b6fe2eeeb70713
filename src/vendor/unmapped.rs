//! What no rule used: the vendor's members at their own places, secrets replaced. Identity event §5.1 and §5.4.

use std::{borrow::Cow, collections::BTreeMap};

use super::map::Usage;
use crate::{
    identity::redact::{REDACTED, Redactions},
    json::{Document, Index, Kind, Step, write},
};

/// Bytes of pointers to secrets that an event lists. Further secrets are replaced, and not listed: each pointer repeats
/// the names above it, so that a small body could make an event of any size.
const LISTED_BYTES_MAX: usize = 64 << 10;

/// Writes parts of a document with its secrets replaced, and remembers where they were.
pub(super) struct Redactor<'a> {
    document: &'a Document,
    redactions: &'a Redactions,
    path: Vec<Step>,
    /// What was replaced, and the JSON Pointers to it.
    redacted: BTreeMap<Index, String>,
    listed_bytes: usize,
}

/// A value whose path is known, so that those of values in it are found from there: an element of an array, or the
/// document.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub at: Index,
    /// The path of the array.
    pub above: &'p [Step],
    pub nth: Option<u32>,
}

impl Place<'_> {
    pub(super) const ROOT: Self = Self { at: Document::ROOT, above: &[], nth: None };
}

impl<'a> Redactor<'a> {
    pub(super) fn new(document: &'a Document, redactions: &'a Redactions) -> Self {
        Self { document, redactions, path: Vec::new(), redacted: BTreeMap::new(), listed_bytes: 0 }
    }

    /// JSON Pointers to what was replaced so far, in the document's order.
    pub(super) fn redacted(&self) -> impl ExactSizeIterator<Item = &str> {
        self.redacted.values().map(String::as_str)
    }

    /// Writes what is left of the document, which is an object. `item`: of that array only this element belongs to the event.
    pub(super) fn leftovers(&mut self, out: &mut Vec<u8>, usage: &Usage, item: Option<(Index, Index)>) {
        let start = out.len();
        if !self.leftover(out, Document::ROOT, usage, item) {
            out.truncate(start);
            out.extend_from_slice(b"{}");
        }
    }

    /// The path of a value below `place`.
    pub(super) fn path_to(&self, place: Place<'_>, at: Index) -> Vec<Step> {
        let mut path = place.above.to_vec();
        path.extend(place.nth.map(Step::Nth));
        path.extend(self.document.path(place.at, at));
        path
    }

    /// Writes a whole value below `place`.
    pub(super) fn whole(&mut self, out: &mut Vec<u8>, at: Index, place: Place<'_>) {
        self.path = self.path_to(place, at);
        self.copy(out, at);
        self.path.clear();
    }

    /// Writes an object of strings: other values as their JSON text, nulls not at all.
    pub(super) fn tags(&mut self, out: &mut Vec<u8>, at: Index, place: Place<'_>) {
        self.path = self.path_to(place, at);
        out.push(b'{');
        for (name, value) in self.document.members(at) {
            if self.document.kind(value) == Kind::Null {
                continue;
            }
            self.begin_member(out, name);
            match self.document.kind(value) {
                Kind::Plain | Kind::Escaped => self.copy(out, value),
                _ => {
                    let mut text = Vec::new();
                    self.copy(&mut text, value);
                    let already_text = text.starts_with(b"\"");
                    match std::str::from_utf8(&text) {
                        Ok(text) if !already_text => write::string(out, text),
                        _ => out.extend_from_slice(&text),
                    }
                }
            }
            self.path.pop();
        }
        out.push(b'}');
        self.path.clear();
    }

    /// Writes a value without what was used; false if nothing is left of it.
    fn leftover(
        &mut self,
        out: &mut Vec<u8>,
        at: Index,
        usage: &Usage,
        item: Option<(Index, Index)>,
    ) -> bool {
        if self.is_gone(at, usage) {
            return false;
        }
        if self.replaced(out, at) {
            return true;
        }
        match self.document.kind(at) {
            Kind::Object => {
                out.push(b'{');
                let mut members = self.document.members(at).peekable();
                let empty = members.peek().is_none();
                let mut any = empty;
                for (name, value) in members {
                    if self.is_gone(value, usage) {
                        continue;
                    }
                    let mark = out.len();
                    self.begin_member(out, name);
                    let left = self.leftover(out, value, usage, item);
                    if !left {
                        out.truncate(mark);
                    }
                    any |= left;
                    self.path.pop();
                }
                out.push(b'}');
                any
            }
            Kind::Array => match item {
                Some((array, item_at)) if array == at => {
                    let mut elements = (0..).zip(self.document.elements(at));
                    let position = elements.find(|(_, element)| *element == item_at).map(|(nth, _)| nth);
                    self.path.push(Step::Nth(position.unwrap_or(0)));
                    out.push(b'[');
                    let left = self.leftover(out, item_at, usage, None);
                    out.push(b']');
                    self.path.pop();
                    left
                }
                // An array is kept whole: its elements' places mean something.
                _ => {
                    let left = self.is_left(at, usage);
                    if left {
                        self.copy(out, at);
                    }
                    left
                }
            },
            Kind::Null | Kind::Bool | Kind::Number | Kind::Plain | Kind::Escaped => {
                out.extend_from_slice(self.document.raw_bytes(at));
                true
            }
        }
    }

    /// Whether a value was used, or says nothing.
    fn is_gone(&self, at: Index, usage: &Usage) -> bool {
        usage.is_consumed(at) || self.document.says_nothing(at)
    }

    /// Whether anything in an array that says something was not used.
    fn is_left(&self, at: Index, usage: &Usage) -> bool {
        if self.is_gone(at, usage) {
            return false;
        }
        let is_empty = self.document.end_of(at) == at + 1;
        match self.document.kind(at) {
            Kind::Array => is_empty || self.document.elements(at).any(|element| self.is_left(element, usage)),
            Kind::Object => {
                is_empty || self.document.members(at).any(|(_, value)| self.is_left(value, usage))
            }
            Kind::Null | Kind::Bool | Kind::Number | Kind::Plain | Kind::Escaped => true,
        }
    }

    fn copy(&mut self, out: &mut Vec<u8>, at: Index) {
        if self.replaced(out, at) {
            return;
        }
        match self.document.kind(at) {
            Kind::Object => {
                out.push(b'{');
                for (name, value) in self.document.members(at) {
                    self.begin_member(out, name);
                    self.copy(out, value);
                    self.path.pop();
                }
                out.push(b'}');
            }
            Kind::Array => {
                out.push(b'[');
                for (nth, element) in (0..).zip(self.document.elements(at)) {
                    write::comma(out);
                    self.path.push(Step::Nth(nth));
                    self.copy(out, element);
                    self.path.pop();
                }
                out.push(b']');
            }
            Kind::Null | Kind::Bool | Kind::Number | Kind::Plain | Kind::Escaped => {
                out.extend_from_slice(self.document.raw_bytes(at));
            }
        }
    }

    /// Replaces a secret. Nulls and empty texts are none.
    fn replaced(&mut self, out: &mut Vec<u8>, at: Index) -> bool {
        if self.document.says_nothing(at) {
            return false;
        }
        let nameable = !matches!(self.document.kind(at), Kind::Bool | Kind::Number);
        if !self.redactions.hides(&self.steps(), nameable) {
            return false;
        }
        write::string(out, REDACTED);
        if self.listed_bytes > LISTED_BYTES_MAX {
            return true;
        }
        let escaped = |step: Cow<'_, str>| step.replace('~', "~0").replace('/', "~1");
        let pointer: String = self.steps().flat_map(|step| ["/".to_owned(), escaped(step)]).collect();
        self.listed_bytes += pointer.len();
        self.redacted.insert(at, pointer);
        true
    }

    /// Writes a member's name as it came, and steps into it.
    fn begin_member(&mut self, out: &mut Vec<u8>, name: Index) {
        write::comma(out);
        out.extend_from_slice(self.document.raw_bytes(name));
        out.push(b':');
        self.path.push(Step::Name(name));
    }

    /// The path as it is spelt in a pointer, but for the escapes there.
    fn steps(&self) -> impl DoubleEndedIterator<Item = Cow<'a, str>> + ExactSizeIterator + Clone {
        let document = self.document;
        self.path.iter().map(move |step| document.step(*step))
    }
}
