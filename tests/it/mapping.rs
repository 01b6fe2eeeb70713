//! Which events go where, and in what shape: filters, routes, test events, unknown events, several events in one
//! delivery, and the wishes of a source.

use serde_json::{Value, json};

use crate::harness::*;

fn count(gateway: &Gateway, vendor: &str, event_type: &str, result: &str) -> f64 {
    let labels = format!("source=\"{vendor}\",vendor=\"{vendor}\",type=\"{event_type}\",result=\"{result}\"");
    gateway.metric(&format!("hookwarden_events_total{{{labels}}}"))
}

fn denied(id: &str) -> Vec<u8> {
    String::from_utf8(approval(id)).unwrap().replace("verified", "denied").into_bytes()
}

fn zenlogin(event: &str) -> Vec<u8> {
    format!(
        r#"{{"success":true,"data":{{"type":"{event}","account":{{"publicId":"acc1"}},"application":null}}}}"#
    )
    .into_bytes()
}

#[test]
fn a_vendor_s_test_of_the_connection_is_answered_and_stays_here() {
    let sink = Sink::start();
    let config = Config::to(sink.address);
    let gateway = Gateway::start(&config.text());
    for _ in 0..2 {
        let answer = send(&gateway, "zenlogin", &zenlogin("webhook.test"));
        assert!(answer.id().starts_with("hw1_") && !answer.is_duplicate());
    }
    assert_eq!(sink.count(), 0);
    assert_eq!(count(&gateway, "zenlogin", "test.ping", "filtered"), 2.0);
    // A test *event* of a real type is an event.
    let login = br#"{"data":{"type":"applicationLoginCheck.ruleApplied","applicationLoginCheck":{"publicId":"c1","reqTest":true},"applicationIdentity":{"identityKey":"u1"}}}"#;
    send(&gateway, "zenlogin", login).id();
    let event = sink.only().json();
    assert_eq!((&event["hwtest"], &event["data"]["event"]), (&json!(true), &json!("login.flagged")));

    let forwards = config.text().replace("\"ZENLOGIN_SECRET\"", "\"ZENLOGIN_SECRET\"\nforward_tests = true");
    let gateway = Gateway::start(&forwards);
    let id = send(&gateway, "zenlogin", &zenlogin("webhook.test")).id();
    let event = sink.last().json();
    assert_eq!(
        (&event["id"], &event["hwtest"], &event["data"]["test"]),
        (&json!(id), &json!(true), &json!(true))
    );
}

#[test]
fn filters_say_what_goes_on() {
    let sink = Sink::start();
    let sendauth = "filters = ['approval.denied', 'approval.transaction.*']";
    let gateway = Gateway::start(&Config { sendauth, ..Config::to(sink.address) }.text());
    let filtered = send(&gateway, "sendauth", &approval("a1"));
    assert!(filtered.id().starts_with("hw1_") && !filtered.is_duplicate());
    send(&gateway, "sendauth", b"{}").id();
    assert_eq!(sink.count(), 0);
    assert_eq!(count(&gateway, "sendauth", "approval.approved", "filtered"), 1.0);
    assert_eq!(count(&gateway, "sendauth", "vendor.event", "filtered"), 1.0);
    send(&gateway, "sendauth", &denied("a1")).id();
    assert_eq!(sink.only().json()["type"], "dev.hookwarden.approval.denied");
    // Filtered is not delivered, so it is no duplicate once it is wanted.
    gateway.reconfigure(Config::to(sink.address).text());
    assert!(!send(&gateway, "sendauth", &approval("a1")).is_duplicate());
    assert_eq!(sink.count(), 2);
}

#[test]
fn the_first_route_that_fits_gets_the_event() {
    let (sink, other) = (Sink::start(), Sink::start());
    let routes = "routes = [{ types = ['approval.denied'], upstream = 'other' }, \
                  { types = ['approval.*', 'vendor.event'], upstream = 'app' }]";
    let text = Config::to(sink.address).text();
    let upstream =
        format!("[upstreams.other]\nurl = 'http://{}/o'\nsecret_env = 'APP_WEBHOOK_SECRET'\n", other.address);
    let text = text.replacen("upstream = \"app\"\n", &format!("{routes}\n"), 1) + &upstream;
    let gateway = Gateway::start(&text);
    send(&gateway, "sendauth", &approval("a1")).id();
    assert_eq!((sink.count(), other.count()), (1, 0));
    send(&gateway, "sendauth", &denied("a2")).id();
    assert_eq!((sink.count(), other.count()), (1, 1));
    assert_eq!((other.only().target.as_str(), other.only().header("hookwarden-source")), ("/o", "sendauth"));
    assert!(send(&gateway, "sendauth", &denied("a2")).is_duplicate());
}

