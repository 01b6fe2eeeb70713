//! The app behind the gateway: it records what arrives and behaves as it is told.

use std::{
    collections::BTreeMap,
    fmt,
    io::{BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixListener,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::{
    client::read_message,
    harness::{APP_SECRET, PATIENCE},
};

/// What the app got.
#[derive(Clone)]
pub struct Arrived {
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Arrived {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The event's id.
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers))
    }

    /// Checks the Standard Webhooks signature by the app's secret.
    pub fn verify(&self) {
        assert!(self.is_signed_by(APP_SECRET), "not signed by us");
    }

    /// Whether one of the signatures is by this secret.
    pub fn is_signed_by(&self, secret: &str) -> bool {
        let key = match secret.strip_prefix("whsec_") {
            Some(encoded) => STANDARD.decode(encoded).unwrap(),
            None => secret.as_bytes().to_vec(),
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp")).as_bytes());
        mac.update(&self.body);
        let wanted = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        self.header("webhook-signature").split(' ').any(|one| one == wanted)
    }
}

impl fmt::Debug for Arrived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.target, self.headers, String::from_utf8_lossy(&self.body))
    }
}

/// How the app behaves to one request.
#[derive(Clone)]
pub enum Behaviour {
    /// Answers with this status and these header lines.
    Status(u16, &'static str),
    /// Answers 200 only when the gate is opened.
    Wait(Arc<Gate>),
    /// Answers with this status only when the gate is opened.
    Gated(Arc<Gate>, u16),
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

    pub fn wait(&self) {
        let open = self.0.lock().unwrap();
        drop(self.1.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap());
    }
}

/// The app: records what arrives and behaves as told.
pub struct Sink {
    pub address: SocketAddr,
    arrived: Arc<Arrivals>,
    connections: Arc<(Mutex<Connections>, Condvar)>,
}

/// Who is connected, over TCP.
#[derive(Default)]
struct Connections {
    open: usize,
    /// Who came last.
    last: Option<SocketAddr>,
}

type Arrivals = (Mutex<Vec<Arrived>>, Condvar);

impl Sink {
    /// An app that answers 200.
    pub fn start() -> Self {
        Self::behaving(|_, _| Behaviour::Status(200, ""))
    }

    /// An app that behaves by the number of the request (from 0) and what it is.
    pub fn behaving(behave: impl Fn(usize, &Arrived) -> Behaviour + Send + Sync + 'static) -> Self {
        Self::at(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"), behave)
    }

    /// An app at an address of the test's own.
    pub fn at(
        listener: TcpListener,
        behave: impl Fn(usize, &Arrived) -> Behaviour + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let arrived = Arc::new(Arrivals::default());
        let (behave, sink) = (Arc::new(behave), Arc::clone(&arrived));
        let connections: Arc<(Mutex<Connections>, Condvar)> = Arc::default();
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            while let Ok((stream, peer)) = listener.accept() {
                let (behave, sink, count) = (Arc::clone(&behave), Arc::clone(&sink), Arc::clone(&count));
                let mut connections = count.0.lock().unwrap();
                connections.open += 1;
                connections.last = Some(peer);
                drop(connections);
                thread::spawn(move || {
                    serve(&stream, &*behave, &sink);
                    count.0.lock().unwrap().open -= 1;
                    count.1.notify_all();
                });
            }
        });
        Self { address, arrived, connections }
    }

    /// Waits until all that was sent by those who are gone has been read. Nobody else may be connected.
    pub fn hear_out(&self) {
        let stream = TcpStream::connect(self.address).expect("the app is there");
        let ours = stream.local_addr().ok();
        drop(stream);
        let (connections, changed) = &*self.connections;
        // Connections are accepted in their order: before ours, all others were.
        let busy = |connections: &mut Connections| connections.last != ours || connections.open > 0;
        let waited = changed.wait_timeout_while(connections.lock().unwrap(), PATIENCE, busy).unwrap();
        assert!(!waited.1.timed_out(), "{} connections are open", waited.0.open);
    }

    /// An app on a unix socket, that answers 200. It has no address.
    pub fn on_unix(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let arrived = Arc::new(Arrivals::default());
        let sink = Arc::clone(&arrived);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sink = Arc::clone(&sink);
                thread::spawn(move || serve(&stream, &|_, _| Behaviour::Status(200, ""), &sink));
            }
        });
        Self { address: (Ipv4Addr::UNSPECIFIED, 0).into(), arrived, connections: Arc::default() }
    }

    /// What arrived so far.
    pub fn arrived(&self) -> Vec<Arrived> {
        self.list().clone()
    }

    /// How many arrived so far.
    pub fn count(&self) -> usize {
        self.list().len()
    }

    /// The one that arrived.
    #[track_caller]
    pub fn only(&self) -> Arrived {
        let mut arrived = self.arrived();
        assert_eq!(arrived.len(), 1, "{arrived:?}");
        arrived.remove(0)
    }

    /// The one that arrived last.
    #[track_caller]
    pub fn last(&self) -> Arrived {
        self.list().last().expect("nothing arrived").clone()
    }

    /// Waits until so many have arrived.
    pub fn wait_for(&self, count: usize) -> Vec<Arrived> {
        let (list, waited) =
            self.arrived.1.wait_timeout_while(self.list(), PATIENCE, |list| list.len() < count).unwrap();
        assert!(!waited.timed_out(), "{} of {count} arrived", list.len());
        list.clone()
    }

    fn list(&self) -> MutexGuard<'_, Vec<Arrived>> {
        self.arrived.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve<S>(stream: &S, behave: &dyn Fn(usize, &Arrived) -> Behaviour, arrived: &Arrivals)
where
    for<'a> &'a S: Read + Write,
{
    let mut reader = BufReader::new(stream);
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
        let (status, headers) = match behave(number, &request) {
            Behaviour::Status(status, headers) => (status, headers),
            Behaviour::Wait(gate) => {
                gate.wait();
                (200, "")
            }
            Behaviour::Gated(gate, status) => {
                gate.wait();
                (status, "")
            }
            Behaviour::HangUp => return,
            Behaviour::Silence => {
                // Until the other side gives up.
                stream.read_exact(&mut [0; 1]).ok();
                return;
            }
            Behaviour::Bytes(bytes) => {
                stream.write_all(bytes).ok();
                return;
            }
        };
        let answer = format!("HTTP/1.1 {status} X\r\n{headers}content-length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
