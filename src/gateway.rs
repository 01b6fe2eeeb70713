//! What all requests share: one value a configuration, and what outlives configurations.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ipnet::IpNet;
use jiff::Timestamp;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{clock::Clock, limit::PerAddress, metrics::Metrics, source::Source, store::Memory};

/// Most refusals that are remembered for the admin API.
pub const REJECTIONS_MAX: usize = 256;

/// A configuration, ready to serve. A request keeps the one it began with.
pub struct Gateway {
    /// By exact path.
    pub sources: HashMap<Box<str>, Arc<Source>>,
    /// Networks whose word on the client's address counts.
    pub trusted_proxies: Vec<IpNet>,
    pub per_address: Arc<PerAddress>,
    pub body_bytes_max: usize,
    pub body_timeout: Duration,
    pub request_timeout: Duration,
    /// Paths the event's JSON Schema is served at, and the schema.
    pub schema: (Vec<String>, Arc<str>),
    pub shared: Arc<Shared>,
}

/// What outlives a reload.
#[derive(Debug)]
pub struct Shared {
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub store: Arc<Memory>,
    pub rejections: Rejections,
    /// Requests that may be worked on at once.
    pub requests: Arc<Semaphore>,
    /// Bytes of bodies that may be held at once.
    pub body_bytes: Arc<Semaphore>,
    /// Deliveries whose caller has gone away.
    pub detached: TaskTracker,
    /// The end has begun: not ready any more, but still serving.
    pub stopping: AtomicBool,
    /// When what still runs is cut off, once that is known.
    pub cut_off: OnceLock<Instant>,
}

/// The newest refusals.
#[derive(Debug, Default)]
pub struct Rejections(Mutex<VecDeque<Rejected>>);

/// One refusal: nothing in it was written by the sender.
#[derive(Clone, Debug)]
pub struct Rejected {
    pub at: Timestamp,
    /// The source's name; empty for requests that met none.
    pub source: Arc<str>,
    pub code: &'static str,
    pub reason: String,
}

impl Gateway {
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("sources", &self.sources.len()).finish_non_exhaustive()
    }
}

impl Shared {
    /// `requests_max` and `body_bytes_max` bound what all requests together may take.
    #[must_use]
    pub fn new(clock: Clock, entries_max: usize, requests_max: usize, body_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            metrics: Arc::new(Metrics::new()),
            store: Memory::new(entries_max, &clock),
            rejections: Rejections::default(),
            requests: Arc::new(Semaphore::new(requests_max.min(Semaphore::MAX_PERMITS))),
            body_bytes: Arc::new(Semaphore::new(body_bytes_max.min(Semaphore::MAX_PERMITS))),
            detached: TaskTracker::new(),
            stopping: AtomicBool::new(false),
            cut_off: OnceLock::new(),
            clock,
        })
    }

    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl Rejections {
    pub fn push(&self, rejected: Rejected) {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.len() == REJECTIONS_MAX {
            newest.pop_front();
        }
        newest.push_back(rejected);
    }

    /// The newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Rejected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }
}
