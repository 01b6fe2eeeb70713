//! The body of a request on its way in. One that nobody reads to its end (a refusal came first) is taken off the connection
//! all the same: TCP resets what is left unread, and a caller that is still sending would find a broken connection where
//! its answer is.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, header::EXPECT};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{runtime::Handle, time::timeout};

/// Most bytes that are taken of a body nobody wants, and for how long: the caller sees its connection closed after that.
const UNWANTED_BYTES_MAX: u64 = 2 << 20;
const UNWANTED_TIMEOUT: Duration = Duration::from_secs(2);

/// A request's body.
#[derive(Debug)]
pub struct Inbound {
    /// None once it has ended.
    body: Option<Incoming>,
    /// The caller sends it only when it is asked to (RFC 9110 §10.1.1).
    waits: bool,
}

impl Inbound {
    pub(super) fn of(request: Request<Incoming>) -> Request<Self> {
        let waits = request.headers().contains_key(EXPECT);
        request.map(|body| Self { body: Some(body), waits })
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        let unwanted = self.body.take().filter(|body| {
            !self.waits && !body.is_end_stream() && body.size_hint().lower() <= UNWANTED_BYTES_MAX
        });
        if let (Some(body), Ok(runtime)) = (unwanted, Handle::try_current()) {
            runtime.spawn(timeout(UNWANTED_TIMEOUT, discard(body)));
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut left = UNWANTED_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(rest) = left.checked_sub(bytes) else { return };
        left = rest;
    }
}
