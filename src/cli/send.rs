//! Sending as a vendor would: a signed POST, and what the gateway said to it.

use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header::CONTENT_TYPE};
use jiff::Timestamp;

use super::sample::unique;
use crate::{
    scheme::{Fault, Place, SchemeName, Settings},
    secret::Secret,
    upstream::{Roots, Target, once},
};

/// Longest wait for an answer: longer than a gateway waits for its app.
const PATIENCE: Duration = Duration::from_secs(30);

/// A vendor's side of the wire.
pub(super) struct Sender {
    pub to: String,
    /// The URL as registered at the vendor, for those that sign it.
    pub url: String,
    pub verify: Settings,
    pub secret: Secret,
    pub roots: Roots,
}

/// What the gateway said.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    /// `hookwarden-error`, of a refusal.
    pub code: Option<String>,
    pub id: Option<String>,
    pub duplicate: bool,
}

impl Sender {
    /// The same vendor with a secret nobody knows: what it sends is a forgery.
    pub(super) fn forger(&self) -> Self {
        // Hex is base64, hex and text at once: whatever way the vendor writes its secrets.
        let secret = Secret::new(None, hex::encode(fastrand::u128(..).to_be_bytes()).into_bytes());
        Self {
            secret,
            to: self.to.clone(),
            url: self.url.clone(),
            verify: self.verify.clone(),
            roots: self.roots.clone(),
        }
    }

    /// Signs and sends.
    pub(super) async fn send(&self, body: &Bytes, now: Timestamp) -> anyhow::Result<Answer> {
        let signed = self
            .verify
            .sign(&self.secret, Some(&self.url), body, &unique(), now)
            .map_err(|faults| unsigned(&faults))?;
        let mut to = self.to.clone();
        if let Some(query) = &signed.query {
            to.push(if to.contains('?') { '&' } else { '?' });
            to.push_str(query);
        }
        let mut request = Request::new(body.clone());
        *request.method_mut() = Method::POST;
        *request.headers_mut() = signed.headers;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = once(&target(&to)?, &self.roots, request, PATIENCE).await;
        Ok(Answer::from(&answer.with_context(|| format!("no answer from {}; is a gateway there?", self.to))?))
    }
}

/// Where a URL leads.
pub(super) fn target(url: &str) -> anyhow::Result<Target> {
    let target = url.parse::<Target>().ok().filter(|target| matches!(target, Target::Tcp { .. }));
    target.ok_or_else(|| anyhow!("expected http://HOST/PATH or https://HOST/PATH, without user or fragment"))
}

/// The header to use for a vendor that does not document its own.
pub(super) fn assumed_header(vendor: &str, verify: &Settings) -> Option<String> {
    let in_header = matches!(verify.scheme, Some(SchemeName::Digest | SchemeName::Hmac | SchemeName::Token))
        && matches!(verify.place, None | Some(Place::Header));
    (in_header && verify.header.is_none()).then(|| format!("x-{vendor}-secret"))
}

fn unsigned(faults: &[Fault]) -> anyhow::Error {
    let text: Vec<String> = faults.iter().map(|fault| format!("{} {}", fault.key, fault.text)).collect();
    anyhow!("cannot sign: {}", text.join("; "))
}

impl From<&Response<Bytes>> for Answer {
    fn from(response: &Response<Bytes>) -> Self {
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        Self {
            status: response.status().as_u16(),
            code: header("hookwarden-error"),
            id: header("hookwarden-event-id"),
            duplicate: header("hookwarden-duplicate").is_some_and(|value| value == "true"),
        }
    }
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// `200`, `200 duplicate`, `401 unverified`.
    pub(super) fn text(&self) -> String {
        match &self.code {
            Some(code) => format!("{} {code}", self.status),
            None if self.duplicate => format!("{} duplicate", self.status),
            None => self.status.to_string(),
        }
    }
}
