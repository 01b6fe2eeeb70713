//! The bytes of an HTTP/1 connection, read beside hyper for what hyper takes without a word although another program
//! may read it as another request: it drops a length beside a transfer coding, and takes lines that end in a bare LF. And
//! for heads that are too long though they fit into hyper's buffer. Nothing is refused here. The request it is about carries
//! a [`Fault`], and whoever answers it decides.

use std::sync::{Arc, OnceLock};

use http::StatusCode;
use memchr::memchr;

/// Why a request is not to be taken, such as that two programs could read it as two different ones (RFC 9112 §11.2): an
/// extension of that request and of all behind it on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub reason: &'static str,
    pub status: StatusCode,
}

/// The first fault of a connection, and the number of the request it is in, from 0.
pub(super) type FirstFault = Arc<OnceLock<(u64, Fault)>>;

/// The first line of HTTP/2's preface (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// Longest lines of a chunked body that are followed, in bytes. hyper ends the connection at fewer: 16 KiB of extensions in
/// all, or of trailers.
const BODY_LINES_BYTES_MAX: usize = 64 << 10;

/// Where one request ends and the next begins.
#[derive(Debug)]
pub(super) struct Wire {
    at: At,
    /// The beginning of a line whose end is not here yet.
    line: Vec<u8>,
    /// Bytes of the head so far, or of the lines that tell of a chunk or stand behind the last one.
    lines_bytes: usize,
    head_bytes_max: usize,
    /// Whole heads so far.
    heads: u64,
    length: Option<u64>,
    coded: bool,
    fault: FirstFault,
}

#[derive(Clone, Copy, Debug)]
enum At {
    RequestLine,
    Fields,
    /// So many bytes of a body to come.
    Body(u64),
    ChunkSize,
    /// So many bytes of a chunk and of the end of its line to come.
    Chunk(u64),
    Trailers,
    /// Nothing is followed any more: there is a fault, or it is HTTP/2.
    Past,
}

impl Wire {
    /// Heads of more than `head_bytes_max` are a fault.
    pub(super) fn new(head_bytes_max: usize) -> Self {
        Self {
            at: At::RequestLine,
            line: Vec::new(),
            lines_bytes: 0,
            head_bytes_max,
            heads: 0,
            length: None,
            coded: false,
            fault: FirstFault::default(),
        }
    }

    pub(super) fn fault(&self) -> &FirstFault {
        &self.fault
    }

    /// Bytes have arrived, whole lines or not.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.at {
                At::Past => return,
                At::Body(left) => {
                    let (taken, rest) = take(left, bytes);
                    self.at = if taken == left { At::RequestLine } else { At::Body(left - taken) };
                    bytes = rest;
                }
                At::Chunk(left) => {
                    let (taken, rest) = take(left, bytes);
                    self.at = if taken == left { At::ChunkSize } else { At::Chunk(left - taken) };
                    bytes = rest;
                }
                At::RequestLine | At::Fields | At::ChunkSize | At::Trailers => {
                    let end = memchr(b'\n', bytes).map_or(bytes.len(), |lf| lf + 1);
                    let (line, rest) = bytes.split_at(end);
                    self.piece(line);
                    bytes = rest;
                }
            }
        }
    }

    /// A line, or a piece of one that came in several reads.
    fn piece(&mut self, piece: &[u8]) {
        self.lines_bytes += piece.len();
        let in_head = matches!(self.at, At::RequestLine | At::Fields);
        if in_head && self.lines_bytes > self.head_bytes_max {
            return self.fails("the head is too long", StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        if self.lines_bytes > BODY_LINES_BYTES_MAX.max(self.head_bytes_max) {
            return self.faulty("the lines of a chunked body are too long");
        }
        let ended = piece.last() == Some(&b'\n');
        if ended && self.line.is_empty() {
            return self.line(piece);
        }
        self.line.extend_from_slice(piece);
        if ended {
            let line = std::mem::take(&mut self.line);
            self.line(&line);
        }
    }

    fn line(&mut self, line: &[u8]) {
        let Some(text) = line.strip_suffix(b"\r\n") else {
            return self.faulty("a line ends in a bare LF");
        };
        match self.at {
            At::RequestLine if self.heads == 0 && line == PREFACE => self.at = At::Past,
            // Empty lines before a request are skipped (RFC 9112 §2.2).
            At::RequestLine if !text.is_empty() => self.at = At::Fields,
            At::Fields if text.is_empty() => self.head_ends(),
            At::Fields => self.field(text),
            At::ChunkSize => match chunk_bytes(text) {
                Some(0) => self.go_on(At::Trailers),
                Some(bytes) => self.go_on(At::Chunk(bytes)),
                None => self.faulty("the length of a chunk cannot be read"),
            },
            At::Trailers if text.is_empty() => self.go_on(At::RequestLine),
            At::RequestLine | At::Trailers | At::Body(_) | At::Chunk(_) | At::Past => {}
        }
    }

    fn field(&mut self, text: &[u8]) {
        let name = text.split(|byte| *byte == b':').next().unwrap_or_default();
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.coded = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let length = text.get(name.len() + 1..).unwrap_or_default().trim_ascii();
            match (self.length, number(length, 10)) {
                (None, Some(length)) => self.length = Some(length),
                (None, None) => self.faulty("the length cannot be read"),
                (Some(_), _) => self.faulty("there are several lengths"),
            }
        }
    }

    fn head_ends(&mut self) {
        match (self.length.take(), std::mem::take(&mut self.coded)) {
            (Some(_), true) => return self.faulty("there are a length and a transfer coding"),
            (None, true) => self.go_on(At::ChunkSize),
            (None | Some(0), false) => self.go_on(At::RequestLine),
            (Some(length), false) => self.go_on(At::Body(length)),
        }
        self.heads += 1;
    }

    /// What was bounded together has ended.
    fn go_on(&mut self, at: At) {
        self.at = at;
        self.lines_bytes = 0;
    }

    fn faulty(&mut self, reason: &'static str) {
        self.fails(reason, StatusCode::BAD_REQUEST);
    }

    /// The request whose head is being read is not to be trusted, nor what stands behind it. In the body of one, hyper
    /// ends the connection at the same place.
    fn fails(&mut self, reason: &'static str, status: StatusCode) {
        self.at = At::Past;
        self.line = Vec::new();
        self.fault.set((self.heads, Fault { reason, status })).unwrap_or_default();
    }
}

