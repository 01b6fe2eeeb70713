//! Route: the path must be a source's, the method POST, the media type JSON. Who the client is, is decided here, too.

use std::net::{IpAddr, SocketAddr};

use http::{
    HeaderMap, HeaderName, Method, Request,
    header::{CONTENT_ENCODING, CONTENT_TYPE, FORWARDED},
};

use crate::{
    event::{Intake, Routed},
    gateway::Gateway,
    rejection::{Code, Rejection},
    units::Network,
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The stage.
pub fn route<B>(
    gateway: &Gateway,
) -> impl FnMut(Box<Request<Intake<B>>>) -> Result<Routed<B>, Rejection> + Clone {
    move |request| {
        let (head, intake) = request.into_parts();
        let source =
            intake.source.ok_or_else(|| Rejection::new(Code::UnknownSource, "no source at this path"))?;
        if head.method != Method::POST {
            return Err(Rejection::new(Code::MethodNotAllowed, "not POST"));
        }
        let cut_off = gateway.shared.cut_off.get();
        if cut_off.is_some_and(|cut_off| source.deadline(intake.received.since) > *cut_off) {
            return Err(Rejection::new(Code::Draining, "shutting down: it might be cut off"));
        }
        media_type(&head.headers)?;
        let client = client(intake.peer, &head.headers, &gateway.trusted_proxies);
        Ok(Routed { source, head: Box::new(head), body: intake.body, client, received: intake.received })
    }
}

/// JSON by name, and not encoded: nobody agrees on whether a signature covers the encoded bytes. A request that names no
/// type is taken: what counts is the body, and that is read strictly.
fn media_type(headers: &HeaderMap) -> Result<(), Rejection> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    if encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Rejection::new(Code::UnsupportedMediaType, "content-encoding"));
    }
    let is_json = headers.get_all(CONTENT_TYPE).iter().all(|value| {
        let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let is = |text: &[u8], known: &str| text.eq_ignore_ascii_case(known.as_bytes());
        let (start, end) = ("application/", "+json");
        is(essence, "application/json")
            || is(essence, "text/json")
            || essence.split_at_checked(start.len()).is_some_and(|(front, _)| is(front, start))
                && essence.split_at_checked(essence.len() - end.len()).is_some_and(|(_, back)| is(back, end))
    });
    if is_json { Ok(()) } else { Err(Rejection::new(Code::UnsupportedMediaType, "content-type")) }
}

/// The client's address: the peer's, unless that is a trusted proxy. Then the word of proxies counts, read from the
/// right, up to the first address that is none of them. Where that word cannot be read, or `Forwarded` and
/// `X-Forwarded-For` say different things (a proxy that writes only one of them lets the other through), it is the peer's.
fn client(peer: SocketAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer.ip().to_canonical();
    if !is_trusted(&peer) {
        return peer;
    }
    let told = |name: &HeaderName, read| {
        let mut client = peer;
        for hop in hops(headers, name, read).into_iter().rev() {
            client = hop?;
            if !is_trusted(&client) {
                break;
            }
        }
        Some(client)
    };
    let told = match (headers.contains_key(FORWARDED), headers.contains_key(X_FORWARDED_FOR)) {
        (true, true) => {
            told(&FORWARDED, forwarded_for).filter(|by| told(&X_FORWARDED_FOR, address) == Some(*by))
        }
        (true, false) => told(&FORWARDED, forwarded_for),
        (false, _) => told(&X_FORWARDED_FOR, address),
    };
    told.unwrap_or(peer)
}

/// The addresses of a header's lists, all lines joined; none where one cannot be read.
fn hops(headers: &HeaderMap, name: &HeaderName, read: fn(&str) -> Option<IpAddr>) -> Vec<Option<IpAddr>> {
    let lines = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default());
    lines.flat_map(|line| line.split(',').map(read)).collect()
}

/// One element of `Forwarded` (RFC 7239): its `for` parameter.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let parameters = element.split(';').filter_map(|parameter| parameter.trim().split_once('='));
    let (_, value) = parameters.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    address(value.trim_matches('"'))
}

/// An address, with or without a port, an IPv6 one in brackets or not.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    bare.ok().or_else(bracketed).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn from(peer: &str, lines: &[(HeaderName, &'static str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_static(value));
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        client(SocketAddr::new(peer.parse().unwrap(), 1), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let xff = X_FORWARDED_FOR;
        assert_eq!(from("192.0.2.1", &[(xff.clone(), "198.51.100.1")]), "192.0.2.1");
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &[(xff.clone(), "198.51.100.1")]), "198.51.100.1");
        assert_eq!(from("10.0.0.1", &[(xff.clone(), "203.0.113.9, 198.51.100.1, 10.0.0.2")]), "198.51.100.1");
        assert_eq!(
            from("10.0.0.1", &[(xff.clone(), "203.0.113.9"), (xff.clone(), "198.51.100.1")]),
            "198.51.100.1"
        );
        assert_eq!(from("10.0.0.1", &[(xff.clone(), "198.51.100.1, nonsense")]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &[(xff.clone(), "nonsense, 10.0.0.2")]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &[(xff.clone(), "198.51.100.1:4711")]), "198.51.100.1");
        let both = |forwarded| from("10.0.0.1", &[(xff.clone(), "198.51.100.1"), (FORWARDED, forwarded)]);
        assert_eq!(both("for=198.51.100.1"), "198.51.100.1");
        assert_eq!(both("for=203.0.113.9"), "10.0.0.1");
        assert_eq!(
            from("10.0.0.1", &[(FORWARDED, r#"for="[2001:db8::1]:4711";proto=https"#)]),
            "2001:db8::1"
        );
        assert_eq!(
            from("10.0.0.1", &[(FORWARDED, "proto=https;for=192.0.2.43, for=10.0.0.9")]),
            "192.0.2.43"
        );
        assert_eq!(from("::ffff:10.0.0.1", &[(FORWARDED, "for=_hidden")]), "10.0.0.1");
    }

    #[test]
    fn media_types() {
        let allowed = |name: HeaderName, value: &'static str| {
            media_type(&HeaderMap::from_iter([(name, HeaderValue::from_static(value))])).is_ok()
        };
        for value in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/cloudevents+json",
            "text/json",
        ] {
            assert!(allowed(CONTENT_TYPE, value), "{value}");
        }
        for value in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json", ""] {
            assert!(!allowed(CONTENT_TYPE, value), "{value}");
        }
        assert!(allowed(CONTENT_ENCODING, "identity"));
        assert!(!allowed(CONTENT_ENCODING, "gzip"));
        assert!(media_type(&HeaderMap::new()).is_ok());
    }
}
