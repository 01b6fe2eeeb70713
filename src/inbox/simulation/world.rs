//! Everything around an engine, moved by one random number generator.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use fastrand::Rng;
use jiff::Timestamp;

use crate::{
    identity::EventId,
    inbox::{
        desk::Desk,
        engine::{Engine, Look, Write, Written},
        handoff::{Handed, dues},
        record::{Action, Attempt, Content, Due, Fate, Filter, Record, Way},
        schedule::{Ending, fate},
    },
    upstream::Format,
};

const UPSTREAMS: [&str; 2] = ["plain", "ordered"];
const SCHEDULE: [Duration; 3] = [Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120)];
const DEDUP_WINDOW: Duration = Duration::from_secs(3600);
/// Steps with faults, before all is well.
const STEPS: usize = 60;
/// Rounds after that in which all must come to its end.
const ROUNDS: usize = 200;

/// What a schedule is spoiled with to see that it is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// The vendor is answered before the commit.
    AckBeforeCommit,
    /// After a failed attempt the lease is kept.
    ReleaseLost,
    /// A retry lets the next of its partition pass.
    RetryOvertakes,
    /// What is held by the courier is handed out again.
    LeasesForgotten,
    /// An attempt's end is taken for written before it is.
    MarkBeforeCommit,
    /// What was handed is taken after the end that should have made it void.
    HandedAfterEnd,
}

impl Bug {
    pub(super) const ALL: [Self; 6] = [
        Self::AckBeforeCommit,
        Self::ReleaseLost,
        Self::RetryOvertakes,
        Self::LeasesForgotten,
        Self::MarkBeforeCommit,
        Self::HandedAfterEnd,
    ];
}

/// An event and its way to one app: `(event's number at the vendor, upstream)`.
type Course = (u8, usize);

pub(super) struct World {
    seed: u64,
    rng: Rng,
    now: Timestamp,
    engine: Box<dyn Engine>,
    bug: Option<Bug>,
    desks: [Desk; 2],
    /// What the writer has handed to each courier.
    handed: [Handed; 2],
    /// What the writer has not got to.
    queue: Vec<Queued>,
    /// Attempts under way: did the app take it already?
    running: Vec<(usize, Due, bool)>,
    vendor: Vec<Sent>,
    apps: Apps,
    trace: Vec<String>,
}

struct Queued {
    write: Write,
    /// The vendor's event that waits for the answer, or the delivery whose end it is.
    whose: Whose,
}

enum Whose {
    Vendor(u8),
    Courier { upstream: usize, due: Box<Due>, accepted: bool },
    Operator,
}

/// An event as its vendor sees it.
struct Sent {
    partition: u8,
    ways: Vec<usize>,
    acknowledged: bool,
}

/// What is known of the apps.
#[derive(Default)]
struct Apps {
    accepted: HashMap<Course, u32>,
    /// Endings that nobody could know, and replays: each excuses one acceptance more.
    excuses: HashMap<Course, u32>,
    /// Dead letters and what an operator gave up.
    ended: HashSet<Course>,
    replayed: HashSet<u8>,
    /// By lane: what was stored, in the order of receipt, and whether it is settled.
    lanes: BTreeMap<u8, Vec<(u8, bool)>>,
}

impl World {
    pub(super) fn new(seed: u64, engine: Box<dyn Engine>, bug: Option<Bug>) -> Self {
        Self {
            seed,
            rng: Rng::with_seed(seed),
            now: Timestamp::from_second(1_700_000_000).unwrap(),
            engine,
            bug,
            desks: Default::default(),
            handed: Default::default(),
            queue: Vec::new(),
            running: Vec::new(),
            vendor: Vec::new(),
            apps: Apps::default(),
            trace: Vec::new(),
        }
    }

    /// Runs to the end; what happened, step by step.
    pub(super) fn run(mut self) -> Vec<String> {
        for _ in 0..STEPS {
            self.step();
        }
        self.calm_down();
        for (number, sent) in self.vendor.iter().enumerate() {
            let number = u8::try_from(number).unwrap();
            for way in &sent.ways {
                let course = (number, *way);
                let taken = self.apps.accepted.contains_key(&course) || self.apps.ended.contains(&course);
                assert!(!sent.acknowledged || taken, "I1: {course:?} is lost, seed {}", self.seed);
            }
        }
        self.trace
    }

