//! One request over a connection of its own: for the commands that call a gateway, not for deliveries.

use std::{future::pending, io, time::Duration};

use bytes::Bytes;
use http::{
    Request, Response,
    header::{CONTENT_LENGTH, HOST},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{Roots, Target, connect::connect};

/// Most bytes of an answer.
const BYTES_MAX: usize = 16 << 20;

/// Sends a request to the target, which gives its URI and `Host`, and reads the whole answer.
///
/// # Errors
///
/// No connection, no HTTP, an answer of more than 16 MiB, or none within `patience`.
#[expect(clippy::disallowed_methods, reason = "Limited bounds what is collected")]
pub async fn once(
    target: &Target,
    roots: &Roots,
    request: Request<Bytes>,
    patience: Duration,
) -> io::Result<Response<Bytes>> {
    let exchange = async {
        let (mut parts, body) = request.into_parts();
        parts.uri = target.path().clone().into();
        parts.headers.insert(HOST, target.authority());
        parts.headers.insert(CONTENT_LENGTH, body.len().into());
        let (stream, _) = connect(target, roots, patience).await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let answer = async {
            let request = Request::from_parts(parts, Full::new(body));
            let (parts, body) = sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
            let body = Limited::new(body, BYTES_MAX).collect().await.map_err(io::Error::other)?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        // What the connection itself comes to, the answer tells.
        let driven = async {
            connection.await.unwrap_or_default();
            pending().await
        };
        tokio::select! {
            answer = answer => answer,
            () = driven => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    };
    timeout(patience, exchange).await.unwrap_or_else(|elapsed| Err(elapsed.into()))
}
