//! Limits, what is said when one is reached, and the order of the gates: what fails early spends nothing that comes
//! later, and nobody without the vendor's secret spends what is the vendor's.

use std::{io::Write, sync::Arc};

use crate::harness::*;

/// Checks the headers of a refusal by this limit, and returns how long to wait, in seconds.
#[track_caller]
fn limited(answer: &Answer, policy: &str, quota_and_window: &str) -> u64 {
    let wait = answer.header("retry-after").expect("retry-after");
    let stated = format!("\"{policy}\";{quota_and_window}");
    assert_eq!(answer.header("ratelimit-policy"), Some(&*stated), "{answer:?}");
    assert_eq!(answer.header("ratelimit"), Some(&*format!("\"{policy}\";r=0;t={wait}")), "{answer:?}");
    wait.parse().expect("seconds")
}

#[test]
fn an_address_has_a_budget_before_anything_is_read() {
    let sink = Sink::start();
    let config = Config { top: "limits.per_ip = '1/h burst 3'", ..Config::to(sink.address) };
    let gateway = Gateway::start(&config.text());
    send(&gateway, "sendauth", &approval("a1")).id();
    forge(&gateway, "sendauth", &approval("a2")).refused(401, "unverified");
    assert!(send(&gateway, "sendauth", &approval("a1")).is_duplicate());
    for answer in [send(&gateway, "sendauth", &approval("a3")), forge(&gateway, "loginradius", b"{}")] {
        answer.refused(429, "rate_limited");
        let wait = limited(&answer, "per_ip", "q=1;w=3600");
        assert!((3500..=3600).contains(&wait), "{wait}");
    }
    // The body is not waited for; and what has no address here spends nothing.
    let head = head(gateway.listen, "POST", "/in/sendauth", &[JSON], 1000);
    exchange(gateway.listen, &[head.as_bytes(), b"\r\n"].concat()).refused(429, "rate_limited");
    gateway.post("/in/nobody", &[], b"").refused(404, "unknown_source");
    assert_eq!(sink.count(), 1);
    assert_eq!(gateway.metric("hookwarden_rate_limited_total{source=\"sendauth\",policy=\"per_ip\"}"), 2.0);
}

#[test]
fn a_source_s_budget_is_for_new_verified_events_alone() {
    let sink = Sink::behaving(|number, _| Behaviour::Status(if number == 0 { 500 } else { 200 }, ""));
    let config = Config { sendauth: "rate = '2/h'", ..Config::to(sink.address) };
    let gateway = Gateway::start(&config.text());
    for _ in 0..5 {
        forge(&gateway, "sendauth", &approval("a1")).refused(401, "unverified");
        send(&gateway, "sendauth", b"not JSON").refused(400, "malformed_body");
    }
    send(&gateway, "sendauth", &approval("a1")).refused(502, "upstream_refused");
    let id = send(&gateway, "sendauth", &approval("a1")).id();
    let answer = send(&gateway, "sendauth", &approval("a2"));
    answer.refused(429, "rate_limited");
    let wait = limited(&answer, "source", "q=2;w=3600");
    assert!((1700..=1800).contains(&wait), "{wait}");
    // Over budget, a forgery is still a forgery, and a duplicate a duplicate.
    for _ in 0..5 {
        forge(&gateway, "sendauth", &approval("a2")).refused(401, "unverified");
        let again = send(&gateway, "sendauth", &approval("a1"));
        assert_eq!((again.id(), again.is_duplicate()), (id.clone(), true));
    }
    // Another source has its own, and what was limited is no duplicate.
    send(&gateway, "authalert", b"{\"user_id\":\"u\"}").id();
    send(&gateway, "sendauth", &approval("a2")).refused(429, "rate_limited");
    assert_eq!(sink.count(), 3);
    assert_eq!(gateway.metric("hookwarden_rate_limited_total{source=\"sendauth\",policy=\"source\"}"), 2.0);
}

