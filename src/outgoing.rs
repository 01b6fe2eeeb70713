//! The request to the app, whoever delivers: nothing of the vendor's request but what is told here, and the one signature.

use std::io::Write;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue,
    header::{CONTENT_TYPE, USER_AGENT},
};
use jiff::Timestamp;

use crate::{
    fields::Fields,
    identity::EventId,
    upstream::{OWN_FIELDS, Outgoing, Signer},
};

static WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
static WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
static WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static SOURCE: HeaderName = HeaderName::from_static("hookwarden-source");
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const AGENT: HeaderValue = HeaderValue::from_static(concat!("hookwarden/", env!("CARGO_PKG_VERSION")));

/// The content type of JSON.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Room for the fields of a request, and for what stands in them.
const FIELDS: usize = 24;
const FIELDS_BYTES: usize = 1024;

/// Fields to begin with.
#[must_use]
pub fn fields() -> Fields {
    Fields::with_capacity(FIELDS, FIELDS_BYTES)
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
    about: About<'_, impl std::fmt::Display>,
    signer: &Signer,
    now: Timestamp,
) -> Outgoing {
    let id = about.id.text();
    // All of these are visible ASCII: digits, base64, a configured name, an address.
    fields.text(&WEBHOOK_ID, &id);
    let timestamp = now.as_second().to_string();
    fields.text(&WEBHOOK_TIMESTAMP, &timestamp);
    fields.add(&WEBHOOK_SIGNATURE, |out| signer.sign(out, &id, &timestamp, &body));
    fields.add(&IDEMPOTENCY_KEY, |out| {
        for piece in ["\"", &id, "\""] {
            out.extend_from_slice(piece.as_bytes());
        }
    });
    fields.text(&TRACEPARENT, about.traceparent);
    fields.text(&SOURCE, about.source);
    // Writing into a Vec does not fail.
    fields.add(&X_FORWARDED_FOR, |out| write!(out, "{}", about.client).unwrap_or_default());
    let mut headers = fields.into_headers(2 + OWN_FIELDS);
    headers.insert(CONTENT_TYPE, about.content_type.clone());
    headers.insert(USER_AGENT, AGENT);
    Outgoing { headers, body }
}
