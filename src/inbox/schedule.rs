//! What follows an attempt: when it is repeated, and when no more.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::record::Fate;

/// By how much a wait may be longer or shorter than the schedule says.
const JITTER: f64 = 0.2;

/// How an attempt ended, as far as it decides about the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Delivered,
    /// The app wants none of it, now or ever (410).
    Gone,
    /// The app did not take it; it may have asked for a pause.
    Failed {
        retry_after: Option<Duration>,
    },
}

/// What follows. `tries` counts the attempts before this one since the event was stored or replayed; `jitter` is a random
/// number from 0 to 1.
#[must_use]
pub fn fate(ending: Ending, tries: u32, schedule: &[Duration], jitter: f64, now: Timestamp) -> Fate {
    let retry_after = match ending {
        Ending::Delivered => return Fate::Delivered,
        Ending::Gone => return Fate::Dead,
        Ending::Failed { retry_after } => retry_after,
    };
    let Some(step) = usize::try_from(tries).ok().and_then(|tries| schedule.get(tries)) else {
        return Fate::Dead;
    };
    let wait = step.mul_f64(1.0 - JITTER + 2.0 * JITTER * jitter.clamp(0.0, 1.0));
    // What the app asks for may make the wait longer, never shorter.
    let wait =
        SignedDuration::try_from(wait.max(retry_after.unwrap_or_default())).unwrap_or(SignedDuration::MAX);
    let at = now.checked_add(wait).unwrap_or(Timestamp::MAX);
    // In whole milliseconds, as it is stored.
    Fate::Retry(Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(100)];

    fn after(ending: Ending, tries: u32, jitter: f64) -> Option<i64> {
        match fate(ending, tries, &SCHEDULE, jitter, Timestamp::UNIX_EPOCH) {
            Fate::Retry(at) => Some(at.as_second()),
            Fate::Delivered | Fate::Dead => None,
        }
    }

    #[test]
    fn waits_follow_the_schedule_and_end_with_it() {
        let failed = Ending::Failed { retry_after: None };
        assert_eq!([0.0, 0.5, 1.0].map(|jitter| after(failed, 0, jitter)), [Some(8), Some(10), Some(12)]);
        assert_eq!(after(failed, 1, 0.5), Some(100));
        assert_eq!(fate(failed, 2, &SCHEDULE, 0.5, Timestamp::UNIX_EPOCH), Fate::Dead);
        assert_eq!(fate(failed, 0, &[], 0.5, Timestamp::UNIX_EPOCH), Fate::Dead);
    }

    #[test]
    fn the_app_may_ask_for_longer_and_not_for_shorter() {
        let asked = |secs| Ending::Failed { retry_after: Some(Duration::from_secs(secs)) };
        assert_eq!(after(asked(60), 0, 0.5), Some(60));
        assert_eq!(after(asked(1), 0, 0.5), Some(10));
        assert_eq!(after(asked(60), 2, 0.5), None);
    }

    #[test]
    fn what_is_gone_is_gone_at_once() {
        assert_eq!(fate(Ending::Gone, 0, &SCHEDULE, 0.5, Timestamp::UNIX_EPOCH), Fate::Dead);
        assert_eq!(fate(Ending::Delivered, 9, &SCHEDULE, 0.5, Timestamp::UNIX_EPOCH), Fate::Delivered);
    }
}
