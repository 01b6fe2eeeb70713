//! What came of a delivery that was taken.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;

use crate::{
    identity::{EventId, EventType},
    json::write,
};

const EVENT_ID: HeaderName = HeaderName::from_static("hookwarden-event-id");
const DUPLICATE: HeaderName = HeaderName::from_static("hookwarden-duplicate");

/// The answer to a vendor whose delivery was taken.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub events: Vec<Taken>,
}

/// One event of it.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub id: EventId,
    pub event_type: EventType,
    /// `accepted`, `duplicate` or `filtered`.
    pub result: &'static str,
}

/// What an answer tells `observe`, in its extensions.
#[derive(Clone, Debug)]
pub enum Outcome {
    Taken(Vec<Taken>),
    Refused { code: &'static str, reason: Cow<'static, str>, instance: uuid::Uuid },
}

impl Reply {
    /// Of one event.
    #[must_use]
    pub fn of(status: StatusCode, id: EventId, event_type: EventType, result: &'static str) -> Self {
        Self { status, events: vec![Taken { id, event_type, result }] }
    }

    /// `{"id":"hw1_…"}`, or `{"ids":[…]}` where a delivery holds none or several events.
    #[must_use]
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut body = Vec::with_capacity(64);
        if let [event] = self.events.as_slice() {
            body.extend_from_slice(b"{\"id\":");
            write::string(&mut body, &event.id.text());
        } else {
            body.extend_from_slice(b"{\"ids\":[");
            for event in &self.events {
                write::comma(&mut body);
                write::string(&mut body, &event.id.to_string());
            }
            body.push(b']');
        }
        body.push(b'}');
        // RFC 9110 §15.3.5: 204 has no content, nor a length of it.
        let has_content = self.status != StatusCode::NO_CONTENT;
        if !has_content {
            body.clear();
        }
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if has_content {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let [event] = self.events.as_slice()
            && let Ok(id) = HeaderValue::from_str(&event.id.text())
        {
            headers.insert(EVENT_ID, id);
        }
        if !self.events.is_empty() && self.events.iter().all(|event| event.result == "duplicate") {
            headers.insert(DUPLICATE, HeaderValue::from_static("true"));
        }
        response.extensions_mut().insert(Outcome::Taken(self.events));
        response
    }
}
