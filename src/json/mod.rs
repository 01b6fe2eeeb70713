//! Strict JSON, read once and never rebuilt. The whole text is validated (RFC 8259: UTF-8, one document, nothing after
//! it) and leaves a flat list of nodes that point into it, so that numbers and strings pass on exactly as they came.
//!
//! `serde_json` would do neither: typed or skipped members let invalid UTF-8 through, a `Value` loses number text and
//! takes the last of duplicate keys. Duplicate keys are legal here; whoever reads a path refuses them ([`Duplicate`]).

mod parse;
mod plain;
pub mod write;

use std::borrow::Cow;

use bytes::Bytes;
use bytestring::ByteString;

pub use self::parse::{DEPTH_MAX, Malformed};

/// One JSON text with its structure. Cheap to move; the text is shared, not copied.
#[derive(Clone)]
pub struct Document {
    /// Known to be UTF-8, so that no part of it has to be looked at again.
    text: ByteString,
    nodes: Vec<Node>,
}

/// A value's place in its [`Document`].
pub type Index = u32;

/// A member name or a value: 16 bytes.
#[derive(Clone, Copy, Debug)]
struct Node {
    kind: Kind,
    /// Bytes of the text, quotes and brackets included.
    start: u32,
    end: u32,
    /// The node behind this one and everything in it.
    next: Index,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    Bool,
    Number,
    /// Without escapes: the text between the quotes is the string.
    Plain,
    /// With escapes.
    Escaped,
    Array,
    Object,
}

/// One step of a JSON Pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into the member with this name.
    Name(Index),
    /// Into this element, from 0.
    Nth(u32),
}

/// A path that is read names a member twice in one object: parsers disagree on which one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a member that is read stands twice in one object")]
pub struct Duplicate;

impl Document {
    /// The value everything is in.
    pub const ROOT: Index = 0;

    /// Reads exactly one JSON text.
    ///
    /// # Errors
    ///
    /// Where and why the text is not one; never what it says.
    pub fn parse(text: Bytes) -> Result<Self, Malformed> {
        let text = ByteString::try_from(text)
            .map_err(|error| Malformed { what: "invalid UTF-8", at: error.valid_up_to() })?;
        let nodes = parse::parse(text.as_bytes())?;
        Ok(Self { text, nodes })
    }

    /// The bytes as they came.
    #[must_use]
    pub fn text(&self) -> &Bytes {
        self.text.as_bytes()
    }

    #[must_use]
    pub fn kind(&self, at: Index) -> Kind {
        self.node(at).kind
    }

    /// The value's own text, quotes and brackets included.
    #[must_use]
    pub fn raw(&self, at: Index) -> &str {
        let node = self.node(at);
        // Nodes begin and end at ASCII characters.
        self.text.get(node.start as usize..node.end as usize).unwrap_or_default()
    }

    /// The same in bytes.
    #[must_use]
    #[inline]
    pub fn raw_bytes(&self, at: Index) -> &[u8] {
        let node = self.node(at);
        self.text.as_bytes().get(node.start as usize..node.end as usize).unwrap_or_default()
    }

    /// Bytes of the value's own text, quotes and brackets included.
    #[must_use]
    pub fn bytes(&self, at: Index) -> usize {
        let node = self.node(at);
        (node.end - node.start) as usize
    }

