//! The end of a listener, at which nobody is to be lost: a listener that closes resets whoever is in its queue.

use std::{io, net::SocketAddr, time::Duration};

use tokio::net::{TcpListener, TcpStream};

/// Connections in the queue of a listener at most: so many are listened for by tokio.
const QUEUE_MAX: usize = 1024;

/// How long a listener that lets nobody new in waits for those on the way: a round trip to a proxy nearby. Whoever comes
/// meanwhile learns only a second later, when TCP asks again, that the listener is closed; so it is short.
pub(super) const HANDSHAKE_GRACE: Duration = Duration::from_millis(20);

/// Lets nobody new begin to connect; whoever has begun gets into the queue. A later one gets no answer until the listener
/// is closed.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn refuse_newcomers(listener: &TcpListener) {
    use socket2::{SockFilter, SockRef};

    // Classic BPF over the TCP header (Linux, Documentation/networking/filter.rst): a segment with SYN (RFC 9293, section
    // 3.1: the second bit of byte 13) is dropped, any other kept whole. Connections inherit it, and bring no SYN.
    const FLAGS_OFFSET: u32 = 13;
    const SYN: u32 = 0x02;
    const LOAD_BYTE: u16 = 0x30;
    const SKIP_UNLESS_ANY: u16 = 0x45;
    const KEEP_BYTES: u16 = 0x06;
    const FILTER: [SockFilter; 4] = [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_OFFSET),
        SockFilter::new(SKIP_UNLESS_ANY, 0, 1, SYN),
        SockFilter::new(KEEP_BYTES, 0, 0, 0),
        SockFilter::new(KEEP_BYTES, 0, 0, u32::MAX),
    ];
    if let Err(error) = SockRef::from(listener).attach_filter(&FILTER) {
        tracing::debug!(%error, "connections that come while the listener closes may be reset");
    }
}

/// Elsewhere there is no way: one that comes between the last look at the queue and the end is reset.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn refuse_newcomers(_: &TcpListener) {}

/// Who is in the queue of a listener, which is closed then. The system itself is asked, since the runtime hears of them
/// only later.
pub(super) fn queued(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let accepted = (0..QUEUE_MAX).map_while(|_| match listener.accept() {
        Err(error) if is_of_the_peer(&error) => Some(Err(error)),
        Err(_) => None,
        Ok((stream, peer)) => Some(
            stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream))
                .map(|stream| (stream, peer)),
        ),
    });
    accepted.filter_map(Result::ok).collect()
}

/// Whether an accept failed because its peer was gone already.
pub(super) fn is_of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
