//! Nicolas Seriot's `JSONTestSuite`: a text is JSON (`y_`), is none (`n_`), or RFC 8259 leaves it to the parser (`i_`).
//! Each is given to our reader, and sent, as it is and inside of an event, to the real program.

use bytes::Bytes;
use hookwarden::json::Document;
use serde::Deserialize;

use super::vectors;
use crate::harness::*;

#[derive(Deserialize)]
struct Written {
    name: String,
    #[serde(flatten)]
    bytes: Spelling,
}

/// Most are UTF-8; those that are long repeat themselves.
#[derive(Deserialize)]
#[serde(untagged)]
enum Spelling {
    Hex {
        hex: String,
    },
    Times {
        text: String,
        times: usize,
        #[serde(default)]
        end: String,
    },
    Text {
        text: String,
    },
}

struct Text {
    name: String,
    bytes: Vec<u8>,
}

/// What the suite says of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Json,
    NoJson,
    Either,
}

impl Text {
    fn verdict(&self) -> Verdict {
        match &self.name[..2] {
            "y_" => Verdict::Json,
            "n_" => Verdict::NoJson,
            "i_" => Verdict::Either,
            other => panic!("{other}"),
        }
    }
}

fn suite() -> Vec<Text> {
    let written: Vec<Written> = serde_json::from_value(vectors("json_test_suite.json")).expect("the format");
    let text = |written: Written| Text {
        name: written.name,
        bytes: match written.bytes {
            Spelling::Hex { hex } => hex::decode(hex).expect("hex"),
            Spelling::Times { text, times, end } => (text.repeat(times) + &end).into_bytes(),
            Spelling::Text { text } => text.into_bytes(),
        },
    };
    written.into_iter().map(text).collect()
}

/// Where RFC 8259 leaves it open, this is refused: what is not UTF-8, a byte order mark, and 500 levels. Numbers of any
/// size and halves of surrogate pairs are taken, and go on as they stand.
const REFUSED: [&str; 15] = [
    "i_string_UTF-16LE_with_BOM",
    "i_string_UTF-8_invalid_sequence",
    "i_string_UTF8_surrogate_U+D800",
    "i_string_invalid_utf-8",
    "i_string_iso_latin_1",
    "i_string_lone_utf8_continuation_byte",
    "i_string_not_in_unicode_range",
    "i_string_overlong_sequence_2_bytes",
    "i_string_overlong_sequence_6_bytes",
    "i_string_overlong_sequence_6_bytes_null",
    "i_string_truncated-utf-8",
    "i_string_utf16BE_no_BOM",
    "i_string_utf16LE_no_BOM",
    "i_structure_500_nested_arrays",
    "i_structure_UTF-8_BOM_empty_object",
];

fn is_taken(text: &Text) -> bool {
    match text.verdict() {
        Verdict::Json => true,
        Verdict::NoJson => false,
        Verdict::Either => !REFUSED.contains(&text.name.as_str()),
    }
}

#[test]
fn the_suite_is_whole() {
    let suite = suite();
    let count = |verdict| suite.iter().filter(|text| text.verdict() == verdict).count();
    assert_eq!((count(Verdict::Json), count(Verdict::NoJson), count(Verdict::Either)), (95, 188, 35));
    let lengths = |name: &str| suite.iter().find(|text| text.name == name).expect("there").bytes.len();
    assert_eq!(lengths("n_structure_100000_opening_arrays"), 100_000);
    assert_eq!(lengths("n_structure_open_array_object"), 250_001);
    for name in REFUSED {
        assert!(suite.iter().any(|text| text.name == name), "{name}");
    }
}

