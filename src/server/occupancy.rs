//! Who is connected and since when without a request: what time-outs and eviction go by.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};

use super::Bounds;

/// The open connections of a listener, at most a fixed number.
#[derive(Debug)]
pub(super) struct Occupancy {
    connections_max: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next_id: u64,
    activities: HashMap<u64, Arc<Activity>>,
}

/// A place among the open connections, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    occupancy: Arc<Occupancy>,
    id: u64,
    activity: Arc<Activity>,
}

/// What one connection is doing. Shared by its task, its requests and whoever looks for one to close.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    /// Nothing has been read yet: a request may lie there.
    unread: AtomicBool,
    evicted: Notify,
}

#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    /// HTTP/2: many requests at once, and bytes that belong to none.
    multiplexed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Waiting { what: Awaited, since: Instant },
    Running { requests: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// The first complete head; there may have been nothing, a TLS handshake, a part of the head.
    FirstHead,
    /// The first byte of a further head.
    NextByte,
    /// The rest of a further head.
    RestOfHead,
}

/// A request that is being worked on, until dropped.
#[derive(Debug)]
pub(super) struct Request(Arc<Activity>);

// === impl Occupancy ===

impl Occupancy {
    pub(super) fn new(connections_max: usize) -> Arc<Self> {
        Arc::new(Self { connections_max, open: Mutex::default() })
    }

    /// A place for a connection accepted now. When all are taken, the connection without a request for longest has to
    /// go; none if all of them are busy, or have not been read yet.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut open = lock(&self.open);
        if open.activities.len() >= self.connections_max {
            // All are looked at, which takes microseconds and happens only when full; an order kept up to date would
            // cost each request a lock that all connections share.
            let longest =
                open.activities.iter().filter_map(|(id, activity)| Some((activity.idle_since()?, *id)));
            let (_, id) = longest.min()?;
            if let Some(activity) = open.activities.remove(&id) {
                activity.evicted.notify_one();
            }
        }
        let id = open.next_id;
        open.next_id += 1;
        let activity = Arc::new(Activity {
            state: Mutex::new(State { phase: Phase::waiting(Awaited::FirstHead), multiplexed: false }),
            unread: AtomicBool::new(true),
            evicted: Notify::new(),
        });
        open.activities.insert(id, Arc::clone(&activity));
        Some(Place { occupancy: Arc::clone(self), id, activity })
    }
}

impl Place {
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.occupancy.open).activities.remove(&self.id);
    }
}

// === impl Activity ===

impl Activity {
    /// A complete head has arrived.
    pub(super) fn begin(self: &Arc<Self>, multiplexed: bool) -> Request {
        let mut state = lock(&self.state);
        state.multiplexed = multiplexed;
        let requests = match state.phase {
            Phase::Running { requests } => requests + 1,
            Phase::Waiting { .. } => 1,
        };
        state.phase = Phase::Running { requests };
        Request(Arc::clone(self))
    }

    /// Bytes have arrived. Between requests of HTTP/1.1 they are the beginning of a head.
    pub(super) fn received(&self) {
        let mut state = lock(&self.state);
        let between_requests = matches!(state.phase, Phase::Waiting { what: Awaited::NextByte, .. });
        if between_requests && !state.multiplexed {
            state.phase = Phase::waiting(Awaited::RestOfHead);
        }
    }

    /// All that has arrived so far has been read.
    pub(super) fn waits(&self) {
        self.unread.store(false, Ordering::Relaxed);
    }

    /// When the connection is to be closed if its phase lasts; none while a request runs.
    pub(super) fn deadline(&self, bounds: &Bounds) -> Option<Instant> {
        match lock(&self.state).phase {
            Phase::Waiting { what: Awaited::NextByte, since } => Some(since + bounds.idle_timeout),
            Phase::Waiting { since, .. } => Some(since + bounds.header_timeout),
            Phase::Running { .. } => None,
        }
    }

    /// Whether there was no request yet.
    pub(super) fn is_new(&self) -> bool {
        matches!(lock(&self.state).phase, Phase::Waiting { what: Awaited::FirstHead, .. })
    }

    /// Completes when the connection has to make room.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    fn idle_since(&self) -> Option<Instant> {
        match lock(&self.state).phase {
            Phase::Waiting { since, .. } if !self.unread.load(Ordering::Relaxed) => Some(since),
            Phase::Waiting { .. } | Phase::Running { .. } => None,
        }
    }
}

impl Phase {
    fn waiting(what: Awaited) -> Self {
        Self::Waiting { what, since: Instant::now() }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.phase = match state.phase {
            Phase::Running { requests } if requests > 1 => Phase::Running { requests: requests - 1 },
            Phase::Running { .. } | Phase::Waiting { .. } => Phase::waiting(Awaited::NextByte),
        };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
