//! Where an app listens, parsed once from `upstreams.NAME.url`.

use std::{fmt, path::PathBuf, str::FromStr};

use http::{HeaderValue, Uri, uri::PathAndQuery};
use rustls_pki_types::ServerName;

/// An app's address: `http://…`, `https://…` or `unix:/path/of/socket:/uri-path`. Display and Debug leave out the path
/// and the query, which may carry a token.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    Tcp {
        /// Name or address to connect to, without the brackets of an IPv6 address.
        host: String,
        port: u16,
        /// Under https: the name the certificate must be for.
        tls: Option<ServerName<'static>>,
        /// The `Host` header.
        authority: HeaderValue,
        path: PathAndQuery,
    },
    Unix {
        /// Absolute path of the socket; ends at the first colon.
        socket: PathBuf,
        path: PathAndQuery,
    },
}

/// What is wrong with a URL. Never repeats it: it may contain a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TargetError(&'static str);

const SCHEME: TargetError = TargetError(
    "expected http://HOST/PATH, https://HOST/PATH or unix:/SOCKET:/PATH as the URL of an upstream",
);
const CHARACTERS: TargetError =
    TargetError("the URL of an upstream contains what a URL may not: write it percent-encoded, in ASCII");
const USERINFO: TargetError = TargetError(
    "the URL of an upstream must not contain a user or password: requests are signed, see secret_env",
);
const FRAGMENT: TargetError = TargetError("the URL of an upstream must not contain a fragment (#…)");
const HOST: TargetError = TargetError("the URL of an upstream names no valid host");
const PORT: TargetError = TargetError("the URL of an upstream has no valid port");
const SOCKET: TargetError = TargetError(
    "a unix upstream is written unix:/SOCKET:/PATH, with the absolute path of the socket and the path of the request",
);

impl Target {
    /// The `Host` header for requests.
    pub(super) fn authority(&self) -> HeaderValue {
        match self {
            Self::Tcp { authority, .. } => authority.clone(),
            Self::Unix { .. } => HeaderValue::from_static("localhost"),
        }
    }

    /// The request target.
    pub(super) fn path(&self) -> &PathAndQuery {
        match self {
            Self::Tcp { path, .. } | Self::Unix { path, .. } => path,
        }
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(CHARACTERS);
        }
        // http::Uri drops a fragment without a word.
        if text.contains('#') {
            return Err(FRAGMENT);
        }
        match text.strip_prefix("unix:") {
            Some(rest) => parse_unix(rest),
            None => parse_tcp(text),
        }
    }
}

fn parse_unix(rest: &str) -> Result<Target, TargetError> {
    let (socket, path) = rest.split_once(':').ok_or(SOCKET)?;
    if !socket.starts_with('/') || !path.starts_with('/') {
        return Err(SOCKET);
    }
    Ok(Target::Unix { socket: socket.into(), path: path.parse().map_err(|_| CHARACTERS)? })
}

fn parse_tcp(text: &str) -> Result<Target, TargetError> {
    let (scheme, rest) = text.split_once("://").ok_or(SCHEME)?;
    let (https, port_default) = match scheme {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => return Err(SCHEME),
    };
    // Looked for before parsing, so that a password with an odd character gets this error and no other.
    if rest.split(['/', '?']).next().is_some_and(|authority| authority.contains('@')) {
        return Err(USERINFO);
    }
    let uri: Uri = text.parse().map_err(|_| CHARACTERS)?;
    let authority = uri.authority().ok_or(HOST)?;
    let host = authority.host();
    // Uri takes `host:` and `host:0`, and leaves any number that is no port to us.
    let port = match authority.as_str().get(host.len()..).and_then(|rest| rest.strip_prefix(':')) {
        None => port_default,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(PORT)?,
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| HOST)?;
    Ok(Target::Tcp {
        host: host.to_owned(),
        port,
        tls: https.then_some(name),
        authority: HeaderValue::from_str(authority.as_str()).map_err(|_| HOST)?,
        path: uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
    })
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { authority, tls, .. } => {
                let scheme = if tls.is_some() { "https" } else { "http" };
                write!(f, "{scheme}://{}", authority.to_str().unwrap_or_default())
            }
            Self::Unix { socket, .. } => write!(f, "unix:{}", socket.display()),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn tcp(text: &str) -> (String, u16, bool, String, String) {
        match text.parse().unwrap() {
            Target::Tcp { host, port, tls, authority, path } => {
                (host, port, tls.is_some(), authority.to_str().unwrap().to_owned(), path.to_string())
            }
            Target::Unix { .. } => panic!("{text}"),
        }
    }

    #[test]
    fn urls_are_taken_apart() {
        let own = |host: &str, port, tls, authority: &str, path: &str| {
            (host.to_owned(), port, tls, authority.to_owned(), path.to_owned())
        };
        assert_eq!(tcp("http://app"), own("app", 80, false, "app", "/"));
        assert_eq!(
            tcp("http://127.0.0.1:3000/a?b=c"),
            own("127.0.0.1", 3000, false, "127.0.0.1:3000", "/a?b=c")
        );
        assert_eq!(tcp("https://[::1]:8443/x"), own("::1", 8443, true, "[::1]:8443", "/x"));
        assert_eq!(tcp("https://app.example/x@y"), own("app.example", 443, true, "app.example", "/x@y"));
        let unix =
            Target::Unix { socket: "/run/app.sock".into(), path: PathAndQuery::from_static("/hooks:v1") };
        assert_eq!("unix:/run/app.sock:/hooks:v1".parse(), Ok(unix));
    }

    #[test]
    fn what_is_no_target_is_refused_with_its_reason() {
        let cases = [
            ("", SCHEME),
            ("app:3000", SCHEME),
            ("ftp://app", SCHEME),
            ("HTTP//app", SCHEME),
            ("http://user:pa$$@app/", USERINFO),
            ("https://token@app", USERINFO),
            ("http://app/#part", FRAGMENT),
            ("http://app /", CHARACTERS),
            ("http://äpp/", CHARACTERS),
            ("http:///path", CHARACTERS),
            ("http://app:0/", PORT),
            ("http://app:65536/", PORT),
            ("http://app:/", PORT),
            ("http://-app/", HOST),
            ("unix:/run/app.sock", SOCKET),
            ("unix:run/app.sock:/x", SOCKET),
            ("unix:/run/app.sock:x", SOCKET),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Target>().unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn a_path_is_never_shown() {
        let target: Target = "https://app.example/hook?token=canary".parse().unwrap();
        assert_eq!(format!("{target} {target:?}"), "https://app.example Target(https://app.example)");
    }
}
