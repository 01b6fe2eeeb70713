//! An answer of the app's as it stands on the wire (RFC 9112): what counts of its head, and where its body ends.

use http::StatusCode;
use httparse::{Header, ParserConfig, Response, Status};
use std::mem::MaybeUninit;

/// Most fields in the head of an answer.
const FIELDS_MAX: usize = 100;

/// Most bytes of a line that tells the length of a chunk, its extensions included.
const CHUNK_LINE_BYTES_MAX: usize = 1024;

/// What came is not HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What counts of an answer's head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub status: StatusCode,
    /// The value of `Retry-After`, if there is one.
    pub retry_after: Option<String>,
    pub body: Body,
    /// Whether the app keeps the connection open.
    pub keeps: bool,
}

/// How an answer's body ends (RFC 9112 §6.3).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// After so many bytes.
    Length(u64),
    Chunked(Chunked),
    /// With the connection.
    Close,
}

/// Where in a chunked body we are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Chunked {
    /// In the line with a chunk's length; of it, what counts so far.
    #[default]
    SizeBegins,
    Size {
        bytes: u64,
        line_bytes: usize,
        /// Behind the digits: extensions, which say nothing to us.
        digits_ended: bool,
    },
    /// So many bytes to come, and the end of their line.
    Data(u64),
    DataEnds {
        cr: bool,
    },
    /// In a line behind the last chunk.
    Trailer {
        line_bytes: usize,
    },
}

// === impl Head ===

impl Head {
    /// The head at the beginning of `text` and its length, once it is whole.
    ///
    /// # Errors
    ///
    /// It cannot become one.
    pub(super) fn parse(text: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut response = Response::new(&mut []);
        let parsed =
            ParserConfig::default().parse_response_with_uninit_headers(&mut response, text, &mut fields);
        match parsed {
            Ok(Status::Partial) => Ok(None),
            Ok(Status::Complete(length)) => Self::read(&response).map(|head| Some((head, length))),
            Err(_) => Err(Malformed),
        }
    }

    fn read(response: &Response<'_, '_>) -> Result<Self, Malformed> {
        let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Malformed)?;
        let mut length = None;
        let is_old = response.version != Some(1);
        let (mut coded, mut chunked, mut closes) = (false, false, is_old);
        let mut retry_after = None;
        for Header { name, value } in response.headers.iter() {
            if name.eq_ignore_ascii_case("content-length") {
                let told = number(value).ok_or(Malformed)?;
                if length.replace(told).is_some_and(|before| before != told) {
                    return Err(Malformed);
                }
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                coded = true;
                chunked = tokens(value).last().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
            } else if name.eq_ignore_ascii_case("connection") {
                closes |= tokens(value).any(|token| token.eq_ignore_ascii_case(b"close"));
            } else if name.eq_ignore_ascii_case("retry-after") {
                let text = std::str::from_utf8(value).ok().map(|text| text.trim().to_owned());
                retry_after = retry_after.or(text);
            }
        }
        let bodiless = matches!(
            status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED | StatusCode::SWITCHING_PROTOCOLS
        );
        let body = match (coded, length) {
            _ if bodiless => Body::Length(0),
            // HTTP/1.0 has no codings: where such a body ends nobody knows (RFC 9112 §6.1).
            (true, _) if is_old => return Err(Malformed),
            (true, _) if chunked => Body::Chunked(Chunked::default()),
            (false, Some(length)) => Body::Length(length),
            _ => Body::Close,
        };
        // A length beside a coding: somebody on the way may read another answer (RFC 9112 §6.3).
        let ambiguous = coded && length.is_some();
        // Some apps send a body where there is none: the next answer would seem to begin with it.
        let ambiguous = ambiguous || bodiless && (coded || length.is_some_and(|length| length > 0));
        let keeps = !closes && !ambiguous && status != StatusCode::SWITCHING_PROTOCOLS;
        Ok(Self { status, retry_after, body, keeps })
    }
}