    fn note(&mut self, what: String) {
        self.trace.push(what);
    }

    fn step(&mut self) {
        match self.rng.u8(..100) {
            0..=17 => self.send(),
            18..=42 => self.commit(true),
            43..=51 => self.look(),
            52..=57 => self.take_handed(),
            58..=71 => self.begin(),
            72..=86 => self.end(true),
            87..=91 => self.wait(),
            92..=94 => self.operate(),
            95..=97 => self.crash(),
            _ => self.give_up_waiting(),
        }
    }

    /// A vendor sends something new, or again what was not acknowledged, or a duplicate.
    fn send(&mut self) {
        let again = !self.vendor.is_empty() && (self.rng.bool() || self.vendor.len() >= 12);
        let number = if again {
            self.rng.usize(..self.vendor.len())
        } else {
            let ways = [vec![0], vec![1], vec![1], vec![0, 1]];
            let ways = ways[self.rng.usize(..ways.len())].clone();
            self.vendor.push(Sent { partition: self.rng.u8(..2), ways, acknowledged: false });
            self.vendor.len() - 1
        };
        let sent = &mut self.vendor[number];
        let number = u8::try_from(number).unwrap();
        if self.bug == Some(Bug::AckBeforeCommit) {
            sent.acknowledged = true;
        }
        let record = Record {
            id: id(number),
            realm: 7,
            window: None,
            dedup_window: DEDUP_WINDOW,
            received_at: self.now,
            source: "s".into(),
            event_type: "login",
            subject: None,
            partition_key: sent.partition.to_string(),
            client: [127, 0, 0, 1].into(),
            content: Content::default(),
            ways: sent
                .ways
                .iter()
                .map(|way| Way {
                    upstream: UPSTREAMS[*way].into(),
                    format: Format::CloudEvents,
                    ordered: *way == 1,
                })
                .collect(),
        };
        self.queue.push(Queued { write: Write::Append(Box::new(record)), whose: Whose::Vendor(number) });
        self.note(format!("send {number}"));
    }

    /// The writer writes a group. With faults the disk may fail, before or after all of it was written.
    fn commit(&mut self, faults: bool) {
        let size = self.rng.usize(..=self.queue.len());
        let group: Vec<Queued> = self.queue.drain(..size).collect();
        if group.is_empty() {
            return;
        }
        let (fails, has_written) = (faults && self.rng.u8(..10) == 0, self.rng.bool());
        self.note(format!("commit {size} fails={fails} written={has_written}"));
        if fails && !has_written {
            return self.failed(group);
        }
        let (writes, owners): (Vec<Write>, Vec<Whose>) =
            group.into_iter().map(|it| (it.write, it.whose)).unzip();
        let written = self.engine.write(self.now, &writes).expect("this disk fails only when told to");
        for ((write, written), whose) in writes.iter().zip(&written).zip(&owners) {
            self.is_on_disk(write, written, whose);
        }
        let group = writes.into_iter().zip(owners).map(|(write, whose)| Queued { write, whose });
        if fails {
            return self.failed(group.collect());
        }
        for (queued, written) in group.zip(written) {
            if let (Write::Append(record), Written::Stored { event, ways }) = (&queued.write, &written) {
                for (upstream, due) in dues(record, *event, ways) {
                    let upstream = usize::from(upstream == UPSTREAMS[1]);
                    self.handed[upstream].due.extend(due);
                }
            }
            self.answered(queued.whose, &queued.write, &written);
        }
    }

    /// What is true from now on, whoever hears of it.
    fn is_on_disk(&mut self, write: &Write, written: &Written, whose: &Whose) {
        match (write, whose) {
            (Write::Append(_), Whose::Vendor(number)) if matches!(written, Written::Stored { .. }) => {
                let sent = &self.vendor[usize::from(*number)];
                if sent.ways.contains(&1) {
                    self.apps.lanes.entry(sent.partition).or_default().push((*number, false));
                }
            }
            (Write::Ended { fate, .. }, Whose::Courier { upstream, due, .. }) => {
                let number = number(due.id);
                if *fate == Fate::Dead && *written == Written::Ended(true) {
                    self.apps.ended.insert((number, *upstream));
                }
                if *upstream == 1 && !matches!(fate, Fate::Retry(_)) {
                    self.settled(number);
                }
            }
            _ => {}
        }
    }

