//! Writes the `data` object of an event, in the order of the specification, straight into one buffer.

use http::HeaderName;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{
    Extent, Mapping, Plan, Reading,
    convert::Value,
    map::Usage,
    unmapped::{Place, Redactor},
    values::Kept,
};
use crate::{
    identity::{
        VERSION,
        data::{Field, MEMBERS, Member, Parent, member},
        time,
    },
    json::{Document, Kind, write},
    scheme::Assurance,
};

/// What proved that the event is the vendor's.
#[derive(Clone, Debug)]
pub struct Verification {
    pub method: &'static str,
    pub header: Option<HeaderName>,
    pub assurance: Assurance,
    /// The id of the secret that matched, if the operator gave it one.
    pub key_id: Option<std::sync::Arc<str>>,
    /// SHA-256 of the body, if it was made on the way.
    pub body_sha256: Option<[u8; 32]>,
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

/// The members that have a value although no rule gave them one, in their order; the last member is one of them.
const OWN: [Field; 17] = [
    SCHEMA_VERSION,
    EVENT,
    RECEIVED_AT,
    TIME_SOURCE,
    OUTCOME,
    SEVERITY,
    TEST,
    TAGS,
    NAME,
    VENDOR_EVENT,
    MAPPING,
    VERIFICATION,
    REDACTED,
    RAW_SHA256,
    RAW_BYTES,
    RAW,
    UNMAPPED,
];

/// Appends the event's `data` to `out`; it was read to that extent.
pub fn data(
    out: &mut Vec<u8>,
    plan: &Plan,
    reading: &Reading,
    document: &Document,
    received_at: Timestamp,
    verification: &Verification,
) {
    debug_assert_eq!(reading.extent, Extent::Data);
    let mut redactor = Redactor::new(document, &plan.redactions);
    let mut unmapped = Vec::new();
    let is_object = document.kind(Document::ROOT) == Kind::Object;
    match (reading.mapping, reading.item) {
        _ if !is_object => unmapped.extend_from_slice(b"{}"),
        (Mapping::Passthrough, None) => redactor.whole(&mut unmapped, Document::ROOT, Place::ROOT),
        (Mapping::Passthrough, item) => redactor.leftovers(&mut unmapped, &Usage::new(document), item),
        (Mapping::Full | Mapping::Partial, item) => redactor.leftovers(&mut unmapped, &reading.usage, item),
    }
    let mut raw = Vec::new();
    if plan.options.include_raw || !is_object {
        redactor.whole(&mut raw, Document::ROOT, Place::ROOT);
    }
    let mut encoder = Encoder { plan, reading, document, redactor, received_at, verification, unmapped, raw };
    let mut values = reading.values.iter().peekable();
    let mut nest = Nest::begin(out);
    for own in OWN {
        // What the vendor's values have is in the order of the members, too.
        while let Some((field, value)) = values.next_if(|(field, _)| *field < own) {
            encoder.value(nest.member(field.of(MEMBERS)), value, Place::ROOT);
        }
        let overridden = own == SEVERITY && plan.options.severities.contains_key(&reading.event_type);
        match values.next_if(|(field, _)| *field == own).filter(|_| !overridden) {
            Some((_, value)) => encoder.value(nest.member(own.of(MEMBERS)), value, Place::ROOT),
            None if encoder.has(own) => encoder.constant(nest.member(own.of(MEMBERS)), own),
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
    /// Whether one of `OWN` has something to say.
    fn has(&self, field: Field) -> bool {
        match field {
            REDACTED => self.redactor.redacted().len() > 0,
            RAW => !self.raw.is_empty(),
            _ => true,
        }
    }

    /// Writes what `has` promised.
    fn constant(&mut self, out: &mut Vec<u8>, field: Field) {
        let reading = self.reading;
        match field {
            SCHEMA_VERSION => write::string(out, VERSION),
            EVENT => write::string(out, reading.event_type.as_str()),
            RECEIVED_AT => write::string(out, &time::millis(self.received_at)),
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
            RAW_SHA256 => {
                let made = || Sha256::digest(self.document.text()).into();
                let sum = self.verification.body_sha256.unwrap_or_else(made);
                let mut text = [0; 64];
                // Unwrap safety: two digits for each of 32 bytes.
                hex::encode_to_slice(sum, &mut text).expect("64 bytes");
                out.push(b'"');
                out.extend_from_slice(&text);
                out.push(b'"');
            }
            RAW_BYTES => out.extend_from_slice(self.document.text().len().to_string().as_bytes()),
            RAW => out.append(&mut self.raw),
            UNMAPPED => out.append(&mut self.unmapped),
            // None of `OWN`; an empty text beats a panic.
            _ => write::string(out, ""),
        }
    }

    fn verification(&self, out: &mut Vec<u8>) {
        let verification = self.verification;
        out.push(b'{');
        let mut text = |name, text| {
            write::name(out, name);
            write::string(out, text);
        };
        text("method", verification.method);
        if let Some(header) = &verification.header {
            text("header", header.as_str());
        }
        text("assurance", verification.assurance.as_str());
        if let Some(id) = &verification.key_id {
            text("key_id", id);
        }
        out.push(b'}');
    }

    /// Writes a member's value; `place` is the element of the vendor's list it belongs to, or the document.
    fn value(&mut self, out: &mut Vec<u8>, value: Kept<'_>, place: Place<'_>) {
        match value {
            Kept::Verbatim(at) => out.extend_from_slice(self.document.raw_bytes(at)),
            Kept::Made(value) => self.made(out, value, place),
        }
    }

    fn made(&mut self, out: &mut Vec<u8>, value: &Value, place: Place<'_>) {
        let document = self.document;
        match value {
            Value::Verbatim(at) => out.extend_from_slice(document.raw_bytes(*at)),
            Value::Json(at) => self.redactor.whole(out, *at, place),
            Value::Tags(at) => self.redactor.tags(out, *at, place),
            Value::Text(text) => write::string(out, text),
            Value::Word(word) => write::string(out, word),
            Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Value::Time(_, Some(at)) => out.extend_from_slice(document.raw_bytes(*at)),
            Value::Time(at, None) => write::string(out, &time::text(*at)),
            Value::Number(text) => out.extend_from_slice(text.as_bytes()),
            Value::List(list) => {
                out.push(b'[');
                let above = self.redactor.path_to(place, list.array);
                let mut values = list.values.iter();
                let mut written = 0;
                for ((nth, at), end) in (0..).zip(document.elements(list.array)).zip(&list.ends) {
                    write::comma(out);
                    let place = Place { at, above: &above, nth: Some(nth) };
                    let mut nest = Nest::begin(out);
                    for (field, value) in values.by_ref().take(end - written) {
                        self.value(nest.member(field.of(list.members)), value, place);
                    }
                    nest.end();
                    written = *end;
                }
                out.push(b']');
            }
        }
    }
}

/// Writes members with dotted paths as objects inside objects.
struct Nest<'a> {
    out: &'a mut Vec<u8>,
    /// What is open.
    parent: Parent,
    /// Nothing stands in it yet.
    first: bool,
}

impl<'a> Nest<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, parent: Parent::TOP, first: true }
    }

