//! Broken configurations and what is said of them, word for word.

use std::{ffi::OsString, fs, path::Path};

use figment::value::{Dict, Value};

use super::{Loaded, Problem, Report, load, schema};

fn read(text: impl AsRef<[u8]>, env: &[(&str, &str)], flags: &Dict) -> Result<Loaded, Report> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hookwarden.toml");
    fs::write(&path, text).unwrap();
    let env = env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    load(Some(&path), env, flags).and_then(Loaded::whole)
}

fn from_env(env: &[(&str, &str)]) -> Result<Loaded, Report> {
    read("", env, &Dict::new())
}

/// The report without the directory of the file.
fn said(result: Result<Loaded, Report>) -> String {
    let text = result.expect_err("a broken configuration").to_string();
    let file = |line: &str| match (line.find("--> /"), line.find("hookwarden.toml")) {
        (Some(start), Some(end)) => format!("{}{}", &line[..start + 4], &line[end..]),
        _ => line.to_owned(),
    };
    text.lines().map(file).collect::<Vec<_>>().join("\n")
}

fn said_of(text: &str) -> String {
    said(read(text, &[], &Dict::new()))
}

#[test]
fn every_mistake_is_shown_at_once_where_it_stands() {
    let text = r#"
publik_url = "https://hooks.example.com"
[server]
  header_timeout = "5 s"
tls = { key_file = "a", cert_file = "b", client_ca = "c" }
[upstreamz.app]
[upstreams.app]
retry.attmpts = 3
rate = "often"
[log]
format = "jsno"
"#;
    let expected = r#"
error: unknown key `publik_url`
  --> hookwarden.toml:2:1  (publik_url)
   |
 2 | publik_url = …
   | ^^^^^^^^^^ did you mean `public_url`?

error: expected a duration such as "500ms", "10s", "5m", "96h" or "7d"
  --> hookwarden.toml:4:3  (server.header_timeout)
   |
 4 |   header_timeout = …
   |   ^^^^^^^^^^^^^^ for example `header_timeout = "5s"`

error: unknown key `client_ca`
  --> hookwarden.toml:5:42  (server.tls.client_ca)
   |
 5 | client_ca = …
   | ^^^^^^^^^ did you mean `client_ca_file`?

error: unknown key `upstreamz`
  --> hookwarden.toml:6:2  (upstreamz)
   |
 6 | [upstreamz.app]
   |  ^^^^^^^^^ did you mean `upstreams`?

error: unknown key `attmpts`
  --> hookwarden.toml:8:7  (upstreams.app.retry.attmpts)
   |
 8 | retry.attmpts = …
   |       ^^^^^^^ did you mean `attempts`?

error: expected a rate such as "100/s", "600/m burst 200" (at most 1000000 each) or "unlimited"
  --> hookwarden.toml:9:1  (upstreams.app.rate)
   |
 9 | rate = …
   | ^^^^ for example `rate = "unlimited"`

error: unknown value
   --> hookwarden.toml:11:1  (log.format)
    |
 11 | format = …
    | ^^^^^^ did you mean `json`?"#;
    assert_eq!(said_of(text), expected.trim_start());
}

#[test]
fn wrong_values_are_explained_without_being_repeated() {
    for (text, expected) in [
        ("type_prefix = 5", "expected a string, found a number"),
        ("server = 5", "expected a table, found a number"),
        ("sources = []", "expected a table, found a list"),
        ("[admin]\napi = 'yes'", "expected `true` or `false`, found a string"),
        ("[admin]\nlisten = 'localhost'", "expected an address and a port such as \"127.0.0.1:8080\""),
        (
            "[admin]\nlisten = 9600",
            "expected an address and a port such as \"127.0.0.1:8080\", found a number",
        ),
        ("[store]\nentries_max = -1", "out of range: expected a whole number, 0 or greater"),
        (
            "[store]\nentries_max = 1.5",
            "expected a whole number, 0 or greater, found a number with a fraction",
        ),
        ("[store]\nurl = 'file:x'", "unknown value"),
        (
            "[limits]\ninflight_bytes_max = '64MB'",
            "expected a size such as \"512B\", \"16KiB\", \"1MiB\" or \"1GiB\"",
        ),
        (
            "[sources.a]\nallow = ['10.0.0.0/64']",
            "expected a network such as \"192.0.2.0/24\" or \"2001:db8::/32\", or an address",
        ),
        ("[sources.a]\nseverity_overrides = { 'user.create' = 'low' }", "unknown key `user.create`"),
        ("[sources.'a b']", "a name is 1 to 64 of `a-z A-Z 0-9 - _ .` and begins with a letter or digit"),
    ] {
        assert_eq!(said_of(text).lines().next().unwrap(), format!("error: {expected}"), "{text}");
    }
}

