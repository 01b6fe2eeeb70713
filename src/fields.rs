//! A request's head as it goes out: its first lines and its header fields, one behind the other in one buffer (RFC 9112 §5),
//! and a short body behind them.

use std::fmt;

/// First lines and fields of a request, each a line of its own.
#[derive(Default)]
pub struct Fields(Vec<u8>);

impl Fields {
    /// None yet behind these first lines, and room for so many bytes in all.
    #[must_use]
    pub fn behind(opening: &str, bytes: usize) -> Self {
        let mut lines = Vec::with_capacity(bytes);
        lines.extend_from_slice(opening.as_bytes());
        Self(lines)
    }

    /// Adds a field; `write` appends its value. Left out is what no field can hold: a value with a control character never
    /// ends a line.
    pub fn add(&mut self, name: &'static str, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.0.len();
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        let value = self.0.len();
        write(&mut self.0);
        if fits(&self.0[value..]) {
            self.0.extend_from_slice(b"\r\n");
        } else {
            self.0.truncate(start);
        }
    }

    /// Adds a field, if there can be one of that text.
    pub fn text(&mut self, name: &'static str, text: &str) {
        if fits(text.as_bytes()) {
            self.line(name, text);
        }
    }

    /// Adds a field of any text: what is no visible ASCII, `"` and `%` are percent-encoded (CloudEvents HTTP binding
    /// §3.1.3.2).
    pub fn encoded(&mut self, name: &'static str, text: &str) {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        let encodes = |byte: u8| matches!(byte, b'"' | b'%' | ..=0x20 | 0x7F..);
        if !text.bytes().fold(false, |any, byte| any | encodes(byte)) {
            return self.line(name, text);
        }
        self.add(name, |out| {
            for byte in text.bytes() {
                if encodes(byte) {
                    let digits = [byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]);
                    out.extend_from_slice(&[b'%', digits[0], digits[1]]);
                } else {
                    out.push(byte);
                }
            }
        });
    }

    /// Adds a field whose text fits.
    fn line(&mut self, name: &'static str, text: &str) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        self.0.extend_from_slice(text.as_bytes());
        self.0.extend_from_slice(b"\r\n");
    }

    /// Ends the fields with an empty line, and adds the body if there is room for it: whether there was.
    #[must_use = "without room, the body is still to be sent"]
    pub fn end(&mut self, body: &[u8]) -> bool {
        self.0.extend_from_slice(b"\r\n");
        let fits = body.len() <= self.0.capacity() - self.0.len();
        if fits {
            self.0.extend_from_slice(body);
        }
        fits
    }

    /// The lines.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Whether a value holds no control character but tabs. Eight bytes at a time, the last of them with some of those before:
/// nearly all hold none at all.
fn fits(value: &[u8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * EACH;
    // The high bit of each byte below 0x20, and of 0x7f; of others only above one of these.
    let controls = |bytes: &[u8; 8]| {
        let word = u64::from_le_bytes(*bytes);
        let (low, delete) = (word.wrapping_sub(0x20 * EACH), (word ^ (0x7f * EACH)).wrapping_sub(EACH));
        (low & !word | delete & !(word ^ (0x7f * EACH))) & HIGH
    };
    let plain = |last| value.as_chunks().0.iter().fold(controls(last), |all, word| all | controls(word)) == 0;
    let fits = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    value.last_chunk().is_some_and(plain) || value.iter().all(fits)
}

/// Shows how long they are: values may hold a signature.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fields({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_never_ends_its_line() {
        let mut fields = Fields::behind("", 64);
        fields.text("a", "canary 1");
        for byte in (0..0x20).chain([0x7f]).filter(|byte| *byte != b'\t') {
            fields.add("x", |out| out.extend_from_slice(&[b'v', byte, b'v']));
        }
        fields.text("x", "a\r\nx: a");
        fields.add("b", |out| out.extend_from_slice("é\t".as_bytes()));
        fields.text("c", "");
        assert_eq!(fields.as_bytes(), "a: canary 1\r\nb: é\t\r\nc: \r\n".as_bytes());
        assert!(!format!("{fields:?}").contains("canary"));
    }

    #[test]
    fn values_are_encoded_as_in_the_binding_s_example() {
        let encoded = |text: &str| {
            let mut fields = Fields::behind("", 64);
            fields.encoded("a", text);
            String::from_utf8(fields.0).unwrap()
        };
        assert_eq!(encoded("Euro € 😀"), "a: Euro%20%E2%82%AC%20%F0%9F%98%80\r\n");
        assert_eq!(encoded("a\"b%c\r\n\0\t\u{7f}~!"), "a: a%22b%25c%0D%0A%00%09%7F~!\r\n");
        assert_eq!(encoded("~!"), "a: ~!\r\n");
    }

    #[test]
    fn a_body_stands_behind_the_fields_where_there_is_room() {
        let ended = |body: &[u8]| {
            let mut fields = Fields::behind("POST / HTTP/1.1\r\n", 32);
            fields.text("a", "b");
            (fields.end(body), fields.as_bytes().to_vec())
        };
        let head = b"POST / HTTP/1.1\r\na: b\r\n\r\n";
        assert_eq!(ended(b"12345678"), (false, head.to_vec()), "one byte too long");
        assert_eq!(ended(b"1234567"), (true, [head, &b"1234567"[..]].concat()));
    }

    #[test]
    fn a_control_character_is_seen_wherever_it_stands() {
        for length in 0..20 {
            for (at, byte) in (0..length).flat_map(|at| (0..=255u8).map(move |byte| (at, byte))) {
                for filler in [b' ', b'a', b'~', 0x80, 0xff] {
                    let mut value = vec![filler; length];
                    value[at] = byte;
                    assert_eq!(
                        super::fits(&value),
                        byte == b'\t' || !(byte < 0x20 || byte == 0x7f),
                        "{value:?}"
                    );
                }
            }
        }
    }
}
