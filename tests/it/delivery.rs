//! What the app gets: the headers that are always there and no others, one signature scheme, and the event in each of
//! its forms.

use std::collections::BTreeSet;

use crate::harness::*;

/// Headers of every delivery.
const ALWAYS: [&str; 11] = [
    "host",
    "content-length",
    "content-type",
    "user-agent",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "idempotency-key",
    "traceparent",
    "hookwarden-source",
    "x-forwarded-for",
];

/// What a vendor, or somebody who has seen one of its deliveries, may try to smuggle past. None of it is signed.
const SPOOFED: &[(&str, &str)] = &[
    ("webhook-id", "canary"),
    ("webhook-timestamp", "1"),
    ("webhook-signature", "v1,canary"),
    ("webhook_id", "canary"),
    ("idempotency-key", "\"canary\""),
    ("hookwarden-source", "canary"),
    ("hookwarden_source", "canary"),
    ("hookwarden-anything", "canary"),
    ("ce-id", "canary"),
    ("ce-type", "canary"),
    ("ce-hwassurance", "signed"),
    ("ce_hwassurance", "signed"),
    ("x-forwarded-for", "198.51.100.1"),
    ("x_forwarded_for", "198.51.100.1"),
    ("forwarded", "for=198.51.100.1"),
    ("x-real-ip", "198.51.100.1"),
    ("x-forwarded-host", "canary"),
    ("x-forwarded-proto", "canary"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("tracestate", "canary=1"),
    ("baggage", "canary=1"),
    ("user-agent", "canary"),
    ("authorization", "Bearer canary"),
    ("proxy-authorization", "Basic canary"),
    ("cookie", "canary=1"),
    ("x-canary", "canary"),
    ("te", "trailers"),
    ("keep-alive", "timeout=canary"),
    ("accept-encoding", "gzip"),
];

/// Headers of a request that names ours as its own hop's, so that a proxy would drop them.
fn spoofed_request(gateway: &Gateway, vendor: &str, body: &[u8]) -> Vec<u8> {
    let (name, value) = signature(vendor, body);
    let headers = [SPOOFED, &[JSON, (name, &value)]].concat();
    let head = head(gateway.listen, "POST", &format!("/in/{vendor}"), &headers, body.len());
    let hop =
        "connection: close, webhook-id, webhook-signature, hookwarden-source, ce-id, traceparent\r\n\r\n";
    [head.as_bytes(), hop.as_bytes(), body].concat()
}

fn names(arrived: &Arrived) -> BTreeSet<&str> {
    arrived.headers.keys().map(String::as_str).collect()
}

#[test]
fn the_app_gets_our_headers_and_none_of_the_sender_s() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let bodies = [
        ("sendauth", approval("a1")),
        ("loginradius", b"{}".to_vec()),
        ("zenlogin", b"{}".to_vec()),
        ("authpi", b"{}".to_vec()),
        ("authalert", b"{}".to_vec()),
    ];
    for (vendor, body) in bodies {
        let answer = exchange(gateway.listen, &spoofed_request(&gateway, vendor, &body));
        let arrived = sink.last();
        assert_eq!(names(&arrived), BTreeSet::from(ALWAYS), "{vendor}");
        assert!(!format!("{:?}", arrived.headers).contains("canary"));
        let id = answer.id();
        assert_eq!(answer.header("hookwarden-event-id"), Some(&*id));
        assert_eq!((arrived.id(), arrived.header("idempotency-key")), (&*id, &*format!("\"{id}\"")));
        assert!(id.len() == 36 && id.starts_with("hw1_"), "{id}");
        assert_eq!(arrived.header("hookwarden-source"), vendor);
        assert_eq!(arrived.header("x-forwarded-for"), "127.0.0.1");
        assert_eq!(arrived.header("content-type"), "application/cloudevents+json; charset=utf-8");
        assert_eq!(
            (arrived.target.as_str(), arrived.header("host")),
            ("/webhooks", &*sink.address.to_string())
        );
        assert!(arrived.header("user-agent").starts_with("hookwarden/"));
        is_a_trace(arrived.header("traceparent"));
        let event = arrived.json();
        assert_eq!(
            (&event["id"], &event["traceparent"]),
            (&id.into(), &arrived.header("traceparent").into())
        );
        arrived.verify();
    }
}

/// W3C Trace Context, version 00; not the one that was sent.
fn is_a_trace(traceparent: &str) {
    let parts: Vec<&str> = traceparent.split('-').collect();
    let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    assert!(parts.iter().all(|part| hex(part)), "{traceparent}");
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2]);
    assert!(parts[0] == "00" && parts[1].contains(|c| c != '0') && parts[2].contains(|c| c != '0'));
    assert_ne!(parts[1], "4bf92f3577b34da6a3ce929d0e0e4736");
}