#[test]
fn each_element_of_a_list_is_judged() {
    let text = "[[vendors.a.event]]\nmatch = ['a']\n[[vendors.a.event]]\ntype = 'user.created'\n[vendors.a]\ntitle = 'A'\n[vendors.a.verify]\n[sources.a]\nallow = ['a', '::/0', 'b', 5]\n";
    let report = read(text, &[], &Dict::new()).unwrap_err();
    let keys: Vec<String> = report.problems().map(|problem| problem.key.join(".")).collect();
    let expected = ["vendors.a.event.0.type", "vendors.a.event.1.match"];
    assert_eq!(keys[..2], expected);
    assert_eq!(keys[2..], ["sources.a.allow.0", "sources.a.allow.2", "sources.a.allow.3"]);
    let block = "error: missing key `match`\n  --> hookwarden.toml:3:1  (vendors.a.event.1.match)\n   |\n 3 | [[vendors.a.event]]\n   | ^^^^^^^^^^^^^^^^^^^ for example `match = [\"user.registered\"]`\n";
    assert!(said(Err(report)).contains(block));
}

#[test]
fn files_that_cannot_be_read() {
    let broken =
        |text: &str| format!("error: {text}\n   = config.example.toml shows every key, with its default");
    let syntax = "not valid TOML: invalid string; expected `\"`, `'`\n  --> hookwarden.toml:2:10";
    let number = "not valid TOML: expected newline, `#`\n  --> hookwarden.toml:2:13";
    assert_eq!(said_of("[server]\nlisten = 0.0.0.0:8080"), broken(number));
    assert_eq!(said_of("[server]\nlisten = here"), broken(syntax));
    let magic = said_of("[server]\n___figment_value_id = 5");
    assert_eq!(magic, broken("not a table of keys and values\n  --> hookwarden.toml"));
    let bytes = b"[server]\nlisten = '\xff'";
    assert_eq!(said(read(bytes, &[], &Dict::new())), broken("not valid UTF-8\n  --> hookwarden.toml:2:11"));
    let large = said(read(vec![b'#'; 10 << 20], &[], &Dict::new()));
    assert_eq!(large, broken("cannot read the configuration file: larger than 1MiB\n  --> hookwarden.toml"));
    let missing = load(Some(Path::new("/nowhere/hookwarden.toml")), [], &Dict::new());
    assert_eq!(
        said(missing),
        broken("cannot read the configuration file: no such file\n  --> hookwarden.toml")
    );
    let directory = load(Some(Path::new("/")), [], &Dict::new()).unwrap_err().to_string();
    let directory_text = broken("cannot read the configuration file: not a regular file\n  --> /");
    assert_eq!(directory.trim_end(), directory_text);
    assert!(load(None, [], &Dict::new()).is_ok());
}

#[test]
fn a_file_cut_short_is_read_or_refused() {
    let example = include_bytes!("../../config.example.toml");
    let refused = |length: &usize| match read(&example[..*length], &[], &Dict::new()) {
        Ok(_) => false,
        Err(report) => report.has_errors(),
    };
    assert!((0..example.len()).step_by(41).filter(refused).count() > 50);
}

