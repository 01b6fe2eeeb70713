//! Each end a delivery can come to, against a small app scripted line by line.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener},
    task::JoinSet,
    time::Instant,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring},
};

use super::{AGENT, Delivered, Failure, Options, Outgoing, Roots, Upstream};
use crate::clock::Clock;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn upstream(url: &str, options: Options) -> Upstream {
    Upstream::open("app", url.parse().unwrap(), Roots::new(None).unwrap(), options, Clock::system())
}

async fn listen(options: Options) -> (TcpListener, Upstream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream(&format!("http://{}/hook?x=1", listener.local_addr().unwrap()), options);
    (listener, upstream)
}

fn outgoing(upstream: &Upstream) -> Outgoing {
    let mut head = upstream.request();
    head.text("webhook-id", "hw1_a");
    Outgoing::new(head, Bytes::from_static(b"{}"))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn quick() -> Options {
    Options { backoff_base: Duration::from_millis(1), ..Options::default() }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    listener.accept().await.unwrap().0
}

/// Whether anybody has connected who was not accepted.
async fn is_deserted(listener: &TcpListener) -> bool {
    poll_fn(|cx| Poll::Ready(listener.poll_accept(cx).is_pending())).await
}

/// Reads one request with the body `{}`.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n{}") {
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the request ended early");
    }
    String::from_utf8(request).unwrap()
}

async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: &str) -> String {
    let request = read(stream).await;
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    request
}

/// What a delivery comes to whose only request is answered by `text`, after which the app closes the connection.
async fn outcome(text: &str, options: Options) -> Result<Delivered, Failure> {
    let (listener, upstream) = listen(options).await;
    let app = async { answer(&mut accept(&listener).await, text).await };
    let out = outgoing(&upstream);
    let (outcome, _) = tokio::join!(upstream.deliver(&out, soon()), app);
    assert!(is_deserted(&listener).await, "sent again");
    outcome
}

