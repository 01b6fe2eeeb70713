//! The bytes of a connection, through hyper and the server's own layers. Whatever gets past `stage::head` is read a second
//! time by a strict reader, which must find the very same requests: none that another program could take for another
//! one. And it makes no difference in which pieces the bytes arrive.
//!
//! An input is the number of pieces' lengths, so many lengths (used in turn), and the bytes.

#![no_main]

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use hookwarden::{
    server::{Bounds, Inbound, Settings, serve_stream},
    stage::{Answer, head::head, rescue::rescue},
};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use libfuzzer_sys::fuzz_target;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::{Builder, Runtime},
    task::yield_now,
};
use tower::BoxError;
use tower_http::body::UnsyncBoxBody;

/// What HTTP/2 begins with (RFC 9113 §3.4): frames are not judged here.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// As `stage::head` has it.
const TARGET_BYTES_MAX: usize = 8 << 10;
const FIELDS_MAX: usize = 100;
/// How often a connection is polled in vain until nothing more is expected of it.
const QUIET_POLLS: usize = 8;

thread_local!(static RUNTIME: Runtime = Builder::new_current_thread().enable_time().build().expect("a runtime"));

/// A request as somebody read it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    method: String,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
    /// None: it does not come to its end.
    body: Option<Bytes>,
}

// === what the gateway reads ===

/// A connection whose bytes arrive in pieces; what is written to it is kept.
struct Pieces {
    bytes: Bytes,
    lengths: Vec<u8>,
    next: usize,
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    written: RefCell<Vec<u8>>,
    reads: Cell<usize>,
    /// The client has closed.
    ended: Cell<bool>,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.lengths.get(self.next).map_or(usize::MAX, |length| usize::from(*length) + 1);
        self.next = (self.next + 1) % self.lengths.len().max(1);
        let length = length.min(self.bytes.len()).min(buf.remaining());
        if length == 0 && !self.shared.ended.get() {
            // Whoever serves is polled until it has done all it can.
            return Poll::Pending;
        }
        self.shared.reads.set(self.shared.reads.get() + 1);
        buf.put_slice(&self.bytes.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pieces {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.written.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The requests that get past the head's stage, and the statuses of all answers.
fn taken(bytes: &Bytes, lengths: &[u8]) -> (Vec<Seen>, Vec<String>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let shared = Rc::<Shared>::default();
    let stream =
        Pieces { bytes: bytes.clone(), lengths: lengths.into(), next: 0, shared: Rc::clone(&shared) };
    let handler = {
        let seen = Arc::clone(&seen);
        move |request: Request<Inbound>| {
            let seen = Arc::clone(&seen);
            let below = tower::service_fn(move |request| {
                let seen = Arc::clone(&seen);
                async move { Ok(note(*head(request)?, &seen).await) }
            });
            async move {
                match rescue(below, request).await {
                    Ok(answer) => answer,
                    Err(never) => match never {},
                }
            }
        }
    };
    RUNTIME.with(|runtime| runtime.block_on(served(stream, &shared, handler)));
    let seen = seen.lock().expect("whole").clone();
    let written = String::from_utf8_lossy(&shared.written.borrow()).into_owned();
    let statuses = written.lines().filter(|line| line.starts_with("HTTP/1.")).map(str::to_owned);
    (seen, statuses.collect())
}

/// Serves until nothing happens any more, and then until the client's end is noticed.
async fn served<F, Fut>(stream: Pieces, shared: &Shared, handler: F)
where
    F: Fn(Request<Inbound>) -> Fut,
    Fut: Future<Output = Answer> + Send + 'static,
{
    let mut serving = pin!(serve_stream(stream, Bounds::from(&Settings::default()), handler));
    let (mut quiet, mut reads) = (0, 0);
    while quiet < QUIET_POLLS {
        if poll_fn(|cx| Poll::Ready(serving.as_mut().poll(cx).is_ready())).await {
            return;
        }
        yield_now().await;
        quiet = if shared.reads.get() == reads { quiet + 1 } else { 0 };
        reads = shared.reads.get();
    }
    shared.ended.set(true);
    drop(serving.await);
}

async fn note(
    request: Request<Inbound>,
    seen: &Mutex<Vec<Seen>>,
) -> Response<UnsyncBoxBody<Bytes, BoxError>> {
    let (head, mut body) = request.into_parts();
    let fields =
        head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    let place = {
        let mut seen = seen.lock().expect("whole");
        seen.push(Seen {
            method: head.method.to_string(),
            target: head.uri.to_string(),
            fields: fields.collect(),
            body: None,
        });
        seen.len() - 1
    };
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => frame.data_ref().into_iter().for_each(|data| whole.extend_from_slice(data)),
            Err(_) => return answer(),
        }
    }
    seen.lock().expect("whole")[place].body = Some(whole.freeze());
    answer()
}

fn answer() -> Response<UnsyncBoxBody<Bytes, BoxError>> {
    Response::new(UnsyncBoxBody::new(Empty::new().map_err(|never| match never {})))
}

// === what a strict reader reads ===

/// The requests up to the first thing that is not beyond doubt (RFC 9112); of the last one, the body may not be whole.
fn strict(bytes: &[u8]) -> Vec<Seen> {
    let mut all = Vec::new();
    let mut rest = Some(bytes);
    while let Some((seen, behind)) = rest.and_then(request) {
        all.push(seen);
        rest = behind;
    }
    all
}

/// A request, and what stands behind it if it is clear where it ends.
fn request(mut bytes: &[u8]) -> Option<(Seen, Option<&[u8]>)> {
    // Empty lines before it are nothing (§2.2).
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    let (first, mut rest) = line(bytes)?;
    let first = str::from_utf8(first).ok()?;
    let [method, target, version] = first.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let is_1_1 = version == "HTTP/1.1";
    if !(is_1_1 || version == "HTTP/1.0")
        || matches!(method, "CONNECT" | "TRACE")
        || target.len() > TARGET_BYTES_MAX
    {
        return None;
    }
    let mut fields = Vec::new();
    loop {
        let (field, behind) = line(rest)?;
        rest = behind;
        if field.is_empty() {
            break;
        }
        let colon = field.iter().position(|byte| *byte == b':')?;
        let name = str::from_utf8(&field[..colon]).ok()?.to_ascii_lowercase();
        if name.is_empty() || name.contains(|c: char| c.is_ascii_whitespace() || c.is_ascii_control()) {
            return None;
        }
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let value = &field[colon + 1..];
        let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
        let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |at| at + 1);
        fields.push((name, value[start..end].to_vec()));
    }
    let of = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_slice()).collect()
    };
    let hosts_fit = of("host").len() == 1 || (!is_1_1 && of("host").is_empty());
    if !hosts_fit || !of("upgrade").is_empty() || fields.len() > FIELDS_MAX {
        return None;
    }
    let (body, rest) = match (of("content-length").as_slice(), of("transfer-encoding").as_slice()) {
        ([], []) => (Some(Bytes::new()), Some(rest)),
        ([length], []) => {
            let length: usize = digits(length, 10)?;
            (rest.get(..length).map(Bytes::copy_from_slice), rest.get(length..))
        }
        ([], [coding]) if is_1_1 && coding.eq_ignore_ascii_case(b"chunked") => match chunks(rest) {
            Some((body, rest)) => (Some(body), trailers(rest)),
            None => (None, None),
        },
        _ => return None,
    };
    Some((Seen { method: method.into(), target: target.into(), fields, body }, rest))
}

