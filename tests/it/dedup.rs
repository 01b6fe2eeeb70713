//! Each event once: copies at the same time, copies afterwards, copies by other ways, and what is no copy.

use std::{
    io::Write,
    sync::Arc,
    thread::{self, ScopedJoinHandle},
};

use crate::harness::*;

const IN_FLIGHT: &str = "hookwarden_http_requests_in_flight";
const VERIFIED: &str =
    "hookwarden_verifications_total{source=\"sendauth\",vendor=\"sendauth\",result=\"ok\",key=\"\"}";

/// An app that answers its first request only when the gate is opened, and with this status.
fn gated(gate: &Arc<Gate>, status: u16) -> Sink {
    let gate = Arc::clone(gate);
    Sink::behaving(move |number, _| match number {
        0 => Behaviour::Gated(Arc::clone(&gate), status),
        _ => Behaviour::Status(200, ""),
    })
}

/// The answers to that many copies of one event, all of them sent before the app answers the first.
fn copies(gateway: &Gateway, sink: &Sink, gate: &Gate, count: u32) -> Vec<Answer> {
    let body = approval("a1");
    thread::scope(|scope| {
        let callers: Vec<ScopedJoinHandle<'_, Answer>> =
            (0..count).map(|_| scope.spawn(|| send(gateway, "sendauth", &body))).collect();
        sink.wait_for(1);
        eventually("all are verified", || gateway.metric(VERIFIED) == f64::from(count));
        gate.open();
        callers.into_iter().map(|caller| caller.join().expect("no panic")).collect()
    })
}

#[test]
fn fifty_copies_at_once_are_one_event() {
    let gate = Arc::default();
    let sink = gated(&gate, 200);
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let answers = copies(&gateway, &sink, &gate, 50);
    let id = sink.only().id().to_owned();
    assert!(answers.iter().all(|answer| answer.id() == id));
    assert_eq!(answers.iter().filter(|answer| !answer.is_duplicate()).count(), 1);
    let count = |result: &str| {
        let labels = "source=\"sendauth\",vendor=\"sendauth\",type=\"approval.approved\"";
        gateway.metric(&format!("hookwarden_events_total{{{labels},result=\"{result}\"}}"))
    };
    assert_eq!((count("accepted"), count("duplicate")), (1.0, 49.0));
}

#[test]
fn copies_of_a_delivery_that_fails_get_its_failure_and_may_come_again() {
    let gate = Arc::default();
    let sink = gated(&gate, 500);
    let gateway = Gateway::start(&Config::to(sink.address).text());
    for answer in copies(&gateway, &sink, &gate, 20) {
        answer.refused(502, "upstream_refused");
    }
    assert_eq!(sink.count(), 1);
    let retried = send(&gateway, "sendauth", &approval("a1"));
    assert_eq!((retried.is_duplicate(), sink.count()), (false, 2));
    assert!(sink.arrived().iter().all(|arrived| arrived.id() == retried.id()));
}

#[test]
fn a_caller_that_hangs_up_does_not_stop_the_delivery() {
    for retries_early in [false, true] {
        let gate = Arc::default();
        let sink = gated(&gate, 200);
        let gateway = Gateway::start(&Config::to(sink.address).text());
        let body = approval("a1");
        send_and_hang_up(&gateway, &sink, &body);
        let retried = thread::scope(|scope| {
            let retry = || send(&gateway, "sendauth", &body);
            if retries_early {
                let retry = scope.spawn(retry);
                eventually("it waits", || gateway.metric(IN_FLIGHT) == 1.0);
                gate.open();
                retry.join().expect("no panic")
            } else {
                gate.open();
                retry()
            }
        });
        assert_eq!((retried.id(), retried.is_duplicate()), (sink.only().id().to_owned(), true));
    }
}

/// Sends an event whose delivery hangs, and is gone.
fn send_and_hang_up(gateway: &Gateway, sink: &Sink, body: &[u8]) {
    let (name, value) = signature("sendauth", body);
    let mut caller = connect(gateway.listen);
    let head = head(gateway.listen, "POST", "/in/sendauth", &[(name, &value)], body.len());
    caller.write_all(&[head.as_bytes(), b"\r\n", body].concat()).expect("written");
    sink.wait_for(1);
    drop(caller);
    eventually("the caller's going is noticed", || gateway.metric(IN_FLIGHT) == 0.0);
}

#[test]
fn a_delivery_that_fails_with_nobody_waiting_burns_no_id() {
    let gate = Arc::default();
    let sink = gated(&gate, 500);
    let gateway = Gateway::start(&Config::to(sink.address).text());
    send_and_hang_up(&gateway, &sink, &approval("a1"));
    gate.open();
    gateway.logged(|line| line["message"] == "an event was not delivered");
    let retried = send(&gateway, "sendauth", &approval("a1"));
    // It may have joined the failing delivery's last moment.
    if retried.status != 200 {
        retried.refused(502, "upstream_refused");
        send(&gateway, "sendauth", &approval("a1")).id();
    }
    assert_eq!(sink.count(), 2);
}

