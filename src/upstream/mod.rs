//! The way to the app: one POST over a pooled HTTP/1.1 connection, with every end it can come to told apart by what the
//! app may have seen. A request that was sent is never sent again here; whether it may be is for the caller to say.

#![warn(clippy::wildcard_enum_match_arm)]

mod connect;
mod once;
mod pool;
mod retry;
mod settings;
mod sign;
mod target;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri,
    header::{CONTENT_LENGTH, HOST},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout, timeout_at},
};

use self::{connect::Connection, pool::Pool};
pub use self::{
    connect::{Roots, RootsError},
    once::once,
    settings::{Format, Options, Order, Retry, Settings},
    sign::{Signer, Undecodable},
    target::{Target, TargetError},
};
use crate::{clock::Clock, limit::Budget};

/// Longest time to connect, name resolution and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Most bytes of an answer's body that are read (and dropped). After more the connection is closed; the status counts.
const ANSWER_BODY_BYTES_MAX: usize = 64 << 10;

/// What a caller is told to wait when all of an upstream's `concurrency` is in use.
const SATURATED_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Fields that are added to a request: `Host` and `Content-Length`.
pub const OWN_FIELDS: usize = 2;

/// A request to the app, built and signed; only `Host` and `Content-Length` are added to it.
#[derive(Clone)]
pub struct Outgoing {
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A delivery the app answered with 2xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub status: StatusCode,
    /// Attempts it took, the first included.
    pub attempts: u32,
}

/// Why a delivery failed, by what the app may have seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection, or one that was gone before a byte was written: it surely did not reach the app.
    #[error("no connection to the app")]
    Unreachable,
    /// The app answered neither 2xx nor 429 nor 503. Redirects are not followed.
    #[error("unexpected status code: {}", .0.as_u16())]
    Refused(StatusCode),
    /// The app answered 429 or 503.
    #[error("unexpected status code: {}", .status.as_u16())]
    Busy { status: StatusCode, retry_after: Option<Duration> },
    /// Sent, and no whole answer in time: the outcome is unknown.
    #[error("no answer from the app in time")]
    Timeout,
    /// The connection ended, or what came was not HTTP, after bytes were sent: the outcome is unknown.
    #[error("the connection to the app broke before its answer")]
    Broken,
    /// Not sent: the upstream's own `rate` or `concurrency` is used up.
    #[error("the limit of requests to the app is reached")]
    Saturated { retry_after: Duration },
}

impl Failure {
    /// What metrics call it, and the app's status, if it gave one.
    #[must_use]
    pub fn result(self) -> (&'static str, Option<StatusCode>) {
        match self {
            Self::Unreachable => ("unreachable", None),
            Self::Refused(status) => ("refused", Some(status)),
            Self::Busy { status, .. } => ("busy", Some(status)),
            Self::Timeout => ("timeout", None),
            Self::Broken => ("broken", None),
            Self::Saturated { .. } => ("busy", None),
        }
    }
}

/// One app, its connections and its limits.
pub struct Upstream {
    name: String,
    target: Target,
    authority: HeaderValue,
    uri: Uri,
    roots: Roots,
    options: Options,
    clock: Clock,
    permits: Arc<Semaphore>,
    rate: Arc<Budget>,
    pool: Pool,
}

impl Upstream {
    /// An upstream without connections yet; `name` is that of `[upstreams.NAME]`, for logs.
    #[must_use]
    pub fn open(name: &str, target: Target, roots: Roots, options: Options, clock: Clock) -> Self {
        Self {
            name: name.to_owned(),
            authority: target.authority(),
            uri: target.path().clone().into(),
            target,
            roots,
            permits: Arc::new(Semaphore::new(
                usize::try_from(options.concurrency.get()).unwrap_or(usize::MAX >> 3),
            )),
            rate: Arc::new(Budget::new(options.rate, "upstream", &clock)),
            options,
            clock,
            pool: Pool::default(),
        }
    }

    /// Itself, with the budgets of the one whose place it takes, as far as they are the same.
    #[must_use]
    pub fn sharing(mut self, before: Option<&Self>) -> Self {
        if let Some(before) = before {
            if before.options.concurrency == self.options.concurrency {
                self.permits = Arc::clone(&before.permits);
            }
            if before.options.rate == self.options.rate {
                self.rate = Arc::clone(&before.rate);
            }
        }
        self
    }

    /// The name under `[upstreams]`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Direct delivery: attempts within `retry`, `rate` and `concurrency`, all of them by `deadline`. `out` makes the
    /// request, anew for each that may be sent.
    ///
    /// # Errors
    /// The last attempt's failure, or [`Failure::Saturated`] without an attempt.
    pub async fn deliver(
        &self,
        mut out: impl FnMut() -> Outgoing,
        deadline: Instant,
    ) -> Result<Delivered, Failure> {
        let _permit = self.admit()?;
        let mut attempts = 1;
        loop {
            let failure = match self.attempt(out(), deadline).await {
                Ok(status) => return Ok(Delivered { status, attempts }),
                Err(failure) => failure,
            };
            let wait = retry::wait(failure, attempts, &self.options).ok_or(failure)?;
            if wait >= deadline.saturating_duration_since(Instant::now()) {
                return Err(failure);
            }
            sleep(wait).await;
            attempts += 1;
        }
    }