#[test]
fn an_event_nobody_knows_goes_on_whole() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let body = br#"{"data":{"type":"account.exploded","account":{"publicId":"acc1"},"big":18446744073709551616,"accessToken":"canary"}}"#;
    send(&gateway, "zenlogin", body).id();
    let event = sink.only().json();
    assert_eq!(event["type"], "dev.hookwarden.vendor.event");
    assert_eq!(event["hwvendorevent"], "account.exploded");
    assert_eq!(event["data"]["vendor"]["mapping"], "passthrough");
    assert_eq!(event["data"]["unmapped"]["data"]["account"]["publicId"], "acc1");
    let text = String::from_utf8(sink.only().body).unwrap();
    assert!(text.contains("18446744073709551616") && !text.contains("canary"));
    let unmapped = "hookwarden_unmapped_events_total{source=\"zenlogin\",mapping=\"passthrough\"}";
    assert_eq!(gateway.metric(unmapped), 1.0);
    // What is no object is an event, too.
    for (body, name) in
        [(&b"[1, 2]"[..], "array"), (b"\"text\"", "text"), (b" 1E400 ", "number"), (b"null", "null")]
    {
        send(&gateway, "loginradius", body).id();
        let arrived = String::from_utf8(sink.last().body).unwrap();
        let raw = format!("\"raw\":{}", std::str::from_utf8(body).unwrap().trim());
        assert!(arrived.contains(&raw) || arrived.contains("\"raw\":[1,2]"), "{name}: {arrived}");
        assert!(arrived.contains("\"unmapped\":{}"), "{name}: {arrived}");
    }
}

/// A vendor of the operator's own that sends several events at once.
const BATCHES: &str = r#"
[sources.batches]
vendor = "batches"
secret_env = "SENDAUTH_SECRET"
upstream = "app"
[vendors.batches]
title = "Several at once"
verify = { scheme = "token", place = "bearer" }
items = "/data/events"
id = ["event", "/data/events/*/uuid"]
[[vendors.batches.name]]
name = "{/data/events/*/eventType}"
[[vendors.batches.event]]
match = ["user.session.start"]
type = "session.login"
maps = ["user"]
[vendors.batches.map.user]
"subject.id" = "/data/events/*/actor/id"
"occurred_at" = "/data/events/*/published"
"#;

fn batch(gateway: &Gateway, ids: &[&str]) -> Answer {
    let event = |id: &&str| json!({ "uuid": id, "eventType": "user.session.start", "published": "2026-02-03T09:30:00Z", "actor": { "id": format!("u-{id}") } });
    let body = json!({ "eventId": "b", "data": { "events": ids.iter().map(event).collect::<Vec<_>>() } })
        .to_string();
    let token = format!("Bearer {SENDAUTH_SECRET}");
    gateway.post("/in/batches", &[JSON, ("authorization", &token)], body.as_bytes())
}

fn users(sink: &Sink) -> Vec<Value> {
    sink.arrived().iter().map(|arrived| arrived.json()["data"]["subject"]["id"].clone()).collect()
}

#[test]
fn a_delivery_of_several_events_is_taken_as_a_whole() {
    let sink = Sink::behaving(|number, _| Behaviour::Status(if number == 1 { 500 } else { 200 }, ""));
    let gateway = Gateway::start(&Config { tables: BATCHES, ..Config::to(sink.address) }.text());
    batch(&gateway, &["e1", "e2", "e3"]).refused(502, "upstream_refused");
    let answer = batch(&gateway, &["e1", "e2", "e3"]);
    assert_eq!((answer.status, answer.is_duplicate()), (200, false));
    // The second one failed once; what was taken is not sent again.
    assert_eq!(users(&sink), ["u-e1", "u-e2", "u-e2", "u-e3"]);
    let arrived = sink.arrived();
    let ids: Vec<&str> = [0, 2, 3].map(|at: usize| arrived[at].id()).to_vec();
    assert_eq!(answer.json()["ids"], json!(ids));
    assert_eq!((arrived[1].id(), answer.header("hookwarden-event-id")), (ids[1], None));
    arrived.iter().for_each(Arrived::verify);

    let again = batch(&gateway, &["e1", "e2", "e3"]);
    assert_eq!((again.is_duplicate(), &again.json()["ids"]), (true, &json!(ids)));
    // One new event among known ones; and one alone.
    assert!(!batch(&gateway, &["e3", "e4"]).is_duplicate());
    assert_eq!(batch(&gateway, &["e5"]).id(), sink.last().id());
    assert_eq!(users(&sink)[4..], ["u-e4", "u-e5"]);
}

#[test]
fn a_delivery_of_no_events_is_taken_and_forwards_nothing() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config { tables: BATCHES, ..Config::to(sink.address) }.text());
    let answer = batch(&gateway, &[]);
    assert_eq!((answer.status, answer.json(), answer.is_duplicate()), (200, json!({ "ids": [] }), false));
    assert_eq!(sink.count(), 0);
    // The same event twice in one delivery is one event.
    assert_eq!(batch(&gateway, &["e1", "e1"]).status, 200);
    assert_eq!(users(&sink), ["u-e1"]);
    let many: Vec<String> = (0..1001).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    batch(&gateway, &many).refused(400, "malformed_body");
    assert_eq!(sink.count(), 1);
}

