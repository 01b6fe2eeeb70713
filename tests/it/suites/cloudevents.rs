//! Everything that leaves is a CloudEvent: by the JSON Schema of CloudEvents 1.0.2, by the specification's rules for
//! attributes and for the HTTP binding, and by our own schema. Every delivery of `tests/vendors` is sent to the real
//! program, in each form, directly and by way of an inbox.

use std::{collections::BTreeMap, fs};

use serde_json::{Map, Value};

use super::{
    schema::{faults, is_rfc_3339, is_uri, is_uri_reference, matches},
    vectors,
};
use crate::harness::*;

const VENDORS: [&str; 5] = ["authalert", "authpi", "loginradius", "sendauth", "zenlogin"];
const DELIVERIES: usize = 171;

struct Delivery {
    /// Name of its source and of its tenant: nothing is a duplicate of anything.
    name: String,
    vendor: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn deliveries() -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for vendor in VENDORS {
        let folder = root().join("tests/vendors").join(vendor);
        for entry in fs::read_dir(folder).expect("the vendor's folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "http") {
                continue;
            }
            let request = fs::read(&path).expect("readable");
            let end = request.windows(2).position(|two| two == b"\n\n").expect("an empty line");
            let head = std::str::from_utf8(&request[..end]).expect("UTF-8");
            let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.into(), value.into()));
            deliveries.push(Delivery {
                name: format!("d{}", deliveries.len()),
                vendor,
                headers: head.lines().skip(1).map(|line| header(line).expect("a header")).collect(),
                body: request[end + 2..].to_vec(),
            });
        }
    }
    assert!(deliveries.len() >= DELIVERIES, "{}", deliveries.len());
    deliveries
}

/// One source for each delivery.
fn sources(deliveries: &[Delivery]) -> String {
    let source = |delivery: &Delivery| {
        let Delivery { name, vendor, .. } = delivery;
        let verify = match *vendor {
            "zenlogin" => format!("verify = {{ url = \"{PUBLIC_URL}/in/zenlogin\" }}\n"),
            "authalert" => "verify = { header = \"x-authalert-secret\" }\n".to_owned(),
            _ => String::new(),
        };
        format!(
            "[sources.{name}]\nvendor = \"{vendor}\"\ntenant = \"{name}\"\nupstream = \"app\"\nforward_tests = true\n\
             secret_env = \"{}_SECRET\"\n{verify}",
            vendor.to_uppercase()
        )
    };
    deliveries.iter().map(source).collect()
}

/// Sends all of them; what arrived, by source.
fn forwarded(deliveries: &[Delivery], form: &str, top: &str) -> BTreeMap<String, Arrived> {
    let sink = Sink::start();
    let (app, tables) = (format!("format = \"{form}\""), sources(deliveries));
    let gateway =
        Gateway::start(&Config { top, app: &app, tables: &tables, ..Config::to(sink.address) }.text());
    let mut client = Client::new(gateway.listen);
    for delivery in deliveries {
        let (name, value) = signature(delivery.vendor, &delivery.body);
        let mut headers: Vec<(&str, &str)> =
            delivery.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        headers.push((name, &value));
        let answer = client.post(&format!("/in/{}", delivery.name), &headers, &delivery.body);
        assert!(answer.status == 200 && !answer.is_duplicate(), "{}: {answer:?}", delivery.name);
    }
    let arrived = sink.wait_for(deliveries.len());
    let by_source: BTreeMap<_, _> =
        arrived.into_iter().map(|one| (one.header("hookwarden-source").to_owned(), one)).collect();
    assert_eq!(by_source.len(), deliveries.len());
    by_source
}

/// The event of a request in structured mode, which is all of the body.
fn structured(arrived: &Arrived) -> Value {
    assert_eq!(arrived.header("content-type"), "application/cloudevents+json; charset=utf-8");
    assert!(arrived.headers.keys().all(|name| !name.starts_with("ce-")), "{arrived:?}");
    arrived.json()
}

