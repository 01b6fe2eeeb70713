//! How often something may happen: GCRA by governor, on the gateway's own clock, with a bound on how many keys are
//! remembered.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use governor::{
    NotUntil, Quota, RateLimiter,
    clock::Clock as GovernorClock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, StateStore},
};

use crate::{
    clock::Clock,
    rejection::{Code, Limited, Rejection},
    units::Rate,
};

/// Most addresses remembered at once. Forgotten are those that have not been seen for longest.
pub const ADDRESSES_MAX: usize = 100_000;

/// One budget for everything that asks.
#[derive(Debug)]
pub struct Budget {
    rate: Rate,
    policy: &'static str,
    limiter: Option<RateLimiter<NotKeyed, InMemoryState, Clock, NoOp>>,
    clock: Clock,
}

/// A budget for each client address; IPv6 addresses share one with their /64.
#[derive(Debug)]
pub struct PerAddress {
    rate: Rate,
    limiter: Option<RateLimiter<u128, Recent, Clock, NoOp>>,
    clock: Clock,
}

type NoOp = NoOpMiddleware<Duration>;

// === impl Budget ===

impl Budget {
    #[must_use]
    pub fn new(rate: Rate, policy: &'static str, clock: &Clock) -> Self {
        let limiter =
            quota(rate).map(|quota| RateLimiter::new(quota, InMemoryState::default(), clock.clone()));
        Self { rate, policy, limiter, clock: clock.clone() }
    }

    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes one from the budget.
    ///
    /// # Errors
    ///
    /// `rate_limited`, with the time to wait.
    pub fn take(&self) -> Result<(), Rejection> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        limiter.check().map_err(|not_until| limited(&not_until, self.rate, self.policy, &self.clock))
    }
}

// === impl PerAddress ===

impl PerAddress {
    #[must_use]
    pub fn new(rate: Rate, clock: &Clock) -> Self {
        let limiter = quota(rate).map(|quota| RateLimiter::new(quota, Recent::default(), clock.clone()));
        Self { rate, limiter, clock: clock.clone() }
    }

    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes one from the address's budget.
    ///
    /// # Errors
    ///
    /// `rate_limited`, with the time to wait.
    pub fn take(&self, address: IpAddr) -> Result<(), Rejection> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        let check = limiter.check_key(&key(address));
        check.map_err(|not_until| limited(&not_until, self.rate, "per_ip", &self.clock))
    }
}

/// IPv4 as it is, IPv6 cut to its /64: a client has all of that.
fn key(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

fn quota(rate: Rate) -> Option<Quota> {
    let Rate::Limited { count, per, burst } = rate else { return None };
    Quota::with_period(per.duration() / count.get()).map(|quota| quota.allow_burst(burst))
}

fn limited(not_until: &NotUntil<Duration>, rate: Rate, policy: &'static str, clock: &Clock) -> Rejection {
    let wait = not_until.wait_time_from(clock.elapsed());
    let limit = match rate {
        Rate::Limited { count, per, .. } => {
            Some(Limited { policy, quota: count.get(), window: per.duration() })
        }
        Rate::Unlimited => None,
    };
    Rejection { retry_after: Some(wait), limit, ..Rejection::new(Code::RateLimited, policy) }
}

impl GovernorClock for Clock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.elapsed()
    }
}

/// The states of the keys seen last. Two generations: a key that is seen moves into the young one; when that is full,
/// the old one is forgotten. So a million addresses cost no more than `ADDRESSES_MAX`, and one that keeps coming is
/// never forgotten.
#[derive(Debug, Default)]
struct Recent(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<u128, Nanos>,
    old: HashMap<u128, Nanos>,
}

impl StateStore for Recent {
    type Key = u128;

    fn measure_and_replace<T, F, E>(&self, key: &u128, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = keys.young.get(key).or_else(|| keys.old.get(key)).copied();
        let outcome = measure(known);
        let state = match &outcome {
            Ok((_, state)) => Some(*state),
            Err(_) => known,
        };
        if let Some(state) = state {
            if keys.young.len() >= ADDRESSES_MAX / 2 && !keys.young.contains_key(key) {
                keys.old = std::mem::take(&mut keys.young);
            }
            keys.young.insert(*key, state);
        }
        outcome.map(|(value, _)| value)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use jiff::Timestamp;

    use super::*;

    fn clock() -> Clock {
        Clock::manual(Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_budget_refills() {
        let clock = clock();
        let budget = Budget::new("2/s burst 3".parse().unwrap(), "source", &clock);
        assert!((0..3).all(|_| budget.take().is_ok()));
        let refused = budget.take().unwrap_err();
        assert_eq!(refused.code, Code::RateLimited);
        assert_eq!(refused.retry_after, Some(Duration::from_millis(500)));
        assert_eq!(refused.limit.unwrap().quota, 2);
        clock.advance(Duration::from_millis(500));
        assert!(budget.take().is_ok());
        assert!(budget.take().is_err());
        let unlimited = Budget::new(Rate::Unlimited, "source", &clock);
        assert!((0..10_000).all(|_| unlimited.take().is_ok()));
    }

    #[test]
    fn addresses_have_budgets_of_their_own() {
        let limits = PerAddress::new("1/m".parse().unwrap(), &clock());
        let v4 = |last| IpAddr::from(Ipv4Addr::new(192, 0, 2, last));
        assert!(limits.take(v4(1)).is_ok());
        assert!(limits.take(v4(1)).is_err());
        assert!(limits.take(v4(2)).is_ok());
        assert!(limits.take(IpAddr::from(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped())).is_err());
        let v6 = |net: u16, host: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, 0, host));
        assert!(limits.take(v6(1, 1)).is_ok());
        assert!(limits.take(v6(1, 2)).is_err());
        assert!(limits.take(v6(2, 1)).is_ok());
    }

    #[test]
    fn a_million_addresses_are_not_remembered() {
        let recent = Recent::default();
        let see = |key: u128| recent.measure_and_replace(&key, |known| Ok::<_, ()>((known, Nanos::new(7))));
        let stubborn = u128::MAX;
        see(stubborn).unwrap();
        for key in 0..1_000_000 {
            see(key).unwrap();
            if key % 10_000 == 0 {
                assert!(see(stubborn).unwrap().is_some(), "one that keeps coming is not forgotten");
            }
        }
        let keys = recent.0.lock().unwrap();
        assert!(keys.young.len() + keys.old.len() <= ADDRESSES_MAX);
    }
}
