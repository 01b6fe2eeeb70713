//! The secret itself, sent along: in a header, as Bearer or Basic credentials (RFC 6750, RFC 7617), or in the query.

use std::{borrow::Cow, sync::Arc};

use http::HeaderName;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Mismatch, Request, encoding, header};

/// A compiled `token` scheme.
pub(super) struct Token {
    pub carrier: Carrier,
    pub keys: Vec<Key>,
}

/// Where a request carries the token.
pub(super) enum Carrier {
    Header { names: Vec<HeaderName>, prefix: String },
    Bearer(HeaderName),
    Basic { header: HeaderName, username: String },
    Query(String),
}

/// The hash of a token, so that neither the comparison nor our memory says anything of its bytes or length.
pub(super) struct Key {
    pub id: Option<Arc<str>>,
    sum: [u8; 32],
}

impl Token {
    /// The key whose token the request carries.
    pub(super) fn verify(&self, request: &Request<'_>) -> Result<&Key, Mismatch> {
        let sum: [u8; 32] = Sha256::digest(self.carrier.token(request)?).into();
        let mut found = None;
        for key in &self.keys {
            if bool::from(key.sum.ct_eq(&sum)) {
                found = found.or(Some(key));
            }
        }
        found.ok_or(Mismatch::Mismatch)
    }
}

impl Carrier {
    /// The key of a secret that is sent this way.
    pub(super) fn key(&self, id: Option<Arc<str>>, secret: &[u8]) -> Key {
        let mut sent = Zeroizing::new(Vec::with_capacity(secret.len()));
        if let Self::Basic { username, .. } = self {
            sent.extend_from_slice(username.as_bytes());
            sent.push(b':');
        }
        sent.extend_from_slice(secret);
        Key { id, sum: Sha256::digest(&*sent).into() }
    }

    fn token<'a>(&self, request: &'a Request<'_>) -> Result<Cow<'a, [u8]>, Mismatch> {
        let headers = request.headers;
        let token = match self {
            Self::Header { names, prefix } => {
                let value = header::bytes(headers, header::first(headers, names.iter())?)?;
                Cow::Borrowed(value.strip_prefix(prefix.as_bytes()).ok_or(Mismatch::Malformed)?)
            }
            Self::Bearer(name) => Cow::Borrowed(credentials(header::bytes(headers, name)?, b"bearer ")?),
            Self::Basic { header: name, .. } => {
                let encoded = credentials(header::bytes(headers, name)?, b"basic ")?;
                Cow::Owned(encoding::base64(encoded).ok_or(Mismatch::Malformed)?)
            }
            Self::Query(name) => Cow::Owned(parameter(request.query.unwrap_or_default(), name)?),
        };
        if token.is_empty() { Err(Mismatch::Missing) } else { Ok(token) }
    }
}

/// What stands behind the name of the authentication scheme, which has no case (RFC 9110 §11.1).
fn credentials<'a>(value: &'a [u8], scheme: &[u8]) -> Result<&'a [u8], Mismatch> {
    let (name, rest) = value.split_at_checked(scheme.len()).ok_or(Mismatch::Malformed)?;
    if name.eq_ignore_ascii_case(scheme) { Ok(rest.trim_ascii_start()) } else { Err(Mismatch::Malformed) }
}

/// The value of the only parameter of that name.
fn parameter(query: &str, name: &str) -> Result<Vec<u8>, Mismatch> {
    let mut values = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(key, _)| *key == name);
    let (_, value) = values.next().ok_or(Mismatch::Missing)?;
    if values.next().is_some() {
        return Err(Mismatch::Malformed);
    }
    percent_decoded(value).ok_or(Mismatch::Malformed)
}

