//! What the tests stand on: the real binary on free ports, a receiver that records, and a client that sends bytes.
//! Nothing waits for a fixed time: everything awaits an event, within [`PATIENCE`].

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Digest, Sha256};

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
    _dir: tempfile::TempDir,
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
        let mut command = hookwarden();
        command.arg("run").arg("--config").arg(&path).stdout(Stdio::null()).stderr(Stdio::piped());
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
        let mut gateway = Self { child, listen: none, admin: none, config: path, log, _dir: dir };
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
    pub fn reconfigure(&self, config: &str) -> Value {
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

// === the receiver ===

/// What the app got.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Arrived {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }

    /// Checks the Standard Webhooks signature by the app's secret.
    pub fn verify(&self) {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let key = STANDARD.decode(APP_SECRET.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp")).as_bytes());
        mac.update(&self.body);
        let wanted = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        assert!(self.header("webhook-signature").split(' ').any(|one| one == wanted), "not signed by us");
    }
}

/// How the app behaves to one request.
pub enum Behaviour {
    /// Answers with this status and these header lines.
    Status(u16, &'static str),
    /// Answers 200 only when the gate is opened.
    Wait(Arc<Gate>),
    /// Reads the request and closes the connection.
    HangUp,
    /// Reads the request and never answers.
    Silence,
    /// Answers with these bytes.
    Bytes(&'static [u8]),
}

/// Something that is opened once.
#[derive(Default)]
pub struct Gate(Mutex<bool>, Condvar);

impl Gate {
    pub fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        let open = self.0.lock().unwrap();
        drop(self.1.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap());
    }
}

/// The app: records what arrives and behaves as told.
pub struct Sink {
    pub address: SocketAddr,
    arrived: Arc<(Mutex<Vec<Arrived>>, Condvar)>,
}

impl Sink {
    /// An app that answers 200.
    pub fn start() -> Self {
        Self::behaving(|_, _| Behaviour::Status(200, ""))
    }

    /// An app that behaves by the number of the request (from 0) and what it is.
    pub fn behaving(behave: impl Fn(usize, &Arrived) -> Behaviour + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let arrived = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (behave, sink) = (Arc::new(behave), Arc::clone(&arrived));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (behave, sink) = (Arc::clone(&behave), Arc::clone(&sink));
                thread::spawn(move || serve(stream, &*behave, &sink));
            }
        });
        Self { address, arrived }
    }

    /// What arrived so far.
    pub fn arrived(&self) -> Vec<Arrived> {
        self.arrived.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many have arrived.
    pub fn wait_for(&self, count: usize) -> Vec<Arrived> {
        let (list, more) = &*self.arrived;
        let list = list.lock().unwrap();
        let (list, waited) = more.wait_timeout_while(list, PATIENCE, |list| list.len() < count).unwrap();
        assert!(!waited.timed_out(), "{} of {count} arrived", list.len());
        list.clone()
    }
}

type Arrivals = (Mutex<Vec<Arrived>>, Condvar);

fn serve(stream: TcpStream, behave: &dyn Fn(usize, &Arrived) -> Behaviour, arrived: &Arrivals) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut stream = stream;
    while let Some((line, headers, body)) = read_message(&mut reader) {
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let request = Arrived { target, headers, body };
        let number = {
            let mut list = arrived.0.lock().unwrap();
            list.push(request.clone());
            list.len() - 1
        };
        arrived.1.notify_all();
        let status = match behave(number, &request) {
            Behaviour::Status(status, headers) => (status, headers),
            Behaviour::Wait(gate) => {
                gate.wait();
                (200, "")
            }
            Behaviour::HangUp => return,
            Behaviour::Silence => {
                // Until the other side gives up.
                stream.read(&mut [0; 1]).ok();
                return;
            }
            Behaviour::Bytes(bytes) => {
                stream.write_all(bytes).ok();
                return;
            }
        };
        let answer = format!("HTTP/1.1 {} X\r\n{}content-length: 0\r\n\r\n", status.0, status.1);
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

// === the client ===

/// What the gateway answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The event's id, of an answer that says it was taken.
    pub fn id(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()["id"].as_str().expect("an id").to_owned()
    }

    pub fn is_duplicate(&self) -> bool {
        self.header("hookwarden-duplicate") == Some("true")
    }

    /// Checks that this is a refusal with this status and code, in the form all refusals have.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.header("hookwarden-error")), (status, Some(code)), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!((&problem["status"], &problem["code"]), (&Value::from(status), &Value::from(code)));
        for member in ["type", "title", "instance"] {
            assert!(problem[member].is_string(), "{member}");
        }
        if matches!(status, 429 | 503) {
            let wait = self.header("retry-after").expect("retry-after").parse::<u64>().expect("seconds");
            assert!(wait >= 1);
        }
    }
}

/// Sends one request on a connection of its own.
pub fn request(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {to}\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding")) {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("connection: close\r\n\r\n");
    exchange(to, &[head.as_bytes(), body].concat())
}

/// Sends bytes as they are and reads one answer.
pub fn exchange(to: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = connect(to);
    // The gateway may answer and close before all is sent.
    stream.write_all(bytes).ok();
    read_answer(stream).expect("an answer")
}

pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

/// Reads one answer; none if the connection ends without.
pub fn read_answer(stream: TcpStream) -> Option<Answer> {
    let mut reader = BufReader::new(stream);
    let (line, headers, body) = read_message(&mut reader)?;
    let status = line.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, headers, body })
}

/// Reads a request or an answer: first line, headers with lower-case names, body.
fn read_message(reader: &mut impl BufRead) -> Option<(String, BTreeMap<String, String>, Vec<u8>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|length| *length > 0)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        let old = headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        assert!(old.is_none(), "twice: {name}");
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    if length.is_some() {
        reader.read_exact(&mut body).ok()?;
    } else if headers.get("connection").is_some_and(|value| value == "close") {
        reader.read_to_end(&mut body).ok()?;
    }
    Some((line.trim_end().to_owned(), headers, body))
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
    let (name, value) = signature(vendor, body);
    gateway.post(&format!("/in/{vendor}"), &[("content-type", "application/json"), (name, &value)], body)
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
