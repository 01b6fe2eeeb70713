//! The request to the app, whoever delivers: nothing of the vendor's request but what is told here, and the one signature.

use std::{fmt::Display, io::Write};

use bytes::Bytes;
use http::HeaderValue;
use jiff::Timestamp;

use crate::{
    fields::Fields,
    identity::EventId,
    upstream::{Outgoing, Signer},
};

const AGENT: &str = concat!("hookwarden/", env!("CARGO_PKG_VERSION"));

/// The content type of JSON.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Room for the fields of a request.
const FIELDS_BYTES: usize = 1536;

/// Fields to begin with.
#[must_use]
pub fn fields() -> Fields {
    Fields::with_capacity(FIELDS_BYTES)
}

/// What a request says of its event beside the event itself.
#[derive(Clone, Copy, Debug)]
pub struct About<'a, Client> {
    pub id: EventId,
    /// The source's name.
    pub source: &'a str,
    /// The sender's address.
    pub client: Client,
    pub traceparent: &'a str,
    pub content_type: &'a HeaderValue,
}

/// Adds to the content what every request has, and signs it: as of `now`, by the secrets that count now.
#[must_use]
pub fn signed(
    mut fields: Fields,
    body: Bytes,
    about: &About<'_, impl Display>,
    signer: &Signer,
    now: Timestamp,
) -> Outgoing {
    let id = about.id.text();
    // All of these are visible ASCII: digits, base64, a configured name, an address.
    fields.text("webhook-id", &id);
    let timestamp = now.as_second().to_string();
    fields.text("webhook-timestamp", &timestamp);
    fields.add("webhook-signature", |out| signer.sign(out, &id, &timestamp, &body));
    fields.add("idempotency-key", |out| {
        for piece in ["\"", &id, "\""] {
            out.extend_from_slice(piece.as_bytes());
        }
    });
    fields.text("traceparent", about.traceparent);
    fields.text("hookwarden-source", about.source);
    // Writing into a Vec does not fail.
    fields.add("x-forwarded-for", |out| write!(out, "{}", about.client).unwrap_or_default());
    fields.add("content-type", |out| out.extend_from_slice(about.content_type.as_bytes()));
    fields.text("user-agent", AGENT);
    Outgoing::new(fields, body)
}
