//! The CloudEvents 1.0 envelope: structured (one JSON document) and binary (`ce-*` headers). Identity event §2.

use std::borrow::Cow;

use bytes::Bytes;
use http::HeaderValue;
use jiff::Timestamp;

use crate::{
    fields::Fields,
    identity::{EventId, is_attribute, time},
    json::{Document, Malformed, write},
    scheme::Assurance,
    vendor::Reading,
};

/// Content type of an event in structured mode.
pub const STRUCTURED: HeaderValue = HeaderValue::from_static("application/cloudevents+json; charset=utf-8");

/// Room for the attributes of an event.
const CONTEXT_BYTES: usize = 1024;

/// What a source puts into all its events.
#[derive(Clone, Debug)]
pub struct Origin {
    /// CloudEvents `source`: with the id, what makes an event unique.
    pub source: String,
    /// What stands before the short type, without the dot.
    pub type_prefix: String,
    /// Where the schema of `data` is served, if the gateway knows its own address.
    pub dataschema: Option<String>,
    pub vendor: String,
}

/// The attributes of one event.
#[derive(Debug)]
pub struct Envelope<'a> {
    pub origin: &'a Origin,
    pub id: EventId,
    pub reading: &'a Reading,
    pub received_at: Timestamp,
    pub assurance: Assurance,
    pub traceparent: &'a str,
}

impl Envelope<'_> {
    /// The event in structured mode; `data` writes the data object.
    pub fn structured(&self, capacity: usize, data: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = self.context(capacity);
        write::name(&mut out, "data");
        data(&mut out);
        out.push(b'}');
        out
    }

    /// All but the data, as a JSON object: from it [`Context`] makes either form.
    #[must_use]
    pub fn context_object(&self) -> Vec<u8> {
        let mut out = self.context(CONTEXT_BYTES);
        out.push(b'}');
        out
    }

    /// The beginning of the event in structured mode, without a brace at its end.
    fn context(&self, capacity: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(capacity);
        out.push(b'{');
        self.attributes(|attribute, value| {
            write::name(&mut out, attribute.name);
            match value {
                Value::Text(text) => write::string(&mut out, text),
                Value::True => out.extend_from_slice(b"true"),
            }
            if attribute.name == TIME.name {
                write::name(&mut out, "datacontenttype");
                write::string(&mut out, "application/json");
                if let Some(schema) = &self.origin.dataschema {
                    write::name(&mut out, DATASCHEMA.name);
                    write::string(&mut out, schema);
                }
            }
        });
        out
    }

    /// The attributes as headers (CloudEvents HTTP binding §3.1.3). Of the data they say no more than the body itself:
    /// no `datacontenttype`, and a `dataschema` only if the body is the data object.
    pub fn binary(&self, fields: &mut Fields, body_is_data: bool) {
        let schema = self.origin.dataschema.as_deref().filter(|_| body_is_data);
        self.attributes(|attribute, value| {
            match value {
                Value::Text(text) => attribute.put(fields, text),
                Value::True => attribute.put(fields, "true"),
            }
            // Where it stands in the object, too.
            if let Some(schema) = schema.filter(|_| attribute.name == TIME.name) {
                DATASCHEMA.put(fields, schema);
            }
        });
    }

    /// Every attribute but those that speak of the data, in the order of the specification.
    fn attributes(&self, mut put: impl FnMut(&'static Attribute, Value<'_>)) {
        let reading = self.reading;
        let id = self.id.text();
        let mut text = |attribute, text: &str| put(attribute, Value::Text(text));
        text(&SPECVERSION, "1.0");
        text(&ID, &id);
        text(&SOURCE, &self.origin.source);
        text(&TYPE, &[&*self.origin.type_prefix, ".", reading.event_type.as_str()].concat());
        if let Some(subject) = &reading.subject {
            text(&SUBJECT, subject);
        }
        let received = time::millis(self.received_at);
        text(&TIME, &reading.occurred_at.map_or(received, time::text));
        text(&RECORDEDTIME, &received);
        text(&PARTITIONKEY, reading.partition_key.as_deref().unwrap_or(&id));
        if let Some(id) = &reading.correlation_id {
            text(&CORRELATIONID, id);
        }
        text(&TRACEPARENT, self.traceparent);
        text(&HWVENDOR, &self.origin.vendor);
        text(&HWVENDOREVENT, plain(&reading.name));
        text(&HWASSURANCE, self.assurance.as_str());
        if reading.test {
            put(&HWTEST, Value::True);
        }
    }
}

