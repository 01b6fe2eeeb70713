//! What the API shows, as JSON. Names and outcomes only: no URL, secret, header or payload.

use serde_json::{Value, json};

use crate::{
    gateway::{Gateway, Rejections},
    scheme::Assurance,
    source::Source,
};

/// Each source by name, and how its last delivery ended.
pub(super) fn sources(gateway: &Gateway) -> Value {
    let mut sources: Vec<&Source> = gateway.sources.values().map(AsRef::as_ref).collect();
    sources.sort_by_key(|source| &source.name);
    json!({ "sources": sources.into_iter().map(source).collect::<Value>() })
}

/// The newest refusals, the newest first.
pub(super) fn rejections(rejections: &Rejections) -> Value {
    let shown = rejections.list().into_iter().map(|rejected| {
        json!({
            "time": format!("{:.3}", rejected.at),
            "source": *rejected.source,
            "code": rejected.code,
            "reason": rejected.reason,
        })
    });
    json!({ "rejections": shown.collect::<Value>() })
}

fn source(source: &Source) -> Value {
    let assurance = match source.verifier.assurance() {
        Assurance::None => source.unsigned,
        assurance => assurance,
    };
    let last = match source.last.get() {
        None => json!({ "status": "pending", "message": "not yet invoked", "at": null }),
        Some((at, success, message)) => {
            let status = if success { "success" } else { "error" };
            json!({ "status": status, "message": message, "at": format!("{at:.3}") })
        }
    };
    json!({
        "name": *source.name,
        "vendor": source.origin.vendor,
        "path": source.path,
        "upstreams": source.routes.iter().map(|route| route.app.upstream.name()).collect::<Value>(),
        "delivery": source.delivery.as_str(),
        "assurance": assurance.as_str(),
        "enforce": source.enforce,
        "last": last,
    })
}
