//! The part of JSON Schema that `CloudEvents`' schema and ours use, strictly: a keyword that is not known here is an error
//! of the test, so that nothing a schema says is passed over.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex},
};

use regex_automata::dfa::regex::Regex;
use serde_json::Value;

/// Everything in which a value is not as the schema says.
pub(super) fn faults(value: &Value, schema: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    Checker { root: schema, faults: &mut faults }.check(value, schema, "");
    faults
}

/// Whether the text has a part that matches. There are few patterns and many texts: each is compiled once.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    static COMPILED: Mutex<BTreeMap<String, Arc<Regex>>> = Mutex::new(BTreeMap::new());
    let compile = || Arc::new(Regex::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}")));
    let regex = Arc::clone(COMPILED.lock().unwrap().entry(pattern.to_owned()).or_insert_with(compile));
    regex.is_match(text)
}

struct Checker<'a> {
    root: &'a Value,
    faults: &'a mut Vec<String>,
}

impl Checker<'_> {
    fn check(&mut self, value: &Value, schema: &Value, at: &str) {
        let keywords = match schema {
            Value::Bool(true) => return,
            Value::Bool(false) => return self.faults.push(format!("{at} may not be")),
            Value::Object(keywords) => keywords,
            other => panic!("no schema: {other}"),
        };
        if let Some(address) = keywords.get("$ref") {
            let path =
                address.as_str().and_then(|address| address.strip_prefix('#')).expect("in this schema");
            let target = self.root.pointer(path).unwrap_or_else(|| panic!("{path} is nowhere"));
            // Draft 7: what stands beside it does not count.
            return self.check(value, target, at);
        }
        for (keyword, operand) in keywords {
            if !self.keyword(keyword, operand, value, at) {
                self.faults.push(format!("{at}: {value} is not as {keyword} says: {operand}"));
            }
            self.parts(keyword, operand, keywords.get("properties"), value, at);
        }
    }

    /// What a keyword says of the value itself.
    fn keyword(&self, keyword: &str, operand: &Value, value: &Value, at: &str) -> bool {
        let text = value.as_str();
        match keyword {
            "type" => match operand {
                Value::Array(names) => names.iter().any(|name| is_a(value, name)),
                name => is_a(value, name),
            },
            "enum" => operand.as_array().expect("a list").contains(value),
            "const" => operand == value,
            "minLength" => {
                text.is_none_or(|text| text.chars().count() as u64 >= operand.as_u64().expect("a number"))
            }
            "minimum" => value.as_f64().is_none_or(|number| number >= operand.as_f64().expect("a number")),
            "maximum" => value.as_f64().is_none_or(|number| number <= operand.as_f64().expect("a number")),
            "pattern" => text.is_none_or(|text| matches(operand.as_str().expect("a pattern"), text)),
            "format" => text.is_none_or(|text| has_format(operand.as_str().expect("a name"), text)),
            "required" => value.as_object().is_none_or(|members| {
                operand
                    .as_array()
                    .expect("a list")
                    .iter()
                    .all(|name| members.contains_key(name.as_str().expect("a name")))
            }),
            "anyOf" => operand.as_array().expect("a list").iter().any(|one| {
                let mut faults = Vec::new();
                Checker { root: self.root, faults: &mut faults }.check(value, one, at);
                faults.is_empty()
            }),
            // Of the parts, or of nothing that can be wrong.
            "properties" | "additionalProperties" | "items" => true,
            "$schema" | "$id" | "title" | "description" | "examples" | "definitions" | "contentEncoding" => {
                true
            }
            other => panic!("{other} is not known here"),
        }
    }

    /// What a keyword says of the value's members or elements.
    fn parts(&mut self, keyword: &str, operand: &Value, properties: Option<&Value>, value: &Value, at: &str) {
        match (keyword, value) {
            ("properties", Value::Object(members)) => {
                for (name, value) in members {
                    if let Some(schema) = operand.get(name) {
                        self.check(value, schema, &format!("{at}/{name}"));
                    }
                }
            }
            ("additionalProperties", Value::Object(members)) => {
                for (name, value) in members {
                    if properties.and_then(|known| known.get(name)).is_none() {
                        self.check(value, operand, &format!("{at}/{name}"));
                    }
                }
            }
            ("items", Value::Array(elements)) => {
                for (position, element) in elements.iter().enumerate() {
                    self.check(element, operand, &format!("{at}/{position}"));
                }
            }
            _ => {}
        }
    }
}

fn is_a(value: &Value, name: &Value) -> bool {
    match name.as_str().expect("a name") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        other => panic!("{other} is no type"),
    }
}

