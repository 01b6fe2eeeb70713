//! Floods over HTTP/2: each is cut or absorbed, costs a bounded piece of memory and no lines in the log, and others are
//! served meanwhile.

use std::time::Duration;

use crate::{frames::*, harness::*, siege::*};

/// Units of a flood on one connection, of one or two frames each.
const UNITS: u32 = 100_000;

/// Connections a flood may take: each that is cut costs the attacker a new one.
const CONNECTIONS: u32 = 50;

/// Memory one connection may cost, in KiB: its window (1 MiB), as much again for frames in queues and what stands ready to
/// be sent, and what the allocator takes at a time for each of its threads.
const CONNECTION_KIB: u64 = 8 << 10;

/// Memory a flood of many connections may cost, in KiB: those that were cut may not be forgotten yet when the next come.
/// The allocator keeps what it once had: a second flood costs nothing more.
const CONNECTIONS_KIB: u64 = 32 << 10;

/// CPU time a unit may cost, twenty times what it does in a debug build; and, each, a connection and a good delivery.
const CPU_PER_UNIT: Duration = Duration::from_micros(100);
const CPU_PER_REQUEST: Duration = Duration::from_millis(20);

/// Sends a flood, anew on another connection each time one is cut. `unit` makes what goes out for the next stream.
fn flood(what: &str, begin: &[u8], unit: impl Fn(u32) -> Vec<u8> + Send + Sync) -> (Vec<Flood>, Toll) {
    let siege = Siege::of(&quiet());
    let ((floods, units), toll) = siege.under(|| {
        let (mut floods, mut units) = (Vec::new(), 0);
        for _ in 0..CONNECTIONS {
            let mut connection = Http2::open(siege.gateway.listen);
            connection.write(begin);
            let flood = connection.flood((0..UNITS).map(|number| unit(2 * number + 1)));
            units += flood.written;
            floods.push(flood);
            if units >= UNITS {
                break;
            }
        }
        (floods, units)
    });
    toll.took_at_most(what, CPU_PER_UNIT * units + CPU_PER_REQUEST * (CONNECTIONS + toll.delivered));
    (floods, toll)
}

/// A flood that the gateway puts an end to, each time.
#[track_caller]
fn cut(what: &str, begin: &[u8], unit: impl Fn(u32) -> Vec<u8> + Send + Sync) {
    let (floods, toll) = flood(what, begin, unit);
    toll.grew_at_most(what, CONNECTIONS_KIB);
    assert!(floods.iter().all(|flood| flood.cut), "{what}: {floods:?}");
}

/// A flood that is cut or absorbed, by how fast the gateway does what is asked.
#[track_caller]
fn bounded(what: &str, begin: &[u8], unit: impl Fn(u32) -> Vec<u8> + Send + Sync) {
    let (_, toll) = flood(what, begin, unit);
    toll.grew_at_most(what, CONNECTIONS_KIB);
}

/// A flood that may go on: the gateway answers the last of its frames.
#[track_caller]
fn absorbed(what: &str, begin: &[u8], unit: impl Fn(u32) -> Vec<u8> + Send + Sync) {
    let (floods, toll) = flood(what, begin, unit);
    toll.grew_at_most(what, CONNECTION_KIB);
    assert!(matches!(floods[..], [Flood { cut: false, written: UNITS, .. }]), "{what}: {floods:?}");
}

/// A whole request that has no body.
fn empty(stream: u32) -> Vec<u8> {
    headers(END_STREAM, stream, &POST)
}

/// CVE-2023-44487.
#[test]
fn rapid_resets_are_cut() {
    cut("HEADERS, RST_STREAM", b"", |stream| [post(stream), reset(stream)].concat());
    cut("request, RST_STREAM", b"", |stream| [empty(stream), reset(stream)].concat());
}

