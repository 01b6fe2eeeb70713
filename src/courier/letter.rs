//! The request of a stored event, byte for byte as if it were delivered directly, but for the time it is signed at.

use bytes::Bytes;
use http::HeaderValue;
use jiff::Timestamp;

use crate::{
    cloudevent::{Context, STRUCTURED},
    inbox::Due,
    outgoing::{About, JSON, signed},
    source::App,
    upstream::{Format, Outgoing},
};

/// The request, signed as of `now`. None if the event is not what was stored.
pub(super) fn letter(app: &App, due: &Due, now: Timestamp) -> Option<Outgoing> {
    let content = due.content.as_ref()?;
    let context = Context::read(&content.attributes, due.replay).ok()?;
    let data = || content.data.clone().unwrap_or_default();
    let mut fields = app.upstream.request();
    let (content_type, body) = match due.format {
        Format::CloudEvents => (STRUCTURED, Bytes::from(context.structured(&data()))),
        Format::CloudEventsBinary => {
            context.binary(&mut fields, true);
            (JSON, data())
        }
        Format::Raw => {
            context.binary(&mut fields, false);
            let vendor_s = content.content_type.as_ref().and_then(|text| HeaderValue::from_bytes(text).ok());
            (vendor_s.unwrap_or(JSON), content.raw.clone().unwrap_or_default())
        }
    };
    let about = About {
        id: due.id,
        source: &due.source,
        client: &due.client,
        traceparent: &context.attribute("traceparent").unwrap_or_default(),
        content_type: &content_type,
    };
    Some(signed(fields, body, &about, &app.signer, now))
}
