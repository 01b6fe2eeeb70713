//! Why a request was refused. Small where it arises; `stage::rescue` alone makes answers of rejections.

use std::{borrow::Cow, time::Duration};

use http::StatusCode;
use uuid::{Builder, NoContext, Timestamp, Uuid};

/// A refusal: what the vendor hears (`code`), and what the operator reads (`reason`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", .code.as_str())]
pub struct Rejection {
    pub code: Code,
    /// For logs and the admin API; never anything the sender wrote.
    pub reason: Cow<'static, str>,
    pub retry_after: Option<Duration>,
    /// The limit that was reached, for the `RateLimit` headers.
    pub limit: Option<Limited>,
    /// A vendor's own status for limits (`limited_status`) or for the app's refusals, or that of too long a head.
    pub status: Option<StatusCode>,
}

/// A limit that was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    /// `per_ip`, `source` or `upstream`.
    pub policy: &'static str,
    pub quota: u32,
    pub window: Duration,
}

macro_rules! codes {
    ($($variant:ident = $name:literal, $status:ident, $title:literal;)*) => {
        /// The closed list of codes: the `code` of an answer and of `hookwarden-error`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($variant),* }

        impl Code {
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),* }
            }

            /// A sentence for people, the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }
        }
    };
}

codes! {
    AddressRefused = "address_refused", FORBIDDEN, "This address may not send here.";
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT, "The body did not arrive in time.";
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "The body is larger than is accepted.";
    Draining = "draining", SERVICE_UNAVAILABLE, "The gateway is shutting down.";
    InFlight = "in_flight", SERVICE_UNAVAILABLE, "The same event is being delivered.";
    InboxUnavailable = "inbox_unavailable", SERVICE_UNAVAILABLE, "The inbox cannot take events.";
    Internal = "internal", INTERNAL_SERVER_ERROR, "The gateway failed.";
    MalformedBody = "malformed_body", BAD_REQUEST, "The body is not exactly one JSON document.";
    MalformedRequest = "malformed_request", BAD_REQUEST, "The request is not well-formed HTTP.";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "Only POST is accepted here.";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "Too much at once.";
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, "Too many requests.";
    UnknownSource = "unknown_source", NOT_FOUND, "Nothing is received at this path.";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "Only unencoded JSON is accepted.";
    Unverified = "unverified", UNAUTHORIZED, "The request could not be verified.";
    UpstreamRefused = "upstream_refused", BAD_GATEWAY, "The application refused the event.";
    UpstreamTimeout = "upstream_timeout", GATEWAY_TIMEOUT, "The application did not answer in time.";
    UpstreamUnreachable = "upstream_unreachable", BAD_GATEWAY, "The application could not be reached.";
}

/// What a 502, 503 or 504 asks for if nothing better is known: the next try may well succeed.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Rejection {
    /// A refusal; what the app or the moment is to blame for asks to be tried again.
    #[must_use]
    pub fn new(code: Code, reason: impl Into<Cow<'static, str>>) -> Self {
        let again = matches!(
            code.status(),
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        );
        let retry_after = again.then_some(RETRY_AFTER);
        Self { code, reason: reason.into(), retry_after, limit: None, status: None }
    }

    /// The status the vendor gets.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status.unwrap_or_else(|| self.code.status())
    }
}

/// A name for one refusal, that whoever was refused can tell whoever reads the log. It sorts by time (RFC 9562 §5.7), and
/// costs no system call: it need not be hard to guess.
#[must_use]
pub fn instance() -> Uuid {
    let (seconds, nanos) = Timestamp::now(NoContext).to_unix();
    let millis = seconds * 1000 + u64::from(nanos / 1_000_000);
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}
