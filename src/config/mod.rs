//! The configuration: what an operator may write, read from a TOML file, the environment and the command line, with
//! every mistake shown at once and where it stands. Components own their settings; here they are put together.

pub mod load;
pub mod report;
pub mod schema;
pub mod secrets;
pub mod source;
pub mod watch;

mod absent;
mod env;
mod example;
pub(crate) mod explain;
mod place;
mod strength;

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    inbox, server,
    units::{Period, Rate, Size, Span},
    upstream,
    vendor::{self, format::VendorFile},
};

pub use self::{
    load::{Loaded, load},
    report::{Problem, Report, Severity},
    source::{Delivery, Route, SourceSettings},
};

/// The whole configuration. Its Debug shows nothing: a literal secret may be anywhere in it.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The URL vendors call, as they see it. Needed by vendors that sign the URL, and for CloudEvents `source` and
    /// `dataschema`.
    pub public_url: Option<String>,
    /// Prefix of the CloudEvents `type`. Default `dev.hookwarden`.
    pub type_prefix: String,
    /// The listener vendors reach.
    pub server: server::Settings,
    /// The listener for health, metrics and the API.
    pub admin: Admin,
    /// Bounds on everything that has not been verified yet.
    pub limits: Limits,
    /// What replicas agree on: claims and rates.
    pub store: Store,
    /// What must survive a crash: events until they are delivered.
    pub inbox: inbox::Settings,
    /// The apps events are forwarded to, by name.
    pub upstreams: BTreeMap<String, upstream::Settings>,
    /// Where events come from, by name; the name is in the path, the metrics and `hookwarden-source`.
    pub sources: BTreeMap<String, SourceSettings>,
    /// Vendors of the operator's own, in the format of the built-in ones.
    pub vendors: BTreeMap<String, VendorFile>,
    /// What is written to standard error.
    pub log: Log,
    /// How changes of the configuration are noticed.
    pub reload: Reload,
}

/// `[admin]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// Address and port. Default `127.0.0.1:9600`.
    pub listen: SocketAddr,
    /// Environment variable with the bearer token of the API. A token is obligatory when `listen` is not loopback
    /// and the API is on.
    pub token_env: Option<String>,
    /// File with the bearer token of the API.
    pub token_file: Option<String>,
    /// Whether there is an API at all; health and metrics always are. Default `true`.
    pub api: bool,
}

/// `[limits]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests of one client address (IPv6: per /64) before verification. Default `500/s burst 1000`.
    pub per_ip: Rate,
    /// Bytes of request bodies and of their structure held at once; past it 503. Default `64MiB`.
    pub inflight_bytes_max: Size,
}

/// `[store]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// Where claims and rates are kept. Default `memory:`.
    pub url: StoreUrl,
    /// Ids the memory store holds, give or take a few per cent; when full, the oldest settled ones go first. Default 1000000.
    pub entries_max: u64,
}

/// A store there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum StoreUrl {
    /// This process alone.
    #[serde(rename = "memory:")]
    Memory,
}

/// `[log]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `json` or `text`. Default: `text` on a terminal, else `json`.
    pub format: Option<LogFormat>,
    /// `error`, `warn`, `info`, `debug`, `trace`, or filter directives such as `info,hookwarden=debug`. Default
    /// `info`.
    pub level: String,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Json,
    Text,
}

/// `[reload]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reload {
    /// How often the contents of the configuration, of secrets and of certificates are looked at. Default `2s`.
    pub poll: Span,
}

impl Settings {
    /// `public_url` without a slash at its end: a path follows it.
    #[must_use]
    pub fn base_url(&self) -> Option<&str> {
        self.public_url.as_deref().map(|url| url.trim_end_matches('/'))
    }

    /// The file of a vendor: the operator's, or built in.
    #[must_use]
    pub fn vendor_file(&self, name: &str) -> Option<VendorFile> {
        self.vendors.get(name).cloned().or_else(|| vendor::builtin(name))
    }
}

// === defaults ===

impl Default for Settings {
    fn default() -> Self {
        Self {
            public_url: None,
            type_prefix: "dev.hookwarden".to_owned(),
            server: server::Settings::default(),
            admin: Admin::default(),
            limits: Limits::default(),
            store: Store::default(),
            inbox: inbox::Settings::default(),
            upstreams: BTreeMap::new(),
            sources: BTreeMap::new(),
            vendors: BTreeMap::new(),
            log: Log::default(),
            reload: Reload::default(),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 9600));
        Self { listen, token_env: None, token_file: None, api: true }
    }
}

impl Default for Limits {
    fn default() -> Self {
        const COUNT: NonZeroU32 = NonZeroU32::new(500).unwrap();
        const BURST: NonZeroU32 = NonZeroU32::new(1000).unwrap();
        let per_ip = Rate::Limited { count: COUNT, per: Period::Second, burst: BURST };
        Self { per_ip, inflight_bytes_max: Size::mib(64) }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { url: StoreUrl::Memory, entries_max: 1_000_000 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: None, level: "info".to_owned() }
    }
}

impl Default for Reload {
    fn default() -> Self {
        Self { poll: Span::from_secs(2) }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
