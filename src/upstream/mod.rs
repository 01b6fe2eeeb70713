//! The way to the app: one POST over a pooled HTTP/1.1 connection, with every end it can come to told apart by what the
//! app may have seen. A request that was sent is never sent again here; whether it may be is for the caller to say.

#![warn(clippy::wildcard_enum_match_arm)]

mod answer;
mod connect;
mod connection;
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
use http::StatusCode;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::{Instant, sleep, timeout, timeout_at},
};

pub use self::{
    connect::{Roots, RootsError},
    once::once,
    settings::{Format, Options, Order, Retry, Settings},
    sign::{Signer, Undecodable},
    target::{Target, TargetError},
};
use self::{
    connection::{Answer, Connection, Fault, Pieces},
    pool::Pool,
};
use crate::{clock::Clock, fields::Fields, limit::Budget};

const AGENT: &str = concat!("hookwarden/", env!("CARGO_PKG_VERSION"));

/// Longest time to connect, name resolution and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Room for a request: for its head, and for most bodies.
const REQUEST_BYTES: usize = 4 << 10;

/// What a caller is told to wait when all of an upstream's `concurrency` is in use.
const SATURATED_RETRY_AFTER: Duration = Duration::from_secs(1);

/// A request to the app, built and signed.
pub struct Outgoing {
    /// The head, and the body behind it where there was room: most go out in one piece.
    head: Fields,
    /// The body, if it is not there.
    body: Bytes,
}

impl Outgoing {
    /// A request that begins as [`Upstream::request`] made it; how long the body is, is added.
    #[must_use]
    pub fn new(mut head: Fields, body: Bytes) -> Self {
        head.text("content-length", itoa::Buffer::new().format(body.len()));
        let body = if head.end(&body) { Bytes::new() } else { body };
        Self { head, body }
    }
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
    #[error("unexpected status code: {}", .status.as_u16())]
    Refused { status: StatusCode, retry_after: Option<Duration> },
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
            Self::Refused { status, .. } => ("refused", Some(status)),
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
    /// The first lines of every request.
    opening: String,
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
            opening: opening(&target),
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

    /// Direct delivery: attempts within `retry`, `rate` and `concurrency`, all of them by `deadline`.
    ///
    /// # Errors
    /// The last attempt's failure, or [`Failure::Saturated`] without an attempt.
    pub async fn deliver(&self, out: &Outgoing, deadline: Instant) -> Result<Delivered, Failure> {
        let _permit = self.admit()?;
        let mut attempts = 1;
        loop {
            let failure = match self.attempt(out, deadline).await {
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

    /// A request to this app, to which fields may be added.
    #[must_use]
    pub fn request(&self) -> Fields {
        Fields::behind(&self.opening, REQUEST_BYTES)
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
    pub async fn attempt(&self, out: &Outgoing, deadline: Instant) -> Result<StatusCode, Failure> {
        let now = Instant::now();
        let deadline = deadline.min(now + self.options.timeout);
        let request = [out.head.as_bytes(), &out.body];
        let answer = timeout_at(deadline, async {
            while let Some(connection) = self.pool.take(now) {
                match self.exchange(connection, request).await {
                    Err(Fault::Unsent) => {}
                    outcome => return outcome,
                }
            }
            // In a box: it is long, and seldom needed.
            let connection = Box::pin(self.connect(deadline)).await;
            let connection = connection.map_err(|Unreachable| Fault::Unsent)?;
            self.exchange(connection, request).await
        });
        match answer.await {
            Ok(Ok(answer)) => self.judge(&answer),
            Ok(Err(Fault::Unsent)) => Err(Failure::Unreachable),
            Ok(Err(Fault::Broken)) => Err(Failure::Broken),
            Err(_) => Err(Failure::Timeout),
        }
    }

    fn admit(&self) -> Result<SemaphorePermit<'_>, Failure> {
        let saturated = |retry_after| Failure::Saturated { retry_after };
        let permit = self.permits.try_acquire().map_err(|_| saturated(SATURATED_RETRY_AFTER))?;
        self.rate
            .take()
            .map_err(|limited| saturated(limited.retry_after.unwrap_or(SATURATED_RETRY_AFTER)))?;
        Ok(permit)
    }

    async fn connect(&self, deadline: Instant) -> Result<Connection, Unreachable> {
        let patience = CONNECT_TIMEOUT.min(deadline.saturating_duration_since(Instant::now()));
        let connecting = connect::connect(&self.target, &self.roots, patience);
        let error = match timeout(patience, connecting).await {
            Ok(Ok((stream, plain))) => return Ok(Connection::new(stream, plain)),
            Ok(Err(error)) => error,
            Err(elapsed) => elapsed.into(),
        };
        tracing::debug!(upstream = self.name, target = %self.target, %error, "no connection to upstream");
        Err(Unreachable)
    }

    /// Sends and hears the answer out; keeps the connection if it can be used again.
    async fn exchange(&self, mut connection: Connection, request: Pieces<'_>) -> Result<Answer, Fault> {
        let answer = connection.exchange(request).await?;
        if answer.reusable {
            self.pool.put(connection, Instant::now());
        }
        Ok(answer)
    }

    fn judge(&self, answer: &Answer) -> Result<StatusCode, Failure> {
        let status = answer.status;
        if status.is_success() {
            return Ok(status);
        }
        let wait = answer.retry_after.as_deref();
        let retry_after = wait.and_then(|text| retry::retry_after(text, &self.clock));
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Failure::Busy { status, retry_after }
            }
            _ => Failure::Refused { status, retry_after },
        })
    }
}

/// There is no connection.
struct Unreachable;

fn opening(target: &Target) -> String {
    let authority = target.authority();
    // Unwrap safety: a target is visible ASCII.
    let host = authority.to_str().expect("visible ASCII");
    format!("POST {} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {AGENT}\r\n", target.path())
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
            .field("head", &self.head)
            .field("body_apart_bytes", &self.body.len())
            .finish()
    }
}
