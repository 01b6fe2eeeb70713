//! What is refused before it is an event, each with its row of the vendors' table: paths, methods, media types, sizes,
//! signatures, bodies. Nothing of it reaches the app.

use std::{collections::BTreeMap, io::Write};

use crate::harness::*;

/// A vendor that signs the time, beside the five.
const TIMED: &str = r#"
[sources.timed]
vendor = "timed"
secret_env = "SENDAUTH_SECRET"
upstream = "app"
[vendors.timed]
title = "Timed"
verify = { scheme = "hmac", header = "x-timed", syntax = "pairs", template = "{timestamp}.{body}" }
"#;

#[test]
fn whatever_is_wrong_with_a_signature_the_answer_is_the_same() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config { tables: TIMED, ..Config::to(sink.address) }.text());
    let body = approval("a1");
    let (_, right) = signature("sendauth", &body);
    let (upper, half, twice) = (right.to_ascii_uppercase(), &right[..32], right.repeat(2));
    let (prefixed, other) = (format!("sha256={right}"), sha256_hex(&[b"another secret", &body]));
    let pair = format!("{right},{right}");
    let wrong = [other.as_str(), "", "x", half, &right[..63], &twice, &prefixed, &pair, "null", "\"\"", "é"];
    let mut answers = vec![gateway.post("/in/sendauth", &[JSON], &body)];
    for value in wrong {
        answers.push(gateway.post("/in/sendauth", &[JSON, ("x-sendauth-signature", value)], &body));
    }
    let two = [JSON, ("x-sendauth-signature", &right), ("x-sendauth-signature", &other)];
    answers.push(gateway.post("/in/sendauth", &two, &body));
    answers.push(gateway.post("/in/sendauth", &[JSON, two[2], two[1]], &body));
    // Other spellings of the header are other headers.
    answers.push(gateway.post("/in/sendauth", &[JSON, ("x_sendauth_signature", &right)], &body));
    // Signed well, and long ago.
    let old = format!("t=1600000000,v1={}", hmac_hex(SENDAUTH_SECRET, &[b"1600000000.", &body[..]].concat()));
    answers.push(gateway.post("/in/timed", &[JSON, ("x-timed", &old)], &body));
    answers.push(gateway.post("/in/timed", &[JSON, ("x-timed", "t=NaN,v1=00")], &body));
    // The right signature of another body, and a body that is no JSON.
    answers.push(gateway.post("/in/sendauth", &[JSON, ("x-sendauth-signature", &right)], &approval("a2")));
    answers.push(gateway.post("/in/sendauth", &[JSON, ("x-sendauth-signature", &other)], b"not JSON"));

    let faces: Vec<_> = answers.iter().map(face).collect();
    for (answer, face) in answers.iter().zip(&faces) {
        answer.refused(401, "unverified");
        assert_eq!(face, &faces[0]);
    }
    assert_eq!(sink.count(), 0);
    // The signature alone was wrong; hex may be written in either case.
    gateway.post("/in/sendauth", &[JSON, ("x-sendauth-signature", &upper)], &body).id();
    sink.only().verify();
}

/// An answer without what may differ: its instance and its date.
fn face(answer: &Answer) -> (u16, BTreeMap<String, String>, String) {
    let problem = answer.json();
    let instance = problem["instance"].as_str().expect("an instance");
    let mut headers = answer.headers.clone();
    headers.remove("date");
    (answer.status, headers, answer.text().replace(instance, ""))
}