#[test]
fn the_environment_lies_over_the_file_and_flags_over_both() {
    let text = "[server]\nlisten = '127.0.0.1:1'\nconnections_max = 1\nrequests_max = 1";
    let env = [("HOOKWARDEN_SERVER__CONNECTIONS_MAX", "2"), ("HOOKWARDEN_SERVER__REQUESTS_MAX", "2")];
    let flags =
        Dict::from([("server".to_owned(), Value::from(Dict::from([("requests_max".to_owned(), 3.into())])))]);
    let server = read(text, &env, &flags).unwrap().settings.server;
    assert_eq!(server.listen.to_string(), "127.0.0.1:1");
    assert_eq!((server.connections_max.get(), server.requests_max.get()), (2, 3));
}

#[test]
fn variables_become_what_their_key_wants() {
    let text = "[upstreams.b]\nsecrets = [{ env = 'HOOKWARDEN_APP__SECRET' }]";
    let env = [
        ("HOOKWARDEN_UPSTREAMS__APP__SECRET", "12345678901234567890"),
        ("HOOKWARDEN_UPSTREAMS__APP__ALLOW_WEAK", "true"),
        ("HOOKWARDEN_SOURCES__A__SECRET", " \"quoted\" "),
        ("HOOKWARDEN_SOURCES__A__ALLOW", "[10.0.0.0/8, ::1/128]"),
        ("HOOKWARDEN_SOURCES__A__EVENT", "true"),
        ("HOOKWARDEN_SOURCES__A__SECRET_ENV", "HOOKWARDEN_SENDAUTH_SECRET"),
        ("HOOKWARDEN_SENDAUTH_SECRET", "x"),
        ("HOOKWARDEN_APP__SECRET", "x"),
        ("HOOKWARDEN_CONFIG", "x"),
        ("HOOKWARDEN_SERVICE_HOST", "x"),
        ("HOOKWARDEN_SERVICE_PORT_HTTP", "x"),
        ("HOOKWARDEN_PORT", "tcp://x"),
        ("HOOKWARDEN_ADMIN_PORT_9600_TCP_ADDR", "x"),
        ("OTHER", "x"),
    ];
    let settings = read(text, &env, &Dict::new()).unwrap().settings;
    assert_eq!(settings.upstreams["app"].secret.as_deref(), Some("12345678901234567890"));
    assert_eq!(settings.upstreams["app"].allow_weak, Some(true));
    let source = &settings.sources["a"];
    assert_eq!(source.secret.as_deref(), Some(" \"quoted\" "));
    assert_eq!(source.event.as_deref(), Some("true"));
    assert_eq!(source.allow.as_ref().map(Vec::len), Some(2));
}

#[test]
fn mistakes_in_the_environment_and_in_flags_name_the_variable_and_the_flag() {
    let flags = Dict::from([(
        "server".to_owned(),
        Value::from(Dict::from([("header_timeout".to_owned(), "x".into())])),
    )]);
    let env = [
        ("HOOKWARDEN_SERVER__LISSTEN", "x"),
        ("HOOKWARDEN_SERVER__WORKERS", "many"),
        ("HOOKWARDEN_UPSTREAMS__A__RETRY", "{attempts = 1}"),
    ];
    let expected = r#"
error: expected a duration such as "500ms", "10s", "5m", "96h" or "7d"
  --> flag --header-timeout  (server.header_timeout)
   = for example `header_timeout = "5s"`

error: unknown key `lissten`
  --> environment variable HOOKWARDEN_SERVER__LISSTEN  (server.lissten)
   = did you mean `listen`?

error: expected a whole number, 1 or greater, found a string
  --> environment variable HOOKWARDEN_SERVER__WORKERS  (server.workers)
   = for example `workers = 2`

error: expected a table, found a string
  --> environment variable HOOKWARDEN_UPSTREAMS__A__RETRY  (upstreams.a.retry)
   = each key of a table has a variable of its own, two underscores further"#;
    assert_eq!(said(read("", &env, &flags)), expected.trim_start());
}

