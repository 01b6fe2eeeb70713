//! Values that can be read and make no sense: each is an error at its key, for what it would do goes unnoticed.

use crate::check::{APP, SENDAUTH, UNSIGNED, errors, folder, one_error};

/// Checks that `keys`, put where `SENDAUTH` ends or where tables begin, make this error at this key, first of all.
#[track_caller]
fn wrong(config: &str, key: &str, text: &str) {
    let found = errors(&folder(config).run(&["check", "--json"]));
    let is_it = |error: &&serde_json::Value| error["key"] == key && error["text"] == text;
    assert_eq!(found.iter().filter(is_it).count(), 1, "{config}\n{found:#?}");
}

#[test]
fn what_would_drop_every_event() {
    let (filters, routes) =
        (format!("{APP}{SENDAUTH}filters = []\n"), format!("{APP}{SENDAUTH}routes = []\n"));
    let text = "there is no type: every event would be dropped";
    one_error(&filters, "filters", "sources.sendauth.filters", text);
    let without = routes.replace("upstream = \"app\"\n", "");
    let text = "there is no route: every event would be dropped";
    one_error(&without, "routes", "sources.sendauth.routes", text);
    let types = without.replace("[]", "[{ types = [], upstream = \"app\" }]");
    let text = "there is no type: every event would be dropped";
    one_error(&types, "types", "sources.sendauth.routes.0.types", text);
}

#[test]
fn a_level_that_would_silence_everything() {
    let text = "expected error, warn, info, debug or trace, or filter directives";
    for level in ["inof", "", "INFO!", "hookwarden"] {
        wrong(&format!("{APP}{SENDAUTH}[log]\nlevel = \"{level}\"\n"), "log.level", text);
    }
    for level in ["off", "debug", "info,hookwarden=debug"] {
        let good = folder(format!("{APP}{SENDAUTH}[log]\nlevel = \"{level}\"\n"));
        assert_eq!(good.run(&["check"]).code, 0, "{level}");
    }
}

#[test]
fn times_of_zero() {
    let text = "expected a time longer than 0s";
    let good = format!("{APP}{SENDAUTH}");
    for (table, key) in [
        ("reload", "poll"),
        ("server", "header_timeout"),
        ("server", "body_timeout"),
        ("server", "request_timeout"),
        ("server", "idle_timeout"),
    ] {
        wrong(&format!("{good}[{table}]\n{key} = \"0s\"\n"), &format!("{table}.{key}"), text);
    }
    one_error(&format!("{APP}timeout = \"0s\"\n{SENDAUTH}"), "timeout", "upstreams.app.timeout", text);
    for key in ["dedup_window", "max_age"] {
        one_error(&format!("{good}{key} = \"0s\"\n"), key, &format!("sources.sendauth.{key}"), text);
    }
}

#[test]
fn sizes_that_refuse_everything() {
    for (key, size, least) in [("body_bytes_max", "0B", "1B"), ("header_bytes_max", "1023B", "1KiB")] {
        let config = format!("{APP}{SENDAUTH}[server]\n{key} = \"{size}\"\n");
        let text = format!("expected {least} or more: every request would be refused");
        wrong(&config, &format!("server.{key}"), &text);
    }
}

#[test]
fn two_listeners_of_one_port() {
    let listen = |server: &str, admin: &str| {
        format!("{APP}{SENDAUTH}[server]\nlisten = '{server}'\n[admin]\nlisten = '{admin}'\napi = false\n")
    };
    let text = "the port is that of `server.listen`: choose another";
    for (server, admin) in [
        ("127.0.0.1:81", "127.0.0.1:81"),
        ("127.0.0.1:81", "[::ffff:127.0.0.1]:81"),
        ("0.0.0.0:81", "127.0.0.1:81"),
        ("10.0.0.1:81", "[::]:81"),
        ("0.0.0.0:81", "[::]:81"),
    ] {
        wrong(&listen(server, admin), "admin.listen", text);
    }
    for (server, admin) in
        [("127.0.0.1:0", "127.0.0.1:0"), ("127.0.0.1:81", "127.0.0.2:81"), ("0.0.0.0:81", "[::1]:81")]
    {
        assert_eq!(folder(listen(server, admin)).run(&["check"]).code, 0, "{server} {admin}");
    }
}

#[test]
fn an_inbox_that_would_be_no_file() {
    let config = format!("{APP}{SENDAUTH}[inbox]\nurl = 'sqlite::memory:'\n");
    let text = "expected `sqlite:` and the path of a file, such as `sqlite:/var/lib/hookwarden/inbox.db`";
    wrong(&config, "inbox.url", text);
}

#[test]
fn what_goes_unnoticed_is_warned_of() {
    let warned = |config: &str| {
        let said = folder(config).run(&["check", "--json"]);
        assert_eq!(said.code, 0, "{}", said.out);
        let all: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
        let keys =
            all.as_array().expect("a list").iter().map(|problem| problem["key"].as_str().map(str::to_owned));
        keys.flatten().collect::<Vec<_>>()
    };
    // What needs an inbox, without one.
    let app = format!("{APP}order = 'partition'\nschedule = ['1s']\n");
    let inbox = "[inbox]\nretention = '1d'\nbytes_max = '1GiB'\n";
    let keys = ["inbox.retention", "inbox.bytes_max", "upstreams.app.schedule", "upstreams.app.order"];
    let without = warned(&format!("{app}{SENDAUTH}{inbox}"));
    let with = warned(&format!("{app}{SENDAUTH}{inbox}url = 'sqlite:inbox.db'\n"));
    for key in keys {
        assert!(without.iter().any(|known| known == key) && !with.iter().any(|known| known == key), "{key}");
    }
    // Events that fit no route.
    let routed = |types: &str, filters: &str| {
        let routes = format!("routes = [{{ types = [{types}], upstream = 'app' }}]\n{filters}");
        let keys = warned(&format!("{APP}{}", SENDAUTH.replace("upstream = \"app\"\n", &routes)));
        keys.iter().any(|key| key == "sources.sendauth.routes")
    };
    assert!(routed("'approval.*'", ""));
    assert!(routed("'approval.*'", "filters = ['approval.*', 'vendor.event']\n"));
    assert!(!routed("'approval.*'", "filters = ['approval.approved']\n"));
    assert!(!routed("'*'", ""));
    assert!(!routed("'approval.*', 'vendor.event'", ""), "the vendor has no others");
}

