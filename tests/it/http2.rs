//! HTTP/2 from outside, as a client speaks it that means no good: what is announced is kept, what is no good request is
//! none, and nobody is waited for longer than over HTTP/1.1.

use std::{
    collections::BTreeMap,
    io::Write,
    thread,
    time::{Duration, Instant},
};

use crate::{frames::*, harness::*, siege::*};

/// Streams a client may have open at once.
const STREAMS: u32 = 100;

/// Memory a few connections may cost, in KiB: a window (1 MiB), as much again for what waits there, and what the allocator
/// takes at a time.
const CONNECTION_KIB: u64 = 4 << 10;

/// Memory that a connection whose answers nobody takes may cost, in KiB: 4 for each of its streams.
const UNTAKEN_KIB: u64 = 4 * 100;

/// What the system keeps of a connection on its way, at most, in bytes: Linux' `tcp_rmem` of one side and `tcp_wmem` of the
/// other, twice.
const SOCKETS_BYTES: usize = 2 * ((6 << 20) + (4 << 20));

/// Time-outs that a test can wait for.
const SHORT: &str = "header_timeout = '1s'\nidle_timeout = '1s'\nbody_timeout = '1s'";

/// The first streams of a client.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

#[test]
fn bounds_are_announced() {
    let siege = Siege::of(&quiet());
    let mut connection = Http2::open(siege.gateway.listen);
    let (mut announced, mut window) = (BTreeMap::new(), 65_535);
    while window == 65_535 || announced.is_empty() {
        let frame = connection.read().expect("open");
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => announced.extend(frame.settings()),
            WINDOW_UPDATE if frame.stream == 0 => window += frame.number(0),
            _ => {}
        }
    }
    let wanted = [
        (MAX_CONCURRENT_STREAMS, STREAMS),
        (INITIAL_WINDOW_SIZE, 64 << 10),
        (MAX_FRAME_SIZE, 16 << 10),
        (MAX_HEADER_LIST_SIZE, 16 << 10),
    ];
    assert_eq!((announced, window), (BTreeMap::from(wanted), 1 << 20));
}

#[test]
fn deliveries_by_prior_knowledge() {
    let siege = Siege::of(&quiet());
    let mut connection = Http2::open(siege.gateway.listen);
    let before = siege.sink.count();
    for stream in streams(3) {
        connection.write(&delivery(stream, &siege.good()));
        assert_eq!(connection.answer(stream), Told::Status(200));
    }
    assert_eq!(siege.sink.count(), before + 3);
    siege.sink.last().verify();
}

#[test]
fn more_streams_than_announced_are_refused() {
    let siege = Siege::of(&Config { app: "concurrency = 200", ..quiet() });
    let mut connection = Http2::open(siege.gateway.listen);
    let bodies: Vec<_> = streams(STREAMS).map(|stream| (stream, siege.good())).collect();
    for (stream, body) in &bodies {
        let (name, value) = signature("sendauth", body);
        connection.write(&headers(0, *stream, &[&POST[..], &[(name, &value)]].concat()));
    }
    for stream in streams(STREAMS + 10).skip(bodies.len()) {
        connection.write(&post(stream));
        assert_eq!(connection.answer(stream), Told::Reset(REFUSED_STREAM));
    }
    // Those that are open are none the worse for it.
    let before = siege.sink.count();
    for (stream, body) in &bodies {
        connection.write(&frame(DATA, END_STREAM, *stream, body));
    }
    let answers = connection.answers(bodies.len(), |_| true);
    assert!(answers.iter().all(|(_, told)| *told == Told::Status(200)), "{answers:?}");
    assert_eq!((answers.len(), siege.sink.count()), (bodies.len(), before + bodies.len()));
}

/// Sends a good delivery with other fields in front and more behind, and tells what became of it.
fn with_fields(siege: &Siege, front: &[(&str, &str)], behind: &[(&str, &str)], body: &[u8]) -> Told {
    let mut connection = Http2::open(siege.gateway.listen);
    connection.write(&delivery_with(1, front, behind, body));
    connection.answer(1)
}

