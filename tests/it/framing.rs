//! Heads and bodies that two programs could read differently are refused before anything is decided, and what stands
//! behind them is never taken for a request.

use std::{
    io::{BufReader, Write},
    net::SocketAddr,
};

use crate::harness::*;

/// Sends bytes and reads all answers, until the gateway closes the connection.
fn answers(gateway: &Gateway, bytes: &[u8]) -> Vec<u16> {
    answers_at(gateway.listen, bytes)
}

fn answers_at(listener: SocketAddr, bytes: &[u8]) -> Vec<u16> {
    let mut stream = connect(listener);
    stream.write_all(bytes).ok();
    let mut reader = BufReader::new(stream);
    let mut statuses = Vec::new();
    while let Some((line, ..)) = read_message(&mut reader) {
        statuses.push(line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"));
    }
    statuses
}

/// A good request with this in its head, its body behind that; another good one follows.
fn with_lines(lines: &str, body: &str) -> Vec<u8> {
    let signed = approval("a1");
    let (name, value) = signature("sendauth", &signed);
    let next = String::from_utf8(signed.clone()).unwrap();
    let next = format!(
        "POST /in/sendauth HTTP/1.1\r\nhost: x\r\n{name}: {value}\r\ncontent-length: {}\r\n\r\n{next}",
        signed.len()
    );
    let body = body.replace("NEXT", &next);
    format!("POST /in/sendauth HTTP/1.1\r\n{name}: {value}\r\n{lines}\r\n\r\n{body}").into_bytes()
}

#[test]
fn what_two_programs_could_read_differently_is_refused() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let body = String::from_utf8(approval("a1")).unwrap();
    let length = body.len();
    let chunk = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let lines = [
        // Who is asked.
        format!("content-length: {length}"),
        format!("host: a\r\nhost: b\r\ncontent-length: {length}"),
        format!("host: a\r\nHost: a\r\ncontent-length: {length}"),
        // Where the body ends.
        "host: a\r\ntransfer-encoding: x\r\ntransfer-encoding: chunked".to_owned(),
        "host: a\r\ntransfer-encoding: chunked, chunked".to_owned(),
        "host: a\r\ntransfer-encoding: gzip, chunked".to_owned(),
        "host: a\r\ntransfer-encoding: chunked, identity".to_owned(),
        "host: a\r\ntransfer-encoding: identity".to_owned(),
        "host: a\r\ntransfer-encoding: xchunked".to_owned(),
        "host: a\r\ntransfer-encoding: \x0bchunked".to_owned(),
        format!("host: a\r\ncontent-length: {length}\r\ncontent-length: 1"),
        format!("host: a\r\ncontent-length: {length}, 1"),
        format!("host: a\r\ncontent-length: +{length}"),
        format!("host: a\r\ncontent-length: -{length}"),
        format!("host: a\r\ncontent-length: 0x{length:x}"),
        format!("host: a\r\ncontent-length: {length}.0"),
        "host: a\r\ncontent-length: ".to_owned(),
        // Where a line ends, and where a name.
        format!("host: a\r\ncontent-length : {length}"),
        format!("host: a\r\n content-length: {length}"),
        format!("host: a\r\nx: y\r\n folded\r\ncontent-length: {length}"),
        format!("host: a\r\nx\0y: z\r\ncontent-length: {length}"),
        format!("host: a\r\nx: y\0z\r\ncontent-length: {length}"),
        format!("host: a\r\nx: y\rz\r\ncontent-length: {length}"),
        format!("host: a\r\nno colon\r\ncontent-length: {length}"),
        format!("host: a\r\n: no name\r\ncontent-length: {length}"),
        // Another protocol.
        format!("host: a\r\nupgrade: websocket\r\nconnection: upgrade\r\ncontent-length: {length}"),
        format!("host: a\r\nupgrade: h2c\r\nconnection: upgrade, http2-settings\r\ncontent-length: {length}"),
    ];
    for lines in &lines {
        let chunked = lines.contains("transfer-encoding");
        let body = if chunked { format!("{chunk}NEXT") } else { format!("{body}NEXT") };
        let statuses = answers(&gateway, &with_lines(lines, &body));
        assert!(matches!(statuses[..], [400 | 501]), "{statuses:?} {lines:?}");
    }
    assert_eq!(sink.count(), 0);
}

