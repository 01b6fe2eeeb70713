//! What the vendor hears when the app does not take an event, and what is tried again: only what surely did not reach
//! the app. A failed delivery burns no id: the vendor's retry is forwarded, with the same one.

use std::{net::TcpListener, sync::mpsc, thread};

use crate::harness::*;

/// An app that behaves like this to the first request, and takes the others.
fn at_first(behaviour: Behaviour) -> Sink {
    Sink::behaving(move |number, _| if number == 0 { behaviour.clone() } else { Behaviour::Status(200, "") })
}

/// Sends an event that the app does not take at first, and then the vendor's retry.
fn fails_then_works(app: &str, behaviour: Behaviour, status: u16, code: &str) -> Answer {
    let sink = at_first(behaviour);
    let gateway = Gateway::start(&Config { app, ..Config::to(sink.address) }.text());
    let body = approval("a1");
    let failed = send(&gateway, "sendauth", &body);
    failed.refused(status, code);
    assert_eq!(sink.count(), 1, "it was sent again without being asked: {code}");
    let retried = send(&gateway, "sendauth", &body);
    assert!(!retried.is_duplicate(), "the failure burnt the id");
    let [first, second] = &sink.wait_for(2)[..] else { panic!("two arrivals") };
    for name in ["webhook-id", "idempotency-key", "hookwarden-source"] {
        assert_eq!(first.header(name), second.header(name));
    }
    assert_eq!(second.id(), retried.id());
    second.verify();
    let again = send(&gateway, "sendauth", &body);
    assert_eq!((again.id(), again.is_duplicate(), sink.count()), (retried.id(), true, 2));
    failed
}

#[test]
fn what_the_app_refuses_may_come_again() {
    fails_then_works("", Behaviour::Status(500, ""), 502, "upstream_refused");
    fails_then_works("", Behaviour::Status(404, ""), 502, "upstream_refused");
    // Told to go away for good, the vendor would stop: the app's 410 never gets there.
    fails_then_works("", Behaviour::Status(410, ""), 502, "upstream_refused");
    let elsewhere = Behaviour::Bytes(b"HTTP/1.1 302 F\r\nlocation: /\r\n\r\n");
    fails_then_works("", elsewhere, 502, "upstream_refused");
}

#[test]
fn a_broken_answer_is_none() {
    let partial = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc";
    let unfinished = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab";
    let interim = b"HTTP/1.1 102 Processing\r\n\r\n";
    let broken = "upstream_unreachable";
    fails_then_works("", Behaviour::HangUp, 502, broken);
    fails_then_works("", Behaviour::Bytes(b"garbage\r\n\r\n"), 502, broken);
    fails_then_works("", Behaviour::Bytes(b"HTTP/1.1 200"), 502, broken);
    fails_then_works("", Behaviour::Bytes(partial), 502, broken);
    fails_then_works("", Behaviour::Bytes(unfinished), 502, broken);
    fails_then_works("", Behaviour::Bytes(interim), 502, broken);
}

#[test]
fn an_app_that_says_nothing_is_given_up_in_time() {
    fails_then_works("timeout = '300ms'", Behaviour::Silence, 504, "upstream_timeout");
}

#[test]
fn a_reset_connection_burns_no_id() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, listeners) = mpsc::channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        stream.peek(&mut [0; 1]).expect("a byte");
        // Closed with bytes unread: the system resets it.
        drop(stream);
        sender.send(listener).expect("received");
    });
    let gateway = Gateway::start(&Config::to(address).text());
    send(&gateway, "sendauth", &approval("a1")).refused(502, "upstream_unreachable");
    let sink = Sink::at(listeners.recv().expect("the listener"), |_, _| Behaviour::Status(200, ""));
    let retried = send(&gateway, "sendauth", &approval("a1"));
    assert_eq!((sink.only().id(), retried.is_duplicate()), (&*retried.id(), false));
}

#[test]
fn a_busy_app_s_words_reach_the_vendor() {
    let busy = Behaviour::Status(429, "retry-after: 17\r\n");
    assert_eq!(fails_then_works("", busy, 503, "upstream_refused").header("retry-after"), Some("17"));
    // Longer than the vendor waits: not for the gateway to wait.
    let busy = Behaviour::Status(503, "retry-after: 60\r\n");
    assert_eq!(fails_then_works("", busy, 503, "upstream_refused").header("retry-after"), Some("60"));
    let busy = Behaviour::Status(503, "");
    assert_eq!(fails_then_works("", busy, 503, "upstream_refused").header("retry-after"), Some("1"));
}

