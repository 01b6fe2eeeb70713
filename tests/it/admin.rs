//! The admin listener from outside: who may ask, what is told, and that counters count.

use std::{
    io::{BufReader, Write},
    net::SocketAddr,
};

use serde_json::Value;

use crate::harness::{
    ADMIN_TOKEN, Answer, Behaviour, Config, Gateway, Sink, approval, connect, forge, nobody, read_message,
    request, send,
};

const VENDORS: [&str; 5] = ["sendauth", "loginradius", "zenlogin", "authpi", "authalert"];
const API: [&str; 2] = ["/api/v1/sources", "/api/v1/rejections"];

fn get(to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    request(to, "GET", path, headers, b"")
}

fn samples(gateway: &Gateway) -> Vec<String> {
    let text = gateway.admin_get("/metrics").text();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn health_is_for_everybody_and_the_api_for_the_token() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let token = format!("Bearer {ADMIN_TOKEN}");
    for (path, starts) in
        [("/livez", "ok"), ("/readyz", "ok"), ("/readyz?verbose", "ok\n[+] "), ("/metrics", "# HELP ")]
    {
        for headers in [&[][..], &[("host", "gateway.example.com")]] {
            let bytes = request_as(gateway.admin, path, headers);
            assert_eq!(bytes.status, 200, "{path}");
            assert!(bytes.text().starts_with(starts), "{path}");
        }
        let refused = request(gateway.admin, "POST", path, &[], b"");
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")), "{path}");
    }
    for path in API {
        assert_eq!(get(gateway.admin, path, &[("authorization", &token)]).status, 200);
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer x",
            &token[..token.len() - 1],
            &format!("{token}x"),
            &token[7..],
        ] {
            let refused = get(gateway.admin, path, &[("authorization", wrong)]);
            assert_eq!(
                (refused.status, refused.header("www-authenticate")),
                (401, Some("Bearer")),
                "{wrong}"
            );
            assert_eq!(refused.json()["code"], "unauthorized");
        }
        assert_eq!(get(gateway.admin, path, &[]).status, 401);
        assert_eq!(request(gateway.admin, "DELETE", path, &[("authorization", &token)], b"").status, 405);
        // A name that was rebound to this address.
        let rebound =
            request_as(gateway.admin, path, &[("host", "evil.example.com"), ("authorization", &token)]);
        assert_eq!(rebound.status, 421);
        let local = request_as(gateway.admin, path, &[("host", "localhost:1"), ("authorization", &token)]);
        assert_eq!(local.status, 200);
        assert!(local.headers.keys().all(|name| !name.starts_with("access-control-")), "{local:?}");
    }
    let from_a_page = [("authorization", token.as_str()), ("origin", "https://evil.example.com")];
    assert_eq!(request(gateway.admin, "POST", "/api/v1/reload", &from_a_page, b"").status, 403);
    assert_eq!(get(gateway.admin, "/api/v1/reload", &[("authorization", &token)]).status, 405);
    for (path, says) in [
        ("/", "dashboard"),
        ("/api/v1/events", "inbox"),
        ("/api/v1/events/x/replay", "inbox"),
        ("/x", "nothing"),
    ] {
        let missing = get(gateway.admin, path, &[("authorization", &token)]);
        assert_eq!((missing.status, missing.header("content-type")), (404, Some("application/problem+json")));
        assert!(missing.json()["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{missing:?}");
    }
}

/// A GET with these headers and no others.
fn request_as(to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    let host = headers.iter().find(|(name, _)| *name == "host").map_or("127.0.0.1", |(_, host)| host);
    let mut head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    crate::harness::exchange(to, format!("{head}\r\n").as_bytes())
}

