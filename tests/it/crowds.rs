//! Crowds: clients that are slow, false, large or simply many at once. Each is bounded, and those who are good are served.

use std::{
    io::{BufReader, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, SystemTime},
};

use crate::{
    frames::{PREFACE, settings},
    harness::*,
    siege::*,
};

/// Memory that one connection may cost, in KiB: what is read of a head (`header_bytes_max`, 16 KiB), an answer, and the
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
    reads: bool,
}

impl Slow {
    /// Sends one more piece; whether the gateway has closed the connection, as far as one can know who does not read.
    fn go_on(&mut self) -> bool {
        let mut bytes = [0; 1024];
        self.stream.set_nonblocking(true).expect("a mode");
        let written = self.stream.write(self.piece);
        let read = if self.reads { self.stream.read(&mut bytes) } else { Ok(1) };
        let is_open = |outcome: std::io::Result<usize>| match outcome {
            Ok(length) => length > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        let writes = self.piece.is_empty() || is_open(written);
        !(writes && is_open(read))
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

/// Six kinds of slow clients.
fn slow(siege: &Siege, kind: usize) -> Slow {
    let to = siege.gateway.listen;
    let mut stream = connect_from(ATTACKER, to);
    let long = [&head(to, "POST", "/in/sendauth", &[JSON], 100_000), "\r\n"].concat();
    let (begin, piece): (&[u8], &[u8]) = match kind {
        0 => (b"", b""),
        1 => (b"POST /in/sendauth HTTP/1.1\r\nx: ", b"y"),
        2 => (long.as_bytes(), b" "),
        3 => (&[PREFACE, &settings(&[])].concat(), b""),
        4 => return Slow { stream: served(siege, ATTACKER), piece: b"", reads: true },
        _ => {
            // Many requests behind each other, and none of the answers is read.
            stream = connect_with(ATTACKER, to, Some(4 << 10));
            let many = format!("GET /in/nobody HTTP/1.1\r\nhost: {to}\r\n\r\n").repeat(1000);
            stream.set_nonblocking(true).expect("a mode");
            assert!(stream.write(many.as_bytes()).expect("written") > 0);
            return Slow { stream, piece: b"", reads: false };
        }
    };
    stream.write_all(begin).expect("written");
    Slow { stream, piece, reads: true }
}

#[test]
fn hundreds_of_slow_clients_are_closed_and_hold_up_nobody() {
    const CLIENTS: usize = 500;
    let server = "header_timeout = '2s'\nidle_timeout = '2s'\nbody_timeout = '2s'";
    let siege = Siege::of(&Config { server, ..quiet() });
    let before = siege.gateway.open_files();
    let (most, toll) = siege.under(|| {
        let mut open: Vec<Slow> = (0..CLIENTS).map(|number| slow(&siege, number % 6)).collect();
        let most = siege.gateway.open_files();
        // Those that read nothing are told by the descriptors alone.
        eventually("all are closed", || {
            open.retain_mut(|one| !one.go_on());
            open.iter().all(|one| !one.reads) && siege.gateway.open_files() <= before + KEPT
        });
        most
    });
    assert!(most > before + CLIENTS / 2, "{most} open, {before} before: they were there at once");
    toll.grew_at_most("slow clients", ALLOCATOR_KIB + CONNECTION_KIB * CLIENTS as u64);
}

#[test]
fn past_connections_max_the_longest_idle_goes_first() {
    const MOST: usize = 20;
    let siege = Siege::of(&Config { server: "connections_max = 20", ..quiet() });
    let before = siege.gateway.open_files();
    let served = || Slow { stream: served(&siege, Ipv4Addr::LOCALHOST), piece: b"", reads: true };
    let mut idle: Vec<Slow> = (0..MOST).map(|_| served()).collect();
    for _ in 0..MOST {
        let mut oldest = idle.remove(0);
        assert!(!oldest.go_on(), "not before it has to");
        idle.push(served());
        eventually("the oldest goes", || oldest.go_on());
    }
    // A crowd comes, and those who bring something still find a place.
    let (crowd, _) = siege.under(|| {
        let come = |_| connect_from(ATTACKER, siege.gateway.listen);
        let crowd: Vec<TcpStream> = (0..MOST * 10).map(come).collect();
        eventually("no more than may be", || siege.gateway.open_files() <= before + MOST + KEPT);
        crowd
    });
    drop(crowd);
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

#[test]
fn forgeries_from_many_addresses_spend_their_own_budgets() {
    const CLIENTS: u8 = 200;
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
        (many, forgeries(&siege, ATTACKER, std::iter::repeat_n(String::new(), 5000)))
    });
    assert!(statuses.0.iter().all(|status| *status == 401), "each within its budget");
    let limited = statuses.1.iter().filter(|status| **status == 429).count();
    assert!(limited > 0 && statuses.1.iter().all(|status| matches!(status, 401 | 429)), "{limited} limited");
    toll.grew_at_most("forgeries", ALLOCATOR_KIB);
}

/// `HOOKWARDEN_ADDRESSES`: how many. A million in a release build takes a minute.
#[test]
fn addresses_by_the_thousand_are_not_remembered_for_good() {
    /// Those that are remembered, in KiB: 100,000 of 48 bytes, in tables that are half empty.
    const REMEMBERED_KIB: u64 = 10 << 10;
    let addresses = std::env::var("HOOKWARDEN_ADDRESSES");
    let addresses: u32 = addresses.map_or(20_000, |count| count.parse().expect("a number"));
    let siege = Siege::of(&Config { server: "trusted_proxies = ['127.0.0.0/8']", ..quiet() });
    let (statuses, toll) = siege.under(|| {
        // Half of them are networks of IPv6.
        let address = |number: u32| match number % 2 {
            0 => Ipv4Addr::from_bits((11 << 24) + number).to_string(),
            _ => format!("2001:db8:{:x}:{:x}::1", number >> 16, number & 0xffff),
        };
        thread::scope(|scope| {
            let clients: Vec<_> = (0..4)
                .map(|client| {
                    let mine = (client..addresses).step_by(4).map(address);
                    let siege = &siege;
                    scope.spawn(move || forgeries(siege, ATTACKER, mine))
                })
                .collect();
            clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect::<Vec<_>>()
        })
    });
    assert_eq!(statuses.len(), addresses as usize);
    assert!(statuses.iter().all(|status| *status == 401));
    toll.grew_at_most("addresses", ALLOCATOR_KIB + REMEMBERED_KIB);
}

/// Bytes of bodies held at once, in MiB.
const INFLIGHT_MIB: u64 = 8;

#[test]
fn large_bodies_share_what_there_is_for_all() {
    const CLIENTS: usize = 100;
    let inflight = format!("{QUIET}\nlimits.inflight_bytes_max = '{INFLIGHT_MIB}MiB'");
    let siege = Siege::of(&Config { top: &inflight, server: "body_timeout = '2s'", ..quiet() });
    let to = siege.gateway.listen;
    let whole = 1 << 20;
    let head = |headers: &[(&str, &str)]| [&head(to, "POST", "/in/sendauth", headers, whole), "\r\n"].concat();
    let (name, _) = signature("sendauth", b"");
    let (announced, forged) = (head(&[JSON]), head(&[JSON, (name, &sha256_hex(&[b"a guess"]))]));
    let spaces = vec![b' '; whole];
    let (statuses, toll) = siege.measured(|| {
        // Announced and not brought to an end, one after the other, all at once.
        let open: Vec<TcpStream> = (0..CLIENTS)
            .map(|_| {
                let mut stream = connect_from(ATTACKER, to);
                stream.write_all(announced.as_bytes()).expect("written");
                // It may be refused on the way.
                stream.write_all(&spaces[..600_000]).ok();
                stream
            })
            .collect();
        // And whole ones, beside them and behind.
        thread::scope(|scope| {
            let clients: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let send = |_| {
                            let mut stream = connect_from(ATTACKER, to);
                            stream.write_all(forged.as_bytes()).expect("written");
                            stream.write_all(&spaces).ok();
                            read_answer(stream).map_or(0, |answer| answer.status)
                        };
                        (0..CLIENTS / 8).map(send).collect::<Vec<_>>()
                    })
                })
                .collect();
            let mut statuses: Vec<u16> = clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect();
            statuses.extend(open.into_iter().map(|stream| read_answer(stream).map_or(0, |answer| answer.status)));
            statuses
        })
    });
    let mut counts = std::collections::BTreeMap::new();
    for status in statuses { *counts.entry(status).or_insert(0) += 1; }
    println!("ZZ {counts:?} {toll:?}");
    toll.grew_at_most("large bodies", (INFLIGHT_MIB << 10) + ALLOCATOR_KIB + CONNECTION_KIB * CLIENTS as u64);
    eventually("there is room again", || send(&siege.gateway, "sendauth", &approval("again")).status == 200);
}

