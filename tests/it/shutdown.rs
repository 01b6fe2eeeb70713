//! The end: running requests finish, nobody's connection is cut, and it takes no longer than it may.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{
    Answer, Behaviour, Config, Gate, Gateway, PATIENCE, Sink, approval, connect, eventually, head,
    read_answer, send, signature,
};

/// A request as its vendor would send it, on a connection that may be used again.
fn keep_alive(gateway: &Gateway, id: &str) -> Vec<u8> {
    let body = approval(id);
    let (name, value) = signature("sendauth", &body);
    let head = head(gateway.listen, "POST", "/in/sendauth", &[(name, &value)], body.len());
    [head.as_bytes(), b"\r\n", &body].concat()
}

fn open(gateway: &Gateway, id: &str) -> TcpStream {
    let mut stream = connect(gateway.listen);
    stream.write_all(&keep_alive(gateway, id)).expect("sent");
    stream
}

/// The answer, and whether the connection was closed behind it.
fn answer(stream: &TcpStream) -> (Answer, bool) {
    let answer = read_answer(stream.try_clone().expect("a handle")).expect("an answer");
    (answer, is_closed(stream))
}

fn is_closed(mut stream: &TcpStream) -> bool {
    matches!(stream.read(&mut [0]), Ok(0))
}

/// Without an answer nobody listens either: on loopback it is there when the call returns.
fn is_listening(gateway: &Gateway) -> bool {
    TcpStream::connect_timeout(&gateway.listen, Duration::from_millis(100)).is_ok()
}

/// An app that holds every request until its gate is opened.
fn held() -> (Sink, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    (Sink::behaving(move |_, _| Behaviour::Wait(Arc::clone(&held))), gate)
}

fn terminate(gateway: &Gateway) {
    gateway.signal("TERM");
    gateway.logged(|line| line["message"].as_str().is_some_and(|text| text.starts_with("stopping")));
}

fn config(sink: &Sink, server: &str) -> String {
    Config { server, ..Config::to(sink.address) }.text()
}

#[test]
fn running_requests_get_their_answers() {
    for signal in ["TERM", "INT"] {
        let (sink, gate) = held();
        let mut gateway = Gateway::start(&config(&sink, ""));
        let running: Vec<TcpStream> = (0..20).map(|id| open(&gateway, &id.to_string())).collect();
        sink.wait_for(20);
        gateway.signal(signal);
        eventually("the listener is closed", || !is_listening(&gateway));
        let ready = gateway.admin_get("/readyz");
        assert_eq!((ready.status, ready.text().as_str()), (503, "not ready: draining\n"));
        assert_eq!(gateway.admin_get("/livez").status, 200);
        gate.open();
        for stream in running {
            let (answer, closed) = answer(&stream);
            answer.id();
            assert_eq!((answer.header("connection"), closed), (Some("close"), true));
        }
        assert_eq!(gateway.wait().code(), Some(0));
        gateway.logged(|line| line["message"] == "stopped");
        assert_eq!(sink.count(), 20);
    }
}

#[test]
fn new_work_is_served_while_it_drains() {
    let sink = Sink::start();
    let mut gateway = Gateway::start(&config(&sink, "drain_delay = \"2s\""));
    send(&gateway, "sendauth", &approval("before")).id();
    let idle = open(&gateway, "idle");
    read_answer(idle.try_clone().expect("a handle")).expect("an answer");
    let told = Instant::now();
    terminate(&gateway);
    assert_eq!(gateway.admin_get("/readyz").status, 503);
    send(&gateway, "sendauth", &approval("after")).id();
    (&idle).write_all(&keep_alive(&gateway, "after, on a connection from before")).expect("sent");
    let answer = read_answer(idle.try_clone().expect("a handle")).expect("an answer");
    assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
    answer.id();
    assert!(is_closed(&idle));
    let last = open(&gateway, "after, on a connection of its own");
    read_answer(last.try_clone().expect("a handle")).expect("an answer").id();
    assert!(told.elapsed() < Duration::from_secs(2), "too slow a machine to tell");
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(told.elapsed() >= Duration::from_secs(2));
    assert_eq!(sink.count(), 5);
}

#[test]
fn idle_connections_are_closed() {
    let sink = Sink::start();
    let mut gateway = Gateway::start(&config(&sink, ""));
    let used = open(&gateway, "1");
    read_answer(used.try_clone().expect("a handle")).expect("an answer").id();
    let silent = connect(gateway.listen);
    send(&gateway, "sendauth", &approval("2")).id();
    let told = Instant::now();
    gateway.signal("TERM");
    assert!(is_closed(&used) && is_closed(&silent));
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(10), "an idle connection was waited for");
}

