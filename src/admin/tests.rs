//! Every rule of the admin listener: what is answered, to whom, and what never is.

use std::{collections::HashMap, sync::atomic::Ordering};

use http::{HeaderMap, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    clock::Clock,
    cloudevent::Origin,
    gateway::Rejected,
    identity::TypeFilter,
    limit::PerAddress,
    metrics::{RouteMetrics, SourceMetrics},
    scheme::{self, Assurance},
    secret::Secret,
    server,
    source::{App, LastDelivery, Route, Source},
    store::Claim,
    units::Rate,
    upstream::{Format, Options, Roots, Signer, Upstream},
    vendor::{self, Plan},
};

/// Stands in every place that must not be shown.
const CANARY: &str = "canary-0123456789";
const HOST: &str = "127.0.0.1:9600";

struct Desk {
    admin: Admin,
    shared: Arc<Shared>,
    gateway: Arc<ArcSwap<Gateway>>,
    reloads: mpsc::Receiver<ReloadRequest>,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

fn desk(api: ApiAccess) -> Desk {
    let shared = Shared::new(Clock::manual(Timestamp::UNIX_EPOCH), 100, 10, 1000);
    let gateway = Arc::new(ArcSwap::from_pointee(gateway(&shared, [])));
    let (sender, reloads) = mpsc::channel(1);
    let admin = Admin::new(Arc::clone(&shared), Arc::clone(&gateway), api, sender);
    Desk { admin, shared, gateway, reloads }
}

fn gateway<const N: usize>(shared: &Arc<Shared>, sources: [Source; N]) -> Gateway {
    let sources = sources.map(|source| (source.path.clone(), Arc::new(source)));
    Gateway {
        sources: HashMap::from(sources),
        trusted_proxies: Vec::new(),
        per_address: Arc::new(PerAddress::new(Rate::Unlimited, &shared.clock)),
        body_bytes_max: 1000,
        body_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_secs(1),
        schema: (Vec::new(), Arc::from("")),
        shared: Arc::clone(shared),
    }
}

fn source(shared: &Arc<Shared>, name: &str) -> Source {
    let file = vendor::builtin("sendauth").unwrap();
    let url = format!("http://127.0.0.1:1/hook?key={CANARY}");
    let secret = Secret::new(None, CANARY.into());
    let upstream = Upstream::open(
        "app",
        url.parse().unwrap(),
        Roots::new(None).unwrap(),
        Options::default(),
        shared.clock.clone(),
    );
    let app = App { upstream, format: Format::default(), signer: Signer::new(&[secret]).unwrap() };
    let verify = scheme::Settings { scheme: Some(scheme::SchemeName::None), ..scheme::Settings::default() };
    Source {
        name: name.into(),
        path: format!("/in/{name}").into(),
        plan: Arc::new(Plan::compile("sendauth", &file, vendor::Options::default()).unwrap()),
        verifier: verify.compile(&[], None).unwrap(),
        enforce: true,
        allow: None,
        budget: None,
        origin: Origin {
            source: CANARY.into(),
            type_prefix: String::new(),
            dataschema: None,
            vendor: "sendauth".into(),
        },
        routes: vec![Route {
            types: TypeFilter::all(),
            app: Arc::new(app),
            scope: 0,
            metrics: RouteMetrics::new(&shared.metrics, name, "app"),
        }],
        filters: TypeFilter::all(),
        forward_tests: false,
        dedup_window: Duration::ZERO,
        max_age: None,
        success_status: StatusCode::OK,
        limited_status: StatusCode::TOO_MANY_REQUESTS,
        time_budget: Duration::ZERO,
        unsigned: Assurance::Network,
        metrics: SourceMetrics::new(&shared.metrics, name, "sendauth", [], []),
        last: LastDelivery::default(),
    }
}

/// `METHOD /path`, and headers; without a Host, [`HOST`] is asked.
fn request(line: &str, headers: &[(&str, &str)]) -> Request<()> {
    let (method, uri) = line.split_once(' ').unwrap();
    let host = ("host", HOST);
    let named = headers.iter().any(|(name, _)| *name == "host");
    let headers = headers.iter().chain((!named).then_some(&host));
    headers
        .fold(Request::builder().method(method).uri(uri), |request, (name, value)| {
            request.header(*name, *value)
        })
        .body(())
        .unwrap()
}

impl Desk {
    async fn send(&self, peer: &str, request: Request<()>) -> Answer {
        let (head, body) = self.admin.answer(peer.parse().unwrap(), request).await.into_parts();
        assert_eq!(head.headers["cache-control"], "no-store");
        assert_eq!(head.headers["x-content-type-options"], "nosniff");
        assert!(!head.headers.keys().any(|name| name.as_str().starts_with("access-control-")));
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert!(!body.contains(CANARY), "{body}");
        Answer { status: head.status.as_u16(), headers: head.headers, body }
    }

