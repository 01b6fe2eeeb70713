//! The path of a webhook, top to bottom. The request's type changes on its way down, so that a stage in the wrong place
//! does not compile: `Request<Intake>` → `Routed` → `Arrival` → `Verified` → `Event` → `Claimed` → `Reply`.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::Request;
use http_body::Body;
use tower::{
    Layer, Service, ServiceBuilder, layer::layer_fn, limit::GlobalConcurrencyLimitLayer, service_fn,
};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    gateway::Gateway,
    stage::{
        Answer, Reply,
        admit::admit,
        challenge::challenge,
        collect::collect,
        dedup::dedup,
        dispatch::dispatch,
        head::head,
        meter::meter,
        normalize::normalize,
        observe::observe,
        rescue::{panicked, rescue},
        route::route,
        verify::verify,
    },
};

/// The stack of one configuration, made for one request: but for the last stages, which may outlive their caller, it only
/// borrows.
pub fn stack<'g, B>(
    gateway: &'g Arc<Gateway>,
) -> impl Service<(SocketAddr, Request<B>), Response = Answer, Error = Infallible, Future: Send> + Clone + 'g
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
{
    let (arrivals, requests) = (Arc::clone(&gateway.shared.arrivals), Arc::clone(&gateway.shared.requests));
    let owned = Arc::clone(gateway);
    ServiceBuilder::new()
        .layer(around(gateway, observe)) // one log line, one count, one duration
        .layer(around(gateway, |_, below, request| rescue(below, request))) // a refusal becomes an answer, here alone
        .layer(CatchPanicLayer::custom(panicked)) // 500; the process goes on
        .load_shed() // past as many as there may be connections, 503 at once
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(arrivals))
        .timeout(gateway.request_timeout)
        .filter(head) // two readers must not read two requests: 400
        .layer(around(gateway, challenge)) // what is no delivery: the schema
        .map_response(Reply::into_response)
        .filter(route(gateway)) // path, method, media type: 404 405 415
        .filter(admit(gateway)) // allow list, budget of the address: 403 429
        .layer(around(gateway, collect)) // the body, within its bounds: 408 413 503
        .load_shed() // past requests_max, 503 at once; bodies that dawdle do not count
        .layer(GlobalConcurrencyLimitLayer::with_semaphore(requests))
        .filter(verify) // the vendor's? 401
        .layer(around(gateway, normalize)) // one JSON document, 400; its events
        .layer(around(gateway, dedup)) // each once; copies get the first one's answer
        .filter(meter) // the source's own budget: 429
        .service(service_fn(move |claimed| dispatch(Arc::clone(&owned), claimed))) // to the app: 502 503 504
}

/// A stage that wraps the rest of the way: `stage` gets the request and what is below. What is below is asked for room only
/// when the stage calls it, so that nothing holds a place there while its body is awaited.
fn around<'g, S, R, T, E, F, Fut>(
    gateway: &'g Gateway,
    stage: F,
) -> impl Layer<S, Service: Service<R, Response = T, Error = E, Future: Send> + Clone + Send>
where
    S: Clone + Send,
    F: Fn(&'g Gateway, S, R) -> Fut + Clone + Send,
    Fut: Future<Output = Result<T, E>> + Send,
{
    layer_fn(move |below: S| {
        let stage = stage.clone();
        service_fn(move |request| stage(gateway, below.clone(), request))
    })
}
