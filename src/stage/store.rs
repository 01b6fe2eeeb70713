//! Dispatch into the inbox: the event and what is sent of it, to every way that takes it. The vendor is answered when it is
//! on the disk; couriers do the rest.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::timeout_at;

use super::{
    Reply,
    dispatch::{ANSWER_MARGIN, event_bytes, traceparent},
};
use crate::{
    cloudevent::Envelope,
    event::{Claimed, Sent},
    gateway::Gateway,
    inbox::{Appended, Content, Record, Way},
    rejection::{Code, Rejection},
    upstream::Format,
    vendor::encode,
};

/// Into the inbox.
pub(super) async fn store(gateway: Arc<Gateway>, record: Record, sent: Sent) -> Result<Reply, Rejection> {
    let unavailable = |reason: String| Rejection::new(Code::InboxUnavailable, reason);
    let inbox = gateway.shared.inbox().ok_or_else(|| unavailable("there is no inbox".to_owned()))?;
    let appended = timeout_at(sent.deadline() - ANSWER_MARGIN, inbox.append(record)).await;
    let appended = appended
        .map_err(|_| unavailable("the disk is too slow".to_owned()))?
        .map_err(|error| unavailable(error.to_string()))?;
    let result = match appended {
        Appended::Stored => "accepted",
        Appended::Known => "duplicate",
    };
    sent.source.metrics.event(sent.event_type, result);
    if appended == Appended::Stored {
        sent.source.metrics.accepted_at(gateway.clock().now());
    }
    Ok(Reply::of(sent.source.success_status, sent.id, sent.event_type, result))
}

/// All that the deliveries of an event need, whatever the configuration says by then.
pub(super) fn record(claimed: &Claimed) -> Record {
    let event = claimed.event();
    let (delivery, reading) = (event.delivery(), event.reading());
    let (source, document) = (delivery.source(), delivery.document());
    let trace = traceparent();
    let envelope = Envelope {
        origin: &source.origin,
        id: claimed.id(),
        reading,
        received_at: delivery.received().at,
        assurance: delivery.verification().assurance,
        traceparent: &trace,
    };
    let wants = |is_it: fn(Format) -> bool| event.routes().any(|route| is_it(route.app.format));
    let data = || {
        let mut data = Vec::with_capacity(event_bytes(document.text().len()));
        encode::data(
            &mut data,
            &source.plan,
            reading,
            document,
            delivery.received().at,
            delivery.verification(),
        );
        Bytes::from(data)
    };
    let raw = wants(|format| format == Format::Raw);
    let content = Content {
        attributes: envelope.context_object().into(),
        data: wants(|format| format != Format::Raw).then(data),
        raw: raw.then(|| document.text().clone()),
        content_type: delivery
            .content_type()
            .filter(|_| raw)
            .map(|value| Bytes::copy_from_slice(value.as_bytes())),
    };
    let way = |route: &crate::source::Route| Way {
        upstream: route.app.upstream.name().into(),
        format: route.app.format,
        ordered: route.app.ordered,
    };
    Record {
        id: claimed.id(),
        realm: event.scope(),
        window: claimed.window(),
        dedup_window: source.dedup_window,
        received_at: delivery.received().at,
        source: Arc::clone(&source.name),
        event_type: reading.event_type.as_str(),
        subject: reading.subject.clone(),
        partition_key: reading.partition_key.clone().unwrap_or_else(|| claimed.id().to_string()),
        client: delivery.client(),
        content,
        ways: event.routes().map(way).collect(),
    }
}
