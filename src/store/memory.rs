//! Claims in memory: bounded, and gone with the process.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;

use super::{
    shard::{Evictions, Found, SHARD_ENTRIES, Shard},
    windows::{OpenWindow, Windows},
};
use crate::{clock::Clock, identity::EventId, rejection::Rejection, vendor::Windowed};

/// How a delivery ended, for those who waited for it.
pub type Outcome = Result<(), Rejection>;

/// Most shards.
const SHARDS_MAX: usize = 1 << 10;

/// The claims of one process, each in the shard of its key: a table that grows moves all it has while others wait, so none
/// gets large.
#[derive(Debug)]
pub struct Memory {
    /// As many as `entries_max` asked for at the start.
    shards: Box<[Mutex<Shard>]>,
    windows: Mutex<Windows>,
    evictions: Evictions,
    clock: Clock,
}

/// What a claim found.
#[derive(Debug)]
pub enum Claim {
    /// The event is the caller's to deliver.
    Mine(Lease),
    /// Somebody is delivering it.
    InFlight(Waiter),
    /// It was delivered.
    Done,
}

/// The right to deliver an event. Dropped without a word it is released.
#[derive(Debug)]
pub struct Lease {
    store: Arc<Memory>,
    key: u128,
    token: u64,
    ended: bool,
}

/// Waits for another's delivery of the same event.
#[derive(Debug)]
pub struct Waiter(watch::Receiver<Option<Outcome>>);

