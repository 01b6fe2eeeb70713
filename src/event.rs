//! A request on its way down the stack. Each stage takes one of these and makes the next, so that a stage in the wrong
//! place does not compile: what was not verified cannot become an event, what was not claimed cannot be delivered.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE, request::Parts};
use jiff::Timestamp;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{
    config::Delivery as Handover,
    identity::{EventId, EventType},
    json::Document,
    outgoing::JSON,
    scheme::Proof,
    source::{Route, Source},
    store::OpenWindow,
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

/// A request as the server hands it over: the body of an `http::Request`. From `head` on that goes in a box: it is large, and
/// is handed on at every stage.
pub struct Intake<B> {
    pub body: B,
    pub peer: SocketAddr,
    pub received: Received,
    /// The source at this path, if there is one.
    pub source: Option<Arc<Source>>,
}

/// A request for a source: path, method and media type are right.
pub struct Routed<B> {
    pub source: Arc<Source>,
    pub head: Box<Parts>,
    pub body: B,
    /// Who sent it, as far as proxies are trusted to say.
    pub client: IpAddr,
    pub received: Received,
}

/// A request whose body is here.
pub struct Arrival {
    pub source: Arc<Source>,
    pub head: Box<Parts>,
    pub body: Bytes,
    pub client: IpAddr,
    pub received: Received,
    /// The share of the body, and of what is made of it, of the bytes that may be held at once.
    pub held: OwnedSemaphorePermit,
}

/// A request that is the vendor's, or is marked as proven by nothing.
pub struct Verified {
    arrival: Arrival,
    proof: Proof,
}

/// A verified request whose body is one JSON document: what its events share.
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
#[derive(Debug)]
pub struct Event {
    delivery: Arc<Delivery>,
    /// In a box, as it is long and each stage hands it on.
    reading: Box<Reading>,
    route: usize,
}

/// An event that is nobody else's to deliver.
#[derive(Debug)]
pub struct Claimed {
    event: Event,
    id: EventId,
    /// In a box, too; few have one.
    window: Option<Box<OpenWindow>>,
}

/// An event that has been written out, and whose outcome is to be told. What it was read from is given back before anybody
/// waits for the outcome, unless other events of its delivery need it still.
pub struct Sent {
    pub id: EventId,
    pub event_type: EventType,
    pub source: Arc<Source>,
    pub received: Received,
    route: usize,
    /// What was sent is held as long as this: it may be the body itself.
    _held: Held,
}

/// Of the bytes that may be held at once.
enum Held {
    Own { _permit: OwnedSemaphorePermit },
    Shared { _delivery: Arc<Delivery> },
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

    /// Holds more of the bytes that may be held at once.
    pub fn hold(&mut self, more: OwnedSemaphorePermit) {
        self.arrival.held.merge(more);
    }

    /// The delivery, with its body read.
    #[must_use]
    pub fn delivery(self, document: Document) -> Arc<Delivery> {
        let Self { arrival, proof } = self;
        // Not the value itself: it holds all of the buffer that the head came in.
        let content_type = |headers: &HeaderMap| match headers.get(CONTENT_TYPE)? {
            value if *value == JSON => Some(JSON),
            value => HeaderValue::from_bytes(value.as_bytes()).ok(),
        };
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
        self.source.deadline(self.received.since)
    }
}

// === impl Event ===

impl Event {
    /// An event of a delivery; `route` is its place in the source's routes.
    #[must_use]
    pub fn new(delivery: Arc<Delivery>, reading: Reading, route: usize) -> Self {
        Self { delivery, reading: Box::new(reading), route }
    }

    #[must_use]
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    #[must_use]
    pub fn reading(&self) -> &Reading {
        &self.reading
    }

    /// The first way it goes.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.delivery.source.routes[self.route]
    }

    /// The ways it goes: a direct delivery has one, into the inbox leads every one that takes its type.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        let source = self.delivery.source();
        let (event_type, all) = (self.reading.event_type, source.delivery == Handover::Inbox);
        let takes = move |route: &Route| route.types.lets(event_type);
        let others = source.routes.iter().enumerate().skip(self.route + 1).filter(move |(at, route)| {
            // Two routes may lead to one app; it gets the event once.
            let before = &source.routes[self.route..*at];
            all && takes(route)
                && !before.iter().any(|other| takes(other) && Arc::ptr_eq(&other.app, &route.app))
        });
        [self.route()].into_iter().chain(others.map(|(_, route)| route))
    }

    /// With its id, what an event is known by: where it comes from, as far as that is proven, and its ways. So an unsigned
    /// copy does not stand in the way of the signed one, and another app gets the event too.
    #[must_use]
    pub fn scope(&self) -> u128 {
        self.routes().fold(self.delivery.verification.assurance as u128, |scope, route| scope ^ route.scope)
    }
}

// === impl Claimed ===

