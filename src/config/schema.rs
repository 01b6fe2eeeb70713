//! JSON Schema of the configuration, for editors: made from the very types that read it.

use schemars::{Schema, schema_for};
use serde_json::Value;

use super::Settings;

/// Identifies the schema; nothing is fetched from there.
pub const SCHEMA_ID: &str = "https://hookwarden.dev/schema/config.json";

/// The schema, JSON Schema 2020-12.
#[must_use]
pub fn schema() -> Value {
    let mut schema: Schema = schema_for!(Settings);
    schema.insert("$id".to_owned(), SCHEMA_ID.into());
    schema.insert("title".to_owned(), "hookwarden configuration".into());
    schema.to_value()
}

#[cfg(test)]
pub(super) mod tests {
    use std::{collections::BTreeSet, path::Path};

    use figment::value::Dict;

    use super::*;
    use crate::{
        config::{load, secrets, secrets::SecretFields},
        secret::Secret,
        vendor::{self, Options, Plan},
    };

    const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");

    /// Every key the schema knows, as a dotted path; `*` is any name, `#` any position in a list.
    pub(in crate::config) fn keys(schema: &Value) -> BTreeSet<String> {
        fn walk(node: &Value, path: &str, root: &Value, keys: &mut BTreeSet<String>) {
            if let Some(name) = node["$ref"].as_str() {
                let definition = root.pointer(name.trim_start_matches('#'));
                return walk(definition.expect(name), path, root, keys);
            }
            for choice in ["anyOf", "oneOf"].into_iter().filter_map(|kind| node[kind].as_array()).flatten() {
                walk(choice, path, root, keys);
            }
            for (name, member) in node["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}.{name}").trim_start_matches('.').to_owned();
                walk(member, &path, root, keys);
                keys.insert(path);
            }
            for (kind, any) in [("additionalProperties", '*'), ("items", '#')] {
                if node[kind].is_object() {
                    walk(&node[kind], &format!("{path}.{any}"), root, keys);
                }
            }
        }
        let mut found = BTreeSet::new();
        walk(schema, "", schema, &mut found);
        found
    }

    /// The example with every `# key = …` and `# [table]` taken in.
    fn uncommented(text: &str) -> String {
        let key = |line: &str| {
            line.starts_with('[')
                || line.split_once(" = ").is_some_and(|(key, _)| !key.contains([' ', '`', ':']))
        };
        let line = |line: &str| match line.strip_prefix("# ").filter(|rest| key(rest)) {
            Some(rest) => format!("{rest}\n"),
            None => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    }

    #[test]
    fn the_example_loads_as_it_stands() {
        let loaded = load(Some(Path::new(EXAMPLE)), [], &Dict::new()).unwrap();
        let env = |name: &str| name.ends_with("_SECRET").then(|| "0123456789abcdef0123456789abcdef".into());
        assert_eq!(loaded.settings.sources.len(), 5);
        for (name, source) in &loaded.settings.sources {
            let fields = SecretFields::from(source);
            let (secrets, warnings) = secrets::read(&fields, &["sources", name], &env).unwrap();
            assert_eq!((secrets.len(), warnings.len()), (1, 0));
            let vendor = vendor::builtin(source.vendor.as_deref().unwrap()).unwrap();
            let verifier = source.verify.over(&vendor.verify).compile(&secrets, None);
            assert!(verifier.is_ok(), "{name}: {:?}", verifier.unwrap_err());
        }
        let own = &loaded.settings.vendors["example"];
        let secret = Secret::new(None, b"0123456789abcdef".to_vec());
        assert!(own.verify.compile(&[secret], None).is_ok());
        Plan::compile("example", own, Options::default()).unwrap();
    }

    #[test]
    fn the_example_shows_the_defaults() {
        let shown = |settings: &Settings| {
            let Settings {
                public_url, type_prefix, server, admin, limits, store, inbox, log, reload, ..
            } = settings;
            format!("{:#?}", (public_url, type_prefix, server, admin, limits, store, inbox, log, reload))
        };
        let loaded = load(Some(Path::new(EXAMPLE)), [], &Dict::new()).unwrap();
        assert_eq!(shown(&loaded.settings), shown(&Settings::default()));
    }

    #[test]
    fn the_example_and_the_schema_have_the_same_keys() {
        fn walk(value: &toml::Value, path: &str, schema: &BTreeSet<String>, keys: &mut BTreeSet<String>) {
            let at = |name: &str| format!("{path}.{name}").trim_start_matches('.').to_owned();
            match value {
                toml::Value::Table(table) => {
                    for (name, value) in table {
                        let known = schema.contains(&at(name));
                        let path = at(if known { name } else { "*" });
                        walk(value, &path, schema, keys);
                        keys.insert(path);
                    }
                }
                toml::Value::Array(list) => list.iter().for_each(|value| walk(value, &at("#"), schema, keys)),
                _ => {}
            }
        }
        let schema = keys(&schema());
        let text = uncommented(&std::fs::read_to_string(EXAMPLE).unwrap());
        let mut example = BTreeSet::new();
        walk(&text.parse::<toml::Table>().unwrap().into(), "", &schema, &mut example);

        // The same as `vendors.*.verify`, as `vendors.*.map.*`, and the closed list of types.
        let again = ["sources.*.verify.", "vendors.*.event.#.set.*.", "sources.*.severity_overrides."];
        let own = |key: &&String| !again.iter().any(|table| key.starts_with(table));
        let missing: Vec<_> = schema.difference(&example).filter(own).collect();
        assert!(missing.is_empty(), "not in the example: {missing:?}");
        assert!(schema.len() > 100, "{}", schema.len());

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hookwarden.toml");
        std::fs::write(&path, text).unwrap();
        // Strict reading is the other direction: no key of the example is unknown.
        load(Some(&path), [], &Dict::new()).unwrap();
    }
}
