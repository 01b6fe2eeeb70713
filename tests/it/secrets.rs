//! Canaries: secrets of the configuration and of payloads, and what senders write, sent down every path at the most
//! talkative log level. None of it may be found in logs, answers, metrics, the API, or what `check` prints.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;

use crate::harness::{
    ADMIN_TOKEN, APP_SECRET, AUTHALERT_SECRET, AUTHPI_SECRET, Answer, Behaviour, Config, Gateway,
    LOGINRADIUS_SECRET, SENDAUTH_SECRET, Sink, ZENLOGIN_SECRET, exchange, hookwarden, output, replace,
    request, send, signature,
};

/// Values of members that are secrets by their names.
const IN_PAYLOAD: &str = "canary-of-a-payload";
/// Anything else a sender writes into a body.
const TEXT: &str = "text-of-a-payload";
/// What a sender writes into headers and queries.
const IN_HEADER: &str = "canary-of-a-header";

/// Every vendor's body with secrets in it.
fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let bodies = [
        (
            "sendauth",
            r#"{"id":"TEXT-1","state":"TEXT","authGroup":{"id":"TEXT","name":"TEXT"},"requestor":"TEXT@example.com",
            "completedAt":"2024-01-15T10:35:00Z","tags":{"apiToken":"CANARY","x":"TEXT"},"payload":{"deploy_token":"CANARY","a":[{"client_secret":["CANARY"]}]}}"#,
        ),
        (
            "loginradius",
            r#"{"HookName":"TEXT","Data":{"Uid":"TEXT","Password":"CANARY","Pin":{"PIN":"CANARY"},"access_token":"CANARY","Name":"TEXT"}}"#,
        ),
        (
            "zenlogin",
            r#"{"data":{"type":"TEXT.unknown","accessToken":"CANARY","cookie":"CANARY","x":"TEXT"}}"#,
        ),
        (
            "authpi",
            r#"{"specversion":"1.0","id":"TEXT","type":"TEXT.unknown","source":"TEXT","data":{"type":"TEXT.unknown","id":"TEXT","password":"CANARY","otp":"CANARY"}}"#,
        ),
        (
            "authalert",
            r#"{"event":"TEXT","user":"TEXT","recovery_codes":["CANARY"],"secret":{"x":"CANARY"}}"#,
        ),
    ];
    let fill = |body: &str| body.replace("TEXT", TEXT).replace("CANARY", IN_PAYLOAD).into_bytes();
    bodies.map(|(vendor, body)| (vendor, fill(body))).into()
}

/// Configured secrets in every spelling somebody might print them in.
fn configured() -> Vec<String> {
    let app = APP_SECRET.strip_prefix("whsec_").expect("a prefix");
    let app_bytes = STANDARD.decode(app).expect("base64");
    let texts =
        [SENDAUTH_SECRET, LOGINRADIUS_SECRET, ZENLOGIN_SECRET, AUTHPI_SECRET, AUTHALERT_SECRET, ADMIN_TOKEN];
    let spelt = |bytes: &[u8]| [hex::encode(bytes), STANDARD.encode(bytes), format!("{bytes:?}")];
    let mut all = vec![app.to_owned()];
    all.extend(spelt(&app_bytes));
    for text in texts {
        all.push(text.to_owned());
        all.extend(spelt(text.as_bytes()));
    }
    all
}

#[track_caller]
fn hides(what: &str, text: &str, forbidden: &[String]) {
    for canary in forbidden {
        if let Some(at) = text.find(canary.as_str()) {
            let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
            panic!("{canary} in {what}: {}", text[line..].lines().next().unwrap_or_default());
        }
    }
}

fn shown(answer: &Answer) -> String {
    format!("{} {:?} {}\n", answer.status, answer.headers, String::from_utf8_lossy(&answer.body))
}

