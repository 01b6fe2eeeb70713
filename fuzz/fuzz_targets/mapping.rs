//! Bodies, from the strict parser to the CloudEvents envelope: the parser agrees with serde_json, whatever it takes
//! becomes events of the published schema with the same id each time, and no secret is among what is written.
//!
//! An input is one byte (which vendor) and the body.

#![no_main]

use std::{sync::LazyLock, time::Duration};

use bytes::Bytes;
use hookwarden::{
    clock::Clock,
    cloudevent::{Context, Envelope, Origin},
    fields::Fields,
    identity::{EventId, schema},
    json::{DEPTH_MAX, Document, Index, Kind},
    scheme::Assurance,
    store::Memory,
    vendor::{BUILTIN, Extent, Identity, Options, Plan, Reading, builtin, encode, format::VendorFile},
};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, value::RawValue};

const RECEIVED_AT: Timestamp = Timestamp::constant(1_770_111_000, 118_000_000);
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// As the value of a member with a secret's name it must be nowhere in what comes out.
const CANARY: &str = "dummy-canary";

/// Deliveries of several events, windows, templates: what no built-in vendor has.
const CUSTOM: &str = r#"
    title = "Custom"
    items = "/data/events"
    id = ["event", "/data/events/*/uuid"]
    verify = { scheme = "none" }
    name = [{ name = "{/data/events/*/eventType}" }, { name = "{/type}" }]
    map.all."subject.id" = "/data/events/*/actor/id"
    map.all."subject.email" = "/data/events/*/actor/email"
    map.all."vendor.delivery_id" = "/eventId"
    map.all."occurred_at" = "/data/events/*/at"
    event = [{ match = ["user.session.*"], type = "session.login", maps = ["all"], required = ["/eventId"] }]
"#;

struct Vendor {
    name: &'static str,
    plan: Plan,
}

static VENDORS: LazyLock<Vec<Vendor>> = LazyLock::new(|| {
    let compiled = |name, file: &VendorFile, options| Vendor {
        name,
        plan: Plan::compile(name, file, options).expect("it compiles"),
    };
    let built_in = |name| builtin(name).expect("built in");
    let mut vendors: Vec<Vendor> =
        BUILTIN.iter().map(|(name, _)| compiled(name, &built_in(name), Options::default())).collect();
    vendors.push(compiled("custom", &toml::from_str(CUSTOM).expect("a vendor file"), Options::default()));
    let options = Options {
        include_raw: true,
        extra_redactions: vec!["/transactions/*/message".into(), "/requestor".into()],
        ..Options::default()
    };
    vendors.push(compiled("sendauth", &built_in("sendauth"), options));
    vendors
});

static SCHEMA: LazyLock<Value> = LazyLock::new(|| schema::data(None));

fn agrees_with_serde_json(body: &Bytes) -> Option<Document> {
    let theirs = str::from_utf8(body).is_ok_and(|text| serde_json::from_str::<&RawValue>(text).is_ok());
    match Document::parse(body.clone()) {
        Ok(document) => {
            assert!(theirs, "taken, and serde_json does not");
            assert_eq!(document.raw(Document::ROOT).as_bytes(), body.trim_ascii());
            Some(document)
        }
        Err(malformed) => {
            // The one difference: serde_json passes over text of any depth.
            let too_deep = malformed.what == "nested too deep" && body.len() > DEPTH_MAX;
            assert!(!theirs || too_deep, "refused, and serde_json takes it: {malformed}");
            assert!(malformed.at <= body.len());
            None
        }
    }
}

fn attributes(reading: &Reading) -> impl PartialEq {
    let Reading { event_type, name, subject, correlation_id, partition_key, occurred_at, test, .. } = reading;
    (
        *event_type,
        name.clone(),
        [subject, correlation_id, partition_key].map(Clone::clone),
        *occurred_at,
        *test,
    )
}

