//! One connection from the TLS handshake to its end: protocols, bounds, time-outs.

use std::{
    convert::Infallible,
    error::Error,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Version};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    Bounds, Inbound, Tls,
    occupancy::{Activity, Place},
    wire::Wire,
};

/// Most bytes of a connection that are read at once, unless its heads may be longer. Where they come in so many, a body is
/// looked at less often, and one of 16 KiB not copied; and so many a connection holds until its next request.
const READ_BYTES_MAX: usize = 32 << 10;

const HTTP2_STREAMS_MAX: u32 = 100;
const HTTP2_STREAM_WINDOW_BYTES: u32 = 64 << 10;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// Resets a client may cause before its connection is closed (CVE-2023-44487, CVE-2025-8671).
const HTTP2_RESETS_MAX: usize = 20;

/// How often a client of HTTP/2 is asked whether it is still there, and how long it may take to say so.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// When the server stops, how long a connection without a request yet may still bring one: whoever has just connected is
/// about to, and need not see it closed.
const NEWCOMER_GRACE: Duration = Duration::from_secs(1);

/// How the connections of a listener are served.
pub(super) struct Terms {
    protocols: auto::Builder<TokioExecutor>,
    tls: Option<Tls>,
    bounds: Bounds,
    /// Longest time until a connection is looked at again: the shortest time-out, so that none is noticed late.
    look_interval: Duration,
}

impl Terms {
    pub(super) fn new(bounds: Bounds, tls: Option<Tls>) -> Self {
        let mut protocols = auto::Builder::new(TokioExecutor::new());
        // hyper's own header time-out runs between requests, too, and not while the protocol is being told: `watch` has
        // both. Its bound of 100 headers is the default, and slower if set. Half-close stays off. A head that ends within
        // what is read at once is held to its bound by `Wire`, a longer one by hyper.
        // Most answers are short: the system takes them with less work in one piece. A long one is copied once for it.
        protocols
            .http1()
            .header_read_timeout(None)
            .max_buf_size(bounds.header_bytes_max.max(READ_BYTES_MAX))
            .writev(false);
        protocols
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
            .max_header_list_size(u32::try_from(bounds.header_bytes_max).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(HTTP2_RESETS_MAX)
            .max_local_error_reset_streams(HTTP2_RESETS_MAX)
            .keep_alive_interval(HTTP2_PING_INTERVAL)
            .keep_alive_timeout(HTTP2_PING_TIMEOUT);
        Self { protocols, tls, look_interval: bounds.header_timeout.min(bounds.idle_timeout), bounds }
    }

    /// Serves one connection to its end, whoever brings it about.
    pub(super) async fn serve<F, Fut, B>(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        place: Place,
        stop: CancellationToken,
        handler: F,
    ) where
        F: Fn(SocketAddr, Request<Inbound>) -> Fut + Send + 'static,
        Fut: Future<Output = Response<B>> + Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let activity = place.activity();
        // Answers are written in one piece; waiting for more to send with them only delays them.
        stream.set_nodelay(true).ok();
        let handle = move |request| handler(peer, request);
        let served = async {
            match &self.tls {
                None => self.watch(stream, activity, stop, handle).await,
                Some(tls) => {
                    // A handshake is not a request: whoever is slow at it makes room.
                    activity.waits();
                    let deadline = Instant::now() + self.bounds.header_timeout;
                    let stream = timeout_at(deadline, tls.accept(stream)).await??;
                    self.watch(stream, activity, stop, handle).await
                }
            }
        };
        tokio::select! {
            biased;
            () = activity.evicted() => tracing::debug!(%peer, "connection closed to make room"),
            ended = served => if let Err(error) = ended {
                tracing::debug!(%peer, %error, "connection ended");
            }
        }
    }

    /// Runs the protocols over a stream, within the time-outs.
    pub(super) async fn watch<T, F, Fut, B>(
        &self,
        stream: T,
        activity: &Arc<Activity>,
        stop: CancellationToken,
        handle: F,
    ) -> Result<(), Box<dyn Error + Send + Sync>>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
        F: Fn(Request<Inbound>) -> Fut,
        Fut: Future<Output = Response<B>> + Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let wire = Wire::new(self.bounds.header_bytes_max);
        let fault = Arc::clone(wire.fault());
        let requests = AtomicU64::new(0);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let number = requests.fetch_add(1, Ordering::Relaxed);
            if let Some((_, fault)) = fault.get().filter(|(faulty, _)| *faulty <= number) {
                request.extensions_mut().insert(*fault);
            }
            let running = activity.begin(request.version() == Version::HTTP_2);
            // In a box: the protocol keeps room for it in every connection, idle ones too.
            let answer = Box::pin(handle(Inbound::of(request)));
            async move {
                let answer = answer.await;
                drop(running);
                Ok::<_, Infallible>(answer)
            }
        });
        let io = TokioIo::new(Observed { stream, activity: Arc::clone(activity), wire });
        let mut connection = pin!(self.protocols.serve_connection(io, service));
        let mut look = pin!(sleep_until(self.next_look(activity)));
        let mut stopping = false;
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => return ended,
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    if activity.is_new() {
                        look.as_mut().reset(Instant::now() + NEWCOMER_GRACE);
                    } else {
                        connection.as_mut().graceful_shutdown();
                    }
                }
                () = look.as_mut() => {
                    if activity.deadline(&self.bounds).is_some_and(|due| due <= Instant::now()) {
                        return Err("timed out waiting for a request".into());
                    }
                    if stopping {
                        connection.as_mut().graceful_shutdown();
                    }
                    look.as_mut().reset(self.next_look(activity));
                }
            }
        }
    }

    /// When a connection is due to be closed, or sooner, to learn in time of a phase that begins later.
    fn next_look(&self, activity: &Activity) -> Instant {
        let latest = Instant::now() + self.look_interval;
        activity.deadline(&self.bounds).map_or(latest, |due| due.min(latest))
    }
}

pin_project! {
    /// A stream whose arriving bytes are told to the [`Activity`] and to the [`Wire`].
    struct Observed<T> {
        #[pin]
        stream: T,
        activity: Arc<Activity>,
        wire: Wire,
    }
}

impl<T: AsyncRead> AsyncRead for Observed<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let filled = buf.filled().len();
        let polled = this.stream.poll_read(cx, buf);
        if buf.filled().len() > filled {
            this.activity.received();
            this.wire.read(&buf.filled()[filled..]);
        } else if polled.is_pending() {
            this.activity.waits();
        }
        polled
    }
}

impl<T: AsyncWrite> AsyncWrite for Observed<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().stream.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().stream.poll_shutdown(cx)
    }
}
