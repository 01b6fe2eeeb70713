//! What the tests stand on: the real binary on free ports, a receiver that records, and a client that sends bytes.
//! Nothing waits for a fixed time: everything awaits an event, within [`PATIENCE`].

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use crate::{client::*, sink::*};

/// Longest wait for something that must happen: generous, so that a slow machine fails nothing.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The app's signing secret: the one of Standard Webhooks' published test vectors.
pub const APP_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub const SENDAUTH_SECRET: &str = "sendauth-test-secret-0001";
pub const LOGINRADIUS_SECRET: &str = "loginradius-test-secret-0001";
pub const ZENLOGIN_SECRET: &str = "sk_live_zenlogin-test-secret-0001";
pub const AUTHPI_SECRET: &str = "whs_authpi-test-secret-0001";
pub const AUTHALERT_SECRET: &str = "authalert-test-secret-0001";
pub const ADMIN_TOKEN: &str = "admin-test-token-00000001";
/// The header of every vendor's body.
pub const JSON: (&str, &str) = ("content-type", "application/json");
pub const PUBLIC_URL: &str = "https://hooks.example.com";

/// Runs the gateway's own executable, with the secrets in its environment and nothing else.
pub fn hookwarden() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookwarden"));
    command.env_clear().envs([
        ("APP_WEBHOOK_SECRET", APP_SECRET),
        ("SENDAUTH_SECRET", SENDAUTH_SECRET),
        ("LOGINRADIUS_SECRET", LOGINRADIUS_SECRET),
        ("ZENLOGIN_SECRET", ZENLOGIN_SECRET),
        ("AUTHPI_SECRET", AUTHPI_SECRET),
        ("AUTHALERT_SECRET", AUTHALERT_SECRET),
        ("ADMIN_TOKEN", ADMIN_TOKEN),
    ]);
    command
}

/// What a command said, and how it ended.
pub struct Output {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs a command to its end.
pub fn output(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    let code = output.status.code().expect("ended by itself");
    Output { code, out: text(output.stdout), err: text(output.stderr) }
}

/// A configuration of all five vendors in front of one app. `extra` is put in front: keys and tables of its own; tables
/// that stand here already are given through `app` (keys of `[upstreams.app]`) and `sendauth` (of `[sources.sendauth]`).
pub struct Config<'a> {
    pub upstream: SocketAddr,
    pub top: &'a str,
    pub server: &'a str,
    pub app: &'a str,
    pub sendauth: &'a str,
    pub tables: &'a str,
}

impl Config<'_> {
    pub fn to(upstream: SocketAddr) -> Config<'static> {
        Config { upstream, top: "", server: "", app: "", sendauth: "", tables: "" }
    }

    pub fn text(&self) -> String {
        let Self { upstream, top, server, app, sendauth, tables } = self;
        format!(
            r#"
public_url = "{PUBLIC_URL}"
reload.poll = "50ms"
{top}
[server]
listen = "127.0.0.1:0"
{server}
[admin]
listen = "127.0.0.1:0"
token_env = "ADMIN_TOKEN"
[upstreams.app]
url = "http://{upstream}/webhooks"
secret_env = "APP_WEBHOOK_SECRET"
{app}
[sources.sendauth]
vendor = "sendauth"
secret_env = "SENDAUTH_SECRET"
upstream = "app"
{sendauth}
[sources.loginradius]
vendor = "loginradius"
secret_env = "LOGINRADIUS_SECRET"
upstream = "app"
[sources.zenlogin]
vendor = "zenlogin"
secret_env = "ZENLOGIN_SECRET"
upstream = "app"
[sources.authpi]
vendor = "authpi"
secret_env = "AUTHPI_SECRET"
upstream = "app"
[sources.authalert]
vendor = "authalert"
secret_env = "AUTHALERT_SECRET"
upstream = "app"
verify = {{ header = "x-authalert-secret" }}
{tables}
"#
        )
    }
}

/// A running gateway. Killed when dropped.
pub struct Gateway {
    child: Child,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub config: PathBuf,
    log: Arc<Log>,
    _dir: Option<tempfile::TempDir>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Gateway {
    /// Writes the configuration, starts the gateway and waits until it serves.
    pub fn start(config: &str) -> Self {
        Self::start_with(config, |_| {})
    }

    pub fn start_with(config: &str, change: impl FnOnce(&mut Command)) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("hookwarden.toml");
        std::fs::write(&path, config).expect("written");
        let mut gateway = Self::start_at(&path, change);
        gateway._dir = Some(dir);
        gateway
    }

