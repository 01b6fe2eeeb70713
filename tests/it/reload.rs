//! Reloads of the running program: by signal, by contents, by the API; secrets rotated and files broken under load.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{self, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use figment::value::Dict;
use hookwarden::{app, config};
use serde_json::Value;

use crate::harness::{
    ADMIN_TOKEN, Answer, Behaviour, Client, Config, Gate, Gateway, PATIENCE, Sink, approval, nobody, replace,
    request, send, send_to, sha256_hex,
};

const SUCCESSES: &str = r#"hookwarden_config_reloads_total{result="success"}"#;
const FAILURES: &str = r#"hookwarden_config_reloads_total{result="failure"}"#;
const LAST: &str = "hookwarden_config_last_reload_successful";
const SECOND: &str =
    "[sources.second]\nvendor = \"loginradius\"\nsecret_env = \"LOGINRADIUS_SECRET\"\nupstream = \"app\"\n";
const UNLIMITED: &str = "[limits]\nper_ip = \"unlimited\"\n";

/// Somebody who sends all the time, signed by one secret.
struct Sender {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u16>>,
}

impl Sender {
    fn start(gateway: &Gateway, name: &'static str, secret: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (to, stopped) = (gateway.listen, Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut client = Client::new(to);
            let mut statuses = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let body = approval(&format!("{name}-{}", statuses.len()));
                statuses.push(signed_by(&mut client, secret, &body).status);
            }
            statuses
        });
        Self { stop, thread }
    }

    /// How many were sent, all of which were answered 200.
    #[track_caller]
    fn all_taken(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let statuses = self.thread.join().expect("every request has an answer");
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        assert!(!statuses.is_empty());
        statuses.len()
    }
}

fn signed_by(client: &mut Client, secret: &str, body: &[u8]) -> Answer {
    let signature = sha256_hex(&[secret.as_bytes(), body]);
    client.post("/in/sendauth", &[("x-sendauth-signature", &signature)], body)
}

fn api_reload(gateway: &Gateway) -> Answer {
    let token = format!("Bearer {ADMIN_TOKEN}");
    request(gateway.admin, "POST", "/api/v1/reload", &[("authorization", &token)], b"")
}

fn is_taken(line: &Value) -> bool {
    line["message"] == "configuration reloaded"
}

#[test]
fn a_source_comes_and_goes() {
    let sink = Sink::start();
    let without = Config::to(sink.address).text();
    let with = format!("{without}{SECOND}");
    let body = br#"{"HookName":"Login","Data":{"Uid":"u1"}}"#;
    let gateway = Gateway::start(&without);
    send_to(&gateway, "second", "loginradius", body).refused(404, "unknown_source");
    assert!(is_taken(&gateway.reconfigure(&with)));
    send_to(&gateway, "second", "loginradius", body).id();
    assert!(is_taken(&gateway.reconfigure(&without)));
    send_to(&gateway, "second", "loginradius", body).refused(404, "unknown_source");
    assert_eq!(sink.only().header("hookwarden-source"), "second");
    assert_eq!((gateway.metric(SUCCESSES), gateway.metric(FAILURES), gateway.metric(LAST)), (2.0, 0.0, 1.0));
}

#[test]
fn a_signal_and_the_api_reload_without_a_poll() {
    let sink = Sink::start();
    let without = Config::to(sink.address).text().replace("50ms", "1h");
    let body = br#"{"HookName":"Login","Data":{"Uid":"u1"}}"#;
    let gateway = Gateway::start(&without);
    let lines = gateway.log_lines();
    replace(&gateway.config, format!("{without}{SECOND}"));
    gateway.signal("HUP");
    assert!(is_taken(&gateway.reloaded_after(lines)));
    send_to(&gateway, "second", "loginradius", body).id();

    replace(&gateway.config, &without);
    let answer = api_reload(&gateway);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.json()["result"].is_string(), "{answer:?}");
    send_to(&gateway, "second", "loginradius", body).refused(404, "unknown_source");

    replace(&gateway.config, without.replace("\"loginradius\"", "\"canary7f3a9c\""));
    let refused = api_reload(&gateway);
    refused.refused(422, "reload_refused");
    let report = refused.json()["detail"].as_str().expect("a text").to_owned();
    assert!(report.contains("error: there is no such vendor") && !report.contains("canary"), "{report}");
    send(&gateway, "loginradius", body).id();
    assert_eq!((gateway.metric(SUCCESSES), gateway.metric(FAILURES), gateway.metric(LAST)), (2.0, 1.0, 0.0));
}

