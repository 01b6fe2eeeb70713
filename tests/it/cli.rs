//! The commands, as users run them.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStderr, Command, Output, Stdio},
};

use serde_json::Value;

const VENDORS: [&str; 5] = ["sendauth", "loginradius", "zenlogin", "authpi", "authalert"];

fn hookwarden(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookwarden"));
    command.env_clear().args(args);
    command
}

fn output(args: &[&str]) -> Output {
    hookwarden(args).output().expect("the program starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// A command that stays up. Killed when dropped.
struct Server {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        Self { child, stderr }
    }

    /// What stands behind `mark` in the first line of standard error that has it, up to a space or a quote.
    fn said(&mut self, mark: &str) -> String {
        let mut line = String::new();
        while self.stderr.read_line(&mut line).expect("UTF-8") > 0 {
            if let Some((_, rest)) = line.split_once(mark) {
                return rest.split([' ', '"', '\n', ';']).next().unwrap_or_default().to_owned();
            }
            line.clear();
        }
        panic!("it never said {mark:?}")
    }

    /// Asks it to end; its exit code and what it wrote to standard output.
    fn stop(mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        let mut text = String::new();
        self.child.stdout.take().expect("piped").read_to_string(&mut text).expect("UTF-8");
        (self.child.wait().expect("a child").code(), text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn the_demo_shows_every_vendor_a_duplicate_and_a_forgery() {
    let output = output(&["demo", "--once"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(text.matches("✓ verified").count(), VENDORS.len(), "{text}");
    assert!(text.contains("200 duplicate") && text.contains("401 unverified"), "{text}");
    assert_eq!(text.lines().filter(|line| line.ends_with("  ok")).count(), VENDORS.len() + 3, "{text}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_trigger_sends_listen_takes() {
    let url = |vendor: &str| format!("https://hooks.example.com/in/{vendor}");
    let mut listen = Server::start(&mut hookwarden(&[
        "listen",
        "--listen",
        "127.0.0.1:0",
        "--public-url",
        "https://hooks.example.com",
    ]));
    let address = listen.said("http://").replace("/in/VENDOR", "");
    for vendor in VENDORS {
        let to = format!("http://{address}/in/{vendor}");
        let trigger = |args: &[&str]| {
            output(&[&["trigger", vendor, "--to", &to, "--url", &url(vendor), "--json"], args].concat())
        };
        let sent = trigger(&["--times", "2", "--duplicate"]);
        assert_eq!(sent.status.code(), Some(0), "{sent:?}");
        let answers: Vec<Value> =
            stdout(&sent).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let duplicates: Vec<bool> = answers.iter().map(|answer| answer["duplicate"] == true).collect();
        assert_eq!(duplicates, [false, true, false, true]);
        assert_eq!(answers[0]["id"], answers[1]["id"]);
        assert_ne!(answers[0]["id"], answers[2]["id"]);

        let forged = trigger(&["--bad-signature"]);
        assert_eq!(forged.status.code(), Some(0), "{forged:?}");
        assert!(stdout(&forged).contains("\"status\":401"), "{forged:?}");
        assert_eq!(trigger(&["--header", "x-other"]).status.code(), Some(1));
    }
    let (code, events) = listen.stop();
    assert_eq!(code, Some(0));
    let events: Vec<Value> =
        serde_json::Deserializer::from_str(&events).into_iter().map(|event| event.expect("JSON")).collect();
    let vendors: Vec<&str> = events.iter().filter_map(|event| event["hwvendor"].as_str()).collect();
    assert_eq!(vendors, VENDORS.map(|vendor| [vendor; 2]).concat());
}

#[test]
fn the_app_s_own_secret_signs() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let args = ["listen", "--listen", "127.0.0.1:0", "--forward-to", "http://127.0.0.1:9/"];
    let mut shown = Server::start(&mut hookwarden(&args));
    assert!(shown.said("export APP_WEBHOOK_SECRET=").starts_with("whsec_"));
    let mut given = Server::start(hookwarden(&args).env("APP_WEBHOOK_SECRET", secret));
    assert!(given.said("Vendors post to ").starts_with("http://127.0.0.1:"));
    assert_eq!(given.stop(), (Some(0), String::new()));

    let public = output(&["listen", "--listen", "0.0.0.0:0"]);
    assert_eq!(public.status.code(), Some(1), "{public:?}");
    let short = hookwarden(&args).env("SENDAUTH_SECRET", "short").output().expect("it ran");
    let said = String::from_utf8(short.stderr).expect("UTF-8");
    assert_eq!((short.status.code(), said.matches("error: ").count()), (Some(78), 1), "{said}");
    let place = "--> environment variable SENDAUTH_SECRET  (sources.sendauth.secret_env)";
    assert!(said.contains(place) && !said.contains("warning: "), "{said}");
}

fn config(dir: &Path, vendor: &str) -> String {
    let text = format!(
        "server.listen = '127.0.0.1:0'\nadmin.listen = '127.0.0.1:0'\n\
         [upstreams.app]\nurl = 'http://127.0.0.1:9/'\nsecret_env = 'APP'\n\
         [sources.a]\nvendor = '{vendor}'\nsecret_env = 'A'\nupstream = 'app'\n"
    );
    let path = dir.join("hookwarden.toml");
    fs::write(&path, text).expect("a temporary file");
    path.to_str().expect("UTF-8").to_owned()
}

fn with_secrets(args: &[&str]) -> Command {
    let mut command = hookwarden(args);
    command.env("APP", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").env("A", "0123456789abcdef0123456789abcdef");
    command
}

#[test]
fn check_says_ok_or_what_is_wrong() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = config(dir.path(), "loginradius");
    let output = with_secrets(&["check", "--config", &good]).output().expect("it starts");
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "ok: 1 source, 1 upstream\n"));
    let warned = with_secrets(&["check", "--json", "--config", &good]).output().expect("it starts");
    let warnings: Value = serde_json::from_slice(&warned.stdout).expect("JSON");
    assert!(
        warnings.as_array().is_some_and(|list| list.iter().all(|problem| problem["severity"] == "warning"))
    );

    let bad = config(dir.path(), "loginradiux");
    let output = with_secrets(&["check"]).env("HOOKWARDEN_CONFIG", &bad).output().expect("it starts");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(78), 0));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("hookwarden.toml:7:") && text.contains("loginradius"), "{text}");
    let output = with_secrets(&["check", "--json", "--config", &bad]).output().expect("it starts");
    let errors: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), &errors[0]["line"]), (Some(78), &7.into()), "{errors}");
    assert_eq!(with_secrets(&["run", "--config", &bad]).output().expect("it starts").status.code(), Some(78));
}

