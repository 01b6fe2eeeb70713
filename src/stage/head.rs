//! Head: what hyper lets through although parsers disagree on it. One strict reading before anything is decided: a
//! request that two programs could take for different ones is refused, and its connection closed.

use http::{
    HeaderMap, Request, Version,
    header::{HOST, TRANSFER_ENCODING, UPGRADE},
};

use crate::rejection::{Code, Rejection};

/// Longest request target, in bytes.
const TARGET_BYTES_MAX: usize = 8 << 10;

/// The stage.
pub fn head<B>(request: Request<B>) -> Result<Request<B>, Rejection> {
    let headers = request.headers();
    let reason = match request.version() {
        Version::HTTP_2 => None,
        Version::HTTP_10 if headers.contains_key(TRANSFER_ENCODING) => {
            Some("HTTP/1.0 has no transfer codings")
        }
        Version::HTTP_10 if !headers.contains_key(HOST) => None,
        _ => host(headers).or_else(|| framing(headers)),
    };
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let reason = reason
        .or_else(|| headers.contains_key(UPGRADE).then_some("an upgrade is asked for"))
        .or_else(|| (target > TARGET_BYTES_MAX).then_some("the target is too long"));
    match reason {
        Some(reason) => Err(Rejection::new(Code::MalformedRequest, reason)),
        None => Ok(request),
    }
}

/// Exactly one `Host` (RFC 9112 §3.2): without, or with two, front and back may serve different sites.
fn host(headers: &HeaderMap) -> Option<&'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), None) => None,
        (None, _) => Some("there is no Host"),
        (Some(_), Some(_)) => Some("there are several Hosts"),
    }
}

/// One way to tell where the body ends (RFC 9112 §6): a length, or `chunked` and nothing else. (Where both are there,
/// hyper goes by the coding, forgets the length, and closes the connection after the answer.)
fn framing(headers: &HeaderMap) -> Option<&'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next()?;
    let plain = coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
    (!plain).then_some("the transfer coding is not just chunked")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(version: Version, lines: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().version(version).uri("/in/a");
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        head(request.body(()).unwrap()).is_err()
    }

    #[test]
    fn ambiguous_heads_are_refused() {
        let refuses = |lines: &[(&str, &str)]| refused(Version::HTTP_11, lines);
        assert!(!refuses(&[("host", "a")]));
        assert!(!refuses(&[("host", "a"), ("transfer-encoding", "Chunked")]));
        assert!(refuses(&[]));
        assert!(refuses(&[("host", "a"), ("host", "a")]));
        assert!(refuses(&[("host", "a"), ("transfer-encoding", "gzip, chunked")]));
        assert!(refuses(&[("host", "a"), ("transfer-encoding", "chunked, chunked")]));
        assert!(refuses(&[("host", "a"), ("transfer-encoding", "x"), ("transfer-encoding", "chunked")]));
        assert!(refuses(&[("host", "a"), ("upgrade", "h2c")]));
        assert!(!refused(Version::HTTP_10, &[]));
        assert!(refused(Version::HTTP_10, &[("host", "a"), ("host", "b")]));
        assert!(refused(Version::HTTP_10, &[("transfer-encoding", "chunked")]));
        assert!(!refused(Version::HTTP_2, &[]));
        let long = Request::builder().uri(format!("/in/a?{}", "x".repeat(TARGET_BYTES_MAX)));
        assert!(head(long.version(Version::HTTP_2).body(()).unwrap()).is_err());
    }
}
