//! Over real sockets: HEAD, and the health check's client.

use std::sync::atomic::Ordering;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::server;

#[tokio::test]
async fn over_the_wire_head_has_no_body_and_health_checks_learn_why() {
    let desk = desk(ApiAccess::Off);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (admin, stop) = (desk.admin.clone(), CancellationToken::new());
    let bounds = server::Bounds::from(&server::Settings::default());
    let handler = move |peer, request| {
        let admin = admin.clone();
        async move { admin.answer(peer, request).await }
    };
    let serving = tokio::spawn(server::serve(listener, None, bounds, stop.clone(), handler));

    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"HEAD /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert!(answer.contains("content-length: 3\r\n"), "{answer}");

    assert_eq!(client::ready(address).await, Ok(()));
    desk.shared.stopping.store(true, Ordering::Relaxed);
    assert!(client::ready(address).await.unwrap_err().contains("status code: 503"));
    stop.cancel();
    serving.await.unwrap();
    assert!(client::ready(address).await.unwrap_err().contains("cannot be asked"));
}

#[tokio::test(start_paused = true)]
async fn a_health_check_does_not_wait_for_long() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = client::ready(silent.local_addr().unwrap()).await.unwrap_err();
    assert!(error.contains("within 2 s"), "{error}");
}