/// At most so many bytes, and the rest.
fn take(most: u64, bytes: &[u8]) -> (u64, &[u8]) {
    let taken = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    (taken as u64, &bytes[taken..])
}

/// Bytes of a chunk and of the end of its line, or 0 for the last one (RFC 9112 §7.1); extensions are skipped.
fn chunk_bytes(text: &[u8]) -> Option<u64> {
    let digits = text.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(text.len());
    match number(&text[..digits], 16)? {
        0 => Some(0),
        bytes => bytes.checked_add(2),
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    // A sign is no digit, whatever the standard library thinks.
    let all_digits = digits.iter().all(|byte| char::from(*byte).is_digit(radix));
    all_digits
        .then(|| str::from_utf8(digits).ok())
        .flatten()
        .and_then(|text| u64::from_str_radix(text, radix).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    /// The fault, if the text comes in pieces of that size.
    fn fault_in(text: &str, piece_bytes: usize) -> Option<(u64, &'static str)> {
        let mut wire = Wire::new(200);
        text.as_bytes().chunks(piece_bytes.max(1)).for_each(|piece| wire.read(piece));
        wire.fault().get().map(|(request, fault)| (*request, fault.reason))
    }

    fn fault(text: &str) -> Option<(u64, &'static str)> {
        let whole = fault_in(text, usize::MAX);
        for piece_bytes in 1..7 {
            assert_eq!(fault_in(text, piece_bytes), whole, "{text:?} in pieces of {piece_bytes}");
        }
        whole
    }

    #[test]
    fn what_hyper_takes_in_silence_is_told() {
        assert_eq!(fault(GET), None);
        let both = "there are a length and a transfer coding";
        for (lines, number, what) in [
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 1, both),
            ("transfer-encoding:x\r\ncontent-length:0\r\n\r\n", 1, both),
            ("content-length: 1\r\ncontent-length: 1\r\n\r\n", 1, "there are several lengths"),
            ("content-length: 1, 1\r\n\r\n", 1, "the length cannot be read"),
            ("content-length: +1\r\n\r\n", 1, "the length cannot be read"),
            ("content-length:\r\n\r\n", 1, "the length cannot be read"),
            ("content-length: 18446744073709551616\r\n\r\n", 1, "the length cannot be read"),
            ("host: a\n\r\n", 1, "a line ends in a bare LF"),
            ("host: a\r\n\n", 1, "a line ends in a bare LF"),
            (&format!("x: {}\r\n\r\n", "y".repeat(200)), 1, "the head is too long"),
        ] {
            let text = format!("{GET}POST / HTTP/1.1\r\n{lines}");
            assert_eq!(fault(&text), Some((number, what)), "{lines:?}");
        }
        assert_eq!(fault("\nGET / HTTP/1.1\r\n\r\n"), Some((0, "a line ends in a bare LF")));
        assert_eq!(fault("GET / HTTP/1.1\nhost: a\r\n\r\n"), Some((0, "a line ends in a bare LF")));
    }

    #[test]
    fn bodies_are_no_heads() {
        let faulty = "x: y\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n\n";
        let length = faulty.len();
        let sized = format!("POST / HTTP/1.1\r\nContent-Length: {length} \r\n\r\n{faulty}");
        assert_eq!(fault(&format!("\r\n{sized}{sized}{GET}")), None);
        assert_eq!(fault(&format!("{sized}{GET}\n")), Some((2, "a line ends in a bare LF")));
        let chunked = format!(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{length:x};a=b\r\n{faulty}\r\n0\r\na: b\r\n\r\n"
        );
        assert_eq!(fault(&format!("{chunked}{sized}{GET}")), None);
        assert_eq!(fault(&format!("{chunked}{GET}\n")), Some((2, "a line ends in a bare LF")));
        for size in ["+1", "", "x", "ffffffffffffffff", "10000000000000000"] {
            let chunked = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{size}\r\n");
            assert_eq!(fault(&chunked), Some((1, "the length of a chunk cannot be read")), "{size}");
        }
    }

    #[test]
    fn heads_fill_their_bound() {
        let head = |bytes: usize, line: &str| {
            let first = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n";
            let lines = line.repeat((bytes - first.len() - 7) / line.len());
            let last = "y".repeat(bytes - first.len() - lines.len() - 7);
            format!("{first}{lines}x: {last}\r\n\r\n")
        };
        for line in ["a: b\r\n", "host: a long one\r\n"] {
            let (fits, long) = (head(200, line), head(201, line));
            assert_eq!((fits.len(), long.len()), (200, 201));
            assert_eq!(fault(&fits), None, "{line:?}");
            // Each head has its own, and the lines of chunks and those behind the last have none so short.
            let body = format!("1;{}\r\nx\r\n0\r\n{}\r\n", "y".repeat(300), "a: b\r\n".repeat(60));
            assert_eq!(fault(&format!("{fits}{body}{fits}{body}")), None, "{line:?}");
            let too_long = |number| Some((number, "the head is too long"));
            assert_eq!(fault(&long), too_long(0), "{line:?}");
            assert_eq!(fault(&format!("{fits}{body}{long}")), too_long(1), "{line:?}");
        }
    }

    #[test]
    fn lines_without_an_end_are_not_kept() {
        let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        let extension = |bytes: usize| format!("{chunked}1;{}", "y".repeat(bytes - 2));
        assert_eq!(fault_in(&extension(BODY_LINES_BYTES_MAX), 1000), None);
        let too_long = Some((1, "the lines of a chunked body are too long"));
        assert_eq!(fault_in(&extension(BODY_LINES_BYTES_MAX + 1), 1000), too_long);
        let trailers = "a: b\r\n".repeat(BODY_LINES_BYTES_MAX / 6 + 1);
        assert_eq!(fault_in(&format!("{chunked}0\r\n{trailers}"), 1000), too_long);
    }

    #[test]
    fn what_stands_between_requests_is_none() {
        let bare = |number| Some((number, "a line ends in a bare LF"));
        assert_eq!(fault(&format!("\r\n\r\n{GET}\r\n\r\n\n")), bare(1), "empty lines");
        let trailers = "a: b\r\ncontent-length: 1\r\n\r\n";
        let chunked = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{trailers}");
        assert_eq!(fault(&format!("{chunked}{GET}\n")), bare(2), "trailers");
    }

    #[test]
    fn http_2_is_not_read() {
        assert_eq!(fault("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n\n\n"), None);
        assert_eq!(fault("PRI * HTTP/1.1\r\n\n"), Some((0, "a line ends in a bare LF")));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(bytes in "(\r\n|\n|POST / HTTP/1.1|content-length: |transfer-encoding: |[0-3]|x|:){0,40}", piece_bytes in 1usize..9) {
            prop_assert_eq!(fault_in(&bytes, piece_bytes), fault_in(&bytes, usize::MAX));
        }
    }
}