#[test]
fn a_source_has_wishes() {
    let sink = Sink::start();
    let sendauth = r#"
tenant = "acme"
include_raw = true
extra_redactions = ["/authGroup/name"]
severity_overrides = { "approval.approved" = "critical" }
"#;
    let text = Config { sendauth, top: "type_prefix = 'com.example'", ..Config::to(sink.address) }.text();
    let text =
        text.replace("\"ZENLOGIN_SECRET\"", "\"ZENLOGIN_SECRET\"\nexpose_secrets = ['/data/accessToken']");
    let text = text.replace("\"AUTHPI_SECRET\"", "\"AUTHPI_SECRET\"\nsource = 'urn:example:authpi'");
    let text = text.replace("\"AUTHALERT_SECRET\"", "\"AUTHALERT_SECRET\"\nevent = 'new_device'");
    let gateway = Gateway::start(&text);

    send(&gateway, "sendauth", &approval("a1")).id();
    let event = sink.only().json();
    assert_eq!(event["source"], format!("{PUBLIC_URL}/sendauth/acme"));
    assert_eq!(event["type"], "com.example.approval.approved");
    assert_eq!(event["data"]["severity"], "critical");
    assert_eq!(event["data"]["vendor"]["raw"]["requestor"], "user@example.com");
    assert_eq!(event["data"]["vendor"]["raw"]["authGroup"]["name"], "[redacted]");
    assert_eq!(event["data"]["vendor"]["redacted"], json!(["/authGroup/name"]));
    assert!(!event.to_string().contains("\"Group\""));

    let token = zenlogin("account.created");
    let token = String::from_utf8(token)
        .unwrap()
        .replace("\"account\"", "\"accessToken\":\"shown\",\"password\":\"hidden\",\"account\"");
    send(&gateway, "zenlogin", token.as_bytes()).id();
    let event = sink.last().json();
    assert_eq!(event["data"]["unmapped"]["data"]["accessToken"], "shown");
    assert_eq!(event["data"]["unmapped"]["data"]["password"], "[redacted]");
    assert_eq!(event["data"]["vendor"]["redacted"], json!(["/data/password"]));

    send(&gateway, "authpi", b"{}").id();
    assert_eq!(sink.last().json()["source"], "urn:example:authpi");

    // Nothing in the body names the event; the operator does.
    send(&gateway, "authalert", br#"{"user_id":"u1","device_id":"d1"}"#).id();
    let event = sink.last().json();
    assert_eq!(
        (&event["data"]["event"], &event["data"]["vendor"]["event"]),
        (&json!("device.detected"), &json!("new_device"))
    );
}

#[test]
fn secrets_of_the_vendor_s_own_users_stay_here() {
    let sink = Sink::start();
    let config = Config::to(sink.address);
    let gateway = Gateway::start(&config.text());
    let body = br#"{"HookName":"register","Time":"2026-02-03T09:30:00Z","Data":{"Uid":"u1","Password":"canary-1","LastPasswordChangeToken":"canary-2","PIN":{"PIN":"canary-3"},"Identities":[{"ProviderAccessCredential":{"AccessToken":"canary-4"},"refresh_token":"canary-5"}],"CustomFields":{"api_key":"canary-6","otp":["canary-7"],"note":"kept"}}}"#;
    send(&gateway, "loginradius", body).id();
    let text = String::from_utf8(sink.only().body).unwrap();
    assert!(!text.contains("canary") && text.contains("kept"), "{text}");
    // Without a trace in the log, either.
    gateway.logged(|line| line["id"] == sink.only().id());
    assert!(!gateway.log().contains("canary") && !gateway.log().contains("kept"));
}

#[test]
fn what_is_too_old_is_refused_where_age_matters() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config { sendauth: "max_age = '10m'", ..Config::to(sink.address) }.text());
    let at = |id: &str, seconds: i64| {
        let time = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        let text = String::from_utf8(approval(id)).unwrap();
        let body = text.replace("2024-01-15T10:35:00Z", &format!("{time:.0}"));
        send(&gateway, "sendauth", body.as_bytes())
    };
    at("a1", -700).refused(401, "unverified");
    at("a2", 400).refused(401, "unverified");
    at("a3", -500).id();
    at("a4", 200).id();
    assert_eq!(sink.count(), 2);
    let stale =
        "hookwarden_verifications_total{source=\"sendauth\",vendor=\"sendauth\",result=\"stale\",key=\"\"}";
    assert_eq!(gateway.metric(stale), 2.0);
}

#[test]
fn what_is_too_old_goes_on_unproven_where_nothing_is_enforced() {
    let sink = Sink::start();
    let sendauth = "max_age = '10m'\nenforce = false";
    let gateway = Gateway::start(&Config { sendauth, ..Config::to(sink.address) }.text());
    send(&gateway, "sendauth", &approval("a1")).id();
    let event = sink.only().json();
    assert_eq!((&event["hwassurance"], &event["data"]["approval"]["id"]), (&json!("none"), &json!("a1")));
    let stale =
        "hookwarden_verifications_total{source=\"sendauth\",vendor=\"sendauth\",result=\"stale\",key=\"\"}";
    assert_eq!(gateway.metric(stale), 1.0);
}