#[test]
fn what_is_not_in_this_version_says_so() {
    let text = "[inbox]\nurl = 'postgres://x'\n[store]\nurl = 'redis://x'\n";
    let said = said_of(text);
    assert!(
        said.contains("error: PostgreSQL is not in this version; the inbox is a SQLite file\n"),
        "{said}"
    );
    assert!(
        said.contains("error: Redis is not in this version; claims and rates are kept in memory\n"),
        "{said}"
    );
    assert!(!said.contains("unknown"), "{said}");
}

#[test]
fn later_problems_are_put_where_their_keys_stand() {
    let loaded = read("[sources.a]\nsecret_file = 'x'\n", &[], &Dict::new()).unwrap();
    assert_eq!(loaded.files().last().unwrap(), Path::new("x"));
    let report = loaded.report(vec![
        Problem::error(&["sources", "a", "vendor"], "missing key `vendor`"),
        Problem::warning(&["sources", "a", "secret_file"], "odd").with_hint("look"),
        Problem::error(&["upstreams"], "none"),
    ]);
    let json = report.to_json();
    assert!(json[0]["file"].as_str().unwrap().ends_with("hookwarden.toml"));
    assert_eq!(json[0]["line"], serde_json::Value::Null);
    assert_eq!((&json[1]["line"], &json[1]["column"]), (&1.into(), &10.into()));
    assert_eq!(json[2]["key"], "sources.a.secret_file");
    assert_eq!(json[2]["severity"], "warning");
    assert_eq!(json[2]["hint"], "look");
    assert!(report.has_errors());
    assert!(report.render(true).contains("\x1b[1;33mwarning\x1b[0m"));
    assert!(!report.render(false).contains('\x1b'));
}

const CANARY: &str = "canary81c2d7";

fn assert_hidden(result: &Result<Loaded, Report>, context: &str) {
    let shown = match result {
        Ok(loaded) => format!("{loaded:?} {:?} {:?}", loaded.settings, loaded.settings.sources),
        Err(report) => format!("{report} {} {report:?}", report.to_json()),
    };
    assert!(!shown.contains(CANARY), "{context}: {shown}");
}

#[test]
fn no_value_is_ever_shown() {
    let mut refused = 0;
    let keys = schema::tests::keys(&schema::schema());
    for key in &keys {
        let table = |name: &str, value: toml::Value| toml::Table::from_iter([(name.to_owned(), value)]);
        let value = toml::Value::from(CANARY);
        for value in [value.clone(), vec![value.clone()].into(), table("k", value).into()] {
            let nested = key.split('.').rev().fold(value, |value, step| match step {
                "#" => vec![value].into(),
                "*" => table("x", value).into(),
                name => table(name, value).into(),
            });
            let result = read(nested.to_string(), &[], &Dict::new());
            refused += usize::from(result.is_err());
            assert_hidden(&result, key);
        }
        let variable = format!("HOOKWARDEN_{}", key.replace('.', "__").to_ascii_uppercase());
        assert_hidden(&from_env(&[(&variable, CANARY)]), &variable);
        assert_hidden(&from_env(&[(&variable, &format!("[{CANARY}]"))]), &variable);
    }
    assert!(refused > keys.len(), "{refused} of {}", keys.len());
}

#[test]
fn no_value_is_shown_of_what_is_not_toml() {
    for text in [
        "a = %",
        "a = \"%",
        "a = '%\n",
        "a = \"\"\"\n%",
        "a = '' %",
        "a = [%",
        "a = { b = %",
        "%",
        "% %",
        "[%",
        "[a] %",
        "a = 12%",
        "a = 2026-01-%",
        "a = \"\\%\"",
        "a = 0x%",
        "a = true%",
        "a.b = 1\na = '%'",
    ] {
        let text = text.replace('%', CANARY);
        let result = read(&text, &[], &Dict::new());
        assert!(result.is_err(), "{text}");
        assert_hidden(&result, &text);
    }
}