/// The event of a request in binary mode, as it would be in structured mode (HTTP binding §3.1).
fn binary(arrived: &Arrived) -> Value {
    let mut event = Map::new();
    for (name, value) in &arrived.headers {
        let Some(name) = name.strip_prefix("ce-") else { continue };
        assert!(
            !matches!(name, "datacontenttype" | "data"),
            "{name} is said by content-type, or is the body"
        );
        let value = match (name, decoded(value)) {
            // Booleans are written as text; no attribute of ours that is a text could be one.
            ("hwtest" | "hwreplay", text) => Value::Bool(text.parse().expect("a boolean")),
            (_, text) => Value::String(text),
        };
        event.insert(name.to_owned(), value);
    }
    event.insert("datacontenttype".into(), arrived.header("content-type").into());
    event.insert("data".into(), arrived.json());
    Value::Object(event)
}

/// HTTP binding §3.1.3.2: what may stand in a header, and what it stands for.
fn decoded(value: &str) -> String {
    assert!(matches("^(?:[!#$&-~]|%[0-9A-F]{2})+$", value), "not encoded as the binding says: {value:?}");
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        (bytes, rest) = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let byte = hex::decode([*high, *low]).expect("hex");
                // No more is encoded than must be.
                assert!(!matches!(byte[0], b'!' | b'#'..=b'$' | b'&'..=b'~'), "{value}");
                ([bytes, byte].concat(), after)
            }
            _ => ([bytes, vec![*first]].concat(), after),
        };
    }
    String::from_utf8(bytes).expect("UTF-8")
}

/// The specification's rules for attributes that its schema does not say: "Naming Conventions", "Type System", "Context
/// Attributes", and the extensions for partitions, recorded times and traces.
fn attribute_faults(event: &Value) -> Vec<String> {
    let members = event.as_object().expect("an object");
    let attributes = members.iter().filter(|(name, _)| *name != "data");
    let wrong = attributes.filter(|(name, value)| !is_attribute(name, value));
    let mut faults: Vec<String> = wrong.map(|(name, value)| format!("{name}: {value}")).collect();
    if members.contains_key("data_base64") {
        faults.push("data in two forms".to_owned());
    }
    faults
}

fn is_attribute(name: &str, value: &Value) -> bool {
    if !matches("^[a-z0-9]{1,20}$", name) {
        return false;
    }
    let Some(text) = value.as_str() else {
        return matches!(name, "hwtest" | "hwreplay") && value.is_boolean();
    };
    let plain = text.chars().all(|c| !c.is_control() && !is_noncharacter(c));
    plain
        && !text.is_empty()
        && match name {
            "specversion" => text == "1.0",
            "source" => is_uri_reference(text),
            "dataschema" => is_uri(text),
            "type" => matches(r"^dev\.hookwarden(?:\.[a-z0-9_]+)+$", text),
            "time" | "recordedtime" => is_rfc_3339(text),
            "datacontenttype" => matches(r"^[a-z]+/[a-z0-9.+-]+(?:; ?[a-z]+=[A-Za-z0-9-]+)*$", text),
            "traceparent" => matches("^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$", text),
            _ => true,
        }
}

/// Unicode §23.7.
fn is_noncharacter(c: char) -> bool {
    matches!(u32::from(c), 0xFDD0..=0xFDEF) || u32::from(c) & 0xFFFE == 0xFFFE
}

/// Everything that is wrong with an event whose `data` is ours.
fn event_faults(event: &Value, envelope: &Value, data: Option<&Value>) -> Vec<String> {
    let mut all = faults(event, envelope);
    all.extend(attribute_faults(event));
    all.extend(data.into_iter().flat_map(|schema| faults(&event["data"], schema)));
    all
}

/// Our own schema, as the program prints it.
fn own_schema() -> Value {
    serde_json::from_str(&output(hookwarden().args(["schema", "event"])).out).expect("JSON")
}

