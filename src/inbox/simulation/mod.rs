//! The inbox under a seeded simulation: vendors that send and send again, apps that take, refuse or time out, a disk that
//! fails before or after it has written, crashes at any moment, operators who replay and discard, and a clock that only the
//! simulation moves. What decides is the real thing (`Desk`, `fate`, an `Engine`); what is left out is threads and sockets.
//!
//! Held against every schedule (`I` as in the literature of such simulators): I1 what was acknowledged is taken by the app
//! or ends where an operator sees it; I2 what is not on the disk was not acknowledged; I3 the app takes an event once, and
//! once more only for an ending nobody could know, or a replay; I5 once the faults end, all comes to its end. And in a lane
//! one delivery at a time, in the order of receipt. (I4, that nothing unverified changes any state, is held by types before
//! the inbox, and tested from outside.)

mod model;
mod world;

use std::{
    panic::catch_unwind,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use self::{
    model::Model,
    world::{Bug, World},
};
use super::sqlite::{InboxFile, Sqlite};

/// Schedules of one run. Another range: `HOOKWARDEN_SIMULATION_FROM=200000 cargo nextest run simulation`.
const SCHEDULES: u64 = 100_000;
/// Schedules run on a real file too: each commit there is a sync.
const ON_DISK: u64 = 200;

fn first_seed() -> u64 {
    std::env::var("HOOKWARDEN_SIMULATION_FROM").ok().map_or(0, |seed| seed.parse().expect("a number"))
}

/// Runs one schedule; panics, with the seed, if something does not hold.
fn on_model(seed: u64, bug: Option<Bug>) -> Vec<String> {
    let model = Model {
        retry_overtakes: bug == Some(Bug::RetryOvertakes),
        forgets_leases: bug == Some(Bug::LeasesForgotten),
        ..Model::default()
    };
    World::new(seed, Box::new(model), bug).run()
}

#[test]
fn a_hundred_thousand_schedules_hold() {
    let (first, next) = (first_seed(), AtomicU64::new(0));
    let work = || {
        let mut steps = 0;
        loop {
            let nth = next.fetch_add(1, Ordering::Relaxed);
            if nth >= SCHEDULES {
                return steps;
            }
            steps += on_model(first + nth, None).len();
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let steps: usize = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running.into_iter().map(|thread| thread.join().expect("every schedule holds")).sum()
    });
    assert!(steps > 1_000_000, "schedules in which little happens prove little: {steps} steps");
}

/// The real file does step by step what the model does.
#[test]
fn sqlite_goes_the_way_of_the_model() {
    let dir = tempfile::tempdir().unwrap();
    for seed in first_seed()..first_seed() + ON_DISK {
        let path = dir.path().join(format!("{seed}.db"));
        let file = InboxFile::open(&path, u64::MAX).unwrap();
        let engine = Sqlite::new(&file, true).unwrap();
        let on_disk = World::new(seed, Box::new(engine), None).run();
        assert_eq!(on_disk, on_model(seed, None), "seed {seed}");
    }
}

/// Each planted bug is found, and soon.
#[test]
fn planted_bugs_are_found() {
    for bug in Bug::ALL {
        let found = (0..1000).find(|seed| catch_unwind(|| on_model(*seed, Some(bug))).is_err());
        let seed = found.unwrap_or_else(|| panic!("{bug:?} was not found in 1000 schedules"));
        println!("{bug:?}: found by seed {seed}");
    }
}