/// CVE-2025-8671: what the client sends makes the gateway reset.
#[test]
fn provoked_resets_are_cut() {
    cut("window by 0", b"", |stream| [post(stream), window_update(stream, 0)].concat());
    cut("window overflow", b"", |stream| [post(stream), window_update(stream, u32::MAX >> 1)].concat());
    cut("DATA after the end", b"", |stream| [empty(stream), frame(DATA, 0, stream, b"x")].concat());
    cut("HEADERS after the end", b"", |stream| [empty(stream), empty(stream)].concat());
    let itself = |stream: u32| frame(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[1]].concat());
    cut("PRIORITY on itself", b"", |stream| [post(stream), itself(stream)].concat());
    let short = [&POST[..], &[("content-length", "1")]].concat();
    cut("longer than said", b"", |stream| {
        [headers(0, stream, &short), frame(DATA, 0, stream, b"xy")].concat()
    });
    cut("malformed", b"", |stream| headers(END_STREAM, stream, &[&POST[..], &[("X", "y")]].concat()));
}

#[test]
fn more_requests_than_there_may_be_are_cut() {
    cut("HEADERS", b"", post);
    bounded("requests", b"", empty);
}

/// RUSTSEC-2024-0332.
#[test]
fn heads_without_end_are_cut() {
    let begin = frame(HEADERS, 0, 1, &block(&POST));
    let more = block(&[("x", "y")]);
    cut("CONTINUATION", &begin, |_| frame(CONTINUATION, 0, 1, &more));
    cut("CONTINUATION, empty", &begin, |_| frame(CONTINUATION, 0, 1, b""));
}

/// RUSTSEC-2026-0258.
#[test]
fn frames_without_much_data_are_cut() {
    cut("DATA, empty", &post(1), |_| frame(DATA, 0, 1, b""));
    cut("DATA, padding alone", &post(1), |_| frame(DATA, PADDED, 1, &[0]));
    bounded("DATA, a byte", &post(1), |_| frame(DATA, 0, 1, b" "));
}

#[test]
fn frames_that_a_client_may_not_send_are_cut() {
    let promised = |stream: u32| [&(stream + 1).to_be_bytes()[..], &block(&POST)].concat();
    cut("PUSH_PROMISE", b"", |stream| frame(PUSH_PROMISE, END_HEADERS, 1, &promised(stream)));
    cut("SETTINGS, ACK", b"", |_| frame(SETTINGS, ACK, 0, b""));
    cut("RST_STREAM, none open", b"", reset);
}

#[test]
fn frames_that_ask_for_an_answer_each_are_absorbed() {
    absorbed("PING", b"", |_| frame(PING, 0, 0, b"12345678"));
    absorbed("SETTINGS", b"", |_| settings(&[]));
    // Each changes the windows of all streams.
    let open: Vec<u8> = (0..90).flat_map(|number| post(2 * number + 1)).collect();
    absorbed("SETTINGS, windows", &open, |number| settings(&[(INITIAL_WINDOW_SIZE, number)]));
}

#[test]
fn frames_that_mean_nothing_are_absorbed() {
    absorbed("PRIORITY", b"", |stream| frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 1]));
    absorbed("WINDOW_UPDATE", b"", |_| window_update(0, 1));
    absorbed("RST_STREAM, again", &post(1), |_| reset(1));
    absorbed("PING, ACK", b"", |_| frame(PING, ACK, 0, b"12345678"));
    absorbed("of no kind", b"", |stream| frame(0x42, 0xff, stream, b"12345678"));
}

/// A field that was sent once is named by one byte from then on: 16 KiB are a head of 64 MB.
#[test]
fn heads_that_unpack_to_megabytes_are_cut() {
    let first = [block(&POST), kept("x", &"y".repeat(4000))].concat();
    let bomb = [block(&POST), vec![KEPT; FRAME_BYTES_MAX - 200]].concat();
    let begin = packed(END_STREAM, 1, &first);
    cut("one field, again and again", &begin, |stream| packed(END_STREAM, stream + 2, &bomb));
}

/// A line for each frame of a stranger would fill the disk.
#[test]
fn floods_are_not_logged() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let before = gateway.log_lines();
    let units = [frame(PING, ACK, 0, b"12345678"), settings(&[]), window_update(0, 1), reset(1)];
    for unit in &units {
        let mut connection = Http2::open(gateway.listen);
        connection.write(&post(1));
        connection.flood((0..1000).map(|_| unit.clone()));
    }
    // When this one is logged, all before it are.
    send(&gateway, "sendauth", &approval("a1")).id();
    gateway.logged(|line| line["status"] == 200);
    // That a request came to its end, each.
    let lines = gateway.log_lines() - before;
    assert!(lines <= units.len() + 1, "{lines} lines, the last {:?}", gateway.log().lines().last());
}