// === impl Body ===

impl Body {
    /// How many of these bytes are of the body, and whether it has ended.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        match self {
            Self::Length(left) => {
                let used = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= used as u64;
                Ok((used, *left == 0))
            }
            Self::Chunked(chunked) => chunked.take(bytes),
            Self::Close => Ok((bytes.len(), false)),
        }
    }
}

impl Chunked {
    /// As [`Body::take`].
    fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self {
                Self::SizeBegins => {
                    let digit = hex(byte).ok_or(Malformed)?;
                    *self = Self::Size { bytes: digit, line_bytes: 1, digits_ended: false };
                }
                Self::Size { bytes: size, .. } if byte == b'\n' => {
                    *self = if *size == 0 { Self::Trailer { line_bytes: 0 } } else { Self::Data(*size) };
                }
                Self::Size { bytes: size, line_bytes, digits_ended } => {
                    *line_bytes += 1;
                    match hex(byte).filter(|_| !*digits_ended) {
                        Some(digit) => *size = size.checked_mul(16).ok_or(Malformed)? | digit,
                        None if matches!(byte, b';' | b' ' | b'\t' | b'\r') => *digits_ended = true,
                        None if *digits_ended => {}
                        None => return Err(Malformed),
                    }
                    if *line_bytes > CHUNK_LINE_BYTES_MAX {
                        return Err(Malformed);
                    }
                }
                Self::Data(left) => {
                    let used = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    *left -= used as u64;
                    if *left == 0 {
                        *self = Self::DataEnds { cr: false };
                    }
                    at += used;
                    continue;
                }
                Self::DataEnds { cr } => match (byte, *cr) {
                    (b'\r', false) => *cr = true,
                    (b'\n', _) => *self = Self::SizeBegins,
                    _ => return Err(Malformed),
                },
                Self::Trailer { line_bytes } => match byte {
                    b'\n' if *line_bytes == 0 => return Ok((at + 1, true)),
                    b'\n' => *line_bytes = 0,
                    b'\r' => {}
                    _ => *line_bytes += 1,
                },
            }
            at += 1;
        }
        Ok((at, false))
    }
}

fn hex(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

/// Digits and nothing else: a sign is none.
fn number(text: &[u8]) -> Option<u64> {
    let digits = text.trim_ascii();
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| all_digits)?.parse().ok()
}

