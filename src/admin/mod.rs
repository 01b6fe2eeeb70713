//! The operator's side, on a listener of its own: health, metrics and the API. Nothing here reads a request's body or
//! shows a secret, and nothing of it is reachable through the listener vendors call.

mod answer;
mod events;
mod guard;
mod metrics;
mod query;
#[cfg(test)]
mod tests;
mod view;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, RETRY_AFTER},
    request::Parts,
};
use http_body_util::Full;
use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use self::answer::{Problem, json_response, text};
pub use self::{guard::ApiAccess, query::encoded};
use crate::{
    gateway::{Gateway, Shared},
    rejection::Code,
    server::Fault,
};

/// Longest wait for the outcome of a reload.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers what comes to the admin listener. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admin(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    gateway: Arc<ArcSwap<Gateway>>,
    api: ArcSwap<ApiAccess>,
    reload: mpsc::Sender<ReloadRequest>,
}

/// A reload that the API asks for. Whoever receives it sends back what to tell the operator: what was taken, or the
/// report of what is wrong. Neither may hold a value of the configuration.
#[derive(Debug)]
pub struct ReloadRequest(pub oneshot::Sender<Result<String, String>>);

impl Admin {
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        gateway: Arc<ArcSwap<Gateway>>,
        api: ApiAccess,
        reload: mpsc::Sender<ReloadRequest>,
    ) -> Self {
        Self(Arc::new(Inner { shared, gateway, api: ArcSwap::from_pointee(api), reload }))
    }

    /// From now on, these may use the API: the token may have been replaced.
    pub fn let_in(&self, api: ApiAccess) {
        self.0.api.store(Arc::new(api));
    }

    /// Answers one request; its body is dropped unread. Takes no longer than a reload may, 30 s.
    pub async fn answer<B>(&self, peer: SocketAddr, request: Request<B>) -> Response<Full<Bytes>> {
        let (head, _) = request.into_parts();
        let response = self.0.route(peer, &head).await.unwrap_or_else(Problem::into_response);
        answer::finish(&head.method, response)
    }
}

impl Inner {
    async fn route(&self, peer: SocketAddr, head: &Parts) -> Result<Response<Full<Bytes>>, Problem> {
        if let Some(Fault { reason, status }) = head.extensions.get() {
            return Err(Problem::new(*status, Code::MalformedRequest.as_str(), *reason));
        }
        let path = head.uri.path();
        let api = self.api.load();
        // Probes and scrapers call by any name, and learn and change nothing.
        if !matches!(path, "/livez" | "/readyz" | "/metrics") {
            guard::same_site(head)?;
        }
        if path == "/api" || path.starts_with("/api/") {
            api.check(peer, &head.headers)?;
        }
        match path {
            "/livez" => reads(head).map(|()| text(StatusCode::OK, "ok\n")),
            "/readyz" => reads(head).map(|()| self.readiness(head.uri.query())),
            "/metrics" => {
                reads(head)?;
                Ok(metrics::answer(&self.shared, &self.gateway.load_full(), &head.headers).await)
            }
            "/api/v1/sources" => reads(head).map(|()| json_response(&view::sources(&self.gateway.load()))),
            "/api/v1/rejections" => {
                reads(head).map(|()| json_response(&view::rejections(&self.shared.rejections)))
            }
            "/api/v1/reload" => {
                allows(head, &[Method::POST], "POST")?;
                self.reload().await
            }
            "/" => Err(Problem::not_found(
                "this version has no dashboard; see /api/v1/sources, /metrics, /readyz",
            )),
            _ => match path.strip_prefix("/api/v1/events") {
                Some(path) if path.is_empty() || path.starts_with('/') => match self.shared.inbox() {
                    Some(inbox) => events::answer(inbox, path, head).await,
                    None => Err(Problem::not_found("there is no inbox: `inbox.url` is not set")),
                },
                _ => Err(Problem::not_found("there is nothing at this path")),
            },
        }
    }

    /// `?verbose` adds what was looked at, a line each, as Kubernetes' own `/readyz` does. The configuration is loaded
    /// whenever there is somebody to answer.
    fn readiness(&self, query: Option<&str>) -> Response<Full<Bytes>> {
        let draining = self.shared.is_stopping();
        let inbox = self.shared.inbox().map(|inbox| inbox.health().failing());
        let failing = inbox.as_ref().and_then(Option::as_ref);
        let (status, mut body) = match (draining, failing) {
            (false, None) => (StatusCode::OK, String::from("ok\n")),
            (true, _) => (StatusCode::SERVICE_UNAVAILABLE, String::from("not ready: draining\n")),
            (false, Some(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: inbox: {error}\n")),
        };
        let mut parameters = query.unwrap_or_default().split('&');
        if parameters.any(|parameter| parameter == "verbose" || parameter.starts_with("verbose=")) {
            let sources = self.gateway.load().sources.len();
            body.push_str(&format!("[+] config loaded, sources: {sources}\n"));
            let listening = self.shared.cut_off.get().is_none();
            body.push_str(if listening { "[+] listening\n" } else { "[-] not listening any more\n" });
            match (&inbox, failing) {
                (_, Some(error)) => body.push_str(&format!("[-] inbox: {error}\n")),
                (Some(_), None) => body.push_str("[+] inbox writable\n"),
                (None, None) => {}
            }
            body.push_str(if draining { "[-] draining\n" } else { "[+] not draining\n" });
        }
        text(status, body)
    }

    async fn reload(&self) -> Result<Response<Full<Bytes>>, Problem> {
        let (outcome, told) = oneshot::channel();
        let reload = async {
            self.reload.send(ReloadRequest(outcome)).await.ok()?;
            told.await.ok()
        };
        let unavailable = |detail| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "reload_unavailable", detail).with(RETRY_AFTER, "1")
        };
        match timeout(RELOAD_TIMEOUT, reload).await {
            Ok(Some(Ok(result))) => Ok(json_response(&json!({ "result": result }))),
            Ok(Some(Err(report))) => {
                Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "reload_refused", report))
            }
            Ok(None) => Err(unavailable("the gateway is stopping")),
            Err(_) => {
                Err(unavailable("the reload takes long; its outcome will be in the log and the metrics"))
            }
        }
    }
}

fn reads(head: &Parts) -> Result<(), Problem> {
    allows(head, &[Method::GET, Method::HEAD], "GET, HEAD")
}

fn allows(head: &Parts, methods: &[Method], allow: &'static str) -> Result<(), Problem> {
    if methods.contains(&head.method) {
        return Ok(());
    }
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "see the Allow header");
    Err(problem.with(ALLOW, allow))
}
