//! The engine by itself: windows, the index of ids, and what operators find.

mod forgetting;
mod keys;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    engine::{Engine, Look, Write, Written},
    sqlite::{InboxFile, Sqlite},
    *,
};
use crate::upstream::Format;

struct Lab {
    _dir: tempfile::TempDir,
    file: Arc<InboxFile>,
    engine: Sqlite,
    now: Timestamp,
}

impl Lab {
    fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap(), Timestamp::from_second(1_700_000_000).unwrap())
    }

    fn open(dir: tempfile::TempDir, now: Timestamp) -> Self {
        let file = InboxFile::open(&dir.path().join("inbox.db"), u64::MAX).unwrap();
        let engine = Sqlite::new(&file, true).unwrap();
        Self { _dir: dir, file, engine, now }
    }

    /// As another process finds it.
    fn restart(self) -> Self {
        let Self { _dir, file, engine, now } = self;
        drop((engine, file));
        Self::open(_dir, now)
    }

    fn write(&mut self, write: Write) -> Written {
        self.engine.write(self.now, &[write]).unwrap().remove(0)
    }

    /// Stored, or what else came of it.
    fn append(&mut self, number: u32, bytes: usize) -> Result<(), Written> {
        let record = self.record(number, bytes);
        stored(self.write(Write::Append(Box::new(record))))
    }

    fn record(&self, number: u32, bytes: usize) -> Record {
        Record {
            id: id(number),
            realm: 1,
            window: None,
            dedup_window: Duration::from_secs(3600),
            received_at: self.now,
            source: "source".into(),
            event_type: "login",
            subject: Some(format!("user/{number}")),
            partition_key: number.to_string(),
            client: [127, 0, 0, 1].into(),
            content: Content {
                attributes: "{}".into(),
                data: Some(vec![b'x'; bytes].into()),
                ..Content::default()
            },
            ways: vec![Way { upstream: "app".into(), format: Format::CloudEvents, ordered: false }],
        }
    }

    fn due(&mut self) -> Vec<Due> {
        let look = Look {
            upstream: "app",
            now: self.now,
            held: &HashSet::new(),
            max: 10_000,
            bytes_max: usize::MAX,
        };
        self.engine.due(&look).unwrap().due
    }

    /// Delivers all that is due.
    fn deliver(&mut self) {
        let attempt = Attempt { at: self.now, status: Some(200), error: None, took: Duration::ZERO };
        let ended = |due: Due| Write::Ended {
            key: due.key,
            attempt: attempt.clone(),
            fate: Fate::Delivered,
            urgent: false,
        };
        let writes: Vec<Write> = self.due().into_iter().map(ended).collect();
        self.engine.write(self.now, &writes).unwrap();
    }

    fn wait(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    fn bytes(&mut self) -> u64 {
        self.engine.room().unwrap().0
    }

    fn count(&mut self, filter: &Filter) -> usize {
        self.engine.list(filter, None, 100_000).unwrap().len()
    }

    /// What the file says to a query for one value.
    fn value<T: rusqlite::types::FromSql>(&self, of: &str) -> T {
        let file = rusqlite::Connection::open(self._dir.path().join("inbox.db")).unwrap();
        file.query_row(of, (), |row| row.get(0)).unwrap()
    }

    /// Forgets all that was settled before a time.
    fn prune(&mut self, before: Timestamp, max: usize) {
        while self.write(Write::Prune { before, max }) != (Written::Forgotten { count: 0, more: false }) {}
    }

    /// Gives up all that matches, part by part; how many.
    fn discard(&mut self, filter: &Filter, max: usize) -> u64 {
        let (mut after, mut total) = (0, 0);
        loop {
            let act = Write::Act { action: Action::Discard, filter: filter.clone(), after, max };
            let Written::Acted { changed, last } = self.write(act) else { panic!("acted") };
            assert!(changed <= max as u64);
            total += changed;
            match last {
                Some(last) => after = last,
                None => return total,
            }
        }
    }
}

fn stored(written: Written) -> Result<(), Written> {
    if matches!(written, Written::Stored { .. }) { Ok(()) } else { Err(written) }
}

fn forgotten(written: &Written) -> usize {
    let Written::Forgotten { count, .. } = *written else { panic!("forgotten") };
    count
}

fn id(number: u32) -> crate::identity::EventId {
    crate::identity::EventId::from_bytes((u128::from(number) + 1).to_be_bytes())
}

