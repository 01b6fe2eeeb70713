//! An app that is away for an hour, by a clock that the test moves.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Sender, channel},
    thread,
};

use jiff::Timestamp;

use super::*;
use crate::{
    assemble::assemble,
    clock::Clock,
    config::Settings,
    gateway::{Shared, SharedBounds},
    identity::EventId,
    inbox::{Content, Record, Way},
    process::resident_bytes,
    upstream::Format,
};

/// Events, unless `HOOKWARDEN_OUTAGE_EVENTS` says otherwise.
const EVENTS: u32 = 2_000;
const LANES: u32 = 50;
const PATIENCE: Duration = Duration::from_secs(600);

fn events() -> u32 {
    std::env::var("HOOKWARDEN_OUTAGE_EVENTS").map_or(EVENTS, |text| text.parse().expect("a number"))
}

/// An app that tells the number of each event it takes.
fn app(address: SocketAddr, taken: &Sender<u32>) {
    let listener = TcpListener::bind(address).expect("the port is free again");
    let taken = taken.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let taken = taken.clone();
            thread::spawn(move || serve(&stream, &taken));
        }
    });
}

fn serve(mut stream: &TcpStream, taken: &Sender<u32>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut number) = (0, 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            match line.trim_end().split_once(": ") {
                Some(("content-length", text)) => length = text.parse().expect("a number"),
                Some(("webhook-id", id)) => {
                    let key = EventId::parse(id).expect("an id").key();
                    number = u32::try_from(key).expect("ours");
                }
                Some(_) => {}
                None if line.trim_end().is_empty() => break,
                None => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the body");
        taken.send(number).expect("somebody counts");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("answered");
    }
}

fn record(number: u32, now: Timestamp) -> Record {
    // Every other event keeps the order of its partition.
    let ordered = number % 2 == 1;
    let way = Way { upstream: "app".into(), format: Format::CloudEvents, ordered };
    Record {
        id: EventId::from_bytes(u128::from(number).to_be_bytes()),
        realm: 1,
        window: None,
        dedup_window: Duration::from_secs(3600),
        received_at: now,
        source: "sendauth".into(),
        event_type: "approval.approved",
        subject: None,
        partition_key: (number % LANES).to_string(),
        client: [127, 0, 0, 1].into(),
        content: Content {
            attributes: "{}".into(),
            data: Some(vec![b' '; 1000].into()),
            ..Content::default()
        },
        ways: vec![way],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_hour_without_its_app_everything_arrives_in_order_and_memory_is_flat() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "inbox.url = \"sqlite:{}\"\n\
         upstreams.app = {{ url = \"http://{address}/\", secret_env = \"SECRET\" }}\n\
         sources.sendauth = {{ vendor = \"sendauth\", secret_env = \"SECRET\", upstream = \"app\" }}",
        dir.path().join("inbox.db").display()
    );
    let settings: Settings = toml::from_str(&text).unwrap();
    let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    let bounds = SharedBounds { entries_max: 1, arrivals_max: 1, requests_max: 1, body_bytes_max: 1 };
    let shared = Shared::new(clock.clone(), &bounds);
    let env = |_: &str| Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into());
    let gateway = assemble(&settings, &env, &shared, None).unwrap().gateway;
    let url = settings.inbox.url.as_ref().unwrap();
    let errors = shared.metrics.inbox_errors.clone();
    let inbox = Arc::new(Inbox::open(&settings.inbox, url, Duration::MAX, &clock, errors).unwrap());
    let couriers = Couriers::start(Arc::clone(&inbox), Arc::new(ArcSwap::from_pointee(gateway)), false);

    for first in (0..events()).step_by(usize::try_from(LANES).unwrap()) {
        // One of each partition at a time: within a partition, by number is in the order of receipt.
        let mut appends = JoinSet::new();
        for number in first..(first + LANES).min(events()) {
            let (inbox, now) = (Arc::clone(&inbox), clock.now());
            appends.spawn(async move { inbox.append(record(number, now)).await.unwrap() });
        }
        appends.join_all().await;
    }
    quiet(&inbox).await;
    let before = resident_bytes().unwrap();
    for minutes in [1, 2, 3, 4, 10, 20, 20] {
        clock.advance(Duration::from_secs(60 * minutes));
        couriers.reloaded();
        quiet(&inbox).await;
    }
    let tally = inbox.stats().await.unwrap().tally["app"].clone();
    assert_eq!(tally.ready + tally.retrying, u64::from(events()), "none was delivered, none is dead");

    let (sender, taken) = channel();
    app(address, &sender);
    clock.advance(Duration::from_secs(2 * 3600));
    let began = Instant::now();
    couriers.reloaded();
    let mut last: HashMap<u32, u32> = HashMap::new();
    for _ in 0..events() {
        let number = taken.recv_timeout(PATIENCE).expect("all arrive");
        if number % 2 == 1 {
            let before = last.insert(number % LANES, number);
            assert!(before.is_none_or(|before| before < number), "{number} after {before:?}");
        }
    }
    let took = began.elapsed();
    quiet(&inbox).await;
    let grown = resident_bytes().unwrap().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more than before");
    assert!(taken.try_recv().is_err(), "none comes twice");
    println!("{} events after an hour's outage: {took:?}, {} KiB more memory", events(), grown / 1024);
    couriers.stop().await;
}

/// Waits until nothing is due.
async fn quiet(inbox: &Inbox) {
    let deadline = Instant::now() + PATIENCE;
    while !inbox.due("app", &HashSet::new(), 1).await.unwrap().due.is_empty() {
        assert!(Instant::now() < deadline, "something stays due");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
