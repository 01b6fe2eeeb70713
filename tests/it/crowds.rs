//! Crowds: clients that are slow, false, large or simply many at once. Each is bounded, and those who are good are served.

use std::{
    io::{BufReader, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use crate::{
    frames::{PREFACE, settings},
    harness::*,
    siege::*,
};

/// Memory that one connection may cost, in KiB: what is read at once (32 KiB at most), an answer, and the
/// tasks that serve it, which are large in a debug build.
const CONNECTION_KIB: u64 = 64;

/// What the allocator takes at a time for its threads, in KiB, whatever for.
const ALLOCATOR_KIB: u64 = 4 << 10;

/// Connections to the app that are kept for the next deliveries: more than before, if some were sent at once.
const KEPT: usize = 4;

/// A client that does its part again and again, and leads to nothing.
struct Slow {
    stream: TcpStream,
    piece: &'static [u8],
}

impl Slow {
    /// Sends one more piece; whether the gateway has closed the connection.
    fn go_on(&mut self) -> bool {
        self.stream.set_nonblocking(true).expect("a mode");
        // Written to a connection just closed, a piece fails; the next read tells.
        self.stream.write_all(self.piece).ok();
        match self.stream.read(&mut [0; 1024]) {
            Ok(length) => length == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// A connection that has brought a good delivery, and is kept.
fn served(siege: &Siege, from: Ipv4Addr) -> TcpStream {
    let to = siege.gateway.listen;
    let body = siege.good();
    let (name, value) = signature("sendauth", &body);
    let head = head(to, "POST", "/in/sendauth", &[(name, &value)], body.len());
    let mut stream = connect_from(from, to);
    stream.write_all(&[head.as_bytes(), b"\r\n", &body].concat()).expect("written");
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    assert!(read_message(&mut reader).expect("an answer").0.starts_with("HTTP/1.1 200"));
    stream
}

/// Slow clients of several kinds.
fn slow(siege: &Siege, number: usize) -> Slow {
    if number.is_multiple_of(5) {
        return Slow { stream: served(siege, ATTACKER), piece: b"" };
    }
    let to = siege.gateway.listen;
    let long = [&head(to, "POST", "/in/sendauth", &[JSON], 100_000), "\r\n"].concat();
    let (begin, piece): (&[u8], &[u8]) = match number % 5 {
        1 => (b"POST /in/sendauth HTTP/1.1\r\nx: ", b"y"),
        2 => (long.as_bytes(), b" "),
        3 => (&[PREFACE, &settings(&[])].concat(), b""),
        _ => (b"", b""),
    };
    let mut stream = connect_from(ATTACKER, to);
    stream.write_all(begin).expect("written");
    Slow { stream, piece }
}

/// Many requests behind each other, and none of the answers is read.
fn deaf(to: SocketAddr) -> Slow {
    let mut stream = connect_with(ATTACKER, to, Some(4 << 10));
    let many = format!("GET /in/nobody HTTP/1.1\r\nhost: {to}\r\n\r\n").repeat(1000);
    stream.set_nonblocking(true).expect("a mode");
    assert!(stream.write(many.as_bytes()).expect("written") > 0);
    Slow { stream, piece: b"" }
}

#[test]
fn hundreds_of_slow_clients_are_closed_and_hold_up_nobody() {
    const CLIENTS: usize = 500;
    const DEAF: usize = 20;
    let server = "header_timeout = '4s'\nidle_timeout = '4s'\nbody_timeout = '4s'";
    let siege = Siege::of(&Config { server, ..quiet() });
    let (to, before) = (siege.gateway.listen, siege.gateway.open_files());
    let (most, toll) = siege.under(|| {
        let mut open: Vec<Slow> = (DEAF..CLIENTS).map(|number| slow(&siege, number)).collect();
        let deaf: Vec<Slow> = (0..DEAF).map(|_| deaf(to)).collect();
        let most = siege.gateway.open_files();
        eventually("all are closed", || {
            open.retain_mut(|one| !one.go_on());
            // Those that do not read can't see it: their descriptors tell.
            open.is_empty() && siege.gateway.open_files() <= before + KEPT
        });
        drop(deaf);
        most
    });
    assert!(most > CLIENTS / 2, "{most} open, {before} before: not there at once");
    toll.grew_at_most("slow clients", ALLOCATOR_KIB + CONNECTION_KIB * CLIENTS as u64);
}

#[test]
fn past_connections_max_the_longest_idle_goes_first() {
    const MOST: usize = 20;
    let siege = Siege::of(&Config { server: "connections_max = 20", ..quiet() });
    let before = siege.gateway.open_files();
    let served = || Slow { stream: served(&siege, Ipv4Addr::LOCALHOST), piece: b"" };
    let mut idle: Vec<Slow> = (0..MOST).map(|_| served()).collect();
    for _ in 0..MOST {
        let mut oldest = idle.remove(0);
        assert!(!oldest.go_on(), "not before it has to");
        idle.push(served());
        eventually("the oldest goes", || oldest.go_on());
    }
    // A crowd has come and says nothing: those who bring something find a place.
    let come = |_| connect_from(ATTACKER, siege.gateway.listen);
    let _crowd: Vec<TcpStream> = (0..MOST * 10).map(come).collect();
    eventually("all are accepted", || idle.iter_mut().all(Slow::go_on));
    (0..MOST).for_each(|_| siege.deliver());
    assert!(siege.gateway.open_files() <= before + MOST + KEPT);
}

/// Forgeries over one connection, as many at a time as fit, each from the address that is told of it.
fn forgeries(siege: &Siege, from: Ipv4Addr, told: impl Iterator<Item = String>) -> Vec<u16> {
    const AT_ONCE: usize = 64;
    let to = siege.gateway.listen;
    let body = approval("never");
    let (name, _) = signature("sendauth", &body);
    let value = sha256_hex(&[b"a guess"]);
    let mut reader = BufReader::new(connect_from(from, to));
    let mut statuses = Vec::new();
    let mut told = told.peekable();
    while told.peek().is_some() {
        let requests: Vec<Vec<u8>> = told
            .by_ref()
            .take(AT_ONCE)
            .map(|address| {
                let headers = [(name, &*value), ("x-forwarded-for", &address)];
                [head(to, "POST", "/in/sendauth", &headers, body.len()).as_bytes(), b"\r\n", &body].concat()
            })
            .collect();
        reader.get_mut().write_all(&requests.concat()).expect("written");
        for _ in requests {
            let (line, ..) = read_message(&mut reader).expect("an answer");
            statuses.push(line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"));
        }
    }
    statuses
}

/// What so many clients at once have to tell.
fn together<T: Send>(clients: u32, work: impl Fn(u32) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let clients: Vec<_> = (0..clients).map(|client| scope.spawn(move || work(client))).collect();
        clients.into_iter().map(|client| client.join().expect("no panic")).collect()
    })
}

#[test]
fn forgeries_from_many_addresses_spend_their_own_budgets() {
    const CLIENTS: u8 = 100;
    const EACH: usize = 50;
    let siege = Siege::of(&Config {
        top: &format!("{QUIET}\nlimits.per_ip = '300/s burst 400'"),
        sendauth: "rate = '300/s burst 400'",
        ..quiet()
    });
    let (statuses, toll) = siege.under(|| {
        let nobody = || std::iter::repeat_n(String::new(), EACH);
        let many = (0..CLIENTS).flat_map(|last| forgeries(&siege, Ipv4Addr::new(127, 1, 0, last), nobody()));
        let many: Vec<u16> = many.collect();
        (many, forgeries(&siege, ATTACKER, std::iter::repeat_n(String::new(), 2000)))
    });
    assert!(statuses.0.iter().all(|status| *status == 401), "each within its budget");
    let limited = statuses.1.iter().filter(|status| **status == 429).count();
    assert!(limited > 0 && statuses.1.iter().all(|status| matches!(status, 401 | 429)), "{limited} limited");
    toll.grew_at_most("forgeries", ALLOCATOR_KIB);
}

/// `HOOKWARDEN_ADDRESSES`: how many. A million in a release build takes a minute.
#[test]
fn addresses_by_the_thousand_are_not_remembered_for_good() {
    /// Those that are remembered, in KiB: 100,000 of 33 bytes, in two tables that double, so that each is there one and a
    /// half times while it grows.
    const REMEMBERED_KIB: u64 = 12 << 10;
    let addresses = std::env::var("HOOKWARDEN_ADDRESSES");
    let addresses: u32 = addresses.map_or(20_000, |count| count.parse().expect("a number"));
    let siege = Siege::of(&Config { server: "trusted_proxies = ['127.0.0.0/8']", ..quiet() });
    // Half of them are networks of IPv6.
    let address = |number: u32| match number % 2 {
        0 => Ipv4Addr::from_bits((11 << 24) + number).to_string(),
        _ => format!("2001:db8:{:x}:{:x}::1", number >> 16, number & 0xffff),
    };
    let share = |client| forgeries(&siege, ATTACKER, (client..addresses).step_by(4).map(address));
    let (statuses, toll) = siege.under(|| together(4, share).concat());
    assert_eq!(statuses.len(), addresses as usize);
    assert!(statuses.iter().all(|status| *status == 401));
    toll.grew_at_most("addresses", ALLOCATOR_KIB + REMEMBERED_KIB);
}

/// A megabyte, announced and brought only in part, or whole and forged.
#[test]
fn large_bodies_share_what_there_is_for_all() {
    const CLIENTS: usize = 100;
    const BODY_BYTES: usize = 1 << 20;
    /// Bytes of bodies that are held at once; and a buffer that grows is up to twice as large as what is in it.
    const INFLIGHT_MIB: u64 = 8;
    const INFLIGHT_KIB: u64 = 2 * (INFLIGHT_MIB << 10);
    let top = &format!("{QUIET}\nlimits.inflight_bytes_max = '{INFLIGHT_MIB}MiB'");
    let siege = Siege::of(&Config { top, server: "body_timeout = '2s'", ..quiet() });
    let to = siege.gateway.listen;
    let begin = |headers: &[(&str, &str)], bytes: usize| {
        let mut stream = connect_from(ATTACKER, to);
        let head = head(to, "POST", "/in/sendauth", headers, BODY_BYTES);
        // It may be refused on the way.
        stream.write_all(&[head.as_bytes(), b"\r\n", &vec![b' '; bytes]].concat()).ok();
        stream
    };
    let answer = |stream| read_answer(stream).map(|answer| answer.status);
    let forged = [JSON, ("x-sendauth-signature", &sha256_hex(&[b"a guess"]))];
    let (statuses, toll) = siege.measured(|| {
        let partly: Vec<TcpStream> = (0..CLIENTS).map(|_| begin(&[JSON], BODY_BYTES * 6 / 10)).collect();
        let wholly = |_| (0..CLIENTS / 4).map(|_| answer(begin(&forged, BODY_BYTES))).collect::<Vec<_>>();
        let mut statuses = together(4, wholly);
        statuses.push(partly.into_iter().map(answer).collect());
        // And once more, when there is room.
        statuses.extend(together(4, wholly));
        statuses.concat()
    });
    // A connection that is closed before all was sent may take its answer with it.
    let known = |status: &Option<u16>| matches!(status, None | Some(401 | 408 | 503));
    assert!(statuses.iter().all(known), "{statuses:?}");
    assert!([401, 408, 503].iter().all(|one| statuses.contains(&Some(*one))), "{statuses:?}");
    eventually("there is room again", || send(&siege.gateway, "sendauth", &approval("again")).status == 200);
    toll.grew_at_most("bodies", INFLIGHT_KIB + ALLOCATOR_KIB + CONNECTION_KIB * CLIENTS as u64);
}

/// What one request may cost, in CPU time: twice what the dearest does in a debug build.
const CPU_PER_REQUEST: Duration = Duration::from_millis(50);

/// A source whose header may list signatures.
const LISTED: &str = r#"
[sources.listed]
vendor = "listed"
secret_env = "SENDAUTH_SECRET"
upstream = "app"
[vendors.listed]
title = "Signs many times"
verify = { scheme = "hmac", header = "x-signatures", syntax = "list", encoding = "hex" }
id = ["/id"]
"#;

/// Sends a request again and again that is refused with this status.
#[track_caller]
fn is_cheap(siege: &Siege, what: &str, path: &str, headers: &[(&str, &str)], body: &[u8], status: u16) {
    const TIMES: u32 = 20;
    let (_, toll) = siege.under(|| {
        let mut client = Client::new(siege.gateway.listen);
        for _ in 0..TIMES {
            let answer = client.post(path, headers, body);
            assert_eq!(answer.status, status, "{what}: {answer:?}");
        }
    });
    toll.took_at_most(what, CPU_PER_REQUEST * (TIMES + toll.delivered));
}

#[test]
fn no_forgery_is_dear() {
    let server = "trusted_proxies = ['127.0.0.0/8']\nheader_bytes_max = '128KiB'";
    let siege = Siege::of(&Config { server, tables: LISTED, ..quiet() });
    let signatures = vec![format!("v1,{}", "0".repeat(64)); 1000].join(" ");
    is_cheap(&siege, "signatures", "/in/listed", &[("x-signatures", &signatures)], b"{}", 401);
    let hops = vec!["198.51.100.1"; 5000].join(",");
    is_cheap(&siege, "hops", "/in/sendauth", &[("x-forwarded-for", &hops)], b"{}", 401);
    let fields: Vec<(String, String)> = (0..95).map(|n| (format!("x-{n}"), "y".repeat(1000))).collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    is_cheap(&siege, "fields", "/in/sendauth", &fields, b"{}", 401);
}

/// What is signed may still hold what a stranger wrote.
#[test]
fn no_text_is_dear() {
    let siege = Siege::of(&quiet());
    let members: String = (0..60_000).map(|number| format!("\"k{number}\":1,")).collect();
    let bodies = [
        ("levels", ["[".repeat(100_000), "]".repeat(100_000)].concat()),
        ("digits", format!("[{}]x", "7".repeat(1_000_000))),
        ("escapes", format!("[\"{}\"]x", "\\u00e9".repeat(160_000))),
        ("values", format!("[{}1]x", "1,".repeat(500_000))),
        ("members", format!("{{{members}\"id\":\"a\",\"id\":\"b\"}}")),
    ];
    for (what, body) in &bodies {
        let (name, value) = signature("sendauth", body.as_bytes());
        is_cheap(&siege, what, "/in/sendauth", &[(name, &value)], body.as_bytes(), 400);
    }
}

#[test]
fn without_file_descriptors_it_waits_and_serves_again() {
    const DESCRIPTORS: usize = 64;
    /// Long enough that who spins is seen; and how much of that may be spent, in time and in lines of the log.
    const STARVED: Duration = Duration::from_secs(2);
    const CPU_MAX: Duration = Duration::from_millis(500);
    const LINES_MAX: usize = 20;
    let server = "header_timeout = '60s'";
    let siege = Siege::with(&Config { server, ..quiet() }, with_descriptors(DESCRIPTORS));
    let come = |_| connect_from(ATTACKER, siege.gateway.listen);
    let crowd: Vec<TcpStream> = (0..DESCRIPTORS * 2).map(come).collect();
    siege.gateway.logged(|line| line["message"] == "cannot accept connections");
    let (cpu, lines) = (siege.gateway.cpu(), siege.gateway.log_lines());
    thread::sleep(STARVED);
    let (cpu, lines) = (siege.gateway.cpu() - cpu, siege.gateway.log_lines() - lines);
    assert!(cpu <= CPU_MAX && lines <= LINES_MAX, "{cpu:?}, {lines} lines");
    drop(crowd);
    siege.deliver();
    eventually("all are gone", || siege.gateway.open_files() < DESCRIPTORS / 2);
    siege.deliver();
}
