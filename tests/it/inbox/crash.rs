//! Ends at any moment: kill -9 under load, SIGTERM under load.

use std::{
    collections::{BTreeMap, HashSet},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::*;

const KILLS: usize = 200;
const TERMS: usize = 50;
const SENDERS: usize = 4;
/// Longest life of a gateway under load.
const LIFE_MS: u64 = 60;

/// Vendors that send without pause, and send again what was not acknowledged.
struct Vendors {
    place: Arc<(Mutex<Option<SocketAddr>>, Condvar)>,
    done: Arc<AtomicBool>,
    senders: Vec<JoinHandle<Account>>,
    acknowledged: Arc<AtomicUsize>,
}

/// What a vendor knows in the end.
#[derive(Default)]
struct Account {
    acknowledged: Vec<String>,
    /// Answers other than 200, and connections that ended without one.
    refused: usize,
    unanswered: usize,
}

impl Vendors {
    fn start() -> Self {
        let place = Arc::new((Mutex::new(None), Condvar::new()));
        let (done, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let sender = |sender: usize| {
            let (place, done, count) = (Arc::clone(&place), Arc::clone(&done), Arc::clone(&acknowledged));
            thread::spawn(move || {
                let mut account = Account::default();
                for number in 0.. {
                    let body = approval(&format!("{sender}-{number}"));
                    loop {
                        if done.load(Ordering::SeqCst) {
                            return account;
                        }
                        let Some(stream) = connected(&place) else {
                            thread::sleep(Duration::from_millis(1));
                            continue;
                        };
                        match attempt(stream, &body) {
                            Some(answer) if answer.status == 200 => {
                                account.acknowledged.push(answer.id());
                                count.fetch_add(1, Ordering::SeqCst);
                                break;
                            }
                            Some(_) => account.refused += 1,
                            None => account.unanswered += 1,
                        }
                    }
                }
                account
            })
        };
        let senders = (0..SENDERS).map(sender).collect();
        Self { place, done, senders, acknowledged }
    }

    /// Where they send from now on.
    fn send_to(&self, address: Option<SocketAddr>) {
        *self.place.0.lock().unwrap() = address;
        self.place.1.notify_all();
    }

    fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    fn stop(self) -> Vec<Account> {
        self.done.store(true, Ordering::SeqCst);
        self.place.1.notify_all();
        self.senders.into_iter().map(|sender| sender.join().expect("it ends")).collect()
    }
}

/// A connection, as soon as there is a gateway to connect to.
fn connected(place: &(Mutex<Option<SocketAddr>>, Condvar)) -> Option<TcpStream> {
    let waiting = place.0.lock().unwrap();
    let there = place.1.wait_timeout_while(waiting, Duration::from_millis(50), |place| place.is_none());
    let address = *there.unwrap().0;
    TcpStream::connect(address?).ok()
}

/// One request; none without an answer.
fn attempt(mut stream: TcpStream, body: &[u8]) -> Option<Answer> {
    let (name, value) = signature("sendauth", body);
    let address = stream.peer_addr().ok()?;
    let head = head(address, "POST", "/in/sendauth", &[JSON, (name, &value)], body.len());
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    std::io::Write::write_all(&mut stream, &[head.as_bytes(), b"connection: close\r\n\r\n", body].concat())
        .ok()?;
    read_answer(stream)
}

/// How often each event arrived in each life of the gateway.
type Lives = Arc<Mutex<Vec<BTreeMap<String, u32>>>>;

fn counting_app() -> (Sink, Lives) {
    let lives: Lives = Arc::default();
    let counted = Arc::clone(&lives);
    let sink = Sink::behaving(move |_, arrived| {
        let mut lives = counted.lock().unwrap();
        *lives.last_mut().expect("a life").entry(arrived.id().to_owned()).or_default() += 1;
        Behaviour::Status(200, "")
    });
    (sink, lives)
}

/// Ends gateways again and again under load, each at a random moment; then all must be there.
fn ends(rounds: usize, signal: &str) -> (Vec<Account>, Lives, Home) {
    let (sink, lives) = counting_app();
    let home = Home::new();
    let config = home.config(sink.address, SOON);
    let vendors = Vendors::start();
    for round in 0..rounds {
        lives.lock().unwrap().push(BTreeMap::new());
        let mut gateway = Gateway::start(&config);
        let before = vendors.acknowledged();
        vendors.send_to(Some(gateway.listen));
        // Not before it has begun to work; then at any moment.
        eventually("something is taken", || vendors.acknowledged() > before);
        thread::sleep(Duration::from_micros(fastrand::u64(..LIFE_MS * 1000)));
        if signal == "TERM" {
            // As a load balancer does it: no new connections to a gateway that is told to stop.
            vendors.send_to(None);
        }
        gateway.signal(signal);
        let ended = gateway.wait();
        vendors.send_to(None);
        assert_eq!(ended.code(), (signal == "TERM").then_some(0), "round {round}");
        // What this one sent is not the next one's.
        sink.hear_out();
        if round % 20 == 0 {
            assert!(home.is_sound(), "round {round}");
        }
    }
    lives.lock().unwrap().push(BTreeMap::new());
    let gateway = Gateway::start(&config);
    vendors.send_to(Some(gateway.listen));
    let before = vendors.acknowledged();
    eventually("it goes on", || vendors.acknowledged() > before);
    let accounts = vendors.stop();
    eventually("all is settled", || {
        inbox_events(&gateway, "app", "ready") + inbox_events(&gateway, "app", "retrying") == 0.0
    });
    drop(gateway);
    (accounts, lives, home)
}

fn judge(accounts: &[Account], lives: &Lives, home: &Home) -> (usize, u32) {
    assert!(home.is_sound());
    let lives = lives.lock().unwrap();
    let arrived: HashSet<&String> = lives.iter().flat_map(BTreeMap::keys).collect();
    let acknowledged: Vec<&String> = accounts.iter().flat_map(|account| &account.acknowledged).collect();
    let lost: Vec<_> = acknowledged.iter().filter(|id| !arrived.contains(**id)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let twice: Vec<_> = lives.iter().flatten().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "twice within one life: {twice:?}");
    let times: u32 = lives.iter().flatten().map(|(_, times)| times).sum();
    (acknowledged.len(), times - u32::try_from(arrived.len()).unwrap())
}

#[test]
fn kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    let began = Instant::now();
    let (accounts, lives, home) = ends(KILLS, "KILL");
    let (acknowledged, again) = judge(&accounts, &lives, &home);
    // What was under way at a kill may arrive once more: at most as much as may be under way.
    let most = u32::try_from(KILLS * 64).unwrap();
    assert!(again <= most, "{again} came again");
    let unanswered: usize = accounts.iter().map(|account| account.unanswered).sum();
    println!(
        "{KILLS} kills: {acknowledged} acknowledged and arrived, {again} arrived once more, {unanswered} unanswered, {:?}",
        began.elapsed()
    );
}

#[test]
fn a_stop_leaves_nothing_unanswered_and_nothing_comes_twice() {
    let (accounts, lives, home) = ends(TERMS, "TERM");
    let (acknowledged, again) = judge(&accounts, &lives, &home);
    assert_eq!(again, 0, "came again");
    let unanswered: usize = accounts.iter().map(|account| account.unanswered).sum();
    assert_eq!(unanswered, 0, "unanswered");
    println!("{TERMS} stops: {acknowledged} acknowledged and arrived once, none unanswered");
}

/// More than a courier has in its hand.
const QUEUED: usize = 600;

/// Stops a gateway that has events in its inbox which its app takes one after the other; how many arrived.
fn stopped_with_a_queue(home: &Home) -> usize {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let sink = Sink::behaving(move |_, _| Behaviour::Wait(Arc::clone(&held)));
    let mut gateway = Gateway::start(&home.config(sink.address, "concurrency = 1"));
    for number in 0..QUEUED {
        taken(&gateway, &number.to_string());
    }
    gateway.signal("TERM");
    gateway.logged(|line| line["message"].as_str().is_some_and(|text| text.starts_with("stopping")));
    gate.open();
    assert_eq!(gateway.wait().code(), Some(0));
    sink.count()
}

#[test]
fn storage_that_does_not_last_is_emptied_first() {
    assert_eq!(stopped_with_a_queue(&Home::in_memory()), QUEUED);
    // On a disk, what was taken up is finished, and the rest waits for the next start.
    let home = Home::new();
    let arrived = stopped_with_a_queue(&home);
    assert!((1..QUEUED).contains(&arrived), "{arrived}");
    let sink = Sink::start();
    let gateway = Gateway::start(&home.config(sink.address, ""));
    sink.wait_for(QUEUED - arrived);
    eventually("all is settled", || inbox_events(&gateway, "app", "ready") == 0.0);
    assert_eq!(sink.count(), QUEUED - arrived);
}
