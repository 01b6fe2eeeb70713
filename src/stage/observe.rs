//! Observe: the outermost stage. Notes when a request came and for which source, and tells how it ended: one log line,
//! one count and one duration. Whatever happens inside, a panic included, has become an answer by the time it is here.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use http::{HeaderValue, Method, Request, Version, header::CONNECTION};
use tokio::time::Instant;
use tower::{Service, ServiceExt};

use super::{Answer, Outcome};
use crate::{
    event::{Intake, Received},
    gateway::{Gateway, Rejected},
    metrics::OfRequest,
    source::Source,
};

/// Longest path, in bytes, that a log line shows of a request that met no source.
const PATH_BYTES_SHOWN: usize = 256;

/// The stage; `below` is the rest of the way.
pub async fn observe<S, B>(
    gateway: &Gateway,
    mut below: S,
    (peer, request): (SocketAddr, Request<B>),
) -> Result<Answer, Infallible>
where
    S: Service<Request<Intake<B>>, Response = Answer, Error = Infallible>,
{
    let source = gateway.sources.get(request.uri().path()).map(Arc::clone);
    let received = Received { at: gateway.clock().now(), since: Instant::now() };
    let sighting = Sighting {
        gateway,
        source: source.clone(),
        method: method(request.method()),
        path: if source.is_none() { shown(request.uri().path()) } else { String::new() },
        received,
        answered: false,
    };
    sighting.gateway.shared.metrics.http_requests_in_flight.inc();
    // HTTP/2 has no such field.
    let is_http1 = request.version() != Version::HTTP_2;
    let request = request.map(|body| Intake { body, peer, received, source });
    let mut answer = below.ready().await?.call(request).await?;
    if is_http1 && gateway.shared.is_stopping() {
        // So that nobody finds a connection closed that was still good a moment ago.
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    sighting.answered(&answer);
    Ok(answer)
}

/// A request that is being worked on. Its end is told even if nobody waits for the answer any more.
struct Sighting<'g> {
    gateway: &'g Gateway,
    source: Option<Arc<Source>>,
    method: &'static str,
    path: String,
    received: Received,
    answered: bool,
}

/// What a request is counted under whose caller went away before the answer: nginx' custom, no status of HTTP.
const GONE: u16 = 499;

impl Drop for Sighting<'_> {
    fn drop(&mut self) {
        self.gateway.shared.metrics.http_requests_in_flight.dec();
        if !self.answered {
            let duration_ms = self.count(GONE);
            let source = self.source_name();
            tracing::info!(target: "hookwarden::access", source, status = GONE, result = "gone", duration_ms, "request");
        }
    }
}

impl Sighting<'_> {
    fn source_name(&self) -> &str {
        self.source.as_ref().map_or("", |source| &source.name)
    }

    /// Counts the request; how long it took, in milliseconds.
    fn count(&self, status: u16) -> f64 {
        let took = self.received.since.elapsed();
        match &self.source {
            Some(source) => source.metrics.request(self.method, status, took),
            None => {
                let labels = OfRequest { source: String::new(), method: self.method, code: status };
                self.gateway.shared.metrics.http_requests.get_or_create(&labels).inc();
            }
        }
        // To the microsecond: digits beyond say nothing.
        f64::from(u32::try_from(took.as_micros()).unwrap_or(u32::MAX)) / 1000.0
    }

    fn answered(mut self, answer: &Answer) {
        self.answered = true;
        let status = answer.status().as_u16();
        let duration_ms = self.count(status);
        let (source, method) = (self.source_name(), self.method);
        let path = Some(self.path.as_str()).filter(|path| !path.is_empty());
        match answer.extensions().get::<Outcome>() {
            Some(Outcome::Taken(events)) => {
                for event in events {
                    tracing::info!(
                        target: "hookwarden::access",
                        source,
                        status,
                        result = event.result,
                        id = &*event.id.text(),
                        r#type = event.event_type.as_str(),
                        duration_ms,
                        "request"
                    );
                }
            }
            Some(Outcome::Refused { code, reason, instance }) => {
                tracing::info!(
                    target: "hookwarden::access",
                    source,
                    status,
                    result = "refused",
                    code,
                    reason = &**reason,
                    %instance,
                    method,
                    path,
                    duration_ms,
                    "request"
                );
                let reason = reason.to_string();
                let rejected = Rejected { at: self.received.at, source: source.into(), code, reason };
                self.gateway.shared.rejections.push(rejected);
            }
            None => {
                tracing::info!(target: "hookwarden::access", source, status, method, path, duration_ms, "request");
            }
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
