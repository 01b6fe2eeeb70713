//! The request to the app, whoever delivers: nothing of the vendor's request but what is told here, and the one signature.

use bytes::Bytes;
use http::HeaderValue;
use jiff::Timestamp;

use crate::{
    fields::Fields,
    identity::EventId,
    upstream::{Outgoing, Signer},
};

/// The content type of JSON.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a request says of its event beside the event itself.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    pub id: EventId,
    /// The source's name.
    pub source: &'a str,
    /// The sender's address.
    pub client: &'a str,
    pub traceparent: &'a str,
    pub content_type: &'a HeaderValue,
}

/// Adds to the content what every request has, and signs it: as of `now`, by the secrets that count now.
#[must_use]
pub fn signed(mut head: Fields, body: Bytes, about: &About<'_>, signer: &Signer, now: Timestamp) -> Outgoing {
    let id = about.id.text();
    // All of these are visible ASCII: digits, base64, a configured name, an address.
    head.text("webhook-id", &id);
    let mut timestamp = itoa::Buffer::new();
    let timestamp = timestamp.format(now.as_second());
    head.text("webhook-timestamp", timestamp);
    head.add("webhook-signature", |out| signer.sign(out, &id, timestamp, &body));
    head.add("idempotency-key", |out| {
        for piece in ["\"", &id, "\""] {
            out.extend_from_slice(piece.as_bytes());
        }
    });
    head.text("traceparent", about.traceparent);
    head.text("hookwarden-source", about.source);
    head.text("x-forwarded-for", about.client);
    head.add("content-type", |out| out.extend_from_slice(about.content_type.as_bytes()));
    Outgoing::new(head, body)
}
