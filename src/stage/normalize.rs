//! Normalize: the verified bytes, read as one JSON document, become events. One delivery may hold several: each goes down
//! the rest of the way, and the vendor hears a success only if all of them were taken.

use std::{iter::repeat_n, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use tower::{BoxError, Service, ServiceExt};

use super::{Reply, collect::hold, reply::Taken};
use crate::{
    event::{Delivery, Event, Verified},
    gateway::Gateway,
    json::Document,
    rejection::{Code, Rejection},
    scheme::{Assurance, Mismatch, Proof},
    vendor::{Identity, Mapping, Reading},
};

/// How far a signed time may be ahead where `max_age` is set.
const AHEAD_MAX: SignedDuration = SignedDuration::from_mins(5);

/// Vendor times further ahead than this are counted; they are kept as they are. Identity event §5.2.
const TIME_AHEAD: SignedDuration = SignedDuration::from_mins(10);

/// The stage; `inner` is the rest of the way.
pub async fn normalize<S>(gateway: &Gateway, mut inner: S, verified: Verified) -> Result<Reply, BoxError>
where
    S: Service<Event, Response = Reply, Error = BoxError>,
{
    let (delivery, readings) = read(gateway, verified)?;
    let mut reply = Reply { status: delivery.source().success_status, events: Vec::new() };
    // The last event has the delivery for itself: once it is written out, nobody holds what it was read from.
    for (delivery, reading) in repeat_n(delivery, readings.len()).zip(readings) {
        count(&delivery, &reading);
        match delivery.source().route(&reading) {
            Some(route) => {
                let event = Event::new(delivery, reading, route);
                reply.events.extend(inner.ready().await?.call(event).await?.events);
            }
            None => reply.events.push(filtered(gateway, &delivery, &reading)),
        }
    }
    Ok(reply)
}

fn read(gateway: &Gateway, mut verified: Verified) -> Result<(Arc<Delivery>, Vec<Reading>), Rejection> {
    let malformed = |reason: String| Rejection::new(Code::MalformedBody, reason);
    let document = match verified.proof().take_document() {
        Some(document) => document,
        None => Document::parse(verified.body().clone()).map_err(|error| malformed(error.to_string()))?,
    };
    let beyond = document.structure_bytes().saturating_sub(verified.body().len());
    verified.hold(hold(&gateway.shared.body_bytes, beyond.min(gateway.structure_bytes_max))?);
    let source = verified.source();
    let readings =
        source.plan.read(&document, source.wanted()).map_err(|error| malformed(error.to_string()))?;
    let signed_at = verified.proof().signed_at();
    let body_is_signed = verified.proof().assurance() >= Assurance::SignedWeak;
    for reading in &readings {
        let time = signed_at.or_else(|| reading.occurred_at.filter(|_| body_is_signed));
        if let Err(stale) = fresh(&verified, time) {
            verified.source().metrics.unverified(Mismatch::Stale.as_str());
            if verified.source().enforce {
                return Err(stale);
            }
            *verified.proof() = Proof::report_only(&Mismatch::Stale);
        }
    }
    Ok((verified.delivery(document), readings))
}

/// Refuses what the vendor signed too long ago, where the operator sets a bound.
fn fresh(verified: &Verified, signed_at: Option<Timestamp>) -> Result<(), Rejection> {
    let (Some(max_age), Some(signed_at)) = (verified.source().max_age, signed_at) else { return Ok(()) };
    let age = signed_at.duration_until(verified.received().at);
    let max_age = SignedDuration::try_from(max_age).unwrap_or(SignedDuration::MAX);
    if (-AHEAD_MAX..=max_age).contains(&age) {
        return Ok(());
    }
    Err(Rejection::new(Code::Unverified, "max_age: the signed time is too far from now"))
}

fn count(delivery: &Delivery, reading: &Reading) {
    let ahead = reading.occurred_at.map(|at| delivery.received().at.duration_until(at));
    if ahead.is_some_and(|ahead| ahead > TIME_AHEAD) {
        delivery.source().metrics.time_ahead();
    }
    if reading.mapping != Mapping::Full {
        delivery.source().metrics.unmapped(reading.mapping.as_str()).inc();
        tracing::info!(
            source = %delivery.source().name,
            r#type = reading.event_type.as_str(),
            mapping = reading.mapping.as_str(),
            "an event that was not understood whole"
        );
    }
}

/// An event that nobody wants: taken, and no more.
fn filtered(gateway: &Gateway, delivery: &Delivery, reading: &Reading) -> Taken {
    delivery.source().metrics.event(reading.event_type, "filtered");
    let id = match &reading.identity {
        Identity::Fixed(id) => *id,
        Identity::Windowed(windowed) => {
            let assurance = delivery.verification().assurance as u128;
            gateway.shared.store.windowed_id(windowed, assurance).0
        }
    };
    Taken { id, event_type: reading.event_type, result: "filtered" }
}
