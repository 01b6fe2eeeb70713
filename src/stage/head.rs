//! Head: what hyper lets through although parsers disagree on it. One strict reading before anything is decided: a
//! request that two programs could take for different ones is refused, and its connection closed; so is one whose head is
//! too long, though hyper had room for it.

use http::{
    HeaderMap, Method, Request, Uri, Version,
    header::{HOST, TRANSFER_ENCODING, UPGRADE},
};

use crate::{
    rejection::{Code, Rejection},
    server::Fault,
};

/// Longest request target, in bytes.
const TARGET_BYTES_MAX: usize = 8 << 10;

/// Most header fields. Over HTTP/1, hyper holds to the same number.
const FIELDS_MAX: usize = 100;

/// The stage.
pub fn head<B>(request: Request<B>) -> Result<Box<Request<B>>, Rejection> {
    if let Some(Fault { reason, status }) = request.extensions().get() {
        return Err(Rejection { status: Some(*status), ..Rejection::new(Code::MalformedRequest, *reason) });
    }
    match ambiguous(&request) {
        Some(reason) => Err(Rejection::new(Code::MalformedRequest, reason)),
        None => Ok(Box::new(request)),
    }
}

fn ambiguous<B>(request: &Request<B>) -> Option<&'static str> {
    let headers = request.headers();
    let reason = match request.version() {
        Version::HTTP_2 => authority(request.uri(), headers),
        Version::HTTP_10 if headers.contains_key(TRANSFER_ENCODING) => {
            Some("HTTP/1.0 has no transfer codings")
        }
        Version::HTTP_10 if !headers.contains_key(HOST) => None,
        _ => host(headers).or_else(|| framing(headers)),
    };
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    reason
        .or_else(|| headers.contains_key(UPGRADE).then_some("an upgrade is asked for"))
        .or_else(|| (*request.method() == Method::CONNECT).then_some("a tunnel is asked for"))
        .or_else(|| (target > TARGET_BYTES_MAX).then_some("the target is too long"))
        .or_else(|| (headers.len() > FIELDS_MAX).then_some("there are too many header fields"))
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

/// Over HTTP/2 `:authority` is the host; a `host` beside it must say the same (RFC 9113 §8.3.1).
fn authority(uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
    let Some(authority) = uri.authority() else { return host(headers) };
    let mut hosts = headers.get_all(HOST).iter();
    let differs = hosts.any(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()));
    differs.then_some("`host` is not `:authority`")
}

/// One way to tell where the body ends (RFC 9112 §6): a length, or `chunked` and nothing else. That they do not stand
/// beside each other the server tells: hyper has dropped the length by now.
fn framing(headers: &HeaderMap) -> Option<&'static str> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next()?;
    let plain = coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
    (!plain).then_some("the transfer coding is not just chunked")
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

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
        let many = [("x", "y"); FIELDS_MAX];
        assert!(!refuses(&[&[("host", "a")], &many[1..]].concat()));
        assert!(refuses(&[&[("host", "a")], &many[..]].concat()));
        let fits = |request: http::request::Builder| head(request.body(()).unwrap()).is_ok();
        let to = |target: String| Request::builder().uri(target).header("host", "a");
        assert!(fits(to("/in/a".to_owned())));
        let long = |bytes: usize| format!("/{}", "x".repeat(bytes - 1));
        assert!(fits(to(long(TARGET_BYTES_MAX))));
        assert!(!fits(to(long(TARGET_BYTES_MAX + 1))));
        assert!(!fits(to(format!("/?{}", long(TARGET_BYTES_MAX)))), "the query is part of it");
        assert!(!fits(to("a:80".to_owned()).method(Method::CONNECT)));
        let fault = Fault { reason: "test", status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE };
        let faulty = head(to("/in/a".to_owned()).extension(fault).body(()).unwrap()).unwrap_err();
        assert_eq!(
            (faulty.status(), faulty.code, &*faulty.reason),
            (fault.status, Code::MalformedRequest, "test")
        );
    }

    #[test]
    fn over_http_2_the_authority_is_the_host() {
        let fits = |target: &str, hosts: &[&str]| {
            let request = Request::builder().version(Version::HTTP_2).uri(target);
            let request = hosts.iter().fold(request, |request, host| request.header("host", *host));
            head(request.body(()).unwrap()).is_ok()
        };
        assert!(fits("http://a/in/a", &[]));
        assert!(fits("http://a/in/a", &["A"]));
        assert!(!fits("http://a/in/a", &["b"]));
        assert!(!fits("http://a/in/a", &["a", "b"]));
        assert!(fits("/in/a", &["a"]));
        assert!(!fits("/in/a", &[]));
        assert!(!fits("/in/a", &["a", "a"]));
    }
}
