//! Keys of the product that this version does not have. They get an answer of their own: "unknown key" would send the
//! operator looking for a slip of the pen.

use figment::value::{Dict, Value};

use super::report::Problem;

/// Takes what is not in this version out of the configuration and says so.
pub(super) fn refuse(root: &mut Dict) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(Value::Dict(_, inbox)) = root.get_mut("inbox")
        && let Some(url) = inbox.get("url").and_then(Value::as_str)
        && (url.starts_with("postgres:") || url.starts_with("postgresql:"))
    {
        inbox.remove("url");
        let text = "PostgreSQL is not in this version; the inbox is a SQLite file";
        let hint = "use `sqlite:` and a path, such as `sqlite:/var/lib/hookwarden/inbox.db`";
        problems.push(Problem::error(&["inbox", "url"], text).with_hint(hint));
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
