//! What all requests share: one value a configuration, and what outlives configurations.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::task::TaskTracker;

use crate::{
    clock::Clock,
    inbox::Inbox,
    limit::PerAddress,
    metrics::Metrics,
    source::{App, Source},
    store::Memory,
    units::Network,
};

/// Most refusals that are remembered for the admin API.
pub const REJECTIONS_MAX: usize = 256;

/// A configuration, ready to serve. A request keeps the one it began with.
pub struct Gateway {
    /// By exact path.
    pub sources: HashMap<Box<str>, Arc<Source>>,
    /// The path of each, by name.
    pub paths: HashMap<Arc<str>, Box<str>>,
    /// By name.
    pub apps: BTreeMap<String, Arc<App>>,
    /// Networks whose word on the client's address counts.
    pub trusted_proxies: Vec<Network>,
    pub per_address: Arc<PerAddress>,
    pub body_bytes_max: usize,
    /// Most bytes that a body's structure takes of those held at once, beyond as many as the body has: so that alone, the
    /// largest body always finds room.
    pub structure_bytes_max: usize,
    pub body_timeout: Duration,
    /// Bytes a second, of bodies that take long; 0: any.
    pub body_rate_min: u64,
    pub request_timeout: Duration,
    /// Whether the listener serves TLS.
    pub tls: bool,
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
    /// Open from the start to the end, if there is one.
    pub inbox: OnceLock<Arc<Inbox>>,
    pub rejections: Rejections,
    /// Requests that may be there at once, those whose bodies are still coming included.
    pub arrivals: Arc<Semaphore>,
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

/// What all requests together may take.
#[derive(Clone, Copy, Debug)]
pub struct SharedBounds {
    /// Event ids remembered.
    pub entries_max: usize,
    /// Requests there at once.
    pub arrivals_max: usize,
    /// Requests worked on at once, their bodies here.
    pub requests_max: usize,
    /// Bytes of bodies and of their structure held at once.
    pub body_bytes_max: usize,
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
    /// The source of that name.
    #[must_use]
    pub fn source_named(&self, name: &str) -> Option<&Arc<Source>> {
        self.sources.get(self.paths.get(name)?)
    }

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
    /// The bounds of what all requests together may take.
    #[must_use]
    pub fn new(clock: Clock, bounds: &SharedBounds) -> Arc<Self> {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        let metrics = Arc::new(Metrics::new());
        Arc::new(Self {
            store: Memory::new(bounds.entries_max, metrics.dedup_evictions.clone(), &clock),
            metrics,
            inbox: OnceLock::new(),
            rejections: Rejections::default(),
            arrivals: semaphore(bounds.arrivals_max),
            requests: semaphore(bounds.requests_max),
            body_bytes: semaphore(bounds.body_bytes_max),
            detached: TaskTracker::new(),
            stopping: AtomicBool::new(false),
            cut_off: OnceLock::new(),
            clock,
        })
    }

    /// What must survive a crash is kept there.
    #[must_use]
    pub fn inbox(&self) -> Option<&Arc<Inbox>> {
        self.inbox.get()
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