#[test]
fn what_the_app_says_is_not_the_vendor_s_business() {
    let answer =
        b"HTTP/1.1 500 X\r\nset-cookie: canary=1\r\nconnection: close\r\ncontent-length: 6\r\n\r\ncanary";
    let refused = fails_then_works("", Behaviour::Bytes(answer), 502, "upstream_refused");
    assert!(!format!("{refused:?}").contains("canary"));
    let sink = Sink::behaving(move |_, _| {
        Behaviour::Bytes(b"HTTP/1.1 201 X\r\nset-cookie: canary=1\r\ncontent-length: 6\r\n\r\ncanary")
    });
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let taken = send(&gateway, "sendauth", &approval("a1"));
    assert_eq!(taken.status, 200, "the vendor's own success, whatever the app's 2xx");
    assert!(!format!("{taken:?}").contains("canary"));
}

#[test]
fn every_2xx_of_the_app_is_success() {
    let long = format!("200 OK\r\ncontent-length: 1000000000\r\n\r\n{}", "canary".repeat(100_000));
    let interim = "103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let bare = ["200 OK", "201 Created", "202 Accepted", "204 No Content", "299 X"];
    let bare = bare.map(|status| format!("{status}\r\ncontent-length: 0\r\n\r\n"));
    for answer in bare.into_iter().chain([interim.to_owned(), long]) {
        let answer: &'static str = format!("HTTP/1.1 {answer}").leak();
        let sink = Sink::behaving(move |_, _| Behaviour::Bytes(answer.as_bytes()));
        let gateway = Gateway::start(&Config::to(sink.address).text());
        send(&gateway, "sendauth", &approval("a1")).id();
        assert!(send(&gateway, "sendauth", &approval("a1")).is_duplicate());
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let canary = Sink::start();
    for status in [301, 302, 303, 307, 308] {
        let lines: &'static str = format!("location: http://{}/webhooks\r\n", canary.address).leak();
        let sink = Sink::behaving(move |_, _| Behaviour::Status(status, lines));
        let gateway = Gateway::start(&Config::to(sink.address).text());
        send(&gateway, "sendauth", &approval("a1")).refused(502, "upstream_refused");
        assert_eq!((sink.count(), canary.count()), (1, 0), "{status}");
    }
}

#[test]
fn an_app_that_is_down_is_tried_again_until_it_is_up() {
    // Given back, for the app to come up there.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port");
    let app = "retry = { attempts = 3, base = '500ms' }";
    let top = "log.level = 'hookwarden=debug'";
    let gateway = Gateway::start(&Config { app, top, ..Config::to(address) }.text());
    thread::scope(|scope| {
        let answer = scope.spawn(|| send(&gateway, "sendauth", &approval("a1")));
        gateway.logged(|line| line["message"] == "no connection to upstream");
        let sink =
            Sink::at(TcpListener::bind(address).expect("free again"), |_, _| Behaviour::Status(200, ""));
        let id = answer.join().expect("no panic").id();
        assert_eq!(sink.only().id(), id);
    });
}

#[test]
fn an_app_that_stays_down_is_unreachable() {
    let app = "retry = { attempts = 3, base = '10ms' }";
    let top = "log.level = 'hookwarden=debug'";
    let gateway = Gateway::start(&Config { app, top, ..Config::to(nobody()) }.text());
    send(&gateway, "sendauth", &approval("a1")).refused(502, "upstream_unreachable");
    eventually("three attempts", || gateway.log().matches("no connection to upstream").count() == 3);
    let unreachable = "hookwarden_deliveries_total{upstream=\"app\",result=\"unreachable\",code=\"\"}";
    assert_eq!(gateway.metric(unreachable), 1.0);
}

#[test]
fn a_postponed_delivery_is_made_when_the_app_wants_it() {
    let sink = at_first(Behaviour::Status(503, "retry-after: 0\r\n"));
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let id = send(&gateway, "sendauth", &approval("a1")).id();
    let arrived = sink.wait_for(2);
    assert!(arrived.len() == 2 && arrived.iter().all(|one| one.id() == id));
    assert!(send(&gateway, "sendauth", &approval("a1")).is_duplicate());
}

#[test]
fn a_connection_the_app_has_closed_is_not_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (sender, closed) = mpsc::channel();
    // Answers one request a connection, without a word about closing it.
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (_, headers, _) = read_message(&mut std::io::BufReader::new(&stream)).expect("a request");
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            std::io::Write::write_all(&mut &stream, answer).expect("written");
            drop(stream);
            sender.send(headers["webhook-id"].clone()).expect("received");
        }
    });
    let gateway = Gateway::start(&Config::to(address).text());
    for number in 0..20 {
        let id = send(&gateway, "sendauth", &approval(&format!("a{number}"))).id();
        assert_eq!(closed.recv_timeout(PATIENCE).expect("an arrival"), id);
    }
    assert!(closed.try_recv().is_err(), "nothing arrived twice");
}
