//! `[sources.NAME]`: one place a vendor posts to. Every member is optional here; which ones a source cannot do
//! without is known only where the vendor is.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    identity::{EventType, Severity},
    scheme,
    secret::SecretRef,
    units::{Network, Rate, Span},
};

/// `[sources.NAME]`. Its Debug shows nothing: it may hold a literal secret.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceSettings {
    /// The vendor: a built-in one, or a name under `[vendors]`. Required.
    pub vendor: Option<String>,
    /// The exact path the vendor posts to. Default `/in/NAME`.
    pub path: Option<String>,
    /// The upstream that gets the events. Either this or `routes` is required.
    pub upstream: Option<String>,
    /// Upstreams by event type; the first route that matches gets the event, and with `delivery = "inbox"` every one.
    pub routes: Option<Vec<Route>>,
    /// The secret itself. Better: `secret_env` or `secret_file`.
    pub secret: Option<String>,
    /// Environment variable that holds the secret.
    pub secret_env: Option<String>,
    /// File that holds the secret; one trailing newline is stripped.
    pub secret_file: Option<String>,
    /// Several secrets, for rotation: each is accepted.
    pub secrets: Option<Vec<SecretRef>>,
    /// Accept secrets shorter than 16 bytes. Default `false`.
    pub allow_weak: Option<bool>,
    /// Single keys of the vendor's `verify` table, overridden.
    pub verify: scheme::Settings,
    /// `false`: report only. What fails verification is forwarded with `hwassurance: none`, counted and logged.
    /// Default `true`.
    pub enforce: Option<bool>,
    /// Client networks or addresses to accept requests from. Default: any.
    pub allow: Option<Vec<Network>>,
    /// Budget of verified, new events; forgeries and duplicates do not spend it. Default: none.
    pub rate: Option<Rate>,
    /// How an event is handed over: `direct` or `inbox`. Default: `inbox` if `inbox.url` is set, else `direct`.
    pub delivery: Option<Delivery>,
    /// How long an event's id is remembered; longer than the vendor's whole retry horizon. Default `96h`.
    pub dedup_window: Option<Span>,
    /// Refuse events whose signed time is older than this, or more than 5 minutes ahead. Default: none.
    pub max_age: Option<Span>,
    /// Short event types, or prefixes such as `approval.*`, to forward; others are answered 200 and dropped.
    /// Default: all.
    pub filters: Option<Vec<String>>,
    /// The vendor-side tenant, part of the CloudEvents `source`. Default `main`.
    pub tenant: Option<String>,
    /// The CloudEvents `source` itself. Default `{public_url}/{vendor}/{tenant}`, or
    /// `/hookwarden/{vendor}/{tenant}` without a `public_url`.
    pub source: Option<String>,
    /// Name of every event of this source, for vendors that send one kind and do not name it. Default: the vendor's.
    pub event: Option<String>,
    /// Put the vendor's whole payload, after redaction, into `vendor.raw`. Default `false`.
    pub include_raw: Option<bool>,
    /// JSON Pointers of the vendor's body that are not redacted though they look like secrets. Default: none.
    pub expose_secrets: Option<Vec<String>>,
    /// JSON Pointers of the vendor's body to redact as well. Default: none.
    pub extra_redactions: Option<Vec<String>>,
    /// Forward the vendor's test events too. Default `false`.
    pub forward_tests: Option<bool>,
    /// Another severity for an event type: `{ "user.deleted" = "high" }`. Default: the schema's.
    pub severity_overrides: Option<BTreeMap<EventType, Severity>>,
}

/// One line of `routes`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Short event types, or prefixes such as `approval.*`.
    pub types: Vec<String>,
    /// The upstream that gets them.
    pub upstream: String,
}

/// How an event is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Delivery {
    /// The vendor is answered after the app answered.
    Direct,
    /// The vendor is answered when the event is on the disk.
    Inbox,
}

/// How long an event's id is remembered unless the source says otherwise: longer than the longest schedule of retries
/// that Standard Webhooks suggests (75.6 h).
const DEDUP_WINDOW: Span = Span::from_secs(96 * 3600);

impl Delivery {
    /// As in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Inbox => "inbox",
        }
    }
}

impl SourceSettings {
    /// How events are handed over, where there is an inbox or none.
    #[must_use]
    pub fn delivery(&self, inbox: bool) -> Delivery {
        self.delivery.unwrap_or(if inbox { Delivery::Inbox } else { Delivery::Direct })
    }

    /// How long an event's id is remembered.
    #[must_use]
    pub fn dedup_window(&self) -> Span {
        self.dedup_window.unwrap_or(DEDUP_WINDOW)
    }

    /// The upstreams it names.
    pub fn upstreams(&self) -> impl Iterator<Item = &str> {
        let routes = self.routes.iter().flatten().map(|route| route.upstream.as_str());
        self.upstream.as_deref().into_iter().chain(routes)
    }

    /// The path vendors post to, of the source of that name.
    #[must_use]
    pub fn path_of(&self, name: &str) -> String {
        self.path.clone().unwrap_or_else(|| format!("/in/{name}"))
    }
}

impl fmt::Debug for SourceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceSettings").finish_non_exhaustive()
    }
}
