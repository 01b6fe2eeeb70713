//! The quantities ops write in the config: `"10s"`, `"1MiB"`, `"600/m burst 200"`. Parsed once, then typed.

use std::{fmt, net::IpAddr, num::NonZeroU32, str::FromStr, time::Duration};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A length of time: a number and `ms`, `s`, `m`, `h` or `d`; several may follow each other (`"1m30s"`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^([0-9]+(ms|s|m|h|d))+$"))]
pub struct Span(pub Duration);

/// A number of bytes: a whole number and `B`, `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^[0-9]+(B|KiB|MiB|GiB)$"))]
pub struct Size(pub u64);

/// How often something may happen: `"100/s"`, `"600/m burst 200"`, `"unlimited"`. Without `burst`, the count is the
/// burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^(unlimited|[0-9]+/(s|m|h)( burst [0-9]+)?)$"))]
pub enum Rate {
    Unlimited,
    Limited { count: NonZeroU32, per: Period, burst: NonZeroU32 },
}

/// Whose addresses: a network (`"192.0.2.0/24"`), or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Network(IpNet);

/// The unit of time in a [`Rate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    Second,
    Minute,
    Hour,
}

/// What a quantity should have looked like. Never repeats what was written: it may be a secret in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Expected(&'static str);

const SPAN: Expected = Expected(r#"expected a duration such as "500ms", "10s", "5m", "96h" or "7d""#);
const SIZE: Expected = Expected(r#"expected a size such as "512B", "16KiB", "1MiB" or "1GiB""#);
const RATE: Expected =
    Expected(r#"expected a rate such as "100/s", "600/m burst 200" (at most 1000000 each) or "unlimited""#);

const NETWORK: Expected =
    Expected(r#"expected a network such as "192.0.2.0/24" or "2001:db8::/32", or an address"#);

/// Largest count and burst: what GCRA still computes without overflow, even by the hour.
const RATE_MAX: u32 = 1_000_000;

// === impl Span ===

impl Span {
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

impl FromStr for Span {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let mut rest = text;
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let (unit, tail) = tail.split_at(letters);
            let number: u64 = number.parse().map_err(|_| SPAN)?;
            let unit_ms = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(SPAN),
            };
            let ms = number.checked_mul(unit_ms).ok_or(SPAN)?;
            total = total.checked_add(Duration::from_millis(ms)).ok_or(SPAN)?;
            rest = tail;
        }
        if text.is_empty() { Err(SPAN) } else { Ok(Self(total)) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let units: [(u128, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        // "96h" rather than "4d": days are written only from a week on.
        match units
            .iter()
            .find(|(unit, name)| ms > 0 && ms.is_multiple_of(*unit) && (*name != "d" || ms >= 7 * 86_400_000))
        {
            Some((unit, name)) => write!(f, "{}{name}", ms / unit),
            None => write!(f, "{ms}ms"),
        }
    }
}

// === impl Size ===

impl Size {
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// As a count of bytes in memory.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| SIZE)?;
        let shift = match unit {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(SIZE),
        };
        number.checked_mul(1 << shift).map(Self).ok_or(SIZE)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.iter().find(|(shift, _)| self.0 > 0 && self.0.trailing_zeros() >= *shift) {
            Some((shift, name)) => write!(f, "{}{name}", self.0 >> shift),
            None => write!(f, "{}B", self.0),
        }
    }
}

// === impl Rate ===

impl FromStr for Rate {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        let mut words = text.split(' ');
        let (count, per) = words.next().and_then(|rate| rate.split_once('/')).ok_or(RATE)?;
        let number =
            |text: &str| text.parse().ok().filter(|number: &NonZeroU32| number.get() <= RATE_MAX).ok_or(RATE);
        let count = number(count)?;
        let per = match per {
            "s" => Period::Second,
            "m" => Period::Minute,
            "h" => Period::Hour,
            _ => return Err(RATE),
        };
        let burst = match (words.next(), words.next()) {
            (None, _) => count,
            (Some("burst"), Some(burst)) => number(burst)?,
            _ => return Err(RATE),
        };
        if words.next().is_some() {
            return Err(RATE);
        }
        Ok(Self::Limited { count, per, burst })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::Limited { count, per, burst } => {
                write!(f, "{count}/{}", per.symbol())?;
                if burst == count { Ok(()) } else { write!(f, " burst {burst}") }
            }
        }
    }
}

impl Period {
    fn symbol(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
        }
    }

    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        })
    }
}

// === impl Network ===

impl Network {
    #[must_use]
    pub fn contains(&self, address: &IpAddr) -> bool {
        self.0.contains(address)
    }
}

impl FromStr for Network {
    type Err = Expected;

    fn from_str(text: &str) -> Result<Self, Expected> {
        // As clients are: an IPv4 address is never written as one of IPv6.
        let one = |_| text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
        text.parse().or_else(one).map(Self).map_err(|_| NETWORK)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! through_text {
    ($($name:ty),*) => {$(
        impl TryFrom<String> for $name {
            type Error = Expected;
            fn try_from(text: String) -> Result<Self, Expected> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )*};
}
through_text!(Span, Size, Rate, Network);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_written_back() {
        for text in ["250ms", "8s", "5m", "96h", "7d"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["1MiB", "16KiB", "64MiB", "10GiB", "1000B"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["100/s", "600/m burst 200", "unlimited"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!("1m30s".parse::<Span>().unwrap().0, Duration::from_secs(90));
        for (text, written) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), written);
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_refused() {
        for text in ["", "10", "s", "-1s", "1.5s", "10 s", "99999999999999999999s", "1w"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        for text in ["", "10.0.0.0/33", "10.0.0", "example.com", "[::1]", "10.0.0.1:80"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        for text in ["", "1", "MiB", "1mb", "-1B", "99999999999GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        for text in [
            "",
            "0/s",
            "1/d",
            "1/s burst",
            "1/s burst 0",
            "1/s burst 5 x",
            "1 / s",
            "none",
            "1/h burst 1000001",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
