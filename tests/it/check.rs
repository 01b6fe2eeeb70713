//! What `check` and `run` say of a configuration: every mistake once, marked where it stands, without its value; and the
//! exit codes.

use std::{fs, net::TcpListener, process::Command};

use serde_json::Value;

use crate::harness::{Output, hookwarden, output, root};

pub const APP: &str = r#"[upstreams.app]
url = "http://127.0.0.1:3000/webhooks"
secret_env = "APP_WEBHOOK_SECRET"
"#;
pub const SENDAUTH: &str = r#"[sources.sendauth]
vendor = "sendauth"
secret_env = "SENDAUTH_SECRET"
upstream = "app"
"#;
/// A source whose secret is still to be written.
pub const UNSIGNED: &str = "[sources.sendauth]\nvendor = \"sendauth\"\nupstream = \"app\"\n";
/// Stands where a value may be a secret; shown nowhere.
const CANARY: &str = "canary7f3a9c";

/// A folder with a configuration in it.
pub struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn with(self, name: &str, contents: impl AsRef<[u8]>) -> Self {
        fs::write(self.0.path().join(name), contents).expect("written");
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = hookwarden();
        command.args(arguments).args(["--config", "hookwarden.toml"]).current_dir(self.0.path()).envs([
            ("EMPTY", ""),
            ("BLANK", " \t"),
            ("PLACEHOLDER", "<canary7f3a9c>"),
            ("SHORT", CANARY),
            ("SHORT_IN_HEX", "ca9a47f3a9c0ca9a47f3"),
            ("UNDECODABLE", "whsec_canary7f3a9c-is-no-base64!"),
        ]);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = output(&mut self.command(arguments));
        assert!(!output.err.contains(CANARY) && !output.out.contains(CANARY), "{}{}", output.out, output.err);
        output
    }
}

pub fn folder(config: impl AsRef<[u8]>) -> Folder {
    Folder::new().with("hookwarden.toml", config)
}

pub fn errors(output: &Output) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(&output.out).expect("a JSON list");
    all.into_iter().filter(|problem| problem["severity"] == "error").collect()
}

