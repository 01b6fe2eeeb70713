//! HTTP/2 by hand (RFC 9113, RFC 7541): a client that sends whatever frames it likes, in whatever order.

use std::{
    io::{BufReader, BufWriter, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
};

use crate::{
    harness::signature,
    siege::{ATTACKER, connect_from},
};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames (RFC 9113 §6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

/// Settings (§6.5.2).
pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;
pub const MAX_HEADER_LIST_SIZE: u16 = 6;

/// Errors (§7).
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;

/// Longest payload of a frame, unless more is announced.
pub const FRAME_BYTES_MAX: usize = 16 << 10;

/// What a PING carries that marks the end of a flood.
const LAST: &[u8; 8] = b"the last";

/// A frame that arrived.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The number a payload begins with, behind so many bytes.
    pub fn number(&self, offset: usize) -> u32 {
        u32::from_be_bytes(self.payload[offset..offset + 4].try_into().expect("four bytes"))
    }

    /// What SETTINGS set.
    pub fn settings(&self) -> impl Iterator<Item = (u16, u32)> {
        let name = |at: usize| u16::from_be_bytes([self.payload[at], self.payload[at + 1]]);
        (0..self.payload.len()).step_by(6).map(move |at| (name(at), self.number(at + 2)))
    }
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub fn settings(of: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = of
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, &payload)
}

pub fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

pub fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// A block of literal fields: not indexed, not compressed (RFC 7541 §6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// A literal field that is kept in the table (§6.2.1): from then on, one byte names it.
pub fn kept(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0x40];
    text(&mut field, name);
    text(&mut field, value);
    field
}

/// The field kept last.
pub const KEPT: u8 = 0x80 | 62;

/// A string: its length, 7 bits of it in the first byte (§5.1, §5.2).
fn text(block: &mut Vec<u8>, text: &str) {
    match text.len() {
        short @ 0..127 => block.push(u8::try_from(short).expect("short")),
        long => {
            block.push(127);
            let mut rest = long - 127;
            while rest >= 128 {
                block.push(u8::try_from(rest % 128).expect("short") | 128);
                rest /= 128;
            }
            block.push(u8::try_from(rest).expect("short"));
        }
    }
    block.extend_from_slice(text.as_bytes());
}

/// The pseudo-header fields of a delivery.
pub const POST: [(&str, &str); 4] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "hooks.example.com"),
    (":path", "/in/sendauth"),
];

/// A head in as many frames as it takes.
pub fn headers(flags: u8, stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    packed(flags, stream, &block(fields))
}

/// A head of a block that is made already.
pub fn packed(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
    let mut pieces = block.chunks(FRAME_BYTES_MAX).peekable();
    let first = pieces.next().unwrap_or_default();
    let end = |last: bool| if last { END_HEADERS } else { 0 };
    let mut bytes = frame(HEADERS, flags | end(pieces.peek().is_none()), stream, first);
    while let Some(piece) = pieces.next() {
        bytes.extend(frame(CONTINUATION, end(pieces.peek().is_none()), stream, piece));
    }
    bytes
}

/// A head that is a delivery's, its body still to come.
pub fn post(stream: u32) -> Vec<u8> {
    headers(0, stream, &POST)
}

/// Head and body of a delivery of SendAuth's.
pub fn delivery(stream: u32, body: &[u8]) -> Vec<u8> {
    delivery_with(stream, &POST, &[], body)
}

/// A signed delivery with other fields in front and behind.
pub fn delivery_with(stream: u32, front: &[(&str, &str)], behind: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let (name, value) = signature("sendauth", body);
    let fields = [front, &[("content-type", "application/json"), (name, &value)], behind].concat();
    [headers(0, stream, &fields), frame(DATA, END_STREAM, stream, body)].concat()
}

/// A connection, its preface sent.
pub struct Http2 {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

/// How a flood ended.
#[derive(Debug)]
pub struct Flood {
    /// Whether the gateway closed the connection before the end.
    pub cut: bool,
    /// The error it said goodbye with, if that arrived.
    pub reason: Option<u32>,
    /// Units written.
    pub written: u32,
}

impl Http2 {
    /// Connects as an attacker does.
    pub fn open(to: SocketAddr) -> Self {
        Self::on(connect_from(ATTACKER, to), &[])
    }

    /// Speaks over a connection, with settings. The gateway is told to use no table for its fields, so that a status can
    /// be read without one.
    pub fn on(stream: TcpStream, more: &[(u16, u32)]) -> Self {
        let reader = BufReader::new(stream.try_clone().expect("a second handle"));
        let mut this = Self { stream, reader };
        let all = [&[(HEADER_TABLE_SIZE, 0), (ENABLE_PUSH, 0)], more].concat();
        this.write(&[PREFACE, &settings(&all)].concat());
        this
    }