    fn settled(&mut self, number: u8) {
        let lane = self.vendor[usize::from(number)].partition;
        let lane = self.apps.lanes.get_mut(&lane).expect("it was stored");
        lane.iter_mut().filter(|(other, _)| *other == number).for_each(|(_, settled)| *settled = true);
    }

    fn answered(&mut self, whose: Whose, write: &Write, written: &Written) {
        match whose {
            Whose::Vendor(number) => self.vendor[usize::from(number)].acknowledged = true,
            Whose::Courier { upstream, due, accepted } => {
                let retry = matches!(write, Write::Ended { fate: Fate::Retry(_), .. });
                if accepted && retry {
                    self.excuse((number(due.id), upstream));
                }
                if !(retry && self.bug == Some(Bug::ReleaseLost)) {
                    self.end_at_desk(upstream, &due);
                }
            }
            Whose::Operator => {}
        }
        self.note(format!("written {written:?}"));
    }

    /// The disk failed: the vendor hears 503; the courier tries to write again what it knows, whether it was written or not.
    fn failed(&mut self, group: Vec<Queued>) {
        self.engine.reopen().expect("the disk is back");
        self.queue.extend(group.into_iter().filter(|queued| matches!(queued.whose, Whose::Courier { .. })));
    }

    fn excuse(&mut self, course: Course) {
        *self.apps.excuses.entry(course).or_default() += 1;
    }

    fn end_at_desk(&mut self, upstream: usize, due: &Due) {
        let handed = std::mem::take(&mut self.handed[upstream]);
        if self.bug == Some(Bug::HandedAfterEnd) {
            self.desks[upstream].end(due, Handed::default());
            self.desks[upstream].take_handed(handed);
        } else {
            self.desks[upstream].end(due, handed);
        }
    }

    /// A courier takes what was handed to it.
    fn take_handed(&mut self) {
        let upstream = self.rng.usize(..2);
        let handed = std::mem::take(&mut self.handed[upstream]);
        self.note(format!("{upstream} is handed {}", handed.due.len()));
        self.desks[upstream].take_handed(handed);
    }

    /// A courier looks for what is due.
    fn look(&mut self) {
        for (upstream, desk) in self.desks.iter_mut().enumerate() {
            let max = desk.room().min(3);
            let look = Look {
                upstream: UPSTREAMS[upstream],
                now: self.now,
                held: desk.held(),
                max,
                bytes_max: usize::MAX,
            };
            let taken = self.engine.due(&look).expect("it can be read");
            let what: Vec<_> = taken.due.iter().map(|due| (due.key.event, due.tries, due.replay)).collect();
            let next = taken.next_at.filter(|_| what.is_empty());
            self.trace.push(format!("{upstream} takes {what:?}, next {next:?}"));
            if self.bug == Some(Bug::LeasesForgotten) {
                for due in &taken.due {
                    desk.end(due, Handed::default());
                }
            }
            desk.take(taken.due);
        }
    }

    fn begin(&mut self) {
        let upstream = self.rng.usize(..2);
        let Some(due) = self.desks[upstream].begin() else { return };
        let number = number(due.id);
        if let Some(lane) = &due.lane {
            let busy = self.running.iter().any(|(_, other, _)| other.lane.as_ref() == Some(lane));
            assert!(!busy, "order: two of lane {lane} at a time, seed {}", self.seed);
            let lane = &self.apps.lanes[&self.vendor[usize::from(number)].partition];
            let before = lane.iter().take_while(|(other, _)| *other != number);
            let overtaken = before.filter(|(other, settled)| !settled && !self.apps.replayed.contains(other));
            let overtaken: Vec<&u8> = overtaken.map(|(other, _)| other).collect();
            let free = due.replay || self.apps.replayed.contains(&number);
            assert!(
                free || overtaken.is_empty(),
                "order: {number} goes before {overtaken:?}, seed {}",
                self.seed
            );
        }
        self.note(format!("begin {number} at {upstream}"));
        self.running.push((upstream, due, false));
    }

