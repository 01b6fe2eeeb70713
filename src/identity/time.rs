//! Times: read in every form vendors use, written in one. Identity event §5.2.

use jiff::{SignedDuration, Timestamp, civil, tz::Offset};

use crate::{
    ascii::Ascii,
    json::{Document, Index, Kind},
};

/// Longest time, written.
const TEXT_BYTES: usize = 30;

/// A vendor's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub at: Timestamp,
    /// Nothing was lost: the text can be told from the time. Otherwise the original stays in `unmapped`.
    pub exact: bool,
    /// The text is the very one that [`text()`] makes of the time.
    pub ours: bool,
}

/// Reads a time, or tells that it is none: before 1970 and after 9999 count as none.
#[must_use]
pub fn read(document: &Document, at: Index) -> Option<Reading> {
    let text = document.scalar(at)?;
    if document.kind(at) == Kind::Number { epoch(&text) } else { from_text(&text) }
}

/// Reads a time from a string.
#[must_use]
pub fn from_text(text: &str) -> Option<Reading> {
    let reading =
        date_time(text).or_else(|| epoch(text)).or_else(|| dot_net(text)).or_else(|| rfc2822(text))?;
    (reading.at >= Timestamp::UNIX_EPOCH).then_some(reading)
}

/// Whether a text is a time in just the form that [`text()`] gives it, whole seconds: told without making a time of it.
#[must_use]
pub fn is_ours(text: &[u8]) -> bool {
    let Ok(text) = <&[u8; 20]>::try_from(text) else { return false };
    // Without a way out in between: the odds are that all is well.
    let mark = |at: usize, mark: u8| text[at] ^ mark;
    let marks =
        mark(4, b'-') | mark(7, b'-') | mark(10, b'T') | mark(13, b':') | mark(16, b':') | mark(19, b'Z');
    let mut odd = marks > 0;
    let mut two = |at: usize| {
        let (tens, ones) = (text[at].wrapping_sub(b'0'), text[at + 1].wrapping_sub(b'0'));
        odd |= tens > 9 || ones > 9;
        tens.wrapping_mul(10).wrapping_add(ones)
    };
    let (century, year, month, day) = (two(0), two(2), two(5), two(8));
    let (hour, minute, second) = (two(11), two(14), two(17));
    // The last years of four digits are beyond what a `Timestamp` holds.
    odd |= !(19..99).contains(&century) || (century == 19 && year < 70);
    odd |= !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59;
    let year = i16::from(century) * 100 + i16::from(year);
    // Every month has 28 days.
    !odd && (day <= 28 || civil::Date::new(year, month as i8, day as i8).is_ok())
}

/// `YYYY-MM-DDTHH:MM:SS[.fff[fff[fff]]]Z` with the fewest digits that keep the value.
#[must_use]
pub fn text(at: Timestamp) -> Ascii<TEXT_BYTES> {
    let nanos = at.subsec_nanosecond();
    let digits = match nanos {
        0 => 0,
        _ if nanos % 1_000_000 == 0 => 3,
        _ if nanos % 1_000 == 0 => 6,
        _ => 9,
    };
    written(at, digits)
}

/// A time of ours: always three digits of a second.
#[must_use]
pub fn millis(at: Timestamp) -> Ascii<TEXT_BYTES> {
    written(at, 3)
}

/// `digits`: of a fraction of a second, 0, 3, 6 or 9.
fn written(at: Timestamp, digits: usize) -> Ascii<TEXT_BYTES> {
    let at = Offset::UTC.to_datetime(at);
    let mut ascii = *b"0000-00-00T00:00:00.000000000Z";
    let mut number = |range: std::ops::Range<usize>, mut value: u32| {
        for place in ascii[range].iter_mut().rev() {
            *place = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    number(0..4, u32::from(at.year().unsigned_abs()));
    number(5..7, u32::from(at.month().unsigned_abs()));
    number(8..10, u32::from(at.day().unsigned_abs()));
    number(11..13, u32::from(at.hour().unsigned_abs()));
    number(14..16, u32::from(at.minute().unsigned_abs()));
    number(17..19, u32::from(at.second().unsigned_abs()));
    let seconds_end = if digits == 0 { 19 } else { 20 + digits };
    if digits > 0 {
        number(20..29, at.subsec_nanosecond().unsigned_abs());
    }
    ascii[seconds_end] = b'Z';
    Ascii::new(ascii, seconds_end + 1)
}

/// `YYYY-MM-DD`, one byte, `HH:MM:SS` and what follows: numbers, whether there is such a time or not.
struct Written<'a> {
    date: [i16; 3],
    time: [i16; 3],
    between: u8,
    rest: &'a [u8],
}

impl<'a> Written<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let [y1, y2, y3, y4, b'-', mo1, mo2, b'-', d1, d2, between, rest @ ..] = text.as_bytes() else {
            return None;
        };
        let [h1, h2, b':', mi1, mi2, b':', s1, s2, rest @ ..] = rest else { return None };
        let two = |tens: &u8, ones: &u8| {
            let both = tens.is_ascii_digit() && ones.is_ascii_digit();
            both.then(|| i16::from((tens - b'0') * 10 + (ones - b'0')))
        };
        Some(Self {
            date: [two(y1, y2)? * 100 + two(y3, y4)?, two(mo1, mo2)?, two(d1, d2)?],
            time: [two(h1, h2)?, two(mi1, mi2)?, two(s1, s2)?],
            between: *between,
            rest,
        })
    }
}

