//! The parameters of a query, each at most once and all of them known.

use super::answer::Problem;
use http::StatusCode;

/// Parameters that were not taken yet.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads `application/x-www-form-urlencoded` (WHATWG URL §5.1).
    pub(super) fn parse(query: &str) -> Result<Self, Problem> {
        let pair = |text: &str| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            Some((decoded(name)?, decoded(value)?))
        };
        let given = query.split('&').filter(|text| !text.is_empty());
        let pairs: Option<Vec<_>> = given.map(pair).collect();
        pairs.map(Self).ok_or_else(|| bad("the query is not encoded as it should be"))
    }

    /// The value of a parameter; of an empty one none.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1).filter(|value| !value.is_empty())
    }

    /// Refuses what nobody has taken: a slip of the pen must not widen what is meant.
    pub(super) fn none_left(&self) -> Result<(), Problem> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(bad("a parameter is unknown, or is there twice")),
        }
    }
}

fn bad(detail: &'static str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_parameter", detail)
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                let mut byte = [0];
                hex::decode_to_slice(digits, &mut byte).ok()?;
                rest = after;
                byte[0]
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Text as part of a query.
#[must_use]
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for text in ["", "a b+c&d=e%", "größer/é €", "approval/a1", "login.*"] {
            let mut parameters = Parameters::parse(&format!("x={}&y=1", encoded(text))).unwrap();
            assert_eq!(parameters.take("x").unwrap_or_default(), text);
            assert!(parameters.none_left().is_err());
            assert_eq!(parameters.take("y").as_deref(), Some("1"));
            assert!(parameters.none_left().is_ok());
        }
        assert_eq!(Parameters::parse("x=a+b").unwrap().take("x").as_deref(), Some("a b"));
        for query in ["x=%", "x=%4", "x=%zz", "x=%FF"] {
            assert!(Parameters::parse(query).is_err(), "{query}");
        }
    }
}
