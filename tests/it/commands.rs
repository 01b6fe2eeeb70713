//! The commands against a gateway with a configuration of its own: every event there is a sample of, and what a
//! developer does with `listen` and `trigger`.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
};

use serde_json::Value;

use crate::harness::{
    Behaviour, Config, Gate, Gateway, Output, PUBLIC_URL, Sink, approval, eventually, hookwarden, nobody,
    output, send,
};

const VENDORS: [&str; 5] = ["sendauth", "loginradius", "zenlogin", "authpi", "authalert"];
const COMMANDS: [&str; 9] =
    ["run", "check", "demo", "listen", "trigger", "vendors", "schema", "health", "completions"];

fn run(arguments: &[&str]) -> Output {
    output(hookwarden().args(arguments))
}

fn json(arguments: &[&str]) -> Value {
    let output = run(arguments);
    assert_eq!((output.code, output.err.as_str()), (0, ""), "{arguments:?}");
    serde_json::from_str(&output.out).expect("JSON")
}

fn gateway(sink: &Sink) -> Gateway {
    let text = Config::to(sink.address).text();
    Gateway::start(&text.replace("upstream = \"app\"", "upstream = \"app\"\nforward_tests = true"))
}

/// Sends samples of a vendor; the answers it reports.
fn trigger(gateway: &Gateway, vendor: &str, arguments: &[&str]) -> (i32, Vec<Value>) {
    let to = format!("http://{}/in/{vendor}", gateway.listen);
    let url = format!("{PUBLIC_URL}/in/{vendor}");
    let all = [&["trigger", vendor, "--to", &to, "--url", &url, "--json"], arguments].concat();
    let output = run(&all);
    let answers = output.out.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    (output.code, answers.collect())
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().expect("a list").iter().filter_map(Value::as_str)
}

#[test]
fn every_event_of_every_vendor_can_be_sent_and_arrives() {
    let sink = Sink::start();
    let gateway = gateway(&sink);
    let mut sent = 0;
    for vendor in VENDORS {
        let file = &json(&["vendors", vendor, "--json"])["file"];
        let rules = file["event"].as_array().expect("events");
        let samples = file["sample"].as_array().expect("samples");
        let matched = rules.iter().flat_map(|rule| texts(&rule["match"])).filter(|name| !name.ends_with('*'));
        let names: BTreeSet<&str> =
            matched.chain(samples.iter().flat_map(|one| texts(&one["events"]))).collect();
        for name in names {
            let (code, answers) = trigger(&gateway, vendor, &[name]);
            assert_eq!((code, answers.len()), (0, 1), "{vendor} {name}: {answers:?}");
            sent += 1;
            let arrived = sink.wait_for(sent).remove(sent - 1);
            assert_eq!(answers[0]["id"], arrived.id(), "{vendor} {name}");
            assert_eq!(arrived.header("hookwarden-source"), vendor);
            arrived.verify();
            let is_for = |pattern: &str| match pattern.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name.eq_ignore_ascii_case(pattern),
            };
            let event = &arrived.json()["data"]["event"];
            let rule = rules.iter().find(|rule| texts(&rule["match"]).any(is_for) && rule["type"] == *event);
            assert!(rule.is_some(), "{vendor} {name} became {event}");
        }
    }
    assert!(sent >= 50, "{sent}");
    assert_eq!(sink.count(), sent);
}

#[test]
fn trigger_does_as_it_is_told() {
    let sink = Sink::start();
    let gateway = gateway(&sink);
    let (code, answers) = trigger(&gateway, "sendauth", &["approval.denied", "--times", "3"]);
    assert_eq!((code, answers.len(), sink.count()), (0, 3, 3));
    let (code, answers) = trigger(&gateway, "loginradius", &["--duplicate"]);
    assert_eq!((code, &answers[1]["duplicate"], &answers[1]["id"]), (0, &true.into(), &answers[0]["id"]));
    let (code, answers) = trigger(&gateway, "authpi", &["--bad-signature"]);
    assert_eq!((code, &answers[0]["status"], &answers[0]["code"]), (0, &401.into(), &"unverified".into()));
    assert_eq!(sink.count(), 4);

    let set = ["--set", "/id=mine", "--set", "/tags={\"a\":[1,2.50]}", "--set", "/requestor=me@example.com"];
    let (code, first) = trigger(&gateway, "sendauth", &set);
    let (_, second) = trigger(&gateway, "sendauth", &set);
    assert_eq!((code, &first[0]["id"], &second[0]["duplicate"]), (0, &second[0]["id"], &true.into()));
    let event = sink.last().json();
    assert_eq!(event["data"]["vendor"]["event_id"], "mine", "{event:#}");
    assert!(event.to_string().contains("me@example.com"));

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("body.json");
    fs::write(&file, approval("from a file")).expect("written");
    let (code, answers) = trigger(&gateway, "sendauth", &["--body", file.to_str().expect("UTF-8")]);
    assert_eq!((code, answers.len()), (0, 1));
    assert_eq!(sink.last().json()["data"]["vendor"]["event_id"], "from a file");
    assert!(send(&gateway, "sendauth", &approval("from a file")).is_duplicate());

    fs::write(&file, "{\"id\":1}{\"id\":2}").expect("written");
    let (code, answers) = trigger(&gateway, "sendauth", &["--body", file.to_str().expect("UTF-8")]);
    assert_eq!(
        (code, &answers[0]["code"], &answers[0]["expected"]),
        (1, &"malformed_body".into(), &false.into())
    );
    assert_eq!(trigger(&gateway, "sendauth", &["--secret-env", "LOGINRADIUS_SECRET"]).0, 1);
    let unset = run(&["trigger", "sendauth", "--to", "http://192.0.2.1/", "--secret-env", "NOT_SET"]);
    assert!(unset.code == 1 && unset.err.contains("NOT_SET is not set"), "{}", unset.err);
    let nowhere = run(&["trigger", "sendauth", "--to", &format!("http://{}/", nobody())]);
    assert!(nowhere.code == 1 && nowhere.err.contains("no answer from"), "{}", nowhere.err);
}