#[test]
fn secrets_are_rotated_under_load() {
    const OLD: &str = "sendauth-secret-of-2024";
    const NEW: &str = "sendauth-secret-of-2025";
    let (sink, folder) = (Sink::start(), tempfile::tempdir().expect("a folder"));
    let (old, new) = (folder.path().join("2024"), folder.path().join("2025"));
    fs::write(&old, format!("{OLD}\n")).expect("written");
    fs::write(&new, NEW).expect("written");
    let config = |files: &[(&Path, &str)]| {
        let listed: Vec<String> =
            files.iter().map(|(file, id)| format!("{{ file = {file:?}, id = \"{id}\" }}")).collect();
        let text = Config { tables: UNLIMITED, ..Config::to(sink.address) }.text();
        text.replace("secret_env = \"SENDAUTH_SECRET\"", &format!("secrets = [{}]", listed.join(", ")))
    };
    let gateway = Gateway::start(&config(&[(&old, "2024")]));
    let by_old = Sender::start(&gateway, "old", OLD);
    sink.wait_for(10);
    assert!(is_taken(&gateway.reconfigure(config(&[(&new, "2025"), (&old, "2024")]))));
    let by_new = Sender::start(&gateway, "new", NEW);
    sink.wait_for(sink.count() + 50);
    let olds = by_old.all_taken();
    // The file is emptied of the old secret before the configuration forgets it.
    let lines = gateway.log_lines();
    replace(&old, "sendauth-secret-of-2026");
    assert!(is_taken(&gateway.reloaded_after(lines)));
    let mut client = Client::new(gateway.listen);
    signed_by(&mut client, OLD, &approval("late")).refused(401, "unverified");
    assert!(is_taken(&gateway.reconfigure(config(&[(&new, "2025")]))));
    signed_by(&mut client, OLD, &approval("late")).refused(401, "unverified");
    let news = by_new.all_taken();

    let ok = |key| {
        gateway.metric(&format!(
            r#"hookwarden_verifications_total{{source="sendauth",vendor="sendauth",result="ok",key="{key}"}}"#
        ))
    };
    assert_eq!((ok("2024"), ok("2025")), (count(olds), count(news)));
    let key_id = |arrived: &crate::harness::Arrived| {
        arrived.json()["data"]["vendor"]["verification"]["key_id"].clone()
    };
    let arrived = sink.arrived();
    assert_eq!(arrived.iter().filter(|one| key_id(one) == "2024").count(), olds);
    assert_eq!(arrived.iter().filter(|one| key_id(one) == "2025").count(), news);
    assert_eq!(arrived.len(), olds + news);
}

fn count(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("few"))
}

