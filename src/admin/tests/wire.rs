//! Over a real socket: HEAD.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::server;

#[tokio::test]
async fn over_the_wire_head_has_no_body() {
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

    stop.cancel();
    serving.await.unwrap();
}
