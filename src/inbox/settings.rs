//! `[inbox]`: what must survive a crash.

use std::{fmt, path::PathBuf, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Size, Span};

/// `[inbox]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where events are kept until they are delivered: `sqlite:PATH`. Default: nowhere; delivery is direct.
    pub url: Option<InboxUrl>,
    /// How long delivered events are kept; never shorter than the longest `dedup_window`. Default `7d`.
    pub retention: Span,
    /// Most bytes of events. At nine tenths of it the contents of delivered events go, the oldest first; at the bound new
    /// events are refused. Default `10GiB`.
    pub bytes_max: Size,
}

/// Where an inbox is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^sqlite:[^:].*$"))]
pub struct InboxUrl {
    /// The file.
    pub path: PathBuf,
}

/// What an address of an inbox looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Expected(&'static str);

impl Default for Settings {
    fn default() -> Self {
        Self { url: None, retention: Span::from_secs(7 * 24 * 3600), bytes_max: Size::mib(10 * 1024) }
    }
}

impl FromStr for InboxUrl {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        match text.strip_prefix("sqlite:") {
            // SQLite has meanings of its own for names that begin with a colon, `:memory:` among them.
            Some(path) if !path.is_empty() && !path.starts_with(':') && !path.contains(['\0', '?', '#']) => {
                Ok(Self { path: path.into() })
            }
            _ => Err(Expected(
                "expected `sqlite:` and the path of a file, such as `sqlite:/var/lib/hookwarden/inbox.db`",
            )),
        }
    }
}

impl TryFrom<String> for InboxUrl {
    type Error = Expected;

    fn try_from(text: String) -> Result<Self, Expected> {
        text.parse()
    }
}

impl From<InboxUrl> for String {
    fn from(url: InboxUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for InboxUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite:{}", self.path.display())
    }
}