#[test]
fn nothing_of_it_is_on_the_public_listener() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let token = format!("Bearer {ADMIN_TOKEN}");
    let paths = [
        "/",
        "/livez",
        "/readyz",
        "/healthz",
        "/metrics",
        "/api",
        "/api/v1/sources",
        "/api/v1/rejections",
        "/api/v1/reload",
        "/api/v1/events",
        "/api/v1/events/x/replay",
        "/debug/pprof",
        "/config",
    ];
    for path in paths {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let answer = request(gateway.listen, method, path, &[("authorization", &token)], b"");
            assert_eq!(
                (answer.status, answer.header("hookwarden-error")),
                (404, Some("unknown_source")),
                "{method} {path}"
            );
        }
        // Nor by naming the other listener.
        let target = format!("http://{}{path}", gateway.admin);
        get(gateway.listen, &target, &[("authorization", &token)]).refused(404, "unknown_source");
    }
    assert_eq!(gateway.metric("hookwarden_config_reloads_total{result=\"success\"}"), 0.0);
    // Nor the other way around.
    assert_eq!(request(gateway.admin, "POST", "/in/sendauth", &[], b"{}").status, 404);
}

#[test]
fn the_api_can_be_off_or_without_a_token() {
    let sink = Sink::start();
    let text = Config::to(sink.address).text();
    let off = Gateway::start(&text.replace("token_env =", "api = false\ntoken_env ="));
    let open = Gateway::start(&text.replace("token_env = \"ADMIN_TOKEN\"", ""));
    for path in API {
        assert_eq!(off.admin_get(path).status, 404);
        assert_eq!(get(open.admin, path, &[]).status, 200);
    }
    assert_eq!(get(off.admin, "/metrics", &[]).status, 200);
    assert_eq!(request(open.admin, "POST", "/api/v1/reload", &[], b"").status, 200);
}