/// What one request may cost, in CPU time: ten times what the dearest does in a debug build.
const CPU_PER_REQUEST: Duration = Duration::from_millis(50);

#[test]
fn no_request_is_dear() {
    const TIMES: u32 = 100;
    let tables = r#"
[sources.listed]
vendor = "listed"
secret_env = "SENDAUTH_SECRET"
upstream = "app"
[vendors.listed]
title = "Signs many times"
verify = { scheme = "hmac", header = "x-signatures", syntax = "list", encoding = "hex" }
id = ["/id"]
"#;
    let server = "trusted_proxies = ['127.0.0.0/8']\nheader_bytes_max = '128KiB'";
    let siege = Siege::of(&Config { server, tables, ..quiet() });
    let signatures = vec![format!("v1,{}", "0".repeat(64)); 1000].join(" ");
    let hops = vec!["198.51.100.1"; 5000].join(",");
    let fields: Vec<(String, String)> = (0..90).map(|n| (format!("x-{n}"), "y".repeat(100))).collect();
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
    let nested = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let digits = [&b"["[..], &b"7".repeat(1_000_000), b"]x"].concat();
    let escapes = [&b"[\""[..], &b"\\u00e9".repeat(160_000), b"\"]x"].concat();
    let members: String = (0..60_000).map(|number| format!("\"k{number}\":1,")).collect();
    let members = format!("{{{members}\"id\":\"a\",\"id\":\"b\"}}");
    let signed = |body: &[u8]| { let (name, value) = signature("sendauth", body); (name, value) };
    let mut cases: Vec<(&str, &str, Vec<(&str, String)>, &[u8], u16)> = vec![
        ("signatures", "/in/listed", vec![("x-signatures", signatures)], b"{}", 401),
        ("fields", "/in/sendauth", fields.iter().map(|(n, v)| (*n, (*v).to_owned())).collect(), b"{}", 401),
        ("hops", "/in/sendauth", vec![("x-forwarded-for", hops)], b"{}", 401),
    ];
    for (what, body) in [("levels", &nested[..]), ("digits", &digits), ("escapes", &escapes), ("members", members.as_bytes())] {
        let (name, value) = signed(body);
        cases.push((what, "/in/sendauth", vec![(name, value)], body, 400));
    }
    for (what, path, headers, body, status) in &cases {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, &**v)).collect();
        let (_, toll) = siege.under(|| {
            let mut client = Client::new(siege.gateway.listen);
            for _ in 0..TIMES {
                let answer = client.post(path, &headers, body);
                assert_eq!(answer.status, *status, "{what}: {answer:?}");
            }
        });
        println!("ZZ {what} {toll:?} {:?}", toll.cpu / TIMES);
        toll.took_at_most(what, CPU_PER_REQUEST * (TIMES + toll.delivered));
    }
}

