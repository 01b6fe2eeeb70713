//! Is this signature right? Pure functions of (headers, bytes, secrets, now): no clock, no I/O.
//!
//! [`Settings`] say how a vendor signs, [`Settings::compile`] makes a [`Verifier`] of them, and only a verifier makes a
//! [`Proof`].

#![warn(clippy::wildcard_enum_match_arm)]

mod beside;
mod compile;
mod digest;
mod encoding;
mod header;
mod hmac;
mod key;
mod settings;
mod sign;
mod signature;
mod template;
#[cfg(test)]
mod tests;
mod token;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};
use jiff::Timestamp;

use crate::json::Document;

use self::beside::Beside;
pub use self::{
    compile::Fault,
    settings::{Encoding, Hash, Place, SchemeName, SecretEncoding, Settings, Syntax, Texts, TimestampUnit},
    sign::Signed,
};

/// What a verifier looks at: the request as it came.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub headers: &'a HeaderMap,
    pub method: &'a Method,
    pub query: Option<&'a str>,
    pub body: &'a Bytes,
}

/// Shows sizes only: headers and query may hold a token, the body is the vendor's.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("headers", &self.headers.len())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// Says whether a request is genuine. Made by [`Settings::compile`], once for each source.
pub struct Verifier {
    scheme: Scheme,
    method: &'static str,
    header: Option<HeaderName>,
    assurance: Assurance,
}

/// That a request is genuine, and how far. Nobody else can make one.
pub struct Proof {
    assurance: Assurance,
    key_id: Option<Arc<str>>,
    signed_at: Option<Timestamp>,
    document: Option<Document>,
    body_sha256: Option<[u8; 32]>,
}

/// How much a proof proves; more is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assurance {
    /// Nothing.
    None,
    /// Where the request came from.
    Network,
    /// That the sender has a secret; the body may be anyone's.
    SharedSecret,
    /// The body, by a construction that needs our help (`digest`).
    SignedWeak,
    /// The body.
    Signed,
}

/// Why a request is not genuine. For logs and metrics only: the sender hears the same of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// A header or a token is not there, or is empty.
    #[error("the signature or what belongs to it is missing")]
    Missing,
    /// It is there, but twice or not readable.
    #[error("the signature or what belongs to it cannot be read")]
    Malformed,
    /// No secret makes it.
    #[error("no secret makes this signature")]
    Mismatch,
    /// The signed time is too far from now.
    #[error("the signed time is too far from now")]
    Stale,
    /// digest: the signature is right, but the body is not one JSON text and so may be anyone's.
    #[error("the signature is right, but the body is not one JSON text")]
    NotJson,
}

enum Scheme {
    Digest(digest::Digest),
    Hmac(Box<hmac::Hmac>),
    None,
    Token(token::Token),
}

// === impl Verifier ===

impl Verifier {
    /// Compares the request with every secret.
    ///
    /// # Errors
    ///
    /// Why it is not genuine.
    pub fn verify(&self, request: &Request<'_>, now: Timestamp) -> Result<Proof, Mismatch> {
        self.prove(request, now, Beside::nothing())
    }

    /// The same, and makes the body's own SHA-256 on the way where it can ([`Proof::body_sha256`]).
    ///
    /// # Errors
    ///
    /// Why it is not genuine.
    pub fn verify_and_sum(&self, request: &Request<'_>, now: Timestamp) -> Result<Proof, Mismatch> {
        self.prove(request, now, Beside::new(request.body))
    }

    fn prove(
        &self,
        request: &Request<'_>,
        now: Timestamp,
        mut beside: Beside<'_>,
    ) -> Result<Proof, Mismatch> {
        let proof = Proof { assurance: self.assurance, ..Proof::of_nothing() };
        let proof = match &self.scheme {
            Scheme::Digest(digest) => {
                let (key, document) = digest.verify(request, &mut beside)?;
                Proof { key_id: key.id.clone(), document: Some(document), ..proof }
            }
            Scheme::Hmac(hmac) => {
                let (key, signed_at) = hmac.verify(request, now, &mut beside)?;
                Proof { key_id: key.id.clone(), signed_at, ..proof }
            }
            Scheme::None => proof,
            Scheme::Token(token) => Proof { key_id: token.verify(request)?.id.clone(), ..proof },
        };
        Ok(Proof { body_sha256: beside.sum(), ..proof })
    }

    /// `vendor.verification.method`: "hmac-sha256", "hmac-sha256-url", "sha256-secret-prefix", "standard-webhooks",
    /// "shared-secret", "none", …
    #[must_use]
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// The header that carries the signature or token, in lower case; its usual name, if there are several.
    #[must_use]
    pub fn header(&self) -> Option<&HeaderName> {
        self.header.as_ref()
    }

    /// What a proof of this verifier proves.
    #[must_use]
    pub fn assurance(&self) -> Assurance {
        self.assurance
    }

    /// The ids of the secrets, each once, for metric labels; "" for secrets without id and for no secret.
    #[must_use]
    pub fn key_ids(&self) -> Vec<&str> {
        let ids: Vec<&Option<Arc<str>>> = match &self.scheme {
            Scheme::Digest(digest) => digest.keys.iter().map(|key| &key.id).collect(),
            Scheme::Hmac(hmac) => hmac.keys.iter().map(|key| &key.id).collect(),
            Scheme::None => vec![&None],
            Scheme::Token(token) => token.keys.iter().map(|key| &key.id).collect(),
        };
        let mut names = Vec::new();
        for name in ids.into_iter().map(|id| id.as_deref().unwrap_or_default()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("method", &self.method).finish_non_exhaustive()
    }
}

// === impl Proof ===

impl Proof {
    /// For `enforce = false`: a request that failed goes on, marked as proven by nothing.
    #[must_use]
    pub fn report_only(_: &Mismatch) -> Self {
        Self::of_nothing()
    }

    fn of_nothing() -> Self {
        Self { assurance: Assurance::None, key_id: None, signed_at: None, document: None, body_sha256: None }
    }

    #[must_use]
    pub fn assurance(&self) -> Assurance {
        self.assurance
    }

    /// The id of the secret that matched, if the operator gave it one.
    #[must_use]
    pub fn key_id(&self) -> Option<&Arc<str>> {
        self.key_id.as_ref()
    }

    /// When the vendor signed, if it signs a time.
    #[must_use]
    pub fn signed_at(&self) -> Option<Timestamp> {
        self.signed_at
    }

    /// The body's own SHA-256, if it was wanted and could be made beside the signature's.
    #[must_use]
    pub fn body_sha256(&self) -> Option<[u8; 32]> {
        self.body_sha256
    }

    /// The body, if verifying meant reading it; once.
    pub fn take_document(&mut self) -> Option<Document> {
        self.document.take()
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").field("assurance", &self.assurance).finish_non_exhaustive()
    }
}

// === impl Assurance, Mismatch ===

impl Assurance {
    /// As in `vendor.verification.assurance`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Network => "network",
            Self::SharedSecret => "shared-secret",
            Self::SignedWeak => "signed-weak",
            Self::Signed => "signed",
        }
    }
}

impl Mismatch {
    /// As in the `result` label of `verifications_total`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed | Self::NotJson => "malformed",
            Self::Mismatch => "mismatch",
            Self::Stale => "stale",
        }
    }
}
