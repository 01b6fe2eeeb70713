//! One attempt, from the request to its note on the disk.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::StatusCode;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep},
};

use super::letter::letter;
use crate::{
    gateway::Gateway,
    inbox::{Attempt, Due, Ending, Fate, Inbox, fate},
    metrics::RouteMetrics,
    source::App,
    upstream::Failure,
};

/// Wait before an end is written again that the disk did not take.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// Makes attempts for one upstream.
pub(super) struct Attempts {
    upstream: String,
    inbox: Arc<Inbox>,
    gateway: Arc<ArcSwap<Gateway>>,
    /// By source: as many as have ever been configured.
    routes: Mutex<HashMap<Arc<str>, Arc<RouteMetrics>>>,
}

/// An attempt whose end is on the disk.
pub(super) struct Ended {
    pub due: Due,
    pub fate: Fate,
}

/// How an attempt went.
struct Outcome {
    ending: Ending,
    /// As metrics call it; none if it was not sent.
    result: Option<&'static str>,
    status: Option<u16>,
    error: Option<String>,
}

impl Attempts {
    pub(super) fn new(upstream: &str, inbox: &Arc<Inbox>, gateway: &Arc<ArcSwap<Gateway>>) -> Self {
        let (inbox, gateway) = (Arc::clone(inbox), Arc::clone(gateway));
        Self { upstream: upstream.to_owned(), inbox, gateway, routes: Mutex::default() }
    }

    /// Delivers, and notes what came of it.
    pub(super) async fn deliver(
        self: Arc<Self>,
        app: Arc<App>,
        due: Due,
        permit: OwnedSemaphorePermit,
    ) -> Ended {
        let (at, began) = (self.inbox.now(), Instant::now());
        let (outcome, fate) = match letter(&app, &due, at) {
            Some(out) => {
                let answer = app.upstream.attempt(&out, began + app.upstream.timeout()).await;
                let outcome = judge(answer);
                let fate = fate(outcome.ending, due.tries, &app.schedule, fastrand::f64(), self.inbox.now());
                (outcome, fate)
            }
            None => (self.damaged(), Fate::Dead),
        };
        drop(permit);
        let took = began.elapsed();
        let attempt = Attempt { at, status: outcome.status, error: outcome.error.clone(), took };
        // In a lane, the next waits for it.
        let urgent = due.lane.is_some();
        // Until it is written the delivery is held: nobody delivers it again.
        while let Err(error) = self.inbox.ended(due.key, attempt.clone(), fate, urgent).await {
            tracing::debug!(%error, id = %due.id, "the end of an attempt is not on the disk yet");
            sleep(WRITE_AGAIN).await;
        }
        self.tell(&due, &outcome, fate, took);
        Ended { due, fate }
    }

    fn damaged(&self) -> Outcome {
        self.gateway.load().shared.metrics.inbox_damaged.inc();
        let error = Some("damaged on the disk".to_owned());
        Outcome { ending: Ending::Gone, result: None, status: None, error }
    }

    fn tell(&self, due: &Due, outcome: &Outcome, fate: Fate, took: Duration) {
        let gateway = self.gateway.load();
        let source = gateway.source_named(&due.source);
        let metrics = self.route(&gateway, &due.source);
        if let Some(result) = outcome.result {
            metrics.delivered(result, outcome.status, took);
        }
        let now = self.inbox.now();
        let said =
            outcome.error.clone().or_else(|| outcome.status.map(|status| format!("status code: {status}")));
        if let Some(source) = source {
            source.last.ended(now, fate == Fate::Delivered, said.unwrap_or_default());
            if fate == Fate::Dead
                && let Ok(event_type) = due.event_type.parse()
            {
                source.metrics.event(event_type, "dead_letter");
            }
        }
        let (id, upstream) = (due.id, self.upstream.as_str());
        let (source, tries) = (&*due.source, due.tries + 1);
        let error = outcome.error.as_deref().unwrap_or_default();
        match fate {
            Fate::Delivered => {
                // When an operator has it replayed says nothing of how long events take.
                if !due.replay {
                    let waited = Duration::try_from(due.received_at.duration_until(now)).unwrap_or_default();
                    metrics.reached(waited);
                }
                tracing::debug!(%id, source, upstream, tries, "delivered from the inbox");
            }
            Fate::Retry(at) => {
                tracing::info!(%id, source, upstream, tries, error, next = %at, "not delivered from the inbox; it is tried again");
            }
            Fate::Dead => {
                tracing::warn!(%id, source, upstream, tries, error, "a dead letter: it is not tried again unless it is replayed");
            }
        }
    }

    fn route(&self, gateway: &Gateway, source: &Arc<str>) -> Arc<RouteMetrics> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(RouteMetrics::new(&gateway.shared.metrics, source, &self.upstream));
        Arc::clone(routes.entry(Arc::clone(source)).or_insert_with(new))
    }
}

fn judge(answer: Result<StatusCode, Failure>) -> Outcome {
    let failure = match answer {
        Ok(status) => {
            let status = Some(status.as_u16());
            return Outcome { ending: Ending::Delivered, result: Some("success"), status, error: None };
        }
        Err(failure) => failure,
    };
    let ending = match failure {
        // RFC 9110 §15.5.11: likely for good. Standard Webhooks: stop sending.
        Failure::Refused { status: StatusCode::GONE, .. } => Ending::Gone,
        Failure::Refused { retry_after, .. } | Failure::Busy { retry_after, .. } => {
            Ending::Failed { retry_after }
        }
        Failure::Saturated { retry_after } => Ending::Failed { retry_after: Some(retry_after) },
        Failure::Timeout | Failure::Unreachable | Failure::Broken => Ending::Failed { retry_after: None },
    };
    let (result, status) = failure.result();
    let status = status.map(|status| status.as_u16());
    Outcome { ending, result: Some(result), status, error: Some(failure.to_string()) }
}
