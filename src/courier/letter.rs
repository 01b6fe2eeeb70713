//! The request of a stored event, byte for byte as if it were delivered directly, but for the time it is signed at.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use jiff::Timestamp;

use crate::{
    cloudevent::{Context, STRUCTURED},
    inbox::{Content, Due},
    outgoing::{About, JSON, signed},
    source::App,
    upstream::{Format, Outgoing},
};

/// The request, signed as of `now`.
pub(super) fn letter(app: &App, due: &Due, content: &Content, now: Timestamp) -> Outgoing {
    let context = Context { attributes: &content.attributes, replay: due.replay };
    let data = || content.data.clone().unwrap_or_default();
    let mut headers = HeaderMap::with_capacity(32);
    let body = match due.format {
        Format::CloudEvents => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(STRUCTURED));
            Bytes::from(context.structured(&data()))
        }
        Format::CloudEventsBinary => {
            headers.insert(CONTENT_TYPE, JSON);
            context.binary(&mut headers, true);
            data()
        }
        Format::Raw => {
            let vendor_s = content.content_type.as_ref().and_then(|text| HeaderValue::from_bytes(text).ok());
            headers.insert(CONTENT_TYPE, vendor_s.unwrap_or(JSON));
            context.binary(&mut headers, false);
            content.raw.clone().unwrap_or_default()
        }
    };
    let about = About {
        id: due.id.to_string(),
        source: due.source.to_string(),
        client: due.client.clone(),
        traceparent: context.attribute("traceparent").unwrap_or_default(),
    };
    signed(headers, body, about, &app.signer, now)
}
