//! A request on its way down the stack. Each stage takes one of these and makes the next, so that a stage in the wrong
//! place does not compile: what was not verified cannot become an event, what was not claimed cannot be delivered.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE, request::Parts};
use jiff::Timestamp;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{
    identity::EventId,
    json::Document,
    scheme::Proof,
    source::{Route, Source},
    vendor::{Reading, encode::Verification},
};

/// When a request came.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Wall-clock time, as events carry it.
    pub at: Timestamp,
    /// What time-outs and durations count from.
    pub since: Instant,
}

/// A request as the server hands it over: the body of an `http::Request`.
#[derive(Debug)]
pub struct Intake<B> {
    pub body: B,
    pub peer: SocketAddr,
    pub received: Received,
    /// The source at this path, if there is one.
    pub source: Option<Arc<Source>>,
}

/// A request for a source: path, method and media type are right.
#[derive(Debug)]
pub struct Routed<B> {
    pub source: Arc<Source>,
    pub head: Parts,
    pub body: B,
    /// Who sent it, as far as proxies are trusted to say.
    pub client: IpAddr,
    pub received: Received,
}

/// A request whose body is here.
#[derive(Debug)]
pub struct Arrival {
    pub source: Arc<Source>,
    pub head: Parts,
    pub body: Bytes,
    pub client: IpAddr,
    pub received: Received,
    /// The body's share of the bytes that may be held at once.
    pub held: OwnedSemaphorePermit,
}

/// A request that is the vendor's, or is marked as proven by nothing.
#[derive(Debug)]
pub struct Verified {
    arrival: Arrival,
    proof: Proof,
}

/// A verified request whose body is one JSON document: what its events share.
#[derive(Debug)]
pub struct Delivery {
    source: Arc<Source>,
    document: Document,
    verification: Verification,
    content_type: Option<HeaderValue>,
    client: IpAddr,
    received: Received,
    _held: OwnedSemaphorePermit,
}

/// An event of a verified delivery, and the way it goes.
#[derive(Clone, Debug)]
pub struct Event {
    delivery: Arc<Delivery>,
    reading: Arc<Reading>,
    route: usize,
}

/// An event that is nobody else's to deliver.
#[derive(Debug)]
pub struct Claimed {
    event: Event,
    id: EventId,
}

// === impl Verified ===

impl Verified {
    /// Only `scheme` makes proofs.
    #[must_use]
    pub fn new(arrival: Arrival, proof: Proof) -> Self {
        Self { arrival, proof }
    }

    #[must_use]
    pub fn source(&self) -> &Arc<Source> {
        &self.arrival.source
    }

    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.arrival.body
    }

    #[must_use]
    pub fn received(&self) -> Received {
        self.arrival.received
    }

    pub fn proof(&mut self) -> &mut Proof {
        &mut self.proof
    }

    /// The delivery, with its body read.
    #[must_use]
    pub fn delivery(self, document: Document) -> Arc<Delivery> {
        let Self { arrival, proof } = self;
        let content_type = |headers: &HeaderMap| headers.get(CONTENT_TYPE).cloned();
        Arc::new(Delivery {
            verification: arrival.source.verification(&proof),
            content_type: content_type(&arrival.head.headers),
            source: arrival.source,
            document,
            client: arrival.client,
            received: arrival.received,
            _held: arrival.held,
        })
    }
}

// === impl Delivery ===

impl Delivery {
    #[must_use]
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    #[must_use]
    pub fn verification(&self) -> &Verification {
        &self.verification
    }

    /// The vendor's own content type.
    #[must_use]
    pub fn content_type(&self) -> Option<&HeaderValue> {
        self.content_type.as_ref()
    }

    #[must_use]
    pub fn client(&self) -> IpAddr {
        self.client
    }

    #[must_use]
    pub fn received(&self) -> Received {
        self.received
    }

    /// By when the vendor must have its answer.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.received.since + self.source.time_budget
    }
}

// === impl Event ===

impl Event {
    /// An event of a delivery; `route` is its place in the source's routes.
    #[must_use]
    pub fn new(delivery: &Arc<Delivery>, reading: Reading, route: usize) -> Self {
        Self { delivery: Arc::clone(delivery), reading: Arc::new(reading), route }
    }

    #[must_use]
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    #[must_use]
    pub fn reading(&self) -> &Reading {
        &self.reading
    }

    #[must_use]
    pub fn route(&self) -> &Route {
        &self.delivery.source.routes[self.route]
    }
}

// === impl Claimed ===

impl Claimed {
    /// For the holder of the claim on `id`.
    #[must_use]
    pub fn new(event: Event, id: EventId) -> Self {
        Self { event, id }
    }

    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }
}