    /// Starts the gateway by a configuration that is there.
    pub fn start_at(path: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = hookwarden();
        command.arg("run").arg("--config").arg(path).stdout(Stdio::null()).stderr(Stdio::piped());
        change(&mut command);
        let mut child = command.spawn().expect("the gateway starts");
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().expect("piped");
        thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    log.lines.lock().unwrap().0.push(line);
                    log.more.notify_all();
                }
                log.lines.lock().unwrap().1 = true;
                log.more.notify_all();
            }
        });
        let none = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut gateway = Self { child, listen: none, admin: none, config: path.to_owned(), log, _dir: None };
        let serving = gateway.logged(|line| line["message"] == "serving");
        let address = |name: &str| serving[name].as_str().expect("an address").parse().expect("an address");
        (gateway.listen, gateway.admin) = (address("listen"), address("admin"));
        gateway
    }

    /// Waits for a log line.
    pub fn logged(&self, is_it: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.log.lines.lock().unwrap();
        let mut seen = 0;
        loop {
            while let Some(line) = lines.0.get(seen) {
                seen += 1;
                if let Some(line) = serde_json::from_str(line).ok().filter(&is_it) {
                    return line;
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !lines.1, "not logged; what was:\n{}", lines.0.join("\n"));
            lines = self.log.more.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        self.log.lines.lock().unwrap().0.join("\n")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name: "TERM", "HUP".
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(status.expect("kill").success());
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("waited") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Replaces the configuration file and waits for the reload to be logged as done or refused.
    pub fn reconfigure(&self, config: impl AsRef<[u8]>) -> Value {
        let before = self.log_lines();
        replace(&self.config, config);
        self.reloaded_after(before)
    }

    /// Waits for the next reload after that many log lines.
    pub fn reloaded_after(&self, lines: usize) -> Value {
        let seen = std::cell::Cell::new(0);
        self.logged(|line| {
            seen.set(seen.get() + 1);
            let message = line["message"].as_str().unwrap_or_default();
            let done = message == "configuration reloaded"
                || message.starts_with("the new configuration is not used");
            done && seen.get() > lines
        })
    }

    pub fn log_lines(&self) -> usize {
        self.log.lines.lock().unwrap().0.len()
    }

    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        request(self.listen, "POST", path, headers, body)
    }

    /// A GET of the admin listener, with its token.
    pub fn admin_get(&self, path: &str) -> Answer {
        let token = format!("Bearer {ADMIN_TOKEN}");
        request(self.admin, "GET", path, &[("authorization", &token)], b"")
    }

    /// The value of one sample of `/metrics`, by its name and labels as they are printed.
    pub fn metric(&self, sample: &str) -> f64 {
        let text = self.admin_get("/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {sample} in\n{text}"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Puts a file in the place of another in one step: the gateway looks at any time.
pub fn replace(path: &Path, contents: impl AsRef<[u8]>) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, contents).expect("written");
    std::fs::rename(&beside, path).expect("renamed");
}

// === the vendors ===

pub fn sha256_hex(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hex::encode(hash.finalize())
}

pub fn hmac_hex(key: &str, message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(message);
    hex::encode(mac.finalize().into_bytes())
}

/// The header a vendor proves itself with.
pub fn signature(vendor: &str, body: &[u8]) -> (&'static str, String) {
    match vendor {
        "sendauth" => ("x-sendauth-signature", sha256_hex(&[SENDAUTH_SECRET.as_bytes(), body])),
        "loginradius" => ("signature", hmac_hex(LOGINRADIUS_SECRET, body).to_ascii_uppercase()),
        "zenlogin" => {
            ("x-signature", hmac_hex(ZENLOGIN_SECRET, format!("{PUBLIC_URL}/in/zenlogin").as_bytes()))
        }
        "authpi" => ("x-webhook-signature", hmac_hex(AUTHPI_SECRET, body)),
        "authalert" => ("x-authalert-secret", AUTHALERT_SECRET.to_owned()),
        other => panic!("no such vendor: {other}"),
    }
}

/// Sends a body as its vendor would.
pub fn send(gateway: &Gateway, vendor: &str, body: &[u8]) -> Answer {
    send_to(gateway, vendor, vendor, body)
}

/// Sends a body as its vendor would, to another source of that vendor.
pub fn send_to(gateway: &Gateway, source: &str, vendor: &str, body: &[u8]) -> Answer {
    let (name, value) = signature(vendor, body);
    gateway.post(&format!("/in/{source}"), &[("content-type", "application/json"), (name, &value)], body)
}

/// Sends a body as somebody would who does not know the vendor's secret.
pub fn forge(gateway: &Gateway, vendor: &str, body: &[u8]) -> Answer {
    let (name, _) = signature(vendor, body);
    let value = sha256_hex(&[b"a guess", body]);
    gateway.post(&format!("/in/{vendor}"), &[("content-type", "application/json"), (name, &value)], body)
}

/// Waits until something is so that nothing tells of.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A SendAuth approval of that id.
pub fn approval(id: &str) -> Vec<u8> {
    format!(
        r#"{{"id":"{id}","state":"verified","authGroup":{{"id":"g","name":"Group"}},"requestor":"user@example.com","completedAt":"2024-01-15T10:35:00Z"}}"#
    )
    .into_bytes()
}

/// Where the repository is.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
