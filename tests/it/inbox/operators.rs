//! What operators see and do: the API and `hookwarden events`.

use super::*;

/// An app that refuses all, until it is told otherwise.
fn dead_then_alive() -> (Sink, std::sync::Arc<std::sync::atomic::AtomicBool>) {
    let alive = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_alive = std::sync::Arc::clone(&alive);
    let sink = Sink::behaving(move |_, _| match is_alive.load(std::sync::atomic::Ordering::SeqCst) {
        true => Behaviour::Status(200, ""),
        false => Behaviour::Status(410, ""),
    });
    (sink, alive)
}

#[test]
fn dead_letters_are_replayed_as_what_they_were_and_marked() {
    for format in ["cloudevents", "cloudevents-binary", "raw"] {
        let (sink, alive) = dead_then_alive();
        let home = Home::new();
        let gateway = Gateway::start(&home.config(sink.address, &format!("format = \"{format}\"")));
        let id = taken(&gateway, "a1");
        eventually("it is dead", || status(&event(&gateway, &id)) == "dead");
        alive.store(true, std::sync::atomic::Ordering::SeqCst);
        let answer = admin_post(&gateway, &format!("/api/v1/events/{id}/replay"));
        assert_eq!((answer.status, answer.json()["changed"].as_u64()), (200, Some(1)));
        eventually("it is delivered", || status(&event(&gateway, &id)) == "delivered");
        let arrived = sink.wait_for(2);
        assert!(arrived.iter().all(|one| one.id() == id));
        arrived[1].verify();
        let marked = |arrived: &Arrived| match format {
            "cloudevents" => arrived.json()["hwreplay"] == true,
            _ => arrived.headers.get("ce-hwreplay").is_some_and(|value| value == "true"),
        };
        assert_eq!((marked(&arrived[0]), marked(&arrived[1])), (false, true), "{format}");
        for name in ["time", "recordedtime", "traceparent", "type"] {
            let of = |arrived: &Arrived| match format {
                "cloudevents" => arrived.json()[name].as_str().map(str::to_owned),
                _ => arrived.headers.get(&format!("ce-{name}")).cloned(),
            };
            assert!(of(&arrived[0]).is_some() && of(&arrived[0]) == of(&arrived[1]), "{name}");
        }
        let delivery = &event(&gateway, &id)["deliveries"][0];
        assert_eq!((delivery["replay"].as_bool(), attempts(&event(&gateway, &id)).len()), (Some(true), 2));
        // Deduplication is none of a replay's business, and goes on as before.
        assert!(send(&gateway, "sendauth", &approval("a1")).is_duplicate());
        // Delivered ones too may be had again.
        let answer = admin_post(&gateway, &format!("/api/v1/events/{id}/replay?upstream=app"));
        assert_eq!(answer.json()["changed"], 1);
        sink.wait_for(3);
        let counted = "hookwarden_end_to_end_duration_seconds_count{source=\"sendauth\",upstream=\"app\"}";
        eventually("it is delivered again", || attempts(&event(&gateway, &id)).len() == 3);
        assert_eq!(gateway.metric(counted), 0.0, "how long replays took says nothing");
    }
}

#[test]
fn what_waits_is_tried_at_once_or_given_up() {
    let home = Home::new();
    let address = Later::new().refuse();
    let gateway = Gateway::start(&home.config(address, LATE));
    let (first, second) = (taken(&gateway, "a1"), taken(&gateway, "a2"));
    eventually("both were tried", || inbox_events(&gateway, "app", "retrying") == 2.0);
    let answer = admin_post(&gateway, &format!("/api/v1/events/{second}/discard"));
    assert_eq!(answer.json()["changed"], 1);
    assert_eq!(admin_post(&gateway, &format!("/api/v1/events/{second}/discard")).json()["changed"], 0);
    let sink = Sink::at(TcpListener::bind(address).expect("the port"), |_, _| Behaviour::Status(200, ""));
    admin_post(&gateway, &format!("/api/v1/events/{first}/replay"));
    assert_eq!(sink.wait_for(1)[0].id(), first);
    assert_eq!(sink.last().json()["hwreplay"], Value::Null, "it had not been delivered yet");
    assert_eq!(status(&event(&gateway, &second)), "discarded");
    eventually("nothing waits", || inbox_events(&gateway, "app", "retrying") == 0.0);
}