#[test]
fn names_that_make_no_uri_and_rates_that_overflow() {
    let good = format!("{APP}{SENDAUTH}");
    for tenant in ["a b", "", "a/b", "ä"] {
        let text = "expected letters, digits and `-._~`";
        one_error(&format!("{good}tenant = \"{tenant}\"\n"), "tenant", "sources.sendauth.tenant", text);
    }
    for source in ["", "urn:a b", "<x>"] {
        let text = "expected a URI reference (RFC 3986)";
        one_error(&format!("{good}source = \"{source}\"\n"), "source =", "sources.sendauth.source", text);
    }
    for rate in ["1000001/s", "1/h burst 4294967295"] {
        let text =
            r#"expected a rate such as "100/s", "600/m burst 200" (at most 1000000 each) or "unlimited""#;
        one_error(&format!("{good}rate = \"{rate}\"\n"), "rate", "sources.sendauth.rate", text);
        let text = format!("{good}[limits]\nper_ip = \"{rate}\"\n");
        assert_eq!(folder(text).run(&["check"]).code, 78);
    }
    let most = format!("{good}rate = \"1000000/h burst 1000000\"\n");
    assert_eq!(folder(most).run(&["check"]).code, 0);
}

#[test]
fn statuses_that_say_the_opposite() {
    for (key, status, text) in [
        ("success_status", 99, "expected a status of success, 200 to 299"),
        ("success_status", 302, "expected a status of success, 200 to 299"),
        ("limited_status", 200, "expected 429 or 503"),
    ] {
        let vendor = format!(
            "[vendors.mine]\ntitle = \"Mine\"\nverify = {{ scheme = \"hmac\", header = \"x-mine\" }}\nresponse = {{ {key} = {status} }}\n"
        );
        let config = format!("{APP}{SENDAUTH}{vendor}");
        one_error(&config, key, &format!("vendors.mine.response.{key}"), text);
    }
}

#[test]
fn pointers_that_hide_nothing() {
    let text = "expected a JSON Pointer such as `/data/token`, or `**/token`";
    for key in ["extra_redactions", "expose_secrets"] {
        for pattern in ["token", "", "*/token", "**token", "$.token"] {
            let config = format!("{APP}{SENDAUTH}{key} = [\"/good\", \"{pattern}\"]\n");
            wrong(&config, &format!("sources.sendauth.{key}.1"), text);
        }
    }
}

#[test]
fn a_secret_that_does_not_decode_and_a_token_that_is_short() {
    let token = |variable: &str| format!("{APP}{SENDAUTH}[admin]\ntoken_env = \"{variable}\"\n");
    let text = "what follows `whsec_` is not base64";
    one_error(&token("UNDECODABLE"), "token_env", "admin.token_env", text);
    for vendor in ["loginradius", "authpi"] {
        let config = format!("{APP}{UNSIGNED}secret_env = \"UNDECODABLE\"\n");
        let config = config.replace("\"sendauth\"", &format!("{vendor:?}"));
        one_error(&config, "secret_env", "sources.sendauth.secret_env", text);
    }
    // A token may not be weak, so nothing proposes it.
    let said = folder(token("SHORT")).run(&["check"]).err;
    assert!(
        said.contains("make one with `openssl rand -base64 32`") && !said.contains("allow_weak"),
        "{said}"
    );
    let secret = folder(format!("{APP}{UNSIGNED}secret_env = \"SHORT\"\n")).run(&["check"]).err;
    assert!(secret.contains("or take it with `allow_weak = true`"), "{secret}");
}

#[test]
fn two_sources_that_share_their_events_are_pointed_out() {
    let second = SENDAUTH.replace("[sources.sendauth]", "[sources.two]");
    let warned = folder(format!("{APP}{SENDAUTH}{second}")).run(&["check"]);
    let text = "warning: shares its events with source `sendauth`: what came through one is a duplicate for the other\n  --> hookwarden.toml:8:10  (sources.two.tenant)";
    assert_eq!((warned.code, warned.err.matches(text).count()), (0, 1), "{}", warned.err);
    let apart = folder(format!("{APP}{SENDAUTH}{second}tenant = \"two\"\n")).run(&["check"]);
    assert!(apart.code == 0 && !apart.err.contains("shares its events"), "{}", apart.err);
}

#[test]
fn what_does_not_fit_says_what_to_change() {
    let slow = folder(format!("{APP}timeout = \"9900ms\"\n{SENDAUTH}")).run(&["check"]).err;
    let hint = "^^^^^^^ lower the upstream's `timeout`, or the attempts or waits of its `retry`";
    assert!(slow.contains(hint), "{slow}");
}