/// Sends good ones, copies, forgeries and broken ones, and asks for everything there is to see.
fn traffic(gateway: &Gateway) -> String {
    let mut said = String::new();
    for (vendor, body) in bodies() {
        let path = format!("/in/{vendor}");
        let (name, value) = signature(vendor, &body);
        let good = [
            (name, value.as_str()),
            ("user-agent", IN_HEADER),
            ("x-request-id", IN_HEADER),
            ("cookie", IN_HEADER),
        ];
        let forged = [(name, IN_HEADER), ("authorization", IN_HEADER)];
        let broken = [&body[..], IN_PAYLOAD.as_bytes()].concat();
        for _ in 0..2 {
            said += &shown(&gateway.post(&path, &good, &body));
        }
        said += &shown(&gateway.post(&format!("{path}?token={IN_HEADER}"), &forged, &body));
        said += &shown(&gateway.post(&format!("/nowhere?token={IN_HEADER}"), &good, &body));
        said += &shown(&gateway.post(&path, &[], &body));
        said += &shown(&gateway.post(&path, &[(name, IN_HEADER), (name, IN_HEADER)], &body));
        said += &shown(&gateway.post(&path, &[("content-type", IN_HEADER)], &body));
        said += &shown(&send(gateway, vendor, &broken));
        said += &shown(&send(gateway, vendor, IN_PAYLOAD.as_bytes()));
        said += &shown(&request(gateway.listen, "PUT", &path, &good, &body));
        said += &shown(&request(gateway.listen, "POST", &path, &[("transfer-encoding", IN_HEADER)], b""));
    }
    for path in
        ["/metrics", "/api/v1/sources", "/api/v1/rejections", "/readyz?verbose", "/api/v1/events", "/"]
    {
        said += &shown(&gateway.admin_get(path));
    }
    let open_metrics = [("accept", "application/openmetrics-text")];
    said += &shown(&request(gateway.admin, "GET", "/metrics", &open_metrics, b""));
    said += &shown(&request(gateway.admin, "GET", "/api/v1/sources", &[("authorization", IN_HEADER)], b""));
    said
}

async fn over_http2(gateway: &Gateway) {
    let stream = tokio::net::TcpStream::connect(gateway.listen).await.expect("connected");
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    for (vendor, body) in bodies() {
        let (name, value) = signature(vendor, &body);
        let uri = format!("http://x/in/{vendor}?token={IN_HEADER}");
        let request = Request::post(uri).header(name, value).header("authorization", IN_HEADER);
        let request = request.body(Full::new(Bytes::from(body))).expect("a request");
        sender.send_request(request).await.expect("an answer");
    }
    drop(sender);
    connection.await.expect("a task").expect("closed");
}

fn end(gateway: &mut Gateway) -> String {
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0));
    gateway.logged(|line| line["message"] == "stopped");
    gateway.log()
}

