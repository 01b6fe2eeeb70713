//! Environment variables as a layer: `HOOKWARDEN_SERVER__LISTEN` is `server.listen`.

use std::{collections::BTreeMap, ffi::OsString};

use figment::value::{Dict, Value};

const PREFIX: &str = "HOOKWARDEN_";
/// Variables of the command line, which are no keys.
const RESERVED: [&str; 1] = ["HOOKWARDEN_CONFIG"];

/// One variable that stands for a key.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) key: Vec<String>,
    pub(super) value: OsString,
}

/// The variables that are meant as keys, in the order of their names. A secret's variable may begin with our prefix,
/// too: those that `file` or another variable names are left out.
pub(super) fn variables(env: impl IntoIterator<Item = (OsString, OsString)>, file: &Dict) -> Vec<Variable> {
    let ours = |(name, value): (OsString, OsString)| {
        let name = name.into_string().ok()?;
        let rest = name.strip_prefix(PREFIX)?;
        (!of_kubernetes(rest) && !RESERVED.contains(&name.as_str())).then_some((name, value))
    };
    let all: BTreeMap<String, OsString> = env.into_iter().filter_map(ours).collect();
    let named = |name: &str| {
        names(file, name) || all.iter().any(|(other, value)| other.ends_with("_ENV") && value == name)
    };
    let variable = |(name, value): (&String, &OsString)| {
        let key = name.strip_prefix(PREFIX)?.split("__").map(str::to_ascii_lowercase).collect();
        (!named(name)).then(|| Variable { name: name.clone(), key, value: value.clone() })
    };
    all.iter().filter_map(variable).collect()
}

/// A text as the value of a key.
pub(super) fn nest(key: &[String], text: String) -> Dict {
    let nested = key.iter().rev().fold(text.into(), |value: Value, step| {
        let table = Dict::from([(step.clone(), value)]);
        table.into()
    });
    nested.into_dict().unwrap_or_default()
}

/// What a variable's text is where no string fits: a number, a boolean or a list. A table is set key by key.
pub(super) fn typed(text: &str) -> Option<Value> {
    let value: Value = text.parse().ok()?;
    (!matches!(value, Value::String(..) | Value::Dict(..))).then_some(value)
}

/// A Kubernetes Service named `hookwarden…` puts `HOOKWARDEN_SERVICE_HOST`, `HOOKWARDEN_PORT_8080_TCP_ADDR` and the
/// like into every pod of its namespace.
fn of_kubernetes(name: &str) -> bool {
    let name = format!("_{name}");
    let port = name.split_once("_PORT_").map_or("", |(_, rest)| rest);
    let protocol = port.trim_start_matches(|c: char| c.is_ascii_digit());
    !name.contains("__")
        && (name.ends_with("_SERVICE_HOST")
            || name.ends_with("_PORT")
            || name.contains("_SERVICE_PORT_")
            || ["_TCP", "_UDP", "_SCTP"].iter().any(|known| protocol.starts_with(known)))
}

/// Whether some `secret_env`, `token_env` or `env` names this variable.
fn names(table: &Dict, variable: &str) -> bool {
    table.iter().any(|(key, value)| match value {
        Value::String(_, text) => (key == "env" || key.ends_with("_env")) && text == variable,
        Value::Dict(_, table) => names(table, variable),
        Value::Array(_, list) => list.iter().filter_map(Value::as_dict).any(|table| names(table, variable)),
        Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => false,
    })
}