/// The time, if the calendar has it.
fn civil_time(date: [i16; 3], time: [i16; 3], nanos: i32) -> Option<civil::DateTime> {
    let [year, month, day] = date;
    let small = |number: i16| i8::try_from(number).ok();
    let [hour, minute, second] = time;
    civil::DateTime::new(
        year,
        small(month)?,
        small(day)?,
        small(hour)?,
        small(minute)?,
        small(second)?,
        nanos,
    )
    .ok()
}

/// RFC 3339, and its like without an offset (taken for UTC) or with a space for the `T`.
fn date_time(text: &str) -> Option<Reading> {
    let Written { date, time: [hour, minute, second], between, rest: fraction } = Written::read(text)?;
    if !matches!(between, b'T' | b't' | b' ') {
        return None;
    }
    let (nanos, beyond, rest) = subsecond(fraction)?;
    // A leap second is squeezed into the second before it.
    let leap = second == 60;
    let (second, nanos) = if leap { (59, 999_999_999) } else { (second, nanos) };
    let civil = civil_time(date, [hour, minute, second], nanos)?;
    let (offset_minutes, zulu) = match rest {
        b"Z" | b"z" => (0, true),
        b"" => (0, false),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let minutes = i64::from(hours * 60 + minutes);
            (if *sign == b'-' { -minutes } else { minutes }, false)
        }
        _ => return None,
    };
    let utc = Offset::UTC.to_timestamp(civil).ok()?;
    let at = match offset_minutes {
        0 => utc,
        minutes => utc.checked_sub(SignedDuration::from_mins(minutes)).ok()?,
    };
    let exact = zulu && !beyond && !leap;
    let shortest = match fraction {
        b"Z" => true,
        [b'.', digits @ .., b'Z'] => matches!(digits.len(), 3 | 6 | 9) && !digits.ends_with(b"000"),
        _ => false,
    };
    Some(Reading { at, exact, ours: exact && shortest && between == b'T' })
}

/// A fraction of a second, if there is one: nanoseconds, whether digits were cut off, and what follows.
fn subsecond(bytes: &[u8]) -> Option<(i32, bool, &[u8])> {
    let Some((b'.', rest)) = bytes.split_first() else { return Some((0, false, bytes)) };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, rest) = rest.split_at(length);
    let (kept, cut) = fraction.split_at(length.min(9));
    let scale = 10_u32.checked_pow(u32::try_from(9 - kept.len()).ok()?)?;
    let nanos = i32::try_from(digits(kept)? * scale).ok()?;
    (length > 0).then_some((nanos, cut.iter().any(|byte| *byte != b'0'), rest))
}

fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0_u32, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Whole seconds, milli-, micro- or nanoseconds since 1970, told apart by their number of digits.
fn epoch(text: &str) -> Option<Reading> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: i64 = text.parse().ok()?;
    let at = match text.len() {
        9 | 10 => Timestamp::from_second(value),
        13 => Timestamp::from_millisecond(value),
        16 => Timestamp::from_microsecond(value),
        19 => Timestamp::from_nanosecond(i128::from(value)),
        _ => return None,
    };
    Some(Reading { at: at.ok()?, exact: true, ours: false })
}

/// .NET's `/Date(1700000000000+0100)/`: milliseconds; the offset only says how it was shown.
fn dot_net(text: &str) -> Option<Reading> {
    let inside = text.strip_prefix("/Date(")?.strip_suffix(")/")?;
    let length = inside.bytes().take_while(u8::is_ascii_digit).count();
    let (millis, offset) = inside.split_at_checked(length)?;
    let well_formed = matches!(offset.as_bytes(), [] | [b'+' | b'-', _, _, _, _])
        && offset.bytes().skip(1).all(|byte| byte.is_ascii_digit());
    let at = Timestamp::from_millisecond(millis.parse().ok()?).ok()?;
    well_formed.then_some(Reading { at, exact: offset.is_empty(), ours: false })
}