#[test]
fn run_is_ready_until_it_is_told_to_stop() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = config(dir.path(), "loginradius");
    let mut run = Server::start(&mut with_secrets(&["run", "--config", &file, "--log-format", "json"]));
    let admin = run.said("\"admin\":\"");
    let health = output(&["health", "--admin", &admin]);
    assert_eq!((health.status.code(), stdout(&health).as_str()), (Some(0), "ready\n"));
    let second =
        with_secrets(&["run", "--config", &file, "--admin-listen", &admin]).output().expect("it starts");
    assert_eq!(second.status.code(), Some(69));
    assert_eq!(run.stop(), (Some(0), String::new()));
    assert_eq!(output(&["health", "--admin", &admin]).status.code(), Some(1));
}

/// A vendor of the operator's own, whose secret only the configuration knows.
#[test]
fn trigger_sends_as_a_source_of_a_configuration() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("hookwarden.toml");
    let file = file.to_str().expect("UTF-8");
    let vendor = "[vendors.own]\ntitle = 'Own'\nid = ['/id']\n[[vendors.own.name]]\nname = '{/type}'\n\
        [vendors.own.verify]\nscheme = 'hmac'\nheader = 'x-own'\ntemplate = '{timestamp}.{url}.{body}'\n\
        syntax = 'pairs'\n\
        [[vendors.own.sample]]\nevents = ['a', 'b']\nset = '/type'\nfresh = ['/id']\n\
        body = '{\"id\":\"1\",\"type\":\"a\"}'\n";
    let text = fs::read_to_string(config(dir.path(), "own")).expect("a file");
    fs::write(file, format!("public_url = 'https://hooks.example.com'\n{text}{vendor}")).expect("written");
    let mut run = Server::start(&mut with_secrets(&["run", "--config", file, "--log-format", "json"]));
    let to = format!("http://{}/in/a", run.said("\"listen\":\""));
    let trigger = |args: &[&str]| {
        let args = [&["trigger", "a", "b", "--config", file, "--to", &to][..], args].concat();
        stdout(&with_secrets(&args).output().expect("it starts"))
    };
    // Verified: only the app is not there.
    assert_eq!(trigger(&[]), "a  b  502 upstream_unreachable  (unexpected)\n");
    assert_eq!(trigger(&["--bad-signature"]), "a  b  401 unverified\n");
    assert_eq!(trigger(&["--url", "https://other.example.com/"]), "a  b  401 unverified  (unexpected)\n");
    assert_eq!(run.stop().0, Some(0));
    let nobody = with_secrets(&["trigger", "nobody", "--config", file]).output().expect("it starts");
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no such source; there are: a"), "{nobody:?}");
}

#[test]
fn what_is_no_command_is_refused() {
    for args in [&[][..], &["serve"], &["run"], &["trigger"], &["health", "--admin", "x"]] {
        assert_eq!(output(args).status.code(), Some(2), "{args:?}");
    }
    for args in [&["trigger", "nobody"][..], &["vendors", "nobody"], &["trigger", "sendauth", "no.event"]] {
        let output = output(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("there are: "), "{args:?}");
    }
    let output = output(&["listen", "--forward-to", "ftp://user:canary@a/"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.starts_with("error: --forward-to: expected http://") && !said.contains("canary"), "{said}");
}

#[test]
fn data_is_printed() {
    for args in [
        &["schema", "event"][..],
        &["schema", "config"],
        &["vendors", "--json"],
        &["vendors", "authpi", "--json"],
    ] {
        let output = output(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON");
    }
    let table = stdout(&output(&["vendors"]));
    assert_eq!(table.lines().count(), 1 + VENDORS.len(), "{table}");
    for vendor in VENDORS {
        let text = stdout(&output(&["vendors", vendor]));
        assert!(text.contains("  ✓ ") && text.contains("  ? ") && text.contains("https://"), "{text}");
    }
    assert!(stdout(&output(&["completions", "bash"])).contains("hookwarden"));
}