/// The context of an event that was stored: what [`Envelope::context_object`] made.
#[derive(Debug)]
pub struct Context {
    /// A JSON object.
    attributes: Document,
    /// Whether an operator has asked for it again.
    replay: bool,
}

impl Context {
    /// Reads the object; `replay` if an operator has asked for the event again.
    ///
    /// # Errors
    ///
    /// It is not what was stored.
    pub fn read(attributes: &Bytes, replay: bool) -> Result<Self, Malformed> {
        Ok(Self { attributes: Document::parse(attributes.clone())?, replay })
    }

    /// The event in structured mode.
    #[must_use]
    pub fn structured(&self, data: &[u8]) -> Vec<u8> {
        let attributes = self.attributes.text();
        let mut out = Vec::with_capacity(attributes.len() + data.len() + 32);
        out.extend_from_slice(attributes.strip_suffix(b"}").unwrap_or_default());
        if self.replay {
            write::name(&mut out, HWREPLAY.name);
            out.extend_from_slice(b"true");
        }
        write::name(&mut out, "data");
        out.extend_from_slice(data);
        out.push(b'}');
        out
    }

    /// The attributes as headers, as [`Envelope::binary`] writes them.
    pub fn binary(&self, fields: &mut Fields, body_is_data: bool) {
        let document = &self.attributes;
        // They stand in their order, as far as they are there.
        let mut rest = ATTRIBUTES;
        for (name, value) in document.members(Document::ROOT) {
            let known = [rest, ATTRIBUTES].into_iter().find_map(|among| {
                let at = among.iter().position(|known| document.is_named(name, known.name))?;
                Some(&among[at..])
            });
            let Some([attribute, after @ ..]) = known else { continue };
            rest = after;
            if body_is_data || attribute.name != DATASCHEMA.name {
                // All are texts, but for `hwtest`, which is true.
                attribute.put(fields, &document.string(value).unwrap_or_else(|| document.raw(value).into()));
            }
        }
        if self.replay {
            HWREPLAY.put(fields, "true");
        }
    }

    /// One attribute, if it is there.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        self.attributes.string(self.attributes.member(Document::ROOT, name)?)
    }
}

/// An attribute that may become a header.
struct Attribute {
    name: &'static str,
    header: &'static str,
}

macro_rules! attributes {
    ($($attribute:ident: $name:literal;)*) => {
        $(static $attribute: Attribute = Attribute { name: $name, header: concat!("ce-", $name) };)*

        static ATTRIBUTES: &[&Attribute] = &[$(&$attribute),*];
    };
}

// `hwreplay` marks what an operator has asked for again.
attributes! {
    SPECVERSION: "specversion";
    ID: "id";
    SOURCE: "source";
    TYPE: "type";
    SUBJECT: "subject";
    TIME: "time";
    DATASCHEMA: "dataschema";
    RECORDEDTIME: "recordedtime";
    PARTITIONKEY: "partitionkey";
    CORRELATIONID: "correlationid";
    TRACEPARENT: "traceparent";
    HWVENDOR: "hwvendor";
    HWVENDOREVENT: "hwvendorevent";
    HWASSURANCE: "hwassurance";
    HWTEST: "hwtest";
    HWREPLAY: "hwreplay";
}

impl Attribute {
    fn put(&self, fields: &mut Fields, text: &str) {
        fields.encoded(self.header, text);
    }
}

enum Value<'a> {
    Text(&'a str),
    True,
}

/// A vendor's event name as an attribute; the name itself stands in `data.vendor.event`.
fn plain(name: &str) -> &str {
    if !name.is_empty() && is_attribute(name) { name } else { "unknown" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_attribute_may_hold_stay_out() {
        for name in ["login\r\nx: y", "", "a\u{85}", "a\u{fdd0}", "a\u{fffe}", "\u{1ffff}b"] {
            assert_eq!(plain(name), "unknown", "{name:?}");
        }
        assert_eq!(plain("\u{fffd}\u{e000}"), "\u{fffd}\u{e000}");
        assert_eq!(plain("login"), "login");
    }
}