/// Mail and HTTP dates.
fn rfc2822(text: &str) -> Option<Reading> {
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Reading { at, exact: text.ends_with("GMT"), ours: false })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<(String, bool)> {
        from_text(text).map(|reading| (super::text(reading.at).to_string(), reading.exact))
    }

    #[test]
    fn every_form_is_read() {
        let forms = [
            ("2024-01-15T10:35:00Z", "2024-01-15T10:35:00Z", true),
            ("2024-01-15t10:35:00.5z", "2024-01-15T10:35:00.500Z", true),
            ("2025-03-04T08:15:30.9658619Z", "2025-03-04T08:15:30.965861900Z", true),
            ("2025-03-04T08:15:30.965861Z", "2025-03-04T08:15:30.965861Z", true),
            ("2025-03-04T08:15:30.1234567891Z", "2025-03-04T08:15:30.123456789Z", false),
            ("2024-01-15T10:35:00+02:00", "2024-01-15T08:35:00Z", false),
            ("2024-01-15T23:35:00-05:30", "2024-01-16T05:05:00Z", false),
            ("2024-01-15T10:35:00", "2024-01-15T10:35:00Z", false),
            ("2024-01-15 10:35:00.250", "2024-01-15T10:35:00.250Z", false),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999999Z", false),
            ("1615819845", "2021-03-15T14:50:45Z", true),
            ("999999999", "2001-09-09T01:46:39Z", true),
            ("1615819845123", "2021-03-15T14:50:45.123Z", true),
            ("1615819845123456", "2021-03-15T14:50:45.123456Z", true),
            ("1615819845123456789", "2021-03-15T14:50:45.123456789Z", true),
            ("/Date(1615819845123)/", "2021-03-15T14:50:45.123Z", true),
            ("/Date(1615819845123+0100)/", "2021-03-15T14:50:45.123Z", false),
            ("Mon, 15 Mar 2021 14:50:45 GMT", "2021-03-15T14:50:45Z", true),
            ("Mon, 15 Mar 2021 15:50:45 +0100", "2021-03-15T14:50:45Z", false),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", true),
            ("2024-01-15T23:59:00+23:59", "2024-01-15T00:00:00Z", false),
            ("9999-12-30T00:00:00Z", "9999-12-30T00:00:00Z", true),
            ("2024-01-15T10:35:00.000Z", "2024-01-15T10:35:00Z", true),
            ("2024-01-15T10:35:00.120000Z", "2024-01-15T10:35:00.120Z", true),
            ("2024-01-15T10:35:00.000000001Z", "2024-01-15T10:35:00.000000001Z", true),
        ];
        for (text, expected, exact) in forms {
            assert_eq!(read(text), Some((expected.to_owned(), exact)), "{text}");
            assert_eq!(from_text(text).unwrap().ours, text == expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn ours_is_told_as_it_is_read(
            text in "(19[67]|20[0-9]|[0-9]{3})[0-9]-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](Z|z|\\.[0-9]{1,3}Z|)"
        ) {
            let ours = from_text(&text).is_some_and(|reading| reading.ours) && text.len() == 20;
            // The last century is left to the closer look.
            prop_assert_eq!(is_ours(text.as_bytes()), ours && !text.starts_with("99"), "{}", text);
        }
    }

    #[test]
    fn every_day_there_is_is_ours() {
        for year in [1970, 1999, 2000, 2023, 2024, 2100, 2400, 9899] {
            for (month, day) in (0..14).flat_map(|month| (0..33).map(move |day| (month, day))) {
                let text = format!("{year}-{month:02}-{day:02}T23:59:59Z");
                assert_eq!(is_ours(text.as_bytes()), from_text(&text).is_some(), "{text}");
            }
        }
        for text in [
            "",
            "1969-12-31T23:59:59Z",
            "2024-01-15T24:00:00Z",
            "2024-01-15T10:60:00Z",
            "2024-01-15T10:35:60Z",
            "2024-01-15T1x:35:00Z",
        ] {
            assert!(!is_ours(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn numbers_and_texts_are_read_and_nothing_else() {
        let json = r#"[1615819845, "1615819845", "2021-03-15T14:50:45Z", 1.615819845e9, true, null, {}]"#;
        let document = Document::parse(json.into()).unwrap();
        let times: Vec<_> = document
            .elements(Document::ROOT)
            .map(|at| super::read(&document, at).map(|it| it.at.as_second()))
            .collect();
        let known = Some(1_615_819_845);
        assert_eq!(times, [known, known, known, None, None, None, None]);
        let date = Document::parse("20210315".into()).unwrap();
        assert_eq!(super::read(&date, Document::ROOT), None);
    }

    #[test]
    fn times_of_ours_have_three_digits() {
        for (at, expected) in [
            ("2024-01-15T10:35:00Z", "2024-01-15T10:35:00.000Z"),
            ("2024-01-15T10:35:00.0019Z", "2024-01-15T10:35:00.001Z"),
        ] {
            assert_eq!(&*millis(at.parse().unwrap()), expected);
        }
    }

    #[test]
    fn what_is_no_time_is_left_alone() {
        let odd = [
            "",
            "yesterday",
            "1969-12-31T23:59:59Z",
            "10000-01-01T00:00:00Z",
            "2024-02-30T00:00:00Z",
            "12345",
            "2024-01-15",
            "2024-01-15T25:00:00Z",
            "2024-01-15T10:35:00.Z",
            "2024-01-15T10:35:00+25:00",
            "2024-01-15T10:35:00+24:00",
            "2024-01-15T10:35:00+00:60",
            "2024-01-15T10:35:00+0a:00",
            "2024-01-15T10:35:61Z",
            "-1615819845",
            "/Date(x)/",
            "/Date(1615819845123+01)/",
            "2024-01-15T10:35:00Zx",
        ];
        for text in odd {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