#[test]
fn a_body_that_is_badly_chunked_is_refused() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let body = String::from_utf8(approval("a1")).unwrap();
    let length = body.len();
    let bodies = [
        format!("+{length:x}\r\n{body}\r\n0\r\n\r\n"),
        format!("0x{length:x}\r\n{body}\r\n0\r\n\r\n"),
        format!("{length:x} x\r\n{body}\r\n0\r\n\r\n"),
        format!("-1\r\n{body}\r\n0\r\n\r\n"),
        format!("\r\n{body}\r\n0\r\n\r\n"),
        format!("{length:x}\r\n{body}X\r\n0\r\n\r\n"),
        format!("{length:x}\r\n{body}0\r\n\r\n"),
        format!("1{length:016x}\r\n{body}\r\n0\r\n\r\n"),
        format!("{length:x}\r\n{body}\r\n0\r\nno colon\r\n\r\n"),
    ];
    for body in &bodies {
        let statuses =
            answers(&gateway, &with_lines("host: a\r\ntransfer-encoding: chunked", &format!("{body}NEXT")));
        assert!(matches!(statuses[..], [400 | 413]), "{statuses:?} {body:?}");
    }
    assert_eq!(sink.count(), 0);
}

/// hyper takes them: it drops the length beside a coding, joins equal lengths, and takes LF for CR LF.
#[test]
fn what_the_protocol_s_library_takes_in_silence_is_refused() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let body = String::from_utf8(approval("a1")).unwrap();
    let length = body.len();
    let chunk = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let sized = with_lines(&format!("host: a\r\ncontent-length: {length}"), &format!("{body}NEXT"));
    let sized = String::from_utf8(sized).unwrap();
    let (head, rest) = sized.split_once("\r\n\r\n").unwrap();
    let lengths = format!("content-length: {length}\r\ncontent-length: {length}");
    for bytes in [
        with_lines(&format!("host: a\r\n{lengths}"), &format!("{body}NEXT")),
        with_lines("host: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked", &format!("{chunk}NEXT")),
        with_lines("host: a\r\ntransfer-encoding: chunked\r\ncontent-length: 0", &format!("{chunk}NEXT")),
        format!("{}\n\n{rest}", head.replace("\r\n", "\n")).into_bytes(),
        format!("{head}\n\r\n{rest}").into_bytes(),
        format!("{head}\r\n\n{rest}").into_bytes(),
        format!("{}\r\n\r\n{rest}", head.replacen("\r\n", "\n", 1)).into_bytes(),
        format!("\n{sized}").into_bytes(),
    ] {
        assert_eq!(answers(&gateway, &bytes), [400], "{:?}", String::from_utf8_lossy(&bytes));
    }
    // Behind a good request, too, in the same read or not.
    let last = sized.replacen("content-length", "content-length: 1\r\ncontent-length", 1);
    let good = with_lines(&format!("host: a\r\ncontent-length: {length}"), &body);
    assert_eq!(answers(&gateway, &[good.as_slice(), last.as_bytes()].concat()), [200, 400]);
    assert_eq!(sink.count(), 1);
}

#[test]
fn extensions_of_chunks_are_skipped_and_end_where_their_line_does() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let chunked = |id: &str, extension: &str| {
        let body = String::from_utf8(approval(id)).unwrap();
        let (name, value) = signature("sendauth", body.as_bytes());
        let close = format!("{name}: {value}\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked");
        let chunks = format!("{:x}{extension}\r\n{body}\r\n0\r\n\r\n", body.len());
        answers(&gateway, format!("POST /in/sendauth HTTP/1.1\r\n{close}\r\n\r\n{chunks}").as_bytes())
    };
    assert_eq!(chunked("a1", ";a=b"), [200]);
    assert_eq!(chunked("a2", ";a=\nb"), [400]);
    assert_eq!(chunked("a3", &format!(";{}", "x".repeat(100_000))), [400]);
    assert_eq!(sink.count(), 1);
}

#[test]
fn no_other_protocol_and_no_tunnel() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let next = String::from_utf8(with_lines("host: a\r\ncontent-length: 0", "NEXT")).unwrap();
    for line in ["CONNECT 127.0.0.1:22", "CONNECT a:443"] {
        let statuses = answers(&gateway, format!("{line} HTTP/1.1\r\nhost: a\r\n\r\n{next}").as_bytes());
        assert_eq!(statuses, [400], "{line}");
    }
    assert_eq!(sink.count(), 0);
}

