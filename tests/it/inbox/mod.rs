//! The durable inbox, from outside: what was acknowledged arrives, whatever happens to the app, the disk or the process.

mod crash;
mod delivery;
mod disk;
mod file;
mod operators;

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::harness::*;

/// A schedule that a test can wait for.
pub const SOON: &str = r#"schedule = ["20ms", "20ms", "20ms", "20ms", "20ms", "20ms"]"#;

/// Tried for as long as a slow machine may take to bring the app back.
pub fn patient() -> String {
    format!("schedule = {:?}", ["200ms"; 300])
}
/// One that no test waits for.
pub const LATE: &str = r#"schedule = ["1h"]"#;

/// A folder for an inbox, and the configuration that puts it there.
pub struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }

    /// On storage that does not last.
    pub fn in_memory() -> Self {
        Self { dir: tempfile::tempdir_in("/dev/shm").expect("a folder in memory") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The inbox's file.
    pub fn file(&self) -> PathBuf {
        self.path("inbox.db")
    }

    /// All vendors in front of one app (`app`: more keys of its table), with an inbox.
    pub fn config(&self, upstream: SocketAddr, app: &str) -> String {
        let top = format!("inbox.url = \"sqlite:{}\"", self.file().display());
        Config { top: &top, app, ..Config::to(upstream) }.text()
    }

    /// Opens the file as an operator would.
    pub fn open(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.file()).expect("it opens")
    }

    /// Whether the file is sound.
    pub fn is_sound(&self) -> bool {
        let checked: String =
            self.open().query_row("PRAGMA integrity_check", (), |row| row.get(0)).expect("it is checked");
        checked == "ok"
    }
}

/// Deliveries in a state, as the metrics have it.
pub fn inbox_events(gateway: &Gateway, upstream: &str, state: &str) -> f64 {
    gateway.metric(&format!("hookwarden_inbox_events{{upstream=\"{upstream}\",state=\"{state}\"}}"))
}

/// The events the API lists.
pub fn events(gateway: &Gateway, query: &str) -> Vec<Value> {
    gateway.admin_get(&format!("/api/v1/events?{query}")).json()["events"].as_array().expect("a list").clone()
}

/// One event as the API shows it.
pub fn event(gateway: &Gateway, id: &str) -> Value {
    gateway.admin_get(&format!("/api/v1/events/{id}")).json()
}

pub fn admin_post(gateway: &Gateway, path: &str) -> Answer {
    let token = format!("Bearer {ADMIN_TOKEN}");
    request(gateway.admin, "POST", path, &[("authorization", &token)], b"")
}

/// The attempts of an event's only delivery: what the app answered, or why it did not.
pub fn attempts(event: &Value) -> Vec<String> {
    let attempts = event["deliveries"][0]["attempts"].as_array().expect("attempts");
    let told = |attempt: &Value| match (attempt["status"].as_u64(), attempt["error"].as_str()) {
        (Some(status), _) => status.to_string(),
        (None, error) => error.unwrap_or_default().to_owned(),
    };
    attempts.iter().map(told).collect()
}

/// An address that an app takes later.
pub struct Later {
    listener: TcpListener,
}

impl Later {
    /// Bound and not listened to by anybody: connections wait in the backlog, as at an app that hangs.
    pub fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").expect("a port") }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("an address")
    }

    /// Takes the app away: connections are refused. The address.
    pub fn refuse(self) -> SocketAddr {
        self.address()
    }
}

/// Sends an approval that is taken; its id.
pub fn taken(gateway: &Gateway, id: &str) -> String {
    send(gateway, "sendauth", &approval(id)).id()
}

pub fn status(event: &Value) -> &str {
    event["status"].as_str().expect("a status")
}

/// Runs a command against a gateway's API.
pub fn cli(gateway: &Gateway, arguments: &[&str]) -> Output {
    let admin = gateway.admin.to_string();
    output(hookwarden().arg("events").args(arguments).args(["--admin", &admin, "--token-env", "ADMIN_TOKEN"]))
}

pub fn bytes_of(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("a file")
}