    /// Writes; whether the gateway still took it.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The next frame; none if the connection is closed.
    pub fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        read(&mut self.reader, &mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("short")];
        read(&mut self.reader, &mut payload)?;
        let stream = u32::from_be_bytes(head[5..].try_into().expect("four bytes")) & (u32::MAX >> 1);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Whether the gateway closed the connection, by what has come back so far.
    pub fn is_closed(&mut self) -> bool {
        let mut bytes = [0; 1024];
        self.stream.set_nonblocking(true).expect("a mode");
        let read = self.reader.read(&mut bytes);
        self.stream.set_nonblocking(false).expect("a mode");
        match read {
            Ok(length) => length == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// What became of one request.
    pub fn answer(&mut self, stream: u32) -> Told {
        self.answers(1, |of| of == stream).pop().map_or(Told::Closed, |(_, told)| told)
    }

    /// What became of so many requests, in the order of their ends; fewer if the connection is closed before.
    pub fn answers(&mut self, count: usize, of: impl Fn(u32) -> bool) -> Vec<(u32, Told)> {
        let mut statuses = Vec::new();
        let mut told = Vec::new();
        while told.len() < count {
            let Some(frame) = self.read() else { break };
            if !of(frame.stream) {
                continue;
            }
            match frame.kind {
                RST_STREAM => told.push((frame.stream, Told::Reset(frame.number(0)))),
                HEADERS => statuses.push((frame.stream, status(&frame.payload))),
                _ => {}
            }
            if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                let status = statuses.iter().find(|(stream, _)| *stream == frame.stream);
                told.push((frame.stream, Told::Status(status.expect("HEADERS before DATA").1)));
            }
        }
        told
    }

    /// Sends unit after unit, reading all that comes back, until the gateway has taken them all or closed the connection.
    pub fn flood(mut self, units: impl Iterator<Item = Vec<u8>> + Send) -> Flood {
        // In pieces as a socket takes them: what the gateway does with many at once is what counts.
        let stream = self.stream.try_clone().expect("a second handle");
        let mut stream = BufWriter::with_capacity(FRAME_BYTES_MAX, stream);
        thread::scope(|scope| {
            let writer = scope.spawn(move || {
                let written = units.take_while(|unit| stream.write_all(unit).is_ok()).count();
                // Written to a connection just closed, it is lost; whoever reads will know.
                stream.write_all(&frame(PING, 0, 0, LAST)).and_then(|()| stream.flush()).ok();
                u32::try_from(written).expect("few")
            });
            let mut flood = Flood { cut: true, reason: None, written: 0 };
            while let Some(frame) = self.read() {
                if frame.kind == GOAWAY {
                    flood.reason = Some(frame.number(4));
                }
                if frame.kind == PING && frame.flags == ACK && frame.payload == LAST {
                    flood.cut = false;
                    break;
                }
            }
            flood.written = writer.join().expect("no panic");
            flood
        })
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Status(u16),
    /// By RST_STREAM with this error.
    Reset(u32),
    /// With its connection.
    Closed,
}

/// Reads exactly so many bytes; none if the connection is closed, also in the middle.
fn read(reader: &mut impl Read, bytes: &mut [u8]) -> Option<()> {
    match reader.read_exact(bytes) {
        Ok(()) => Some(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("neither answered nor closed"),
        Err(_) => None,
    }
}

/// The status, which is the first field: of the static table (RFC 7541, appendix A) or three digits, compressed.
fn status(block: &[u8]) -> u16 {
    // Changes of the table's size may stand in front.
    let mut block = block.iter().copied().skip_while(|byte| byte >> 5 == 1);
    let mut next = || block.next().expect("a status");
    match next() {
        indexed @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        // A name of the table: `:status`, in each of its forms.
        0x08 | 0x18 | 0x48 => match next() {
            3 => (0..3).fold(0, |status, _| status * 10 + u16::from(next() - b'0')),
            length => digits((0..length & 127).map(|_| next())),
        },
        other => panic!("no status: {other:#x}"),
    }
}

/// Three digits in the code of RFC 7541, appendix B: 0 to 2 have five bits, 3 to 9 six.
fn digits(bytes: impl Iterator<Item = u8>) -> u16 {
    let bits = bytes.flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
    let (mut code, mut length, mut digits) = (0, 0, Vec::new());
    for bit in bits {
        (code, length) = (code << 1 | bit, length + 1);
        let digit = match (length, code) {
            (5, 0..=2) => code,
            (6, 0b01_1001..=0b01_1111) => code - 0b01_1001 + 3,
            _ => continue,
        };
        digits.push(digit);
        (code, length) = (0, 0);
    }
    digits.iter().take(3).fold(0, |status, digit| status * 10 + digit)
}