#[test]
fn heads_have_bounds() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let length = approval("a1").len();
    let body = String::from_utf8(approval("a1")).unwrap();
    let long = format!("host: a\r\nx: {}\r\ncontent-length: {length}", "y".repeat(100_000));
    let many = format!("host: a\r\n{}content-length: {length}", "x: y\r\n".repeat(200));
    for lines in [long, many] {
        let statuses = answers(&gateway, &with_lines(&lines, &format!("{body}NEXT")));
        // The answer may be lost with the connection: there is more on its way than is read.
        assert!(matches!(statuses[..], [400 | 431] | []), "{statuses:?}");
    }
    let long = format!("x: {}\r\n", "y".repeat(1000)).repeat(20);
    let head =
        format!("POST /in/sendauth HTTP/1.1\r\nhost: a\r\n{long}\r\nPOST / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(answers(&gateway, head.as_bytes()), [431], "and nothing behind it is answered");
    let head = format!("GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n{long}\r\n");
    assert_eq!(answers_at(gateway.admin, head.as_bytes()), [431], "nor by the admin listener");
    let short =
        Gateway::start(&Config { server: "header_bytes_max = '1KiB'", ..Config::to(sink.address) }.text());
    for (bytes, status) in [(700, 401), (1100, 431), (7000, 431)] {
        let answer = short.post("/in/sendauth", &[("x", &"y".repeat(bytes))], b"{}");
        assert_eq!(answer.status, status, "{bytes}: {answer:?}");
    }
    let value = "y".repeat(17 << 10);
    gateway.post("/in/sendauth", &[("x", &value)], b"").refused(431, "malformed_request");
    let path = format!("/in/sendauth?{}", "x".repeat(9000));
    gateway.post(&path, &[], b"").refused(400, "malformed_request");
    assert_eq!(sink.count(), 0);
}

#[test]
fn requests_behind_each_other_are_answered_in_turn() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let request = |id: &str, signed: &str| {
        let body = approval(id);
        let (name, value) = signature("sendauth", &approval(signed));
        let head = head(gateway.listen, "POST", "/in/sendauth", &[(name, &value)], body.len());
        [head.as_bytes(), b"\r\n", &body].concat()
    };
    let last =
        String::from_utf8(request("a1", "a1")).unwrap().replacen("host", "connection: close\r\nhost", 1);
    let all = [&request("a1", "a1"), &request("a2", "a1"), &request("a3", "a3"), last.as_bytes()].concat();
    assert_eq!(answers(&gateway, &all), [200, 401, 200, 200]);
    assert_eq!(sink.count(), 2);
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on_only_if_it_may() {
    let sink = Sink::start();
    let gateway =
        Gateway::start(&Config { server: "body_bytes_max = '1KiB'", ..Config::to(sink.address) }.text());
    let body = approval("a1");
    let (name, value) = signature("sendauth", &body);
    let ask = |method: &str, path: &str, media_type: &str, length: usize| {
        let headers = [("content-type", media_type), (name, &*value), ("expect", "100-continue")];
        let mut stream = connect(gateway.listen);
        let head = head(gateway.listen, method, path, &headers, length);
        stream.write_all(format!("{head}\r\n").as_bytes()).expect("written");
        stream
    };
    let json = "application/json";
    for (stream, status) in [
        (ask("POST", "/in/nobody", json, 10), 404),
        (ask("PUT", "/in/sendauth", json, 10), 405),
        (ask("POST", "/in/sendauth", "text/plain", 10), 415),
        (ask("POST", "/in/sendauth", json, 2000), 413),
    ] {
        assert_eq!(read_answer(stream).expect("an answer").status, status);
    }
    let stream = ask("POST", "/in/sendauth", json, body.len());
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let (line, ..) = read_message(&mut reader).expect("an interim answer");
    assert!(line.starts_with("HTTP/1.1 100"), "{line}");
    (&stream).write_all(&body).expect("written");
    let (line, ..) = read_message(&mut reader).expect("an answer");
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    assert_eq!(sink.count(), 1);
}
