//! What is JSON is taken and arrives as it came; what is none is refused, whatever the scheme, and arrives nowhere.

use std::collections::BTreeSet;

use hookwarden::json::Document;

use crate::{
    harness::*,
    json_texts::{BAD, GOOD, OPEN, Text},
};

/// One more source, whose events arrive structured.
const TABLES: &str = r#"
[upstreams.structured]
url = "http://UPSTREAM/structured"
secret_env = "APP_WEBHOOK_SECRET"
[sources.again]
vendor = "sendauth"
tenant = "again"
secret_env = "SENDAUTH_SECRET"
upstream = "structured"
"#;

type Case = (String, Vec<u8>);

fn cases(texts: &[Text]) -> impl Iterator<Item = Case> {
    texts.iter().map(|(name, text)| ((*name).to_owned(), text.to_vec()))
}

fn nested(name: &str, begin: &str, middle: &str, end: &str, depth: usize) -> Case {
    let text = [&*begin.repeat(depth), middle, &*end.repeat(depth)].concat();
    (format!("{depth} times {name}"), text.into_bytes())
}

fn good() -> Vec<Case> {
    let nested = [
        nested("array", "[", "", "]", 128),
        nested("object", "{\"a\":", "1", "}", 127),
        nested("array and object", "[{\"a\":", "null", "}]", 64),
    ];
    cases(GOOD).chain(nested).collect()
}

fn bad() -> Vec<Case> {
    let unclosed = [
        nested("open array", "[", "", "", 100_000),
        nested("open array and object", "[{\"\":", "", "", 50_000),
        nested("close array", "", "", "]", 100_000),
    ];
    cases(BAD).chain(unclosed).collect()
}

fn open() -> Vec<Case> {
    let deep = [
        nested("array", "[", "", "]", 129),
        nested("array", "[", "", "]", 500),
        nested("array", "[", "", "]", 100_000),
        nested("object", "{\"a\":", "1", "}", 500),
        ("a number of 10,000 digits".to_owned(), b"7".repeat(10_000)),
        ("an exponent of 10,000 digits".to_owned(), [&b"1e"[..], &b"7".repeat(10_000)].concat()),
    ];
    cases(OPEN).chain(deep).collect()
}

struct Wire {
    client: Client,
    vendor: &'static str,
    path: &'static str,
}

impl Wire {
    fn all(gateway: &Gateway) -> [Self; 3] {
        let wire = |vendor, path| Self { client: Client::new(gateway.listen), vendor, path };
        [
            wire("sendauth", "/in/sendauth"),
            wire("loginradius", "/in/loginradius"),
            wire("sendauth", "/in/again"),
        ]
    }

    fn send(&mut self, body: &[u8]) -> Answer {
        let (name, value) = signature(self.vendor, body);
        self.client.post(self.path, &[("content-type", "application/json"), (name, &value)], body)
    }
}

/// The first two sources' events arrive raw, those of the third one structured.
fn start() -> (Sink, Gateway) {
    let sink = Sink::start();
    let tables = TABLES.replace("UPSTREAM", &sink.address.to_string());
    let config = Config { app: "format = 'raw'", tables: &tables, ..Config::to(sink.address) };
    let gateway = Gateway::start(&config.text());
    (sink, gateway)
}

/// What arrived for a body that was taken: it itself, or a whole and strict event (which is three levels deeper, so that
/// our own parser may give up on it).
fn arrived_whole(arrived: &Arrived, body: &[u8]) -> bool {
    match arrived.target.as_str() {
        "/structured" => match Document::parse(arrived.body.clone().into()) {
            Ok(event) => event.pointer("/data/vendor/raw_bytes").is_some(),
            Err(malformed) => malformed.what == "nested too deep" && arrived.body.ends_with(b"}}"),
        },
        _ => arrived.body == body,
    }
}

#[test]
fn the_lists_are_what_they_say() {
    let (good, bad, open) = (good(), bad(), open());
    assert!(
        good.len() >= 95 && bad.len() >= 188 && open.len() >= 30,
        "{} {} {}",
        good.len(),
        bad.len(),
        open.len()
    );
    let all = good.iter().chain(&bad).chain(&open);
    let texts: BTreeSet<&[u8]> = all.map(|(_, text)| text.as_slice()).collect();
    assert_eq!(texts.len(), good.len() + bad.len() + open.len(), "no text stands twice");
    // Another parser's word; it is no judge of what comes twice or is too deep.
    for (name, text) in &good {
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok(), "{name}");
    }
}

#[test]
fn what_is_json_arrives_as_it_came() {
    let (sink, gateway) = start();
    let mut wrong = Vec::new();
    for mut wire in Wire::all(&gateway) {
        for (name, body) in good() {
            let before = sink.count();
            let answer = wire.send(&body);
            let whole = sink.count() == before + 1 && arrived_whole(&sink.last(), &body);
            if answer.status != 200 || answer.is_duplicate() || !whole {
                wrong.push(format!("{} {name}: {answer:?}", wire.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_no_json_is_refused() {
    let (sink, gateway) = start();
    let mut wrong = Vec::new();
    for mut wire in Wire::all(&gateway) {
        for (name, body) in bad() {
            let answer = wire.send(&body);
            // A byte 00 in what a digest signs may be somebody else's work: it is not even verified.
            let wanted = match wire.vendor == "sendauth" && body.contains(&0) {
                true => (401, Some("unverified")),
                false => (400, Some("malformed_body")),
            };
            if (answer.status, answer.header("hookwarden-error")) != wanted {
                wrong.push(format!("{} {name}: {answer:?}", wire.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(sink.count(), 0);
}

#[test]
fn what_may_be_either_is_refused_or_arrives_as_it_came() {
    let (sink, gateway) = start();
    let mut wrong = Vec::new();
    for mut wire in Wire::all(&gateway) {
        for (name, body) in open() {
            let before = sink.count();
            let answer = wire.send(&body);
            let right = match answer.status {
                200 => sink.count() == before + 1 && arrived_whole(&sink.last(), &body),
                400 | 401 => sink.count() == before,
                _ => false,
            };
            if !right {
                wrong.push(format!("{} {name}: {answer:?}", wire.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
