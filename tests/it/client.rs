//! The vendor's side of the wire: a client that sends bytes and reads answers.

use std::{
    collections::BTreeMap,
    fmt,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use crate::harness::PATIENCE;

/// What the gateway answered.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    fn read(reader: &mut impl BufRead) -> Option<Self> {
        let (line, headers, body) = read_message(reader)?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, headers, body })
    }

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
        if matches!(status, 429 | 502..=504) {
            let wait = self.header("retry-after").expect("retry-after").parse::<u64>().expect("seconds");
            assert!(wait >= 1);
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, String::from_utf8_lossy(&self.body))
    }
}

/// One connection for many requests; it is opened anew after an answer that closed it.
pub struct Client {
    to: SocketAddr,
    open: Option<BufReader<TcpStream>>,
}

impl Client {
    pub fn new(to: SocketAddr) -> Self {
        Self { to, open: None }
    }

    pub fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut reader = self.open.take().unwrap_or_else(|| BufReader::new(connect(self.to)));
        let bytes = [&head(self.to, "POST", path, headers, body.len()), "\r\n"].concat();
        // The gateway may answer and close before all is sent.
        reader.get_mut().write_all(&[bytes.as_bytes(), body].concat()).ok();
        let answer = Answer::read(&mut reader).expect("an answer");
        self.open = (answer.header("connection") != Some("close")).then_some(reader);
        answer
    }
}

/// Sends one request on a connection of its own.
pub fn request(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let head = head(to, method, path, headers, body.len());
    exchange(to, &[head.as_bytes(), b"connection: close\r\n\r\n", body].concat())
}

/// A request's head, without the empty line at its end.
pub fn head(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {to}\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding")) {
        head.push_str(&format!("content-length: {length}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head
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
    Answer::read(&mut BufReader::new(stream))
}

/// An address nobody answers at: a port below those that are given out.
pub fn nobody() -> SocketAddr {
    ([127, 0, 0, 1], 1).into()
}

/// Reads a request or an answer: first line, headers with lower-case names, body.
pub fn read_message(reader: &mut impl BufRead) -> Option<(String, BTreeMap<String, String>, Vec<u8>)> {
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
