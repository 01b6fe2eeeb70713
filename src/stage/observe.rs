//! Observe: the outermost stage. Notes when a request came and for which source, and tells how it ended: one log line,
//! one count and one duration. Whatever happens inside, a panic included, has become an answer by the time it is here.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Method, Request};
use tokio::time::Instant;
use tower::{Layer, Service};

use super::{Answer, Outcome, Wrapped};
use crate::{
    event::{Intake, Received},
    gateway::{Gateway, Rejected},
    metrics::OfRequest,
    source::Source,
};

/// Longest path, in bytes, that a log line shows of a request that met no source.
const PATH_BYTES_SHOWN: usize = 256;

#[derive(Clone, Debug)]
pub struct Observe<S> {
    inner: S,
    gateway: Arc<Gateway>,
}

/// Puts [`Observe`] around the rest of the way.
pub fn layer<S>(gateway: &Arc<Gateway>) -> impl Layer<S, Service = Observe<S>> + Clone + use<S> {
    let gateway = Arc::clone(gateway);
    tower::layer::layer_fn(move |inner| Observe { inner, gateway: Arc::clone(&gateway) })
}

impl<S, B> Service<(SocketAddr, Request<B>)> for Observe<S>
where
    S: Service<Request<Intake<B>>, Response = Answer, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Wrapped<Answer, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, (peer, request): (SocketAddr, Request<B>)) -> Self::Future {
        let gateway = Arc::clone(&self.gateway);
        let source = gateway.sources.get(request.uri().path()).map(Arc::clone);
        let received = Received { at: gateway.clock().now(), since: Instant::now() };
        let method = method(request.method());
        let path = if source.is_none() { shown(request.uri().path()) } else { String::new() };
        let in_flight = InFlight::begin(&gateway);
        let intake_source = source.clone();
        let answer =
            self.inner.call(request.map(|body| Intake { body, peer, received, source: intake_source }));
        Box::pin(async move {
            let answer = answer.await?;
            drop(in_flight);
            ended(&gateway, source.as_deref(), method, &path, received, &answer);
            Ok(answer)
        })
    }
}

/// Counts a request while it runs, however it ends.
struct InFlight(Arc<Gateway>);

impl InFlight {
    fn begin(gateway: &Arc<Gateway>) -> Self {
        gateway.shared.metrics.http_requests_in_flight.inc();
        Self(Arc::clone(gateway))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.shared.metrics.http_requests_in_flight.dec();
    }
}

fn ended(
    gateway: &Gateway,
    source: Option<&Source>,
    method: &'static str,
    path: &str,
    received: Received,
    answer: &Answer,
) {
    let took = received.since.elapsed();
    let status = answer.status().as_u16();
    let name = source.map_or("", |source| &source.name);
    match source {
        Some(source) => source.metrics.request(method, status, took),
        None => {
            let labels = OfRequest { source: String::new(), method, code: status };
            gateway.shared.metrics.http_requests.get_or_create(&labels).inc();
        }
    }
    let duration_ms = u64::try_from(took.as_micros()).map_or(f64::MAX, |micros| {
        #[expect(clippy::cast_precision_loss, reason = "a duration for people")]
        let micros = micros as f64;
        micros / 1000.0
    });
    match answer.extensions().get::<Outcome>() {
        Some(Outcome::Taken(events)) => {
            for event in events {
                tracing::info!(
                    target: "hookwarden::access",
                    source = name,
                    status,
                    result = event.result,
                    id = %event.id,
                    r#type = event.event_type.as_str(),
                    duration_ms,
                    "request"
                );
            }
        }
        Some(Outcome::Refused { code, reason, instance }) => {
            tracing::info!(
                target: "hookwarden::access",
                source = name,
                status,
                result = "refused",
                code,
                reason = %reason,
                %instance,
                method,
                path,
                duration_ms,
                "request"
            );
            let reason = reason.to_string();
            let source = source.map_or_else(|| Arc::from(""), |source| Arc::clone(&source.name));
            gateway.shared.rejections.push(Rejected { at: received.at, source, code, reason });
        }
        None => {
            tracing::info!(target: "hookwarden::access", source = name, status, method, path, duration_ms, "request");
        }
    }
}

/// A method as a label: a closed set.
fn method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["POST", "GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

fn shown(path: &str) -> String {
    path.chars().take(PATH_BYTES_SHOWN).collect()
}