impl Claimed {
    /// For the holder of the claim on `id`, which may be that of a window.
    #[must_use]
    pub fn new(event: Event, id: EventId, window: Option<OpenWindow>) -> Self {
        Self { event, id, window: window.map(Box::new) }
    }

    /// The window its id is of.
    #[must_use]
    pub fn window(&self) -> Option<OpenWindow> {
        self.window.as_deref().copied()
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

// === impl Sent ===

impl From<Claimed> for Sent {
    fn from(Claimed { event, id, .. }: Claimed) -> Self {
        let Event { delivery, reading, route } = event;
        let (source, received) = (Arc::clone(&delivery.source), delivery.received);
        let held = match Arc::try_unwrap(delivery) {
            Ok(delivery) => Held::Own { _permit: delivery._held },
            Err(delivery) => Held::Shared { _delivery: delivery },
        };
        Self { id, event_type: reading.event_type, source, received, route, _held: held }
    }
}

impl Sent {
    /// The first way it went.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.source.routes[self.route]
    }

    /// By when the vendor must have its answer.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.source.deadline(self.received.since)
    }
}

// === impl Debug: who sent it, and nothing of what was sent ===

impl<B> fmt::Debug for Intake<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(f, "Intake", self.source.as_ref())
    }
}

impl<B> fmt::Debug for Routed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(f, "Routed", Some(&self.source))
    }
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(f, "Arrival", Some(&self.source))
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(f, "Verified", Some(self.source()))
    }
}

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(f, "Sent", Some(&self.source))
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(f, "Delivery", Some(&self.source))
    }
}

fn shown(f: &mut fmt::Formatter<'_>, stage: &str, source: Option<&Arc<Source>>) -> fmt::Result {
    let name = source.map(|source| &source.name);
    f.debug_struct(stage).field("source", &name).finish_non_exhaustive()
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, net::Ipv4Addr};

    use http::Request;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        assemble::assemble,
        clock::Clock,
        gateway::{Shared, SharedBounds},
        identity::Recipe,
        scheme::Mismatch,
        vendor::Extent,
    };

    const CANARY: &str = "canary-0123456789";

    /// A source whose configuration, but for its name, is all canaries.
    fn source() -> Arc<Source> {
        let settings = r#"
            upstreams.app = { url = "http://127.0.0.1:1/canary", secret_env = "SECRET" }
            sources.ours = { vendor = "sendauth", secret_env = "SECRET", upstream = "app", tenant = "canary" }
        "#;
        let bounds = SharedBounds { entries_max: 1, arrivals_max: 1, requests_max: 1, body_bytes_max: 1 };
        let shared = Shared::new(Clock::manual(Timestamp::UNIX_EPOCH), &bounds);
        let env = |_: &str| Some(OsString::from(CANARY));
        let assembly = assemble(&toml::from_str(settings).unwrap(), &env, &shared, None).unwrap();
        Arc::clone(&assembly.gateway.sources["/in/ours"])
    }

    #[test]
    fn at_no_stage_does_debug_show_what_was_sent() {
        let source = source();
        let sent =
            Bytes::from(format!(r#"{{"id":"{CANARY}","authGroup":{{"id":"{CANARY}"}},"{CANARY}":1}}"#));
        let head = Request::post(format!("/in/ours?token={CANARY}")).header("x-token", CANARY);
        let (head, ()) = head.header(CONTENT_TYPE, CANARY).body(()).unwrap().into_parts();
        let received = Received { at: Timestamp::UNIX_EPOCH, since: Instant::now() };
        let client = IpAddr::from(Ipv4Addr::LOCALHOST);
        let peer = SocketAddr::from((client, 1));
        let intake = Intake { body: sent.clone(), peer, received, source: Some(Arc::clone(&source)) };
        let mut shown = vec![format!("{intake:?}")];
        let routed = Routed { source, head: Box::new(head), body: sent, client, received };
        shown.push(format!("{routed:?}"));
        let Routed { source, head, body, client, received } = routed;
        let held = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let arrival = Arrival { source, head, body, client, received, held };
        shown.push(format!("{arrival:?}"));
        let document = Document::parse(arrival.body.clone()).unwrap();
        let verified = Verified::new(arrival, Proof::report_only(&Mismatch::Missing));
        shown.push(format!("{verified:?}"));
        let delivery = verified.delivery(document);
        shown.push(format!("{delivery:?}"));
        let reading = delivery.source().plan.read(delivery.document(), Extent::Data).unwrap().remove(0);
        let event = Event::new(Arc::clone(&delivery), reading, 0);
        let claimed = Claimed::new(event, Recipe::new("ours").id(), None);
        shown.push(format!("{claimed:?}"));
        shown.push(format!("{:?}", Sent::from(claimed)));
        for text in shown {
            assert!(!text.contains("canary") && text.contains("ours"), "{text}");
        }
    }
}
