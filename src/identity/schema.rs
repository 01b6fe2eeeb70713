//! The JSON Schema of `data` and of the whole event, made from the same tables the writer uses.

use serde_json::{Map, Value, json};

use super::{
    EventType, VERSION,
    data::{MEMBERS, Member, Shape},
};

/// Members of `data` that are always there.
const REQUIRED: &[&str] = &[
    "version",
    "event",
    "received_at",
    "time_source",
    "outcome",
    "severity",
    "test",
    "tags",
    "vendor",
    "unmapped",
];

/// The JSON Schema (2020-12) of `data`. `id` is the address it is served at, if there is one.
#[must_use]
pub fn data(id: Option<&str>) -> Value {
    let mut schema = object(MEMBERS);
    schema["required"] = json!(REQUIRED);
    schema["properties"]["vendor"]["required"] =
        json!(["name", "event", "mapping", "verification", "raw_sha256", "raw_bytes"]);
    let mut whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("hookwarden identity event {VERSION}"),
    });
    if let (Some(id), Some(whole)) = (id, whole.as_object_mut()) {
        whole.insert("$id".into(), json!(id));
    }
    if let (Some(whole), Value::Object(schema)) = (whole.as_object_mut(), schema) {
        whole.extend(schema);
    }
    whole
}

fn object(members: &[Member]) -> Value {
    let mut root = json!({ "type": "object", "additionalProperties": false, "properties": {} });
    for Member { path, shape, .. } in members {
        let mut at = &mut root;
        let mut steps = path.split('.').peekable();
        while let Some(step) = steps.next() {
            let Some(properties) = at["properties"].as_object_mut() else { break };
            at = entry(properties, step, || match steps.peek() {
                Some(_) => json!({ "type": "object", "additionalProperties": false, "properties": {} }),
                None => value(path, *shape),
            });
        }
    }
    root
}

fn entry<'a>(map: &'a mut Map<String, Value>, key: &str, make: impl FnOnce() -> Value) -> &'a mut Value {
    map.entry(key.to_owned()).or_insert_with(make)
}

fn value(path: &str, shape: Shape) -> Value {
    let time = json!({ "type": "string", "format": "date-time", "pattern": "Z$" });
    match shape {
        Shape::Constant => constant(path, time),
        Shape::Text => json!({ "type": "string", "minLength": 1 }),
        Shape::Word(words) | Shape::Kind(words) => json!({ "enum": words }),
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Time => time,
        Shape::Country => json!({ "type": "string", "pattern": "^[A-Z]{2}$" }),
        Shape::Latitude => json!({ "type": "number", "minimum": -90, "maximum": 90 }),
        Shape::Longitude => json!({ "type": "number", "minimum": -180, "maximum": 180 }),
        Shape::Ip => json!({ "anyOf": [{ "format": "ipv4" }, { "format": "ipv6" }], "type": "string" }),
        Shape::Timezone => json!({ "type": "string", "pattern": "^[A-Za-z]" }),
        Shape::Tags => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Shape::Json => json!(true),
        Shape::Scalar => json!({ "type": ["string", "number", "boolean"] }),
        Shape::List(members) => json!({ "type": "array", "items": object(members) }),
    }
}

fn constant(path: &str, time: Value) -> Value {
    match path {
        "version" => json!({ "const": VERSION }),
        "event" => json!({ "enum": EventType::ALL }),
        "received_at" => time,
        "time_source" => json!({ "enum": ["vendor", "received"] }),
        "network.ip_version" => json!({ "enum": [4, 6] }),
        "geo.region_iso" => json!({ "type": "string", "pattern": "^[A-Z]{2}-[A-Z0-9]{1,3}$" }),
        "vendor.mapping" => json!({ "enum": ["full", "partial", "passthrough"] }),
        "vendor.verification" => json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["method", "assurance"],
            "properties": {
                "method": { "type": "string" },
                "header": { "type": "string" },
                "assurance": { "enum": ["signed", "signed-weak", "shared-secret", "network", "none"] },
                "key_id": { "type": "string" },
            },
        }),
        "vendor.redacted" => json!({ "type": "array", "items": { "type": "string", "pattern": "^/" } }),
        "vendor.raw_sha256" => json!({ "type": "string", "pattern": "^[0-9a-f]{64}$" }),
        "vendor.raw_bytes" => json!({ "type": "integer", "minimum": 0 }),
        "vendor.raw" => json!(true),
        "unmapped" => json!({ "type": "object" }),
        _ => json!({ "type": "string", "minLength": 1 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'a>(schema: &'a Value, path: &str) -> &'a Value {
        let pointer = format!("/properties/{}", path.replace('.', "/properties/"));
        schema.pointer(&pointer).unwrap_or_else(|| panic!("{pointer}"))
    }

    #[test]
    fn every_member_has_its_place_and_nothing_else_has() {
        let schema = data(None);
        for Member { path, shape, .. } in MEMBERS {
            assert_eq!(at(&schema, path), &value(path, *shape), "{path}");
            if let Some((parent, _)) = path.rsplit_once('.') {
                let parent = at(&schema, parent);
                assert_eq!(
                    (&parent["type"], &parent["additionalProperties"]),
                    (&json!("object"), &json!(false))
                );
            }
        }
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], json!(REQUIRED));
        assert!(REQUIRED.iter().all(|name| schema["properties"].get(name).is_some()));
        assert!(at(&schema, "vendor")["required"].as_array().unwrap().contains(&json!("raw_sha256")));
        assert_eq!(at(&schema, "approval.transactions")["items"]["properties"]["id"]["type"], "string");
    }

    #[test]
    fn a_schema_with_an_address_says_so() {
        assert_eq!(data(Some("https://a.example/s"))["$id"], "https://a.example/s");
        assert_eq!(data(None).get("$id"), None);
        assert!(data(None)["title"].as_str().unwrap().ends_with(VERSION));
    }

    #[test]
    fn what_the_gateway_itself_writes_is_bounded() {
        let schema = data(None);
        for (path, expected) in [
            ("version", json!({ "const": "1.0" })),
            ("time_source", json!({ "enum": ["vendor", "received"] })),
            ("network.ip_version", json!({ "enum": [4, 6] })),
            ("vendor.mapping", json!({ "enum": ["full", "partial", "passthrough"] })),
            ("vendor.raw_bytes", json!({ "type": "integer", "minimum": 0 })),
            ("vendor.raw", json!(true)),
            ("vendor.name", json!({ "type": "string", "minLength": 1 })),
            ("unmapped", json!({ "type": "object" })),
        ] {
            assert_eq!(at(&schema, path), &expected, "{path}");
        }
        assert_eq!(at(&schema, "received_at"), at(&schema, "occurred_at"));
        assert_eq!(at(&schema, "occurred_at")["format"], "date-time");
        assert_eq!(at(&schema, "event")["enum"].as_array().unwrap().len(), EventType::ALL.len());
        for (path, pattern) in [
            ("geo.region_iso", "^[A-Z]{2}-[A-Z0-9]{1,3}$"),
            ("geo.country", "^[A-Z]{2}$"),
            ("vendor.raw_sha256", "^[0-9a-f]{64}$"),
        ] {
            assert_eq!(at(&schema, path)["pattern"], pattern, "{path}");
        }
        assert_eq!(at(&schema, "vendor.redacted")["items"]["pattern"], "^/");
        assert_eq!(at(&schema, "vendor.verification")["required"], json!(["method", "assurance"]));
    }
}
