//! The only place that asks the machine for the time. Everything else gets a [`Clock`] or a time as an argument, so
//! that a test can set it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;

/// A source of wall-clock and monotonic time. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System { start: Instant },
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    start: Timestamp,
    elapsed_ns: AtomicI64,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn system() -> Self {
        Self(Kind::System { start: Instant::now() })
    }

    /// A clock that stands still at `start` until [`Clock::advance`] moves it.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self(Kind::Manual(Arc::new(Manual { start, elapsed_ns: AtomicI64::new(0) })))
    }

    /// Wall-clock time, cut to milliseconds: the precision of every time that leaves the gateway.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now(&self) -> Timestamp {
        let exact = match &self.0 {
            Kind::System { .. } => Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::MAX),
            Kind::Manual(manual) => manual
                .start
                .saturating_add(jiff::SignedDuration::from_nanos(manual.elapsed_ns.load(Ordering::Relaxed)))
                .unwrap_or(Timestamp::MAX),
        };
        Timestamp::from_millisecond(exact.as_millisecond()).unwrap_or(exact)
    }

    /// Time since the clock was made; never goes back.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Kind::System { start } => start.elapsed(),
            Kind::Manual(manual) => {
                Duration::from_nanos(u64::try_from(manual.elapsed_ns.load(Ordering::Relaxed)).unwrap_or(0))
            }
        }
    }

    /// Moves a manual clock forward; the machine's clock does not listen.
    pub fn advance(&self, by: Duration) {
        if let Kind::Manual(manual) = &self.0 {
            let ns = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
            manual.elapsed_ns.fetch_add(ns, Ordering::Relaxed);
        }
    }
}