/// Line and column, from 1, of the last occurrence.
fn position(config: &str, at: &str) -> (usize, usize) {
    let before = &config[..config.rfind(at).unwrap_or_else(|| panic!("no {at} in\n{config}"))];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Checks that exactly one error is shown, at that place, by `check` as text and as JSON and by `run`.
#[track_caller]
fn one_error_in(folder: &Folder, config: &str, at: &str, key: &str, text: &str) {
    let (line, column) = position(config, at);
    let json = folder.run(&["check", "--json"]);
    let found = errors(&json);
    assert_eq!((json.code, json.err.as_str()), (78, ""), "{config}");
    assert_eq!(found.len(), 1, "{found:#?}");
    let error = &found[0];
    assert_eq!((error["key"].as_str(), error["text"].as_str()), (Some(key), Some(text)), "{config}");
    let place = (&error["file"], &error["line"], &error["column"]);
    assert_eq!(place, (&"hookwarden.toml".into(), &line.into(), &column.into()), "{config}");

    let shown = format!(
        "error: {text}\n{:width$}--> hookwarden.toml:{line}:{column}  ({key})\n",
        "",
        width = 1 + line.to_string().len()
    );
    for command in ["check", "run"] {
        let said = folder.run(&[command]);
        assert_eq!((said.code, said.out.as_str()), (78, ""), "{}", said.err);
        assert_eq!(said.err.matches("error: ").count(), 1, "{}", said.err);
        let marked = said.err.split(&shown).nth(1).unwrap_or_else(|| panic!("no {shown} in {}", said.err));
        assert!(marked.lines().nth(2).is_some_and(|line| line.contains('^')), "{}", said.err);
    }
}

#[track_caller]
pub fn one_error(config: &str, at: &str, key: &str, text: &str) {
    one_error_in(&folder(config), config, at, key, text);
}

#[test]
fn keys_and_types() {
    let good = format!("{APP}{SENDAUTH}");
    let wrong = format!("{good}upstreem = \"{CANARY}\"");
    one_error(&wrong, "upstreem", "sources.sendauth.upstreem", "unknown key `upstreem`");
    let wrong = format!("[server]\nlissten = \"{CANARY}\"\n{good}");
    one_error(&wrong, "lissten", "server.lissten", "unknown key `lissten`");
    let wrong = format!("[serverr]\nlisten = \"{CANARY}\"\n{good}");
    one_error(&wrong, "serverr", "serverr", "unknown key `serverr`");
    let wrong = format!("[server]\nconnections_max = \"{CANARY}\"\n{good}");
    let expected = "expected a whole number, 1 or greater, found a string";
    one_error(&wrong, "connections_max", "server.connections_max", expected);
    let wrong = format!("[server]\nbody_timeout = \"{CANARY}\"\n{good}");
    let expected = r#"expected a duration such as "500ms", "10s", "5m", "96h" or "7d""#;
    one_error(&wrong, "body_timeout", "server.body_timeout", expected);
    let wrong = format!("{APP}format = \"{CANARY}\"\n{SENDAUTH}");
    one_error(&wrong, "format", "upstreams.app.format", "unknown value");
    let wrong = format!("{APP}{UNSIGNED}secret = 5");
    one_error(&wrong, "secret", "sources.sendauth.secret", "expected a string, found a number");
}

#[test]
fn names_of_vendors_upstreams_and_paths() {
    let good = format!("{APP}{SENDAUTH}");
    let config = good.replace("\"sendauth\"", "\"sendaut\"");
    one_error(&config, "vendor =", "sources.sendauth.vendor", "there is no such vendor");
    assert!(folder(&config).run(&["check"]).err.contains("^^^^^^ did you mean `sendauth`?"));
    let config = good.replace("upstream = \"app\"\n", "");
    one_error(&config, "sendauth]", "sources.sendauth.upstream", "`upstream` is missing");
    let config = good.replace("upstream = \"app\"", "upstream = \"ap\"");
    one_error(&config, "upstream =", "sources.sendauth.upstream", "there is no such upstream");
    assert!(folder(&config).run(&["check"]).err.contains("^^^^^^^^ did you mean `app`?"));
    let second = SENDAUTH.replace("[sources.sendauth]", "[sources.two]\npath = \"/in/sendauth\"");
    let config = format!("{good}{second}");
    one_error(&config, "path =", "sources.two.path", "source `sendauth` has the same path");
    let config = good.replace("http://127.0.0.1:3000/webhooks", "ftp://canary7f3a9c/");
    let text = "expected http://HOST/PATH, https://HOST/PATH or unix:/SOCKET:/PATH as the URL of an upstream";
    one_error(&config, "url =", "upstreams.app.url", text);
}

/// The table in CONTRIBUTING.md, with a slip in it, which its source does not repeat.
#[test]
fn a_vendor_of_ones_own() {
    let guide = fs::read_to_string(root().join("CONTRIBUTING.md")).expect("CONTRIBUTING.md");
    let table = guide.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a table");
    let config = table.replace("ACME_SECRET", "SENDAUTH_SECRET").replace("subject.email", "subject.emial");
    let key = "vendors.acme.map.user.\"subject.emial\"";
    let text = "no member of the identity event has this name, or it is not yours to set";
    one_error(&config, "\"subject.emial", key, text);
}

#[test]
fn secrets_in_variables_that_protect_nothing() {
    for (variable, text) in [
        ("EMPTY", "the secret is empty"),
        ("BLANK", "the secret is blank"),
        ("PLACEHOLDER", "the secret is a placeholder"),
        ("SHORT", "the secret has 12 bytes, fewer than 16"),
        ("NOT_SET", "the environment variable `NOT_SET` is not set"),
        ("not_set_canary7f3a9c", "the environment variable named here is not set"),
    ] {
        let config = format!("{APP}{UNSIGNED}secret_env = \"{variable}\"\n");
        one_error(&config, "secret_env", "sources.sendauth.secret_env", text);
        let config = format!("{SENDAUTH}{}", APP.replace("APP_WEBHOOK_SECRET", variable));
        one_error(&config, "secret_env", "upstreams.app.secret_env", text);
        let config = format!("{APP}{SENDAUTH}[admin]\ntoken_env = \"{variable}\"\n");
        one_error(&config, "token_env", "admin.token_env", text);
    }
    let config = format!("{SENDAUTH}{}", APP.replace("APP_WEBHOOK_SECRET", "UNDECODABLE"));
    let text = "what follows `whsec_` is not base64";
    one_error(&config, "secret_env", "upstreams.app.secret_env", text);
    let config = format!("{APP}{UNSIGNED}secret_env = \"UNDECODABLE\"\n");
    one_error(&config, "secret_env", "sources.sendauth.secret_env", text);
    let config = format!("{SENDAUTH}{}", APP.replace("secret_env = \"APP_WEBHOOK_SECRET\"\n", ""));
    one_error(&config, "app]", "upstreams.app.secret_env", "a signing secret is missing");
    let config = format!("{APP}{UNSIGNED}");
    let text = "this scheme needs a secret; set secret_env, secret_file or secrets";
    one_error(&config, "sendauth]", "sources.sendauth.secret_env", text);
    let config = format!("{APP}{SENDAUTH}secret_file = \"{CANARY}\"\n");
    let text = "`secret_env` and `secret_file` exclude each other: keep one";
    one_error(&config, "secret_file", "sources.sendauth.secret_file", text);
}

#[test]
fn what_a_secret_stands_for_counts_and_not_its_spelling() {
    let verify = "verify = { scheme = 'hmac', header = 'x-a', secret_encoding = 'hex' }\n";
    let config = format!("{APP}{UNSIGNED}{verify}secret_env = \"SHORT_IN_HEX\"\n");
    let text = "the secret stands for 10 bytes, fewer than 16; take a longer one, or this one with `allow_weak = true`";
    one_error(&config, "secret_env", "sources.sendauth.secret_env", text);
    assert_eq!(folder(format!("{config}allow_weak = true\n")).run(&["check"]).code, 0);
    let as_text = config.replace(", secret_encoding = 'hex'", "");
    assert_eq!(folder(as_text).run(&["check"]).code, 0);
}

#[test]
fn an_age_nobody_signs_is_warned_of() {
    let age = "max_age = \"1h\"\n";
    let warning = "does not sign the body, so no time in it is looked at";
    let token = "verify = { scheme = 'token', header = 'x-a' }\n";
    let unsigned = folder(format!("{APP}{SENDAUTH}{token}{age}")).run(&["check"]);
    assert_eq!((unsigned.code, unsigned.err.contains(warning)), (0, true), "{}", unsigned.err);
    let signed = folder(format!("{APP}{SENDAUTH}{age}")).run(&["check"]);
    assert_eq!((signed.code, signed.err.contains(warning)), (0, false), "{}", signed.err);
}

#[test]
fn secrets_in_files_that_protect_nothing() {
    let config = format!("{APP}{UNSIGNED}secret_file = \"{CANARY}\"\n");
    let key = "sources.sendauth.secret_file";
    one_error(&config, "secret_file", key, "cannot read the secret file named here: no such file");
    for (contents, text) in [
        ("", "the secret is empty"),
        ("\n", "the secret is empty"),
        (" \n\n", "the secret is blank"),
        ("changeme\n", "the secret is a placeholder"),
        ("0123456789abcde\n", "the secret has 15 bytes, fewer than 16"),
    ] {
        one_error_in(&folder(&config).with(CANARY, contents), &config, "secret_file", key, text);
    }
    let directory = folder(&config);
    fs::create_dir(directory.0.path().join(CANARY)).expect("a folder");
    let text = "cannot read the secret file named here: not a regular file";
    one_error_in(&directory, &config, "secret_file", key, text);
    let large = folder(&config).with(CANARY, vec![b'x'; 1 << 20]);
    let text = "cannot read the secret file named here: larger than 64KiB";
    one_error_in(&large, &config, "secret_file", key, text);
}

/// threats.md A2: a body could be moved over the boundary between the two.
#[test]
fn a_digest_secret_that_is_the_beginning_of_another() {
    let config = format!("{APP}{UNSIGNED}secrets = [{{ file = \"one\" }}, {{ file = \"two\" }}]\n");
    let text = "is the beginning of another secret of this source: what one signs, the other would accept with bytes \
                moved into the body; remove one (often it is the same secret with a line end behind it)";
    for (one, two, position) in [
        ("canary7f3a9c-0001", "canary7f3a9c-0001\n\n", 0),
        ("canary7f3a9c-0001\n", "canary7f3a9c-0001 \n", 0),
        ("canary7f3a9c-0001-more", "canary7f3a9c-0001", 1),
        // One newline is stripped, so that these are one and the same.
        ("canary7f3a9c-0001", "canary7f3a9c-0001\n", 1),
    ] {
        let folder = folder(&config).with("one", one).with("two", two);
        let key = format!("sources.sendauth.secrets.{position}");
        one_error_in(&folder, &config, "secrets", &key, text);
    }
    let apart = folder(&config).with("one", "canary7f3a9c-0001\n").with("two", "canary7f3a9c-0002\n");
    assert_eq!(apart.run(&["check"]).code, 0);
    // Signing by two secrets, or an HMAC of either, moves no boundary.
    let hmac = folder(config.replace("vendor = \"sendauth\"", "vendor = \"loginradius\""));
    assert_eq!(
        hmac.with("one", "canary7f3a9c-0001").with("two", "canary7f3a9c-0001x").run(&["check"]).code,
        0
    );
}

#[test]
fn times_that_do_not_fit() {
    let slow = format!("{APP}timeout = \"9900ms\"\n{SENDAUTH}");
    let warned = |config: &str, key: &str, text: &str| {
        let output = folder(config).run(&["check", "--json"]);
        let problems: Vec<Value> = serde_json::from_str(&output.out).expect("JSON");
        let found = problems.iter().find(|problem| problem["text"] == text);
        let found = found.unwrap_or_else(|| panic!("{problems:?}"));
        assert_eq!((output.code, &found["severity"], &found["key"]), (0, &"warning".into(), &key.into()));
        assert!(found["hint"].is_string(), "{found}");
    };
    let text = "one attempt (9900ms) and the waits before retries (300ms) is more than SendAuth waits for an answer \
                (10s; source `sendauth`)";
    warned(&slow, "upstreams.app.timeout", text);
    let one_attempt = format!("{APP}timeout = \"9900ms\"\nretry = {{ attempts = 1 }}\n{SENDAUTH}");
    let enough = folder(one_attempt).run(&["check"]);
    assert!(enough.code == 0 && !enough.err.contains("waits for an answer"), "{}", enough.err);

    let loginradius = SENDAUTH.replace("sendauth", "loginradius");
    let slower = format!("{APP}timeout = \"15s\"\n{loginradius}");
    let text =
        "one attempt (15s) and the waits before retries (300ms) is more than `server.request_timeout` (15s)";
    warned(&slower, "upstreams.app.timeout", text);

    let slow_vendor = r#"dedup_window = "1h"
[vendors.slow]
title = "Slow"
id = ["/id"]
verify = { scheme = "hmac", header = "x-slow-signature" }
response = { retries = "yes", retry_horizon = "2h" }
"#;
    let patient = SENDAUTH.replace("vendor = \"sendauth\"", "vendor = \"slow\"");
    let text =
        "Slow tries again for 2h, and ids are forgotten after 1h: late retries would be forwarded twice";
    let config = format!("{APP}{patient}{slow_vendor}");
    warned(&config, "sources.sendauth.dedup_window", text);
    let enough = folder(config.replace("\"1h\"", "\"2h\"")).run(&["check"]);
    assert!(enough.code == 0 && !enough.err.contains("forgotten"), "{}", enough.err);
}

#[test]
fn what_is_not_verified_or_open_says_so() {
    let unsigned = format!(
        "{APP}{}",
        SENDAUTH.replace("SENDAUTH_SECRET", "SENDAUTH_SECRET\"\nverify = { scheme = \"none\" } # \"")
    );
    let text = "a secret is set, and `scheme = \"none\"` does not look at it";
    one_error(&unsigned, "verify", "sources.sendauth.verify", text);
    let in_plain_sight = folder(format!("{APP}{UNSIGNED}verify = {{ scheme = \"none\" }}\n"));
    let output = in_plain_sight.run(&["check"]);
    assert_eq!((output.code, output.out.as_str()), (0, "ok: 1 source, 1 upstream\n"));
    assert!(output.err.contains("nothing is verified: anyone who finds the path can send anything"));

    let undocumented =
        format!("{APP}{}", SENDAUTH.replace("vendor = \"sendauth\"", "vendor = \"authalert\""));
    let text = "the vendor does not document the header it sends; set verify = { header = \"…\" } to the one you see";
    one_error(&undocumented, "sendauth]", "sources.sendauth.verify.header", text);

    let open = format!("{APP}{SENDAUTH}[admin]\nlisten = \"0.0.0.0:9600\"\n");
    let text = "the API would be open to the network: it needs a token where `admin.listen` is not loopback";
    one_error(&open, "listen", "admin.listen", text);
    assert_eq!(folder(format!("{open}token_env = \"ADMIN_TOKEN\"\n")).run(&["check"]).code, 0);
    assert_eq!(folder(format!("{open}api = false\n")).run(&["check"]).code, 0);
}

#[test]
fn what_this_version_does_not_have() {
    let good = format!("{APP}{SENDAUTH}");
    let inbox = format!("{good}[inbox]\nurl = \"postgres://canary7f3a9c@127.0.0.1/\"\n");
    one_error(
        &inbox,
        "url = \"post",
        "inbox.url",
        "PostgreSQL is not in this version; the inbox is a SQLite file",
    );
    let inbox = format!("{good}delivery = \"inbox\"\n");
    one_error(&inbox, "delivery", "sources.sendauth.delivery", "there is no inbox");
    for scheme in ["redis", "rediss"] {
        let redis = format!("{good}[store]\nurl = \"{scheme}://:canary7f3a9c@127.0.0.1/\"\n");
        one_error(
            &redis,
            "url",
            "store.url",
            "Redis is not in this version; claims and rates are kept in memory",
        );
    }
}

/// The whole text, of several at once.
#[test]
fn several_mistakes_come_at_once() {
    let config = format!(
        r#"publik_url = "{CANARY}"
[upstreams.app]
url = "http://127.0.0.1:3000/webhooks"
secret_env = "EMPTY"
timeout = "9s"
[sources.one]
vendor = "sendaut"
secret_env = "SENDAUTH_SECRET"
upstream = "app"
[sources.two]
vendor = "authalert"
secret_file = "./missing"
upstream = "ap"
"#
    );
    let all = folder(&config).run(&["check", "--json"]);
    let keys: Vec<Value> = errors(&all).into_iter().map(|error| error["key"].clone()).collect();
    let expected = [
        "publik_url",
        "upstreams.app.secret_env",
        "sources.one.vendor",
        "sources.two.secret_file",
        "sources.two.upstream",
    ];
    assert_eq!((all.code, keys), (78, expected.map(Value::from).into()));
    let known = config.replace("publik_url", "public_url").replace(CANARY, "https://hooks.example.com");
    let expected = "error: the secret is empty
  --> hookwarden.toml:4:1  (upstreams.app.secret_env)
   |
 4 | secret_env = …
   | ^^^^^^^^^^ make one with `openssl rand -base64 32`

error: there is no such vendor
  --> hookwarden.toml:7:1  (sources.one.vendor)
   |
 7 | vendor = …
   | ^^^^^^ did you mean `sendauth`?

warning: direct delivery, and AuthAlert does not say whether it tries again: an event that meets a dead app may be lost
   --> hookwarden.toml:10:10  (sources.two.delivery)
    |
 10 | [sources.two]
    |          ^^^

error: cannot read the secret file `./missing`: no such file
   --> hookwarden.toml:12:1  (sources.two.secret_file)
    |
 12 | secret_file = …
    | ^^^^^^^^^^^ mount it there, and let hookwarden's user read it

error: there is no such upstream
   --> hookwarden.toml:13:1  (sources.two.upstream)
    |
 13 | upstream = …
    | ^^^^^^^^ did you mean `app`?
";
    let output = folder(&known).run(&["check"]);
    assert_eq!((output.code, output.err.as_str()), (78, expected));
    // A key that cannot be read hides nothing of what is wrong elsewhere, but warnings can wait.
    let output = folder(&config).run(&["check"]);
    let errors = |text: &str| text.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!((output.code, errors(&output.err)), (78, errors(expected) + 1), "{}", output.err);
    assert!(
        output.err.contains("^^^^^^^^^^ did you mean `public_url`?") && !output.err.contains("warning: ")
    );
}

#[test]
fn a_good_configuration_and_its_warnings() {
    let good = folder(format!("{APP}{SENDAUTH}").replace("sendauth", "authpi"));
    let output = good.run(&["check"]);
    assert_eq!((output.code, output.out.as_str()), (0, "ok: 1 source, 1 upstream\n"));
    let warned = folder(
        format!("{APP}{SENDAUTH}")
            .replace("secret_env = \"SENDAUTH_SECRET\"", "secret = \"canary7f3a9c-0001\""),
    );
    let output = warned.run(&["check"]);
    assert_eq!((output.code, output.out.as_str()), (0, "ok: 1 source, 1 upstream\n"));
    for warning in [
        "warning: a secret written into the configuration: whoever reads that has it\n",
        "warning: the vendor's signature is weak (a plain hash)",
        "warning: direct delivery, and SendAuth does not say whether it tries again",
    ] {
        assert_eq!(output.err.matches(warning).count(), 1, "{}", output.err);
    }
    assert_eq!(output.err.matches("warning: ").count(), 3, "{}", output.err);
    let json = warned.run(&["check", "--json"]);
    assert_eq!((json.code, json.err.as_str(), errors(&json).len()), (0, "", 0));
    let example = root().join("config.example.toml");
    let example = output_of(&["check", "--config", example.to_str().expect("UTF-8")]);
    assert_eq!((example.code, example.out.as_str()), (0, "ok: 5 sources, 1 upstream\n"), "{}", example.err);
}

#[test]
fn flags_and_variables_are_named() {
    let folder = folder(format!("{APP}{SENDAUTH}"));
    let mut command = folder.command(&["check"]);
    let said = output(command.env("HOOKWARDEN_SERVER__REQUESTS_MAX", CANARY));
    let expected = "error: expected a whole number, 1 or greater, found a string
  --> environment variable HOOKWARDEN_SERVER__REQUESTS_MAX  (server.requests_max)
   = for example `requests_max = 1024`
";
    assert_eq!((said.code, said.err.as_str()), (78, expected));
    let said = output(folder.command(&["run", "--log-level", "canary=7f=3a"]).env("NO_COLOR", "1"));
    assert!(
        said.err.contains("--> flag --log-level  (log.level)\n") && !said.err.contains("7f"),
        "{}",
        said.err
    );
    assert_eq!(said.code, 78);
}

#[test]
fn exit_codes() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    for (key, other) in [("server", "admin"), ("admin", "server")] {
        let config = format!(
            "{APP}{SENDAUTH}[{key}]\nlisten = \"127.0.0.1:{port}\"\n[{other}]\nlisten = \"127.0.0.1:0\"\n"
        );
        let output = folder(config).run(&["run"]);
        let said = format!("error: cannot listen on 127.0.0.1:{port} ({key}.listen): Address");
        assert!(output.err.contains(&said), "{}", output.err);
        assert_eq!(output.code, 69);
    }
    let missing = output_of(&["check", "--config", "/nowhere/hookwarden.toml"]);
    let expected = "error: cannot read the configuration file: no such file\n  --> /nowhere/hookwarden.toml\n   = config.example.toml shows every key, with its default\n";
    assert_eq!((missing.code, missing.err.as_str()), (78, expected));
    for usage in [&["check"][..], &["run"], &["chekc"], &["run", "--confg", "x"], &[], &["vendors", "a", "b"]]
    {
        let output = output_of(usage);
        assert_eq!((output.code, output.out.as_str()), (2, ""), "{usage:?}");
        assert!(output.err.contains("Usage: hookwarden"), "{usage:?} {}", output.err);
    }
}

fn output_of(arguments: &[&str]) -> Output {
    output(hookwarden().args(arguments))
}