/// A line that ends in CR LF, and holds neither elsewhere.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    Some((&bytes[..at], bytes[at..].strip_prefix(b"\r\n")?))
}

/// The chunks up to the last one, and what stands behind that.
fn chunks(mut bytes: &[u8]) -> Option<(Bytes, &[u8])> {
    let mut body = BytesMut::new();
    loop {
        let (size, rest) = line(bytes)?;
        let size = size.split(|byte| matches!(byte, b';' | b' ' | b'\t')).next()?;
        let size = digits(size, 16)?;
        if size == 0 {
            return Some((body.freeze(), rest));
        }
        body.extend_from_slice(rest.get(..size)?);
        bytes = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

fn trailers(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let (trailer, rest) = line(bytes)?;
        bytes = rest;
        if trailer.is_empty() {
            return Some(bytes);
        }
    }
}

fn digits(text: &[u8], radix: u32) -> Option<usize> {
    let text = str::from_utf8(text).ok().filter(|text| text.chars().all(|c| c.is_digit(radix)))?;
    usize::from_str_radix(text, radix).ok()
}

fn same(ours: &Seen, theirs: &Seen) -> bool {
    // Fields are compared by name, in their order; hyper keeps them so.
    let sorted = |seen: &Seen| {
        let mut fields = seen.fields.clone();
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        fields
    };
    // A fragment is left away, for one.
    let target = ours.target.parse().map(|target: Uri| target.to_string());
    // A body that breaks off is refused, wherever it does.
    ours.method == theirs.method
        && target.is_ok_and(|target| target == theirs.target)
        && theirs.body.as_ref().is_none_or(|body| ours.body.as_ref() == Some(body))
        && sorted(ours) == sorted(theirs)
}

fuzz_target!(|input: &[u8]| {
    let [count, rest @ ..] = input else { return };
    let (lengths, bytes) = rest.split_at(rest.len().min(usize::from(count % 16)));
    let bytes = Bytes::copy_from_slice(bytes);
    let (seen, statuses) = taken(&bytes, &[]);
    if bytes.starts_with(PREFACE) {
        return;
    }
    let strict = strict(&bytes);
    for (number, taken) in seen.iter().enumerate() {
        let read = strict.get(number);
        assert!(read.is_some_and(|read| same(read, taken)), "taken: {taken:?}\nread: {read:?}");
    }
    let (seen_in_pieces, statuses_in_pieces) = taken(&bytes, lengths);
    assert_eq!(seen_in_pieces, seen, "in pieces of {lengths:?}");
    // Of a head that never ends, hyper sees faults early or not at all, by the pieces.
    let (short, long) = if statuses.len() < statuses_in_pieces.len() {
        (statuses, statuses_in_pieces)
    } else {
        (statuses_in_pieces, statuses)
    };
    let more = long.strip_prefix(short.as_slice());
    assert!(
        // hyper answers in the version of the request before.
        more.is_some_and(
            |more| matches!(more, [] | [_]) && more.iter().all(|line| line.ends_with(" 400 Bad Request"))
        ),
        "in pieces of {lengths:?}: {short:?}, {long:?}"
    );
});