    /// An attempt ends; the app may have taken the event though the answer is lost.
    fn end(&mut self, faults: bool) {
        if self.running.is_empty() {
            return;
        }
        let (upstream, due, _) = self.running.swap_remove(self.rng.usize(..self.running.len()));
        let course = (number(due.id), upstream);
        let dice = if faults { self.rng.u8(..10) } else { 0 };
        let (ending, accepted) = match dice {
            0..=4 => (Ending::Delivered, true),
            5 => (Ending::Gone, false),
            6 => (Ending::Failed { retry_after: Some(Duration::from_secs(60)) }, false),
            7 => (Ending::Failed { retry_after: None }, true),
            _ => (Ending::Failed { retry_after: None }, false),
        };
        if accepted {
            self.accept(course);
        }
        let fate = fate(ending, due.tries, &SCHEDULE, self.rng.f64(), self.now);
        self.note(format!("end {course:?} {ending:?} {fate:?}"));
        let attempt = Attempt { at: self.now, status: None, error: None, took: Duration::ZERO };
        let write = Write::Ended { key: due.key, attempt, fate, urgent: false };
        if self.bug == Some(Bug::MarkBeforeCommit) {
            self.end_at_desk(upstream, &due);
        }
        self.queue.push(Queued { write, whose: Whose::Courier { upstream, due: Box::new(due), accepted } });
    }

    fn accept(&mut self, course: Course) {
        let times = self.apps.accepted.entry(course).or_default();
        *times += 1;
        let excused = self.apps.excuses.get(&course).copied().unwrap_or(0);
        assert!(
            *times <= 1 + excused,
            "I3: {course:?} taken {times} times, {excused} excuses, seed {}",
            self.seed
        );
    }

    fn wait(&mut self) {
        let seconds = [1, 5, 40, 200, 4000][self.rng.usize(..5)];
        self.now += Duration::from_secs(seconds);
        if seconds == 4000 {
            // Past the window a repetition is a new event; keep to one life an event.
            self.now -= Duration::from_secs(3900);
        }
        self.note(format!("wait until {}", self.now));
    }

    /// An operator replays or discards an event. What runs of it may end either way.
    fn operate(&mut self) {
        if self.vendor.is_empty() {
            return;
        }
        let number = u8::try_from(self.rng.usize(..self.vendor.len())).unwrap();
        let action = if self.rng.u8(..3) > 0 { Action::Replay } else { Action::Discard };
        self.apps.replayed.insert(number);
        for way in self.vendor[usize::from(number)].ways.clone() {
            self.excuse((number, way));
            if action == Action::Discard {
                self.apps.ended.insert((number, way));
            }
        }
        let filter = Filter { id: Some(id(number)), ..Filter::default() };
        self.queue.push(Queued {
            write: Write::Act { action, filter, after: 0, max: 100 },
            whose: Whose::Operator,
        });
        self.note(format!("{action:?} {number}"));
    }

    /// The process dies: what is not on the disk is gone, and what ran may have reached the app.
    fn crash(&mut self) {
        for (upstream, due, _) in std::mem::take(&mut self.running) {
            let course = (number(due.id), upstream);
            if self.rng.bool() {
                self.accept(course);
                self.excuse(course);
            }
        }
        for queued in std::mem::take(&mut self.queue) {
            if let Whose::Courier { upstream, due, accepted: true } = queued.whose {
                self.excuse((number(due.id), upstream));
            }
        }
        (self.desks, self.handed) = Default::default();
        self.engine.reopen().expect("it opens");
        self.note("crash".to_owned());
    }

    /// A courier gives back what it has taken and not begun: it is told to stop.
    fn give_up_waiting(&mut self) {
        self.desks.iter_mut().for_each(Desk::put_back);
        self.note("put back".to_owned());
    }

    /// No faults any more: vendors send again what was not acknowledged, and everything comes to its end (I5).
    fn calm_down(&mut self) {
        for _ in 0..ROUNDS {
            while !self.queue.is_empty() {
                self.commit(false);
            }
            self.look();
            self.take_handed();
            for _ in 0..8 {
                self.begin();
            }
            while !self.running.is_empty() {
                self.end(false);
            }
            self.now += Duration::from_secs(10);
            let open = self.engine.stats().expect("it can be read").tally.into_values();
            let open = open.map(|tally| tally.ready + tally.retrying).sum::<u64>();
            if open == 0 && self.queue.is_empty() {
                return;
            }
        }
        panic!("I5: not all came to its end, seed {}", self.seed);
    }
}

fn id(number: u8) -> EventId {
    EventId::from_bytes([number; 16])
}

fn number(id: EventId) -> u8 {
    u8::try_from(id.key() & 0xFF).unwrap()
}