    /// A string's content, escapes resolved. None for other kinds, and for escapes that name half a surrogate pair:
    /// those are legal JSON but no Unicode string.
    #[must_use]
    pub fn string(&self, at: Index) -> Option<Cow<'_, str>> {
        let raw = self.raw(at);
        match self.kind(at) {
            Kind::Plain => Some(Cow::Borrowed(raw.get(1..raw.len() - 1)?)),
            Kind::Escaped => serde_json::from_str(raw).ok().map(Cow::Owned),
            Kind::Null | Kind::Bool | Kind::Number | Kind::Array | Kind::Object => None,
        }
    }

    /// A string's content, or a number as it is spelt.
    #[must_use]
    pub fn scalar(&self, at: Index) -> Option<Cow<'_, str>> {
        match self.kind(at) {
            Kind::Number => Some(Cow::Borrowed(self.raw(at))),
            _ => self.string(at),
        }
    }

    /// `null` and `""`: there, but saying nothing.
    #[must_use]
    pub fn says_nothing(&self, at: Index) -> bool {
        let node = self.node(at);
        node.kind == Kind::Null || (node.kind == Kind::Plain && node.end - node.start == 2)
    }

    /// The members of an object: name and value. Nothing for other kinds.
    pub fn members(&self, at: Index) -> impl Iterator<Item = (Index, Index)> + '_ {
        // Behind a name stands its value.
        self.inside(at, Kind::Object).map(|name| (name, name + 1))
    }

    /// The elements of an array. Nothing for other kinds.
    pub fn elements(&self, at: Index) -> impl Iterator<Item = Index> + '_ {
        self.inside(at, Kind::Array)
    }

    /// The member of that name. None if it is not there or not once.
    #[must_use]
    pub fn member(&self, at: Index, name: &str) -> Option<Index> {
        let mut found = self.members(at).filter(|(key, _)| self.is_named(*key, name));
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value)
    }

    /// The value at a JSON Pointer (RFC 6901) without `~` escapes.
    #[must_use]
    pub fn pointer(&self, pointer: &str) -> Option<Index> {
        pointer.split('/').skip(1).try_fold(Self::ROOT, |at, step| match self.kind(at) {
            Kind::Array => self.elements(at).nth(step.parse().ok()?),
            _ => self.member(at, step),
        })
    }

    /// The steps of the pointer from one value to another inside it. Takes as long as what is passed by on the way.
    pub fn path(&self, from: Index, target: Index) -> impl Iterator<Item = Step> + '_ {
        let mut at = from;
        std::iter::from_fn(move || {
            if at == target {
                return None;
            }
            let inside = |value: &Index| (*value..self.end_of(*value)).contains(&target);
            let (step, value) = match self.kind(at) {
                Kind::Object => {
                    let mut members = self.members(at);
                    members.find(|(_, value)| inside(value)).map(|(name, value)| (Step::Name(name), value))
                }
                _ => {
                    let mut elements = (0..).zip(self.elements(at));
                    elements.find(|(_, value)| inside(value)).map(|(nth, value)| (Step::Nth(nth), value))
                }
            }?;
            at = value;
            Some(step)
        })
    }

    /// A step as it stands in a pointer, but for the escapes there.
    #[must_use]
    pub fn step(&self, step: Step) -> Cow<'_, str> {
        match step {
            Step::Name(name) => self.string(name).unwrap_or_else(|| Cow::Borrowed(self.raw(name))),
            Step::Nth(nth) => Cow::Owned(nth.to_string()),
        }
    }

    /// Whether a member's name, escapes resolved, is `name`.
    #[must_use]
    pub fn is_named(&self, key: Index, name: &str) -> bool {
        self.name(key).is_some_and(|key| *key == *name.as_bytes())
    }

    /// The bytes of a member's name, escapes resolved. None as for [`string`](Self::string).
    #[must_use]
    #[inline]
    pub fn name(&self, key: Index) -> Option<Cow<'_, [u8]>> {
        match self.plain(key) {
            Some(name) => Some(Cow::Borrowed(name)),
            None => self.string(key).map(|name| Cow::Owned(name.into_owned().into_bytes())),
        }
    }

    /// The bytes of a string without escapes. None for all else.
    #[must_use]
    #[inline]
    pub fn plain(&self, at: Index) -> Option<&[u8]> {
        let node = self.node(at);
        let inside = node.start as usize + 1..node.end as usize - 1;
        if node.kind == Kind::Plain { self.text.as_bytes().get(inside) } else { None }
    }

    /// Memory the structure takes, in bytes, beside the text.
    #[must_use]
    pub fn structure_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
    }

    /// How many nodes there are; indexes are below it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: a document has a root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node behind this one and everything in it.
    #[must_use]
    pub fn end_of(&self, at: Index) -> Index {
        self.node(at).next
    }

    /// Direct children; in an object the names alone.
    fn inside(&self, at: Index, kind: Kind) -> impl Iterator<Item = Index> + '_ {
        let node = self.node(at);
        let end = if node.kind == kind { node.next } else { at + 1 };
        let mut next = at + 1;
        std::iter::from_fn(move || {
            let here = next;
            (here < end).then(|| {
                let value = if kind == Kind::Object { here + 1 } else { here };
                next = self.node(value).next;
                here
            })
        })
    }

    fn node(&self, at: Index) -> Node {
        self.nodes[at as usize]
    }
}

impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Document({} bytes)", self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#" {"a":["x",1.10,"",null,"\u0041","\ud800",true,{"n":[]},[]],"b/c":{"d":[0,{"e":1}]},"b":1,"\u0062":2} "#;

    fn document() -> Document {
        Document::parse(TEXT.into()).unwrap()
    }

    fn raw<'a>(document: &'a Document, pointer: &str) -> Option<&'a str> {
        document.pointer(pointer).map(|at| document.raw(at))
    }

    #[test]
    fn a_text_stays_as_it_came() {
        let document = document();
        assert_eq!(document.text(), TEXT);
        assert_eq!(document.raw(Document::ROOT), TEXT.trim());
        let (values, names) = (19, 7);
        assert_eq!((document.len(), document.is_empty()), (values + names, false));
        assert_eq!(document.end_of(Document::ROOT) as usize, values + names);
        assert!(document.structure_bytes() >= 16 * (values + names));
    }

    #[test]
    fn strings_and_numbers_are_read_and_nothing_else() {
        let document = document();
        let elements: Vec<_> = document.elements(document.pointer("/a").unwrap()).collect();
        let strings: Vec<_> = elements.iter().map(|at| document.string(*at)).collect();
        let expected = [Some("x"), None, Some(""), None, Some("A"), None, None, None, None];
        assert_eq!(strings.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
        let scalars: Vec<_> = elements.iter().map(|at| document.scalar(*at)).collect();
        let expected = [Some("x"), Some("1.10"), Some(""), None, Some("A"), None, None, None, None];
        assert_eq!(scalars.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
        let nothing: Vec<_> = elements.iter().map(|at| document.says_nothing(*at)).collect();
        assert_eq!(nothing, [false, false, true, true, false, false, false, false, false]);
        // As long as an empty string, and none.
        let short = Document::parse("[10,1,[],{}]".into()).unwrap();
        assert!(short.elements(Document::ROOT).all(|at| !short.says_nothing(at)));
    }

    #[test]
    fn what_has_no_children_has_none() {
        let document = document();
        let a = document.pointer("/a").unwrap();
        assert_eq!((document.members(a).count(), document.elements(a).count()), (0, 9));
        assert_eq!(
            (document.members(Document::ROOT).count(), document.elements(Document::ROOT).count()),
            (4, 0)
        );
        for scalar in ["/a/0", "/a/6"] {
            let at = document.pointer(scalar).unwrap();
            assert_eq!((document.members(at).count(), document.elements(at).count()), (0, 0), "{scalar}");
        }
    }

    #[test]
    fn a_member_is_found_by_its_decoded_name_and_only_once() {
        let document = document();
        assert_eq!(raw(&document, "/a/7/n"), Some("[]"));
        assert_eq!(raw(&document, "/a/8"), Some("[]"));
        assert_eq!(raw(&document, ""), Some(TEXT.trim()));
        for missing in ["/b", "/x", "/a/9", "/a/n", "/a/-1", "/a/0/0"] {
            assert_eq!(raw(&document, missing), None, "{missing}");
        }
        let names: Vec<_> = document.members(Document::ROOT).map(|(name, _)| name).collect();
        let named_b: Vec<_> = names.iter().map(|name| document.is_named(*name, "b")).collect();
        assert_eq!(named_b, [false, false, true, true]);
        assert_eq!(document.member(Document::ROOT, "b"), None);
        assert!(document.member(Document::ROOT, "b/c").is_some());
    }

    #[test]
    fn every_value_has_its_path() {
        let document = document();
        let mut paths = Vec::new();
        let mut inside = vec![Document::ROOT];
        while let Some(at) = inside.pop() {
            inside.extend(document.elements(at).chain(document.members(at).map(|(_, value)| value)));
            let path: Vec<_> = document.path(Document::ROOT, at).map(|step| document.step(step)).collect();
            paths.push((path.join(" "), document.raw(at)));
        }
        paths.sort_unstable();
        let path = |path: &str| {
            paths.iter().filter(|(known, _)| known == path).map(|(_, raw)| *raw).collect::<Vec<_>>()
        };
        assert_eq!(path(""), [TEXT.trim()]);
        assert_eq!(path("a 1"), ["1.10"]);
        assert_eq!(path("a 7 n"), ["[]"]);
        assert_eq!(path("b/c d 1 e"), ["1"]);
        assert_eq!(path("b"), ["1", "2"]);
        assert_eq!(paths.len(), 19);
        let inner = document.member(Document::ROOT, "b/c").unwrap();
        let zero = document.elements(document.member(inner, "d").unwrap()).next().unwrap();
        let steps: Vec<_> = document.path(inner, zero).map(|step| document.step(step)).collect();
        assert_eq!(steps, ["d", "0"]);
        assert_eq!(document.path(inner, Document::ROOT).next(), None, "not inside");
    }
}