#[test]
fn nothing_that_is_not_signed_makes_another_event() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let body = approval("a1");
    let (name, value) = signature("sendauth", &body);
    let first = gateway.post("/in/sendauth", &[(name, &value)], &body).id();
    let names = [
        "x-request-id",
        "x-event-id",
        "x-github-delivery",
        "x-webhook-id",
        "webhook-id",
        "svix-id",
        "ce-id",
        "idempotency-key",
        "traceparent",
        "x-forwarded-for",
        "user-agent",
    ];
    for header in names {
        let again = gateway.post("/in/sendauth", &[(name, &value), (header, "another")], &body);
        assert_eq!((again.id(), again.is_duplicate()), (first.clone(), true), "{header}");
    }
    let again = gateway.post("/in/sendauth?id=another", &[(name, &value)], &body);
    assert_eq!((again.id(), again.is_duplicate()), (first, true));
    assert_eq!(sink.count(), 1);
}

#[test]
fn the_id_decides_and_not_the_rest_of_the_body() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let text = String::from_utf8(approval("a1")).unwrap();
    let first = send(&gateway, "sendauth", text.as_bytes()).id();
    let same = [
        text.replace("user@example.com", "other@example.com"),
        text.replace("\"a1\"", "\"\\u0061\\u0031\""),
        text.replace("\"id\"", "\"\\u0069d\""),
        text.replace("\":", "\" :\n"),
        format!(" {text}\n"),
    ];
    for body in &same {
        let again = send(&gateway, "sendauth", body.as_bytes());
        assert_eq!((again.id(), again.is_duplicate()), (first.clone(), true), "{body}");
    }
    let arrived = String::from_utf8(sink.only().body).unwrap();
    assert!(arrived.contains("user@example.com"), "the first one's body, and no other");
    // Another state, another time, another case: other events.
    let others = [
        text.replace("verified", "denied"),
        text.replace("10:35:00Z", "10:35:01Z"),
        text.replace("\"a1\"", "\"A1\""),
        text.replace("\"a1\"", "\"a1 \""),
    ];
    for (at, body) in others.iter().enumerate() {
        assert!(!send(&gateway, "sendauth", body.as_bytes()).is_duplicate(), "{body}");
        assert_eq!(sink.count(), at + 2);
    }
}

#[test]
fn numbers_are_told_apart_by_their_text_and_no_id_is_no_id() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let with_id = |id: &str| String::from_utf8(approval("a1")).unwrap().replace("\"a1\"", id);
    for id in ["9007199254740992", "9007199254740993", "1e400", "18446744073709551616"] {
        let answer = send(&gateway, "sendauth", with_id(id).as_bytes());
        assert_eq!((answer.status, answer.is_duplicate()), (200, false), "{id}");
        assert!(send(&gateway, "sendauth", with_id(id).as_bytes()).is_duplicate(), "{id}");
    }
    assert_eq!(sink.count(), 4);
    // Events without an id are not all the same event; the same bytes are.
    for (at, id) in ["null", "\"\"", "{}", "[]", "true", "\"\\ud800\""].iter().enumerate() {
        for user in ["user@example.com", "other@example.com"] {
            let body = with_id(id).replace("user@example.com", user);
            let answer = send(&gateway, "sendauth", body.as_bytes());
            assert_eq!((answer.status, answer.is_duplicate()), (200, false), "{id} {user}");
            assert!(send(&gateway, "sendauth", body.as_bytes()).is_duplicate(), "{id} {user}");
        }
        assert_eq!(sink.count(), 4 + 2 * (at + 1));
    }
    let gone = with_id("0").replace("\"id\":0,", "");
    assert!(!send(&gateway, "sendauth", gone.as_bytes()).is_duplicate());
}

#[test]
fn an_event_is_remembered_for_its_window() {
    let sink = Sink::start();
    let config = Config { sendauth: "dedup_window = '1s'", ..Config::to(sink.address) };
    let gateway = Gateway::start(&config.text());
    let first = send(&gateway, "sendauth", &approval("a1"));
    assert!(send(&gateway, "sendauth", &approval("a1")).is_duplicate());
    eventually("it is forwarded again", || !send(&gateway, "sendauth", &approval("a1")).is_duplicate());
    let [before, after] = &sink.arrived()[..] else { panic!("two arrivals") };
    assert_eq!((before.id(), after.id()), (&*first.id(), &*first.id()));
}

#[test]
fn a_full_store_forgets_the_oldest_and_says_so() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config { top: "store.entries_max = 3", ..Config::to(sink.address) }.text());
    let sent = |id: &str| send(&gateway, "sendauth", &approval(id)).is_duplicate();
    for id in ["a1", "a2", "a3"] {
        assert!(!sent(id));
    }
    assert!(sent("a1") && sent("a2") && sent("a3"), "there is room for three");
    assert_eq!(gateway.metric("hookwarden_dedup_evictions_total"), 0.0);
    assert!(!sent("a4"));
    assert_eq!(gateway.metric("hookwarden_dedup_entries"), 3.0);
    assert_eq!(gateway.metric("hookwarden_dedup_evictions_total"), 1.0);
    assert!(sent("a3") && sent("a4") && sent("a2"));
    assert!(!sent("a1"), "the oldest went");
    for id in ["a5", "a6"] {
        assert!(!sent(id));
    }
    assert_eq!((sink.count(), gateway.metric("hookwarden_dedup_evictions_total")), (7, 4.0));
    // Said once a minute, however many there are.
    gateway.logged(|line| line["id"] == sink.last().id());
    let log = gateway.log();
    let warnings: Vec<&str> =
        log.lines().filter(|line| line.contains("no room for more event ids")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("WARN"), "{log}");
}
