//! Some of the claims: a table of those in flight and one of those done, and the order in which they were.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tokio::sync::watch;

use super::{keys::ByKey, memory::Outcome};

/// How many keys a shard is for. Its table of 2^15 places is then less than half full, counting what it may have more than others:
/// it is put in order where it stands when keys have come and gone, instead of doubled; either takes less than a millisecond.
pub(super) const SHARD_ENTRIES: usize = 13_500;

/// Void places that are not worth shedding.
pub(super) const PLACES_SPARE: usize = 128;

/// How often a lack of room is logged.
const EVICTION_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Claims by key.
#[derive(Debug, Default)]
pub(super) struct Shard {
    in_flight: ByKey<InFlight>,
    done: ByKey<Done>,
    /// Done keys, the one settled first in front. A key that was settled again stands twice; its older place is void.
    pub settled: VecDeque<u128>,
    /// The number of the place in front.
    front: u64,
    pub entries_max: usize,
    next_token: u64,
}

type Waiters = watch::Sender<Option<Outcome>>;

#[derive(Debug)]
struct InFlight {
    token: u64,
    lease_until: Duration,
    waiters: Option<Waiters>,
}

/// There may be millions of these.
#[derive(Clone, Copy, Debug)]
struct Done {
    /// Nanoseconds on the store's clock.
    until_ns: u64,
    /// The number of its place in `settled`.
    place: u64,
}

/// What a claim found.
pub(super) enum Found {
    /// Nothing: it is the caller's now, by this token.
    Free(u64),
    InFlight(watch::Receiver<Option<Outcome>>),
    Done,
}

/// Keys forgotten before their time.
#[derive(Debug)]
pub(super) struct Evictions {
    pub count: Counter,
    pub logged_at: Mutex<Option<Duration>>,
}

impl Shard {
    /// Claims a key until `lease_until`.
    pub(super) fn claim(
        &mut self,
        key: u128,
        now: Duration,
        lease_until: Duration,
        evictions: &Evictions,
    ) -> Found {
        if self.done.get(&key).is_some_and(|done| done.until_ns > nanos(now)) {
            return Found::Done;
        }
        if let Some(running) = self.in_flight.get_mut(&key).filter(|running| running.lease_until > now) {
            let waiters = running.waiters.get_or_insert_with(|| watch::Sender::new(None));
            return Found::InFlight(waiters.subscribe());
        }
        self.done.remove(&key);
        self.make_room(now, evictions);
        self.next_token += 1;
        let token = self.next_token;
        self.in_flight.insert(key, InFlight { token, lease_until, waiters: None });
        Found::Free(token)
    }

    /// Ends a claim: done until `keep`, or released. Who waits for that, is told by the caller.
    pub(super) fn end(
        &mut self,
        key: u128,
        token: u64,
        keep: Option<Duration>,
        now: Duration,
    ) -> Option<Waiters> {
        // A late owner's word no longer counts: its lease ran out, and the key is another's.
        if self.in_flight.get(&key).is_none_or(|running| running.token != token) {
            return None;
        }
        let running = self.in_flight.remove(&key);
        if let Some(keep) = keep {
            let place = self.front + self.settled.len() as u64;
            self.settled.push_back(key);
            self.done.insert(key, Done { until_ns: nanos(keep), place });
            self.compact(now);
        }
        running.and_then(|running| running.waiters)
    }

    pub(super) fn len(&self) -> usize {
        self.in_flight.len() + self.done.len()
    }

    /// Forgets what is past its time, and what was settled first if there is no room. Claims in flight never go: they
    /// are bounded by the requests that run.
    fn make_room(&mut self, now: Duration, evictions: &Evictions) {
        while let Some(key) = self.settled.front().copied() {
            let full = self.len() >= self.entries_max;
            if let Some(done) = self.done.get(&key).filter(|done| done.place == self.front) {
                let fresh = done.until_ns > nanos(now);
                if fresh && !full {
                    break;
                }
                if fresh {
                    evictions.one(now);
                }
                self.done.remove(&key);
            }
            self.settled.pop_front();
            self.front += 1;
        }
    }

    /// Sheds void places and expired keys once they are more than the others: those in the middle, behind a key that
    /// lives long, never come to the front.
    fn compact(&mut self, now: Duration) {
        if self.settled.len() <= 2 * self.done.len() + PLACES_SPARE {
            return;
        }
        let mut kept = VecDeque::with_capacity(self.done.len());
        for (place, key) in (self.front..).zip(self.settled.drain(..)) {
            let Some(done) = self.done.get_mut(&key).filter(|done| done.place == place) else { continue };
            if done.until_ns > nanos(now) {
                done.place = self.front + kept.len() as u64;
                kept.push_back(key);
            } else {
                self.done.remove(&key);
            }
        }
        self.settled = kept;
    }
}

impl Evictions {
    pub(super) fn new(count: Counter) -> Self {
        Self { count, logged_at: Mutex::default() }
    }

    fn one(&self, now: Duration) {
        self.count.inc();
        let mut logged_at = self.logged_at.lock().unwrap_or_else(PoisonError::into_inner);
        if logged_at.is_none_or(|at| now >= at + EVICTION_LOG_INTERVAL) {
            *logged_at = Some(now);
            tracing::warn!(
                "no room for more event ids (`store.entries_max`): the oldest are forgotten, their repetitions would be forwarded"
            );
        }
    }
}

/// As a number of nanoseconds: enough for 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
