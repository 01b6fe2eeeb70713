//! Dedup: each event goes on once. Copies that come while it is being delivered wait for its outcome and get that;
//! copies that come afterwards are answered at once. A delivery that fails, however it fails, gives the event free.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::timeout_at;
use tower::{BoxError, Layer, Service, ServiceExt};

use super::{Reply, Wrapped, detach::Detach};
use crate::{
    event::{Claimed, Event},
    gateway::Gateway,
    identity::EventId,
    rejection::{Code, Rejection},
    store::{Claim, Lease},
    vendor::Identity,
};

/// By how much a lease outlives the longest delivery.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct Dedup<S> {
    inner: S,
    gateway: Arc<Gateway>,
}

/// Puts [`Dedup`] around the rest of the way.
pub fn layer<S>(gateway: &Arc<Gateway>) -> impl Layer<S, Service = Dedup<S>> + Clone + use<S> {
    let gateway = Arc::clone(gateway);
    tower::layer::layer_fn(move |inner| Dedup { inner, gateway: Arc::clone(&gateway) })
}

impl<S> Service<Event> for Dedup<S>
where
    S: Service<Claimed, Response = Reply, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = Wrapped<Reply, BoxError>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, event: Event) -> Self::Future {
        let inner = self.inner.clone();
        let gateway = Arc::clone(&self.gateway);
        Box::pin(async move {
            let store = &gateway.shared.store;
            let id = match &event.reading().identity {
                Identity::Fixed(id) => *id,
                Identity::Windowed(windowed) => store.windowed_id(windowed, assurance(&event)),
            };
            let key = key(&event, id);
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
                        let deliver = deliver(inner, Claimed::new(event, id), lease);
                        return Detach::new(deliver, &gateway.shared.detached).await;
                    }
                }
            }
        })
    }
}

/// What is claimed: the event, on its way to one app, as far as it is proven. So an unsigned copy does not stand in the
/// way of the signed one, and another app gets the event too.
fn key(event: &Event, id: EventId) -> u128 {
    id.key() ^ event.route().scope ^ assurance(event)
}

/// Keeps what is proven apart from what is not: the one must not touch the other's memory.
fn assurance(event: &Event) -> u128 {
    event.delivery().verification().assurance as u128
}

async fn deliver<S>(inner: S, claimed: Claimed, lease: Lease) -> Result<Reply, BoxError>
where
    S: Service<Claimed, Response = Reply, Error = BoxError>,
{
    let keep = claimed.event().delivery().source().dedup_window;
    match inner.oneshot(claimed).await {
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
