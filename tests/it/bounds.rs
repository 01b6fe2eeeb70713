//! What little a sender may make the gateway take: memory for a body that grows, room for one that does not come.

use std::{fs, io::Write, net::TcpStream, sync::Arc};

use serde_json::json;

use crate::harness::*;

const UNLIMITED: &str = "limits.per_ip = 'unlimited'";
/// A body may take longer than any test waits.
const PATIENT: &str = "body_timeout = '60s'\nbody_rate_min = '0B'\nrequest_timeout = '60s'";

/// Most memory the gateway has had so far, in KiB.
fn peak_kib(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Each secret's pointer repeats the names above it.
#[test]
fn a_long_name_over_many_secrets_makes_no_large_event() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    send(&gateway, "sendauth", &approval("a1")).id();
    let before = peak_kib(&gateway);
    let secrets = vec![r#""otp":"x""#; 6000].join(",");
    let body = format!(r#"{{"id":"a2","authGroup":{{}},"{}":{{{secrets}}}}}"#, "k".repeat(30_000));
    send(&gateway, "sendauth", body.as_bytes()).id();
    let event = sink.last();
    assert!(event.body.len() < 4 * body.len(), "{} of {}", event.body.len(), body.len());
    let event = event.json();
    let listed = event["data"]["vendor"]["redacted"].as_array().expect("a list");
    assert!((1..=4).contains(&listed.len()), "{}", listed.len());
    assert!(!event.to_string().contains(r#""otp":"x""#));
    let grown = peak_kib(&gateway) - before;
    assert!(grown < 64 << 10, "{grown} KiB");
}

/// Connections that announce a body of 1 MB and send none of it.
fn dawdle(gateway: &Gateway, count: u32) -> Vec<TcpStream> {
    let head = head(gateway.listen, "POST", "/in/sendauth", &[JSON], 1_000_000);
    let begin = |_| {
        let mut stream = connect(gateway.listen);
        stream.write_all(&[head.as_bytes(), b"\r\n"].concat()).expect("written");
        stream
    };
    let streams = (0..count).map(begin).collect();
    let in_flight = || gateway.metric("hookwarden_http_requests_in_flight");
    eventually("they are begun", || in_flight() >= f64::from(count));
    streams
}

#[test]
fn bodies_that_do_not_come_take_no_room_from_those_that_do() {
    let sink = Sink::start();
    let config = Config { top: UNLIMITED, server: PATIENT, ..Config::to(sink.address) };
    let gateway = Gateway::start(&config.text());
    let _dawdling = dawdle(&gateway, 1100);
    for id in ["a1", "a2", "a3"] {
        send(&gateway, "sendauth", &approval(id)).id();
    }
}

#[test]
fn requests_that_are_not_here_yet_are_none_of_requests_max() {
    let sink = Sink::start();
    let server = &format!("{PATIENT}\nrequests_max = 1");
    let config = Config { server, ..Config::to(sink.address) };
    let gateway = Gateway::start(&config.text());
    let _dawdling = dawdle(&gateway, 10);
    send(&gateway, "sendauth", &approval("a1")).id();
}

#[test]
fn what_is_made_of_a_body_is_held_too() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let sink = Sink::behaving(move |_, _| Behaviour::Wait(Arc::clone(&held)));
    let (server, top) = ("body_bytes_max = '2KiB'", "limits.inflight_bytes_max = '12KiB'");
    let gateway = Gateway::start(&Config { server, top, ..Config::to(sink.address) }.text());
    let sized = |id: &str, more: serde_json::Value| {
        json!({ "id": id, "state": "verified", "authGroup": {}, "payload": more }).to_string()
    };
    let (flat, dense) = (sized("a1", "x".repeat(1800).into()), sized("a2", vec![1; 900].into()));
    std::thread::scope(|scope| {
        let one = scope.spawn(|| send(&gateway, "sendauth", flat.as_bytes()).id());
        sink.wait_for(1);
        // Not a value beside the text: there is room for as much again. A thousand values: there is none left.
        send(&gateway, "sendauth", dense.as_bytes()).refused(503, "overloaded");
        gate.open();
        one.join().expect("taken");
    });
    // Alone, even the densest body finds room.
    eventually("there is room again", || send(&gateway, "sendauth", dense.as_bytes()).status == 200);
}