/// RFC 3986 §2.1. A `+` stays one: in a form it would be a blank, which no token has.
fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let mut byte = [0];
            hex::decode_to_slice(tail.get(..2)?, &mut byte).ok()?;
            decoded.push(byte[0]);
            rest = &tail[2..];
        } else {
            decoded.push(*first);
            rest = tail;
        }
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, Method, header::AUTHORIZATION};
    use proptest::prelude::*;

    use super::*;

    fn verify(carrier: Carrier, headers: &HeaderMap, query: Option<&str>) -> Result<(), Mismatch> {
        let keys = vec![carrier.key(None, b"older-secret"), carrier.key(None, b"s3cret/+=")];
        let request = Request { headers, method: &Method::POST, query, body: &Bytes::new() };
        Token { carrier, keys }.verify(&request).map(|_| ())
    }

    fn authorization(value: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap())])
    }

    #[test]
    fn in_a_header() {
        let verify = |prefix: &str, value: &str| {
            let carrier = Carrier::Header { names: vec![AUTHORIZATION], prefix: prefix.into() };
            verify(carrier, &authorization(value.as_bytes()), None)
        };
        assert_eq!(verify("", "s3cret/+="), Ok(()));
        assert_eq!(verify("", "older-secret"), Ok(()));
        assert_eq!(verify("Key ", "Key s3cret/+="), Ok(()));
        for wrong in ["s3cret/+", "s3cret/+==", "S3cret/+=", "s", "older-secret,s3cret/+="] {
            assert_eq!(verify("", wrong), Err(Mismatch::Mismatch), "{wrong}");
        }
        assert_eq!(verify("", ""), Err(Mismatch::Missing));
        assert_eq!(verify("Key ", "s3cret/+="), Err(Mismatch::Malformed));
        assert_eq!(verify("Key ", "Key "), Err(Mismatch::Missing));
    }

    #[test]
    fn as_bearer() {
        let verify = |value: &[u8]| verify(Carrier::Bearer(AUTHORIZATION), &authorization(value), None);
        assert_eq!(verify(b"Bearer s3cret/+="), Ok(()));
        assert_eq!(verify(b"bearer  s3cret/+="), Ok(()));
        assert_eq!(verify(b"Bearer s3cret"), Err(Mismatch::Mismatch));
        for wrong in [&b"s3cret/+="[..], b"Bearer", b"Basic s3cret/+=", b"Bearers3cret/+=", b"\xc3\xa4"] {
            assert_eq!(verify(wrong), Err(Mismatch::Malformed), "{wrong:?}");
        }
        let mut twice = authorization(b"Bearer s3cret/+=");
        twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer s3cret/+="));
        assert_eq!(
            super::tests::verify(Carrier::Bearer(AUTHORIZATION), &twice, None),
            Err(Mismatch::Malformed)
        );
    }

    #[test]
    fn as_basic() {
        let verify = |value: &[u8]| {
            let carrier = Carrier::Basic { header: AUTHORIZATION, username: "hook".into() };
            verify(carrier, &authorization(value), None)
        };
        assert_eq!(verify(b"Basic aG9vazpzM2NyZXQvKz0="), Ok(()), "hook:s3cret/+=");
        assert_eq!(verify(b"Basic aG9vYTpzM2NyZXQvKz0="), Err(Mismatch::Mismatch), "hooa:s3cret/+=");
        assert_eq!(verify(b"Basic czNjcmV0Lys9"), Err(Mismatch::Mismatch), "s3cret/+=");
        assert_eq!(verify(b"Basic hook:s3cret/+="), Err(Mismatch::Malformed));
    }

    #[test]
    fn in_the_query() {
        let headers = HeaderMap::new();
        let verify = |query| verify(Carrier::Query("access_token".into()), &headers, query);
        assert_eq!(verify(Some("a=b&access_token=s3cret%2f%2B%3D&c")), Ok(()));
        assert_eq!(verify(Some("access_token=s3cret/+=")), Ok(()));
        assert_eq!(verify(Some("access_token=s3cret")), Err(Mismatch::Mismatch));
        for missing in [None, Some(""), Some("access_token"), Some("access_token="), Some("xaccess_token=s")]
        {
            assert_eq!(verify(missing), Err(Mismatch::Missing), "{missing:?}");
        }
        for wrong in
            ["access_token=a&access_token=a", "access_token=%", "access_token=%2", "access_token=%zz"]
        {
            assert_eq!(verify(Some(wrong)), Err(Mismatch::Malformed), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(value: Vec<u8>, query in "\\PC*") {
            _ = credentials(&value, b"basic ");
            drop(parameter(&query, "access_token"));
            drop(percent_decoded(&query));
        }
    }
}