#[test]
fn every_metric_is_there_from_the_start() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let samples = samples(&gateway);
    let has = |sample: &str| {
        samples
            .iter()
            .any(|line| line.strip_prefix(sample).is_some_and(|rest| rest == " 0" || rest == " 0.0"))
    };
    let mut wanted: Vec<String> = [
        "http_requests_in_flight",
        "dedup_entries",
        r#"config_reloads_total{result="success"}"#,
        r#"config_reloads_total{result="failure"}"#,
        r#"store_errors_total{backend="memory"}"#,
        r#"delivery_duration_seconds_count{upstream="app"}"#,
        r#"deliveries_total{upstream="app",result="success",code="200"}"#,
    ]
    .map(str::to_owned)
    .into();
    for result in ["refused", "busy", "timeout", "unreachable", "broken"] {
        wanted.push(format!(r#"deliveries_total{{upstream="app",result="{result}",code=""}}"#));
    }
    for source in VENDORS {
        wanted.push(format!(r#"http_requests_total{{source="{source}",method="POST",code="200"}}"#));
        wanted.push(format!(r#"http_request_duration_seconds_count{{source="{source}"}}"#));
        wanted.push(format!(r#"end_to_end_duration_seconds_count{{source="{source}",upstream="app"}}"#));
        wanted.push(format!(r#"last_event_timestamp_seconds{{source="{source}"}}"#));
        for result in ["ok", "missing", "mismatch", "stale", "malformed"] {
            wanted.push(format!(
                r#"verifications_total{{source="{source}",vendor="{source}",result="{result}",key=""}}"#
            ));
        }
        for result in ["accepted", "duplicate", "filtered", "dead_letter"] {
            wanted.push(format!(
                r#"events_total{{source="{source}",vendor="{source}",type="vendor.event",result="{result}"}}"#
            ));
        }
        for (name, value) in [("mapping", "partial"), ("mapping", "passthrough")] {
            wanted.push(format!(r#"unmapped_events_total{{source="{source}",{name}="{value}"}}"#));
        }
        for policy in ["per_ip", "source"] {
            wanted.push(format!(r#"rate_limited_total{{source="{source}",policy="{policy}"}}"#));
        }
    }
    let missing: Vec<&String> =
        wanted.iter().filter(|sample| !has(&format!("hookwarden_{sample}"))).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    for (sample, value) in [
        (concat!(r#"hookwarden_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""}"#), 1.0),
        ("hookwarden_config_last_reload_successful", 1.0),
    ] {
        assert_eq!(gateway.metric(sample), value);
    }
    for name in [
        "cpu_seconds_total",
        "start_time_seconds",
        "resident_memory_bytes",
        "virtual_memory_bytes",
        "open_fds",
        "max_fds",
    ] {
        assert!(gateway.metric(&format!("process_{name}")) >= 0.0, "{name}");
    }
    assert!(gateway.metric("process_resident_memory_bytes") > 1e6);
}

#[test]
fn counters_count() {
    let sink = Sink::behaving(|_, arrived| match arrived.json()["data"]["vendor"]["event_id"].as_str() {
        Some("fails") => Behaviour::Status(500, ""),
        _ => Behaviour::Status(200, ""),
    });
    let filters = "filters = [\"approval.approved\"]";
    let gateway = Gateway::start(&Config { sendauth: filters, ..Config::to(sink.address) }.text());
    send(&gateway, "sendauth", &approval("1")).id();
    assert!(send(&gateway, "sendauth", &approval("1")).is_duplicate());
    forge(&gateway, "sendauth", &approval("2")).refused(401, "unverified");
    gateway.post("/in/sendauth", &[], b"{}").refused(401, "unverified");
    let denied = String::from_utf8(approval("3")).expect("UTF-8").replace("verified", "denied");
    send(&gateway, "sendauth", denied.as_bytes()).id();
    send(&gateway, "sendauth", &approval("fails")).refused(502, "upstream_refused");
    gateway.post("/nowhere", &[], b"{}").refused(404, "unknown_source");
    let event = |event_type: &str, result: &str| {
        format!(
            r#"events_total{{source="sendauth",vendor="sendauth",type="{event_type}",result="{result}"}}"#
        )
    };
    let verified = |result: &str| {
        format!(r#"verifications_total{{source="sendauth",vendor="sendauth",result="{result}",key=""}}"#)
    };
    let answered =
        |code: u16| format!(r#"http_requests_total{{source="sendauth",method="POST",code="{code}"}}"#);
    for (sample, value) in [
        (event("approval.approved", "accepted"), 1.0),
        (event("approval.approved", "duplicate"), 1.0),
        (event("approval.approved", "filtered"), 0.0),
        (event("approval.denied", "filtered"), 1.0),
        (verified("ok"), 4.0),
        (verified("mismatch"), 1.0),
        (verified("missing"), 1.0),
        (answered(200), 3.0),
        (answered(401), 2.0),
        (answered(502), 1.0),
        (r#"http_requests_total{source="",method="POST",code="404"}"#.to_owned(), 1.0),
        (r#"http_request_duration_seconds_count{source="sendauth"}"#.to_owned(), 6.0),
        (r#"deliveries_total{upstream="app",result="success",code="200"}"#.to_owned(), 1.0),
        (r#"deliveries_total{upstream="app",result="refused",code="500"}"#.to_owned(), 1.0),
        (r#"delivery_duration_seconds_count{upstream="app"}"#.to_owned(), 2.0),
        (r#"end_to_end_duration_seconds_count{source="sendauth",upstream="app"}"#.to_owned(), 1.0),
        ("dedup_entries".to_owned(), 1.0),
        ("http_requests_in_flight".to_owned(), 0.0),
    ] {
        assert_eq!(gateway.metric(&format!("hookwarden_{sample}")), value, "{sample}");
    }
    assert!(gateway.metric(r#"hookwarden_last_event_timestamp_seconds{source="sendauth"}"#) > 1.7e9);
}

/// Labels are closed sets: nobody outside makes new lines.
#[test]
fn strangers_add_no_lines() {
    let sink = Sink::start();
    let gateway = Gateway::start(
        &Config { tables: "[limits]\nper_ip = \"unlimited\"", ..Config::to(sink.address) }.text(),
    );
    let known = ["POST", "GET", "OPTIONS", "PUT", "PATCH", "DELETE", "HEADS", "BREW"];
    let mut stream = BufReader::new(connect(gateway.listen));
    let mut ask = |method: &str, path: &str| {
        let bytes =
            format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nx-event: {path}\r\n\r\n");
        stream.get_mut().write_all(bytes.as_bytes()).expect("sent");
        let (line, headers, _) = read_message(&mut stream).expect("an answer");
        assert_ne!(headers.get("connection").map(String::as_str), Some("close"), "{method} {path}: {line}");
    };
    for method in known {
        for path in ["/", "/in/sendauth", "/in/authpi"] {
            ask(method, path);
        }
    }
    let before = samples(&gateway).len();
    let mut random = fastrand::Rng::with_seed(7);
    for number in 0..2000 {
        let letters: String =
            (0..random.usize(1..12)).map(|_| random.alphabetic().to_ascii_uppercase()).collect();
        let method = if number % 2 == 0 { known[random.usize(0..known.len())].to_owned() } else { letters };
        let path = match number % 3 {
            0 => "/in/sendauth".to_owned(),
            1 => format!("/in/sendauth?{:x}", random.u64(..)),
            _ => format!("/{:x}", random.u64(..)),
        };
        ask(&method, &path);
    }
    assert_eq!(samples(&gateway).len(), before);
}

fn last(gateway: &Gateway, source: &str) -> (String, String) {
    let sources = gateway.admin_get("/api/v1/sources").json();
    let all = sources["sources"].as_array().expect("a list");
    let one = all.iter().find(|one| one["name"] == source).expect("it is listed");
    let text = |name: &str| one["last"][name].as_str().expect("a text").to_owned();
    (text("status"), text("message"))
}

#[test]
fn sources_tell_how_their_last_delivery_ended() {
    let sink = Sink::behaving(|number, _| Behaviour::Status(if number == 0 { 204 } else { 404 }, ""));
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let sources = gateway.admin_get("/api/v1/sources").json();
    let names: Vec<&str> = sources["sources"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    let mut sorted = VENDORS;
    sorted.sort_unstable();
    assert_eq!(names, sorted);
    let sendauth = &sources["sources"][3];
    assert_eq!(sendauth["path"], "/in/sendauth");
    assert_eq!((&sendauth["vendor"], &sendauth["delivery"]), (&"sendauth".into(), &"direct".into()));
    assert_eq!((&sendauth["upstreams"][0], &sendauth["assurance"]), (&"app".into(), &"signed-weak".into()));

    let is = |status: &str, message: &str| {
        assert_eq!(last(&gateway, "sendauth"), (status.to_owned(), message.to_owned()))
    };
    is("pending", "not yet invoked");
    forge(&gateway, "sendauth", &approval("1")).refused(401, "unverified");
    is("pending", "not yet invoked");
    send(&gateway, "sendauth", &approval("1")).id();
    is("success", "status code: 204");
    send(&gateway, "sendauth", &approval("2")).refused(502, "upstream_refused");
    is("error", "unexpected status code: 404");
    assert_eq!(last(&gateway, "authpi").0, "pending");
    gateway.reconfigure(Config::to(nobody()).text());
    send(&gateway, "sendauth", &approval("3")).refused(502, "upstream_unreachable");
    is("error", "no connection to the app");
}

#[test]
fn rejections_are_the_newest() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let list =
        || gateway.admin_get("/api/v1/rejections").json()["rejections"].as_array().expect("a list").clone();
    assert!(list().is_empty());
    forge(&gateway, "sendauth", &approval("canary")).refused(401, "unverified");
    gateway.post("/canary", &[], b"").refused(404, "unknown_source");
    gateway.post("/in/authpi", &[("content-type", "text/plain")], b"").refused(415, "unsupported_media_type");
    let shown = list();
    let told: Vec<_> = shown.iter().map(|one| (one["source"].as_str(), one["code"].as_str())).collect();
    let expected = [("authpi", "unsupported_media_type"), ("", "unknown_source"), ("sendauth", "unverified")];
    assert_eq!(told, expected.map(|(source, code)| (Some(source), Some(code))));
    assert!(shown.iter().all(
        |one| one["time"].is_string() && one["reason"].as_str().is_some_and(|reason| !reason.is_empty())
    ));
    assert!(!Value::from(shown).to_string().contains("canary"));
    for _ in 0..300 {
        gateway.post("/nowhere", &[], b"").refused(404, "unknown_source");
    }
    send(&gateway, "sendauth", &approval("1")).id();
    let shown = list();
    assert_eq!(shown.len(), 256);
    assert!(shown.iter().all(|one| one["code"] == "unknown_source"));
    let times: Vec<&str> = shown.iter().filter_map(|one| one["time"].as_str()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older));
}
