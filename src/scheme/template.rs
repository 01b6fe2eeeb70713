//! What a vendor signs: literal text around the id, the time, the body, the URL and the method.

/// A template such as `{timestamp}.{body}`, read once.
pub(super) struct Template {
    parts: Vec<Part>,
    signs_url: bool,
}

#[derive(PartialEq)]
enum Part {
    Literal(String),
    Id,
    Timestamp,
    Body,
    Method,
}

/// What stands for the names in one request. The header's own text for id and time: a vendor signed that, not what we
/// make of it.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    pub id: &'a [u8],
    pub timestamp: &'a str,
    pub body: &'a [u8],
    pub method: &'a str,
}

impl Template {
    /// `{body}`.
    pub(super) fn body() -> Self {
        Self { parts: vec![Part::Body], signs_url: false }
    }

    /// `{id}.{timestamp}.{body}`.
    pub(super) fn standard_webhooks() -> Self {
        let dot = || Part::Literal(".".to_owned());
        Self { parts: vec![Part::Id, dot(), Part::Timestamp, dot(), Part::Body], signs_url: false }
    }

    /// Reads a template; `url` stands for `{url}`.
    ///
    /// # Errors
    ///
    /// A sentence on what is wrong with it.
    pub(super) fn parse(text: &str, url: &str) -> Result<Self, &'static str> {
        const UNKNOWN: &str = "knows {id}, {timestamp}, {body}, {url} and {method}; braces have no other use";
        let mut parts = Vec::new();
        let mut signs_url = false;
        let mut rest = text;
        while !rest.is_empty() {
            let (literal, tail) = rest.split_at(rest.find(['{', '}']).unwrap_or(rest.len()));
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            let Some(tail) = tail.strip_prefix('{') else {
                if tail.is_empty() {
                    break;
                }
                return Err(UNKNOWN);
            };
            let (name, tail) = tail.split_once('}').ok_or(UNKNOWN)?;
            parts.push(match name {
                "id" => Part::Id,
                "timestamp" => Part::Timestamp,
                "body" => Part::Body,
                "method" => Part::Method,
                "url" => {
                    signs_url = true;
                    Part::Literal(url.to_owned())
                }
                _ => return Err(UNKNOWN),
            });
            rest = tail;
        }
        if parts.is_empty() {
            Err("is empty: nothing would be signed")
        } else {
            Ok(Self { parts, signs_url })
        }
    }

    pub(super) fn signs_id(&self) -> bool {
        self.parts.contains(&Part::Id)
    }

    pub(super) fn signs_timestamp(&self) -> bool {
        self.parts.contains(&Part::Timestamp)
    }

    pub(super) fn signs_body(&self) -> bool {
        self.parts.contains(&Part::Body)
    }

    pub(super) fn signs_url(&self) -> bool {
        self.signs_url
    }

    /// The signed bytes, piece by piece.
    pub(super) fn pieces<'a>(&'a self, values: Values<'a>) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.parts.iter().map(move |part| match part {
            Part::Literal(text) => text.as_bytes(),
            Part::Id => values.id,
            Part::Timestamp => values.timestamp.as_bytes(),
            Part::Body => values.body,
            Part::Method => values.method.as_bytes(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in() {
        let values = Values { id: b"msg_1", timestamp: "007", body: b"{id}", method: "POST" };
        for (text, expected) in [
            ("{body}", "{id}"),
            ("{timestamp}.{body}", "007.{id}"),
            ("v0:{timestamp}:{body}", "v0:007:{id}"),
            ("{id}.{timestamp}.{body}", "msg_1.007.{id}"),
            ("{url}{body}", "https://x.example/{id}"),
            ("{method} {url}\n", "POST https://x.example/\n"),
            ("constant", "constant"),
        ] {
            let template = Template::parse(text, "https://x.example/").ok().unwrap();
            assert_eq!(template.pieces(values).collect::<Vec<_>>().concat(), expected.as_bytes());
            assert_eq!(template.signs_body(), text.contains("{body}"));
            assert_eq!(template.signs_url(), text.contains("{url}"));
        }
        for text in ["", "{secret}", "{body", "body}", "{}", "{{body}}", "{Body}"] {
            assert!(Template::parse(text, "").is_err(), "{text}");
        }
    }
}