#[tokio::test]
async fn canaries_are_found_nowhere() {
    // An app that refuses some, with words of its own.
    let sink = Sink::behaving(|number, _| match number % 3 {
        0 => Behaviour::Status(500, "x-app: canary-of-a-header\r\n"),
        1 => Behaviour::Bytes(b"HTTP/1.1 canary-of-a-header\r\n\r\n"),
        _ => Behaviour::Status(200, "x-app: canary-of-a-header\r\n"),
    });
    let good = Config { tables: "[log]\nlevel = \"trace\"", ..Config::to(sink.address) }.text();
    let mut gateway = Gateway::start(&good);
    let mut said = traffic(&gateway);
    over_http2(&gateway).await;
    said += &traffic(&gateway);
    // A secret where none belongs.
    let misplaced = good.replace("upstream = \"app\"", &format!("upstream = \"{SENDAUTH_SECRET}\""));
    let misplaced =
        misplaced.replace("secret_env = \"AUTHPI_SECRET\"", &format!("secret_env = \"{AUTHPI_SECRET}\""));
    assert_eq!(gateway.reconfigure(&misplaced)["level"], "ERROR");
    let token = format!("Bearer {ADMIN_TOKEN}");
    said += &shown(&request(gateway.admin, "POST", "/api/v1/reload", &[("authorization", &token)], b""));
    for arguments in [&["check"][..], &["check", "--json"], &["run"]] {
        let output = output(hookwarden().args(arguments).arg("--config").arg(&gateway.config));
        assert_eq!(output.code, 78);
        said += &(output.out + &output.err);
    }
    replace(&gateway.config, &good);
    let log = end(&mut gateway);
    assert!(log.contains("\"level\":\"DEBUG\"") && log.contains("\"status\":401"), "{log}");

    let mut forbidden = configured();
    forbidden.extend([IN_PAYLOAD, TEXT, IN_HEADER].map(str::to_owned));
    // Nor what a right signature would have been.
    forbidden.extend(bodies().into_iter().map(|(vendor, body)| signature(vendor, &body).1));
    hides("answers", &said, &forbidden);
    hides("the log", &log, &forbidden);

    let mut seen = 0;
    let mut forbidden = configured();
    forbidden.extend([IN_PAYLOAD, IN_HEADER].map(str::to_owned));
    for arrived in sink.arrived() {
        hides(
            "what the app gets",
            &format!("{:?} {}", arrived.headers, String::from_utf8_lossy(&arrived.body)),
            &forbidden,
        );
        seen += usize::from(String::from_utf8_lossy(&arrived.body).contains(TEXT));
    }
    assert!(seen >= 5, "{seen}");
}

/// threats.md I2.
#[test]
fn log_lines_stay_one_line_of_json() {
    let sink = Sink::start();
    let text = Config { tables: "[log]\nlevel = \"debug\"", ..Config::to(sink.address) }.text();
    let mut gateway = Gateway::start(&text);
    let paths: [&[u8]; 11] = [
        b"/\x1b[31mred",
        b"/%1b%5b31m%0d%0a{\"level\":\"ERROR\"}",
        b"/\"},{\"level\":\"ERROR\",\"x\":\"",
        "/line\u{2028}and\u{2029}paragraph".as_bytes(),
        "/next\u{85}line".as_bytes(),
        b"/\xff\xfe",
        b"/tab\tand\x0bmore",
        b"/back\\slash",
        b"/in/sendauth/..",
        &[b'/'; 7000],
        &[b"/", &[b'x'; 7000][..]].concat(),
    ];
    // With the second agent hyper refuses the head, and the path is not looked up.
    for (path, agent) in paths.iter().flat_map(|path| [(*path, &b"x"[..]), (*path, b"\x1b[31m")]) {
        let bytes = [
            b"POST ",
            path,
            b" HTTP/1.1\r\nhost: x\r\nuser-agent: ",
            agent,
            b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        ]
        .concat();
        let answer = exchange(gateway.listen, &bytes);
        assert!(matches!(answer.status, 400 | 404), "{answer:?}");
    }
    for name in [r"\u001b[31mred", r"a\r\nb", r"\u2028\u2029\u0085\u0000", r#"\"},{\"level\":\"ERROR\""#] {
        let body = format!(r#"{{"data":{{"type":"{name}","id":"{name}"}}}}"#);
        send(&gateway, "zenlogin", body.as_bytes()).id();
    }
    let log = end(&mut gateway);
    for line in log.split('\n') {
        let parsed: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(parsed["level"] != "ERROR", "{line}");
        assert!(line.len() < 1024, "{line}");
        assert!(line.bytes().all(|byte| (b' '..0x7f).contains(&byte)), "{line:?}");
    }
    assert!(log.lines().count() > 10);
    for shown in [format!("\"/{}\"", "x".repeat(255)), r#""/back\\slash""#.to_owned()] {
        assert!(log.contains(&shown), "{shown} in\n{log}");
    }
}