#[test]
fn without_file_descriptors_it_waits_and_serves_again() {
    const DESCRIPTORS: usize = 64;
    /// Long enough that who spins is seen, and how much of that may be spent.
    const STARVED: Duration = Duration::from_secs(2);
    const CPU_MAX: Duration = Duration::from_millis(500);
    let server = "header_timeout = '60s'";
    let siege = Siege::with(&Config { server, ..quiet() }, with_descriptors(DESCRIPTORS));
    let crowd: Vec<TcpStream> =
        (0..DESCRIPTORS * 2).map(|_| connect_from(ATTACKER, siege.gateway.listen)).collect();
    siege.gateway.logged(|line| line["message"] == "cannot accept connections");
    assert_eq!(siege.gateway.open_files(), DESCRIPTORS);
    let (cpu, lines) = (siege.gateway.cpu(), siege.gateway.log_lines());
    thread::sleep(STARVED);
    let (cpu, lines) = (siege.gateway.cpu() - cpu, siege.gateway.log_lines() - lines);
    println!("ZZ {cpu:?} {lines}");
    assert!(cpu <= CPU_MAX, "{cpu:?}");
    assert!(lines <= 20, "{lines} lines");
    drop(crowd);
    siege.deliver();
    let arrived = siege.sink.count();
    eventually("all are served again", || siege.gateway.open_files() < DESCRIPTORS / 2);
    siege.deliver();
    assert_eq!(siege.sink.count(), arrived + 1);
}
