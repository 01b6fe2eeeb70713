//! The edge over real sockets: what ends a connection, and what does not.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Bounds, Inbound, Settings, Tls, serve};
#[cfg(any(target_os = "linux", target_os = "android"))]
use super::{queued, refuse_newcomers};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const GET_WAIT: &[u8] = b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n";

pub(super) struct Server {
    pub(super) address: SocketAddr,
    stop: CancellationToken,
    /// A request for `/wait` is answered once there is a permit.
    answers: Arc<Semaphore>,
    /// Gets a permit when a request for `/wait` has come.
    requests: Arc<Semaphore>,
    task: JoinHandle<()>,
}

pub(super) async fn start(bounds: Bounds, tls: Option<Tls>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let (answers, requests) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let handler = {
        let (answers, requests) = (Arc::clone(&answers), Arc::clone(&requests));
        move |_peer: SocketAddr, request: Request<Inbound>| {
            let (answers, requests) = (Arc::clone(&answers), Arc::clone(&requests));
            async move {
                if request.uri().path() == "/wait" {
                    requests.add_permits(1);
                    answers.acquire().await.unwrap().forget();
                }
                let version = format!("{:?}", request.version());
                Response::new(Full::new(Bytes::from(version)))
            }
        }
    };
    let task = tokio::spawn(serve(listener, tls, bounds, stop.clone(), handler));
    Server { address, stop, answers, requests, task }
}

pub(super) fn bounds() -> Bounds {
    Bounds { header_timeout: LONG, idle_timeout: LONG, ..Bounds::from(&Settings::default()) }
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection with a request for `/wait` that is running.
    async fn busy(&self) -> TcpStream {
        let mut stream = self.connect().await;
        send(&mut stream, GET_WAIT).await;
        self.running(1).await;
        stream
    }

    /// Until that many more requests for `/wait` are running.
    async fn running(&self, requests: u32) {
        timeout(LONG, self.requests.acquire_many(requests)).await.unwrap().unwrap().forget();
    }

    async fn stopped(self) {
        timeout(LONG, self.task).await.unwrap().unwrap();
    }
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

/// Reads one answer, told by its body; the connection stays open.
pub(super) async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nHTTP/1.1") {
        let read = timeout(LONG, stream.read_buf(&mut answer)).await.unwrap().unwrap();
        assert_ne!(read, 0, "closed after {:?}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).unwrap()
}

/// Reads until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    // An error is a reset: closed as well.
    timeout(LONG, stream.read_to_end(&mut rest)).await.expect("still open").ok();
    String::from_utf8(rest).unwrap()
}

/// One request over HTTP/2.
pub(super) async fn http2<T>(stream: T) -> (StatusCode, Bytes)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://x/").body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    drop(sender);
    connection.await.unwrap().unwrap();
    (status, body)
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let server = start(Bounds { header_timeout: SHORT, ..bounds() }, None).await;
    let mut silent = server.connect().await;
    // Enough to keep protocol detection waiting, and no more.
    let mut undecided = server.connect().await;
    send(&mut undecided, b"PRI * HTTP/2.0\r\n\r\nSM").await;
    assert_eq!([rest(&mut silent).await, rest(&mut undecided).await], ["", ""]);
}

#[tokio::test]
async fn a_head_that_drips_is_cut_off() {
    let server = start(Bounds { header_timeout: SHORT, ..bounds() }, None).await;
    for requests_before in [0, 1] {
        let mut stream = server.connect().await;
        for _ in 0..requests_before {
            send(&mut stream, GET).await;
            answer(&mut stream).await;
        }
        send(&mut stream, b"GET / HTTP/1.1\r\nx: ").await;
        let mut drops = 0;
        while timeout(Duration::from_millis(20), stream.read_u8()).await.is_err() {
            // Written to a connection just closed, a drop fails; the next read tells.
            stream.write_all(b"x").await.ok();
            drops += 1;
            assert!(drops < 500, "never cut off");
        }
    }
}

#[tokio::test]
async fn a_connection_is_kept_for_the_idle_time_whatever_the_header_time() {
    let server = start(Bounds { header_timeout: SHORT, ..bounds() }, None).await;
    let mut stream = server.connect().await;
    for _ in 0..2 {
        send(&mut stream, GET).await;
        answer(&mut stream).await;
        assert!(timeout(SHORT * 3, stream.read_u8()).await.is_err(), "closed while idle");
    }

    let server = start(Bounds { idle_timeout: SHORT, ..bounds() }, None).await;
    let mut stream = server.connect().await;
    send(&mut stream, GET_WAIT).await;
    assert!(timeout(SHORT * 3, stream.read_u8()).await.is_err(), "closed while a request runs");
    server.answers.add_permits(1);
    answer(&mut stream).await;
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn both_protocols_are_served_on_one_port() {
    let server = start(bounds(), None).await;
    let mut stream = server.connect().await;
    send(&mut stream, GET).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200 OK\r\n"));
    let (status, body) = http2(server.connect().await).await;
    assert_eq!((status, &body[..]), (StatusCode::OK, format!("{:?}", Version::HTTP_2).as_bytes()));
}

#[tokio::test]
async fn a_head_past_its_bounds_is_answered_431() {
    let server = start(bounds(), None).await;
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nlong: {}", "x".repeat(32 << 10));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
    for head in [long, many] {
        let mut stream = server.connect().await;
        send(&mut stream, head.as_bytes()).await;
        let mut status = [0; 12];
        timeout(LONG, stream.read_exact(&mut status)).await.unwrap().unwrap();
        assert_eq!(&status, b"HTTP/1.1 431");
    }
}

#[tokio::test]
async fn who_has_sent_a_request_makes_no_room_before_it_was_read() {
    let server = start(Bounds { connections_max: 2, ..bounds() }, None).await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = server.connect().await;
        send(&mut stream, GET_WAIT).await;
        streams.push(stream);
    }
    server.answers.add_permits(streams.len());
    for stream in &mut streams {
        answer(stream).await;
    }
}

