//! TLS on both sides, and HTTP/2: by ALPN, and by prior knowledge without TLS.

use std::{
    fs,
    io::{BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
        crypto::ring,
    },
};

use crate::harness::{
    Answer, Config, Gateway, PATIENCE, Sink, approval, connect, eventually, head, read_message, replace,
    send, signature,
};

/// An authority that issues certificates for `localhost`.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Certificate and key as PEM.
type Issued = (String, String);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed"))
    }

    fn issue(&self) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        (params.signed_by(&key, &self.0).expect("signed").pem(), key.serialize_pem())
    }
}

fn parse(issued: &Issued) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from_pem_slice(issued.0.as_bytes()).expect("a certificate");
    (vec![certificate], PrivateKeyDer::from_pem_slice(issued.1.as_bytes()).expect("a key"))
}

/// A client that trusts one authority, and may have a certificate of its own.
fn client(trusted: &Authority, own: Option<&Issued>, protocol: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.0.der().clone()).expect("an authority");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(roots);
    let mut config = match own.map(parse) {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).expect("they fit"),
    };
    config.alpn_protocols = vec![protocol.into()];
    Arc::new(config)
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

type Encrypted = StreamOwned<ClientConnection, TcpStream>;

fn dial(gateway: &Gateway, config: Arc<ClientConfig>) -> Encrypted {
    let connection = ClientConnection::new(config, name()).expect("a client");
    StreamOwned::new(connection, connect(gateway.listen))
}

/// Posts an approval over HTTP/1.1; none if the connection is refused.
fn post(stream: &mut Encrypted, to: SocketAddr, id: &str) -> Option<Answer> {
    let body = approval(id);
    let (name, value) = signature("sendauth", &body);
    let head = head(to, "POST", "/in/sendauth", &[(name, &value)], body.len());
    stream.write_all(&[head.as_bytes(), b"\r\n", &body].concat()).ok()?;
    stream.flush().ok()?;
    let (line, headers, body) = read_message(&mut BufReader::new(stream))?;
    Some(Answer { status: line.split(' ').nth(1)?.parse().ok()?, headers, body })
}

/// Posts an approval over HTTP/2.
async fn post_http2<T>(stream: T, id: &str) -> Value
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    let body = approval(id);
    let (name, value) = signature("sendauth", &body);
    let request = Request::post("https://localhost/in/sendauth").header(name, value);
    let request = request.body(Full::new(Bytes::from(body))).expect("a request");
    let answer = sender.send_request(request).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let body = Limited::new(answer.into_body(), 1 << 16).collect().await.expect("a body").to_bytes();
    serde_json::from_slice(&body).expect("JSON")
}

struct Files {
    folder: tempfile::TempDir,
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(issued: &Issued) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        fs::write(&cert, &issued.0).expect("written");
        fs::write(&key, &issued.1).expect("written");
        Self { folder, cert, key }
    }

    fn config(&self, sink: &Sink, client_ca: Option<&Path>) -> String {
        let ca = client_ca.map_or_else(String::new, |path| format!(", client_ca_file = {path:?}"));
        let server = format!("tls = {{ cert_file = {:?}, key_file = {:?}{ca} }}", self.cert, self.key);
        Config { server: &server, ..Config::to(sink.address) }.text()
    }
}