/// kubelet: `name` → `..data/name`, `..data` → `..2026_01`; a new `..data` is renamed over the old one.
#[test]
fn the_swap_of_a_mounted_secret_and_configuration_is_seen() {
    let (sink, folder) = (Sink::start(), tempfile::tempdir().expect("a folder"));
    let at = |name: &str| folder.path().join(name);
    let text = Config::to(sink.address).text();
    let text = text.replace("secret_env = \"SENDAUTH_SECRET\"", &format!("secret_file = {:?}", at("secret")));
    for (version, secret, config) in [
        ("..1", "sendauth-secret-1111", text.clone()),
        ("..2", "sendauth-secret-2222", format!("{text}{SECOND}")),
    ] {
        fs::create_dir(at(version)).expect("a folder");
        fs::write(at(version).join("secret"), secret).expect("written");
        fs::write(at(version).join("hookwarden.toml"), config).expect("written");
    }
    symlink("..1", at("..data")).expect("a link");
    for name in ["secret", "hookwarden.toml"] {
        symlink(Path::new("..data").join(name), at(name)).expect("a link");
    }
    let gateway = Gateway::start_at(&at("hookwarden.toml"), |_| {});
    let mut client = Client::new(gateway.listen);
    assert_eq!(signed_by(&mut client, "sendauth-secret-1111", &approval("1")).status, 200);
    let lines = gateway.log_lines();
    symlink("..2", at("..data_tmp")).expect("a link");
    fs::rename(at("..data_tmp"), at("..data")).expect("renamed");
    assert!(is_taken(&gateway.reloaded_after(lines)));
    signed_by(&mut client, "sendauth-secret-1111", &approval("2")).refused(401, "unverified");
    assert_eq!(signed_by(&mut client, "sendauth-secret-2222", &approval("2")).status, 200);
    send_to(&gateway, "second", "loginradius", br#"{"HookName":"Login"}"#).id();
}

/// threats.md H3.
#[test]
fn broken_files_change_nothing_under_load() {
    let sink = Sink::start();
    let good = Config { tables: UNLIMITED, ..Config::to(sink.address) }.text();
    let gateway = Gateway::start(&good);
    let sender = Sender::start(&gateway, "load", crate::harness::SENDAUTH_SECRET);
    let broken = broken(&good);
    for (number, contents) in broken.iter().enumerate() {
        let refused = gateway.reconfigure(contents);
        let shown = String::from_utf8_lossy(&contents[..contents.len().min(200)]);
        assert_eq!(refused["level"], "ERROR", "{shown}");
        assert_eq!(gateway.metric(FAILURES), count(number + 1), "{shown}");
        assert_eq!(gateway.metric(LAST), 0.0);
    }
    let lines = gateway.log_lines();
    fs::remove_file(&gateway.config).expect("removed");
    assert!(!is_taken(&gateway.reloaded_after(lines)), "a file that is gone is noticed");
    assert_eq!(gateway.metric(FAILURES), count(broken.len() + 1));
    assert_eq!(gateway.admin_get("/readyz").status, 200);
    assert!(is_taken(&gateway.reconfigure(&good)));
    assert_eq!((gateway.metric(SUCCESSES), gateway.metric(LAST)), (1.0, 1.0));
    let sent = sender.all_taken();
    assert_eq!(sink.count(), sent);
}

fn broken(good: &str) -> Vec<Vec<u8>> {
    let replaced = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1).into_bytes()
    };
    let mut all: Vec<Vec<u8>> =
        good.match_indices("\"").step_by(8).map(|(at, _)| good[..=at].into()).collect();
    let deep = |text: &str, times: usize| text.repeat(times);
    all.extend([
        Vec::new(),
        replaced("[admin]", "[admin]\napi = 1"),
        replaced("[admin]", "[admin]\nlisten = \"127.0.0.1:0\""),
        replaced("[sources.authpi]", "[sources.authpi]\npath = \"/in/sendauth\""),
        replaced("vendor = \"authpi\"", "vendor = \"authpu\""),
        replaced("upstream = \"app\"", "upstreem = \"app\""),
        replaced("secret_env = \"SENDAUTH_SECRET\"", "secret_file = \"/nowhere/secret\""),
        replaced("SENDAUTH_SECRET", "NOT_SET"),
        replaced("secret_env = \"SENDAUTH_SECRET\"", "secret = \"\""),
        replaced("secret_env = \"APP_WEBHOOK_SECRET\"", "secret = \"whsec_!\""),
        [good.as_bytes(), b"# \xff"].concat(),
        [good.as_bytes(), b"\0"].concat(),
        [good.as_bytes(), &vec![b'#'; 10 << 20]].concat(),
        format!("{good}\nx = {}", deep("[", 100_000)).into_bytes(),
        format!("{good}\nx = {}1{}", deep("{x=", 100_000), deep("}", 100_000)).into_bytes(),
        format!("{}x = 1\n{good}", deep("x.", 100_000)).into_bytes(),
        format!("{good}\n[{}x]", deep("x.", 100_000)).into_bytes(),
        b"\xef\xbb\xbf\xef\xbb\xbf".to_vec(),
        b"\x7fELF\x02\x01\x01".to_vec(),
    ]);
    assert!(all.len() >= 20, "{}", all.len());
    all
}

#[test]
fn budgets_and_ids_outlive_a_reload() {
    let sink = Sink::start();
    let config = |rate: &str, extra: &str| {
        let rate = format!("rate = \"{rate}\"");
        Config { sendauth: &rate, tables: extra, ..Config::to(sink.address) }.text()
    };
    let gateway = Gateway::start(&config("1/m burst 2", ""));
    for id in ["1", "2"] {
        send(&gateway, "sendauth", &approval(id)).id();
    }
    send(&gateway, "sendauth", &approval("3")).refused(429, "rate_limited");
    assert!(is_taken(&gateway.reconfigure(config("1/m burst 2", SECOND))));
    send(&gateway, "sendauth", &approval("3")).refused(429, "rate_limited");
    assert!(send(&gateway, "sendauth", &approval("1")).is_duplicate());
    let sources = gateway.admin_get("/api/v1/sources").json();
    let sendauth =
        sources["sources"].as_array().expect("a list").iter().find(|one| one["name"] == "sendauth");
    assert_eq!(sendauth.expect("it is there")["last"]["message"], "status code: 200");
    // Another rate is another budget.
    assert!(is_taken(&gateway.reconfigure(config("1/m burst 3", SECOND))));
    send(&gateway, "sendauth", &approval("3")).id();
    assert!(send(&gateway, "sendauth", &approval("2")).is_duplicate());
    assert_eq!(sink.count(), 3);
}