/// A command that stays up. Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn an_app_is_developed_with_listen() {
    let sink = Sink::start();
    let mut command: Command = hookwarden();
    let app = format!("http://{}/hooks", sink.address);
    command.args(["listen", "--listen", "127.0.0.1:0", "--forward-to", &app]).stdout(Stdio::null());
    let mut listen = Running(command.stderr(Stdio::piped()).spawn().expect("it starts"));
    let lines = BufReader::new(listen.0.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let said =
        lines.into_iter().find_map(|line| Some(line.split_once("Vendors post to http://")?.1.to_owned()));
    let address = said.expect("said").split('/').next().expect("an address").to_owned();
    for vendor in ["sendauth", "loginradius", "authpi", "authalert"] {
        let to = format!("http://{address}/in/{vendor}");
        assert_eq!(run(&["trigger", vendor, "--to", &to]).code, 0, "{vendor}");
        let arrived = sink.last();
        assert_eq!((arrived.header("hookwarden-source"), arrived.target.as_str()), (vendor, "/hooks"));
        arrived.verify();
    }
    let to = format!("http://{address}/in/sendauth");
    assert_eq!(run(&["trigger", "sendauth", "--to", &to, "--bad-signature"]).code, 0);
    assert_eq!(sink.count(), 4);
}

#[test]
fn the_demo_s_table_is_complete() {
    let output = run(&["demo", "--once"]);
    assert_eq!((output.code, output.err.as_str()), (0, ""), "{}", output.out);
    let table: Vec<Vec<&str>> = output
        .out
        .lines()
        .skip_while(|line| !line.starts_with("VENDOR"))
        .skip(1)
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    let answers: Vec<&str> = table.iter().map(|row| row[2]).collect();
    assert_eq!(
        answers,
        ["200", "200", "200", "200", "200", "200 duplicate", "401 unverified", "400 malformed_body"]
    );
    assert!(table.iter().all(|row| row.len() == 5 && row[4] == "ok"), "{table:?}");
    let vendors: Vec<&str> = table.iter().take(5).map(|row| row[0]).collect();
    assert_eq!(vendors, VENDORS);
    assert!(
        table.iter().take(5).all(|row| row[3].starts_with("✓ "))
            && table.iter().skip(5).all(|row| row[3] == "nothing")
    );
}

#[test]
fn health_follows_readiness() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let sink = Sink::behaving(move |_, _| Behaviour::Wait(Arc::clone(&held)));
    let mut gateway = gateway(&sink);
    let health = || run(&["health", "--admin", &gateway.admin.to_string()]);
    assert_eq!((health().code, health().out.as_str()), (0, "ready\n"));
    let by_variable =
        output(hookwarden().arg("health").env("HOOKWARDEN_ADMIN__LISTEN", gateway.admin.to_string()));
    assert_eq!(by_variable.code, 0);
    thread::scope(|scope| {
        let running = scope.spawn(|| send(&gateway, "sendauth", &approval("1")));
        sink.wait_for(1);
        gateway.signal("TERM");
        eventually("it is not ready any more", || health().code == 1);
        let not = health();
        assert_eq!((not.out.as_str(), not.err.as_str()), ("", "error: not ready: 503\n"));
        gate.open();
        running.join().expect("an answer").id();
    });
    assert_eq!(gateway.wait().code(), Some(0));
    let gone = run(&["health", "--admin", &gateway.admin.to_string()]);
    assert!(gone.code == 1 && gone.err.contains("no answer from"), "{}", gone.err);
}

#[test]
fn data_is_for_machines() {
    for of in ["event", "config"] {
        let schema = json(&["schema", of]);
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert!(
            schema["title"].is_string()
                && schema["properties"].as_object().is_some_and(|members| members.len() > 5)
        );
    }
    let vendors = json(&["vendors", "--json"]);
    let names: Vec<&str> =
        vendors.as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, VENDORS);
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        assert_eq!(script.code, 0);
        assert!(COMMANDS.iter().all(|command| script.out.contains(command)), "{shell}");
    }
}

#[test]
fn help_is_for_people() {
    let all = run(&["--help"]);
    assert_eq!(all.code, 0);
    for command in COMMANDS {
        assert!(all.out.contains(&format!("\n  {command} ")), "{command}");
        let help = run(&[command, "--help"]);
        assert_eq!((help.code, help.err.as_str()), (0, ""), "{command}");
        assert!(help.out.contains(&format!("Usage: hookwarden {command}")), "{}", help.out);
    }
    assert_eq!(run(&["--version"]).out, concat!("hookwarden ", env!("CARGO_PKG_VERSION"), "\n"));
    for colour in [&[][..], &[("NO_COLOR", "1")], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]] {
        for arguments in
            [&["vendors"][..], &["vendors", "authpi"], &["--help"], &["check", "--config", "/nowhere"]]
        {
            let output = output(hookwarden().args(arguments).envs(colour.iter().copied()));
            assert!(!(output.out + &output.err).contains('\x1b'), "{arguments:?} {colour:?}");
        }
    }
}
