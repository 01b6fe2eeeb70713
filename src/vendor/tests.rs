use std::collections::BTreeSet;

use bytes::Bytes;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{encode::Verification, *};
use crate::scheme::Assurance;

fn plan(vendor: &str) -> Plan {
    Plan::compile(vendor, &builtin(vendor).expect("built in"), Options::default()).expect("compiles")
}

fn read(plan: &Plan, body: &str) -> (Document, Vec<Reading>) {
    let document = Document::parse(Bytes::copy_from_slice(body.as_bytes())).expect("JSON");
    let readings = plan.read(&document, Extent::Data).expect("readable");
    let alone = plan.read(&document, Extent::Attributes).expect("readable");
    assert_eq!(attributes(&alone), attributes(&readings), "{body}");
    (document, readings)
}

/// What an event says outside `data`.
fn attributes(readings: &[Reading]) -> Vec<String> {
    let of = |reading: &Reading| {
        let Reading { event_type, name, identity, subject, correlation_id, partition_key, .. } = reading;
        let at = (reading.occurred_at, reading.test);
        format!("{event_type:?} {name} {identity:?} {subject:?} {correlation_id:?} {partition_key:?} {at:?}")
    };
    readings.iter().map(of).collect()
}

fn data(plan: &Plan, document: &Document, reading: &Reading) -> Json {
    let received_at: Timestamp = "2026-02-03T09:30:00.118Z".parse().expect("a time");
    let verification = Verification {
        method: "none",
        header: None,
        assurance: Assurance::None,
        key_id: None,
        body_sha256: None,
    };
    let mut out = Vec::new();
    encode::data(&mut out, plan, reading, document, received_at, &verification);
    serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
}

#[test]
fn built_in_files_compile_and_their_samples_are_understood() {
    for (vendor, _) in BUILTIN {
        let file = builtin(vendor).expect("built in");
        let plan = plan(vendor);
        assert!(!file.sample.is_empty() && !file.fact.is_empty(), "{vendor}");
        for sample in &file.sample {
            let (document, readings) = read(&plan, &sample.body);
            let data = data(&plan, &document, &readings[0]);
            let name = readings[0].name.to_string();
            assert!(sample.events.iter().any(|event| event.eq_ignore_ascii_case(&name)), "{vendor} {name}");
            assert_ne!(data["vendor"]["mapping"], "partial", "{vendor} {name}: {data:#}");
        }
    }
}