#[test]
fn an_app_s_budgets_outlive_a_reload() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let sink = Sink::behaving(move |number, _| match number {
        0 => Behaviour::Wait(Arc::clone(&held)),
        _ => Behaviour::Status(200, ""),
    });
    let config = |app: &str, extra: &str| Config { app, tables: extra, ..Config::to(sink.address) }.text();
    let gateway = Gateway::start(&config("concurrency = 1", ""));
    thread::scope(|scope| {
        let running = scope.spawn(|| send(&gateway, "sendauth", &approval("1")).id());
        sink.wait_for(1);
        assert!(is_taken(&gateway.reconfigure(config("concurrency = 1", SECOND))));
        send(&gateway, "sendauth", &approval("2")).refused(503, "overloaded");
        gate.open();
        running.join().expect("an answer");
    });
    assert!(is_taken(&gateway.reconfigure(config("rate = \"1/h\"", ""))));
    send(&gateway, "sendauth", &approval("3")).id();
    assert!(is_taken(&gateway.reconfigure(config("rate = \"1/h\"", SECOND))));
    send(&gateway, "sendauth", &approval("4")).refused(503, "overloaded");
    assert!(is_taken(&gateway.reconfigure(config("rate = \"2/h\"", SECOND))));
    send(&gateway, "sendauth", &approval("4")).id();
    assert_eq!(sink.count(), 3);
}

#[test]
fn what_is_refused_leaves_no_trace_in_the_metrics() {
    let sink = Sink::start();
    let good = Config::to(sink.address).text();
    let gateway = Gateway::start(&good);
    let ghost = SECOND.replace("second", "ghost");
    let refused = gateway.reconfigure(format!("{good}{ghost}{}", SECOND.replace("\"app\"", "\"none\"")));
    assert_eq!(refused["level"], "ERROR");
    let metrics = gateway.admin_get("/metrics").text();
    assert!(metrics.contains("\"sendauth\"") && !metrics.contains("ghost"), "{metrics}");
    assert!(is_taken(&gateway.reconfigure(format!("{good}{ghost}"))));
    assert!(gateway.admin_get("/metrics").text().contains("source=\"ghost\""));
}

/// Who opens a pipe waits until somebody writes.
#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_and_holds_nothing_up() {
    let (sink, folder) = (Sink::start(), tempfile::tempdir().expect("a folder"));
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let good = Config::to(sink.address).text();
    let mut gateway = Gateway::start(&good);
    let tls = format!("[server.tls]\ncert_file = {pipe:?}\nkey_file = {pipe:?}\n");
    for (config, key) in [
        (
            Config { app: &format!("ca_file = {pipe:?}"), ..Config::to(sink.address) }.text(),
            "upstreams.app.ca_file",
        ),
        (format!("{good}{tls}"), "server.tls.cert_file"),
        (
            good.replace("secret_env = \"SENDAUTH_SECRET\"", &format!("secret_file = {pipe:?}")),
            "sources.sendauth.secret_file",
        ),
    ] {
        assert_eq!(gateway.reconfigure(config)["level"], "ERROR");
        let said = gateway.logged(|line| line["key"] == key).to_string();
        assert!(said.contains("not a regular file"), "{said}");
    }
    send(&gateway, "sendauth", &approval("1")).id();
    gateway.signal("TERM");
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_reload_that_hangs_does_not_keep_a_stop_from_being_heard() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hookwarden.toml");
    let text = Config::to(nobody()).text().replace("token_env", "# ");
    let text = text.replace("secret_env = \"", "secret = \"0123456789abcdef-");
    fs::write(&path, text).expect("written");
    let (gate, (begun, begins)) = (Arc::new(Gate::default()), mpsc::channel());
    let held = Arc::clone(&gate);
    let hangs = AtomicBool::new(false);
    let load: app::Load = Arc::new(move || {
        if hangs.swap(true, Ordering::Relaxed) {
            begun.send(()).expect("it is waited for");
            held.wait();
        }
        config::load(Some(&path), [], &Dict::new())
    });
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let running = app::start(load).await.expect("it starts");
        let stopper = thread::spawn(move || {
            let signal = |name: &str| Command::new("kill").args([name, &process::id().to_string()]).status();
            signal("-HUP").expect("kill");
            begins.recv_timeout(PATIENCE).expect("a reload");
            signal("-TERM").expect("kill");
        });
        tokio::time::timeout(PATIENCE / 2, running.until_signal()).await.expect("it is heard");
        stopper.join().expect("no panic");
    });
    gate.open();
}