#[track_caller]
fn refused(siege: &Siege, front: &[(&str, &str)], behind: &[(&str, &str)]) {
    let told = with_fields(siege, front, behind, &approval("never"));
    let refused = matches!(told, Told::Reset(_) | Told::Closed | Told::Status(400..=499 | 501));
    let shown = |fields: &[(&str, &str)]| format!("{fields:?}").chars().take(300).collect::<String>();
    assert!(refused, "{told:?}: {} .. {}", shown(front), shown(behind));
    nothing_arrived(siege);
}

/// No approval that was not to arrive.
#[track_caller]
fn nothing_arrived(siege: &Siege) {
    let never =
        siege.sink.arrived().into_iter().find(|event| event.json()["data"].to_string().contains("never"));
    assert!(never.is_none(), "{never:?}");
}

#[test]
fn a_request_says_once_what_it_is() {
    let siege = Siege::of(&quiet());
    let [method, scheme, authority, path] = POST;
    // Pseudo-header fields (RFC 9113 §8.3.1): each of them once, before the others, and no more.
    refused(&siege, &[scheme, authority, path], &[]);
    refused(&siege, &[method, authority, path], &[]);
    refused(&siege, &[method, scheme, authority], &[]);
    for more in [method, scheme, authority, path, (":status", "200"), (":protocol", "websocket"), (":x", "y")]
    {
        refused(&siege, &[&POST[..], &[more]].concat(), &[]);
        refused(&siege, &POST, &[more]);
    }
    for other in
        ["", "in/sendauth", "*", "http://hooks.example.com/in/sendauth", "/in/sendauth ", "/in/sendauth\0"]
    {
        refused(&siege, &[method, scheme, authority, (":path", other)], &[]);
    }
    for other in ["GET", "CONNECT", "TRACE", "post", "", "PO ST"] {
        refused(&siege, &[(":method", other), scheme, authority, path], &[]);
    }
    refused(&siege, &[(":method", "CONNECT"), authority], &[]);
}

#[test]
fn a_request_says_once_whom_it_is_for() {
    let siege = Siege::of(&quiet());
    let [method, scheme, authority, path] = POST;
    let host = ("host", authority.1);
    let other = ("host", "other.example.com");
    for behind in [&[other][..], &[host, other], &[other, host]] {
        refused(&siege, &POST, behind);
    }
    refused(&siege, &[method, scheme, path], &[host, other]);
    refused(&siege, &[method, scheme, path], &[]);
    for behind in [&[][..], &[host]] {
        assert_eq!(with_fields(&siege, &POST, behind, &siege.good()), Told::Status(200), "{behind:?}");
    }
}

