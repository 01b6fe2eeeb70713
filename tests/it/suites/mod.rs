//! Suites that others wrote: test vectors, texts, schemas and cases by name. `tests/vectors/README.md` says where each is
//! from.

mod cloudevents;
mod hmac;
mod json_test_suite;
mod schema;
mod standard_webhooks;

use std::fs;

use crate::harness::root;

/// A file of `tests/vectors`.
fn vectors(name: &str) -> serde_json::Value {
    let path = root().join("tests/vectors").join(name);
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).expect("JSON")
}
