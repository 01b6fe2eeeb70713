//! From the disk to the app.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{Arc, Mutex},
};

use serde_json::Value;

use super::*;

#[test]
fn the_vendor_is_answered_before_the_app_and_even_without_it() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let sink = Sink::behaving(move |_, _| Behaviour::Wait(Arc::clone(&held)));
    let home = Home::new();
    let gateway = Gateway::start(&home.config(sink.address, ""));
    let id = taken(&gateway, "a1");
    sink.wait_for(1);
    assert_eq!(status(&event(&gateway, &id)), "ready");
    assert_eq!(inbox_events(&gateway, "app", "ready"), 1.0);
    gate.open();
    eventually("it is delivered", || status(&event(&gateway, &id)) == "delivered");
    sink.only().verify();
    assert_eq!(sink.only().id(), id);
    assert_eq!(attempts(&event(&gateway, &id)), ["200"]);
    assert_eq!(inbox_events(&gateway, "app", "ready"), 0.0);
    let accepted = "hookwarden_events_total{source=\"sendauth\",vendor=\"sendauth\",type=\"approval.approved\",result=\"accepted\"}";
    assert_eq!(gateway.metric(accepted), 1.0);
    let reached = "hookwarden_end_to_end_duration_seconds_count{source=\"sendauth\",upstream=\"app\"}";
    assert_eq!(gateway.metric(reached), 1.0);
    // A repetition is a duplicate, and goes nowhere.
    let again = send(&gateway, "sendauth", &approval("a1"));
    assert_eq!((again.id(), again.is_duplicate()), (id, true));
    assert_eq!(sink.count(), 1);
}

/// What differs between two deliveries of one event: times and traces.
fn plain(arrived: &Arrived) -> (BTreeMap<String, String>, String) {
    let mut headers = arrived.headers.clone();
    // Where the vendor tells no time, it is that of receipt.
    if headers.get("ce-time") == headers.get("ce-recordedtime") {
        headers.remove("ce-time");
    }
    for name in [
        "webhook-timestamp",
        "webhook-signature",
        "traceparent",
        "ce-traceparent",
        "ce-recordedtime",
        "host",
        "content-length",
    ] {
        headers.remove(name);
    }
    let mut body = String::from_utf8(arrived.body.clone()).expect("UTF-8");
    if let Ok(Value::Object(event)) = serde_json::from_str(&body) {
        for pointer in ["/recordedtime", "/traceparent", "/data/received_at", "/received_at"] {
            let value = Value::Object(event.clone());
            if let Some(text) = value.pointer(pointer).and_then(Value::as_str) {
                body = body.replace(text, "-");
            }
        }
    }
    (headers, body)
}

