//! HMAC over a template: most vendors, Standard Webhooks among them.

use http::HeaderName;
use jiff::Timestamp;

use super::{
    Mismatch, Request,
    beside::Beside,
    header,
    key::{Key, matching},
    settings::TimestampUnit,
    signature::Reader,
    template::{Template, Values},
};

/// A compiled `hmac` or `standard-webhooks` scheme.
pub(super) struct Hmac {
    /// Where a request may carry its signature; the first that is there counts.
    pub carriers: Vec<Carrier>,
    pub reader: Reader,
    pub template: Template,
    pub window: Window,
    pub keys: Vec<Key>,
}

/// The headers of one way to sign a request.
pub(super) struct Carrier {
    pub signature: HeaderName,
    /// Set if the template signs a time and it does not stand beside the signature.
    pub timestamp: Option<HeaderName>,
    /// Set if the template signs an id.
    pub id: Option<HeaderName>,
}

/// The times that count as now.
pub(super) struct Window {
    pub unit: TimestampUnit,
    /// To both sides, itself included, in the unit.
    pub tolerance: u64,
}

impl Hmac {
    /// The key that signed the request, and when, if a time is signed.
    pub(super) fn verify(
        &self,
        request: &Request<'_>,
        now: Timestamp,
        beside: &mut Beside<'_>,
    ) -> Result<(&Key, Option<Timestamp>), Mismatch> {
        let headers = request.headers;
        let carrier = self
            .carriers
            .iter()
            .find(|carrier| headers.contains_key(&carrier.signature))
            .ok_or(Mismatch::Missing)?;
        let signatures = self.reader.read(header::text(headers, &carrier.signature)?)?;
        let id = carrier.id.as_ref().map_or(Ok(&b""[..]), |name| header::bytes(headers, name))?;
        let timestamp = carrier.timestamp.as_ref().map(|name| header::text(headers, name)).transpose()?;

        let mut found = None;
        let mut stale = true;
        for set in signatures.sets() {
            let timestamp = timestamp.or(set.timestamp);
            let signed_at = match self.signed_at(timestamp, now) {
                Err(Mismatch::Stale) => continue,
                signed_at => signed_at?,
            };
            stale = false;
            let values = Values {
                id,
                timestamp: timestamp.unwrap_or_default(),
                body: request.body,
                method: request.method.as_str(),
            };
            let key = matching(&self.keys, &set.sums, &self.template.pieces(values), beside);
            found = found.or_else(|| key.map(|key| (key, signed_at)));
        }
        found.ok_or(if stale { Mismatch::Stale } else { Mismatch::Mismatch })
    }

    /// The signed time, if one is signed and it is near enough.
    fn signed_at(&self, text: Option<&str>, now: Timestamp) -> Result<Option<Timestamp>, Mismatch> {
        if !self.template.signs_timestamp() {
            return Ok(None);
        }
        self.window.check(text.ok_or(Mismatch::Malformed)?, now).map(Some)
    }
}

impl Window {
    /// Reads a time and compares it with now, both whole numbers of the unit.
    fn check(&self, text: &str, now: Timestamp) -> Result<Timestamp, Mismatch> {
        // from_str would take a sign.
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Mismatch::Malformed);
        }
        let number: i64 = text.parse().map_err(|_| Mismatch::Malformed)?;
        let (signed_at, now) = match self.unit {
            TimestampUnit::Seconds => (Timestamp::from_second(number), now.as_second()),
            TimestampUnit::Milliseconds => (Timestamp::from_millisecond(number), now.as_millisecond()),
        };
        let signed_at = signed_at.map_err(|_| Mismatch::Malformed)?;
        if number.abs_diff(now) <= self.tolerance { Ok(signed_at) } else { Err(Mismatch::Stale) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_digits_and_near() {
        let now = Timestamp::from_millisecond(1_700_000_000_999).unwrap();
        let seconds = Window { unit: TimestampUnit::Seconds, tolerance: 300 };
        for text in ["1700000000", "1700000300", "1699999700", "0001700000000"] {
            assert!(seconds.check(text, now).is_ok(), "{text}");
        }
        for text in ["1700000301", "1699999699", "0", "1700000000000"] {
            assert!(matches!(seconds.check(text, now), Err(Mismatch::Stale | Mismatch::Malformed)), "{text}");
        }
        for text in
            ["", "+1700000000", "-1", "1700000000.0", "17e8", "NaN", " 1", "١", "99999999999999999999"]
        {
            assert_eq!(seconds.check(text, now), Err(Mismatch::Malformed), "{text}");
        }

        let milliseconds = Window { unit: TimestampUnit::Milliseconds, tolerance: 300_000 };
        assert!(milliseconds.check("1700000300999", now).is_ok());
        assert_eq!(milliseconds.check("1700000301000", now), Err(Mismatch::Stale));
        assert_eq!(milliseconds.check("1700000000", now), Err(Mismatch::Stale));
    }
}