#[test]
fn a_verified_body_must_be_one_json_document() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let whole = approval("a1");
    let good = String::from_utf8(whole.clone()).unwrap();
    let mut invalid = whole.clone();
    invalid[good.find("Group").expect("the name")] = 0xFF;
    let bodies: [(&str, Vec<u8>); 9] = [
        ("empty", Vec::new()),
        ("blank", b" \n".to_vec()),
        ("form", b"a=b&c=d".to_vec()),
        ("truncated", whole[..whole.len() - 1].to_vec()),
        ("two documents", [&whole[..], b"\n", &whole[..]].concat()),
        ("text behind it", [&whole[..], b"x"].concat()),
        ("invalid UTF-8", invalid),
        ("id twice", good.replacen("\"id\"", "\"id\":\"a0\",\"id\"", 1).into_bytes()),
        ("id twice, escaped", good.replacen("\"id\"", "\"\\u0069d\":\"a0\",\"id\"", 1).into_bytes()),
    ];
    for vendor in ["sendauth", "loginradius", "zenlogin", "authpi", "authalert"] {
        for (what, body) in &bodies {
            // Only SendAuth's mapping reads `/id`; to the others it is data.
            if what.starts_with("id") && vendor != "sendauth" {
                continue;
            }
            let answer = send(&gateway, vendor, body);
            assert_eq!(answer.status, 400, "{vendor}, {what}: {answer:?}");
            answer.refused(400, "malformed_body");
        }
    }
    assert_eq!(sink.count(), 0);
    send(&gateway, "sendauth", &whole).id();
    assert_eq!(sink.count(), 1);
}

#[test]
fn a_source_has_one_path() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let body = approval("a1");
    let (name, value) = signature("sendauth", &body);
    let paths = [
        "/",
        "/in",
        "/in/",
        "/in/sendauth/",
        "/in/sendauth/x",
        "//in/sendauth",
        "/in//sendauth",
        "/IN/sendauth",
        "/in/SendAuth",
        "/in/%73endauth",
        "/in%2Fsendauth",
        "/in/sendauth%20",
        "/in/sendauth%00",
        "/in/sendauth;v=1",
        "/in/./sendauth",
        "/in/x/../sendauth",
        "/in/../in/sendauth",
        "/in/sendauth/.",
        "/in/sendauth/..",
        "/in/sendaut",
        "/in/sendauthx",
        "/in/nobody",
        "/webhooks",
        "/livez",
        "/metrics",
        "/api/v1/sources",
    ];
    for path in paths {
        let answer = gateway.post(path, &[JSON, (name, &value)], &body);
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        answer.refused(404, "unknown_source");
    }
    assert_eq!(sink.count(), 0);
    // The query is no part of the path, and none of the address the app has.
    gateway.post("/in/sendauth?to=/elsewhere", &[JSON, (name, &value)], &body).id();
    assert_eq!(sink.only().target, "/webhooks");
}

#[test]
fn neither_host_nor_an_absolute_target_chooses_where_events_go() {
    let (sink, canary) = (Sink::start(), Sink::start());
    let gateway = Gateway::start(&Config::to(sink.address).text());
    for (at, host) in ["evil.example".to_owned(), canary.address.to_string()].iter().enumerate() {
        let body = approval(&format!("a{at}"));
        let (name, value) = signature("sendauth", &body);
        let request = format!(
            "POST http://{host}/in/sendauth HTTP/1.1\r\nhost: {host}\r\n{name}: {value}\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            body.len()
        );
        exchange(gateway.listen, &[request.as_bytes(), &body].concat()).id();
        let arrived = sink.last();
        assert_eq!(
            (arrived.target.as_str(), arrived.header("host")),
            ("/webhooks", &*sink.address.to_string())
        );
        let request = request.replace("/in/sendauth", "/in/nobody");
        exchange(gateway.listen, &[request.as_bytes(), &body].concat()).refused(404, "unknown_source");
    }
    assert_eq!((sink.count(), canary.count()), (2, 0));
}

#[test]
fn a_source_takes_post_alone() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let body = approval("a1");
    let (name, value) = signature("sendauth", &body);
    for method in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "post"] {
        let answer = request(gateway.listen, method, "/in/sendauth", &[JSON, (name, &value)], &body);
        assert_eq!(answer.status, 405, "{method}: {answer:?}");
        answer.refused(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some("POST"), "{method}");
    }
    request(gateway.listen, "GET", "/in/nobody", &[], b"").refused(404, "unknown_source");
    assert_eq!(sink.count(), 0);
}

