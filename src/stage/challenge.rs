//! Challenge: what the gateway answers itself, because it is no delivery: the schema of the events it sends, at the
//! address they name. A vendor's handshake for new endpoints has its place here too; none of the built-in ones has one.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header::CONTENT_TYPE};
use http_body_util::Full;
use tower::{BoxError, Layer, Service};

use super::Wrapped;
use crate::{event::Intake, gateway::Gateway};

#[derive(Clone, Debug)]
pub struct Challenge<S> {
    inner: S,
    gateway: Arc<Gateway>,
}

/// Puts [`Challenge`] around the rest of the way.
pub fn layer<S>(gateway: &Arc<Gateway>) -> impl Layer<S, Service = Challenge<S>> + Clone + use<S> {
    let gateway = Arc::clone(gateway);
    tower::layer::layer_fn(move |inner| Challenge { inner, gateway: Arc::clone(&gateway) })
}

impl<S, B> Service<Request<Intake<B>>> for Challenge<S>
where
    S: Service<Request<Intake<B>>, Response = Response<Full<Bytes>>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Wrapped<Self::Response, BoxError>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Intake<B>>) -> Self::Future {
        let (paths, schema) = &self.gateway.schema;
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if request.body().source.is_none() && reads && paths.iter().any(|path| path == request.uri().path()) {
            let mut response = Response::new(Full::new(Bytes::copy_from_slice(schema.as_bytes())));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/schema+json"));
            return Box::pin(std::future::ready(Ok(response)));
        }
        Box::pin(self.inner.call(request))
    }
}
