//! One pass over the bytes of a text that is known to be UTF-8. No recursion: the depth is a counter, and the stack is bounded.

use super::{Index, Kind, Node};

/// Arrays and objects inside each other; RFC 8259 §9 lets a parser set a limit.
pub const DEPTH_MAX: usize = 128;

/// Why a text is not one JSON document, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct Malformed {
    pub what: &'static str,
    pub at: usize,
}

pub(super) fn parse(text: &[u8]) -> Result<Vec<Node>, Malformed> {
    if u32::try_from(text.len()).is_err() {
        return Err(Malformed { what: "longer than 4 GiB", at: 0 });
    }
    // A member of a name and a value is seldom shorter: the list does not grow on the way.
    let nodes = Vec::with_capacity(text.len() / 10 + 4);
    let mut parser = Parser { text, at: 0, nodes, open: Vec::with_capacity(8) };
    parser.document()?;
    Ok(parser.nodes)
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    /// Arrays and objects that are not closed yet, outermost first, and whether each is an object.
    open: Vec<(Index, bool)>,
}

impl Parser<'_> {
    fn document(&mut self) -> Result<(), Malformed> {
        self.space();
        loop {
            // Here a value begins.
            if self.value()? && self.first_inside()? {
                continue;
            }
            // Here a value has ended: close what ends with it, until another one begins.
            loop {
                self.space();
                let Some(&(container, object)) = self.open.last() else {
                    return if self.at == self.text.len() {
                        Ok(())
                    } else {
                        Err(self.malformed("text after the document"))
                    };
                };
                match (self.peek(), object) {
                    (Some(b','), _) => {
                        self.at += 1;
                        self.space();
                        if object {
                            self.name()?;
                        }
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => self.close(container),
                    _ => return Err(self.malformed("expected a comma or the end of the array or object")),
                }
            }
        }
    }

    /// Reads a scalar, or the opening bracket of an array or object (true).
    #[inline]
    fn value(&mut self) -> Result<bool, Malformed> {
        let start = self.at;
        let kind = match self.peek() {
            Some(b'"') => self.string()?,
            Some(b'{') => return self.opening(true),
            Some(b'[') => return self.opening(false),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word(b"true", Kind::Bool)?,
            Some(b'f') => self.word(b"false", Kind::Bool)?,
            Some(b'n') => self.word(b"null", Kind::Null)?,
            _ => return Err(self.malformed("expected a value")),
        };
        self.push(kind, start);
        Ok(false)
    }

    fn opening(&mut self, object: bool) -> Result<bool, Malformed> {
        if self.open.len() == DEPTH_MAX {
            return Err(self.malformed("nested too deep"));
        }
        let container = self.push(if object { Kind::Object } else { Kind::Array }, self.at);
        self.open.push((container, object));
        self.at += 1;
        Ok(true)
    }

    /// After an opening bracket: true if a value follows, false if the bracket was closed at once.
    fn first_inside(&mut self) -> Result<bool, Malformed> {
        self.space();
        let Some(&(container, object)) = self.open.last() else { return Ok(false) };
        match (self.peek(), object) {
            (Some(b'}'), true) | (Some(b']'), false) => {
                self.close(container);
                Ok(false)
            }
            (_, true) => self.name().map(|()| true),
            (_, false) => Ok(true),
        }
    }

    fn close(&mut self, container: Index) {
        self.at += 1;
        self.open.pop();
        let next = self.next_index();
        let node = &mut self.nodes[container as usize];
        node.end = offset(self.at);
        node.next = next;
    }

    /// A member's name and its colon.
    #[inline]
    fn name(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.malformed("expected a member name"));
        }
        let kind = self.string()?;
        self.push(kind, start);
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.malformed("expected a colon"));
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    #[inline]
    fn string(&mut self) -> Result<Kind, Malformed> {
        self.at += 1;
        self.at += plain_bytes(&self.text[self.at..]);
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Kind::Plain);
        }
        self.rest_of_string().map(|()| Kind::Escaped)
    }

    /// From the first byte that does not stand for itself.
    fn rest_of_string(&mut self) -> Result<(), Malformed> {
        loop {
            let rest = &self.text[self.at..];
            self.at += match rest {
                [b'"', ..] => {
                    self.at += 1;
                    return Ok(());
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
                [b'\\', b'u', hex @ ..] if hex.len() >= 4 && hex[..4].iter().all(u8::is_ascii_hexdigit) => 6,
                [b'\\', ..] => return Err(self.malformed("unknown escape")),
                [..0x20, ..] => return Err(self.malformed("control character in a string")),
                [] => return Err(self.malformed("unfinished string")),
                rest => plain_bytes(rest),
            };
        }
    }

    /// RFC 8259 §6: `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
    fn number(&mut self) -> Result<Kind, Malformed> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Kind::Number)
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.malformed("expected a digit")) } else { Ok(()) }
    }

    fn word(&mut self, word: &'static [u8], kind: Kind) -> Result<Kind, Malformed> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.malformed("expected a value"));
        }
        self.at += word.len();
        Ok(kind)
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Adds a node that began at `start` and, as far as is known, ends here.
    #[inline]
    fn push(&mut self, kind: Kind, start: usize) -> Index {
        let at = self.next_index();
        self.nodes.push(Node { kind, start: offset(start), end: offset(self.at), next: at + 1 });
        at
    }

    fn next_index(&self) -> Index {
        offset(self.nodes.len())
    }

    fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, at: self.at }
    }
}

