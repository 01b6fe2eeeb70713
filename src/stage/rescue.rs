//! Rescue: the only place where a refusal becomes an answer (RFC 9457). The vendor hears a code and a title; why a
//! request could not be verified, it does not hear.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::{Either, Full};
use tower::{BoxError, Service, ServiceExt, load_shed::error::Overloaded, timeout::error::Elapsed};
use tower_http::body::UnsyncBoxBody;
use uuid::Uuid;

use super::{Answer, Outcome};
use crate::{
    json::write,
    rejection::{Code, Rejection, instance},
};

const ERROR: HeaderName = HeaderName::from_static("hookwarden-error");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Room for a problem's members.
const PROBLEM_BYTES: usize = 256;

/// Where the codes are explained.
const CODES: &str = "https://hookwarden.dev/codes/";

/// The stage; `below` is the rest of the way.
pub async fn rescue<S, R>(mut below: S, request: R) -> Result<Answer, Infallible>
where
    S: Service<R, Response = Response<UnsyncBoxBody<Bytes, BoxError>>, Error = BoxError>,
{
    let answered = match below.ready().await {
        Ok(below) => below.call(request).await,
        Err(error) => Err(error),
    };
    Ok(match answered {
        Ok(answer) => answer.map(Either::Left),
        Err(error) => answer_to(rejection(error)).map(Either::Right),
    })
}

/// A panic's answer; what it said may hold what must not be seen.
pub fn panicked(_: Box<dyn std::any::Any + Send>) -> Response<Full<Bytes>> {
    tracing::error!("a request panicked; it is answered 500, the others go on");
    answer_to(Rejection::new(Code::Internal, "panic"))
}

fn rejection(error: BoxError) -> Rejection {
    if error.is::<Overloaded>() {
        return Rejection::new(Code::Overloaded, "requests_max is reached");
    }
    if error.is::<Elapsed>() {
        return Rejection::new(Code::Overloaded, "request_timeout is over");
    }
    error.downcast().map_or_else(
        |error| {
            tracing::error!(%error, "an error of no known kind");
            Rejection::new(Code::Internal, "an error of no known kind")
        },
        |rejection: Box<Rejection>| *rejection,
    )
}

fn answer_to(rejection: Rejection) -> Response<Full<Bytes>> {
    let instance = instance();
    let (code, status) = (rejection.code, rejection.status());
    let mut body = Vec::with_capacity(PROBLEM_BYTES);
    body.push(b'{');
    let mut member = |name, text: &str| {
        write::name(&mut body, name);
        write::string(&mut body, text);
    };
    member("type", &[CODES, code.as_str()].concat());
    member("title", code.title());
    member("code", code.as_str());
    member("instance", instance.urn().encode_lower(&mut Uuid::encode_buffer()));
    write::name(&mut body, "status");
    body.extend_from_slice(status.as_str().as_bytes());
    body.push(b'}');
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(ERROR, HeaderValue::from_static(code.as_str()));
    if code == Code::MethodNotAllowed {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    let retry_after = rejection.retry_after.or_else(|| {
        // A vendor's own status for limits may be 503.
        (status == StatusCode::SERVICE_UNAVAILABLE).then_some(crate::rejection::RETRY_AFTER)
    });
    if let Some(wait) = retry_after {
        headers.insert(RETRY_AFTER, seconds(wait).into());
    }
    if let Some(limit) = &rejection.limit {
        let wait = seconds(retry_after.unwrap_or_default());
        let policy = format!("\"{}\";q={};w={}", limit.policy, limit.quota, limit.window.as_secs());
        let state = format!("\"{}\";r=0;t={wait}", limit.policy);
        for (name, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
            headers.extend(HeaderValue::try_from(value).ok().map(|value| (name, value)));
        }
    }
    if closes(code) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.extensions_mut().insert(Outcome::Refused {
        code: code.as_str(),
        reason: rejection.reason,
        instance,
    });
    response
}

/// Whole seconds, never too few and never none.
fn seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// After these the connection may still be in the middle of a body, or must not be used again.
fn closes(code: Code) -> bool {
    matches!(code, Code::BodyTimeout | Code::BodyTooLarge | Code::Draining | Code::MalformedRequest)
}
