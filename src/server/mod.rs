//! The listeners' edge: accepts connections, bounds how many there are, serves HTTP/1.1 and HTTP/2 on one port, with or
//! without TLS, and lets running requests finish when told to stop.

mod body;
mod closing;
mod connection;
mod occupancy;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

use std::{error::Error, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub use self::{
    body::Inbound,
    settings::{Bounds, Settings, TlsSettings},
    tls::{Tls, TlsError},
    wire::Fault,
};
use self::{
    closing::{HANDSHAKE_GRACE, is_of_the_peer, queued, refuse_newcomers},
    connection::Terms,
    occupancy::{Occupancy, Place},
};

/// Wait after a failed accept (such as for want of file descriptors); doubles up to the longest one.
const BACKOFF: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How often a new connection is looked after that found all others busy.
const PLACE_INTERVAL: Duration = Duration::from_millis(10);

/// Serves until `stop` fires, then tells open connections to close, lets running requests finish, and returns when all
/// connections are done. The caller bounds that time; dropping the future closes what is left of the connections.
///
/// The `handler` gets the address of the peer (IPv4 as such, also on an IPv6 socket). Time-outs end at the complete head
/// of a request; body and answer are the handler's to bound. When the peer goes away, the handler's future is dropped.
/// When `connections_max` is reached, the connection without a request for longest is closed; if all are busy, the new
/// one waits.
pub async fn serve<F, Fut, B>(
    listener: TcpListener,
    tls: Option<Tls>,
    bounds: Bounds,
    stop: CancellationToken,
    handler: F,
) where
    F: Fn(SocketAddr, Request<Inbound>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let terms = Arc::new(Terms::new(bounds, tls));
    let occupancy = Occupancy::new(bounds.connections_max);
    let mut connections = JoinSet::new();
    let spawn = |connections: &mut JoinSet<()>, stream, peer: SocketAddr, place| {
        let (terms, stop, handler) = (Arc::clone(&terms), stop.child_token(), handler.clone());
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        connections.spawn(async move { terms.serve(stream, peer, place, stop, handler).await });
    };
    let mut backoff = BACKOFF;
    let mut closes_at = None;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled(), if closes_at.is_none() => {
                refuse_newcomers(&listener);
                closes_at = Some(Instant::now() + HANDSHAKE_GRACE);
            }
            () = sleep_until(closes_at.unwrap_or_else(Instant::now)), if closes_at.is_some() => break,
            Some(ended) = connections.join_next() => if ended.is_err() {
                // Without the panic's message, which may show what was worked on.
                tracing::error!("a connection's task panicked");
            },
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    backoff = BACKOFF;
                    spawn(&mut connections, stream, peer, place(&occupancy).await);
                }
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }
    for (stream, peer) in queued(listener) {
        spawn(&mut connections, stream, peer, place(&occupancy).await);
    }
    while connections.join_next().await.is_some() {}
}

/// Serves one stream without TLS as a listener would: for fuzzing.
///
/// # Errors
///
/// Why the connection ended, if not by its peer.
#[doc(hidden)]
pub async fn serve_stream<T, F, Fut, B>(
    stream: T,
    bounds: Bounds,
    handler: F,
) -> Result<(), Box<dyn Error + Send + Sync>>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Fn(Request<Inbound>) -> Fut,
    Fut: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let place = Occupancy::new(1).enter().ok_or("no place")?;
    Terms::new(bounds, None).watch(stream, place.activity(), CancellationToken::new(), handler).await
}

async fn place(occupancy: &Arc<Occupancy>) -> Place {
    loop {
        match occupancy.enter() {
            Some(place) => return place,
            None => sleep(PLACE_INTERVAL).await,
        }
    }
}
