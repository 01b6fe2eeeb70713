//! What each path answers.

use std::sync::atomic::Ordering;

use http::header::CONTENT_TYPE;
use jiff::Timestamp;

use super::*;
use crate::{gateway::Rejected, store::Claim};

#[tokio::test]
async fn health_is_told_to_anybody_by_any_name() {
    let desk = desk(ApiAccess::Off);
    for path in ["/livez", "/readyz"] {
        let answer = desk.ask(&format!("GET {path}"), &[("host", "gateway.example")]).await;
        assert_eq!((answer.status, &*answer.body), (200, "ok\n"));
        assert_eq!(answer.headers[CONTENT_TYPE], "text/plain; charset=utf-8");
    }
    let verbose = "ok\n[+] config loaded, sources: 0\n[+] listening\n[+] not draining\n";
    assert_eq!(desk.ask("GET /readyz?verbose", &[]).await.body, verbose);

    desk.shared.stopping.store(true, Ordering::Relaxed);
    let answer = desk.ask("GET /readyz", &[]).await;
    assert_eq!((answer.status, &*answer.body), (503, "not ready: draining\n"));
    let verbose = "not ready: draining\n[+] config loaded, sources: 0\n[+] listening\n[-] draining\n";
    assert_eq!(desk.ask("GET /readyz?a=b&verbose=1", &[]).await.body, verbose);
    assert_eq!(desk.status("GET /livez", &[]).await, 200, "draining is not dead");
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let desk = desk(ApiAccess::Off);
    let Claim::Mine(lease) = desk.shared.store.claim(1, Duration::from_secs(9)) else { panic!("a new key") };
    let plain = desk.ask("GET /metrics", &[("host", "gateway.example"), ("accept", "text/plain")]).await;
    assert_eq!(plain.headers[CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    assert!(plain.body.contains("\nhookwarden_dedup_entries 1\n"), "{}", plain.body);
    assert!(plain.body.contains("\nhookwarden_dedup_evictions_total 0\n"), "{}", plain.body);
    assert!(plain.body.contains("# TYPE hookwarden_config_reloads_total counter\n"), "{}", plain.body);
    let kinds = plain.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut kinds = kinds.map(|(_, kind)| kind).peekable();
    assert!(kinds.peek().is_some());
    assert!(kinds.all(|kind| ["counter", "gauge", "histogram"].contains(&kind)));

    drop(lease);
    let accept = ("accept", "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3");
    let open = desk.ask("GET /metrics", &[accept]).await;
    assert_eq!(open.headers[CONTENT_TYPE], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(
        open.body.contains("\nhookwarden_dedup_entries 0\n") && open.body.ends_with("# EOF\n"),
        "{}",
        open.body
    );
    for (accept, is_open) in [
        ("application/openmetrics-text", true),
        ("text/plain;q=0.5, application/openmetrics-text; version=1.0.0; q=0.5", true),
        ("text/plain, application/openmetrics-text;q=0", false),
        ("text/plain;version=0.0.4, application/openmetrics-text;q=0.1", false),
        ("application/openmetrics-text;q=high", false),
        ("*/*", false),
    ] {
        let answer = desk.ask("GET /metrics", &[("accept", accept)]).await;
        assert_eq!(answer.body.ends_with("# EOF\n"), is_open, "{accept}");
    }
}

#[tokio::test]
async fn sources_are_listed_with_how_their_last_delivery_ended() {
    let desk = desk(ApiAccess::Loopback);
    let (mut failed, ended) = (source(&desk.shared, "b"), source(&desk.shared, "c"));
    failed.enforce = false;
    failed.last.ended(Timestamp::UNIX_EPOCH, false, "unexpected status code: 404".to_owned());
    ended.last.ended(Timestamp::UNIX_EPOCH, true, "status code: 200".to_owned());
    let sources = [ended, failed, source(&desk.shared, "a")];
    desk.gateway.store(Arc::new(gateway(&desk.shared, sources)));
    let answer = desk.ask("GET /api/v1/sources", &[]).await;
    assert_eq!((answer.status, &answer.headers[CONTENT_TYPE]), (200, &"application/json".parse().unwrap()));
    let expected = |name: &str, enforce, last: Value| {
        json!({
            "name": name, "vendor": "sendauth", "path": format!("/in/{name}"), "upstreams": ["app"],
            "delivery": "direct", "assurance": "network", "enforce": enforce, "last": last,
        })
    };
    let at = "1970-01-01T00:00:00.000Z";
    let expected = [
        expected("a", true, json!({ "status": "pending", "message": "not yet invoked", "at": null })),
        expected(
            "b",
            false,
            json!({ "status": "error", "message": "unexpected status code: 404", "at": at }),
        ),
        expected("c", true, json!({ "status": "success", "message": "status code: 200", "at": at })),
    ];
    assert_eq!(answer.json(), json!({ "sources": expected }));
}

#[tokio::test]
async fn rejections_are_listed_the_newest_first() {
    let desk = desk(ApiAccess::Loopback);
    assert_eq!(desk.ask("GET /api/v1/rejections", &[]).await.json(), json!({ "rejections": [] }));
    for (second, source) in [(1, ""), (2, "a")] {
        let at = Timestamp::from_second(second).unwrap();
        let reason = "why".to_owned();
        desk.shared.rejections.push(Rejected { at, source: source.into(), code: "unverified", reason });
    }
    let one = |time, source| json!({ "time": time, "source": source, "code": "unverified", "reason": "why" });
    let expected = [one("1970-01-01T00:00:02.000Z", "a"), one("1970-01-01T00:00:01.000Z", "")];
    assert_eq!(desk.ask("GET /api/v1/rejections", &[]).await.json(), json!({ "rejections": expected }));
}

#[tokio::test]
async fn a_reload_is_answered_with_its_outcome() {
    let mut desk = desk(ApiAccess::Loopback);
    let (admin, peer) = (desk.admin.clone(), "127.0.0.1:5000".parse().unwrap());
    let post = || request("POST /api/v1/reload", &[]);
    for (outcome, status) in [(Ok("taken".to_owned()), 200), (Err("error: unknown key".to_owned()), 422)] {
        let (answer, ()) = tokio::join!(admin.answer(peer, post()), async {
            let ReloadRequest(answer) = desk.reloads.recv().await.unwrap();
            answer.send(outcome).unwrap();
        });
        assert_eq!(answer.status(), status);
        let body: Value =
            serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
        match status {
            200 => assert_eq!(body, json!({ "result": "taken" })),
            _ => assert_eq!(
                (&body["code"], &body["detail"], &body["status"]),
                (&json!("reload_refused"), &json!("error: unknown key"), &json!(422))
            ),
        }
    }
    let (answer, ()) = tokio::join!(admin.answer(peer, post()), async { drop(desk.reloads.recv().await) });
    assert_eq!(answer.status(), 503, "the app dropped the request");
    desk.reloads.close();
    let answer = desk.ask("POST /api/v1/reload", &[]).await;
    assert_eq!((answer.status, &answer.headers[RETRY_AFTER]), (503, &"1".parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_takes_long_is_not_waited_for() {
    let desk = desk(ApiAccess::Loopback);
    assert_eq!(desk.status("POST /api/v1/reload", &[]).await, 503);
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let desk = desk(ApiAccess::Loopback);
    for (path, word) in [
        ("/", "dashboard"),
        ("/nothing", "nothing"),
        ("/readyz/", "nothing"),
        ("/api", "nothing"),
        ("/api/v1/sources/", "nothing"),
        ("/api/v1/events", "inbox"),
        ("/api/v1/events/hw1_a/replay?x=canary-0123456789", "inbox"),
    ] {
        let answer = desk.ask(&format!("GET {path}"), &[]).await;
        assert_eq!(
            (answer.status, &answer.headers["hookwarden-error"]),
            (404, &"not_found".parse().unwrap()),
            "{path}"
        );
        assert_eq!(answer.headers[CONTENT_TYPE], "application/problem+json");
        let problem = answer.json();
        assert_eq!((&problem["title"], &problem["code"]), (&json!("Not Found"), &json!("not_found")));
        assert!(problem["detail"].as_str().unwrap().contains(word), "{path}");
        assert!(problem["instance"].as_str().unwrap().starts_with("urn:uuid:"));
    }
    for (path, allow) in [
        ("/livez", "GET, HEAD"),
        ("/readyz", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
        ("/api/v1/sources", "GET, HEAD"),
        ("/api/v1/rejections", "GET, HEAD"),
        ("/api/v1/reload", "POST"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "OPTIONS"] {
            if allow.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let answer = desk.ask(&format!("{method} {path}"), &[]).await;
            assert_eq!(
                (answer.status, &answer.headers["allow"]),
                (405, &allow.parse().unwrap()),
                "{method} {path}"
            );
        }
    }
}