#[tokio::test]
async fn the_longest_idle_connection_makes_room() {
    let server = start(Bounds { connections_max: 3, ..bounds() }, None).await;
    let mut busy = server.busy().await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    // The first to connect is the last to have had a request.
    for stream in [&mut second, &mut first] {
        send(stream, GET).await;
        answer(stream).await;
    }

    let mut third = server.connect().await;
    assert_eq!(rest(&mut second).await, "");
    for stream in [&mut first, &mut third] {
        send(stream, GET_WAIT).await;
    }
    server.running(2).await;

    let mut waiting = server.connect().await;
    send(&mut waiting, GET).await;
    assert!(timeout(SHORT, waiting.read_u8()).await.is_err(), "served beyond the bound");
    server.answers.add_permits(3);
    for stream in [&mut busy, &mut first, &mut third, &mut waiting] {
        // Whichever has been answered may have been closed for `waiting` by now, after its answer.
        answer(stream).await;
    }
}

#[tokio::test]
async fn stopping_closes_the_idle_and_lets_the_running_finish() {
    let server = start(bounds(), None).await;
    let (mut idle, mut running) = (server.connect().await, server.connect().await);
    send(&mut idle, GET).await;
    answer(&mut idle).await;
    send(&mut running, GET_WAIT).await;
    server.running(1).await;
    let mut newcomer = server.connect().await;

    server.stop.cancel();
    assert_eq!(rest(&mut idle).await, "");
    send(&mut newcomer, GET).await;
    answer(&mut newcomer).await;
    assert!(!server.task.is_finished());
    server.answers.add_permits(1);
    assert!(rest(&mut running).await.contains("\r\nconnection: close\r\n"));
    assert!(TcpStream::connect(server.address).await.is_err(), "still listening");
    server.stopped().await;
}

#[tokio::test]
async fn who_waits_for_a_place_when_it_stops_is_served() {
    let server = start(Bounds { connections_max: 1, ..bounds() }, None).await;
    let mut busy = server.busy().await;
    let mut waiting = server.connect().await;
    send(&mut waiting, GET).await;
    assert!(timeout(SHORT, waiting.read_u8()).await.is_err(), "served beyond the bound");
    server.stop.cancel();
    server.answers.add_permits(1);
    for stream in [&mut busy, &mut waiting] {
        assert!(rest(stream).await.starts_with("HTTP/1.1 200"));
    }
    server.stopped().await;
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[tokio::test]
async fn a_listener_that_closes_lets_nobody_new_in_and_loses_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut early = TcpStream::connect(address).await.unwrap();
    refuse_newcomers(&listener);
    assert!(timeout(SHORT, TcpStream::connect(address)).await.is_err(), "somebody new came in");
    let queued = queued(listener);
    assert!(TcpStream::connect(address).await.is_err(), "still listening");
    let [(mut stream, _)] = <[_; 1]>::try_from(queued).unwrap();
    send(&mut early, b"e").await;
    assert_eq!(timeout(LONG, stream.read_u8()).await.unwrap().unwrap(), b'e');
}

#[tokio::test]
async fn stopping_tells_http2_clients_to_go() {
    let server = start(bounds(), None).await;
    let io = TokioIo::new(server.connect().await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://x/wait").body(Empty::<Bytes>::new()).unwrap();
    let response = tokio::spawn(sender.send_request(request));
    server.running(1).await;
    server.stop.cancel();
    server.answers.add_permits(1);
    assert_eq!(response.await.unwrap().unwrap().status(), StatusCode::OK);
    timeout(LONG, connection).await.unwrap().unwrap().unwrap();
    server.stopped().await;
}

#[tokio::test]
async fn dropping_the_server_closes_what_is_left() {
    let server = start(bounds(), None).await;
    let mut running = server.busy().await;
    server.stop.cancel();
    server.task.abort();
    assert_eq!(rest(&mut running).await, "");
}

#[tokio::test]
async fn a_panic_in_the_handler_costs_one_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handler = |_: SocketAddr, request: Request<Inbound>| async move {
        assert!(request.uri().path() != "/wait", "as the test wants it");
        Response::new(Full::new(Bytes::from_static(b"HTTP/1.1")).map_err(|never: Infallible| match never {}))
    };
    tokio::spawn(serve(listener, None, bounds(), CancellationToken::new(), handler));
    let mut stream = TcpStream::connect(address).await.unwrap();
    send(&mut stream, GET_WAIT).await;
    assert_eq!(rest(&mut stream).await, "");
    let mut stream = TcpStream::connect(address).await.unwrap();
    send(&mut stream, GET).await;
    answer(&mut stream).await;
}