/// The app asks to be tried again, after the end has begun; the vendor has hung up by then.
#[test]
fn a_delivery_whose_caller_is_gone_is_finished() {
    let (open_gate, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let sink = Sink::behaving(move |number, _| match number {
        0 => {
            gate.lock().expect("one at a time").recv_timeout(PATIENCE).expect("opened");
            Behaviour::Status(503, "retry-after: 1\r\n")
        }
        _ => Behaviour::Status(200, ""),
    });
    let mut gateway = Gateway::start(&config(&sink, ""));
    let caller = open(&gateway, "1");
    sink.wait_for(1);
    drop(caller);
    eventually("the caller is seen to be gone", || {
        gateway.metric("hookwarden_http_requests_in_flight") == 0.0
    });
    let gone = r#"hookwarden_http_requests_total{source="sendauth",method="POST",code="499"}"#;
    assert_eq!(gateway.metric(gone), 1.0);
    let said = gateway.logged(|line| line["result"] == "gone");
    assert_eq!((&said["source"], &said["status"]), (&"sendauth".into(), &499.into()));
    terminate(&gateway);
    open_gate.send(()).expect("it waits");
    let arrived = sink.wait_for(2);
    assert_eq!(arrived[0].id(), arrived[1].id());
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!gateway.log().contains("an event was not delivered"), "{}", gateway.log());
    gateway.logged(|line| line["message"] == "stopped");
}

#[test]
fn a_second_signal_ends_at_once() {
    let sink = Sink::behaving(|_, _| Behaviour::Silence);
    let mut gateway = Gateway::start(&config(&sink, ""));
    let running = open(&gateway, "1");
    sink.wait_for(1);
    terminate(&gateway);
    let told = Instant::now();
    gateway.signal("TERM");
    gateway.wait();
    assert!(told.elapsed() < Duration::from_secs(5));
    assert!(read_answer(running).is_none());
    gateway.logged(|line| line["message"] == "stopped at once, by a second signal");
}

#[test]
fn the_grace_bounds_an_app_that_hangs() {
    let sink = Sink::behaving(|_, _| Behaviour::Silence);
    let mut gateway = Gateway::start(&config(&sink, "shutdown_grace = \"500ms\""));
    let running = open(&gateway, "1");
    sink.wait_for(1);
    let told = Instant::now();
    gateway.signal("TERM");
    assert!(read_answer(running).is_none());
    assert_eq!(gateway.wait().code(), Some(0));
    assert!((500..5000).contains(&told.elapsed().as_millis()), "{:?}", told.elapsed());
    gateway.logged(|line| {
        line["message"].as_str().is_some_and(|text| text.starts_with("shutdown_grace is over"))
    });
}

/// SendAuth waits 10 s: what may take longer than is left is better sent elsewhere.
#[test]
fn what_might_be_cut_off_is_not_begun() {
    let (sink, gate) = held();
    let mut gateway = Gateway::start(&config(&sink, "shutdown_grace = \"5s\""));
    let running = open(&gateway, "1");
    sink.wait_for(1);
    let newcomer = connect(gateway.listen);
    // It is taken from the queue before this one is answered.
    gateway.post("/", &[], b"").refused(404, "unknown_source");
    terminate(&gateway);
    eventually("the listener is closed", || !is_listening(&gateway));
    (&newcomer).write_all(&keep_alive(&gateway, "2")).expect("sent");
    let (refused, closed) = answer(&newcomer);
    refused.refused(503, "draining");
    assert!(closed);
    gate.open();
    answer(&running).0.id();
    assert_eq!(gateway.wait().code(), Some(0));
    assert_eq!(sink.count(), 1);
}

/// threats.md H1.
#[test]
fn under_load_every_request_has_an_answer_or_no_connection() {
    let sink = Sink::start();
    let text = Config { tables: "[limits]\nper_ip = \"unlimited\"", ..Config::to(sink.address) }.text();
    let mut gateway = Gateway::start(&text);
    thread::scope(|scope| {
        let senders: Vec<_> = (0..8)
            .map(|sender| {
                let gateway = &gateway;
                scope.spawn(move || load(gateway, sender))
            })
            .collect();
        sink.wait_for(200);
        gateway.signal("TERM");
        let answered: usize = senders.into_iter().map(|sender| sender.join().expect("all answered")).sum();
        assert_eq!(answered, sink.count());
    });
    assert_eq!(gateway.wait().code(), Some(0));
}

/// Sends on a connection of its own each time until there is none; how many were taken.
fn load(gateway: &Gateway, sender: usize) -> usize {
    for number in 0.. {
        let Ok(mut stream) = TcpStream::connect(gateway.listen) else { return number };
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream.write_all(&keep_alive(gateway, &format!("{sender}-{number}"))).expect("sent");
        let answer = read_answer(stream).unwrap_or_else(|| panic!("no answer to {sender}-{number}"));
        answer.id();
    }
    unreachable!("the gateway ends")
}