fn has_format(name: &str, text: &str) -> bool {
    match name {
        "date-time" => is_rfc_3339(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "uri" => is_uri(text),
        "uri-reference" => is_uri_reference(text),
        other => panic!("the format {other} is not known here"),
    }
}

/// RFC 3339 §5.6, as written and as a time there is.
pub(super) fn is_rfc_3339(text: &str) -> bool {
    let written =
        r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})$";
    matches(written, text) && text.parse::<jiff::Timestamp>().is_ok()
}

/// RFC 3986 appendix A, path characters and what may stand before and behind a path.
const SEGMENT: &str = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})";
const FIRST_SEGMENT: &str = r"(?:[A-Za-z0-9._~!$&'()*+,;=@-]|%[0-9A-Fa-f]{2})";
const AUTHORITY: &str = r"(?:(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*@)?(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?";

/// RFC 3986 §3.
pub(super) fn is_uri(text: &str) -> bool {
    matches(&format!("^[A-Za-z][A-Za-z0-9+.-]*:{}$", behind_the_scheme(SEGMENT)), text)
}

/// RFC 3986 §4.1.
pub(super) fn is_uri_reference(text: &str) -> bool {
    is_uri(text) || matches(&format!("^{}$", behind_the_scheme(FIRST_SEGMENT)), text)
}

/// `first`: what the first segment of a path without a root is made of.
fn behind_the_scheme(first: &str) -> String {
    let rest = format!("(?:/{SEGMENT}*)*");
    let path = format!("(?://{AUTHORITY}{rest}|/(?:{SEGMENT}+{rest})?|{first}+{rest})?");
    format!(r"{path}(?:\?(?:{SEGMENT}|[/?])*)?(?:#(?:{SEGMENT}|[/?])*)?")
}

#[test]
fn uris_are_told_from_others() {
    let uris = [
        "https://hooks.example.com/sendauth/main",
        "mailto:cncf-wg-serverless@lists.cncf.io",
        "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
        "http://[::1]:8080/a?b=c/d?e#f",
    ];
    let references =
        ["cloudevents/spec/pull/123", "/sensors/tn-1234567/alerts", "1-555-123-4567", "//a/b", "", "#a"];
    let neither = ["a b", "/a\"b", "%zz", "/a%2", "http://a/<b>", "1:2", "/ä", "a#b#c", "[a]"];
    for text in uris {
        assert!(is_uri(text) && is_uri_reference(text), "{text}");
    }
    for text in references {
        assert!(!is_uri(text) && is_uri_reference(text), "{text}");
    }
    for text in neither {
        assert!(!is_uri_reference(text), "{text}");
    }
}

#[test]
fn times_are_told_from_others() {
    for text in ["2018-04-05T17:31:00Z", "2024-02-29T23:59:59.123456789+05:30"] {
        assert!(is_rfc_3339(text), "{text}");
    }
    for text in [
        "2018-04-05",
        "2018-04-05 17:31:00Z",
        "2018-04-05T17:31:00",
        "2023-02-29T00:00:00Z",
        "1522949460",
        "",
    ] {
        assert!(!is_rfc_3339(text), "{text}");
    }
}

#[test]
fn every_keyword_finds_its_fault() {
    use serde_json::json;
    for (schema, good, bad) in [
        (json!({ "type": "integer" }), json!(1), json!(1.5)),
        (json!({ "type": ["string", "null"] }), json!(null), json!(true)),
        (json!({ "enum": ["a", 4] }), json!(4), json!("b")),
        (json!({ "const": "1.0" }), json!("1.0"), json!("1")),
        (json!({ "minLength": 1 }), json!("ä"), json!("")),
        (json!({ "minimum": -90, "maximum": 90 }), json!(90), json!(-90.1)),
        (json!({ "pattern": "^[A-Z]{2}$" }), json!("DE"), json!("DEU")),
        (json!({ "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }] }), json!("::1"), json!("1.2.3")),
        (json!({ "required": ["a"] }), json!({ "a": null }), json!({ "b": 1 })),
        (json!({ "properties": { "a": { "type": "null" } } }), json!({ "b": 1 }), json!({ "a": 1 })),
        (
            json!({ "properties": { "a": true }, "additionalProperties": false }),
            json!({ "a": 1 }),
            json!({ "b": 1 }),
        ),
        (json!({ "additionalProperties": { "type": "string" } }), json!({ "a": "" }), json!({ "a": 1 })),
        (json!({ "items": { "minimum": 0 } }), json!([0, "a"]), json!([0, -1])),
        (
            json!({ "$ref": "#/definitions/a", "definitions": { "a": { "type": "null" } } }),
            json!(null),
            json!(1),
        ),
    ] {
        assert_eq!(faults(&good, &schema), Vec::<String>::new(), "{schema}");
        assert!(!faults(&bad, &schema).is_empty(), "{schema}: {bad}");
    }
}