fn id(reading: &Reading) -> EventId {
    match &reading.identity {
        Identity::Fixed(id) => *id,
        Identity::Windowed(windowed) => {
            let store = Memory::new(1, Default::default(), &Clock::manual(RECEIVED_AT));
            let (id, window) = store.windowed_id(windowed, 0);
            assert!(windowed.width > Duration::ZERO && window.is_some());
            id
        }
    }
}

fn event(vendor: &Vendor, document: &Document, reading: &Reading, canaries: bool) {
    let base = "https://hooks.example.com";
    let origin = Origin {
        source: format!("{base}/{}/main", vendor.name),
        type_prefix: "dev.hookwarden".into(),
        dataschema: Some(format!("{base}/schema.json")),
        vendor: vendor.name.into(),
    };
    let verification = encode::Verification {
        method: "none",
        header: None,
        assurance: Assurance::Signed,
        key_id: None,
        body_sha256: None,
    };
    let envelope = Envelope {
        origin: &origin,
        id: id(reading),
        reading,
        received_at: RECEIVED_AT,
        assurance: verification.assurance,
        traceparent: TRACEPARENT,
    };
    let mut data = Vec::new();
    encode::data(&mut data, &vendor.plan, reading, document, RECEIVED_AT, &verification);
    let whole = envelope.structured(0, |out| out.extend_from_slice(&data));
    let text = str::from_utf8(&whole).expect("UTF-8");
    serde_json::from_str::<&RawValue>(text).expect("one JSON document");
    assert!(canaries || !text.contains(CANARY), "a secret: {text}");
    if let Ok(data) = serde_json::from_str(str::from_utf8(&data).expect("UTF-8")) {
        conforms(&data, &SCHEMA, "data");
    }
    match Document::parse(whole.clone().into()) {
        Ok(document) => {
            let id = document.member(Document::ROOT, "id").and_then(|at| document.string(at)).expect("an id");
            let digits = id.strip_prefix("hw1_").expect("ours");
            assert!(
                digits.len() == 32 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            );
            assert_eq!(EventId::parse(&id), Some(envelope.id));
        }
        Err(malformed) => assert_eq!(malformed.what, "nested too deep"),
    }
    what_is_stored_is_sent_alike(&envelope, &data, &whole);
}

/// An event that went by way of the inbox is the same event.
fn what_is_stored_is_sent_alike(envelope: &Envelope<'_>, data: &[u8], whole: &[u8]) {
    let attributes = Bytes::from(envelope.context_object());
    let context = Context::read(&attributes, false).expect("one JSON document");
    assert_eq!(context.structured(data), whole);
    for body_is_data in [true, false] {
        let (mut direct, mut stored) = (Fields::default(), Fields::default());
        envelope.binary(&mut direct, body_is_data);
        context.binary(&mut stored, body_is_data);
        assert_eq!(direct.as_bytes(), stored.as_bytes());
    }
    let attributes = Document::parse(attributes).expect("one JSON document");
    for (name, value) in attributes.members(Document::ROOT) {
        let name = attributes.string(name).expect("a name");
        assert!(attributes.member(Document::ROOT, &name).is_some(), "{name} stands twice");
        let text = attributes.string(value);
        assert!(text.is_none_or(|text| !text.is_empty() && !text.contains(char::is_control)), "{name}");
    }
}

/// Whether the canary stands anywhere but in the value of a member called `password`.
fn canary_is_no_secret(document: &Document) -> bool {
    fn outside(document: &Document, at: Index) -> usize {
        let count = |at| document.raw(at).matches(CANARY).count();
        match document.kind(at) {
            Kind::Object => {
                let member = |(name, value)| {
                    let hidden = document.raw(name) == "\"password\""
                        && matches!(document.kind(value), Kind::Plain | Kind::Escaped);
                    count(name) + if hidden { 0 } else { outside(document, value) }
                };
                document.members(at).map(member).sum()
            }
            Kind::Array => document.elements(at).map(|at| outside(document, at)).sum(),
            _ => document.scalar(at).map_or(0, |text| text.matches(CANARY).count()),
        }
    }
    outside(document, Document::ROOT) > 0
}