#[test]
fn only_unencoded_json_is_taken() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let post = |headers: &[(&str, &str)], id: &str| {
        let body = approval(id);
        let (name, value) = signature("sendauth", &body);
        gateway.post("/in/sendauth", &[headers, &[(name, &value)]].concat(), &body)
    };
    let types = [
        "application/x-www-form-urlencoded",
        "text/plain",
        "text/plain; charset=application/json",
        "multipart/form-data; boundary=application/json",
        "application/xml",
        "application/jsonp",
        "application/octet-stream",
        "json",
        "",
    ];
    for media_type in types {
        post(&[("content-type", media_type)], "a0").refused(415, "unsupported_media_type");
    }
    for encoding in ["gzip", "GZIP", "deflate", "br", "zstd", "identity, gzip", "x"] {
        post(&[JSON, ("content-encoding", encoding)], "a0").refused(415, "unsupported_media_type");
    }
    assert_eq!(sink.count(), 0);
    let taken =
        ["application/json; charset=utf-8", "Application/JSON", "application/cloudevents+json", "text/json"];
    for (at, media_type) in taken.into_iter().enumerate() {
        post(&[("content-type", media_type), ("content-encoding", "identity")], &format!("a{at}")).id();
    }
    post(&[], "none").id();
    assert_eq!(sink.count(), taken.len() + 1);
}

#[test]
fn a_body_has_a_longest_length_declared_or_counted() {
    let sink = Sink::start();
    let config = Config { server: "body_bytes_max = '1KiB'", ..Config::to(sink.address) };
    let gateway = Gateway::start(&config.text());
    let padded = |id: &str, length: usize| {
        let mut body = approval(id);
        body.resize(length, b' ');
        body
    };
    send(&gateway, "sendauth", &padded("a1", 1024)).id();
    send(&gateway, "sendauth", &padded("a2", 1025)).refused(413, "body_too_large");

    // Declared and never sent: refused all the same.
    for length in ["1025", "1000000000000", "18446744073709551615"] {
        let head = format!("POST /in/sendauth HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        let answer = exchange(gateway.listen, head.as_bytes());
        // What does not fit 64 bits hyper refuses by itself.
        assert!(matches!(answer.status, 413 | 431), "{length}: {answer:?}");
    }
    let chunked = |body: &[u8], size: usize| {
        let (name, value) = signature("sendauth", body);
        let mut bytes = Vec::new();
        for chunk in body.chunks(size) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        gateway.post("/in/sendauth", &[JSON, ("transfer-encoding", "chunked"), (name, &value)], &bytes)
    };
    chunked(&padded("a3", 1024), 7).id();
    chunked(&padded("a4", 1025), 1025).refused(413, "body_too_large");
    chunked(&padded("a5", 1025), 100).refused(413, "body_too_large");
    chunked(&padded("a6", 100_000), 1000).refused(413, "body_too_large");
    assert_eq!(sink.count(), 2);
    assert_eq!(sink.last().json()["data"]["approval"]["id"], "a3");
}

#[test]
fn who_is_refused_while_it_sends_can_send_to_the_end_and_hears_why() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let body = vec![b' '; 3 << 19];
    for (path, status) in [("/in/sendauth", 413), ("/in/nobody", 404)] {
        let stream = connect(gateway.listen);
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        (&stream).write_all(head.as_bytes()).expect("sent");
        (&stream).write_all(&body).expect("all of it is taken");
        assert_eq!(read_answer(stream).map(|answer| answer.status), Some(status), "{path}");
    }
}