#[test]
fn a_vendor_may_have_a_status_of_its_own_for_limits_and_for_success() {
    let sink = Sink::start();
    let tables = r#"
[sources.fragile]
vendor = "fragile"
secret_env = "SENDAUTH_SECRET"
upstream = "app"
rate = "1/h"
[vendors.fragile]
title = "Gives an event up on any 4xx"
verify = { scheme = "token", header = "x-token" }
response = { limited_status = 503, success_status = 202 }
id = ["/id"]
"#;
    let gateway = Gateway::start(&Config { tables, ..Config::to(sink.address) }.text());
    let post = |body: &[u8]| gateway.post("/in/fragile", &[JSON, ("x-token", SENDAUTH_SECRET)], body);
    assert_eq!(post(b"{\"id\":1}").status, 202);
    let again = post(b"{\"id\":1}");
    assert_eq!((again.status, again.is_duplicate()), (202, true));
    let answer = post(b"{\"id\":2}");
    answer.refused(503, "rate_limited");
    limited(&answer, "source", "q=1;w=3600");
    assert_eq!(sink.count(), 1);
}

/// RFC 9110 §15.3.5: bytes behind such a head would be taken for the next answer.
#[test]
fn a_success_without_content_has_none() {
    let sink = Sink::start();
    let tables = r#"
[sources.terse]
vendor = "terse"
secret_env = "SENDAUTH_SECRET"
upstream = "app"
[vendors.terse]
title = "Wants 204"
verify = { scheme = "token", header = "x-token" }
response = { success_status = 204 }
id = ["/id"]
"#;
    let gateway = Gateway::start(&Config { tables, ..Config::to(sink.address) }.text());
    let mut client = Client::new(gateway.listen);
    for id in 1..=3 {
        let body = format!("{{\"id\":{id}}}");
        let answer = client.post("/in/terse", &[JSON, ("x-token", SENDAUTH_SECRET)], body.as_bytes());
        assert_eq!((answer.status, answer.header("hookwarden-event-id")), (204, Some(sink.last().id())));
        for name in ["content-length", "content-type", "transfer-encoding", "connection"] {
            assert_eq!(answer.header(name), None, "{name}");
        }
    }
    client.post("/in/terse", &[JSON], b"{}").refused(401, "unverified");
}

#[test]
fn a_bad_address_or_a_long_body_is_refused_before_the_body_is_here() {
    let sink = Sink::start();
    let config = Config {
        sendauth: "allow = ['192.0.2.0/24']",
        server: "body_bytes_max = '1KiB'",
        ..Config::to(sink.address)
    };
    let gateway = Gateway::start(&config.text());
    let begin = |method: &str, path: &str, headers: &[(&str, &str)], length: usize| {
        let head = head(gateway.listen, method, path, headers, length);
        exchange(gateway.listen, &[head.as_bytes(), b"\r\n"].concat())
    };
    // In the order of the gates: each request fails all that come later, too.
    begin("PUT", "/in/nobody", &[("content-type", "x")], 2000).refused(404, "unknown_source");
    begin("PUT", "/in/sendauth", &[("content-type", "x")], 2000).refused(405, "method_not_allowed");
    begin("POST", "/in/sendauth", &[("content-type", "x")], 2000).refused(415, "unsupported_media_type");
    begin("POST", "/in/sendauth", &[JSON], 2000).refused(403, "address_refused");
    begin("POST", "/in/loginradius", &[JSON], 2000).refused(413, "body_too_large");
    // Signature before JSON.
    forge(&gateway, "loginradius", b"not JSON").refused(401, "unverified");
    send(&gateway, "loginradius", b"not JSON").refused(400, "malformed_body");
    assert_eq!(sink.count(), 0);
}

/// An app that keeps every request waiting until the gate is opened.
fn slow(gate: &Arc<Gate>) -> Sink {
    let gate = Arc::clone(gate);
    Sink::behaving(move |_, _| Behaviour::Wait(Arc::clone(&gate)))
}

/// What comes while `first` is being delivered, and what became of `first` afterwards.
fn meanwhile(
    gateway: &Gateway,
    sink: &Sink,
    gate: &Gate,
    second: impl FnOnce() -> Answer,
) -> (Answer, Answer) {
    std::thread::scope(|scope| {
        let first = scope.spawn(|| send(gateway, "sendauth", &approval("a1")));
        sink.wait_for(1);
        let second = second();
        gate.open();
        (first.join().expect("no panic"), second)
    })
}