#[test]
fn an_id_is_known_for_its_window_and_by_its_realm() {
    let mut lab = Lab::new();
    assert_eq!(lab.append(1, 10), Ok(()));
    lab.wait(3599);
    assert_eq!(lab.append(1, 10), Err(Written::Known));
    let other = Record { realm: 2, ..lab.record(1, 10) };
    assert_eq!(
        stored(lab.write(Write::Append(Box::new(other)))),
        Ok(()),
        "of another origin, or to another app"
    );
    lab.wait(1);
    assert_eq!(lab.append(1, 10), Ok(()), "the window is over");
    assert_eq!(lab.append(1, 10), Err(Written::Known));
    assert_eq!(lab.count(&Filter { id: Some(id(1)), ..Filter::default() }), 3);
}

#[test]
fn copies_in_one_transaction_are_one_event() {
    let mut lab = Lab::new();
    let batch: Vec<Write> = (0..5).map(|_| Write::Append(Box::new(lab.record(1, 10)))).collect();
    let written = lab.engine.write(lab.now, &batch).unwrap();
    assert!(matches!(written[0], Written::Stored { .. }));
    assert!(written[1..].iter().all(|written| *written == Written::Known));
}

#[test]
fn an_id_is_found_whether_or_not_it_is_in_the_index() {
    const EVENTS: u32 = 2000;
    let mut lab = Lab::new();
    // Of each id the order is another than that of receipt.
    let record = |lab: &Lab, number: u32| Record {
        id: crate::identity::EventId::from_bytes(
            u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes(),
        ),
        dedup_window: Duration::MAX,
        content: Content::default(),
        ..lab.record(number, 0)
    };
    let append = |lab: &mut Lab, numbers: std::ops::Range<u32>| {
        let batch: Vec<Write> = numbers.map(|number| Write::Append(Box::new(record(lab, number)))).collect();
        let written = lab.engine.write(lab.now, &batch).unwrap();
        written.into_iter().filter(|written| *written != Written::Known).count()
    };
    let rows = |lab: &Lab, of: &str| lab.value::<i64>(of);
    for first in (0..EVENTS).step_by(25) {
        assert_eq!(append(&mut lab, first..first + 25), 25);
        // A second time at once, and some of long ago.
        assert_eq!(append(&mut lab, first / 2..first / 2 + 25), 0);
        if first % 400 == 0 {
            lab.engine.reopen().unwrap();
        }
    }
    let missing = "SELECT count(*) FROM events e WHERE NOT EXISTS (SELECT 1 FROM ids WHERE event = e.event)";
    let behind = rows(&lab, missing);
    assert!((1..100).contains(&behind), "{behind}");
    let missing = "SELECT count(*) FROM events e WHERE event <= (SELECT event FROM indexed) AND \
                   NOT EXISTS (SELECT 1 FROM ids i WHERE (i.id, i.realm, i.event) = (e.id, e.realm, e.event))";
    assert_eq!(rows(&lab, missing), 0);
    assert!(rows(&lab, "SELECT event FROM indexed") > 0);
    lab.engine.reopen().unwrap();
    for first in (0..EVENTS).step_by(50) {
        assert_eq!(append(&mut lab, first..first + 50), 0);
        let Record { id, realm, .. } = record(&lab, first + 25);
        assert_eq!(lab.count(&Filter { id: Some(id), ..Filter::default() }), 1);
        assert!(lab.engine.knows(id, realm, Timestamp::MIN).unwrap());
        assert!(!lab.engine.knows(id, realm + 1, Timestamp::MIN).unwrap());
    }
    let all = Filter::default();
    lab.write(Write::Act { action: Action::Discard, filter: all, after: 0, max: 10_000 });
    // What is forgotten is in no index, and no number is another's afterwards.
    let last = rows(&lab, "SELECT max(event) FROM events");
    lab.wait(10);
    lab.prune(lab.now, 1000);
    assert_eq!((rows(&lab, "SELECT count(*) FROM events"), rows(&lab, "SELECT count(*) FROM ids")), (0, 0));
    assert_eq!(append(&mut lab, 0..1), 1);
    assert_eq!(rows(&lab, "SELECT event FROM events"), last + 1);
    lab.engine.reopen().unwrap();
    assert_eq!(append(&mut lab, 0..2), 1);
}

