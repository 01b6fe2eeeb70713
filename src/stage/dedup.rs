//! Dedup: each event goes on once. Copies that come while it is being delivered wait for its outcome and get that;
//! copies that come afterwards are answered at once. A delivery that fails, however it fails, gives the event free.

use std::time::Duration;

use tokio::time::timeout_at;
use tower::{BoxError, Service, ServiceExt};

use super::{Reply, detach::Detach};
use crate::{
    config::Delivery,
    event::{Claimed, Event},
    gateway::Gateway,
    identity::EventId,
    rejection::{Code, Rejection},
    store::{Claim, Lease},
    vendor::Identity,
};

/// By how much a lease outlives the longest delivery.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// How long an event that is in the inbox is remembered here too.
const SHORT_CUT: Duration = Duration::from_mins(10);

/// The stage; `inner` is the rest of the way.
pub async fn dedup<S>(gateway: &Gateway, inner: S, event: Event) -> Result<Reply, BoxError>
where
    S: Service<Claimed, Response = Reply, Error = BoxError, Future: Send> + Send + 'static,
{
    let store = &gateway.shared.store;
    let (id, window) = match &event.reading().identity {
        Identity::Fixed(id) => (*id, None),
        Identity::Windowed(windowed) => store.windowed_id(windowed, assurance(&event)),
    };
    let key = id.key() ^ event.scope();
    loop {
        match store.claim(key, gateway.request_timeout + LEASE_MARGIN) {
            Claim::Done => return Ok(duplicate(&event, id)),
            Claim::InFlight(waiter) => {
                let outcome = timeout_at(event.delivery().deadline(), waiter.outcome()).await;
                match outcome {
                    Ok(Some(Ok(()))) => return Ok(duplicate(&event, id)),
                    Ok(Some(Err(why))) => return Err(why.into()),
                    // Its owner vanished: the event is anybody's again.
                    Ok(None) => {}
                    Err(_) => {
                        return Err(Rejection::new(Code::InFlight, "still being delivered").into());
                    }
                }
            }
            Claim::Mine(lease) => {
                if is_stored(gateway, &event, id).await {
                    lease.settle(SHORT_CUT);
                    return Ok(duplicate(&event, id));
                }
                let deliver = deliver(inner, Claimed::new(event, id, window), lease);
                return Detach::new(deliver, &gateway.shared.detached).await;
            }
        }
    }
}

/// Whether the inbox has it, from before this process: a duplicate must not spend the source's budget, which is asked for
/// before the event is stored. Without a budget, storing it tells as much.
async fn is_stored(gateway: &Gateway, event: &Event, id: EventId) -> bool {
    let source = event.delivery().source();
    match gateway.shared.inbox() {
        Some(inbox) if source.delivery == Delivery::Inbox && source.budget.is_some() => {
            inbox.knows(id, event.scope(), source.dedup_window).await.unwrap_or(false)
        }
        _ => false,
    }
}

/// Keeps what is proven apart from what is not: the one must not touch the other's memory.
fn assurance(event: &Event) -> u128 {
    event.delivery().verification().assurance as u128
}

async fn deliver<S>(mut inner: S, claimed: Claimed, lease: Lease) -> Result<Reply, BoxError>
where
    S: Service<Claimed, Response = Reply, Error = BoxError>,
{
    let source = claimed.event().delivery().source();
    let keep = match source.delivery {
        Delivery::Direct => source.dedup_window,
        // The inbox remembers; this memory only answers faster.
        Delivery::Inbox => source.dedup_window.min(SHORT_CUT),
    };
    let delivered = match inner.ready().await {
        Ok(inner) => inner.call(claimed).await,
        Err(error) => Err(error),
    };
    match delivered {
        Ok(reply) => {
            lease.settle(keep);
            Ok(reply)
        }
        Err(error) => {
            if let Some(why) = error.downcast_ref::<Rejection>() {
                lease.release(why.clone());
            }
            Err(error)
        }
    }
}

fn duplicate(event: &Event, id: EventId) -> Reply {
    let source = event.delivery().source();
    let event_type = event.reading().event_type;
    source.metrics.event(event_type, "duplicate");
    Reply::of(source.success_status, id, event_type, "duplicate")
}
