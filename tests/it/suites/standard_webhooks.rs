//! Standard Webhooks in both directions, with the project's own Rust library at the other end: it signs what is sent to a
//! source, and verifies what the app gets. The cases are those of the libraries' own tests, by their names.

use http::HeaderMap;
use jiff::Timestamp;
use standardwebhooks::Webhook;

use crate::harness::*;

/// The secret and the message of the libraries' tests.
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const ID: &str = "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk";
const BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;

/// Seconds past the five minutes of tolerance: enough for a test that stops for a while to change nothing.
const FAR: i64 = 300 + 600;

/// A gateway with one source for each spelling of the secret, all of which are the same key.
fn start() -> (Sink, Gateway) {
    let sink = Sink::start();
    let encoded = SECRET.strip_prefix("whsec_").expect("its prefix");
    let raw = "raw-secret-of-the-libraries-tests";
    let sources = [
        ("standard", SECRET, ""),
        ("bare", encoded, ""),
        ("versioned", &format!("v1,{SECRET}"), ""),
        ("raw", raw, ", secret_encoding = \"text\""),
    ];
    let tables: String = sources
        .iter()
        .map(|(name, secret, more)| {
            format!(
                "[sources.{name}]\nvendor = \"authpi\"\ntenant = \"{name}\"\nupstream = \"app\"\nsecret = \"{secret}\"\n\
                 verify = {{ scheme = \"standard-webhooks\"{more} }}\n"
            )
        })
        .collect();
    let gateway = Gateway::start(&Config { tables: &tables, ..Config::to(sink.address) }.text());
    (sink, gateway)
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

fn sign(key: &Webhook, at: i64, body: &[u8]) -> String {
    key.sign(ID, at, body).expect("UTF-8")
}

type Lines = Vec<(&'static str, String)>;

/// The headers of the message, signed now.
fn signed(body: &[u8]) -> Lines {
    let (key, at) = (Webhook::new(SECRET).expect("a secret"), now());
    signed_as([("webhook-id"), ("webhook-timestamp"), ("webhook-signature")], at, sign(&key, at, body))
}

fn signed_as(names: [&'static str; 3], at: i64, signature: String) -> Lines {
    names.into_iter().zip([ID.to_owned(), at.to_string(), signature]).collect()
}

fn post(gateway: &Gateway, source: &str, lines: &Lines, body: &[u8]) -> Answer {
    let mut headers: Vec<(&str, &str)> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
    headers.push(JSON);
    gateway.post(&format!("/in/{source}"), &headers, body)
}

/// The headers with the value of one of them changed.
fn with(name: &str, change: impl Fn(&str) -> String) -> Lines {
    let mut lines = signed(BODY);
    let line = lines.iter_mut().find(|line| line.0 == name).expect("such a header");
    line.1 = change(&line.1);
    lines
}

const OTHERS: [&str; 3] = [
    "v1,tFtCZ5RDCPxzWQRWXWPgrCgE2frDBe9gjpbWQxnVfsQ=",
    "v1,Mm7xgUVICxZfQ3bgf0h0Dof65L/IFx+PnZvnDWPCX6Q=",
    "v1,9DfC1c3eeOrXB6w/5dIDydLNQaEyww5KalE5jLBZucE=",
];

#[test]
fn what_the_libraries_take_is_taken() {
    let (sink, gateway) = start();
    let signature = "webhook-signature";
    let svix = || {
        let (key, at) = (Webhook::new(SECRET).expect("a secret"), now());
        signed_as(["svix-id", "svix-timestamp", "svix-signature"], at, sign(&key, at, BODY))
    };
    let raw = || {
        let key = Webhook::from_bytes(b"raw-secret-of-the-libraries-tests".to_vec()).expect("a secret");
        let at = now();
        signed_as(["webhook-id", "webhook-timestamp", signature], at, sign(&key, at, BODY))
    };
    let capitals = || {
        let names = ["Webhook-Id", "WEBHOOK-TIMESTAMP", "Webhook-Signature"];
        names.into_iter().zip(signed(BODY)).map(|(name, line)| (name, line.1)).collect()
    };
    let cases: [(&str, &str, Lines); 12] = [
        ("valid signature is valid", "standard", signed(BODY)),
        ("valid brandless and branded headers", "standard", svix()),
        ("signature verification works without prefix", "bare", signed(BODY)),
        ("secret with its version in front", "versioned", signed(BODY)),
        ("raw secret", "raw", raw()),
        ("headers have no case", "standard", capitals()),
        (
            "multi sig payload is valid",
            "standard",
            with(signature, |one| [OTHERS[0], OTHERS[1], one, OTHERS[2]].join(" ")),
        ),
        ("the first of several", "standard", with(signature, |one| [one, OTHERS[0]].join(" "))),
        (
            "other versions are skipped",
            "standard",
            with(signature, |one| format!("v2,{} v1a,AAAA {one}", &one[3..])),
        ),
        ("a partial one beside it", "standard", with(signature, |one| format!("{} {one}", &one[..8]))),
        ("within tolerance, old", "standard", aged(-200)),
        ("within tolerance, new", "standard", aged(200)),
    ];
    for (number, (name, source, lines)) in cases.iter().enumerate() {
        let answer = post(&gateway, source, lines, BODY);
        // The message is one and the same, so that it arrives once at each source.
        assert_eq!(answer.status, 200, "{number} {name}: {answer:?}");
    }
    assert_eq!(sink.count(), 4, "one for each source");
}

/// The message, rightly signed at so many seconds from now.
fn aged(seconds: i64) -> Lines {
    let (key, at) = (Webhook::new(SECRET).expect("a secret"), now() + seconds);
    signed_as(["webhook-id", "webhook-timestamp", "webhook-signature"], at, sign(&key, at, BODY))
}

fn without(name: &str) -> Lines {
    signed(BODY).into_iter().filter(|line| line.0 != name).collect()
}

#[test]
fn what_the_libraries_refuse_is_refused() {
    let (sink, gateway) = start();
    let (id, time, signature) = ("webhook-id", "webhook-timestamp", "webhook-signature");
    let cases: [(&str, Lines); 28] = [
        ("missing id", without(id)),
        ("missing timestamp", without(time)),
        ("missing signature", without(signature)),
        ("empty id", with(id, |_| String::new())),
        ("empty timestamp", with(time, |_| String::new())),
        ("empty signature", with(signature, |_| String::new())),
        ("all missing", Lines::new()),
        ("invalid signature", with(signature, |_| "v1,g0hM9SsE+OTPJTGt/dmIKtSyZlE3uFJELVlNIOLJ1OE=".into())),
        ("no signature in the multi sig payload", with(signature, |_| OTHERS.join(" "))),
        ("partial signature, v1, alone", with(signature, |_| "v1,".into())),
        ("partial signature, v1 alone", with(signature, |_| "v1".into())),
        ("partial signature, its first bytes", with(signature, |one| one[..8].into())),
        ("partial signature, all but the last", with(signature, |one| one[..one.len() - 4].into())),
        ("longer than a signature", with(signature, |one| format!("{one}AAAA"))),
        ("no version", with(signature, |one| one[3..].into())),
        ("another version", with(signature, |one| format!("v2,{}", &one[3..]))),
        ("the asymmetric version", with(signature, |one| format!("v1a,{}", &one[3..]))),
        ("no base64", with(signature, |_| "v1,!!!!".into())),
        ("hex", with(signature, |_| format!("v1,{}", "ab".repeat(32)))),
        ("another id", with(id, |id| format!("{id}x"))),
        ("invalid timestamp, a word", with(time, |_| "hello".into())),
        ("invalid timestamp, NaN", with(time, |_| "NaN".into())),
        ("invalid timestamp, a fraction", with(time, |time| format!("{time}.0"))),
        ("another timestamp", with(time, |time| (time.parse::<i64>().expect("a number") + 1).to_string())),
        ("milliseconds", with(time, |time| format!("{time}000"))),
        ("old timestamp", aged(-FAR)),
        ("new timestamp", aged(FAR)),
        ("the beginning of time", aged(-now())),
    ];
    for (name, lines) in &cases {
        for source in ["standard", "bare", "versioned"] {
            let answer = post(&gateway, source, lines, BODY);
            answer.refused(401, "unverified");
            assert!(!answer.text().contains("v1,"), "{name}: {answer:?}");
        }
    }
    post(&gateway, "standard", &signed(BODY), &[BODY, b" "].concat()).refused(401, "unverified");
    post(&gateway, "raw", &signed(BODY), BODY).refused(401, "unverified");
    // Verified, and no event: the libraries sign an empty body, too.
    post(&gateway, "standard", &signed(b""), b"").refused(400, "malformed_body");
    assert_eq!(sink.count(), 0);
}

#[test]
fn no_secret_is_none() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("hookwarden.toml");
    for secret in ["", " ", "whsec_", "v1,whsec_", "whsec_====", "whsec_!!!!", "whsec_C2FVsBQI hrscChlQIMV"] {
        let tables = "[sources.standard]\nvendor = \"authpi\"\ntenant = \"standard\"\nupstream = \"app\"\n\
                      secret_env = \"STANDARD\"\nverify = { scheme = \"standard-webhooks\" }\n";
        std::fs::write(&path, Config { tables, ..Config::to(nobody()) }.text()).expect("written");
        let said = output(hookwarden().args(["check", "--config"]).arg(&path).env("STANDARD", secret));
        assert_eq!(said.code, 78, "{secret:?}: {}", said.err);
        assert!(said.err.contains("STANDARD") || said.err.contains("sources.standard"), "{}", said.err);
    }
}

// === the other direction ===

fn headers(arrived: &Arrived) -> HeaderMap {
    let pairs = arrived.headers.iter();
    pairs
        .map(|(name, value)| {
            (name.parse().expect("a name"), value.parse::<http::HeaderValue>().expect("a value"))
        })
        .collect()
}

#[test]
fn the_library_verifies_what_the_app_gets() {
    let plain = "an app's secret that is no base64";
    let home = tempfile::tempdir().expect("a folder");
    let inbox = format!("inbox.url = \"sqlite:{}\"", home.path().join("inbox.db").display());
    for (form, top) in [("cloudevents", ""), ("cloudevents-binary", ""), ("raw", ""), ("cloudevents", &inbox)]
    {
        let sink = Sink::start();
        let app = format!("format = \"{form}\"");
        let text = Config { top, app: &app, ..Config::to(sink.address) }.text().replacen(
            "secret_env = \"APP_WEBHOOK_SECRET\"",
            "secrets = [{ env = \"APP_WEBHOOK_SECRET\", id = \"new\" }, { env = \"OLD\", id = \"old\" }]",
            1,
        );
        let gateway = Gateway::start_with(&text, |command| {
            command.env("OLD", plain);
        });
        for body in [approval("a1"), approval("größer € 😀")] {
            send(&gateway, "sendauth", &body).id();
        }
        for arrived in sink.wait_for(2) {
            let headers = headers(&arrived);
            let keys = [Webhook::new(APP_SECRET), Webhook::from_bytes(plain.into())];
            for key in keys.map(|key| key.expect("a secret")) {
                assert!(key.verify(&arrived.body, &headers).is_ok(), "{form} {top}: {arrived:?}");
                assert!(key.verify(&[&arrived.body[..], b" "].concat(), &headers).is_err(), "{form} {top}");
            }
            let other = Webhook::new(SECRET).expect("a secret");
            assert!(other.verify(&arrived.body, &headers).is_err(), "{form} {top}");
        }
    }
}
