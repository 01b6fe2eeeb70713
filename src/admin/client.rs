//! Asks a running gateway whether it is ready, for container health checks.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header::HOST};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// Longest time for the whole question, connecting included.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Calls `/readyz` on the admin listener; an unspecified address (`0.0.0.0`) means this machine. Takes 2 s at most.
///
/// # Errors
///
/// Why the gateway is not ready, in words for the operator.
pub async fn ready(admin: SocketAddr) -> Result<(), String> {
    match timeout(TIMEOUT, status(admin)).await {
        Ok(Ok(StatusCode::OK)) => Ok(()),
        Ok(Ok(status)) => Err(format!("{admin} is not ready, status code: {}", status.as_u16())),
        Ok(Err(error)) => Err(format!("{admin} cannot be asked: {error}")),
        Err(_) => Err(format!("{admin} did not answer within {} s", TIMEOUT.as_secs())),
    }
}

async fn status(admin: SocketAddr) -> Result<StatusCode, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(admin).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/readyz").header(HOST, admin.to_string()).body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request);
    tokio::pin!(answer, connection);
    let answer = tokio::select! {
        answer = &mut answer => answer?,
        // The connection may end with the very answer that it brought.
        ended = &mut connection => { ended?; answer.await? }
    };
    Ok(answer.status())
}
