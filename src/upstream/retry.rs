//! When a delivery may be tried again.

use std::time::Duration;

use http::StatusCode;
use jiff::fmt::rfc2822::DateTimeParser;

use super::{Failure, Options};
use crate::clock::Clock;

/// Longest wait, whether the app's `Retry-After` asks for it or the back-off comes to it.
const WAIT_MAX: Duration = Duration::from_hours(1);

/// `Retry-After` (RFC 9110 §10.2.3): seconds, or a date as wall-clock time; cut to an hour. A past date is no wait.
pub(super) fn retry_after(text: &str, clock: &Clock) -> Option<Duration> {
    let wait = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().ok()?)
    } else {
        let at = DateTimeParser::new().parse_timestamp(text).ok()?;
        Duration::try_from(at.duration_since(clock.now())).unwrap_or_default()
    };
    Some(wait.min(WAIT_MAX))
}

/// The wait before a direct delivery is tried again; none if it may not be: only what surely was not accepted is repeated,
/// which is what could not be sent and what the app postponed (503 with `Retry-After`).
pub(super) fn wait(failure: Failure, attempts_made: u32, options: &Options) -> Option<Duration> {
    let asked = match failure {
        Failure::Unreachable => Duration::ZERO,
        Failure::Busy { status: StatusCode::SERVICE_UNAVAILABLE, retry_after } => retry_after?,
        Failure::Busy { .. }
        | Failure::Refused { .. }
        | Failure::Timeout
        | Failure::Broken
        | Failure::Saturated { .. } => return None,
    };
    if attempts_made >= options.attempts.get() {
        return None;
    }
    let doublings = attempts_made.saturating_sub(1).min(16);
    let backoff = options.backoff_base.saturating_mul(1 << doublings).min(WAIT_MAX);
    Some(asked.max(backoff.mul_f64(0.5 + fastrand::f64())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let clock = Clock::manual("2026-03-01T12:00:00Z".parse().unwrap());
        let cases = [
            ("0", Some(0)),
            ("120", Some(120)),
            ("86400", Some(3600)),
            ("Sun, 01 Mar 2026 12:00:07 GMT", Some(7)),
            ("Sun, 01 Mar 2026 11:00:00 GMT", Some(0)),
            ("Mon, 02 Mar 2026 12:00:00 GMT", Some(3600)),
            ("-1", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
        ];
        for (text, secs) in cases {
            assert_eq!(retry_after(text, &clock), secs.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn only_what_was_surely_not_accepted_is_repeated() {
        let options = Options::default();
        let busy =
            |status, secs: Option<u64>| Failure::Busy { status, retry_after: secs.map(Duration::from_secs) };
        let postponed = busy(StatusCode::SERVICE_UNAVAILABLE, Some(2));
        assert_eq!(wait(postponed, 1, &options), Some(Duration::from_secs(2)));
        for (attempts_made, ms) in [(1, 50..=150), (2, 100..=300)] {
            let wait = wait(Failure::Unreachable, attempts_made, &options).unwrap();
            assert!(ms.contains(&wait.as_millis()), "{wait:?}");
        }
        assert_eq!(wait(Failure::Unreachable, 3, &options), None);

        let never = [
            busy(StatusCode::SERVICE_UNAVAILABLE, None),
            busy(StatusCode::TOO_MANY_REQUESTS, Some(1)),
            Failure::Refused { status: StatusCode::INTERNAL_SERVER_ERROR, retry_after: Some(Duration::ZERO) },
            Failure::Timeout,
            Failure::Broken,
            Failure::Saturated { retry_after: Duration::ZERO },
        ];
        for failure in never {
            assert_eq!(wait(failure, 1, &options), None, "{failure:?}");
        }
    }
}
