//! Who may use the API, and against pages that make an operator's browser ask in their name: names that are rebound to
//! this address (the Host check), and requests from other sites (Origin, Fetch Metadata).

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use http::{
    HeaderMap, HeaderName, StatusCode, Uri,
    header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE},
    request::Parts,
    uri::Authority,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::answer::Problem;
use crate::secret::Secret;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Who may use the API.
#[derive(Clone)]
pub enum ApiAccess {
    /// There is none.
    Off,
    /// Whoever connects from this machine.
    Loopback,
    /// Whoever sends the token with this SHA-256 digest. See [`ApiAccess::new`].
    Token([u8; 32]),
}

impl ApiAccess {
    /// From `admin.api` and the token, if one is configured; without one, only clients on loopback are let in.
    #[must_use]
    pub fn new(api: bool, token: Option<&Secret>) -> Self {
        match token {
            _ if !api => Self::Off,
            None => Self::Loopback,
            Some(token) => Self::Token(Sha256::digest(token.expose()).into()),
        }
    }

    pub(super) fn check(&self, peer: SocketAddr, headers: &HeaderMap) -> Result<(), Problem> {
        match self {
            Self::Off => Err(Problem::not_found("the API is off (admin.api = false)")),
            Self::Loopback if peer.ip().to_canonical().is_loopback() => Ok(()),
            Self::Loopback => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "without a token (admin.token_env, admin.token_file) the API answers this machine only",
            )),
            Self::Token(expected) => match bearer(headers) {
                // Digests have one length, so that the time tells nothing of the token's.
                Some(token) if bool::from(Sha256::digest(token).as_slice().ct_eq(expected)) => Ok(()),
                _ => {
                    let detail = "the API needs the header Authorization: Bearer, with the token of [admin]";
                    let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
                    Err(problem.with(WWW_AUTHENTICATE, "Bearer"))
                }
            },
        }
    }
}

impl fmt::Debug for ApiAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "Off",
            Self::Loopback => "Loopback",
            Self::Token(_) => "Token",
        })
    }
}

/// Refuses requests that a browser sends in the name of another site: those by a host name other than `localhost`, and
/// those that may change something and come from a page of another origin.
pub(super) fn same_site(head: &Parts) -> Result<(), Problem> {
    let Some(host) = host(head).filter(is_literal) else {
        return Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "misdirected",
            "call this listener by its IP address or as localhost, not by another name",
        ));
    };
    if head.method.is_safe() || (from_own_origin(&head.headers, &host) && by_own_page(&head.headers)) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "cross_site", "requests from pages of other origins are refused"))
}

/// The authority that is asked for: of the URI (HTTP/2, absolute form) and of the only Host header, equal if both are
/// there (RFC 9113 §8.3.1, RFC 9112 §3.2).
fn host(head: &Parts) -> Option<Authority> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let header = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return None,
        (Some(host), None) => Some(Authority::try_from(host.as_bytes()).ok()?),
        (None, None) => None,
    };
    match (head.uri.authority().cloned(), header) {
        (Some(asked), Some(header)) => (asked == header).then_some(asked),
        (asked, header) => asked.or(header),
    }
}

fn is_literal(authority: &Authority) -> bool {
    let host = authority.host();
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let literal =
        v6.map_or_else(|| host.parse::<Ipv4Addr>().is_ok(), |host| host.parse::<Ipv6Addr>().is_ok());
    (literal || host.eq_ignore_ascii_case("localhost")) && !authority.as_str().contains('@')
}

/// No Origin, as outside of browsers, or the one whose host and port were called.
fn from_own_origin(headers: &HeaderMap, host: &Authority) -> bool {
    headers.get_all(ORIGIN).iter().all(|origin| {
        Uri::try_from(origin.as_bytes()).is_ok_and(|origin| {
            matches!(origin.scheme_str(), Some("http" | "https")) && origin.authority() == Some(host)
        })
    })
}

/// Fetch Metadata: absent outside of browsers; `none` is the user's own doing.
fn by_own_page(headers: &HeaderMap) -> bool {
    headers.get_all(SEC_FETCH_SITE).iter().all(|site| site == "same-origin" || site == "none")
}

/// The token of the only Authorization header (RFC 6750 §2.1; the scheme's case does not matter).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii_start())
}