#[test]
fn too_much_at_once_is_shed() {
    let cases: [(&str, &str, &str, &str); 3] = [
        ("requests_max = 1", "", "", "requests_max"),
        ("body_bytes_max = '200B'", "limits.inflight_bytes_max = '200B'", "", "inflight_bytes_max"),
        ("", "", "concurrency = 1", "concurrency"),
    ];
    for (server, top, app, what) in cases {
        let gate = Arc::default();
        let sink = slow(&gate);
        let gateway = Gateway::start(&Config { server, top, app, ..Config::to(sink.address) }.text());
        let second = || send(&gateway, "sendauth", &approval("a2"));
        let (first, shed) = meanwhile(&gateway, &sink, &gate, second);
        shed.refused(503, "overloaded");
        first.id();
        // Room again, and nothing remembered.
        eventually(what, || second().status == 200);
        assert_eq!(sink.count(), 2, "{what}");
    }
}

#[test]
fn bytes_announced_or_here_are_held_and_given_back() {
    let sink = Sink::start();
    let (server, top) = ("body_bytes_max = '300B'", "limits.inflight_bytes_max = '500B'");
    let gateway = Gateway::start(&Config { server, top, ..Config::to(sink.address) }.text());
    let announced = [&head(gateway.listen, "POST", "/in/sendauth", &[JSON], 300), "\r\n{"].concat();
    let chunked = [JSON, ("transfer-encoding", "chunked")];
    let head = head(gateway.listen, "POST", "/in/sendauth", &chunked, 0);
    let here = format!("{head}\r\n12b\r\n{}\r\n", " ".repeat(299));
    let mut body = approval("a1");
    body.resize(300, b' ');
    for unfinished in [announced, here] {
        let begin = || {
            let mut stream = connect(gateway.listen);
            stream.write_all(unfinished.as_bytes()).expect("written");
            eventually("it is begun", || gateway.metric("hookwarden_http_requests_in_flight") == 1.0);
            stream
        };
        let mut waiting = Some(begin());
        eventually("its room is taken", || {
            let answer = send(&gateway, "sendauth", &body);
            if answer.status == 200 {
                // This one may have been first, and the other one refused.
                drop(waiting.take());
                waiting = Some(begin());
                return false;
            }
            answer.refused(503, "overloaded");
            true
        });
        drop(waiting);
        eventually("it is given back", || send(&gateway, "sendauth", &body).status == 200);
    }
}

#[test]
fn an_app_s_rate_is_kept() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config { app: "rate = '1/h'", ..Config::to(sink.address) }.text());
    send(&gateway, "sendauth", &approval("a1")).id();
    let answer = send(&gateway, "sendauth", &approval("a2"));
    answer.refused(503, "overloaded");
    let wait: u64 = answer.header("retry-after").expect("retry-after").parse().expect("seconds");
    assert!((3500..=3600).contains(&wait), "{wait}");
    assert!(send(&gateway, "sendauth", &approval("a1")).is_duplicate());
    assert_eq!(sink.count(), 1);
}

#[test]
fn a_copy_that_may_not_wait_any_longer_is_told_so() {
    let gate = Arc::default();
    let sink = slow(&gate);
    let config = Config::to(sink.address);
    let gateway = Gateway::start(&config.text());
    let (first, copy) = meanwhile(&gateway, &sink, &gate, || {
        // The first request keeps the configuration it began with; its copy gets less time.
        let (server, app) = ("request_timeout = '600ms'", "timeout = '200ms'\nretry = { attempts = 1 }");
        let reloaded = gateway.reconfigure(Config { server, app, ..config }.text());
        assert_eq!(reloaded["message"], "configuration reloaded");
        send(&gateway, "sendauth", &approval("a1"))
    });
    copy.refused(503, "in_flight");
    let id = first.id();
    let again = send(&gateway, "sendauth", &approval("a1"));
    assert_eq!((again.id(), again.is_duplicate(), sink.count()), (id, true, 1));
}