#[test]
fn a_new_admin_token_replaces_the_old_one() {
    let (sink, folder) = (Sink::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("token");
    fs::write(&file, ADMIN_TOKEN).expect("written");
    let text = Config::to(sink.address).text();
    let gateway =
        Gateway::start(&text.replace("token_env = \"ADMIN_TOKEN\"", &format!("token_file = {file:?}")));
    let status = |token: &str| {
        let token = format!("Bearer {token}");
        request(gateway.admin, "GET", "/api/v1/sources", &[("authorization", &token)], b"").status
    };
    let new = "admin-test-token-00000002";
    assert_eq!((status(ADMIN_TOKEN), status(new)), (200, 401));
    let lines = gateway.log_lines();
    replace(&file, new);
    assert!(is_taken(&gateway.reloaded_after(lines)));
    assert_eq!((status(ADMIN_TOKEN), status(new)), (401, 200));
}

#[test]
fn a_running_request_keeps_the_configuration_it_began_with() {
    let gate = Arc::new(Gate::default());
    let held = Arc::clone(&gate);
    let (before, after) = (Sink::behaving(move |_, _| Behaviour::Wait(Arc::clone(&held))), Sink::start());
    let gateway = Gateway::start(&Config::to(before.address).text());
    thread::scope(|scope| {
        let running = scope.spawn(|| send(&gateway, "sendauth", &approval("1")));
        before.wait_for(1);
        // Its source is gone, its upstream is another, its secret does not verify any more.
        let text = Config::to(after.address).text().replace("[sources.sendauth]", "[sources.other]");
        assert!(is_taken(&gateway.reconfigure(text.replace("SENDAUTH_SECRET", "LOGINRADIUS_SECRET"))));
        send(&gateway, "sendauth", &approval("2")).refused(404, "unknown_source");
        gate.open();
        running.join().expect("an answer").id();
    });
    assert!(is_taken(&gateway.reconfigure(Config::to(after.address).text())));
    send(&gateway, "sendauth", &approval("2")).id();
    assert_eq!((before.only().header("hookwarden-source"), after.count()), ("sendauth", 1));
}

/// A mounted configuration may name a secret that is mounted a moment later.
#[test]
fn a_file_that_was_missing_is_waited_for() {
    let (sink, folder) = (Sink::start(), tempfile::tempdir().expect("a folder"));
    let secret = folder.path().join("secret");
    let good = Config::to(sink.address).text();
    let gateway = Gateway::start(&good);
    let with_file = good.replace("secret_env = \"SENDAUTH_SECRET\"", &format!("secret_file = {secret:?}"));
    assert_eq!(gateway.reconfigure(with_file)["level"], "ERROR");
    send(&gateway, "sendauth", &approval("1")).id();
    let lines = gateway.log_lines();
    replace(&secret, "sendauth-secret-2222");
    assert!(is_taken(&gateway.reloaded_after(lines)));
    let mut client = Client::new(gateway.listen);
    assert_eq!(signed_by(&mut client, "sendauth-secret-2222", &approval("2")).status, 200);
}

#[test]
fn what_takes_a_restart_is_said() {
    let sink = Sink::start();
    let good = Config::to(sink.address).text();
    let gateway = Gateway::start(&good);
    let lines = gateway.log_lines();
    assert!(is_taken(&gateway.reconfigure(good.replacen("127.0.0.1:0", "127.0.0.1:1", 1))));
    let log = gateway.log();
    let warnings: Vec<Value> =
        log.lines().skip(lines).map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let said = |line: &&Value| line["message"] == "a change here takes a restart";
    assert_eq!(warnings.iter().find(said).expect("said")["key"], "server");
    send(&gateway, "sendauth", &approval("1")).id();
    // Back at what runs, nothing waits for a restart.
    let lines = gateway.log_lines();
    assert!(is_taken(&gateway.reconfigure(good)));
    assert!(gateway.log().lines().skip(lines).all(|line| !line.contains("takes a restart")));
}
