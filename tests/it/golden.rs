//! Every row of the vendors' tables: what is sent (`tests/vendors/*/*.http`) and the whole event that must come out.

use std::{collections::BTreeMap, fs, path::Path};

use bytes::Bytes;
use hookwarden::{
    cloudevent::{Envelope, Origin},
    json::Document,
    scheme::Assurance,
    store::Memory,
    vendor::{BUILTIN, Extent, Identity, Options, Plan, builtin, encode},
};
use serde_json::Value;

const RECEIVED_AT: &str = "2026-02-03T09:30:00.118Z";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What the generated files say of each vendor's verification: method, header, assurance.
fn verification(vendor: &str) -> encode::Verification {
    let (method, header, assurance) = match vendor {
        "sendauth" => ("sha256-secret-prefix", "x-sendauth-signature", Assurance::SignedWeak),
        "loginradius" => ("hmac-sha256", "signature", Assurance::Signed),
        "zenlogin" => ("hmac-sha256-url", "x-signature", Assurance::SharedSecret),
        "authpi" => ("hmac-sha256", "x-webhook-signature", Assurance::Signed),
        "authalert" => ("shared-secret", "x-authalert-secret", Assurance::SharedSecret),
        other => panic!("no such vendor: {other}"),
    };
    encode::Verification {
        method,
        header: Some(http::HeaderName::from_static(header)),
        assurance,
        key_id: None,
        body_sha256: None,
    }
}

fn event(vendor: &str, plan: &Plan, body: &[u8]) -> Vec<u8> {
    let received_at = RECEIVED_AT.parse().expect("a time");
    let clock = hookwarden::clock::Clock::manual(received_at);
    let document = Document::parse(Bytes::copy_from_slice(body)).expect("JSON");
    let readings = plan.read(&document, Extent::Data).expect("readable");
    let [reading] = readings.as_slice() else { panic!("one event") };
    let id = match &reading.identity {
        Identity::Fixed(id) => *id,
        Identity::Windowed(windowed) => Memory::new(1, Default::default(), &clock).windowed_id(windowed, 0).0,
    };
    let origin = Origin {
        source: format!("https://hooks.example.com/{vendor}/main"),
        type_prefix: "dev.hookwarden".into(),
        dataschema: Some("https://hooks.example.com/.well-known/hookwarden/identity-event/1.0.json".into()),
        vendor: vendor.into(),
    };
    let verification = verification(vendor);
    let envelope = Envelope {
        origin: &origin,
        id,
        reading,
        received_at,
        assurance: verification.assurance,
        traceparent: TRACEPARENT,
    };
    envelope.structured(0, |out| encode::data(out, plan, reading, &document, received_at, &verification))
}

#[test]
fn every_delivery_becomes_the_event_it_should() {
    let schema = hookwarden::identity::schema::data(None);
    let mut seen = BTreeMap::new();
    let mut wrong = Vec::new();
    for (vendor, _) in BUILTIN {
        let plan =
            Plan::compile(vendor, &builtin(vendor).expect("built in"), Options::default()).expect("compiles");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vendors").join(vendor);
        for entry in fs::read_dir(&folder).expect("the vendor's folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "http") {
                continue;
            }
            let request = fs::read(&path).expect("readable");
            let body_at = request.windows(2).position(|two| two == b"\n\n").expect("an empty line") + 2;
            let got = event(vendor, &plan, &request[body_at..]);
            let text = String::from_utf8(got).expect("UTF-8");
            assert!(!text.contains("dummy-"), "a planted secret: {}", path.display());
            let got: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            let wanted = fs::read(path.with_extension("json")).expect("the expected event");
            let wanted: Value = serde_json::from_slice(&wanted).expect("JSON");
            *seen.entry(got["data"]["event"].as_str().expect("a type").to_owned()).or_insert(0) += 1;
            conforms(&got["data"], &schema, "data");
            let mut differences = Vec::new();
            compare(&wanted, &got, "", &mut differences);
            if !differences.is_empty() {
                wrong.push(format!("{}:\n  {}", path.display(), differences.join("\n  ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
    assert!(seen.values().sum::<i32>() >= 171, "{seen:?}");
    assert_eq!(seen.len(), 45, "every active type has a delivery: {seen:?}");
}

fn compare(wanted: &Value, got: &Value, at: &str, into: &mut Vec<String>) {
    match (wanted, got) {
        (Value::Object(wanted), Value::Object(got)) => {
            for (name, value) in wanted {
                match got.get(name) {
                    Some(got) => compare(value, got, &format!("{at}/{name}"), into),
                    None => into.push(format!("{at}/{name}: missing, wanted {value}")),
                }
            }
            for name in got.keys().filter(|name| !wanted.contains_key(*name)) {
                into.push(format!("{at}/{name}: not wanted, got {}", got[name]));
            }
        }
        (wanted, got) if wanted == got => {}
        (Value::Number(wanted), Value::Number(got)) if wanted.as_f64() == got.as_f64() => {}
        _ => into.push(format!("{at}: wanted {wanted}, got {got}")),
    }
}

/// The part of JSON Schema that ours uses.
fn conforms(value: &Value, schema: &Value, at: &str) {
    let Some(schema) = schema.as_object() else { return };
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array) {
        assert!(allowed.contains(value), "{at}: {value} is not one of {allowed:?}");
    }
    if let Some(constant) = schema.get("const") {
        assert_eq!(constant, value, "{at}");
    }
    let is_type = |name: &Value| match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("number" | "integer") => value.is_number(),
        other => panic!("{other:?}"),
    };
    match schema.get("type") {
        Some(Value::Array(names)) => assert!(names.iter().any(is_type), "{at}: {value}"),
        Some(name) => assert!(is_type(name), "{at}: {value} is no {name}"),
        None => {}
    }
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        assert!(value.get(name.as_str().expect("a name")).is_some(), "{at}: {name} is missing");
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, value) in value.as_object().expect("an object") {
            match properties.get(name) {
                Some(schema) => conforms(value, schema, &format!("{at}/{name}")),
                None => panic!("{at}/{name} is not in the schema"),
            }
        }
    }
    for (position, element) in value.as_array().into_iter().flatten().enumerate() {
        conforms(element, schema.get("items").unwrap_or(&Value::Null), &format!("{at}/{position}"));
    }
}
