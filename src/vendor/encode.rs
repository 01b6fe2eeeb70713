//! Writes the `data` object of an event, in the order of the specification, straight into one buffer.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{
    Mapping, Plan, Reading,
    convert::Value,
    map::{IP_VERSION, REGION_ISO, Usage},
    unmapped::{Place, Redactor},
};
use crate::{
    identity::{
        VERSION,
        data::{Field, MEMBERS, Shape, member},
        time,
    },
    json::{Document, Kind, write},
    scheme::Assurance,
};

/// What proved that the event is the vendor's.
#[derive(Clone, Debug)]
pub struct Verification {
    pub method: &'static str,
    pub header: Option<String>,
    pub assurance: Assurance,
    /// The id of the secret that matched, if the operator gave it one.
    pub key_id: Option<std::sync::Arc<str>>,
}

macro_rules! constants {
    ($($name:ident = $path:literal;)*) => { $(const $name: Field = member($path);)* };
}
constants! {
    SCHEMA_VERSION = "version";
    EVENT = "event";
    RECEIVED_AT = "received_at";
    TIME_SOURCE = "time_source";
    OUTCOME = "outcome";
    SEVERITY = "severity";
    TEST = "test";
    TAGS = "tags";
    NAME = "vendor.name";
    VENDOR_EVENT = "vendor.event";
    MAPPING = "vendor.mapping";
    VERIFICATION = "vendor.verification";
    REDACTED = "vendor.redacted";
    RAW_SHA256 = "vendor.raw_sha256";
    RAW_BYTES = "vendor.raw_bytes";
    RAW = "vendor.raw";
    UNMAPPED = "unmapped";
}

/// Appends the event's `data` to `out`.
pub fn data(
    out: &mut Vec<u8>,
    plan: &Plan,
    reading: &Reading,
    document: &Document,
    received_at: Timestamp,
    verification: &Verification,
) {
    let mut redactor = Redactor::new(document, &plan.redactions);
    let mut unmapped = Vec::new();
    let is_object = document.kind(Document::ROOT) == Kind::Object;
    match (reading.mapping, reading.item) {
        _ if !is_object => unmapped.extend_from_slice(b"{}"),
        (Mapping::Passthrough, None) => redactor.whole(&mut unmapped, Document::ROOT, &Place::root()),
        (Mapping::Passthrough, item) => redactor.leftovers(&mut unmapped, &Usage::new(document), item),
        (Mapping::Full | Mapping::Partial, item) => redactor.leftovers(&mut unmapped, &reading.usage, item),
    }
    let mut raw = Vec::new();
    if plan.options.include_raw || !is_object {
        redactor.whole(&mut raw, Document::ROOT, &Place::root());
    }
    let mut encoder = Encoder { plan, reading, document, redactor, received_at, verification, unmapped, raw };
    let mut values = reading.values.iter().peekable();
    let mut nest = Nest::begin(out);
    for at in 0..MEMBERS.len() {
        // Unwrap safety: there are fewer than 256 members.
        let field = Field(u8::try_from(at).expect("a byte"));
        let value = values.next_if(|(known, _)| *known == field).map(|(_, value)| value);
        match value.filter(|_| {
            field != SEVERITY || !encoder.plan.options.severities.contains_key(&reading.event_type)
        }) {
            Some(value) => encoder.value(nest.member(field.path(MEMBERS)), value, &Place::root()),
            None if encoder.has(field) => encoder.constant(nest.member(field.path(MEMBERS)), field),
            None => {}
        }
    }
    nest.end();
}