    /// Waits for a place within `concurrency` and for `rate`: what is delivered from the inbox is paced, not refused.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        while let Err(limited) = self.rate.take() {
            sleep(limited.retry_after.unwrap_or(SATURATED_RETRY_AFTER)).await;
        }
        Some(permit)
    }

    /// Longest time of one attempt.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.options.timeout
    }

    /// One request and its answer, by `deadline` and within `timeout`; `rate` and `concurrency` are the caller's. Dropping
    /// the future closes the connection; the app may have the request by then.
    ///
    /// # Errors
    /// Any [`Failure`] but `Saturated`.
    pub async fn attempt(&self, out: Outgoing, deadline: Instant) -> Result<StatusCode, Failure> {
        let deadline = deadline.min(Instant::now() + self.options.timeout);
        let mut request = self.request(out);
        while let Some(mut connection) = self.pool.take(Instant::now()) {
            // The last answer can be complete a moment before its connection is ready for the next request.
            if !matches!(timeout_at(deadline, connection.ready()).await, Ok(Ok(()))) {
                continue;
            }
            match self.exchange(connection, request, deadline).await {
                Ok(outcome) => return outcome,
                Err(unsent) => request = unsent,
            }
        }
        let connection = self.connect(deadline).await?;
        self.exchange(connection, request, deadline).await.unwrap_or(Err(Failure::Unreachable))
    }

    fn admit(&self) -> Result<SemaphorePermit<'_>, Failure> {
        let saturated = |retry_after| Failure::Saturated { retry_after };
        let permit = self.permits.try_acquire().map_err(|_| saturated(SATURATED_RETRY_AFTER))?;
        self.rate
            .take()
            .map_err(|limited| saturated(limited.retry_after.unwrap_or(SATURATED_RETRY_AFTER)))?;
        Ok(permit)
    }

    fn request(&self, Outgoing { mut headers, body }: Outgoing) -> Request<Full<Bytes>> {
        headers.insert(HOST, self.authority.clone());
        headers.insert(CONTENT_LENGTH, body.len().into());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        request
    }

    async fn connect(&self, deadline: Instant) -> Result<Connection, Failure> {
        let patience = CONNECT_TIMEOUT.min(deadline.saturating_duration_since(Instant::now()));
        let connecting = connect::connect(&self.target, &self.roots, patience);
        let error = match timeout(patience, connecting).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error,
            Err(elapsed) => elapsed.into(),
        };
        tracing::debug!(upstream = self.name, target = %self.target, %error, "no connection to upstream");
        Err(Failure::Unreachable)
    }

    /// Sends and hears the answer out; hands the request back if no byte of it was written.
    async fn exchange(
        &self,
        mut connection: Connection,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Result<StatusCode, Failure>, Request<Full<Bytes>>> {
        let answer = match timeout_at(deadline, connection.try_send_request(request)).await {
            Ok(Ok(answer)) => answer,
            // hyper returns the request exactly if it never began to write it.
            Ok(Err(mut error)) => return error.take_message().map_or(Ok(Err(Failure::Broken)), Err),
            Err(_) => return Ok(Err(Failure::Timeout)),
        };
        let (head, body) = answer.into_parts();
        match timeout_at(deadline, drain(body)).await {
            Ok(Ok(true)) => self.pool.put(connection, Instant::now()),
            Ok(Ok(false)) => {}
            Ok(Err(_)) => return Ok(Err(Failure::Broken)),
            Err(_) => return Ok(Err(Failure::Timeout)),
        }
        Ok(self.judge(head.status, &head.headers))
    }

    fn judge(&self, status: StatusCode, headers: &HeaderMap) -> Result<StatusCode, Failure> {
        match status {
            _ if status.is_success() => Ok(status),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Err(Failure::Busy { status, retry_after: retry::retry_after(headers, &self.clock) })
            }
            _ => Err(Failure::Refused(status)),
        }
    }
}

/// Reads a body to its end: true if it ended within [`ANSWER_BODY_BYTES_MAX`].
async fn drain(mut body: Incoming) -> Result<bool, hyper::Error> {
    let mut left = ANSWER_BODY_BYTES_MAX;
    while let Some(frame) = body.frame().await {
        match left.checked_sub(frame?.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return Ok(false),
        }
    }
    Ok(true)
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// Shows sizes only: the body is the vendor's, the headers hold a signature.
impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("headers", &self.headers.len())
            .field("body_bytes", &self.body.len())
            .finish()
    }
}