#[tokio::test]
async fn https_and_both_versions_of_http() {
    let (sink, authority) = (Sink::start(), Authority::new());
    let files = Files::new(&authority.issue());
    let gateway = Gateway::start(&files.config(&sink, None));
    let mut stream = dial(&gateway, client(&authority, None, "http/1.1"));
    post(&mut stream, gateway.listen, "1").expect("an answer").id();
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    // The same connection again.
    post(&mut stream, gateway.listen, "2").expect("an answer").id();

    let stream = tokio::net::TcpStream::connect(gateway.listen).await.expect("connected");
    let connector = TlsConnector::from(client(&authority, None, "h2"));
    let stream = connector.connect(name(), stream).await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let answer = post_http2(stream, "3").await;
    assert_eq!(answer["id"], sink.wait_for(3)[2].id());

    // Neither strangers nor plain HTTP.
    assert!(
        post(&mut dial(&gateway, client(&Authority::new(), None, "http/1.1")), gateway.listen, "4").is_none()
    );
    let mut plain = connect(gateway.listen);
    plain.write_all(b"POST /in/sendauth HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).ok();
    assert!(!answer.starts_with(b"HTTP"));
    assert_eq!(sink.count(), 3);
}

#[tokio::test]
async fn http2_with_prior_knowledge() {
    let sink = Sink::start();
    let gateway = Gateway::start(&Config::to(sink.address).text());
    let stream = tokio::net::TcpStream::connect(gateway.listen).await.expect("connected");
    let answer = post_http2(stream, "1").await;
    assert_eq!(answer["id"], sink.only().id());
    send(&gateway, "sendauth", &approval("2")).id();
}

#[test]
fn a_new_certificate_is_served_without_a_restart() {
    let (sink, before, after) = (Sink::start(), Authority::new(), Authority::new());
    let files = Files::new(&before.issue());
    let gateway = Gateway::start(&files.config(&sink, None));
    let mut open = dial(&gateway, client(&before, None, "http/1.1"));
    post(&mut open, gateway.listen, "1").expect("an answer").id();
    let issued = after.issue();
    // One after the other: while they do not fit each other, the old ones stay.
    replace(&files.cert, &issued.0);
    gateway.logged(|line| {
        line["message"].as_str().is_some_and(|text| text.contains("is not the key of the certificate"))
    });
    post(&mut dial(&gateway, client(&before, None, "http/1.1")), gateway.listen, "2")
        .expect("an answer")
        .id();
    replace(&files.key, &issued.1);
    gateway.logged(|line| line["message"] == "configuration reloaded");
    post(&mut dial(&gateway, client(&after, None, "http/1.1")), gateway.listen, "3").expect("an answer").id();
    assert!(post(&mut dial(&gateway, client(&before, None, "http/1.1")), gateway.listen, "4").is_none());
    // Who is connected stays so.
    post(&mut open, gateway.listen, "5").expect("an answer").id();
    assert_eq!(sink.count(), 4);
}

#[test]
fn with_client_authorities_strangers_are_refused() {
    let (sink, ours, clients, others) = (Sink::start(), Authority::new(), Authority::new(), Authority::new());
    let files = Files::new(&ours.issue());
    let ca = files.folder.path().join("clients.crt");
    fs::write(&ca, clients.0.pem()).expect("written");
    let gateway = Gateway::start(&files.config(&sink, Some(&ca)));
    let connects = |own: Option<&Issued>, id: &str| {
        post(&mut dial(&gateway, client(&ours, own, "http/1.1")), gateway.listen, id).is_some()
    };
    let (known, stranger) = (clients.issue(), others.issue());
    assert!(connects(Some(&known), "1"));
    assert!(!connects(None, "2") && !connects(Some(&stranger), "3"));
    // Another authority takes its place.
    replace(&ca, others.0.pem());
    eventually("the new authority counts", || connects(Some(&stranger), "4"));
    assert!(!connects(Some(&known), "5"));
    assert_eq!(sink.count(), 2);
}

/// An app behind https, that answers 200. Its certificate is for `localhost`.
fn encrypted_app(authority: &Authority) -> SocketAddr {
    let (chain, key) = parse(&authority.issue());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they fit");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            let connection = ServerConnection::new(Arc::clone(&config)).expect("a server");
            let mut reader = BufReader::new(StreamOwned::new(connection, stream));
            while read_message(&mut reader).is_some() {
                reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok();
            }
        }
    });
    address
}

#[test]
fn an_app_behind_https_must_prove_its_name() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    let app = encrypted_app(&authority);
    let ca = folder.path().join("ca.crt");
    fs::write(&ca, authority.0.pem()).expect("written");
    let with_ca = format!("ca_file = {ca:?}");
    for (host, keys, is_trusted) in
        [("localhost", &*with_ca, true), ("localhost", "", false), ("127.0.0.1", &with_ca, false)]
    {
        let text = Config { app: keys, ..Config::to(app) }.text();
        let gateway = Gateway::start(
            &text.replace(&format!("http://{app}"), &format!("https://{host}:{}", app.port())),
        );
        let answer = send(&gateway, "sendauth", &approval("1"));
        if is_trusted {
            answer.id();
            send(&gateway, "sendauth", &approval("2")).id();
        } else {
            answer.refused(502, "upstream_unreachable");
        }
    }
}
