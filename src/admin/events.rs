//! What is in the inbox, and what operators do about it. Nothing of an event's data is shown.

use bytes::Bytes;
use http::{Method, Response, StatusCode, header::RETRY_AFTER, request::Parts};
use http_body_util::Full;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    allows,
    answer::{Problem, json_response},
    query::Parameters,
    reads,
};
use crate::{
    identity::EventId,
    inbox::{Action, Attempt, EngineError, Filter, Inbox, Status, Stored, StoredDelivery},
};

/// Events in an answer, unless the caller asks for fewer or more.
const LIMIT: usize = 50;
/// Most events in an answer.
const LIMIT_MAX: usize = 500;

/// The names a filter goes by.
const FILTER: [&str; 9] =
    ["id", "source", "type", "subject", "partitionkey", "upstream", "status", "since", "until"];

type Answer = Result<Response<Full<Bytes>>, Problem>;

/// Answers what is asked of `/api/v1/events`; `path` is what follows it.
pub(super) async fn answer(inbox: &Inbox, path: &str, head: &Parts) -> Answer {
    let query = head.uri.query().unwrap_or_default();
    match path.split('/').skip(1).collect::<Vec<_>>().as_slice() {
        [] => {
            reads(head)?;
            list(inbox, query).await
        }
        ["count"] => {
            reads(head)?;
            count(inbox, query).await
        }
        [action @ ("replay" | "discard")] => {
            allows(head, &[Method::POST], "POST")?;
            act_on_all(inbox, act(action), query).await
        }
        [id] => {
            reads(head)?;
            show(inbox, id, query).await
        }
        [id, action @ ("replay" | "discard")] => {
            allows(head, &[Method::POST], "POST")?;
            act_on_one(inbox, act(action), id, query).await
        }
        _ => Err(Problem::not_found("there is nothing at this path")),
    }
}

fn act(name: &str) -> Action {
    if name == "replay" { Action::Replay } else { Action::Discard }
}

async fn list(inbox: &Inbox, query: &str) -> Answer {
    let mut parameters = Parameters::parse(query)?;
    let mut filter = filter(&mut parameters)?;
    let limit = match parameters.take("limit") {
        None => LIMIT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=LIMIT_MAX).contains(limit))
            .ok_or_else(|| bad("limit: expected a number from 1 to 500"))?,
    };
    let mut before = None;
    if let Some(text) = parameters.take("before") {
        // The `next` of the answer before, or a time.
        match text.parse() {
            Ok(place) => before = Some(place),
            Err(_) => filter.until = Some(time("before", &text)?),
        }
    }
    parameters.none_left()?;
    let events = inbox.list(filter, before, limit).await.map_err(unavailable)?;
    let next = events.last().filter(|_| events.len() == limit).map(|event| event.event);
    Ok(json_response(&json!({ "events": events.iter().map(event).collect::<Value>(), "next": next })))
}

async fn count(inbox: &Inbox, query: &str) -> Answer {
    let mut parameters = Parameters::parse(query)?;
    let action = match parameters.take("action").as_deref() {
        Some("replay") => Action::Replay,
        Some("discard") => Action::Discard,
        _ => return Err(bad("action: expected replay or discard")),
    };
    let filter = filter(&mut parameters)?;
    parameters.none_left()?;
    let count = inbox.count(filter, action).await.map_err(unavailable)?;
    Ok(json_response(&json!({ "count": count })))
}

async fn show(inbox: &Inbox, id: &str, query: &str) -> Answer {
    Parameters::parse(query)?.none_left()?;
    let filter = Filter { id: Some(event_id(id)?), ..Filter::default() };
    let events = inbox.list(filter, None, 1).await.map_err(unavailable)?;
    events.first().map(|found| json_response(&event(found))).ok_or_else(unknown)
}

async fn act_on_all(inbox: &Inbox, action: Action, query: &str) -> Answer {
    let mut parameters = Parameters::parse(query)?;
    let filter = filter(&mut parameters)?;
    parameters.none_left()?;
    if filter.status.is_none() {
        return Err(bad("status is missing: say which events are meant, such as status=dead"));
    }
    changed(inbox, action, filter).await
}

async fn act_on_one(inbox: &Inbox, action: Action, id: &str, query: &str) -> Answer {
    let mut parameters = Parameters::parse(query)?;
    let upstream = parameters.take("upstream");
    parameters.none_left()?;
    let filter = Filter { id: Some(event_id(id)?), upstream, ..Filter::default() };
    if inbox.list(filter.clone(), None, 1).await.map_err(unavailable)?.is_empty() {
        return Err(unknown());
    }
    changed(inbox, action, filter).await
}

async fn changed(inbox: &Inbox, action: Action, filter: Filter) -> Answer {
    let changed = inbox.act(action, filter).await.map_err(unavailable)?;
    tracing::info!(?action, changed, "an operator changed deliveries");
    Ok(json_response(&json!({ "changed": changed })))
}

fn filter(parameters: &mut Parameters) -> Result<Filter, Problem> {
    let [id, source, event_type, subject, partition_key, upstream, status, since, until] =
        FILTER.map(|name| parameters.take(name));
    let status = status.map(|text| {
        let expected = "status: expected ready, retrying, delivered, dead or discarded";
        Status::parse(&text).ok_or_else(|| bad(expected))
    });
    Ok(Filter {
        id: id.map(|text| event_id(&text)).transpose()?,
        source,
        event_type,
        subject,
        partition_key,
        upstream,
        status: status.transpose()?,
        since: since.map(|text| time("since", &text)).transpose()?,
        until: until.map(|text| time("until", &text)).transpose()?,
    })
}

fn event_id(text: &str) -> Result<EventId, Problem> {
    EventId::parse(text).ok_or_else(|| bad("id: expected hw1_ and 32 hex digits"))
}

fn time(name: &str, text: &str) -> Result<Timestamp, Problem> {
    text.parse().map_err(|_| bad(format!("{name}: expected a time such as 2026-03-01T12:00:00Z")))
}

fn bad(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_parameter", detail)
}

fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_event", "there is no such event in the inbox")
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unavailable(error: EngineError) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "inbox_unavailable", error.to_string())
        .with(RETRY_AFTER, "1")
}

fn event(event: &Stored) -> Value {
    // What needs a person most comes first.
    let order = [Status::Dead, Status::Retrying, Status::Ready, Status::Delivered, Status::Discarded];
    let has = |status: &Status| event.deliveries.iter().any(|delivery| delivery.status == *status);
    json!({
        "id": event.id.to_string(),
        "source": event.source,
        "type": event.event_type,
        "subject": event.subject,
        "partitionkey": event.partition_key,
        "received_at": stamp(event.received_at),
        "status": order.into_iter().find(has).map(Status::as_str),
        "deliveries": event.deliveries.iter().map(delivery).collect::<Value>(),
    })
}

fn delivery(delivery: &StoredDelivery) -> Value {
    json!({
        "upstream": delivery.upstream,
        "status": delivery.status.as_str(),
        "due_at": delivery.due_at.map(stamp),
        "settled_at": delivery.settled_at.map(stamp),
        "replay": delivery.replay,
        "attempts": delivery.attempts.iter().map(attempt).collect::<Value>(),
    })
}

fn attempt(attempt: &Attempt) -> Value {
    json!({
        "at": stamp(attempt.at),
        "status": attempt.status,
        "error": attempt.error,
        "duration_ms": u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX),
    })
}

fn stamp(at: Timestamp) -> String {
    format!("{at:.3}")
}