#[test]
fn events_are_found_by_what_is_known_of_them() {
    let (sink, _) = dead_then_alive();
    let home = Home::new();
    let gateway = Gateway::start(&home.config(sink.address, ""));
    let ids: Vec<String> = (0..5).map(|number| taken(&gateway, &format!("a b{number}"))).collect();
    let other = send(&gateway, "authpi", b"{\"type\":\"user.created\"}").id();
    eventually("all are dead", || inbox_events(&gateway, "app", "dead") == 6.0);
    let found = |query: &str| {
        let events = events(&gateway, query);
        events.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    let newest_first: Vec<String> = [&other].into_iter().chain(ids.iter().rev()).cloned().collect();
    assert_eq!(found(""), newest_first);
    assert_eq!(found("source=authpi"), [other.as_str()]);
    assert_eq!(found("type=approval.approved").len(), 5);
    assert_eq!(found("type=approval.*").len(), 5);
    assert_eq!(found("type=approval").len(), 0);
    assert_eq!(found("subject=approval%2Fa+b3"), [ids[3].as_str()]);
    assert_eq!(found("partitionkey=a%20b2"), [ids[2].as_str()]);
    assert_eq!(found(&format!("id={}", ids[1])), [ids[1].as_str()]);
    assert_eq!(found("status=dead&upstream=app").len(), 6);
    assert_eq!(found("status=dead&upstream=nobody").len(), 0);
    assert_eq!(found("status=ready").len() + found("status=delivered").len(), 0);
    let time = event(&gateway, &ids[0])["received_at"].as_str().expect("a time").to_owned();
    assert_eq!(found(&format!("before={time}")).len(), 0);
    assert_eq!(found(&format!("since={time}")).len(), 6);
    assert_eq!(found("until=2000-01-01T00:00:00Z").len(), 0);
    // Page by page.
    let mut pages = Vec::new();
    let mut next = String::new();
    loop {
        let page = gateway.admin_get(&format!("/api/v1/events?limit=2{next}")).json();
        pages.extend(page["events"].as_array().expect("a list").iter().map(|event| event["id"].clone()));
        match page["next"].as_i64() {
            Some(place) => next = format!("&before={place}"),
            None => break,
        }
    }
    assert_eq!(pages, newest_first);
}

#[test]
fn a_slip_of_the_pen_changes_nothing() {
    let (sink, _) = dead_then_alive();
    let home = Home::new();
    let gateway = Gateway::start(&home.config(sink.address, ""));
    let id = taken(&gateway, "a1");
    eventually("it is dead", || inbox_events(&gateway, "app", "dead") == 1.0);
    for path in [
        "/api/v1/events/replay",
        "/api/v1/events/discard?source=sendauth",
        "/api/v1/events/discard?status=dead&sorce=authpi",
        "/api/v1/events/discard?status=dead&status=dead",
        "/api/v1/events/discard?status=deed",
        "/api/v1/events/discard?status=dead&since=yesterday",
        "/api/v1/events/hw1_1/discard",
        &format!("/api/v1/events/{id}/discard?url=http://127.0.0.1:1/"),
    ] {
        admin_post(&gateway, path).refused(400, "bad_parameter");
    }
    let none = format!("/api/v1/events/hw1_{}", "0".repeat(32));
    admin_post(&gateway, &format!("{none}/replay")).refused(404, "unknown_event");
    gateway.admin_get(&none).refused(404, "unknown_event");
    gateway.admin_get("/api/v1/events?limit=501").refused(400, "bad_parameter");
    gateway.admin_get("/api/v1/events?limit=0").refused(400, "bad_parameter");
    gateway.admin_get(&format!("/api/v1/events/{id}/replay")).refused(405, "method_not_allowed");
    gateway.admin_get("/api/v1/events/a/b/c").refused(404, "not_found");
    request(gateway.admin, "GET", "/api/v1/events", &[], b"").refused(401, "unauthorized");
    assert_eq!(status(&event(&gateway, &id)), "dead");
    assert_eq!(sink.count(), 1);
    // Nothing of it is where vendors call.
    request(gateway.listen, "GET", "/api/v1/events", &[], b"").refused(404, "unknown_source");
}

#[test]
fn no_payload_is_shown() {
    let sink = Sink::start();
    let home = Home::new();
    let gateway = Gateway::start(&home.config(sink.address, ""));
    let id = send(&gateway, "zenlogin", br#"{"data":{"type":"account.created","account":{"publicId":"a1","accessToken":"canary"}},"note":"canary"}"#).id();
    eventually("it is delivered", || status(&event(&gateway, &id)) == "delivered");
    let shown = format!("{}{:?}", event(&gateway, &id), events(&gateway, ""));
    assert!(!shown.contains("canary") && !gateway.log().contains("canary"));
    // The secret itself is not even in the file.
    drop(gateway);
    assert!(!String::from_utf8_lossy(&bytes_of(&home.file())).contains("accessToken\":\"canary"));
}

#[test]
fn the_command_lists_shows_replays_and_discards() {
    let (sink, alive) = dead_then_alive();
    let home = Home::new();
    let gateway = Gateway::start(&home.config(sink.address, ""));
    let ids: Vec<String> = (0..3).map(|number| taken(&gateway, &number.to_string())).collect();
    eventually("all are dead", || inbox_events(&gateway, "app", "dead") == 3.0);
    let list = cli(&gateway, &["list", "--status", "dead"]);
    assert_eq!((list.code, list.out.lines().count()), (0, 4), "{}", list.out);
    assert!(list.out.lines().nth(1).is_some_and(|line| line.starts_with(&ids[2]) && line.contains("410")));
    let json: Value =
        serde_json::from_str(&cli(&gateway, &["list", "--limit", "1", "--json"]).out).expect("JSON");
    assert_eq!(json["events"].as_array().map(Vec::len), Some(1));
    let page = cli(&gateway, &["list", "--limit", "1"]);
    assert!(
        page.err.starts_with("more: --before ") && page.out.lines().count() == 2,
        "{}{}",
        page.err,
        page.out
    );
    let none = cli(&gateway, &["replay", "--status", "delivered"]);
    assert_eq!((none.code, none.out.as_str()), (0, "replay: 0 deliveries\n"), "{}", none.err);
    let shown = cli(&gateway, &["show", &ids[0]]);
    assert!(
        shown.out.contains("approval/0") && shown.out.contains("unexpected status code: 410"),
        "{}",
        shown.out
    );
    // Many at once: it says how many, and wants to be told.
    let asked = cli(&gateway, &["replay", "--status", "dead"]);
    assert_eq!(asked.code, 1);
    assert!(asked.err.contains("this would replay 3 deliveries: say --yes"), "{}", asked.err);
    let vague = cli(&gateway, &["discard", "--source", "sendauth", "--yes"]);
    assert!(vague.code == 2 && vague.err.contains("--status"), "{}", vague.err);
    assert_eq!(cli(&gateway, &["replay", "--status", "ready", "--yes"]).out, "replay: 0 deliveries\n");
    alive.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(cli(&gateway, &["discard", &ids[0]]).out, "discard: 1 delivery\n");
    assert_eq!(cli(&gateway, &["replay", "--status", "dead", "--yes"]).out, "replay: 2 deliveries\n");
    eventually("both are delivered", || events(&gateway, "status=delivered").len() == 2);
    assert_eq!(status(&event(&gateway, &ids[0])), "discarded");
    let missing = cli(&gateway, &["show", "hw1_00000000000000000000000000000000"]);
    assert!(missing.code == 1 && missing.err.contains("404 unknown_event"), "{}", missing.err);
    let config = gateway.config.display().to_string();
    let by_config = output(hookwarden().args([
        "events",
        "list",
        "--config",
        &config,
        "--admin",
        &gateway.admin.to_string(),
    ]));
    assert_eq!(by_config.code, 0, "{}", by_config.err);
}

#[test]
fn without_an_inbox_there_is_nothing_to_list() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    gateway.admin_get("/api/v1/events").refused(404, "not_found");
    let list = cli(&gateway, &["list"]);
    assert!(list.code == 1 && list.err.contains("inbox.url"), "{}", list.err);
}