/// What ours uses of JSON Schema.
fn conforms(value: &Value, schema: &Value, at: &str) {
    let Some(schema) = schema.as_object() else { return };
    for (key, wanted) in schema {
        let holds = match key.as_str() {
            "enum" => wanted.as_array().expect("a list").contains(value),
            "const" => value == wanted,
            "type" => match wanted {
                Value::Array(names) => names.iter().any(|name| is_type(value, name)),
                name => is_type(value, name),
            },
            "minimum" => value.as_f64() >= wanted.as_f64(),
            "maximum" => value.as_f64() <= wanted.as_f64(),
            "minLength" => value.as_str().is_some_and(|text| !text.is_empty()),
            "pattern" => value.as_str().is_some_and(|text| fits(text, wanted.as_str().expect("a pattern"))),
            "format" => {
                value.as_str().is_some_and(|text| text.len() > 19 && text.parse::<Timestamp>().is_ok())
            }
            "anyOf" => value.as_str().is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok()),
            "required" => wanted
                .as_array()
                .into_iter()
                .flatten()
                .all(|name| value.get(name.as_str().expect("a name")).is_some()),
            "properties" => {
                let known = wanted.as_object().expect("a table");
                for (name, value) in value.as_object().expect("an object") {
                    conforms(
                        value,
                        known.get(name).expect("only what the schema has"),
                        &format!("{at}/{name}"),
                    );
                }
                true
            }
            "items" => {
                value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .for_each(|element| conforms(element, wanted, &format!("{at}/*")));
                true
            }
            "additionalProperties" if wanted.is_object() => {
                value.as_object().is_some_and(|tags| tags.values().all(Value::is_string))
            }
            "additionalProperties" | "$schema" | "title" => true,
            other => panic!("{other}"),
        };
        assert!(holds, "{at}: {value} is against {key}: {wanted}");
    }
}

fn is_type(value: &Value, name: &Value) -> bool {
    match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_u64(),
        other => panic!("{other:?}"),
    }
}

fn fits(text: &str, pattern: &str) -> bool {
    let is = |text: &str, lengths: std::ops::RangeInclusive<usize>, class: fn(&u8) -> bool| {
        lengths.contains(&text.len()) && text.as_bytes().iter().all(class)
    };
    let code = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    match pattern {
        "Z$" => text.ends_with('Z'),
        "^/" => text.starts_with('/'),
        "^[A-Za-z]" => text.starts_with(|first: char| first.is_ascii_alphabetic()),
        "^[A-Z]{2}$" => is(text, 2..=2, u8::is_ascii_uppercase),
        "^[A-Z]{2}-[A-Z0-9]{1,3}$" => text.split_once('-').is_some_and(|(country, region)| {
            is(country, 2..=2, u8::is_ascii_uppercase) && is(region, 1..=3, code)
        }),
        "^[0-9a-f]{64}$" => is(text, 64..=64, u8::is_ascii_hexdigit),
        other => panic!("{other}"),
    }
}

fuzz_target!(|input: &[u8]| {
    let [vendor, body @ ..] = input else { return };
    let vendor = &VENDORS[usize::from(*vendor) % VENDORS.len()];
    let Some(document) = agrees_with_serde_json(&Bytes::copy_from_slice(body)) else { return };
    let Ok(readings) = vendor.plan.read(&document, Extent::Data) else { return };
    let alone = vendor.plan.read(&document, Extent::Attributes).expect("read before");
    assert!(readings.iter().map(id).eq(alone.iter().map(id)), "another id");
    assert!(readings.iter().map(attributes).eq(alone.iter().map(attributes)), "other attributes");
    let canaries = canary_is_no_secret(&document);
    readings.iter().for_each(|reading| event(vendor, &document, reading, canaries));
});