#[test]
fn fields_of_another_version_or_of_none_are_refused() {
    let siege = Siege::of(&quiet());
    let fields = [
        // Of connections of HTTP/1.1 (RFC 9113 §8.2.2).
        ("connection", "close"),
        ("connection", "x-sendauth-signature"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        // What would be something else there (§8.2.1).
        ("X-Upper", "y"),
        ("", "y"),
        ("x y", "z"),
        ("x:y", "z"),
        ("x\0", "y"),
        ("x\r\ny", "z"),
        ("x", "y\0"),
        ("x", "y\rz"),
        ("x", "y\nz"),
    ];
    for field in fields {
        refused(&siege, &POST, &[field]);
    }
    assert_eq!(with_fields(&siege, &POST, &[("te", "trailers")], &siege.good()), Told::Status(200));
}

#[test]
fn a_length_must_be_the_body_s() {
    let siege = Siege::of(&quiet());
    let length = approval("never").len();
    let right = length.to_string();
    let wrong = [
        (length + 1).to_string(),
        (length - 1).to_string(),
        "0".to_owned(),
        format!("+{length}"),
        format!("{length}, {length}"),
        format!("{length}.0"),
        String::new(),
        "18446744073709551755".to_owned(),
    ];
    for wrong in &wrong {
        refused(&siege, &POST, &[("content-length", wrong)]);
        refused(&siege, &POST, &[("content-length", &right), ("content-length", wrong)]);
    }
    let body = siege.good();
    let right = body.len().to_string();
    assert_eq!(with_fields(&siege, &POST, &[("content-length", &right)], &body), Told::Status(200));
}

#[test]
fn heads_have_bounds() {
    let siege = Siege::of(&quiet());
    let [method, scheme, authority, _] = POST;
    let (half, whole, far_more) = ("x".repeat(9_000), "x".repeat(17_000), "x".repeat(100_000));
    refused(&siege, &POST, &[("x", &whole)]);
    refused(&siege, &POST, &[("x", &half), ("y", &half)]);
    refused(&siege, &POST, &[("x", &far_more)]);
    refused(&siege, &POST, &[("x", "y"); 101]);
    refused(&siege, &[method, scheme, authority, (":path", &format!("/in/sendauth?{half}"))], &[]);
    for behind in [&[("x", "y"); 90][..], &[("x", &half)]] {
        assert_eq!(with_fields(&siege, &POST, behind, &siege.good()), Told::Status(200));
    }
}

/// Sends a good delivery behind it on the same connection: it must not be taken.
#[track_caller]
fn ends_the_connection(siege: &Siege, what: &str, bytes: &[u8]) {
    let mut connection = Http2::open(siege.gateway.listen);
    connection.write(bytes);
    connection.write(&delivery(11, &approval("never")));
    assert_eq!(connection.answer(11), Told::Closed, "{what}");
}

#[test]
fn what_breaks_the_protocol_ends_the_connection() {
    let siege = Siege::of(&quiet());
    let begun = frame(HEADERS, 0, 1, &block(&POST));
    let cases = [
        ("DATA on no stream", frame(DATA, 0, 0, b"x")),
        ("DATA on one not open", frame(DATA, 0, 9, b"x")),
        ("DATA of more padding than data", [post(1), frame(DATA, PADDED, 1, b"\x09x")].concat()),
        ("HEADERS on no stream", headers(0, 0, &POST)),
        ("HEADERS on the server's", post(2)),
        ("HEADERS on an earlier stream", [post(9), post(7)].concat()),
        ("HEADERS, DATA in between", [&begun[..], &frame(DATA, 0, 1, b"x")].concat()),
        ("HEADERS, those of another in between", [&begun[..], &post(3)].concat()),
        ("HEADERS, a PING in between", [&begun[..], &frame(PING, 0, 0, &[0; 8])].concat()),
        ("CONTINUATION of another", [&begun[..], &frame(CONTINUATION, END_HEADERS, 3, b"")].concat()),
        ("CONTINUATION of none", frame(CONTINUATION, END_HEADERS, 1, b"")),
        ("PING too short", frame(PING, 0, 0, b"1234567")),
        ("PING on a stream", frame(PING, 0, 1, b"12345678")),
        ("SETTINGS cut off", frame(SETTINGS, 0, 0, &[0; 5])),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, b"")),
        ("SETTINGS, a window too large", settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)])),
        ("SETTINGS, frames too large", settings(&[(MAX_FRAME_SIZE, 1 << 24)])),
        ("SETTINGS, push 2", settings(&[(ENABLE_PUSH, 2)])),
        ("WINDOW_UPDATE by nothing", window_update(0, 0)),
        ("WINDOW_UPDATE too far", window_update(0, u32::MAX >> 1)),
        ("RST_STREAM of one not open", reset(9)),
        ("RST_STREAM too short", frame(RST_STREAM, 0, 1, b"123")),
        ("a frame too large", frame(0x42, 0, 0, &[0; FRAME_BYTES_MAX + 1])),
        ("a field of no table", packed(END_STREAM, 1, &[0x80 | 126])),
        ("a field of number 0", packed(END_STREAM, 1, &[0x80])),
        ("a number without end", packed(END_STREAM, 1, &[0xff; 64])),
        ("a string past the end", packed(END_STREAM, 1, b"\0\x7fx")),
        ("a code that is none", packed(END_STREAM, 1, b"\0\x84\xff\xff\xff\xff\0")),
        ("a table too large", packed(END_STREAM, 1, b"\x3f\xe1\xff\x03")),
    ];
    for (what, bytes) in cases {
        ends_the_connection(&siege, what, &bytes);
    }
    let mut connection = connect(siege.gateway.listen);
    connection.write_all(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").expect("written");
    assert!(!matches!(read_answer(connection), Some(answer) if answer.status < 400));
    nothing_arrived(&siege);
    siege.deliver();
}

