//! A vendor's value becomes a member's value: by the member's shape, never by the vendor. Identity event §5.5.

use std::{borrow::Cow, net::IpAddr};

use jiff::Timestamp;

use super::values::Values;
use crate::{
    identity::{
        data::{Member, Shape},
        time, timezone,
    },
    json::{Document, Index, Kind},
};

/// Longest text, in bytes, that is mapped; longer ones stay in `unmapped`.
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// A member's value. Texts that pass unchanged are only pointed at.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// The vendor's own JSON text.
    Verbatim(Index),
    /// The vendor's JSON, secrets redacted.
    Json(Index),
    Tags(Index),
    Text(Box<str>),
    Word(&'static str),
    Bool(bool),
    /// A time, and the vendor's text if that is how we write it.
    Time(Timestamp, Option<Index>),
    /// The text of a JSON number.
    Number(Box<str>),
    List(Box<List>),
}

/// The elements of an array.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct List {
    pub array: Index,
    pub members: &'static [Member],
    /// Of all elements, one after the other.
    pub values: Values,
    /// Where each element's values end.
    pub ends: Vec<usize>,
}

/// What came of a value.
#[derive(Debug, PartialEq)]
pub(super) enum Converted {
    /// Nothing of the original is lost.
    Whole(Value),
    /// Mapped, but the original says more.
    Part(Value),
    /// Not mapped, and no wonder.
    No,
    /// Not mapped: not what was expected.
    Odd,
}

/// The values that pass as they stand: most do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passes {
    None,
    Text,
    /// Written as we would.
    Time,
}

impl Passes {
    /// Whether this one does.
    #[inline]
    pub(super) fn lets(self, document: &Document, at: Index) -> bool {
        match self {
            Self::None => false,
            Self::Text => document.plain(at).is_some_and(|text| text.len() <= TEXT_BYTES_MAX),
            Self::Time => document.plain(at).is_some_and(time::is_ours),
        }
    }
}

/// Converts the value at `at`; `text` is its text after cutting and translating, if there was any of that.
#[must_use]
pub(super) fn convert(document: &Document, at: Index, text: Option<&str>, shape: Shape) -> Converted {
    match shape {
        Shape::Json => return Converted::Whole(Value::Json(at)),
        Shape::Tags => return kind(document, at, &[Kind::Object], Value::Tags(at)),
        Shape::Scalar => {
            let scalar = [Kind::Bool, Kind::Number, Kind::Plain, Kind::Escaped];
            return kind(document, at, &scalar, Value::Verbatim(at));
        }
        Shape::Bool => {
            return match document.raw(at) {
                "true" | "\"true\"" => Converted::Whole(Value::Bool(true)),
                "false" | "\"false\"" => Converted::Whole(Value::Bool(false)),
                _ => Converted::Odd,
            };
        }
        Shape::Text if text.is_none() => return verbatim(document, at),
        _ => {}
    }
    let Some(text) = text.map(Cow::Borrowed).or_else(|| document.scalar(at)) else { return Converted::Odd };
    let value = match shape {
        Shape::Text => Some(Value::Text(text.into())),
        Shape::Word(words) => word(words, &text).map(Value::Word),
        Shape::Kind(words) => {
            let known = word(words, &text.to_ascii_lowercase());
            return match (known, words.last()) {
                (Some(known), _) => Converted::Whole(Value::Word(known)),
                (None, Some(other)) => Converted::Part(Value::Word(other)),
                (None, None) => Converted::Odd,
            };
        }
        Shape::Time => return converted_time(document, at, &text),
        Shape::Country => country(&text).map(|text| Value::Text(text.into())),
        Shape::Latitude => degrees(&text, 90.0),
        Shape::Longitude => degrees(&text, 180.0),
        Shape::Ip => address(&text).map(|address| Value::Text(address.to_string().into())),
        Shape::Timezone => {
            return match timezone(&text) {
                Some(name) if name == text => Converted::Whole(Value::Text(name.into())),
                Some(name) => Converted::Part(Value::Text(name.into())),
                None => Converted::Odd,
            };
        }
        Shape::Constant | Shape::Bool | Shape::Tags | Shape::Json | Shape::Scalar | Shape::List(_) => None,
    };
    value.map_or(Converted::Odd, Converted::Whole)
}