#[test]
fn the_timestamp_is_now_and_the_body_cannot_be_changed() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let seconds = || jiff::Timestamp::now().as_second();
    let before = seconds();
    send(&gateway, "sendauth", &approval("a1")).id();
    let arrived = sink.only();
    let stated: i64 = arrived.header("webhook-timestamp").parse().expect("seconds");
    assert!((before..=seconds()).contains(&stated));
    for change in [
        |arrived: &mut Arrived| arrived.body.push(b' '),
        |arrived: &mut Arrived| drop(arrived.headers.insert("webhook-id".into(), "hw1_0".into())),
        |arrived: &mut Arrived| drop(arrived.headers.insert("webhook-timestamp".into(), "0".into())),
    ] {
        let mut changed = arrived.clone();
        change(&mut changed);
        assert!(!changed.is_signed_by(APP_SECRET));
    }
}

#[test]
fn every_secret_of_the_app_signs() {
    let sink = Sink::start();
    let plain = "an app's secret that is no base64";
    let text = Config::to(sink.address).text().replacen(
        "secret_env = \"APP_WEBHOOK_SECRET\"",
        "secrets = [{ env = \"APP_WEBHOOK_SECRET\", id = \"new\" }, { env = \"OLD\", id = \"old\" }]",
        1,
    );
    let gateway = Gateway::start_with(&text, |command| {
        command.env("OLD", plain);
    });
    send(&gateway, "sendauth", &approval("a1")).id();
    let arrived = sink.only();
    assert!(arrived.is_signed_by(APP_SECRET) && arrived.is_signed_by(plain));
    assert_eq!(arrived.header("webhook-signature").split(' ').count(), 2);
    assert!(!arrived.is_signed_by(SENDAUTH_SECRET));
}

#[test]
fn structured_events_are_cloudevents() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    send(&gateway, "sendauth", &approval("a1")).id();
    let event = sink.only().json();
    let wanted = [
        ("specversion", "1.0"),
        ("type", "dev.hookwarden.approval.approved"),
        ("source", "https://hooks.example.com/sendauth/main"),
        ("subject", "approval/a1"),
        ("time", "2024-01-15T10:35:00Z"),
        ("datacontenttype", "application/json"),
        ("dataschema", "https://hooks.example.com/.well-known/hookwarden/identity-event/1.0.json"),
        ("partitionkey", "a1"),
        ("correlationid", "a1"),
        ("hwvendor", "sendauth"),
        ("hwvendorevent", "approval.verified"),
        ("hwassurance", "signed-weak"),
    ];
    for (name, value) in wanted {
        assert_eq!(event[name], value, "{name}");
    }
    // The recipe of the identity event's §5.3, with nothing of the gateway's own in it.
    let parts = ["hookwarden.id.v1", "sendauth", "approval", "a1", "verified", "2024-01-15T10:35:00Z"];
    let recipe: Vec<Vec<u8>> = parts
        .map(|part| [&u32::try_from(part.len()).unwrap().to_be_bytes(), part.as_bytes()].concat())
        .to_vec();
    let digest = sha256_hex(&recipe.iter().map(Vec::as_slice).collect::<Vec<_>>());
    assert_eq!(event["id"], format!("hw1_{}", &digest[..32]));
}

/// A configuration whose app wants another form of event.
fn form<'a>(sink: &Sink, format: &'a str) -> Config<'a> {
    Config { app: format, ..Config::to(sink.address) }
}

#[test]
fn binary_events_have_their_attributes_in_headers_and_data_as_the_body() {
    let (structured, sink) = (Sink::start(), Sink::start());
    let gateway = Gateway::start(&Config::to(structured.address).text());
    send(&gateway, "sendauth", &approval("a1")).id();
    let mut wanted = structured.only().json();

    let gateway = Gateway::start(&form(&sink, "format = 'cloudevents-binary'").text());
    exchange(gateway.listen, &spoofed_request(&gateway, "sendauth", &approval("a1"))).id();
    let arrived = sink.only();
    arrived.verify();
    assert_eq!(arrived.header("content-type"), "application/json");
    let (mut data, mut wanted_data) = (arrived.json(), wanted["data"].take());
    for data in [&mut data, &mut wanted_data] {
        data["received_at"].take();
    }
    assert_eq!(data, wanted_data);
    // Every attribute of the structured form but those about the body.
    let mut attributes = BTreeSet::from(ALWAYS.map(str::to_owned));
    for (name, value) in wanted.as_object().expect("an object") {
        if !matches!(name.as_str(), "datacontenttype" | "data") {
            attributes.insert(format!("ce-{name}"));
        }
        if !matches!(name.as_str(), "datacontenttype" | "data" | "recordedtime" | "traceparent") {
            assert_eq!(arrived.header(&format!("ce-{name}")), value.as_str().expect("text"));
        }
    }
    assert_eq!(arrived.headers.keys().cloned().collect::<BTreeSet<_>>(), attributes);
    assert_eq!(arrived.header("ce-traceparent"), arrived.header("traceparent"));
}

