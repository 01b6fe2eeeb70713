//! One pass over the bytes of a text that is known to be UTF-8. No recursion: the depth is a counter, and the stack is bounded.

use super::{Index, Kind, Node, plain::Ends};

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
    let mut parser = Parser { text, ends: Ends::new(text), nodes, open: Vec::with_capacity(8) };
    parser.document()?;
    Ok(parser.nodes)
}

/// Its methods are told where they begin, and tell where they end: a place that is kept in the parser is one that each of
/// them waits for.
struct Parser<'a> {
    text: &'a [u8],
    ends: Ends<'a>,
    nodes: Vec<Node>,
    /// Arrays and objects that are not closed yet, outermost first, and whether each is an object.
    open: Vec<(Index, bool)>,
}

impl Parser<'_> {
    fn document(&mut self) -> Result<(), Malformed> {
        let mut at = self.space(0);
        loop {
            // Here a value begins.
            let (end, inside) = self.value(at)?;
            at = end;
            if inside {
                continue;
            }
            // Here a value has ended: close what ends with it, until another one begins.
            loop {
                at = self.space(at);
                let Some(&(container, object)) = self.open.last() else {
                    return if at == self.text.len() {
                        Ok(())
                    } else {
                        Err(malformed("text after the document", at))
                    };
                };
                match (self.peek(at), object) {
                    (Some(b','), _) => {
                        at = self.space(at + 1);
                        if object {
                            at = self.name(at)?;
                        }
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => at = self.close(container, at),
                    _ => return Err(malformed("expected a comma or the end of the array or object", at)),
                }
            }
        }
    }

    /// Reads a scalar, an empty array or object, or (true) the beginning of another one, up to its first value.
    #[inline(always)]
    fn value(&mut self, at: usize) -> Result<(usize, bool), Malformed> {
        let (kind, end) = match self.peek(at) {
            Some(b'"') => self.string(at)?,
            Some(b'{') => return self.opening(at, true),
            Some(b'[') => return self.opening(at, false),
            Some(b'-' | b'0'..=b'9') => (Kind::Number, self.number(at)?),
            Some(b't') => (Kind::Bool, self.word(at, b"true")?),
            Some(b'f') => (Kind::Bool, self.word(at, b"false")?),
            Some(b'n') => (Kind::Null, self.word(at, b"null")?),
            _ => return Err(malformed("expected a value", at)),
        };
        self.push(kind, at, end);
        Ok((end, false))
    }

    fn opening(&mut self, at: usize, object: bool) -> Result<(usize, bool), Malformed> {
        if self.open.len() == DEPTH_MAX {
            return Err(malformed("nested too deep", at));
        }
        let container = self.push(if object { Kind::Object } else { Kind::Array }, at, at);
        self.open.push((container, object));
        let at = self.space(at + 1);
        match (self.peek(at), object) {
            (Some(b'}'), true) | (Some(b']'), false) => Ok((self.close(container, at), false)),
            (_, true) => Ok((self.name(at)?, true)),
            (_, false) => Ok((at, true)),
        }
    }

    fn close(&mut self, container: Index, at: usize) -> usize {
        self.open.pop();
        let next = self.next_index();
        let node = &mut self.nodes[container as usize];
        node.end = offset(at + 1);
        node.next = next;
        at + 1
    }

    /// A member's name and its colon, up to its value.
    #[inline(always)]
    fn name(&mut self, at: usize) -> Result<usize, Malformed> {
        if self.peek(at) != Some(b'"') {
            return Err(malformed("expected a member name", at));
        }
        let (kind, end) = self.string(at)?;
        self.push(kind, at, end);
        let at = self.space(end);
        if self.peek(at) != Some(b':') {
            return Err(malformed("expected a colon", at));
        }
        Ok(self.space(at + 1))
    }

    #[inline(always)]
    fn string(&mut self, at: usize) -> Result<(Kind, usize), Malformed> {
        let end = self.ends.from(at + 1);
        if self.peek(end) == Some(b'"') {
            return Ok((Kind::Plain, end + 1));
        }
        self.rest_of_string(end).map(|end| (Kind::Escaped, end))
    }

    /// From the first byte that does not stand for itself.
    #[inline(never)]
    fn rest_of_string(&mut self, mut at: usize) -> Result<usize, Malformed> {
        loop {
            at += match &self.text[at..] {
                [b'"', ..] => return Ok(at + 1),
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
                [b'\\', b'u', hex @ ..] if hex.len() >= 4 && hex[..4].iter().all(u8::is_ascii_hexdigit) => 6,
                [b'\\', ..] => return Err(malformed("unknown escape", at)),
                [..0x20, ..] => return Err(malformed("control character in a string", at)),
                [] => return Err(malformed("unfinished string", at)),
                _ => self.ends.from(at) - at,
            };
        }
    }

    /// RFC 8259 §6: `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`
    fn number(&self, mut at: usize) -> Result<usize, Malformed> {
        if self.peek(at) == Some(b'-') {
            at += 1;
        }
        at = if self.peek(at) == Some(b'0') { at + 1 } else { self.digits(at)? };
        if self.peek(at) == Some(b'.') {
            at = self.digits(at + 1)?;
        }
        if matches!(self.peek(at), Some(b'e' | b'E')) {
            at += 1;
            if matches!(self.peek(at), Some(b'+' | b'-')) {
                at += 1;
            }
            at = self.digits(at)?;
        }
        Ok(at)
    }

    fn digits(&self, start: usize) -> Result<usize, Malformed> {
        let mut at = start;
        while matches!(self.peek(at), Some(b'0'..=b'9')) {
            at += 1;
        }
        if at == start { Err(malformed("expected a digit", at)) } else { Ok(at) }
    }

    fn word(&self, at: usize, word: &'static [u8]) -> Result<usize, Malformed> {
        if !self.text[at..].starts_with(word) {
            return Err(malformed("expected a value", at));
        }
        Ok(at + word.len())
    }

    #[inline(always)]
    fn space(&self, mut at: usize) -> usize {
        while matches!(self.peek(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            at += 1;
        }
        at
    }

    #[inline(always)]
    fn peek(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    /// Adds a node that, as far as is known, ends there.
    #[inline(always)]
    fn push(&mut self, kind: Kind, start: usize, end: usize) -> Index {
        let index = self.next_index();
        self.nodes.push(Node { kind, start: offset(start), end: offset(end), next: index + 1 });
        index
    }

    fn next_index(&self) -> Index {
        offset(self.nodes.len())
    }
}

#[cold]
fn malformed(what: &'static str, at: usize) -> Malformed {
    Malformed { what, at }
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
    fn strings_end_wherever_they_do() {
        for plain in (0..200).map(|length| "x".repeat(length)) {
            for (end, good) in [("\"", true), ("\\\"é\"", true), ("\\u0041\"", true), ("\n\"", false)] {
                for text in
                    [format!("[\"{plain}{end},\"{plain}{end}]"), format!("{{\"{plain}{end}:\"{plain}{end}}}")]
                {
                    assert_eq!(parses(text.as_bytes()), good, "{text}");
                    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), good, "{text}");
                }
            }
            assert!(!parses(format!("\"{plain}").as_bytes()), "{plain}");
        }
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
