//! Header fields whose values stand one behind the other in one buffer: a request of two dozen takes three allocations.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Fields that are being gathered, each name once.
#[derive(Clone, Default)]
pub struct Fields {
    text: Vec<u8>,
    /// Each name, and where its value ends.
    ends: Vec<(HeaderName, usize)>,
}

impl Fields {
    #[must_use]
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), ends: Vec::with_capacity(fields) }
    }

    /// Adds a field; `write` appends its value.
    pub fn add(&mut self, name: &HeaderName, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.text);
        self.ends.push((name.clone(), self.text.len()));
    }

    /// Adds a field.
    pub fn text(&mut self, name: &HeaderName, text: &str) {
        self.add(name, |out| out.extend_from_slice(text.as_bytes()));
    }

    /// The fields as headers, with room for `more`. Left out is what no header can hold.
    #[must_use]
    pub fn into_headers(self, more: usize) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.ends.len() + more);
        let text = Bytes::from(self.text);
        let mut start = 0;
        for (name, end) in self.ends {
            if let Ok(value) = HeaderValue::from_maybe_shared(text.slice(start..end)) {
                headers.insert(name, value);
            }
            start = end;
        }
        headers
    }
}

/// Shows how many: values may hold a signature.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fields({})", self.ends.len())
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HOST, VIA};

    use super::*;

    #[test]
    fn each_value_is_its_own_and_what_is_none_is_left_out() {
        let mut fields = Fields::with_capacity(3, 0);
        fields.text(&HOST, "a");
        fields.text(&VIA, "canary\n");
        fields.add(&HeaderName::from_static("x"), |out| out.extend_from_slice(b"bc"));
        assert_eq!(format!("{fields:?}"), "Fields(3)");
        let headers = fields.into_headers(1);
        assert_eq!(
            (headers.len(), &headers[HOST], &headers["x"]),
            (2, &"a".parse().unwrap(), &"bc".parse().unwrap())
        );
        assert!(Fields::default().into_headers(0).is_empty());
    }
}
