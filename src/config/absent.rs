//! Keys of the product that this version does not have. They get an answer of their own: "unknown key" would send the
//! operator looking for a slip of the pen.

use figment::value::{Dict, Value};

use super::report::Problem;

/// Takes what is not in this version out of the configuration and says so.
pub(super) fn refuse(root: &mut Dict) -> Vec<Problem> {
    let mut problems = Vec::new();
    if root.remove("inbox").is_some() {
        problems.push(inbox(
            &["inbox"],
            "remove `[inbox]`: delivery is direct, the vendor's answer follows the app's",
        ));
    }
    for (name, upstream) in tables(root, "upstreams") {
        for key in ["schedule", "order"] {
            if upstream.remove(key).is_some() {
                let hint = format!("remove `{key}`: it paces the inbox; direct delivery has `retry`");
                problems.push(inbox(&["upstreams", name, key], &hint));
            }
        }
    }
    for (name, source) in tables(root, "sources") {
        if source.get("delivery").and_then(Value::as_str) == Some("inbox") {
            source.remove("delivery");
            problems.push(inbox(&["sources", name, "delivery"], "use `direct`, or leave it out"));
        }
    }
    if let Some(Value::Dict(_, store)) = root.get_mut("store")
        && let Some(url) = store.get("url").and_then(Value::as_str)
        && (url.starts_with("redis:") || url.starts_with("rediss:"))
    {
        store.remove("url");
        let text = "Redis is not in this version; claims and rates are kept in memory";
        problems.push(Problem::error(&["store", "url"], text).with_hint("use `memory:`, or leave it out"));
    }
    problems
}

fn inbox(key: &[&str], hint: &str) -> Problem {
    Problem::error(key, "the durable inbox is not in this version").with_hint(hint)
}

fn tables<'a>(root: &'a mut Dict, key: &str) -> impl Iterator<Item = (&'a str, &'a mut Dict)> {
    let named = match root.get_mut(key) {
        Some(Value::Dict(_, named)) => Some(named),
        _ => None,
    };
    named.into_iter().flatten().filter_map(|(name, value)| match value {
        Value::Dict(_, table) => Some((name.as_str(), table)),
        _ => None,
    })
}