#[test]
fn a_process_that_stores_few_leaves_no_more_behind_the_index_than_one_that_stores_many() {
    let mut lab = Lab::new();
    for number in 0..200 {
        // One id, again and again.
        let record = Record { dedup_window: Duration::ZERO, ..lab.record(number % 2 * number, 10) };
        assert_eq!(stored(lab.write(Write::Append(Box::new(record)))), Ok(()));
        if number % 3 == 0 {
            lab.engine.reopen().unwrap();
            let behind: i64 =
                lab.value("SELECT count(*) FROM events WHERE event > (SELECT event FROM indexed)");
            assert!(behind <= 24, "{behind}");
        }
    }
    assert_eq!(lab.count(&Filter { id: Some(id(0)), ..Filter::default() }), 100);
}

#[test]
fn readers_know_what_was_stored_whoever_moves_it_meanwhile() {
    const EVENTS: u32 = 500;
    let mut lab = Lab::new();
    let mut reader = Sqlite::new(&lab.file, false).unwrap();
    let last_stored = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&last_stored);
    let reads = std::thread::spawn(move || {
        let mut rng = fastrand::Rng::with_seed(1);
        loop {
            let last = seen.load(Ordering::Acquire);
            for _ in 0..last.min(20) {
                let number = rng.u32(1..=last);
                assert!(reader.knows(id(number), 1, Timestamp::MIN).unwrap(), "{number} of {last}");
                let filter = Filter { id: Some(id(number)), ..Filter::default() };
                assert_eq!(reader.list(&filter, None, 10).unwrap().len(), 1, "{number} of {last}");
            }
            if last == EVENTS {
                break;
            }
        }
    });
    for number in 1..=EVENTS {
        lab.append(number, 10).unwrap();
        last_stored.store(number, Ordering::Release);
    }
    reads.join().unwrap();
}

#[test]
fn of_a_write_that_failed_nothing_counts_and_the_next_is_whole() {
    let mut lab = Lab::new();
    let file = rusqlite::Connection::open(lab._dir.path().join("inbox.db")).unwrap();
    let fails = "CREATE TRIGGER fails BEFORE INSERT ON deliveries WHEN NEW.event = 2 BEGIN SELECT RAISE(ABORT, 'test'); END";
    file.execute_batch(fails).unwrap();
    let batch: Vec<Write> = (1..4).map(|number| Write::Append(Box::new(lab.record(number, 10)))).collect();
    assert!(lab.engine.write(lab.now, &batch).is_err());
    assert_eq!(lab.count(&Filter::default()), 0);
    assert!(!lab.engine.knows(id(1), 1, Timestamp::MIN).unwrap());
    file.execute_batch("DROP TRIGGER fails").unwrap();
    let written = lab.engine.write(lab.now, &batch).unwrap();
    assert!(written.into_iter().all(|written| stored(written).is_ok()));
    assert_eq!((lab.count(&Filter::default()), lab.due().len()), (3, 3));
    assert_eq!(lab.engine.stats().unwrap().tally["app"].ready, 3);
}

#[test]
fn every_attempt_is_told_in_its_order_until_its_event_goes() {
    let mut lab = Lab::new();
    let attempts = |lab: &mut Lab| {
        let mut stored = lab.engine.list(&Filter::default(), None, 1).unwrap();
        let delivery = stored.remove(0).deliveries.remove(0);
        delivery.attempts.into_iter().map(|attempt| (attempt.status, attempt.error)).collect::<Vec<_>>()
    };
    let rows = |lab: &Lab, of: &str| lab.value::<String>(of);
    lab.append(1, 10).unwrap();
    assert_eq!(attempts(&mut lab), []);
    let key = lab.due()[0].key;
    let mut told = Vec::new();
    let late = lab.now + SignedDuration::from_secs(1);
    let failed = (None, Some("no connection to the app".to_owned()));
    for (fate, (status, error)) in [
        (Fate::Retry(late), failed.clone()),
        (Fate::Retry(late), (Some(503), None)),
        (Fate::Delivered, (Some(200), None)),
        // Delivered all the same, as after a replay that a crash cut off.
        (Fate::Delivered, (Some(204), None)),
        (Fate::Dead, failed),
    ] {
        let attempt = Attempt { at: lab.now, status, error: error.clone(), took: Duration::from_millis(7) };
        lab.write(Write::Ended { key, attempt, fate, urgent: false });
        told.push((status, error));
        assert_eq!(attempts(&mut lab), told);
    }
    assert_eq!(
        rows(&lab, "SELECT status || ' ' || attempts || ' ' || last FROM inbox"),
        "delivered 5 no connection to the app"
    );
    assert_eq!(
        rows(&lab, "SELECT count(*) || ' ' || min(attempt) || ' ' || max(attempt) FROM attempts"),
        "4 1 4"
    );
    lab.wait(10);
    assert_eq!(forgotten(&lab.write(Write::Prune { before: lab.now, max: 10 })), 1);
    assert_eq!(rows(&lab, "SELECT count(*) || '' FROM attempts"), "0");
}