struct Encoder<'a> {
    plan: &'a Plan,
    reading: &'a Reading,
    document: &'a Document,
    redactor: Redactor<'a>,
    received_at: Timestamp,
    verification: &'a Verification,
    unmapped: Vec<u8>,
    raw: Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// Whether a member has a value although no rule gave it one.
    fn has(&self, field: Field) -> bool {
        match field {
            REDACTED => self.redactor.redacted().len() > 0,
            RAW => !self.raw.is_empty(),
            OUTCOME | SEVERITY | TEST | TAGS => true,
            IP_VERSION | REGION_ISO => false,
            _ => field.shape(MEMBERS) == Shape::Constant,
        }
    }

    /// Writes what `has` promised.
    fn constant(&mut self, out: &mut Vec<u8>, field: Field) {
        let reading = self.reading;
        match field {
            SCHEMA_VERSION => write::string(out, VERSION),
            EVENT => write::string(out, reading.event_type.as_str()),
            RECEIVED_AT => {
                out.push(b'"');
                time::write_millis(out, self.received_at);
                out.push(b'"');
            }
            TIME_SOURCE => {
                write::string(out, if reading.occurred_at.is_some() { "vendor" } else { "received" })
            }
            OUTCOME => write::string(out, reading.event_type.outcome().as_str()),
            SEVERITY => {
                let severity = self.plan.options.severities.get(&reading.event_type).copied();
                write::string(out, severity.unwrap_or_else(|| reading.event_type.severity()).as_str());
            }
            TEST => out.extend_from_slice(b"false"),
            TAGS => out.extend_from_slice(b"{}"),
            NAME => write::string(out, &self.plan.vendor),
            VENDOR_EVENT => write::string(out, &reading.name),
            MAPPING => write::string(out, reading.mapping.as_str()),
            VERIFICATION => self.verification(out),
            REDACTED => {
                out.push(b'[');
                for pointer in self.redactor.redacted() {
                    write::comma(out);
                    write::string(out, pointer);
                }
                out.push(b']');
            }
            RAW_SHA256 => write::string(out, &hex::encode(Sha256::digest(self.document.text()))),
            RAW_BYTES => out.extend_from_slice(self.document.text().len().to_string().as_bytes()),
            RAW => out.append(&mut self.raw),
            UNMAPPED => out.append(&mut self.unmapped),
            // Unreachable by `has`; an empty text beats a panic.
            _ => write::string(out, ""),
        }
    }

    fn verification(&self, out: &mut Vec<u8>) {
        let verification = self.verification;
        let mut nest = Nest::begin(out);
        write::string(nest.member("method"), verification.method);
        if let Some(header) = &verification.header {
            write::string(nest.member("header"), header);
        }
        write::string(nest.member("assurance"), verification.assurance.as_str());
        if let Some(id) = &verification.key_id {
            write::string(nest.member("key_id"), id);
        }
        nest.end();
    }

    /// Writes a member's value; `place` is the element of the vendor's list it belongs to, or the document.
    fn value(&mut self, out: &mut Vec<u8>, value: &Value, place: &Place<'a>) {
        let document = self.document;
        match value {
            Value::Verbatim(at) => out.extend_from_slice(document.raw(*at).as_bytes()),
            Value::Json(at) => self.redactor.whole(out, *at, place),
            Value::Tags(at) => self.redactor.tags(out, *at, place),
            Value::Text(text) => write::string(out, text),
            Value::Word(word) => write::string(out, word),
            Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Value::Time(at) => {
                out.push(b'"');
                time::write(out, *at);
                out.push(b'"');
            }
            Value::Number(text) => out.extend_from_slice(text.as_bytes()),
            Value::List { array, members, elements } => {
                out.push(b'[');
                for (element, place) in elements.iter().zip(place.elements(document, *array)) {
                    write::comma(out);
                    let mut nest = Nest::begin(out);
                    for (field, value) in element {
                        self.value(nest.member(field.path(members)), value, &place);
                    }
                    nest.end();
                }
                out.push(b']');
            }
        }
    }
}

/// Writes members with dotted paths as objects inside objects.
struct Nest<'a> {
    out: &'a mut Vec<u8>,
    open: Vec<&'static str>,
}

impl<'a> Nest<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, open: Vec::new() }
    }

    /// Writes everything before the member's value.
    fn member(&mut self, path: &'static str) -> &mut Vec<u8> {
        let (parents, name) = path.rsplit_once('.').unwrap_or(("", path));
        let steps = || parents.split('.').filter(|step| !step.is_empty());
        let shared = self.open.iter().zip(steps()).take_while(|(open, step)| **open == *step).count();
        for _ in self.open.drain(shared..) {
            self.out.push(b'}');
        }
        for step in steps().skip(shared) {
            write::name(self.out, step);
            self.out.push(b'{');
            self.open.push(step);
        }
        write::name(self.out, name);
        self.out
    }

    fn end(self) {
        for _ in 0..=self.open.len() {
            self.out.push(b'}');
        }
    }
}
