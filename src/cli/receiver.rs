//! An app to try with: takes forwarded events, verifies them as an app should, and hands them on.

use std::{io, net::Ipv4Addr, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use serde_json::Value;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    clock::Clock,
    scheme::{self, SchemeName, Verifier},
    secret::Secret,
    server::{self, Bounds, Inbound},
};

/// Events that wait to be looked at.
const EVENTS_MAX: usize = 64;
/// Longest body: an event of the longest delivery, with room for what is added.
const BODY_BYTES_MAX: usize = 8 << 20;

/// An app that serves until it is dropped.
pub(super) struct Receiver {
    pub url: String,
    events: mpsc::Receiver<Received>,
    _stop: DropGuard,
}

/// An event that came.
pub(super) struct Received {
    /// The signature is right.
    pub verified: bool,
    /// Of the source that sent it.
    pub source: String,
    pub event: Value,
}

impl Receiver {
    /// Begins to serve on a free loopback port. `secret` is the `whsec_…` the gateway signs with.
    pub(super) async fn start(secret: &str) -> io::Result<Self> {
        let settings = scheme::Settings {
            scheme: Some(SchemeName::StandardWebhooks),
            header_prefix: Some("webhook-".to_owned()),
            ..scheme::Settings::default()
        };
        let secret = Secret::new(None, secret.as_bytes().to_vec());
        let verifier = settings.compile(&[secret], None).map_err(|_| io::ErrorKind::InvalidInput)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}/events", listener.local_addr()?);
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let stop = CancellationToken::new();
        let app = Arc::new((verifier, sender, Clock::system()));
        let handler = move |_: SocketAddr, request| {
            let app = Arc::clone(&app);
            async move {
                let (verifier, sender, clock) = &*app;
                let received = receive(verifier, clock, request).await;
                let status = match &received {
                    Some(Received { verified: true, .. }) => StatusCode::NO_CONTENT,
                    Some(_) => StatusCode::UNAUTHORIZED,
                    None => StatusCode::BAD_REQUEST,
                };
                if let Some(received) = received {
                    // Nobody listens any more: the command is about to end.
                    drop(sender.send(received).await);
                }
                let mut answer = Response::new(Empty::<Bytes>::new());
                *answer.status_mut() = status;
                answer
            }
        };
        let bounds = Bounds::from(&server::Settings::default());
        tokio::spawn(server::serve(listener, None, bounds, stop.clone(), handler));
        Ok(Self { url, events, _stop: stop.drop_guard() })
    }

    /// The next event.
    pub(super) async fn next(&mut self) -> Option<Received> {
        self.events.recv().await
    }

    /// The next event, if it is here already.
    pub(super) fn try_next(&mut self) -> Option<Received> {
        self.events.try_recv().ok()
    }
}

#[expect(clippy::disallowed_methods, reason = "Limited bounds what is collected")]
async fn receive(verifier: &Verifier, clock: &Clock, request: Request<Inbound>) -> Option<Received> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.ok()?.to_bytes();
    let request = scheme::Request {
        headers: &parts.headers,
        method: &parts.method,
        query: parts.uri.query(),
        body: &body,
    };
    let verified = verifier.verify(&request, clock.now()).is_ok();
    let source = parts.headers.get("hookwarden-source").and_then(|value| value.to_str().ok());
    Some(Received {
        verified,
        source: source.unwrap_or_default().to_owned(),
        event: serde_json::from_str(str::from_utf8(&body).ok()?).ok()?,
    })
}

impl Received {
    /// The event's short type: `approval.approved`.
    pub(super) fn event_type(&self) -> &str {
        self.event["data"]["event"].as_str().unwrap_or("?")
    }

    /// `sendauth  approval.approved  verified  hw1_…`
    pub(super) fn line(&self) -> String {
        let verified = if self.verified { "✓ verified" } else { "✗ NOT verified" };
        let id = self.event["id"].as_str().unwrap_or("?");
        format!("{}  {}  {verified}  {id}\n", self.source, self.event_type())
    }
}