#[test]
fn the_reader_takes_what_is_json_and_nothing_else() {
    let wrong: Vec<String> = suite()
        .into_iter()
        .filter(|text| Document::parse(Bytes::copy_from_slice(&text.bytes)).is_ok() != is_taken(text))
        .map(|text| text.name)
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A source, and how an event is written that holds a text.
struct Wire {
    client: Client,
    vendor: &'static str,
    path: &'static str,
    around: fn(usize) -> (String, &'static str),
}

impl Wire {
    fn send(&mut self, body: &[u8]) -> Answer {
        let (name, value) = signature(self.vendor, body);
        self.client.post(self.path, &[("content-type", "application/json"), (name, &value)], body)
    }
}

/// The first two sources' events arrive raw, those of the third one structured.
fn start() -> (Sink, Gateway) {
    let sink = Sink::start();
    let tables = format!(
        "[upstreams.structured]\nurl = \"http://{}/structured\"\nsecret_env = \"APP_WEBHOOK_SECRET\"\n\
         [sources.again]\nvendor = \"sendauth\"\ntenant = \"again\"\nsecret_env = \"SENDAUTH_SECRET\"\n\
         upstream = \"structured\"\n",
        sink.address
    );
    let config = Config { app: "format = 'raw'", tables: &tables, ..Config::to(sink.address) };
    let gateway = Gateway::start(&config.text());
    (sink, gateway)
}

fn wires(gateway: &Gateway) -> [Wire; 3] {
    let approval = |id: usize| (format!(r#"{{"id":"t{id}","state":"verified","text":"#), "}");
    let login =
        |id: usize| (format!(r#"{{"HookName":"login","HookId":"h{id}","Data":{{"Uid":"u","Text":"#), "}}");
    let wire = |vendor, path, around| Wire { client: Client::new(gateway.listen), vendor, path, around };
    [
        wire("sendauth", "/in/sendauth", approval as fn(usize) -> (String, &'static str)),
        wire("loginradius", "/in/loginradius", login),
        wire("sendauth", "/in/again", approval),
    ]
}

/// Whether what arrived is the body itself or, structured, an event that is one JSON text. That may be deeper than our
/// own reader goes, though the body was not.
fn is_whole(arrived: &Arrived, body: &[u8]) -> bool {
    match arrived.target.as_str() {
        "/structured" => match Document::parse(arrived.body.clone().into()) {
            Ok(event) => event.pointer("/data/vendor/raw_bytes").is_some(),
            Err(malformed) => malformed.what == "nested too deep" && arrived.body.ends_with(b"}}"),
        },
        _ => arrived.body == body,
    }
}

/// What is wrong with the answer to this body, or with what arrived.
fn fault(sink: &Sink, wire: &mut Wire, body: &[u8], taken: bool) -> Option<String> {
    let before = sink.count();
    let answer = wire.send(body);
    let arrived = sink.count() - before;
    let right = if taken {
        answer.status == 200 && (answer.is_duplicate() || arrived == 1 && is_whole(&sink.last(), body))
    } else {
        // A byte 00 in what a digest signs may be somebody else's work: it is not even verified.
        let refused = match wire.vendor == "sendauth" && body.contains(&0) {
            true => (401, Some("unverified")),
            false => (400, Some("malformed_body")),
        };
        (answer.status, answer.header("hookwarden-error")) == refused && arrived == 0
    };
    (!right).then(|| format!("{answer:?}"))
}

#[test]
fn a_body_arrives_as_it_came_or_not_at_all() {
    let (sink, gateway) = start();
    let mut wrong = Vec::new();
    for mut wire in wires(&gateway) {
        for text in suite() {
            let fault = fault(&sink, &mut wire, &text.bytes, is_taken(&text));
            wrong.extend(fault.map(|fault| format!("{} {}: {fault}", wire.path, text.name)));
        }
        // All but one: `y_number_minus_zero` and `y_number_negative_zero` are the same bytes.
        assert_eq!(
            sink.arrived().iter().filter(|one| one.header("hookwarden-source") == &wire.path[4..]).count(),
            114
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_text_inside_of_an_event_makes_or_breaks_it() {
    let (sink, gateway) = start();
    let mut wrong = Vec::new();
    for mut wire in wires(&gateway) {
        for (number, text) in suite().into_iter().enumerate() {
            let (before, after) = (wire.around)(number);
            let body = [before.as_bytes(), &text.bytes, after.as_bytes()].concat();
            let fault = fault(&sink, &mut wire, &body, is_taken(&text));
            wrong.extend(fault.map(|fault| format!("{} {}: {fault}", wire.path, text.name)));
        }
        assert_eq!(
            sink.arrived().iter().filter(|one| one.header("hookwarden-source") == &wire.path[4..]).count(),
            115
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