/// Bytes at the beginning that stand for themselves in a string: up to a quote, a backslash or a control character. Eight
/// at a time: most of a body is inside of strings.
#[inline]
pub(super) fn plain_bytes(text: &[u8]) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * EACH;
    // The high bit of each byte that is below `bound`, which is at most 0x80; wrong only above the first one that is.
    let below = |word: u64, bound: u64| word.wrapping_sub(bound * EACH) & !word & HIGH;
    let mut words = text.chunks_exact(8);
    let mut plain = 0;
    for bytes in words.by_ref() {
        // Unwrap safety: chunks of eight.
        let word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let ends = below(word, 0x20)
            | below(word ^ (u64::from(b'"') * EACH), 1)
            | below(word ^ (u64::from(b'\\') * EACH), 1);
        if ends != 0 {
            return plain + ends.trailing_zeros() as usize / 8;
        }
        plain += 8;
    }
    let (rest, ends) = (words.remainder(), |byte: &u8| matches!(byte, b'"' | b'\\' | ..0x20));
    plain + rest.iter().position(ends).unwrap_or(rest.len())
}

/// parse() refuses texts of more than 4 GiB, and there are no more nodes than bytes.
fn offset(value: usize) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::json::Document;

    fn parses(text: &[u8]) -> bool {
        Document::parse(Bytes::copy_from_slice(text)).is_ok()
    }

    #[test]
    fn what_ends_a_run_of_plain_bytes_is_found_wherever_it_stands() {
        for length in 0..40 {
            for (at, end) in (0..length).flat_map(|at| (0..=255u8).map(move |end| (at, end))) {
                for filler in [b'a', 0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7f, 0x80, 0xff] {
                    let mut text = vec![filler; length];
                    text[at] = end;
                    let ends = matches!(end, b'"' | b'\\' | 0..=0x1f);
                    assert_eq!(plain_bytes(&text), if ends { at } else { length }, "{text:?}");
                }
            }
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a list")]
    fn takes_every_json_text_and_nothing_else() {
        let good: &[&str] = &[
            "null",
            " true ",
            "false",
            "0",
            "-0",
            "1e400",
            "-1.5E+10",
            "\"\"",
            "\" \"",
            "\"\\u0000\"",
            "\"\\ud800\"",
            "[]",
            "{}",
            "[1,[2,{\"a\":[]}],\"x\"]",
            "{\"a\":1,\"a\":2}",
            "\t\r\n{\"\": {}}\n",
            "\"\u{7f}\u{2028}\"",
            "18446744073709551616",
            "[[],[[]]]",
            "{\"a\":{\"b\":{}},\"c\":[{}]}",
        ];
        for text in good {
            assert!(parses(text.as_bytes()), "{text}");
        }
        let bad: &[&[u8]] = &[
            b"",
            b" ",
            b"\xef\xbb\xbf{}",
            b"{}{}",
            b"{} x",
            b"[1,]",
            b"[,1]",
            b"{\"a\"}",
            b"{\"a\":}",
            b"{\"a\":1,}",
            b"{a:1}",
            b"{'a':1}",
            b"[1 2]",
            b"01",
            b"-",
            b"+1",
            b".5",
            b"1.",
            b"1e",
            b"1e+",
            b"0x10",
            b"NaN",
            b"Infinity",
            b"tru",
            b"nulll",
            b"\"\x00\"",
            b"\"\n\"",
            b"\"\x1f\"",
            b"\"\\x\"",
            b"\"\\u12g4\"",
            b"\"",
            b"[",
            b"{",
            b"]",
            b"}",
            b"[}",
            b"{]",
            b"\"\xff\"",
            b"\"\xc0\x80\"",
            b"\"\xed\xa0\x80\"",
            b"[1]\x00",
            b"/**/1",
            b"{\"a\":1 \"b\":2}",
            b"{1:2}",
            b"[\x0b]",
            b"\xa0",
            b"{\"a\" 1}",
        ];
        for text in bad {
            assert!(!parses(text), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parses(nested(DEPTH_MAX).as_bytes()));
        assert!(!parses(nested(DEPTH_MAX + 1).as_bytes()));
        assert!(!parses("[".repeat(1_000_000).as_bytes()));
    }

    #[test]
    fn no_beginning_of_a_text_panics() {
        let text = r#"{"a\"\u00e9": [-1.50e+7, true, false, null, "é\\", {"b": {}}, []], "": "\/"}"#;
        for end in 0..text.len() {
            assert!(!parses(&text.as_bytes()[..end]), "{end} bytes of {text}");
        }
        assert!(parses(text.as_bytes()));
    }

    #[test]
    fn nodes_point_at_their_text() {
        let text = r#" {"a": [1.10, "x\n", {"b": null}], "c": true} "#;
        let document = Document::parse(Bytes::from(text)).unwrap();
        let a = document.pointer("/a").unwrap();
        assert_eq!(document.raw(a), r#"[1.10, "x\n", {"b": null}]"#);
        let raws: Vec<_> = document.elements(a).map(|at| document.raw(at)).collect();
        assert_eq!(raws, ["1.10", r#""x\n""#, r#"{"b": null}"#]);
        assert_eq!(document.string(document.pointer("/a/1").unwrap()).unwrap(), "x\n");
        assert_eq!(document.raw(document.pointer("/c").unwrap()), "true");
        assert_eq!(document.pointer("/a/2/x"), None);
        assert_eq!(document.members(Document::ROOT).count(), 2);
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in r#"[\[\]{}:,"\\a-c0-2eE.+\- tfnulrse]{0,24}"#) {
            let theirs = serde_json::from_str::<Box<serde_json::value::RawValue>>(&text).is_ok();
            prop_assert_eq!(parses(text.as_bytes()), theirs, "{}", text);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parses(&bytes);
        }
    }
}