    /// Writes everything before the member's value.
    fn member(&mut self, member: &'static Member) -> &mut Vec<u8> {
        if member.parent != self.parent {
            self.enter(member.parent);
        }
        member.key.write(self.out, self.first);
        self.first = false;
        self.out
    }

    #[inline(never)]
    fn enter(&mut self, parent: Parent) {
        let (mut open, mut wanted) = (steps(self.parent).peekable(), steps(parent).peekable());
        while open.next_if(|step| wanted.peek() == Some(step)).is_some() {
            wanted.next();
        }
        open.for_each(|_| self.out.push(b'}'));
        for step in wanted {
            write::comma(self.out);
            self.out.push(b'"');
            self.out.extend_from_slice(step);
            self.out.extend_from_slice(b"\":{");
            self.first = true;
        }
        self.parent = parent;
    }

    fn end(mut self) {
        self.enter(Parent::TOP);
        self.out.push(b'}');
    }
}

fn steps(parent: Parent) -> impl Iterator<Item = &'static [u8]> {
    parent.path.as_bytes().split(|byte| *byte == b'.').filter(|step| !step.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::data::Shape;

    #[test]
    fn objects_are_opened_and_closed_where_paths_part() {
        let mut out = Vec::new();
        let mut nest = Nest::begin(&mut out);
        for path in [
            "approval.id",
            "approval.group.id",
            "approval.group.name",
            "approval.approver.id",
            "approval.requestor",
            "device.os.name",
            "device.browser.name",
            "tags",
            "vendor.name",
        ] {
            nest.member(member(path).of(MEMBERS)).push(b'1');
        }
        nest.end();
        let expected = r#"{"approval":{"id":1,"group":{"id":1,"name":1},"approver":{"id":1},"requestor":1},"device":{"os":{"name":1},"browser":{"name":1}},"tags":1,"vendor":{"name":1}}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_is_ours_is_in_order_and_complete() {
        assert!(OWN.is_sorted());
        let constants = (0..).zip(MEMBERS).filter(|(_, member)| member.shape == Shape::Constant);
        let theirs = [member("network.ip_version"), member("geo.region_iso")];
        assert!(
            constants.map(|(at, _)| Field(at)).all(|field| OWN.contains(&field) || theirs.contains(&field))
        );
        assert_eq!(OWN.last().map(|field| usize::from(field.0)), Some(MEMBERS.len() - 1));
    }
}
