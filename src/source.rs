//! A source at run time: where one vendor posts to, how its requests are judged, and where its events go. Built from the
//! configuration once, shared by all its requests, never changed.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::StatusCode;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    cloudevent::Origin,
    config::Delivery,
    identity::TypeFilter,
    limit::Budget,
    metrics::{RouteMetrics, SourceMetrics},
    scheme::{Assurance, Proof, Verifier},
    units::Network,
    upstream::{Format, Signer, Upstream},
    vendor::{Extent, Plan, Reading, encode::Verification},
};

/// One source.
#[derive(Debug)]
pub struct Source {
    pub name: Arc<str>,
    pub path: Box<str>,
    pub plan: Arc<Plan>,
    pub verifier: Verifier,
    /// False: what fails verification goes on, marked so.
    pub enforce: bool,
    /// Networks clients may be in; none set means any.
    pub allow: Option<Vec<Network>>,
    pub budget: Option<Arc<Budget>>,
    pub origin: Origin,
    pub routes: Vec<Route>,
    pub filters: TypeFilter,
    pub forward_tests: bool,
    pub delivery: Delivery,
    pub dedup_window: Duration,
    pub max_age: Option<Duration>,
    pub success_status: StatusCode,
    pub limited_status: StatusCode,
    /// How long a request may take, the delivery included: what the vendor waits, or the server's own bound.
    pub time_budget: Duration,
    /// What an unsigned request of a known network is worth.
    pub unsigned: Assurance,
    pub metrics: SourceMetrics,
    /// Outlives reloads.
    pub last: Arc<LastDelivery>,
}

/// A way to one upstream.
#[derive(Debug)]
pub struct Route {
    pub types: TypeFilter,
    pub app: Arc<App>,
    /// Keeps this way's claims apart from others': another app must get the event too.
    pub scope: u128,
    pub metrics: RouteMetrics,
}

/// An upstream and how it wants its events.
#[derive(Debug)]
pub struct App {
    pub upstream: Upstream,
    pub format: Format,
    pub signer: Signer,
    /// Waits between attempts to deliver from the inbox.
    pub schedule: Vec<Duration>,
    /// Whether the inbox keeps the order of each partition.
    pub ordered: bool,
}

/// How the last delivery ended, for the admin API.
#[derive(Debug, Default)]
pub struct LastDelivery(Mutex<Option<(Timestamp, Said)>>);

/// How it ended. The text is made when somebody asks.
#[derive(Clone, Debug)]
enum Said {
    Delivered(StatusCode),
    Other { success: bool, message: String },
}

impl Source {
    /// What its apps want of its events: `data` goes to all that do not take the vendor's own body.
    #[must_use]
    pub fn wanted(&self) -> Extent {
        match self.routes.iter().all(|route| route.app.format == Format::Raw) {
            true => Extent::Attributes,
            false => Extent::Data,
        }
    }

    /// Whether this client may send at all.
    #[must_use]
    pub fn lets(&self, client: IpAddr) -> bool {
        self.allow.as_ref().is_none_or(|networks| networks.iter().any(|network| network.contains(&client)))
    }

    /// The way this event goes: the first that takes its type.
    #[must_use]
    pub fn route(&self, reading: &Reading) -> Option<usize> {
        let wanted = self.filters.lets(reading.event_type) && (self.forward_tests || !is_ping(reading));
        let takes = |route: &Route| route.types.lets(reading.event_type);
        self.routes.iter().position(takes).filter(|_| wanted)
    }

    /// By when whoever sent a request that came then must have its answer.
    #[must_use]
    pub fn deadline(&self, received: Instant) -> Instant {
        received + self.time_budget
    }

    /// What proved a request, in the words of the event.
    #[must_use]
    pub fn verification(&self, proof: &Proof) -> Verification {
        let assurance = match proof.assurance() {
            Assurance::None if self.verifier.assurance() == Assurance::None => self.unsigned,
            assurance => assurance,
        };
        Verification {
            method: self.verifier.method(),
            header: self.verifier.header().cloned(),
            assurance,
            key_id: proof.key_id().cloned(),
            body_sha256: proof.body_sha256(),
        }
    }
}

/// A vendor's test of the connection. (A test *event* of a real type is forwarded, marked as a test.)
fn is_ping(reading: &Reading) -> bool {
    reading.event_type == crate::identity::EventType::TestPing
}

impl LastDelivery {
    /// The app took it.
    pub fn delivered(&self, at: Timestamp, status: StatusCode) {
        self.set(at, Said::Delivered(status));
    }

    pub fn ended(&self, at: Timestamp, success: bool, message: String) {
        self.set(at, Said::Other { success, message });
    }

    fn set(&self, at: Timestamp, said: Said) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, said));
    }

    /// When, whether well, and what was said; none before the first.
    pub fn get(&self) -> Option<(Timestamp, bool, String)> {
        let (at, said) = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(match said {
            Said::Delivered(status) => (at, true, format!("status code: {}", status.as_u16())),
            Said::Other { success, message } => (at, success, message),
        })
    }
}
