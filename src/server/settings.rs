//! `[server]`: where the gateway listens and what it lets in.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    time::Duration,
};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::units::{Network, Size, Span};

/// The listener vendors call, and its bounds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address and port; HTTP/1.1 and HTTP/2 are both served on it.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Serve https. Files are read again when they change.
    pub tls: Option<TlsSettings>,
    /// Networks or addresses whose `Forwarded` and `X-Forwarded-For` are believed, read from the right.
    pub trusted_proxies: Vec<Network>,
    /// Most connections open at once. When one more comes, the one without a request for longest is closed.
    pub connections_max: NonZeroUsize,
    /// Most requests worked on at once, from when their bodies are here; more are answered 503.
    pub requests_max: NonZeroUsize,
    /// Longest body of a request.
    pub body_bytes_max: Size,
    /// Longest head of a request.
    pub header_bytes_max: Size,
    /// Longest time from accepting a connection to the complete head of its first request, the TLS handshake included,
    /// and from the first byte of a later head to its last.
    pub header_timeout: Span,
    /// Longest time for the whole body of a request to arrive.
    pub body_timeout: Span,
    /// Bytes a second that a body which takes longer than 5 s must come at, on average. `0B`: any.
    pub body_rate_min: Size,
    /// Longest time for the answer to a request.
    pub request_timeout: Span,
    /// Longest time a connection is kept open between requests.
    pub idle_timeout: Span,
    /// Threads that serve. Default: the CPUs the container may use.
    pub workers: Option<NonZeroUsize>,
    /// After SIGTERM, how long new work is still taken. 5s is right behind a load balancer, 0s for a sidecar.
    pub drain_delay: Span,
    /// After that, how long running requests may take to finish.
    pub shutdown_grace: Span,
}

/// Certificate and key of the listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// PEM file with the certificate and its chain, the leaf first.
    pub cert_file: String,
    /// PEM file with the certificate's private key.
    pub key_file: String,
    /// PEM file with the authorities client certificates must come from. Set = clients without one are refused.
    pub client_ca_file: Option<String>,
}

/// What one listener needs to know of [`Settings`].
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections open at once.
    pub connections_max: usize,
    /// Bytes of a request's head. A longer one that has come whole carries a [`Fault`](super::Fault), by which the handler
    /// refuses it.
    pub header_bytes_max: usize,
    /// From accept to the first complete head, and from the first byte of a later head to its last.
    pub header_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 8080).into(),
            tls: None,
            trusted_proxies: Vec::new(),
            connections_max: const { NonZeroUsize::new(4096).unwrap() },
            requests_max: const { NonZeroUsize::new(1024).unwrap() },
            body_bytes_max: Size::mib(1),
            header_bytes_max: Size::kib(16),
            header_timeout: Span::from_secs(5),
            body_timeout: Span::from_secs(5),
            body_rate_min: Size::kib(4),
            request_timeout: Span::from_secs(15),
            idle_timeout: Span::from_secs(60),
            workers: None,
            drain_delay: Span::from_secs(0),
            shutdown_grace: Span::from_secs(20),
        }
    }
}

impl From<&Settings> for Bounds {
    fn from(settings: &Settings) -> Self {
        Self {
            connections_max: settings.connections_max.get(),
            header_bytes_max: settings.header_bytes_max.bytes(),
            header_timeout: settings.header_timeout.0,
            idle_timeout: settings.idle_timeout.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default_and_nothing_unknown_is_taken() {
        assert_eq!(toml::from_str::<Settings>("").unwrap(), Settings::default());
        let text = r#"
            listen = "[::1]:0"
            trusted_proxies = ["10.0.0.0/8"]
            header_bytes_max = "32KiB"
            tls = { cert_file = "a", key_file = "b" }
        "#;
        let settings: Settings = toml::from_str(text).unwrap();
        assert_eq!(settings.idle_timeout, Span::from_secs(60));
        assert_eq!(Bounds::from(&settings).header_bytes_max, 32 << 10);
        for text in ["lissten = 1", "connections_max = 0", "idle_timeout = 60", "tls = { cert_file = 'a' }"] {
            assert!(toml::from_str::<Settings>(text).is_err(), "{text}");
        }
    }
}
