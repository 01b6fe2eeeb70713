//! Takes single headers out of a request. Several lines of one name are ambiguous (the first? the last? joined?), so
//! they are refused.

use http::{HeaderMap, HeaderName};

use super::Mismatch;

/// The value of the only line of that name, as bytes.
///
/// # Errors
///
/// Missing if it is not there or empty, malformed if it is there twice.
pub(super) fn bytes<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a [u8], Mismatch> {
    let mut lines = headers.get_all(name).iter();
    let value = lines.next().ok_or(Mismatch::Missing)?;
    if lines.next().is_some() {
        return Err(Mismatch::Malformed);
    }
    if value.is_empty() { Err(Mismatch::Missing) } else { Ok(value.as_bytes()) }
}

/// The same, as ASCII text.
///
/// # Errors
///
/// As [`bytes()`]; malformed too if it is not ASCII.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Mismatch> {
    let value = bytes(headers, name)?;
    std::str::from_utf8(value).ok().filter(|text| text.is_ascii()).ok_or(Mismatch::Malformed)
}

/// The first of several names that is there, whatever it holds.
///
/// # Errors
///
/// Missing if none is.
pub(super) fn first<'n>(
    headers: &HeaderMap,
    mut names: impl Iterator<Item = &'n HeaderName>,
) -> Result<&'n HeaderName, Mismatch> {
    names.find(|name| headers.contains_key(*name)).ok_or(Mismatch::Missing)
}