#[test]
fn every_event_conforms() {
    let (envelope, own) = (vectors("cloudevents.json"), own_schema());
    let deliveries = deliveries();
    let home = tempfile::tempdir().expect("a folder");
    let mut wrong = Vec::new();
    for (form, read, data) in [
        ("cloudevents", structured as fn(&Arrived) -> Value, Some(&own)),
        ("cloudevents-binary", binary, Some(&own)),
        ("raw", binary, None),
    ] {
        let inbox = format!("inbox.url = \"sqlite:{}\"", home.path().join(form).display());
        for top in ["", &inbox] {
            for (source, arrived) in forwarded(&deliveries, form, top) {
                let faults = event_faults(&read(&arrived), &envelope, data);
                wrong.extend(faults.into_iter().map(|fault| format!("{form} {top} {source}: {fault}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{} faults\n{}", wrong.len(), wrong.join("\n"));
}

/// Without what is of the receipt and not of the delivery (an id may be of a window of time), and what speaks of the body.
fn without_receipt(mut event: Value) -> Value {
    let (received, id) = (event["recordedtime"].clone(), event["id"].clone());
    event.as_object_mut().expect("an object").retain(|name, value| {
        let of_the_body = matches!(name.as_str(), "datacontenttype" | "dataschema" | "data");
        !of_the_body && name != "traceparent" && *value != received && *value != id
    });
    event
}

#[test]
fn the_forms_say_the_same() {
    let deliveries = deliveries();
    let structured_form = forwarded(&deliveries, "cloudevents", "");
    for form in ["cloudevents-binary", "raw"] {
        for (source, arrived) in forwarded(&deliveries, form, "") {
            let one = without_receipt(structured(&structured_form[&source]));
            let other = without_receipt(binary(&arrived));
            assert_eq!(one, other, "{form} {source}");
        }
    }
}

#[test]
fn what_does_not_conform_is_found() {
    let (envelope, own) = (vectors("cloudevents.json"), own_schema());
    let path = root().join("tests/vendors/sendauth/transaction-denied.json");
    let good: Value = serde_json::from_slice(&fs::read(path).expect("readable")).expect("JSON");
    assert_eq!(event_faults(&good, &envelope, Some(&own)), Vec::<String>::new());
    let changes: [(&str, Value); 21] = [
        ("/id", "".into()),
        ("/id", 1.into()),
        ("/source", "a b".into()),
        ("/source", "".into()),
        ("/specversion", "1.1".into()),
        ("/type", "".into()),
        ("/subject", "".into()),
        ("/subject", "a\u{85}b".into()),
        ("/subject", "a\u{fdd0}".into()),
        ("/subject", "a\u{1ffff}".into()),
        ("/time", "yesterday".into()),
        ("/recordedtime", "2024-01-15 10:35:00Z".into()),
        ("/dataschema", "/relative".into()),
        ("/datacontenttype", "json".into()),
        ("/traceparent", "00-0-0-01".into()),
        ("/partitionkey", Value::Null),
        ("/hwvendor", serde_json::json!({})),
        ("/data/outcome", "maybe".into()),
        ("/data/received_at", "2024-01-15T10:35:00+01:00".into()),
        ("/data/tags", serde_json::json!({ "a": 1 })),
        ("/data/vendor/raw_sha256", "00".into()),
    ];
    for (at, value) in changes {
        let mut event = good.clone();
        *event.pointer_mut(at).unwrap_or_else(|| panic!("{at}")) = value.clone();
        assert!(!event_faults(&event, &envelope, Some(&own)).is_empty(), "{at}: {value}");
    }
    for name in ["id", "source", "specversion", "type"] {
        let mut event = good.clone();
        event.as_object_mut().expect("an object").remove(name);
        assert!(!event_faults(&event, &envelope, None).is_empty(), "without {name}");
    }
    for name in ["Subject", "sub-ject", "data_base64", "an_attribute", "averyveryverylongname"] {
        let mut event = good.clone();
        event[name] = "x".into();
        assert!(!event_faults(&event, &envelope, None).is_empty(), "{name}");
    }
}