fn kind(document: &Document, at: Index, wanted: &[Kind], value: Value) -> Converted {
    if wanted.contains(&document.kind(at)) { Converted::Whole(value) } else { Converted::Odd }
}

fn verbatim(document: &Document, at: Index) -> Converted {
    match document.kind(at) {
        Kind::Plain | Kind::Escaped if document.bytes(at) - 2 > TEXT_BYTES_MAX => Converted::No,
        Kind::Plain | Kind::Escaped => Converted::Whole(Value::Verbatim(at)),
        Kind::Number => Converted::Whole(Value::Text(document.raw(at).into())),
        Kind::Null | Kind::Bool | Kind::Array | Kind::Object => Converted::Odd,
    }
}

fn converted_time(document: &Document, at: Index, text: &str) -> Converted {
    let reading = match document.kind(at) {
        Kind::Number => time::read(document, at),
        _ => time::from_text(text),
    };
    match reading {
        Some(reading) if reading.exact => {
            let ours =
                reading.ours && document.kind(at) == Kind::Plain && document.bytes(at) == text.len() + 2;
            Converted::Whole(Value::Time(reading.at, ours.then_some(at)))
        }
        Some(reading) => Converted::Part(Value::Time(reading.at, None)),
        None => Converted::Odd,
    }
}

/// The word of a list that is this text.
#[must_use]
pub(super) fn word(words: &'static [&'static str], text: &str) -> Option<&'static str> {
    words.iter().find(|word| **word == text).copied()
}

fn country(text: &str) -> Option<String> {
    let code = text.trim().to_ascii_uppercase();
    (code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase())).then_some(code)
}

/// An address in its usual spelling (RFC 5952); an IPv4 address in IPv6 clothes is unwrapped.
fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Degrees within ±`limit`: the vendor's own digits where they make a JSON number.
fn degrees(text: &str, limit: f64) -> Option<Value> {
    let text = text.trim();
    let value: f64 = text.parse().ok().filter(|value: &f64| value.is_finite() && value.abs() <= limit)?;
    let is_json = serde_json::from_str::<serde_json::Number>(text).is_ok();
    Some(Value::Number(if is_json { text.into() } else { value.to_string().into() }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn try_it(json: &'static str, shape: Shape) -> Converted {
        let document = Document::parse(Bytes::from_static(json.as_bytes())).unwrap();
        convert(&document, Document::ROOT, None, shape)
    }

    fn text(text: &str) -> Converted {
        Converted::Whole(Value::Text(text.into()))
    }

    #[test]
    fn values_follow_the_shape() {
        assert_eq!(try_it(r#""ca""#, Shape::Country), text("CA"));
        assert_eq!(try_it(r#""Canada""#, Shape::Country), Converted::Odd);
        assert_eq!(try_it(r#""::ffff:192.0.2.1""#, Shape::Ip), text("192.0.2.1"));
        assert_eq!(try_it(r#""2001:DB8:0::1""#, Shape::Ip), text("2001:db8::1"));
        assert_eq!(try_it(r#""fe80::1%eth0""#, Shape::Ip), Converted::Odd);
        assert_eq!(
            try_it(r#""-33.868820""#, Shape::Latitude),
            Converted::Whole(Value::Number("-33.868820".into()))
        );
        assert_eq!(try_it(r#""+1.5""#, Shape::Latitude), Converted::Whole(Value::Number("1.5".into())));
        assert_eq!(try_it("90.1", Shape::Latitude), Converted::Odd);
        assert_eq!(try_it(r#""NaN""#, Shape::Longitude), Converted::Odd);
        assert_eq!(try_it("17", Shape::Text), text("17"));
        assert_eq!(try_it("true", Shape::Text), Converted::Odd);
        assert_eq!(try_it(r#""true""#, Shape::Bool), Converted::Whole(Value::Bool(true)));
        assert_eq!(try_it("1", Shape::Bool), Converted::Odd);
        assert_eq!(
            try_it(r#""sydney/australia""#, Shape::Timezone),
            Converted::Part(Value::Text("Australia/Sydney".into()))
        );
        assert_eq!(
            try_it(r#""Fridge""#, Shape::Kind(&["tv", "other"])),
            Converted::Part(Value::Word("other"))
        );
    }
}