#[test]
fn a_member_that_is_read_may_stand_only_once() {
    let plan = plan("sendauth");
    let read = |body: &str, extent| {
        let document = Document::parse(Bytes::copy_from_slice(body.as_bytes())).expect("JSON");
        plan.read(&document, extent)
    };
    let twice = |body: &str| read(body, Extent::Data).is_err();
    assert!(twice(r#"{"id":"a","authGroup":{},"id":"b"}"#));
    assert!(twice(r#"{"id":"a","authGroup":{},"\u0069d":"b"}"#));
    let inside = r#"{"id":"a","transactions":[{"state":"verified","state":"denied"}]}"#;
    assert!(twice(inside));
    assert!(read(inside, Extent::Attributes).is_ok(), "nobody reads it");
    assert!(!twice(r#"{"id":"a","authGroup":{},"other":1,"other":2}"#));
}

#[test]
fn a_literal_joins_whatever_is_read() {
    let file = r#"
        title = "Own"
        id = ["event", "/id"]
        verify = { scheme = "none" }
        name = [{ name = "{/type}" }]
        event = [{ match = ["in"], type = "session.login", set = { "subject.id" = "service", "subject.email" = "/email" } }]
    "#;
    let plan =
        Plan::compile("own", &toml::from_str(file).expect("TOML"), Options::default()).expect("compiles");
    let subject = |body| read(&plan, body).1[0].subject.clone();
    assert_eq!(subject(r#"{"id":"a","type":"in","email":"a@example.com"}"#).as_deref(), Some("user/service"));
    assert_eq!(subject(r#"{"id":"a","type":"in"}"#), None);
}

#[test]
fn what_is_picked_and_says_nothing_is_no_value() {
    let plan = plan("loginradius");
    let email = |value: &str| {
        let body = format!(
            r#"{{"HookName":"login","Time":"2025-03-04T08:15:30Z","Data":{{"Uid":"u1","Email":[{{"Type":"Primary","Value":{value}}}]}}}}"#
        );
        let (document, readings) = read(&plan, &body);
        data(&plan, &document, &readings[0])["actor"].get("email").cloned()
    };
    assert_eq!(email(r#""a@example.com""#), Some(json!("a@example.com")));
    for nothing in [r#""""#, "null"] {
        assert_eq!(email(nothing), None, "{nothing}");
    }
}

#[test]
fn a_missing_id_makes_no_two_events_one() {
    let plan = plan("sendauth");
    let id = |body: &str| match &read(&plan, body).1[0].identity {
        Identity::Fixed(id) => *id,
        Identity::Windowed(windowed) => windowed.id(1, 0),
    };
    let without = [
        r#"{"authGroup":{"id":"g"},"state":"verified","completedAt":"2024-01-15T10:35:00Z","context":"a"}"#,
        r#"{"authGroup":{"id":"g"},"state":"verified","completedAt":"2024-01-15T10:35:00Z","context":"b"}"#,
        r#"{"authGroup":{"id":"g"},"id":null,"state":"verified","completedAt":"2024-01-15T10:35:00Z"}"#,
        r#"{"authGroup":{"id":"g"},"id":"","state":"verified","completedAt":"2024-01-15T10:35:00Z"}"#,
        r#"{"authGroup":{"id":"g"},"id":{},"state":"verified","completedAt":"2024-01-15T10:35:00Z"}"#,
        r#"{"authGroup":{"id":"g"},"id":9007199254740992,"state":"verified"}"#,
        r#"{"authGroup":{"id":"g"},"id":9007199254740993,"state":"verified"}"#,
    ];
    let ids: BTreeSet<String> = without.iter().map(|body| id(body).to_string()).collect();
    assert_eq!(ids.len(), without.len());
    let spelt = id(r#"{"authGroup":{"id":"g"},"id":"a\u0062","state":"verified"}"#);
    assert_eq!(spelt, id(r#"{"state":"verified","id":"ab","authGroup":{"id":"g"}}"#));
}

#[test]
fn a_delivery_of_many_events_is_split() {
    let file = r#"
        title = "Batch"
        items = "/data/events"
        id = ["event", "/data/events/*/uuid"]
        verify = { scheme = "none" }
        name = [{ name = "{/data/events/*/eventType}" }]
        map.all = { "subject.id" = "/data/events/*/actor/id", "vendor.delivery_id" = "/eventId" }
        event = [{ match = ["user.session.start"], type = "session.login", maps = ["all"] }]
    "#;
    let plan =
        Plan::compile("batch", &toml::from_str(file).expect("TOML"), Options::default()).expect("compiles");
    let body = r#"{"eventId":"d","data":{"events":[
        {"uuid":"1","eventType":"user.session.start","actor":{"id":"u1","x":1}},
        {"uuid":"2","eventType":"other","y":2}]}}"#;
    let (document, readings) = read(&plan, body);
    assert_eq!(readings.len(), 2);
    let first = data(&plan, &document, &readings[0]);
    assert_eq!(first["event"], "session.login");
    assert_eq!(first["subject"]["id"], "u1");
    assert_eq!(
        first["unmapped"],
        serde_json::json!({"data": {"events": [{"uuid": "1", "actor": {"x": 1}}]}})
    );
    let second = data(&plan, &document, &readings[1]);
    assert_eq!(second["event"], "vendor.event");
    assert_eq!(
        second["unmapped"]["data"]["events"],
        serde_json::json!([{"uuid":"2","eventType":"other","y":2}])
    );
    assert_eq!(read(&plan, r#"{"data":{"events":[]}}"#).1.len(), 0);
    let many = format!(r#"{{"data":{{"events":[{}1]}}}}"#, "1,".repeat(EVENTS_MAX));
    let document = Document::parse(Bytes::from(many)).expect("JSON");
    assert_eq!(plan.read(&document, Extent::Data).unwrap_err(), Unreadable::TooMany);
}

fn approvals(transactions: &[Json]) -> String {
    let group = json!({ "id": "g", "name": "Group", "threshold": 2 });
    json!({ "id": "a1", "state": "verified", "completedAt": "2024-01-15T10:35:00Z", "authGroup": group,
        "requestor": "user@example.com", "payload": { "pin": 4711 }, "transactions": transactions })
    .to_string()
}

#[test]
fn a_long_list_is_not_mapped_element_by_element() {
    let plan = plan("sendauth");
    let transactions =
        |count: u32| (0..count).map(|n| json!({ "id": n.to_string(), "tags": { "n": "x" } })).collect();
    let all: Vec<Json> = transactions(1000);
    let (document, readings) = read(&plan, &approvals(&all));
    let mapped = data(&plan, &document, &readings[0]);
    assert_eq!(readings[0].mapping, Mapping::Full);
    assert_eq!(mapped["approval"]["transactions"].as_array().map(Vec::len), Some(1000));
    assert_eq!(mapped["approval"]["transactions"][999], all[999]);
    for count in [1001, 20_000] {
        let all: Vec<Json> = transactions(count);
        let (document, readings) = read(&plan, &approvals(&all));
        let left = data(&plan, &document, &readings[0]);
        assert_eq!(readings[0].mapping, Mapping::Partial);
        assert!(left["approval"]["transactions"].is_null() && left["approval"]["id"] == "a1");
        assert_eq!(left["unmapped"]["transactions"], Json::from(all));
    }
}

#[test]
fn what_the_operator_redacts_is_mapped_nowhere() {
    let body = approvals(&[json!({ "id": "t1", "message": "canary" }), json!({ "id": "t2" })]);
    let redacting = |pointer: &str| {
        let options = Options { extra_redactions: vec![pointer.to_owned()], ..Options::default() };
        let plan =
            Plan::compile("sendauth", &builtin("sendauth").expect("built in"), options).expect("compiles");
        let (document, readings) = read(&plan, &body);
        let data = data(&plan, &document, &readings[0]);
        (data, readings.into_iter().next().expect("one"))
    };
    let (data, reading) = redacting("/authGroup");
    assert!(data["target"]["id"].is_null() && data["approval"]["group"].is_null(), "{data:#}");
    assert_eq!(
        (&data["unmapped"]["authGroup"], &data["vendor"]["redacted"]),
        (&json!("[redacted]"), &json!(["/authGroup"]))
    );
    assert!(reading.subject.as_deref() == Some("approval/a1") && !data.to_string().contains("\"Group\""));

    let (data, _) = redacting("/transactions/*/message");
    assert_eq!(data["approval"]["transactions"], json!([{ "id": "t1" }, { "id": "t2" }]));
    assert_eq!(data["unmapped"]["transactions"][0]["message"], "[redacted]");
    assert_eq!(data["vendor"]["redacted"], json!(["/transactions/0/message"]));

    let (data, reading) = redacting("/id");
    assert_eq!((reading.subject, reading.correlation_id), (None, None));
    assert_eq!(reading.partition_key.as_deref(), Some("g"));
    assert!(!data.to_string().contains("a1\""), "{data:#}");

    for (pointer, number) in [("/authGroup/threshold", "\"2\""), ("/payload/pin", "4711")] {
        let (data, _) = redacting(pointer);
        assert_eq!(data["vendor"]["redacted"], json!([pointer]));
        assert!(!data.to_string().contains(number), "{data:#}");
    }
}

#[test]
fn debug_shows_nothing_of_an_event() {
    let body =
        r#"{"id":"canary","state":"canary","authGroup":{"id":"canary"},"requestor":"canary","canary":0}"#;
    for vendor in ["sendauth", "zenlogin"] {
        let (_, readings) = read(&plan(vendor), body);
        assert_eq!(format!("{readings:?}"), r#"[Reading { type: "vendor.event", .. }]"#);
    }
}

/// Leaves that say something, as texts.
fn leaves(value: &Json, into: &mut Vec<String>) {
    match value {
        Json::Array(elements) => elements.iter().for_each(|element| leaves(element, into)),
        Json::Object(members) => members.values().for_each(|member| leaves(member, into)),
        Json::Null => {}
        Json::String(text) if text.is_empty() => {}
        Json::String(text) => into.push(text.clone()),
        other => into.push(other.to_string()),
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        "[a-z]{0,6}".prop_map(Json::from),
        Just(Json::from("2024-01-15T10:35:00+02:00")),
        Just(Json::from("a@example.com")),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::btree_map("[a-z]{1,3}", inner, 0..4)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

/// A vendor's sample with members taken away, replaced and added at random places.
fn disturbed() -> impl Strategy<Value = (&'static str, Json)> {
    let places = proptest::collection::vec((any::<u16>(), any_json(), any::<bool>()), 0..8);
    (0..BUILTIN.len(), any::<u16>(), places).prop_map(|(vendor, sample, places)| {
        let vendor = BUILTIN[vendor].0;
        let samples = builtin(vendor).expect("built in").sample;
        let body = &samples[usize::from(sample) % samples.len()].body;
        let mut json: Json = serde_json::from_str(body).expect("JSON");
        for (place, value, add) in places {
            let mut pointers = Vec::new();
            collect(&json, String::new(), &mut pointers);
            let pointer = pointers[usize::from(place) % pointers.len()].clone();
            let Some(target) = json.pointer_mut(&pointer) else { continue };
            match target {
                Json::Object(members) if add => {
                    members.insert("extra".into(), value);
                }
                _ => *target = value,
            }
        }
        (vendor, json)
    })
}

fn collect(value: &Json, at: String, into: &mut Vec<String>) {
    match value {
        Json::Array(elements) => {
            elements
                .iter()
                .enumerate()
                .for_each(|(nth, element)| collect(element, format!("{at}/{nth}"), into));
        }
        Json::Object(members) => {
            members.iter().for_each(|(name, member)| collect(member, format!("{at}/{name}"), into));
        }
        _ => {}
    }
    into.push(at);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Identity event §5.1: what the vendor said is mapped, unmapped or redacted, never lost.
    #[test]
    fn nothing_is_lost((vendor, body) in disturbed()) {
        let plan = plan(vendor);
        let (document, readings) = read(&plan, &body.to_string());
        let data = data(&plan, &document, &readings[0]);
        let mut said = Vec::new();
        leaves(&body, &mut said);
        let mut told = Vec::new();
        leaves(&data, &mut told);
        // Tags that are no texts are told as JSON texts.
        for text in told.clone() {
            if let Ok(json) = serde_json::from_str::<Json>(&text) {
                leaves(&json, &mut told);
            }
        }
        let redacted: Vec<&str> =
            data["vendor"]["redacted"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let mut hidden = Vec::new();
        for pointer in redacted {
            leaves(body.pointer(pointer).expect("a pointer into the body"), &mut hidden);
        }
        // A name is put together from what names the event.
        let name = data["vendor"]["event"].as_str().unwrap_or_default();
        for leaf in said {
            let equivalent = |text: &String| {
                text.eq_ignore_ascii_case(&leaf)
                    || text.parse::<f64>().is_ok_and(|number| leaf.parse() == Ok(number))
                    || text.parse::<std::net::IpAddr>().is_ok_and(|ip| leaf.parse() == Ok(ip))
                    || (leaf.contains(text.trim_end_matches('0')) && leaf.contains(','))
                    || text.parse::<Timestamp>().is_ok_and(|at| {
                        let epochs =
                            [at.as_second(), at.as_millisecond(), at.as_microsecond()].map(i128::from);
                        let number = leaf.parse::<i128>().ok();
                        leaf.parse().ok() == Some(at)
                            || number.is_some_and(|number| epochs.contains(&number) || number == at.as_nanosecond())
                    })
            };
            let consumed = ["event", "1.0", "application/json"].contains(&leaf.as_str()) && vendor == "authpi"
                || leaf.eq_ignore_ascii_case("primary");
            prop_assert!(
                consumed || name.ends_with(&leaf) || told.iter().any(equivalent) || hidden.contains(&leaf),
                "{leaf} of {body:#} is not in {data:#}"
            );
        }
    }

    /// Whatever comes in, what goes out is a `data` object of the published schema's shape.
    #[test]
    fn the_fixed_members_are_always_there((vendor, body) in disturbed()) {
        let plan = plan(vendor);
        let (document, readings) = read(&plan, &body.to_string());
        let data = data(&plan, &document, &readings[0]);
        for member in ["version", "event", "received_at", "time_source", "outcome", "severity", "tags", "vendor", "unmapped"] {
            prop_assert!(!data[member].is_null(), "{member}");
        }
        prop_assert!(data["test"].is_boolean());
    }
}
