//! `[upstreams.NAME]`: the app behind the gateway and how it is called.

use std::{fmt, num::NonZeroU32, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    secret::SecretRef,
    units::{Rate, Span},
};

/// One app that events are forwarded to.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where events are sent: `http://…`, `https://…` or `unix:/path/of/socket:/uri-path`.
    pub url: Option<String>,
    /// Standard Webhooks signing secret, written literally; prefer `secret_env` or `secret_file`.
    pub secret: Option<String>,
    /// Environment variable that holds the signing secret.
    pub secret_env: Option<String>,
    /// File that holds the signing secret; one trailing newline is stripped.
    pub secret_file: Option<String>,
    /// Several signing secrets for rotation; every request carries a signature by each.
    pub secrets: Option<Vec<SecretRef>>,
    /// Takes a secret of fewer than 16 bytes. Default false.
    pub allow_weak: Option<bool>,
    /// What the app gets. Default `cloudevents`.
    pub format: Option<Format>,
    /// Longest time one attempt may take, from connecting to the last byte of the answer. Default 8s.
    pub timeout: Option<Span>,
    /// Repeats of a direct delivery, only where the app surely did not take it: no connection, or 503 with `Retry-After`.
    pub retry: Option<Retry>,
    /// Waits between attempts to deliver from the inbox, ±20 % jitter; after the last, dead letter. Default 5s, 30s, 2m, 10m,
    /// 30m, 1h, 3h, 6h, 12h, 24h.
    pub schedule: Option<Vec<Span>>,
    /// Whether the inbox keeps an order. Default `none`.
    pub order: Option<Order>,
    /// Most requests the app is sent. Default unlimited.
    pub rate: Option<Rate>,
    /// Most requests the app is sent at once. Default 64.
    pub concurrency: Option<NonZeroU32>,
    /// PEM file with certificate authorities trusted in addition to the public ones, for https.
    pub ca_file: Option<String>,
}

/// The form in which the app gets an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `CloudEvents` in structured mode: one JSON document.
    #[default]
    CloudEvents,
    /// `CloudEvents` in binary mode: the data as the body, the attributes as `ce-*` headers.
    #[serde(rename = "cloudevents-binary")]
    CloudEventsBinary,
    /// The vendor's body byte for byte, the attributes as `ce-*` headers.
    Raw,
}

/// Which order the inbox keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// None: a failing event holds up no other.
    #[default]
    None,
    /// Events of one `partitionkey` one at a time, in the order of receipt.
    Partition,
}

/// How a direct delivery is repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all, the first included. Default 3.
    pub attempts: Option<NonZeroU32>,
    /// Wait before the second attempt; doubles from one to the next, ±50 % jitter. Default 100ms.
    pub base: Option<Span>,
}

/// [`Settings`] as far as calling the app goes, with the defaults filled in.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Longest time of one attempt, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// Attempts of one direct delivery, the first included.
    pub attempts: NonZeroU32,
    /// Wait before the second attempt.
    pub backoff_base: Duration,
    /// Deliveries begun.
    pub rate: Rate,
    /// Deliveries running at once.
    pub concurrency: NonZeroU32,
}

impl Format {
    const ALL: [Self; 3] = [Self::CloudEvents, Self::CloudEventsBinary, Self::Raw];

    /// As in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CloudEvents => "cloudevents",
            Self::CloudEventsBinary => "cloudevents-binary",
            Self::Raw => "raw",
        }
    }

    /// What `as_str` gave; the default for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self::ALL.into_iter().find(|known| known.as_str() == text).unwrap_or_default()
    }
}

/// The schedule of Standard Webhooks, "Deliverability and reliability", stretched to two days.
const SCHEDULE_SECS: [u64; 10] = [5, 30, 120, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600];

impl Settings {
    /// Waits between attempts to deliver from the inbox.
    #[must_use]
    pub fn schedule(&self) -> Vec<Duration> {
        match &self.schedule {
            Some(waits) => waits.iter().map(|wait| wait.0).collect(),
            None => SCHEDULE_SECS.map(Duration::from_secs).to_vec(),
        }
    }

    /// What [`super::Upstream::open`] needs.
    #[must_use]
    pub fn options(&self) -> Options {
        let defaults = Options::default();
        let retry = self.retry.unwrap_or_default();
        Options {
            timeout: self.timeout.map_or(defaults.timeout, |span| span.0),
            attempts: retry.attempts.unwrap_or(defaults.attempts),
            backoff_base: retry.base.map_or(defaults.backoff_base, |span| span.0),
            rate: self.rate.unwrap_or(defaults.rate),
            concurrency: self.concurrency.unwrap_or(defaults.concurrency),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(8),
            attempts: const { NonZeroU32::new(3).unwrap() },
            backoff_base: Duration::from_millis(100),
            rate: Rate::Unlimited,
            concurrency: const { NonZeroU32::new(64).unwrap() },
        }
    }
}

/// Shows nothing: `secret` and `url` may hold what must not be seen.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default_and_nothing_unknown_is_taken() {
        let settings: Settings = toml::from_str("timeout = '3s'\nretry = { attempts = 1 }").unwrap();
        let options = settings.options();
        assert_eq!(options.timeout, Duration::from_secs(3));
        assert_eq!((options.attempts.get(), options.concurrency.get()), (1, 64));
        assert_eq!(options.backoff_base, Duration::from_millis(100));

        let formats = [
            ("cloudevents", Format::CloudEvents),
            ("cloudevents-binary", Format::CloudEventsBinary),
            ("raw", Format::Raw),
        ];
        for (text, format) in formats {
            let settings: Settings = toml::from_str(&format!("format = '{text}'")).unwrap();
            assert_eq!(settings.format, Some(format));
        }
        for text in ["urll = ''", "concurrency = 0", "retry = { attempts = 0 }", "secrets = [{ key = '' }]"] {
            assert!(toml::from_str::<Settings>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings: Settings = toml::from_str("secret = 'canary'\nurl = 'http://canary@app'").unwrap();
        assert!(!format!("{settings:?}").contains("canary"));
    }
}