    async fn ask(&self, line: &str, headers: &[(&str, &str)]) -> Answer {
        self.send("127.0.0.1:5000", request(line, headers)).await
    }

    async fn status(&self, line: &str, headers: &[(&str, &str)]) -> u16 {
        self.ask(line, headers).await.status
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

#[tokio::test]
async fn health_is_told_to_anybody_by_any_name() {
    let desk = desk(ApiAccess::Off);
    for path in ["/livez", "/readyz"] {
        let answer = desk.ask(&format!("GET {path}"), &[("host", "gateway.example")]).await;
        assert_eq!((answer.status, &*answer.body), (200, "ok\n"));
        assert_eq!(answer.headers[CONTENT_TYPE], "text/plain; charset=utf-8");
    }
    let verbose = "ok\n[+] config loaded, sources: 0\n[+] not draining\n";
    assert_eq!(desk.ask("GET /readyz?verbose", &[]).await.body, verbose);

    desk.shared.stopping.store(true, Ordering::Relaxed);
    let answer = desk.ask("GET /readyz", &[]).await;
    assert_eq!((answer.status, &*answer.body), (503, "not ready: draining\n"));
    let verbose = "not ready: draining\n[+] config loaded, sources: 0\n[-] draining\n";
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
    assert!(plain.body.contains("\nhookwarden_dedup_evictions 0\n"), "{}", plain.body);
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

#[tokio::test]
async fn the_api_wants_the_token() {
    let desk = desk(ApiAccess::new(true, Some(&Secret::new(None, CANARY.into()))));
    assert!(!format!("{:?}", desk.admin).contains("199"), "not even the digest's bytes are shown");
    for path in ["/api/v1/sources", "/api/v1/rejections", "/api/v1/reload", "/api/v1/events", "/api/", "/api"]
    {
        let answer = desk.ask(&format!("GET {path}"), &[]).await;
        assert_eq!(
            (answer.status, &answer.headers["www-authenticate"]),
            (401, &"Bearer".parse().unwrap()),
            "{path}"
        );
    }
    let right = format!("Bearer {CANARY}");
    for (value, status) in [
        (right.clone(), 200),
        (format!("bearer  {CANARY}"), 200),
        (CANARY.to_owned(), 401),
        (format!("Basic {CANARY}"), 401),
        (format!("{right}x"), 401),
        (right[..right.len() - 1].to_owned(), 401),
        ("Bearer ".to_owned(), 401),
        ("Bearer".to_owned(), 401),
    ] {
        assert_eq!(desk.status("GET /api/v1/sources", &[("authorization", &value)]).await, status, "{value}");
    }
    let twice = [("authorization", &*right), ("authorization", "Bearer x")];
    assert_eq!(desk.status("GET /api/v1/sources", &twice).await, 401);
    let remote = request("GET /api/v1/sources", &[("authorization", &right)]);
    assert_eq!(desk.send("10.0.0.1:5000", remote).await.status, 200, "with the token from anywhere");
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(desk.status(&format!("GET {path}"), &[]).await, 200, "{path}");
    }
}

#[tokio::test]
async fn without_a_token_the_api_is_for_this_machine_alone() {
    let open = desk(ApiAccess::new(true, None));
    for (peer, status) in [
        ("127.0.0.1:5", 200),
        ("[::1]:5", 200),
        ("[::ffff:127.0.0.1]:5", 200),
        ("10.0.0.1:5", 403),
        ("[fe80::1]:5", 403),
    ] {
        assert_eq!(open.send(peer, request("GET /api/v1/sources", &[])).await.status, status, "{peer}");
        assert_eq!(open.send(peer, request("GET /readyz", &[])).await.status, 200, "{peer}");
    }
    let off = desk(ApiAccess::new(false, Some(&Secret::new(None, CANARY.into()))));
    let bearer = format!("Bearer {CANARY}");
    for line in ["GET /api/v1/sources", "POST /api/v1/reload"] {
        assert_eq!(off.status(line, &[("authorization", &bearer)]).await, 404, "{line}");
    }
}

#[tokio::test]
async fn only_literal_hosts_are_served() {
    let desk = desk(ApiAccess::Loopback);
    for host in
        ["127.0.0.1", "127.0.0.1:1", "10.1.2.3:9600", "[::1]", "[fe80::1]:9600", "localhost", "LocalHost:80"]
    {
        assert_eq!(desk.status("GET /api/v1/sources", &[("host", host)]).await, 200, "{host}");
    }
    let names = [
        "evil.example",
        "evil.example:9600",
        "127.0.0.1.nip.io",
        "localhost.evil",
        "localhost@evil",
        "x@::1",
    ];
    let broken =
        ["", "[::1", "::1", "127.1", "2130706433", "127.0.0.1:9600, evil", "a@127.0.0.1", "localhost/"];
    for host in names.into_iter().chain(broken) {
        for line in ["GET /api/v1/sources", "GET /", "POST /api/v1/reload"] {
            assert_eq!(desk.status(line, &[("host", host)]).await, 421, "{line} {host}");
        }
    }
    let two = [("host", "127.0.0.1"), ("host", "127.0.0.1")];
    assert_eq!(desk.status("GET /api/v1/sources", &two).await, 421);
    let mut none = request("GET /api/v1/sources", &[]);
    none.headers_mut().clear();
    assert_eq!(desk.send("127.0.0.1:5", none).await.status, 421);

    // HTTP/2 and the absolute form name the host in the URI.
    for (uri, host, status) in [
        ("http://127.0.0.1:9600", None, 200),
        ("http://evil.example:9600", None, 421),
        ("http://127.0.0.1:9600", Some("evil.example:9600"), 421),
        ("http://evil.example:9600", Some("127.0.0.1:9600"), 421),
    ] {
        let mut request = request(&format!("GET {uri}/api/v1/sources"), &[]);
        request.headers_mut().clear();
        request.headers_mut().extend(host.map(|host| (http::header::HOST, host.parse().unwrap())));
        assert_eq!(desk.send("127.0.0.1:5", request).await.status, status, "{uri} {host:?}");
    }
}

#[tokio::test]
async fn other_sites_pages_change_nothing() {
    let mut desk = desk(ApiAccess::Loopback);
    desk.reloads.close();
    let (let_in, refused) = (503, 403);
    for (headers, status) in [
        (vec![], let_in),
        (vec![("origin", "http://127.0.0.1:9600")], let_in),
        (vec![("origin", "http://127.0.0.1:9600"), ("sec-fetch-site", "same-origin")], let_in),
        (vec![("sec-fetch-site", "none")], let_in),
        (vec![("origin", "http://127.0.0.1:9601")], refused),
        (vec![("origin", "http://localhost:9600")], refused),
        (vec![("origin", "https://evil.example")], refused),
        (vec![("origin", "null")], refused),
        (vec![("origin", "")], refused),
        (vec![("origin", "127.0.0.1:9600")], refused),
        (vec![("origin", "http://127.0.0.1:9600"), ("origin", "http://evil.example")], refused),
        (vec![("sec-fetch-site", "cross-site")], refused),
        (vec![("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:9600")], refused),
    ] {
        assert_eq!(desk.status("POST /api/v1/reload", &headers).await, status, "{headers:?}");
    }
}

#[tokio::test]
async fn over_the_wire_head_has_no_body_and_health_checks_learn_why() {
    let desk = desk(ApiAccess::Off);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (admin, stop) = (desk.admin.clone(), CancellationToken::new());
    let bounds = server::Bounds::from(&server::Settings::default());
    let handler = move |peer, request| {
        let admin = admin.clone();
        async move { admin.answer(peer, request).await }
    };
    let serving = tokio::spawn(server::serve(listener, None, bounds, stop.clone(), handler));

    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"HEAD /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(answer.contains("content-length: 3\r\n"), "{answer}");

    assert_eq!(client::ready(address).await, Ok(()));
    desk.shared.stopping.store(true, Ordering::Relaxed);
    assert!(client::ready(address).await.unwrap_err().contains("status code: 503"));
    stop.cancel();
    serving.await.unwrap();
    assert!(client::ready(address).await.unwrap_err().contains("cannot be asked"));
}

#[tokio::test(start_paused = true)]
async fn a_health_check_does_not_wait_for_long() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = client::ready(silent.local_addr().unwrap()).await.unwrap_err();
    assert!(error.contains("within 2 s"), "{error}");
}