#[test]
fn raw_events_are_the_vendor_s_bytes() {
    let sink = Sink::start();
    let gateway = Gateway::start(&form(&sink, "format = 'raw'").text());
    let body =
        br#"  {"z":1.10, "a" :  1E400,"state":"verified","n":18446744073709551616,"e":"\u00e9\/\ud800",
 "id":"a1","authGroup":{},"b":-0,"transactions":null, "z":[1.0,  2]}
"#;
    let (name, value) = signature("sendauth", body);
    let media_type = "application/vnd.sendauth+json; charset=UTF-8;x=\"1 2\"";
    let answer = gateway.post("/in/sendauth", &[("content-type", media_type), (name, &value)], body);
    let arrived = sink.only();
    assert_eq!(arrived.id(), answer.id());
    assert_eq!(arrived.body, body);
    assert_eq!(arrived.header("content-type"), media_type);
    assert_eq!(arrived.header("ce-type"), "dev.hookwarden.approval.approved");
    assert_eq!(arrived.header("ce-subject"), "approval/a1");
    assert_eq!(arrived.header("ce-hwassurance"), "signed-weak");
    // It is not the body that the schema speaks of.
    assert!(names(&arrived).is_disjoint(&BTreeSet::from(["ce-dataschema", "ce-datacontenttype", name])));
    arrived.verify();
    // Without a type of its own it is JSON.
    let body = approval("a2");
    gateway.post("/in/sendauth", &[("x-sendauth-signature", &signature("sendauth", &body).1)], &body).id();
    assert_eq!(sink.last().header("content-type"), "application/json");
}

#[test]
fn attributes_in_headers_are_encoded_and_never_end_a_line() {
    for format in ["format = 'cloudevents-binary'", "format = 'raw'"] {
        let sink = Sink::start();
        let gateway = Gateway::start(&form(&sink, format).text());
        let zenlogin = |name: &str, account: &str| {
            let body = format!(r#"{{"data":{{"type":"{name}","account":{{"publicId":"{account}"}}}}}}"#);
            send(&gateway, "zenlogin", body.as_bytes()).id();
            sink.last()
        };
        let named = zenlogin("größer % \\\"x\\\" €😀", "ä c");
        assert_eq!(
            named.header("ce-hwvendorevent"),
            "gr%C3%B6%C3%9Fer%20%25%20%22x%22%20%E2%82%AC%F0%9F%98%80"
        );
        assert_eq!(named.header("ce-partitionkey"), "%C3%A4%20c");
        for line_end in
            ["\\r\\nx-canary: 1", "\\nx-canary: 1", "\\u0000", "\\u007f", "\\u0085", "\\u001b[31m"]
        {
            let arrived = zenlogin(&format!("a{line_end}"), &format!("b{line_end}"));
            assert_eq!(arrived.header("ce-hwvendorevent"), "unknown", "{line_end}");
            // No attribute, so the event is a partition of its own.
            assert_eq!(arrived.header("ce-partitionkey"), arrived.id(), "{line_end}");
            assert!(!arrived.headers.contains_key("x-canary"));
            let id = format!("c{line_end}");
            send(&gateway, "sendauth", &approval(&id)).id();
            assert!(!sink.last().headers.contains_key("ce-subject"), "{line_end}");
        }
        send(&gateway, "sendauth", &approval("an é id")).id();
        assert_eq!(sink.last().header("ce-subject"), "approval/an%20%C3%A9%20id");
        send(&gateway, "sendauth", &approval(&"long".repeat(1000))).id();
        assert!(!sink.last().headers.contains_key("ce-subject"), "longer than an attribute may be");
    }
}

#[test]
fn an_app_may_listen_on_a_unix_socket() {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("app.sock");
    let sink = Sink::on_unix(&socket);
    let text = Config::to(sink.address).text();
    let url = format!("unix:{}:/hooks?from=hookwarden", socket.display());
    let gateway = Gateway::start(&text.replacen("http://0.0.0.0:0/webhooks", &url, 1));
    for id in ["a1", "a2"] {
        send(&gateway, "sendauth", &approval(id)).id();
        assert_eq!(sink.last().target, "/hooks?from=hookwarden");
        sink.last().verify();
    }
}

#[test]
fn the_schema_is_served_where_events_say() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    send(&gateway, "sendauth", &approval("a1")).id();
    let address = sink.only().json()["dataschema"].as_str().expect("an address").to_owned();
    let path = address.strip_prefix(PUBLIC_URL).expect("our own");
    let answer = request(gateway.listen, "GET", path, &[], b"");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/schema+json")));
    let mut served = answer.json();
    assert_eq!(served.as_object_mut().expect("an object").remove("$id"), Some(address.as_str().into()));
    let printed = output(hookwarden().args(["schema", "event"]));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&printed.out).expect("JSON"), served);
    request(gateway.listen, "POST", path, &[], b"{}").refused(404, "unknown_source");
}