#[test]
fn what_is_stored_is_sent_as_if_directly() {
    for format in ["cloudevents", "cloudevents-binary", "raw"] {
        let app = format!("format = \"{format}\"");
        let (direct, stored) = (Sink::start(), Sink::start());
        let home = Home::new();
        let bodies = [
            ("sendauth", approval("ä \\u20ac b")),
            ("zenlogin", br#"{"data":{"type":"x % y","account":{"publicId":"q"}}}"#.to_vec()),
        ];
        let first = Gateway::start(&Config { app: &app, ..Config::to(direct.address) }.text());
        let second = Gateway::start(&home.config(stored.address, &app));
        for (vendor, body) in &bodies {
            let (name, value) = signature(vendor, body);
            let headers = [("content-type", "application/json; x=\"1\""), (name, value.as_str())];
            let path = format!("/in/{vendor}");
            assert_eq!(
                first.post(&path, &headers, body).id(),
                second.post(&path, &headers, body).id(),
                "{format}"
            );
        }
        let (direct, mut stored) = (direct.wait_for(2), stored.wait_for(2));
        if stored[0].id() != direct[0].id() {
            stored.swap(0, 1);
        }
        for (direct, stored) in direct.iter().zip(&stored) {
            stored.verify();
            assert_eq!(plain(direct), plain(stored), "{format}");
        }
    }
}

#[test]
fn a_restart_goes_on_and_remembers() {
    let home = Home::new();
    let address = Later::new().refuse();
    let config = home.config(address, &patient());
    let mut gateway = Gateway::start(&config);
    let ids: Vec<String> = (0..20).map(|number| taken(&gateway, &number.to_string())).collect();
    gateway.signal("KILL");
    gateway.wait();
    let sink = Sink::at(TcpListener::bind(address).expect("the port"), |_, _| Behaviour::Status(204, ""));
    let gateway = Gateway::start(&config);
    let mut arrived: Vec<String> = sink.wait_for(20).iter().map(|one| one.id().to_owned()).collect();
    arrived.sort();
    let mut expected = ids.clone();
    expected.sort();
    assert_eq!(arrived, expected);
    for (number, id) in ids.iter().enumerate() {
        let again = send(&gateway, "sendauth", &approval(&number.to_string()));
        assert_eq!((&again.id(), again.is_duplicate()), (id, true));
    }
    eventually("all is settled", || inbox_events(&gateway, "app", "ready") == 0.0);
    assert_eq!(sink.count(), 20);
    assert!(home.is_sound());
}

#[test]
fn duplicates_from_before_a_restart_spend_no_budget() {
    let home = Home::new();
    let sink = Sink::start();
    let config = home.config(sink.address, "").replacen(
        "vendor = \"sendauth\"",
        "vendor = \"sendauth\"\nrate = \"3/h\"",
        1,
    );
    let mut gateway = Gateway::start(&config);
    let id = taken(&gateway, "a1");
    gateway.signal("TERM");
    gateway.wait();
    let gateway = Gateway::start(&config);
    for _ in 0..10 {
        let again = send(&gateway, "sendauth", &approval("a1"));
        assert_eq!((again.id(), again.is_duplicate()), (id.clone(), true));
    }
    for number in 0..3 {
        taken(&gateway, &format!("new-{number}"));
    }
    send(&gateway, "sendauth", &approval("too much")).refused(429, "rate_limited");
}

#[test]
fn a_switch_that_is_thrown_again_after_a_restart_is_an_event_of_its_own() {
    let home = Home::new();
    let sink = Sink::start();
    let config = home.config(sink.address, "");
    let toggle = |gateway: &Gateway, event: &str| {
        let body = format!(
            r#"{{"success":true,"data":{{"type":"{event}","account":{{"publicId":"accn1abtwskjj3q1"}},"application":{{"publicId":"applrn12zr5zayrp"}}}}}}"#
        );
        send(gateway, "zenlogin", body.as_bytes())
    };
    let mut gateway = Gateway::start(&config);
    let (on, off) =
        (toggle(&gateway, "application.enabled").id(), toggle(&gateway, "application.disabled").id());
    gateway.signal("KILL");
    gateway.wait();
    let gateway = Gateway::start(&config);
    let retry = toggle(&gateway, "application.disabled");
    assert_eq!((retry.id(), retry.is_duplicate()), (off.clone(), true), "the vendor's retry");
    let again = toggle(&gateway, "application.enabled");
    assert!(!again.is_duplicate() && again.id() != on && again.id() != off);
    eventually("all three arrive", || {
        let ids: std::collections::BTreeSet<String> =
            sink.arrived().iter().map(|one| one.id().to_owned()).collect();
        ids.len() == 3
    });
}

#[test]
fn two_routes_to_one_app_are_one_delivery() {
    let home = Home::new();
    let sink = Sink::start();
    let routes = r#"routes = [{ types = ["approval.*"], upstream = "app" }, { types = ["approval.approved"], upstream = "app" }]"#;
    let text = home.config(sink.address, "").replacen("upstream = \"app\"", routes, 1);
    let gateway = Gateway::start(&text);
    let id = taken(&gateway, "a1");
    eventually("it is delivered", || status(&event(&gateway, &id)) == "delivered");
    assert_eq!(event(&gateway, &id)["deliveries"].as_array().map(Vec::len), Some(1));
    assert!(send(&gateway, "sendauth", &approval("a1")).is_duplicate());
    assert_eq!((sink.count(), gateway.admin_get("/readyz").status), (1, 200));
}

#[test]
fn failures_are_repeated_by_the_schedule_and_noted() {
    let sink = Sink::behaving(|number, _| match number {
        0 => Behaviour::Status(500, ""),
        1 => Behaviour::Status(503, "retry-after: 0\r\n"),
        2 => Behaviour::HangUp,
        3 => Behaviour::Status(302, "location: /elsewhere\r\n"),
        _ => Behaviour::Status(201, ""),
    });
    let home = Home::new();
    let gateway = Gateway::start(&home.config(sink.address, SOON));
    let id = taken(&gateway, "a1");
    eventually("it is delivered", || status(&event(&gateway, &id)) == "delivered");
    let event = event(&gateway, &id);
    let broken = "the connection to the app broke before its answer";
    assert_eq!(attempts(&event), ["500", "503", broken, "302", "201"]);
    let arrived = sink.wait_for(5);
    arrived.iter().for_each(Arrived::verify);
    assert!(arrived.iter().all(|one| one.id() == id && one.json()["hwreplay"].is_null()));
    let attempt = &event["deliveries"][0]["attempts"][0];
    assert!(attempt["at"].is_string() && attempt["duration_ms"].is_u64());
    assert_eq!(attempt["error"], "unexpected status code: 500");
    for (result, code) in
        [("refused", "500"), ("busy", "503"), ("broken", ""), ("refused", "302"), ("success", "201")]
    {
        let sample =
            format!("hookwarden_deliveries_total{{upstream=\"app\",result=\"{result}\",code=\"{code}\"}}");
        assert_eq!(gateway.metric(&sample), 1.0, "{sample}");
    }
}

#[test]
fn the_app_s_retry_after_makes_the_wait_longer() {
    let sink = Sink::behaving(|number, _| match number {
        0 => Behaviour::Status(429, "retry-after: 600\r\n"),
        1 => Behaviour::Status(500, "retry-after: 600\r\n"),
        _ => Behaviour::Status(200, ""),
    });
    let home = Home::new();
    let gateway = Gateway::start(&home.config(sink.address, SOON));
    let time = |value: &Value| value.as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
    for id in ["a1", "a2"] {
        let id = taken(&gateway, id);
        eventually("it waits", || status(&event(&gateway, &id)) == "retrying");
        let event = event(&gateway, &id);
        let delivery = &event["deliveries"][0];
        let wait = time(&delivery["attempts"][0]["at"]).duration_until(time(&delivery["due_at"])).as_secs();
        assert!((599..=602).contains(&wait), "{wait}");
    }
    assert_eq!(inbox_events(&gateway, "app", "retrying"), 2.0);
    assert!(gateway.metric("hookwarden_inbox_oldest_event_timestamp_seconds{upstream=\"app\"}") > 1e9);
}

#[test]
fn an_event_ends_as_a_dead_letter_after_its_schedule_or_by_410() {
    let sink = Sink::behaving(|_, arrived| match arrived.json()["subject"].as_str() {
        Some("approval/gone") => Behaviour::Status(410, ""),
        Some("approval/bad") => Behaviour::Status(422, ""),
        _ => Behaviour::Status(200, ""),
    });
    let home = Home::new();
    let gateway = Gateway::start(&home.config(sink.address, "schedule = [\"10ms\", \"10ms\"]"));
    let (gone, bad) = (taken(&gateway, "gone"), taken(&gateway, "bad"));
    // One that is poison holds up no other.
    let good: Vec<String> = (0..50).map(|number| taken(&gateway, &number.to_string())).collect();
    for id in &good {
        eventually("it is delivered", || status(&event(&gateway, id)) == "delivered");
    }
    eventually("both are dead", || inbox_events(&gateway, "app", "dead") == 2.0);
    assert_eq!(attempts(&event(&gateway, &gone)), ["410"]);
    assert_eq!(attempts(&event(&gateway, &bad)), ["422", "422", "422"]);
    let dead = "hookwarden_events_total{source=\"sendauth\",vendor=\"sendauth\",type=\"approval.approved\",result=\"dead_letter\"}";
    assert_eq!(gateway.metric(dead), 2.0);
    let listed = events(&gateway, "status=dead");
    assert_eq!(listed.iter().map(|one| one["id"].as_str()).collect::<Vec<_>>(), [Some(&*bad), Some(&*gone)]);
    gateway.logged(|line| line["id"] == *gone && line["level"] == "WARN");
}

/// Two apps, each with a route of its own.
fn two_ways(home: &Home, first: &Sink, second: &Sink, app: &str) -> String {
    let routes = r#"routes = [{ types = ["approval.*"], upstream = "app" }, { types = ["approval.approved"], upstream = "other" }, { types = ["user.*"], upstream = "other" }]"#;
    let other = format!(
        "[upstreams.other]\nurl = \"http://{}/\"\nsecret_env = \"APP_WEBHOOK_SECRET\"\nformat = \"raw\"\n{app}\n",
        second.address
    );
    let text = home.config(first.address, "").replacen("upstream = \"app\"", routes, 1);
    text + &other
}

#[test]
fn every_route_that_matches_gets_the_event_each_with_its_own_fate() {
    let home = Home::new();
    let (first, second) = (Sink::start(), Sink::behaving(|_, _| Behaviour::Status(410, "")));
    let gateway = Gateway::start(&two_ways(&home, &first, &second, ""));
    let id = taken(&gateway, "a1");
    eventually("both have ended", || status(&event(&gateway, &id)) == "dead");
    eventually("one is delivered", || {
        event(&gateway, &id)["deliveries"]
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one["upstream"] == "app" && one["status"] == "delivered"))
    });
    assert_eq!(first.wait_for(1)[0].id(), id);
    assert_eq!(second.wait_for(1)[0].body, approval("a1"), "raw");
    assert_eq!(inbox_events(&gateway, "other", "dead"), 1.0);
    assert_eq!(inbox_events(&gateway, "app", "dead"), 0.0);
    // Where one route matches there is one delivery.
    let denied = approval("a2");
    let denied = String::from_utf8(denied).unwrap().replace("verified", "denied").into_bytes();
    let id = send(&gateway, "sendauth", &denied).id();
    eventually("it is delivered", || status(&event(&gateway, &id)) == "delivered");
    assert_eq!(event(&gateway, &id)["deliveries"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_partition_keeps_its_order_and_a_failing_head_holds_only_its_own() {
    let (open, seen) = (Arc::new(Mutex::new(false)), Arc::new(Mutex::new(Vec::<String>::new())));
    let (is_open, log) = (Arc::clone(&open), Arc::clone(&seen));
    let sink = Sink::behaving(move |_, arrived| {
        let subject = arrived.json()["subject"].as_str().unwrap_or_default().to_owned();
        // Transactions of one approval are one partition.
        if subject == "transaction/t0" && !*is_open.lock().unwrap() {
            return Behaviour::Status(500, "");
        }
        log.lock().unwrap().push(subject);
        Behaviour::Status(200, "")
    });
    let home = Home::new();
    let waits = (0..200).map(|_| "\"20ms\"").collect::<Vec<_>>().join(",");
    let app = format!("order = \"partition\"\nschedule = [{waits}]\nconcurrency = 8");
    let gateway = Gateway::start(&home.config(sink.address, &app));
    let transaction = |id: &str, parent: &str| {
        let body = format!(
            r#"{{"id":"{id}","subject":"u","state":"verified","approvalID":"{parent}","completedAt":"2024-01-15T10:35:00Z"}}"#
        );
        send(&gateway, "sendauth", body.as_bytes()).id()
    };
    for number in 0..10 {
        transaction(&format!("t{number}"), "held");
        transaction(&format!("f{number}"), "free");
    }
    eventually("the other partition is through", || seen.lock().unwrap().len() == 10);
    let free: Vec<String> = (0..10).map(|number| format!("transaction/f{number}")).collect();
    assert_eq!(*seen.lock().unwrap(), free, "in order, and nothing of the one that is held");
    eventually("nine wait behind the head", || inbox_events(&gateway, "app", "ready") == 9.0);
    *open.lock().unwrap() = true;
    eventually("all are through", || seen.lock().unwrap().len() == 20);
    let held: Vec<String> = (0..10).map(|number| format!("transaction/t{number}")).collect();
    assert_eq!(seen.lock().unwrap()[10..], held, "in order");
}

#[test]
fn direct_delivery_stays_as_it_was() {
    let home = Home::new();
    let sink = Sink::behaving(|_, _| Behaviour::Status(500, ""));
    let text = home.config(sink.address, LATE).replacen(
        "vendor = \"zenlogin\"",
        "vendor = \"zenlogin\"\ndelivery = \"direct\"",
        1,
    );
    let gateway = Gateway::start(&text);
    send(&gateway, "zenlogin", b"{\"a\":1}").refused(502, "upstream_refused");
    send(&gateway, "authpi", b"{\"a\":1}").id();
    let shown = gateway.admin_get("/api/v1/sources").json();
    let delivery = |name: &str| {
        let sources = shown["sources"].as_array().expect("a list").clone();
        sources.into_iter().find(|source| source["name"] == name).expect("a source")["delivery"].clone()
    };
    assert_eq!((delivery("zenlogin"), delivery("authpi")), ("direct".into(), "inbox".into()));
    assert_eq!(events(&gateway, "").len(), 1);
}

#[test]
fn deliveries_are_paced_and_none_is_refused_for_it() {
    let home = Home::new();
    let running = Arc::new(Mutex::new((0_u32, 0_u32)));
    let counted = Arc::clone(&running);
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let sink = Sink::behaving(move |_, _| {
        {
            let mut running = counted.lock().unwrap();
            running.0 += 1;
            running.1 = running.1.max(running.0);
        }
        held.wait();
        counted.lock().unwrap().0 -= 1;
        Behaviour::Status(200, "")
    });
    let gateway = Gateway::start(&home.config(sink.address, "concurrency = 3\nrate = \"1000/s burst 1\""));
    for number in 0..30 {
        taken(&gateway, &number.to_string());
    }
    sink.wait_for(3);
    assert_eq!(sink.count(), 3, "no more than three at once");
    gate.open();
    sink.wait_for(30);
    eventually("all is settled", || inbox_events(&gateway, "app", "ready") == 0.0);
    assert!(running.lock().unwrap().1 <= 3);
    assert_eq!(sink.count(), 30);
}

#[test]
fn a_reload_changes_the_app_under_way() {
    let home = Home::new();
    let gateway = Gateway::start(&home.config(nobody(), &patient()));
    let id = taken(&gateway, "a1");
    eventually("it was tried", || status(&event(&gateway, &id)) == "retrying");
    let sink = Sink::start();
    gateway.reconfigure(home.config(sink.address, &patient()));
    assert_eq!(sink.wait_for(1)[0].id(), id);
    // An inbox that is taken out of the file stays open until a restart, and its sources deliver directly.
    let text = Config::to(sink.address).text();
    gateway.reconfigure(&text);
    gateway.logged(|line| {
        line["message"].as_str().is_some_and(|text| text.contains("a change here takes a restart"))
    });
    taken(&gateway, "a2");
    assert_eq!(sink.wait_for(2)[1].json()["subject"], "approval/a2");
    assert_eq!(events(&gateway, "").len(), 1);
}
