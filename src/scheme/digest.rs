//! SHA-256 of secret and body, one after the other: not an HMAC, and open to length extension. Whoever saw one
//! delivery can sign `body ‖ 80 00… length ‖ anything` without the secret. Two rules stop that, each alone complete and
//! whatever the media type:
//!
//! * no byte 00: the padding's eight length bytes begin with one for every body that fits a machine (FIPS 180-4 §5.1.1)
//! * the whole body is one JSON text: RFC 8259 allows a raw 00 nowhere

use http::HeaderName;

use crate::json::Document;

use super::{
    Mismatch, Request,
    beside::Beside,
    header,
    key::{Key, matching},
    signature::{Reader, Signatures},
};

/// A compiled `digest` scheme.
pub(super) struct Digest {
    pub headers: Vec<HeaderName>,
    pub reader: Reader,
    /// None a prefix of another: else the boundary to the body could be moved.
    pub keys: Vec<Key>,
}

impl Digest {
    /// The key that signed the request, and the body, read.
    pub(super) fn verify(
        &self,
        request: &Request<'_>,
        beside: &mut Beside<'_>,
    ) -> Result<(&Key, Document), Mismatch> {
        let name = header::first(request.headers, self.headers.iter())?;
        let signatures = self.reader.read(header::text(request.headers, name)?)?;
        if may_be_extension(request.body) {
            return Err(Mismatch::Mismatch);
        }
        let key = self.compare(&signatures, request.body, beside).ok_or(Mismatch::Mismatch)?;
        let document = Document::parse(request.body.clone()).map_err(|_| Mismatch::NotJson)?;
        Ok((key, document))
    }

    /// The bare comparison, which an extension passes.
    pub(super) fn compare(
        &self,
        signatures: &Signatures<'_>,
        body: &[u8],
        beside: &mut Beside<'_>,
    ) -> Option<&Key> {
        let mut found = None;
        for set in signatures.sets() {
            let key = matching(&self.keys, &set.sums, &std::iter::once(body), beside);
            found = found.or(key);
        }
        found
    }
}

/// Whether the body could be somebody else's with padding and more behind it.
pub(super) fn may_be_extension(body: &[u8]) -> bool {
    memchr::memchr(0, body).is_some()
}