#[test]
fn a_body_has_a_longest_time() {
    let sink = Sink::start();
    let config = Config { server: "body_timeout = '200ms'", ..Config::to(sink.address) };
    let gateway = Gateway::start(&config.text());
    let body = approval("a1");
    let (name, value) = signature("sendauth", &body);
    let head = head(gateway.listen, "POST", "/in/sendauth", &[JSON, (name, &value)], body.len());
    let mut stream = connect(gateway.listen);
    stream.write_all(&[head.as_bytes(), b"\r\n", &body[..10]].concat()).expect("written");
    let answer = read_answer(stream).expect("an answer");
    answer.refused(408, "body_timeout");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(sink.count(), 0);
}

#[test]
fn only_known_networks_may_send() {
    let sink = Sink::start();
    let sendauth = "allow = ['192.0.2.0/24', '2001:db8::/32']";
    let config = Config { sendauth, ..Config::to(sink.address) };
    let gateway = Gateway::start(&config.text());
    let body = approval("a1");
    let (name, value) = signature("sendauth", &body);
    // Nobody has said that this client may speak for others.
    for spoof in
        [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.1"), ("x-real-ip", "192.0.2.1")]
    {
        let answer = gateway.post("/in/sendauth", &[JSON, (name, &value), spoof], &body);
        answer.refused(403, "address_refused");
    }
    assert_eq!(sink.count(), 0);
    // A trusted proxy has a say; the address it names is the one that counts.
    let config = Config { server: "trusted_proxies = ['127.0.0.0/8']", ..config };
    let gateway = Gateway::start(&config.text());
    let from = |address: &str| {
        gateway.post("/in/sendauth", &[JSON, (name, &value), ("x-forwarded-for", address)], &body)
    };
    from("192.0.2.1, 198.51.100.1").refused(403, "address_refused");
    from("198.51.100.1, 192.0.2.7").id();
    assert_eq!(sink.only().header("x-forwarded-for"), "192.0.2.7");
}

/// A proxy that writes one of the two headers lets the caller's other one through.
#[test]
fn proxies_that_contradict_each_other_or_themselves_say_nothing() {
    let sink = Sink::start();
    let sendauth = "allow = ['192.0.2.0/24', '127.0.0.2/32']";
    let config = Config { sendauth, server: "trusted_proxies = ['127.0.0.0/8']", ..Config::to(sink.address) };
    let gateway = Gateway::start(&config.text());
    let from = |vendor: &str, forwarded: &[(&str, &str)]| {
        let body = approval(&sink.count().to_string());
        let (name, value) = signature(vendor, &body);
        let headers = [&[JSON, (name, &*value)], forwarded].concat();
        gateway.post(&format!("/in/{vendor}"), &headers, &body)
    };
    let (good, spoofed) = (("forwarded", "for=192.0.2.7"), ("x-forwarded-for", "192.0.2.7"));
    from("sendauth", &[good, spoofed]).id();
    let unclear: [&[(&str, &str)]; 4] = [
        &[good, ("x-forwarded-for", "198.51.100.1")],
        &[("forwarded", "for=198.51.100.1"), spoofed],
        &[good, ("x-forwarded-for", "unknown")],
        &[("x-forwarded-for", "nonsense, 127.0.0.2")],
    ];
    for forwarded in unclear {
        from("sendauth", forwarded).refused(403, "address_refused");
        from("authpi", forwarded).id();
        assert_eq!(sink.last().header("x-forwarded-for"), "127.0.0.1", "{forwarded:?}");
    }
}

#[test]
fn a_digest_source_takes_no_extension() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    // Signed with the secret itself, so that only the rule about the byte 00 can refuse it.
    for body in [&b"{\"a\":\"\0\"}"[..], b"{\"a\":1}\0", b"\0", b"{\"a\":1}\x80\0\0\0{\"b\":2}"] {
        send(&gateway, "sendauth", body).refused(401, "unverified");
    }
    // The others have proven it to be the vendor's, and find that it is no JSON.
    send(&gateway, "loginradius", b"{\"a\":1}\0").refused(400, "malformed_body");
    assert_eq!(sink.count(), 0);
}
