//! Who may not make an event a duplicate: a forgery, a stranger, an unsigned copy, another tenant, another app. And
//! which copies are one event although they came by different ways.

use std::io::Write;

use crate::harness::*;

#[test]
fn what_is_refused_poisons_nothing() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let body = approval("a1");
    let broken = [&body[..], b"{"].concat();
    forge(&gateway, "sendauth", &body).refused(401, "unverified");
    gateway.post("/in/sendauth", &[JSON], &body).refused(401, "unverified");
    send(&gateway, "sendauth", &broken).refused(400, "malformed_body");
    // A body that breaks off, its signature already here.
    let (name, value) = signature("sendauth", &body);
    let head = head(gateway.listen, "POST", "/in/sendauth", &[(name, &value)], body.len());
    let mut caller = connect(gateway.listen);
    caller.write_all(&[head.as_bytes(), b"\r\n", &body[..20]].concat()).expect("written");
    eventually("it is begun", || gateway.metric("hookwarden_http_requests_in_flight") == 1.0);
    drop(caller);
    eventually("it is over", || gateway.metric("hookwarden_http_requests_in_flight") == 0.0);
    assert_eq!(gateway.metric("hookwarden_dedup_entries"), 0.0);
    let genuine = send(&gateway, "sendauth", &body);
    assert_eq!((genuine.is_duplicate(), sink.only().id()), (false, &*genuine.id()));
    // Nor does a stranger learn that there was such an event.
    forge(&gateway, "sendauth", &body).refused(401, "unverified");
}

/// More sources of SendAuth's: one more of the same tenant, one of another, one for another app, one unsigned and one
/// that only reports.
fn sources(other: &Sink) -> String {
    let source = |name: &str, keys: &str| format!("[sources.{name}]\nvendor = 'sendauth'\n{keys}\n");
    let signed = "secret_env = 'SENDAUTH_SECRET'";
    [
        source("group", &format!("{signed}\nupstream = 'app'")),
        source("tenant", &format!("{signed}\nupstream = 'app'\ntenant = 'other'")),
        source("elsewhere", &format!("{signed}\nupstream = 'other'")),
        source("open", "upstream = 'app'\nverify = { scheme = 'none' }"),
        source("known", "upstream = 'app'\nverify = { scheme = 'none' }\nallow = ['127.0.0.0/8']"),
        source("report", &format!("{signed}\nupstream = 'app'\nenforce = false")),
        format!(
            "[upstreams.other]\nurl = 'http://{}/other'\nsecret_env = 'APP_WEBHOOK_SECRET'\n",
            other.address
        ),
    ]
    .concat()
}

#[test]
fn two_sources_of_one_tenant_have_the_same_events() {
    let (sink, other) = (Sink::start(), Sink::start());
    let gateway = Gateway::start(&Config { tables: &sources(&other), ..Config::to(sink.address) }.text());
    let body = approval("a1");
    let first = send(&gateway, "sendauth", &body).id();
    let again = send_to(&gateway, "group", "sendauth", &body);
    assert_eq!((again.id(), again.is_duplicate(), sink.count()), (first.clone(), true, 1));
    // Another tenant's event is another event, and another app has not seen this one yet.
    assert!(!send_to(&gateway, "tenant", "sendauth", &body).is_duplicate());
    assert_eq!((sink.count(), other.count()), (2, 0));
    assert_eq!(sink.last().json()["source"], format!("{PUBLIC_URL}/sendauth/other"));
    let elsewhere = send_to(&gateway, "elsewhere", "sendauth", &body);
    assert_eq!((elsewhere.id(), elsewhere.is_duplicate(), other.count()), (first, false, 1));
    assert!(send_to(&gateway, "elsewhere", "sendauth", &body).is_duplicate());
}

#[test]
fn what_is_proven_less_does_not_stand_in_the_way_of_what_is_proven_more() {
    let (sink, other) = (Sink::start(), Sink::start());
    let gateway = Gateway::start(&Config { tables: &sources(&other), ..Config::to(sink.address) }.text());
    let body = approval("a1");
    let unsigned = |source: &str| gateway.post(&format!("/in/{source}"), &[JSON], &body);
    assert!(!unsigned("open").is_duplicate());
    assert!(!unsigned("known").is_duplicate());
    assert!(!send(&gateway, "sendauth", &body).is_duplicate());
    assert!(unsigned("open").is_duplicate() && send(&gateway, "sendauth", &body).is_duplicate());
    let arrived = sink.arrived();
    let seen: Vec<_> = arrived.iter().map(|arrived| arrived.json()["hwassurance"].clone()).collect();
    assert_eq!(seen, ["none", "network", "signed-weak"]);
}