/// The elements of a list.
fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(lines: &str) -> Result<Head, Malformed> {
        let text = format!("HTTP/1.1 {lines}\r\n\r\n");
        let (head, length) = Head::parse(text.as_bytes())?.expect("whole");
        assert_eq!(length, text.len());
        Ok(head)
    }

    #[test]
    fn where_a_body_ends() {
        let body = |lines: &str| head(lines).map(|head| (head.body, head.keeps));
        let chunked = || Body::Chunked(Chunked::default());
        for (lines, expected) in [
            ("200 OK\r\ncontent-length: 5", (Body::Length(5), true)),
            ("200 OK\r\nContent-Length: 5\r\ncontent-length: 5", (Body::Length(5), true)),
            ("200 OK\r\ncontent-length: 5\r\nconnection: a, Close", (Body::Length(5), false)),
            ("200 OK\r\nTransfer-Encoding: Chunked", (chunked(), true)),
            ("200 OK\r\ntransfer-encoding: gzip, chunked", (chunked(), true)),
            ("200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5", (chunked(), false)),
            ("200 OK\r\ntransfer-encoding: chunked, gzip", (Body::Close, true)),
            ("200 OK", (Body::Close, true)),
            ("204 No Content\r\ncontent-length: 0", (Body::Length(0), true)),
            ("204 No Content\r\ncontent-length: 5", (Body::Length(0), false)),
            ("204 No Content\r\ntransfer-encoding: chunked", (Body::Length(0), false)),
            ("304 Not Modified", (Body::Length(0), true)),
            ("101 Switching Protocols", (Body::Length(0), false)),
        ] {
            assert_eq!(body(lines), Ok(expected), "{lines}");
        }
        for length in ["", "x", "+5", "-5", "5, 5", "18446744073709551616", "5\r\ncontent-length: 6"] {
            assert_eq!(body(&format!("200 OK\r\ncontent-length: {length}")), Err(Malformed), "{length}");
        }
        let old = b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n";
        assert!(!Head::parse(old).unwrap().unwrap().0.keeps);
        assert_eq!(Head::parse(b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), Err(Malformed));
    }

    #[test]
    fn what_else_counts() {
        let wait = |lines| head(lines).unwrap().retry_after;
        assert_eq!(wait("503 X\r\nRetry-After: 7 \r\nretry-after: 8").as_deref(), Some("7"));
        assert_eq!(wait("503 X"), None);
        assert_eq!(Head::parse(b"HTTP/1.1 200 OK\r\na: b\r\n"), Ok(None));
        for text in [
            "not http\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 99 X\r\n\r\n",
            "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
        ] {
            assert_eq!(Head::parse(text.as_bytes()), Err(Malformed), "{text}");
        }
        let many = |fields: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(fields));
        assert!(Head::parse(many(FIELDS_MAX).as_bytes()).is_ok());
        assert_eq!(Head::parse(many(FIELDS_MAX + 1).as_bytes()), Err(Malformed));
    }

    /// How many bytes a chunked body takes, if it comes in pieces of that size.
    fn chunked(text: &[u8], piece_bytes: usize) -> Result<Option<usize>, Malformed> {
        let (mut body, mut taken) = (Body::Chunked(Chunked::default()), 0);
        for piece in text.chunks(piece_bytes) {
            let (used, ended) = body.take(piece)?;
            taken += used;
            if ended {
                return Ok(Some(taken));
            }
            assert_eq!(used, piece.len());
        }
        Ok(None)
    }

    #[test]
    fn chunks_end_where_they_say() {
        for (text, rest) in [
            ("0\r\n\r\n", ""),
            ("0\r\n\r\nHTTP", "HTTP"),
            ("3\r\nabc\r\n00a;x=\"\r\"\r\n0123456789\r\n0\r\n\r\n", ""),
            ("3 \r\nabc\r\n0\r\nTrailer: x\r\n\r\n\r\n", "\r\n"),
            ("3\nabc\n0\n\nx", "x"),
        ] {
            for piece_bytes in 1..text.len() {
                assert_eq!(
                    chunked(text.as_bytes(), piece_bytes),
                    Ok(Some(text.len() - rest.len())),
                    "{text:?}"
                );
            }
        }
        for text in ["", "3\r\nab", "3\r\nabc\r\n", "0\r\n", "0\r\nx: y\r\n"] {
            assert_eq!(chunked(text.as_bytes(), 100), Ok(None), "{text:?}");
        }
        let long = |bytes: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "y".repeat(bytes - 3));
        assert!(chunked(long(CHUNK_LINE_BYTES_MAX).as_bytes(), 7).unwrap().is_some());
        for text in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "1x\r\n",
            "1\r\nab",
            "1\r\na\rb",
            "10000000000000000\r\n",
            &long(CHUNK_LINE_BYTES_MAX + 2),
        ] {
            assert_eq!(chunked(text.as_bytes(), 3), Err(Malformed), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(text in "([0-3a;\r\n ]|\r\n|0\r\n){0,30}", piece_bytes in 1usize..9) {
            let whole = chunked(text.as_bytes(), usize::MAX);
            prop_assert_eq!(chunked(text.as_bytes(), piece_bytes), whole);
        }

        #[test]
        fn no_head_panics(text in "(HTTP/1.[01] |[0-9]{3}|\r\n|content-length|transfer-encoding|: |chunked|[0-9 ,]|\\PC){0,30}") {
            drop(Head::parse(text.as_bytes()));
        }
    }
}