#[test]
fn actions_go_through_all_that_matches_part_by_part() {
    let mut lab = Lab::new();
    for number in 0..25 {
        lab.append(number, 10).unwrap();
    }
    let filter = Filter { status: Some(Status::Ready), ..Filter::default() };
    assert_eq!(lab.engine.count(&filter, Action::Discard), Ok(25));
    assert_eq!(lab.discard(&filter, 10), 25);
    assert_eq!(lab.engine.count(&filter, Action::Discard), Ok(0));
    assert_eq!(lab.engine.stats().unwrap().tally["app"], Tally::default());
}

#[test]
fn contents_are_fetched_within_bounds() {
    let mut lab = Lab::new();
    for number in 0..10 {
        lab.append(number, 1000).unwrap();
    }
    let look = |held: &HashSet<i64>, lab: &mut Lab, max, bytes_max| {
        let look = Look { upstream: "app", now: lab.now, held, max, bytes_max };
        let taken = lab.engine.due(&look).unwrap();
        (taken.due.iter().map(|due| due.key.event).collect::<Vec<_>>(), taken.more)
    };
    let none = HashSet::new();
    assert_eq!(look(&none, &mut lab, 3, usize::MAX), (vec![1, 2, 3], true));
    assert_eq!(look(&none, &mut lab, 100, 2500), (vec![1, 2, 3], true));
    assert_eq!(look(&none, &mut lab, 100, 0), (vec![1], true), "one always");
    assert_eq!(look(&(1..=9).collect(), &mut lab, 100, usize::MAX), (vec![10], false));
}

/// An engine whose first write fails, and what it was asked for.
struct Failing {
    engine: Sqlite,
    asked: Arc<Mutex<Vec<&'static str>>>,
}

impl Engine for Failing {
    fn write(&mut self, now: Timestamp, batch: &[Write]) -> Result<Vec<Written>, EngineError> {
        let mut asked = self.asked.lock().unwrap();
        asked.push("write");
        if asked.len() == 1 {
            Err(EngineError::Disk("test".to_owned()))
        } else {
            self.engine.write(now, batch)
        }
    }

    fn reopen(&mut self) -> Result<(), EngineError> {
        self.asked.lock().unwrap().push("reopen");
        self.engine.reopen()
    }

    fn knows(&mut self, id: EventId, realm: u128, after: Timestamp) -> Result<bool, EngineError> {
        self.engine.knows(id, realm, after)
    }

    fn due(&mut self, look: &Look<'_>) -> Result<Taken, EngineError> {
        self.engine.due(look)
    }

    fn list(
        &mut self,
        filter: &Filter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Stored>, EngineError> {
        self.engine.list(filter, before, limit)
    }

    fn count(&mut self, filter: &Filter, action: Action) -> Result<u64, EngineError> {
        self.engine.count(filter, action)
    }

    fn windows(&mut self, after: Timestamp) -> Result<Vec<OpenWindow>, EngineError> {
        self.engine.windows(after)
    }

    fn stats(&mut self) -> Result<Stats, EngineError> {
        self.engine.stats()
    }

    fn room(&mut self) -> Result<(u64, u64), EngineError> {
        self.engine.room()
    }

    fn tidy(&mut self) -> Result<(), EngineError> {
        self.engine.tidy()
    }

    fn is_untidy(&self) -> bool {
        self.engine.is_untidy()
    }
}

#[tokio::test]
async fn what_has_failed_is_opened_anew_before_it_is_written_again() {
    let Lab { _dir, file, engine, now } = Lab::new();
    let asked = Arc::<Mutex<Vec<&str>>>::default();
    let tidying = Box::new(Sqlite::new(&file, false).unwrap());
    let failing = Box::new(Failing { engine, asked: Arc::clone(&asked) });
    let health = Health::new(Duration::from_secs(1), Counter::default());
    let writer = Writer::start(failing, tidying, &Clock::manual(now), health, Arc::default()).unwrap();
    let write = || writer.write(Write::Prune { before: now, max: 1 });
    // The first is the writer's own, if this thread is late.
    drop(write().await);
    assert!(write().await.is_ok());
    assert_eq!(asked.lock().unwrap()[..3], ["write", "reopen", "write"]);
    writer.stop();
}