#[test]
fn report_only_forwards_a_forgery_as_what_it_is_and_the_genuine_event_too() {
    let (sink, other) = (Sink::start(), Sink::start());
    let gateway = Gateway::start(&Config { tables: &sources(&other), ..Config::to(sink.address) }.text());
    let body = approval("a1");
    let forged = sha256_hex(&[b"a guess", &body]);
    let forge = || gateway.post("/in/report", &[JSON, ("x-sendauth-signature", &forged)], &body);
    assert!(!forge().is_duplicate());
    assert!(!send_to(&gateway, "report", "sendauth", &body).is_duplicate());
    assert!(forge().is_duplicate());
    assert!(send_to(&gateway, "report", "sendauth", &body).is_duplicate());
    let arrived = sink.arrived();
    let seen: Vec<_> = arrived.iter().map(|arrived| arrived.json()["hwassurance"].clone()).collect();
    assert_eq!(seen, ["none", "signed-weak"]);
    let verification = &arrived[0].json()["data"]["vendor"]["verification"];
    assert_eq!(verification["assurance"], "none");
    arrived[0].verify();
    let mismatches =
        "hookwarden_verifications_total{source=\"report\",vendor=\"sendauth\",result=\"mismatch\",key=\"\"}";
    assert_eq!(gateway.metric(mismatches), 2.0);
    // Not JSON is not JSON, whoever sends it.
    gateway.post("/in/report", &[JSON], b"not JSON").refused(400, "malformed_body");
}

/// Zenlogin tells of a switch, without an id and without a time.
fn switched(to: &str) -> Vec<u8> {
    format!(
        r#"{{"success":true,"data":{{"type":"application.{to}","account":{{"publicId":"acc1"}},"application":{{"publicId":"app1"}}}}}}"#
    )
    .into_bytes()
}

#[test]
fn on_off_on_is_three_events_and_on_on_is_one() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let sent = |to: &str| send(&gateway, "zenlogin", &switched(to)).is_duplicate();
    assert!(!sent("enabled") && sent("enabled"));
    assert!(!sent("disabled") && sent("disabled"));
    assert!(!sent("enabled") && sent("enabled"));
    let arrived = sink.arrived();
    let types: Vec<_> = arrived.iter().map(|arrived| arrived.json()["data"]["event"].clone()).collect();
    assert_eq!(types, ["integration.enabled", "integration.disabled", "integration.enabled"]);
    assert!(arrived[0].id() != arrived[2].id());
}

#[test]
fn a_failed_switch_keeps_its_id() {
    let sink = Sink::behaving(|number, _| Behaviour::Status(if number == 0 { 500 } else { 200 }, ""));
    let gateway = Gateway::start(&Config::to(sink.address).text());
    send(&gateway, "zenlogin", &switched("enabled")).refused(502, "upstream_refused");
    let id = send(&gateway, "zenlogin", &switched("enabled")).id();
    assert!(sink.wait_for(2).iter().all(|arrived| arrived.id() == id));
}

/// Who does not know the secret switches nothing: what is verified keeps its own count of what is on.
#[test]
fn a_forgery_that_goes_on_does_not_open_the_next_window() {
    let sink = Sink::start();
    let text = Config::to(sink.address).text();
    let text = text.replace("\"ZENLOGIN_SECRET\"", "\"ZENLOGIN_SECRET\"\nenforce = false");
    let gateway = Gateway::start(&text);
    let id = send(&gateway, "zenlogin", &switched("enabled")).id();
    forge(&gateway, "zenlogin", &switched("disabled")).id();
    assert_eq!(sink.last().json()["hwassurance"], "none");
    let again = send(&gateway, "zenlogin", &switched("enabled"));
    assert_eq!((again.id(), again.is_duplicate(), sink.count()), (id, true, 2));
}
