//! The request to the app, whoever delivers: nothing of the vendor's request but what is told here, and the one signature.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::USER_AGENT};
use jiff::Timestamp;

use crate::upstream::{Outgoing, Signer};

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const SOURCE: HeaderName = HeaderName::from_static("hookwarden-source");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const AGENT: &str = concat!("hookwarden/", env!("CARGO_PKG_VERSION"));

/// The content type of JSON.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a request says of its event beside the event itself.
#[derive(Clone, Debug)]
pub struct About {
    pub id: String,
    /// The source's name.
    pub source: String,
    /// The sender's address.
    pub client: String,
    pub traceparent: String,
}

/// Adds to the content what every request has, and signs it: as of `now`, by the secrets that count now.
#[must_use]
pub fn signed(
    mut headers: HeaderMap,
    body: Bytes,
    about: About,
    signer: &Signer,
    now: Timestamp,
) -> Outgoing {
    let timestamp = now.as_second();
    let signature = signer.sign(&about.id, &timestamp.to_string(), &body);
    headers.insert(WEBHOOK_TIMESTAMP, timestamp.into());
    headers.insert(WEBHOOK_SIGNATURE, signature);
    let texts = [
        (IDEMPOTENCY_KEY, format!("\"{}\"", about.id)),
        (WEBHOOK_ID, about.id),
        (TRACEPARENT, about.traceparent),
        (SOURCE, about.source),
        (X_FORWARDED_FOR, about.client),
    ];
    for (name, text) in texts {
        // All of these are visible ASCII: hex digits, a configured name, an address.
        headers.extend(HeaderValue::try_from(text).ok().map(|value| (name, value)));
    }
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    Outgoing { headers, body }
}