#[test]
fn nobody_is_waited_for() {
    let siege = Siege::of(&Config { server: SHORT, ..quiet() });
    let open = || Http2::open(siege.gateway.listen);
    let served = || {
        let mut connection = open();
        connection.write(&delivery(1, &siege.good()));
        assert_eq!(connection.answer(1), Told::Status(200));
        connection
    };
    let after = |mut connection: Http2, bytes: &[u8]| {
        connection.write(bytes);
        connection
    };
    // Each stops there, or goes on with a piece at a time that leads to nothing.
    let ping = frame(PING, 0, 0, b"12345678");
    let announced = &frame(HEADERS, END_HEADERS, 3, &[0; FRAME_BYTES_MAX])[..9];
    let half = frame(HEADERS, 0, 3, &block(&POST));
    let byte = frame(DATA, 0, 1, b" ");
    let mut slow = vec![
        ("after the preface", open(), &b""[..]),
        ("after the preface, PINGs", open(), &ping),
        ("after a request", served(), b""),
        ("after a request, PINGs", served(), &ping),
        ("in a head", after(open(), &half), b""),
        ("in a head, bytes", after(open(), announced), b"\0"),
        ("in a further head", after(served(), &half), b""),
        ("in a further head, bytes", after(served(), announced), b"\0"),
        ("in a body", after(open(), &post(1)), b""),
        ("in a body, bytes", after(open(), &post(1)), &byte),
    ];
    let (_, toll) = siege.under(|| {
        let deadline = Instant::now() + PATIENCE;
        while !slow.is_empty() {
            slow.retain_mut(|(_, connection, piece)| {
                connection.write(piece);
                !connection.is_closed()
            });
            let left = || slow.iter().map(|(what, ..)| *what).collect::<Vec<_>>();
            assert!(Instant::now() < deadline, "still open: {:?}", left());
            thread::sleep(Duration::from_millis(5));
        }
    });
    toll.grew_at_most("slow clients of HTTP/2", CONNECTION_KIB);
}

/// A window of nothing: the heads of answers come, and never their bodies.
#[test]
fn answers_that_are_not_taken_are_small_and_dropped() {
    const CONNECTIONS: u32 = 50;
    let siege = Siege::of(&Config { server: "idle_timeout = '3s'", ..quiet() });
    let [_, scheme, authority, _] = POST;
    let fields = [(":method", "GET"), scheme, authority, (":path", "/in/nobody")];
    let requests: Vec<u8> =
        streams(STREAMS).flat_map(|stream| headers(END_STREAM, stream, &fields)).collect();
    let (_, toll) = siege.under(|| {
        // One after the other, so that what is held are answers and not requests.
        let asked = |_| {
            let stream = connect_from(ATTACKER, siege.gateway.listen);
            let mut connection = Http2::on(stream, &[(INITIAL_WINDOW_SIZE, 0)]);
            connection.write(&requests);
            let mut answers = 0;
            while answers < STREAMS {
                let frame = connection.read().expect("a head for each");
                assert!(frame.kind != DATA, "the window is closed");
                answers += u32::from(frame.kind == HEADERS);
            }
            connection
        };
        let open: Vec<Http2> = (0..CONNECTIONS).map(asked).collect();
        for mut connection in open {
            while connection.read().is_some() {}
        }
    });
    toll.grew_at_most("answers not taken", CONNECTION_KIB + UNTAKEN_KIB * u64::from(CONNECTIONS));
}

/// Who does not read what comes back is not read from any more, either.
#[test]
fn nothing_is_kept_for_who_does_not_read() {
    let siege = Siege::of(&Config { server: SHORT, ..quiet() });
    let pings = frame(PING, 0, 0, b"12345678").repeat(1000);
    let (_, toll) = siege.under(|| {
        let stream = connect_with(ATTACKER, siege.gateway.listen, Some(4 << 10));
        let mut connection = Http2::on(stream, &[]);
        let mut taken = 0;
        // Until the connection is closed.
        while connection.write(&pings) {
            taken += pings.len();
            assert!(taken < SOCKETS_BYTES, "{taken} bytes taken");
        }
    });
    toll.grew_at_most("who does not read", CONNECTION_KIB);
}