impl Memory {
    /// Remembers `entries_max` keys: exactly so many while they fit one shard, else up to a few per cent more, since one shard
    /// fills before another. `evictions` counts those forgotten before their time, for want of room.
    #[must_use]
    pub fn new(entries_max: usize, evictions: Counter, clock: &Clock) -> Arc<Self> {
        let shards = entries_max.div_ceil(SHARD_ENTRIES).clamp(1, SHARDS_MAX);
        let store = Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            windows: Mutex::default(),
            evictions: Evictions::new(evictions),
            clock: clock.clone(),
        };
        store.resize(entries_max);
        Arc::new(store)
    }

    /// Claims a key for `lease`: by then the delivery has ended, or another may try.
    pub fn claim(self: &Arc<Self>, key: u128, lease: Duration) -> Claim {
        let now = self.clock.elapsed();
        let found = self.shard(key).claim(key, now, now + lease, &self.evictions);
        match found {
            Found::Done => Claim::Done,
            Found::InFlight(outcome) => Claim::InFlight(Waiter(outcome)),
            Found::Free(token) => Claim::Mine(Lease { store: Arc::clone(self), key, token, ended: false }),
        }
    }

    /// The id of an event that looks the same each time. Events of another `realm` do not count.
    pub fn windowed_id(&self, event: &Windowed, realm: u128) -> (EventId, Option<OpenWindow>) {
        let now = self.clock.now();
        lock(&self.windows).id(event, realm, now)
    }

    /// Takes up windows that were open before this process, in their order.
    pub fn reopen_windows(&self, windows: impl IntoIterator<Item = OpenWindow>) {
        let mut known = lock(&self.windows);
        windows.into_iter().for_each(|window| known.reopen(window));
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        let len = |shard: &Mutex<Shard>| lock(shard).len();
        self.shards.iter().map(len).sum()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes the bound; takes effect with each shard's next claim. There are as many shards as there were.
    pub fn resize(&self, entries_max: usize) {
        let each = (entries_max / self.shards.len()).max(1);
        // Keys fall into shards by chance: four standard deviations of their number.
        let each = if self.shards.len() == 1 { each } else { each + 4 * each.isqrt() };
        self.shards.iter().for_each(|shard| lock(shard).entries_max = each);
    }

    /// The shard of a key. Keys are hashes: some of their bits, taken for a fraction, spread them evenly.
    fn shard(&self, key: u128) -> MutexGuard<'_, Shard> {
        let fraction = u64::from((key >> 32) as u32);
        lock(&self.shards[((fraction * self.shards.len() as u64) >> 32) as usize])
    }

    fn end(&self, key: u128, token: u64, outcome: Option<(Outcome, Duration)>) {
        let now = self.clock.elapsed();
        let keep = outcome.as_ref().and_then(|(outcome, keep)| outcome.is_ok().then_some(now + *keep));
        let waiters = self.shard(key).end(key, token, keep, now);
        if let Some(waiters) = waiters {
            waiters.send_replace(outcome.map(|(outcome, _)| outcome));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Lease ===

impl Lease {
    /// The app has taken the event: for `keep`, a repetition is a duplicate.
    pub fn settle(mut self, keep: Duration) {
        self.ended = true;
        self.store.end(self.key, self.token, Some((Ok(()), keep)));
    }

    /// The delivery failed: a retry may try again. Those who wait hear why.
    pub fn release(mut self, why: Rejection) {
        self.ended = true;
        self.store.end(self.key, self.token, Some((Err(why), Duration::ZERO)));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.ended {
            self.store.end(self.key, self.token, None);
        }
    }
}

// === impl Waiter ===

impl Waiter {
    /// How the delivery ended. None: its owner vanished, and the event is anybody's again.
    pub async fn outcome(mut self) -> Option<Outcome> {
        self.0.changed().await.ok()?;
        self.0.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::{super::shard::PLACES_SPARE, *};
    use crate::rejection::Code;

    const LEASE: Duration = Duration::from_secs(20);
    const KEEP: Duration = Duration::from_secs(3600);

    fn store(entries_max: usize) -> (Arc<Memory>, Clock) {
        let clock = Clock::manual(Timestamp::UNIX_EPOCH);
        (Memory::new(entries_max, Counter::default(), &clock), clock)
    }

    fn mine(store: &Arc<Memory>, key: u128) -> Lease {
        match store.claim(key, LEASE) {
            Claim::Mine(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn those_who_wait_get_the_owner_s_answer() {
        let (store, _) = store(10);
        let lease = mine(&store, 1);
        let Claim::InFlight(first) = store.claim(1, LEASE) else { panic!("in flight") };
        let Claim::InFlight(second) = store.claim(1, LEASE) else { panic!("in flight") };
        let why = Rejection::new(Code::UpstreamRefused, "test");
        lease.release(why.clone());
        assert_eq!(first.outcome().await, Some(Err(why.clone())));
        assert_eq!(second.outcome().await, Some(Err(why)));
        let lease = mine(&store, 1);
        let Claim::InFlight(third) = store.claim(1, LEASE) else { panic!("in flight") };
        lease.settle(KEEP);
        assert_eq!(third.outcome().await, Some(Ok(())));
        assert!(matches!(store.claim(1, LEASE), Claim::Done));
    }

    #[tokio::test]
    async fn an_owner_that_vanishes_releases() {
        let (store, _) = store(10);
        let lease = mine(&store, 1);
        let Claim::InFlight(waiter) = store.claim(1, LEASE) else { panic!("in flight") };
        drop(lease);
        assert_eq!(waiter.outcome().await, None);
        mine(&store, 1).settle(KEEP);
    }

    #[test]
    fn a_late_owner_settles_nothing() {
        let (store, clock) = store(10);
        let late = mine(&store, 1);
        clock.advance(LEASE);
        let next = mine(&store, 1);
        late.settle(KEEP);
        assert!(matches!(store.claim(1, LEASE), Claim::InFlight(_)), "the next owner's claim stands");
        next.release(Rejection::new(Code::UpstreamTimeout, "test"));
        mine(&store, 1).settle(KEEP);
    }

    #[test]
    fn done_keys_are_forgotten_when_their_time_is_up() {
        let (store, clock) = store(10);
        mine(&store, 1).settle(KEEP);
        clock.advance(KEEP - Duration::from_nanos(1));
        assert!(matches!(store.claim(1, LEASE), Claim::Done));
        clock.advance(Duration::from_nanos(1));
        mine(&store, 1).settle(KEEP);
        assert_eq!((store.len(), store.evictions.count.get()), (1, 0));
    }

    #[test]
    fn without_room_the_oldest_settled_goes_and_no_claim_that_runs() {
        let (store, clock) = store(3);
        let running = mine(&store, 100);
        for key in 0..5 {
            mine(&store, key).settle(KEEP);
            clock.advance(Duration::from_secs(1));
        }
        assert_eq!((store.len(), store.evictions.count.get()), (3, 3));
        for kept in [3, 4] {
            assert!(matches!(store.claim(kept, LEASE), Claim::Done), "{kept}");
        }
        assert!(matches!(store.claim(100, LEASE), Claim::InFlight(_)));
        running.settle(KEEP);
    }

    #[test]
    fn a_smaller_bound_takes_effect_with_the_next_claim() {
        let (store, _) = store(4);
        assert!(store.is_empty());
        for key in 0..4 {
            mine(&store, key).settle(KEEP);
        }
        assert_eq!((store.len(), store.is_empty()), (4, false));
        store.resize(2);
        assert_eq!(store.len(), 4);
        mine(&store, 4).settle(KEEP);
        assert_eq!(store.len(), 2);
        assert!(matches!(store.claim(3, LEASE), Claim::Done), "the one settled last stays");
    }

    #[test]
    fn shards_share_the_keys_and_the_room() {
        const KEYS: usize = 4 * SHARD_ENTRIES;
        let (store, _) = store(KEYS);
        assert_eq!(store.shards.len(), 4);
        // As of a hash: any two are far apart.
        let key = |number: usize| (number as u128).wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645);
        (0..KEYS).for_each(|number| mine(&store, key(number)).settle(KEEP));
        assert_eq!(
            (store.len(), store.evictions.count.get()),
            (KEYS, 0),
            "none goes as long as there is room"
        );
        (KEYS..2 * KEYS).for_each(|number| mine(&store, key(number)).settle(KEEP));
        let evicted = usize::try_from(store.evictions.count.get()).unwrap();
        assert_eq!(store.len() + evicted, 2 * KEYS);
        assert!((KEYS..KEYS * 21 / 20).contains(&store.len()), "{}", store.len());
        let remembered =
            (0..2 * KEYS).filter(|number| matches!(store.claim(key(*number), LEASE), Claim::Done));
        let remembered: Vec<usize> = remembered.collect();
        // The newest of each shard: those are nearly the newest of all.
        let newest = remembered.iter().filter(|number| **number >= KEYS * 19 / 20).count();
        assert!(newest >= KEYS * 19 / 20, "{newest} of {KEYS}");
    }

    #[test]
    fn a_lack_of_room_is_logged_once_a_minute() {
        let (store, clock) = store(1);
        let mut logged = Vec::new();
        for key in 0..5 {
            mine(&store, key).settle(KEEP);
            logged.push(lock(&store.evictions.logged_at).map(|at| at.as_secs()));
            clock.advance(Duration::from_secs(30));
        }
        assert_eq!(logged, [None, Some(30), Some(30), Some(90), Some(90)]);
    }

    #[test]
    fn a_key_that_is_settled_again_lives_as_long_as_its_later_place() {
        let (store, clock) = store(3);
        mine(&store, 1).settle(Duration::from_secs(1));
        mine(&store, 2).settle(KEEP);
        clock.advance(Duration::from_secs(2));
        mine(&store, 1).settle(KEEP);
        mine(&store, 3).settle(KEEP);
        // Full: the oldest is 2 now, and not the first place of 1, which is void.
        mine(&store, 4).settle(KEEP);
        assert!(matches!(store.claim(1, LEASE), Claim::Done));
        mine(&store, 2).release(Rejection::new(Code::UpstreamRefused, "test"));
    }

    #[test]
    fn void_places_do_not_pile_up() {
        let (store, clock) = store(1_000_000);
        mine(&store, 0).settle(KEEP);
        mine(&store, 2).settle(KEEP);
        let mut most = 0;
        for _ in 0..100_000 {
            mine(&store, 1).settle(Duration::from_nanos(1));
            clock.advance(Duration::from_nanos(1));
            most = most.max(store.shard(1).settled.len());
        }
        assert_eq!(most, 2 * 3 + PLACES_SPARE, "shed when they are many, and not each time");
        assert!(matches!(store.claim(0, LEASE), Claim::Done));
    }

    #[test]
    fn keys_that_were_moved_up_are_forgotten_as_well() {
        let (store, clock) = store(1_000_000);
        for key in 0..3 {
            mine(&store, key).settle(KEEP);
        }
        for _ in 0..2 * PLACES_SPARE {
            mine(&store, 3).settle(Duration::from_nanos(1));
            clock.advance(Duration::from_nanos(1));
        }
        clock.advance(KEEP);
        let lease = mine(&store, 4);
        assert_eq!((store.len(), store.evictions.count.get()), (1, 0), "the claim alone");
        drop(lease);
    }

    #[test]
    fn a_key_whose_time_is_up_makes_room_without_being_missed() {
        let (store, clock) = store(1);
        mine(&store, 1).settle(KEEP);
        clock.advance(KEEP);
        mine(&store, 2).settle(KEEP);
        assert_eq!((store.len(), store.evictions.count.get()), (1, 0));
    }

    proptest! {
        /// Against a model that remembers everything: nothing done is ever delivered again before its time.
        #[test]
        fn agrees_with_a_simple_model(steps in proptest::collection::vec((0_u128..6, 0_u8..4, 0_u64..4), 1..200)) {
            let (store, clock) = store(1000);
            let mut running: HashMap<u128, Lease> = HashMap::new();
            let mut done: HashMap<u128, Duration> = HashMap::new();
            for (key, action, seconds) in steps {
                clock.advance(Duration::from_secs(seconds));
                let keep = Duration::from_secs(5);
                match (running.remove(&key), action) {
                    (Some(lease), 0) => {
                        lease.settle(keep);
                        done.insert(key, clock.elapsed() + keep);
                    }
                    (Some(lease), 1) => lease.release(Rejection::new(Code::UpstreamRefused, "test")),
                    (Some(lease), 2) => drop(lease),
                    (Some(lease), _) => {
                        prop_assert!(matches!(store.claim(key, Duration::MAX / 4), Claim::InFlight(_)));
                        running.insert(key, lease);
                    }
                    (None, _) => {
                        let is_done = done.get(&key).is_some_and(|until| *until > clock.elapsed());
                        match store.claim(key, Duration::MAX / 4) {
                            Claim::Done => prop_assert!(is_done),
                            Claim::Mine(lease) => {
                                prop_assert!(!is_done);
                                running.insert(key, lease);
                            }
                            Claim::InFlight(_) => prop_assert!(false, "nobody is delivering it"),
                        }
                    }
                }
            }
        }
    }
}
