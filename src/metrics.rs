//! Every metric, its name and its labels. Labels are closed sets: configured names, types, codes; never an id, an
//! address or a text of a vendor's. To add one: a family here, a line in `Metrics::new`, a handle where it is counted.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use jiff::Timestamp;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use crate::{identity::EventType, process::Process};

/// Seconds: from a memory lookup to the longest delivery.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// What became of an event.
pub const EVENT_RESULTS: [&str; 4] = ["accepted", "duplicate", "filtered", "dead_letter"];
/// What came of verifying a request.
pub const VERIFICATION_RESULTS: [&str; 5] = ["ok", "missing", "mismatch", "stale", "malformed"];
/// What came of an attempt to deliver.
pub const DELIVERY_RESULTS: [&str; 6] = ["success", "refused", "busy", "timeout", "unreachable", "broken"];
/// Which limit was reached.
pub const POLICIES: [&str; 2] = ["per_ip", "source"];
const RELOAD_RESULTS: [&str; 2] = ["success", "failure"];

macro_rules! labels {
    ($($name:ident { $($label:ident: $kind:ty),* })*) => {$(
        #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub struct $name { $(pub $label: $kind),* }
    )*};
}
labels! {
    OfRequest { source: String, method: &'static str, code: u16 }
    OfSource { source: String }
    OfVerification { source: String, vendor: String, result: &'static str, key: String }
    OfEvent { source: String, vendor: String, r#type: &'static str, result: &'static str }
    OfMapping { source: String, mapping: &'static str }
    OfLimit { source: String, policy: &'static str }
    OfDelivery { upstream: String, result: &'static str, code: String }
    OfUpstream { upstream: String }
    OfPair { source: String, upstream: String }
    OfState { upstream: String, state: &'static str }
    OfBackend { backend: &'static str }
    OfResult { result: &'static str }
}

type Seconds = Family<OfSource, Histogram, fn() -> Histogram>;
type Float = Gauge<f64, AtomicU64>;

/// All families.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub http_requests: Family<OfRequest, Counter>,
    pub http_request_duration: Seconds,
    pub http_requests_in_flight: Gauge,
    pub verifications: Family<OfVerification, Counter>,
    pub events: Family<OfEvent, Counter>,
    pub unmapped_events: Family<OfMapping, Counter>,
    pub rate_limited: Family<OfLimit, Counter>,
    pub vendor_time_ahead: Family<OfSource, Counter>,
    pub deliveries: Family<OfDelivery, Counter>,
    pub delivery_duration: Family<OfUpstream, Histogram, fn() -> Histogram>,
    pub end_to_end_duration: Family<OfPair, Histogram, fn() -> Histogram>,
    pub dedup_entries: Gauge,
    pub dedup_evictions: Counter,
    pub inbox_events: Family<OfState, Gauge>,
    pub inbox_bytes: Gauge,
    pub inbox_oldest_event_timestamp: Family<OfUpstream, Float>,
    pub inbox_damaged: Counter,
    pub inbox_errors: Counter,
    pub config_reloads: Family<OfResult, Counter>,
    pub config_last_reload_successful: Gauge,
    pub last_event_timestamp: Family<OfSource, Float>,
}

impl Metrics {
    #[must_use]
    pub fn new() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        let ours = registry.sub_registry_with_prefix("hookwarden");
        ours.register("build", "What is running", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        macro_rules! family {
            ($name:literal, $help:literal) => {
                family!($name, $help, Default::default())
            };
            ($name:literal, $help:literal, $metric:expr) => {{
                let metric = $metric;
                ours.register($name, $help, Clone::clone(&metric));
                metric
            }};
        }
        let store_errors: Family<OfBackend, Counter> = family!("store_errors", "Failures of the store");
        drop(store_errors.get_or_create(&OfBackend { backend: "memory" }));
        let inbox_errors = store_errors.get_or_create_owned(&OfBackend { backend: "sqlite" });
        let metrics = Self {
            http_requests: family!("http_requests", "Requests answered"),
            http_request_duration: family!(
                "http_request_duration_seconds",
                "From the head of a request to its answer",
                Family::new_with_constructor(histogram)
            ),
            http_requests_in_flight: family!("http_requests_in_flight", "Requests being worked on"),
            verifications: family!("verifications", "Requests verified or not"),
            events: family!("events", "Events by what became of them"),
            unmapped_events: family!("unmapped_events", "Events that were not understood whole"),
            rate_limited: family!("rate_limited", "Requests past a rate"),
            vendor_time_ahead: family!("vendor_time_ahead", "Events of a time more than ten minutes ahead"),
            deliveries: family!("deliveries", "Deliveries to upstreams"),
            delivery_duration: family!(
                "delivery_duration_seconds",
                "From the first attempt to the last answer of the upstream",
                Family::new_with_constructor(histogram)
            ),
            end_to_end_duration: family!(
                "end_to_end_duration_seconds",
                "From the head of a vendor's request to the upstream's 2xx",
                Family::new_with_constructor(histogram)
            ),
            dedup_entries: family!("dedup_entries", "Event ids remembered"),
            dedup_evictions: family!(
                "dedup_evictions",
                "Event ids forgotten before their time, for want of room"
            ),
            inbox_events: family!("inbox_events", "Deliveries in the inbox that are not settled"),
            inbox_bytes: family!("inbox_bytes", "Bytes in use by the inbox"),
            inbox_oldest_event_timestamp: family!(
                "inbox_oldest_event_timestamp_seconds",
                "When the oldest event was received that is not delivered yet; 0 if there is none"
            ),
            inbox_damaged: family!("inbox_damaged", "Deliveries set aside since the disk changed them"),
            inbox_errors,
            config_reloads: family!("config_reloads", "Reloads of the configuration"),
            config_last_reload_successful: family!(
                "config_last_reload_successful",
                "1 if the last reload was taken, 0 if it was refused"
            ),
            last_event_timestamp: family!("last_event_timestamp_seconds", "When an event was last accepted"),
            registry,
        };
        for result in RELOAD_RESULTS {
            drop(metrics.config_reloads.get_or_create(&OfResult { result }));
        }
        metrics.config_last_reload_successful.set(1);
        metrics
    }

    /// All values, as OpenMetrics text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        encode(&mut text, &self.registry).unwrap_or_default();
        text
    }

    /// Counts a reload, and remembers how it ended.
    pub fn reloaded(&self, taken: bool) {
        let result = RELOAD_RESULTS[usize::from(!taken)];
        self.config_reloads.get_or_create(&OfResult { result }).inc();
        self.config_last_reload_successful.set(i64::from(taken));
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A source's own handles, so that counting takes no lookup. Every `result` is there from the start.
#[derive(Debug)]
pub struct SourceMetrics {
    source: String,
    vendor: String,
    metrics: Arc<Metrics>,
    /// Of POST: what was taken, and what was forged. There may be many of both.
    posts: [(u16, Counter); 2],
    /// By `VERIFICATION_RESULTS`, but for the first.
    unverified: Vec<(&'static str, Counter)>,
    duration: Histogram,
    last_event: Float,
    /// By the id of the secret.
    verified: Vec<(Box<str>, Counter)>,
    /// By type and result.
    events: Vec<(EventType, &'static str, Counter)>,
}

impl SourceMetrics {
    /// `keys` are the ids of the source's secrets, `types` what its vendor can send.
    #[must_use]
    pub fn new<'a>(
        metrics: &Arc<Metrics>,
        source: &str,
        vendor: &str,
        keys: impl IntoIterator<Item = &'a str>,
        types: impl IntoIterator<Item = EventType>,
    ) -> Self {
        let post = |code| {
            let labels = OfRequest { source: source.to_owned(), method: "POST", code };
            (code, metrics.http_requests.get_or_create_owned(&labels))
        };
        let of_source = OfSource { source: source.to_owned() };
        let mut handles = Self {
            source: source.to_owned(),
            vendor: vendor.to_owned(),
            metrics: Arc::clone(metrics),
            posts: [post(200), post(401)],
            unverified: Vec::new(),
            duration: metrics.http_request_duration.get_or_create_owned(&of_source),
            last_event: metrics.last_event_timestamp.get_or_create_owned(&of_source),
            verified: Vec::new(),
            events: Vec::new(),
        };
        for key in keys {
            let labels = handles.of_verification(VERIFICATION_RESULTS[0], key);
            handles.verified.push((key.into(), metrics.verifications.get_or_create_owned(&labels)));
        }
        for result in &VERIFICATION_RESULTS[1..] {
            let counter = metrics.verifications.get_or_create_owned(&handles.of_verification(result, ""));
            handles.unverified.push((result, counter));
        }
        for event_type in types {
            for result in EVENT_RESULTS {
                let (source, vendor) = (source.to_owned(), vendor.to_owned());
                let labels = OfEvent { source, vendor, r#type: event_type.as_str(), result };
                handles.events.push((event_type, result, metrics.events.get_or_create_owned(&labels)));
            }
        }
        for mapping in ["partial", "passthrough"] {
            handles.unmapped(mapping).inc_by(0);
        }
        for policy in POLICIES {
            handles.limited(policy).inc_by(0);
        }
        handles
    }

    pub fn request(&self, method: &'static str, code: u16, took: Duration) {
        match self.posts.iter().find(|(known, _)| method == "POST" && *known == code) {
            Some((_, counter)) => {
                counter.inc();
            }
            None => {
                let labels = OfRequest { source: self.source.clone(), method, code };
                self.metrics.http_requests.get_or_create(&labels).inc();
            }
        }
        self.duration.observe(took.as_secs_f64());
    }

    /// A request was verified, by the secret of this id.
    pub fn verified(&self, key: &str) {
        if let Some((_, counter)) = self.verified.iter().find(|(known, _)| **known == *key) {
            counter.inc();
        }
    }

    /// A request was not verified, with one of `VERIFICATION_RESULTS`.
    pub fn unverified(&self, result: &'static str) {
        if let Some((_, counter)) = self.unverified.iter().find(|(known, _)| *known == result) {
            counter.inc();
        }
    }

    /// Something became of an event: one of `EVENT_RESULTS`.
    pub fn event(&self, event_type: EventType, result: &'static str) {
        let known = self.events.iter().find(|(known, of, _)| (*known, *of) == (event_type, result));
        if let Some((_, _, counter)) = known {
            counter.inc();
        }
    }

    fn of_verification(&self, result: &'static str, key: &str) -> OfVerification {
        let (source, vendor) = (self.source.clone(), self.vendor.clone());
        OfVerification { source, vendor, result, key: key.to_owned() }
    }

    #[must_use]
    pub fn unmapped(&self, mapping: &'static str) -> Counter {
        self.metrics.unmapped_events.get_or_create_owned(&OfMapping { source: self.source.clone(), mapping })
    }

    #[must_use]
    pub fn limited(&self, policy: &'static str) -> Counter {
        self.metrics.rate_limited.get_or_create_owned(&OfLimit { source: self.source.clone(), policy })
    }

    /// An event claims to be of the future.
    pub fn time_ahead(&self) {
        self.metrics.vendor_time_ahead.get_or_create(&OfSource { source: self.source.clone() }).inc();
    }

    /// An event was accepted at this time.
    pub fn accepted_at(&self, at: Timestamp) {
        self.last_event.set(at.as_duration().as_secs_f64());
    }
}

/// The handles of a source's way to one upstream.
#[derive(Debug)]
pub struct RouteMetrics {
    upstream: String,
    metrics: Arc<Metrics>,
    succeeded: Counter,
    duration: Histogram,
    end_to_end: Histogram,
}

impl RouteMetrics {
    #[must_use]
    pub fn new(metrics: &Arc<Metrics>, source: &str, upstream: &str) -> Self {
        let of = |result, code: &str| {
            let labels = OfDelivery { upstream: upstream.to_owned(), result, code: code.to_owned() };
            metrics.deliveries.get_or_create_owned(&labels)
        };
        for result in &DELIVERY_RESULTS[1..] {
            of(result, "").inc_by(0);
        }
        let (source, upstream) = (source.to_owned(), upstream.to_owned());
        Self {
            succeeded: of(DELIVERY_RESULTS[0], "200"),
            duration: metrics
                .delivery_duration
                .get_or_create_owned(&OfUpstream { upstream: upstream.clone() }),
            end_to_end: metrics
                .end_to_end_duration
                .get_or_create_owned(&OfPair { source, upstream: upstream.clone() }),
            metrics: Arc::clone(metrics),
            upstream,
        }
    }

    /// A delivery ended: with the upstream's status, if it gave one.
    pub fn delivered(&self, result: &'static str, code: Option<u16>, took: Duration) {
        self.duration.observe(took.as_secs_f64());
        if (result, code) == (DELIVERY_RESULTS[0], Some(200)) {
            self.succeeded.inc();
            return;
        }
        let code = code.map_or_else(String::new, |code| code.to_string());
        let labels = OfDelivery { upstream: self.upstream.clone(), result, code };
        self.metrics.deliveries.get_or_create(&labels).inc();
    }

    /// An event reached the upstream so long after its request began.
    pub fn reached(&self, took: Duration) {
        self.end_to_end.observe(took.as_secs_f64());
    }
}
