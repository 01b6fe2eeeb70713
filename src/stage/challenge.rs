//! Challenge: what the gateway answers itself, because it is no delivery: the schema of the events it sends, at the
//! address they name. A vendor's handshake for new endpoints has its place here too; none of the built-in ones has one.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header::CONTENT_TYPE};
use http_body_util::Full;
use tower::{BoxError, Service, ServiceExt};

use crate::{event::Intake, gateway::Gateway};

/// The stage; `below` is the rest of the way.
pub async fn challenge<S, B>(
    gateway: &Gateway,
    mut below: S,
    request: Box<Request<Intake<B>>>,
) -> Result<Response<Full<Bytes>>, BoxError>
where
    S: Service<Box<Request<Intake<B>>>, Response = Response<Full<Bytes>>, Error = BoxError>,
{
    let (paths, schema) = &gateway.schema;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if request.body().source.is_some() || !reads || !paths.iter().any(|path| path == request.uri().path()) {
        return below.ready().await?.call(request).await;
    }
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(schema.as_bytes())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/schema+json"));
    Ok(response)
}
