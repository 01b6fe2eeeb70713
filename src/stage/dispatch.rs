//! Dispatch: the event as the app wants it, signed, to the app, whose answer the vendor's follows; or into the inbox.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use super::{
    Reply,
    store::{record, store},
};
use crate::{
    ascii::{Ascii, address},
    cloudevent::{Envelope, STRUCTURED},
    config::Delivery,
    event::{Claimed, Sent},
    gateway::Gateway,
    outgoing::{About, JSON, signed},
    rejection::{Code, Rejection},
    source::Route,
    upstream::{Failure, Format, Outgoing},
    vendor::encode,
};

/// Room for the envelope and the members of `data` beside the vendor's own.
const ENVELOPE_BYTES: usize = 2048;

/// Bytes of a `traceparent`.
const TRACE_BYTES: usize = 55;

/// Kept back from the vendor's time budget, for the answer to reach it.
pub(super) const ANSWER_MARGIN: Duration = Duration::from_millis(250);

/// The end of the way.
pub async fn dispatch(gateway: Arc<Gateway>, claimed: Claimed) -> Result<Reply, Rejection> {
    match claimed.event().delivery().source().delivery {
        Delivery::Direct => {
            let out = outgoing(&gateway, &claimed, &traceparent());
            deliver(gateway, out, claimed.into()).await
        }
        Delivery::Inbox => {
            let record = record(&claimed);
            store(gateway, record, claimed.into()).await
        }
    }
}

/// To the app: the vendor's answer follows the app's.
async fn deliver(gateway: Arc<Gateway>, out: Outgoing, sent: Sent) -> Result<Reply, Rejection> {
    let (source, route) = (&sent.source, sent.route());
    let began = Instant::now();
    let outcome = route.app.upstream.deliver(&out, sent.deadline() - ANSWER_MARGIN).await;
    let ended = Instant::now();
    let (took, now) = (ended - began, gateway.clock().now());
    match outcome {
        Ok(delivered) => {
            route.metrics.delivered("success", Some(delivered.status.as_u16()), took);
            route.metrics.reached(ended - sent.received.since);
            source.metrics.event(sent.event_type, "accepted");
            source.metrics.accepted_at(now);
            source.last.delivered(now, delivered.status);
            Ok(Reply::of(source.success_status, sent.id, sent.event_type, "accepted"))
        }
        Err(failure) => {
            tracing::warn!(
                source = %source.name,
                upstream = route.app.upstream.name(),
                id = %sent.id,
                %failure,
                "an event was not delivered"
            );
            source.last.ended(now, false, failure.to_string());
            Err(rejection(failure, route, took))
        }
    }
}

/// What the vendor hears of a failure, and how it is counted.
fn rejection(failure: Failure, route: &Route, took: Duration) -> Rejection {
    let (result, status) = failure.result();
    let (code, retry_after) = match failure {
        Failure::Unreachable | Failure::Broken => (Code::UpstreamUnreachable, None),
        Failure::Refused { .. } => (Code::UpstreamRefused, None),
        Failure::Busy { retry_after, .. } => (Code::UpstreamRefused, retry_after),
        Failure::Timeout => (Code::UpstreamTimeout, None),
        Failure::Saturated { retry_after } => (Code::Overloaded, Some(retry_after)),
    };
    route.metrics.delivered(result, status.map(|status| status.as_u16()), took);
    // An app that is busy is an app to come back to: the vendor hears 503, whatever it was told.
    let busy = matches!(failure, Failure::Busy { .. }).then_some(StatusCode::SERVICE_UNAVAILABLE);
    let rejection = Rejection::new(code, failure.to_string());
    Rejection { retry_after: retry_after.or(rejection.retry_after), status: busy, ..rejection }
}

/// The request to the app: nothing of the vendor's request but what is told here.
fn outgoing(gateway: &Gateway, claimed: &Claimed, trace: &str) -> Outgoing {
    let event = claimed.event();
    let (delivery, reading, app) = (event.delivery(), event.reading(), &event.route().app);
    let envelope = Envelope {
        origin: &delivery.source().origin,
        id: claimed.id(),
        reading,
        received_at: delivery.received().at,
        assurance: delivery.verification().assurance,
        traceparent: trace,
    };
    let data = |out: &mut Vec<u8>| {
        let (plan, document) = (&delivery.source().plan, delivery.document());
        encode::data(out, plan, reading, document, delivery.received().at, delivery.verification());
    };
    let capacity = event_bytes(delivery.document().text().len());
    let mut fields = app.upstream.request();
    let (content_type, body) = match app.format {
        Format::CloudEvents => (STRUCTURED, Bytes::from(envelope.structured(capacity, data))),
        Format::CloudEventsBinary => {
            envelope.binary(&mut fields, true);
            let mut body = Vec::with_capacity(capacity);
            data(&mut body);
            (JSON, Bytes::from(body))
        }
        Format::Raw => {
            envelope.binary(&mut fields, false);
            (delivery.content_type().cloned().unwrap_or(JSON), delivery.document().text().clone())
        }
    };
    let about = About {
        id: claimed.id(),
        source: &delivery.source().name,
        client: &address(delivery.client()),
        traceparent: trace,
        content_type: &content_type,
    };
    signed(fields, body, &about, &app.signer, gateway.clock().now())
}

/// Room for the event that is made of a body of so many bytes: what is mapped often has longer names than the vendor gave it,
/// and a buffer that is too short is copied whole.
pub(super) const fn event_bytes(body_bytes: usize) -> usize {
    ENVELOPE_BYTES + body_bytes + body_bytes / 2
}

/// A trace of our own (W3C Trace Context, version 00): the vendor's is not trusted.
pub(super) fn traceparent() -> Ascii<TRACE_BYTES> {
    let mut text: [u8; TRACE_BYTES] = *b"00-________________________________-________________-01";
    // Unwrap safety: two digits for each byte.
    hex::encode_to_slice(fastrand::u128(1..).to_be_bytes(), &mut text[3..35]).expect("32 digits");
    hex::encode_to_slice(fastrand::u64(1..).to_be_bytes(), &mut text[36..52]).expect("16 digits");
    Ascii::new(text, TRACE_BYTES)
}