#[tokio::test]
async fn a_connection_is_used_again_and_only_host_agent_and_length_are_added() {
    let (listener, upstream) = listen(Options::default()).await;
    let host = listener.local_addr().unwrap();
    let app = async {
        let mut stream = accept(&listener).await;
        let requests = [answer(&mut stream, OK).await, answer(&mut stream, OK).await];
        (requests, stream)
    };
    let out = outgoing(&upstream);
    let deliveries = async { [upstream.deliver(&out, soon()).await, upstream.deliver(&out, soon()).await] };
    let (outcomes, (requests, _stream)) = tokio::join!(deliveries, app);
    assert_eq!(outcomes, [Ok(Delivered { status: StatusCode::OK, attempts: 1 }); 2]);
    let expected = format!(
        "POST /hook?x=1 HTTP/1.1\r\nhost: {host}\r\nuser-agent: {AGENT}\r\n\
         webhook-id: hw1_a\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    assert_eq!(requests, [expected.clone(), expected]);
    let now = Instant::now();
    upstream.pool.put(upstream.pool.take(now).expect("kept"), now);
    assert!(upstream.pool.take(now + Duration::from_secs(4)).is_none(), "idle for too long");
}

#[tokio::test]
async fn as_many_connections_are_kept_as_were_in_use() {
    const AT_ONCE: usize = 100;
    let concurrency = u32::try_from(AT_ONCE).unwrap().try_into().unwrap();
    let (listener, upstream) = listen(Options { concurrency, ..Options::default() }).await;
    let upstream = Arc::new(upstream);
    let deliver = || {
        let upstream = Arc::clone(&upstream);
        async move { upstream.deliver(&outgoing(&upstream), soon()).await }
    };
    let mut streams = Vec::new();
    for round in 1..=2 {
        let deliveries: JoinSet<_> = (0..AT_ONCE).map(|_| deliver()).collect();
        // None is answered, and so free for another, until all have asked.
        for nth in 0..AT_ONCE {
            if round == 1 {
                streams.push(accept(&listener).await);
            }
            read(&mut streams[nth]).await;
        }
        for stream in &mut streams {
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
        assert!(deliveries.join_all().await.iter().all(Result::is_ok), "round {round}");
    }
    assert!(is_deserted(&listener).await);
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let (listener, upstream) = listen(quick()).await;
    drop(listener);
    assert_eq!(upstream.deliver(&outgoing(&upstream), soon()).await, Err(Failure::Unreachable));
}

#[tokio::test]
async fn no_answer_is_a_timeout_and_not_sent_again() {
    let timeout = Duration::from_millis(100);
    let (listener, upstream) = listen(Options { timeout, ..quick() }).await;
    let app = async {
        let mut stream = accept(&listener).await;
        read(&mut stream).await;
        stream
    };
    let out = outgoing(&upstream);
    let (outcome, _stream) = tokio::join!(upstream.deliver(&out, soon()), app);
    assert_eq!(outcome, Err(Failure::Timeout));
    assert!(is_deserted(&listener).await);
}

#[tokio::test]
async fn an_answer_cut_short_is_broken_and_not_sent_again() {
    let cut = ["", "HTTP/1.1 2", "not http\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok"];
    for text in cut {
        assert_eq!(outcome(text, quick()).await, Err(Failure::Broken), "{text}");
    }
}

#[tokio::test]
async fn statuses_are_told_apart() {
    let end = "content-length: 0\r\n\r\n";
    for status in [302, 307, 400, 410, 500] {
        let text = format!("HTTP/1.1 {status} X\r\nlocation: http://127.0.0.1:1/\r\n{end}");
        let refused = Failure::Refused { status: StatusCode::from_u16(status).unwrap(), retry_after: None };
        assert_eq!(outcome(&text, quick()).await, Err(refused));
    }
    for (status, wait) in [(429, None), (429, Some(1)), (503, None)] {
        let wait_line = wait.map_or(String::new(), |secs: u64| format!("retry-after: {secs}\r\n"));
        let busy = Failure::Busy {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: wait.map(Duration::from_secs),
        };
        let text = format!("HTTP/1.1 {status} X\r\n{wait_line}{end}");
        assert_eq!(outcome(&text, quick()).await, Err(busy));
    }
    let no_content = Delivered { status: StatusCode::NO_CONTENT, attempts: 1 };
    assert_eq!(outcome("HTTP/1.1 204 X\r\n\r\n", quick()).await, Ok(no_content));
}

#[tokio::test]
async fn what_the_app_postpones_is_sent_again_if_time_is_left() {
    let (listener, upstream) = listen(quick()).await;
    let app = async {
        let mut stream = accept(&listener).await;
        answer(&mut stream, "HTTP/1.1 503 X\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n").await;
        answer(&mut stream, OK).await;
        answer(&mut stream, "HTTP/1.1 503 X\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n").await;
    };
    let out = outgoing(&upstream);
    let deliveries = async { [upstream.deliver(&out, soon()).await, upstream.deliver(&out, soon()).await] };
    let (outcomes, ()) = tokio::join!(deliveries, app);
    let busy =
        Failure::Busy { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: Some(Duration::from_mins(1)) };
    assert_eq!(outcomes, [Ok(Delivered { status: StatusCode::OK, attempts: 2 }), Err(busy)]);
}

#[tokio::test]
async fn a_kept_connection_the_app_has_closed_costs_nothing() {
    let (listener, upstream) = listen(Options::default()).await;
    let out = outgoing(&upstream);
    let app = async { answer(&mut accept(&listener).await, OK).await };
    let (outcome, _) = tokio::join!(upstream.attempt(&out, soon()), app);
    assert_eq!(outcome, Ok(StatusCode::OK));
    while !upstream.pool.all_closed() {
        tokio::task::yield_now().await;
    }

    let app = async { answer(&mut accept(&listener).await, OK).await };
    let (outcome, _) = tokio::join!(upstream.attempt(&out, soon()), app);
    assert_eq!(outcome, Ok(StatusCode::OK));
    assert!(is_deserted(&listener).await, "one arrival");
}

#[tokio::test]
async fn a_long_answer_counts_but_is_not_read_to_its_end() {
    let (listener, upstream) = listen(Options::default()).await;
    let out = outgoing(&upstream);
    let app = async {
        let mut stream = accept(&listener).await;
        answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await;
        let mut written = 0;
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {
            written += 4096;
        }
        // The connection is closed; what the system takes between the two has its room beside what is read.
        assert!(written < 32 << 20, "{written} bytes");
        answer(&mut accept(&listener).await, OK).await;
    };
    let deliveries = async { [upstream.deliver(&out, soon()).await, upstream.deliver(&out, soon()).await] };
    let (outcomes, ()) = tokio::join!(deliveries, app);
    assert_eq!(outcomes, [Ok(Delivered { status: StatusCode::OK, attempts: 1 }); 2]);
}

#[tokio::test]
async fn concurrency_and_rate_are_refused_before_anything_is_sent() {
    let one = Options { concurrency: 1.try_into().unwrap(), ..Options::default() };
    let (listener, upstream) = listen(one).await;
    let out = outgoing(&upstream);
    let app = async {
        let mut stream = accept(&listener).await;
        read(&mut stream).await;
        let second = upstream.deliver(&out, soon()).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        second
    };
    let (first, second) = tokio::join!(upstream.deliver(&out, soon()), app);
    assert!(first.is_ok());
    assert!(matches!(second, Err(Failure::Saturated { .. })), "{second:?}");

    let rate = "1/h".parse().unwrap();
    let (listener, upstream) = listen(Options { rate, ..Options::default() }).await;
    let app = async { answer(&mut accept(&listener).await, OK).await };
    let (first, _) = tokio::join!(upstream.deliver(&out, soon()), app);
    assert!(first.is_ok());
    let Err(Failure::Saturated { retry_after }) = upstream.deliver(&out, soon()).await else {
        panic!("the rate is used up");
    };
    assert!(retry_after > Duration::from_secs(3500), "{retry_after:?}");
}

#[tokio::test]
async fn a_unix_socket_is_an_app_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let upstream = upstream(&format!("unix:{}:/hook", path.display()), Options::default());
    let app = async { answer(&mut listener.accept().await.unwrap().0, OK).await };
    let out = outgoing(&upstream);
    let (outcome, request) = tokio::join!(upstream.attempt(&out, soon()), app);
    assert_eq!(outcome, Ok(StatusCode::OK));
    assert!(request.starts_with("POST /hook HTTP/1.1\r\n") && request.contains("\r\nhost: localhost\r\n"));
}

#[tokio::test]
async fn https_trusts_its_roots_and_nobody_else() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = certified.signing_key.serialize_der().try_into().unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());

    let roots = Roots::new(Some(certified.cert.pem().as_bytes())).unwrap();
    let trusting = Upstream::open("app", url.parse().unwrap(), roots, Options::default(), Clock::system());
    let app = async {
        let mut stream = acceptor.accept(accept(&listener).await).await.unwrap();
        answer(&mut stream, OK).await
    };
    let out = outgoing(&trusting);
    let (outcome, _) = tokio::join!(trusting.attempt(&out, soon()), app);
    assert_eq!(outcome, Ok(StatusCode::OK));

    let stranger = upstream(&url, Options::default());
    let app = async { acceptor.accept(accept(&listener).await).await.is_err() };
    let (outcome, failed) = tokio::join!(stranger.attempt(&out, soon()), app);
    assert_eq!(outcome, Err(Failure::Unreachable));
    assert!(failed, "nothing was said to a stranger");
}

#[test]
fn a_ca_file_must_hold_certificates() {
    for pem in ["", "not pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(Roots::new(Some(pem.as_bytes())).is_err(), "{pem}");
    }
}
