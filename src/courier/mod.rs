//! Couriers deliver what is in the inbox, one an upstream: what is due, under a lease, as many at once and as fast as the
//! upstream may be called, again by its schedule, and each attempt noted. The configuration is the one in use when an
//! attempt begins.

mod attempt;
mod letter;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::attempt::{Attempts, Ended};
use crate::{
    gateway::Gateway,
    inbox::{Desk, Fate, Hatch, Inbox},
    source::App,
};

/// Longest wait between two looks: the clock may be set, and a delivery due earlier than it was.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Wait after a look that failed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// All couriers of an inbox.
#[derive(Clone)]
pub struct Couriers(Arc<Inner>);

struct Inner {
    inbox: Arc<Inbox>,
    gateway: Arc<ArcSwap<Gateway>>,
    /// Upstreams that have one.
    served: Mutex<HashSet<String>>,
    tracker: TaskTracker,
    stop: CancellationToken,
    /// The storage does not last: at the end, all that is due is delivered, as long as the apps take it.
    drain: bool,
}

/// One upstream's courier.
struct Courier {
    upstream: String,
    all: Arc<Inner>,
    hatch: Arc<Hatch>,
    attempts: Arc<Attempts>,
    desk: Desk,
    running: JoinSet<Ended>,
    /// When to look for more.
    look_at: Instant,
    /// The end has begun.
    stopping: bool,
    /// Nothing more is taken.
    closing: bool,
    /// A task died and what it held is held still.
    lost: bool,
}

impl Couriers {
    /// Starts one for each upstream of the configuration in use.
    #[must_use]
    pub fn start(inbox: Arc<Inbox>, gateway: Arc<ArcSwap<Gateway>>, drain: bool) -> Self {
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let couriers =
            Self(Arc::new(Inner { inbox, gateway, served: Mutex::default(), tracker, stop, drain }));
        couriers.reloaded();
        couriers
    }

    /// The configuration in use is another: new upstreams get a courier, those of old ones wait for its return.
    pub fn reloaded(&self) {
        let gateway = self.0.gateway.load();
        let mut served = self.0.served.lock().unwrap_or_else(PoisonError::into_inner);
        for name in gateway.apps.keys() {
            let hatch = self.0.inbox.hatch(name);
            hatch.ring();
            if served.insert(name.clone()) {
                let courier = Courier {
                    upstream: name.clone(),
                    hatch,
                    attempts: Arc::new(Attempts::new(name, &self.0.inbox, &self.0.gateway)),
                    all: Arc::clone(&self.0),
                    desk: Desk::default(),
                    running: JoinSet::new(),
                    look_at: Instant::now(),
                    stopping: false,
                    closing: false,
                    lost: false,
                };
                self.0.tracker.spawn(courier.run());
            }
        }
    }

    /// Finishes what has been taken, as long as the apps take it; the rest stays on the disk.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tracker.close();
        self.0.tracker.wait().await;
    }
}

impl Courier {
    async fn run(mut self) {
        loop {
            let app = self.app();
            self.find();
            if let Some(app) = &app
                && !self.closing
                && !self.lost
                && self.look_at <= Instant::now()
                && self.desk.room() > 0
            {
                self.look(app).await;
            }
            if self.closing && self.running.is_empty() && (self.desk.is_idle() || app.is_none()) {
                return;
            }
            let (can_begin, can_look) =
                (!self.desk.is_idle(), !self.closing && !self.lost && app.is_some() && self.desk.room() > 0);
            tokio::select! {
                // What is most often there first: the others need not be asked, nor a timer be set. None starves: what has
                // ended has begun before, and whether it is time to look is seen each time round.
                biased;
                () = self.all.stop.cancelled(), if !self.stopping => self.stop(),
                Some(ended) = self.running.join_next() => {
                    self.ended(ended.ok());
                    // Ends come together: a sync was theirs.
                    while let Some(ended) = self.running.try_join_next() {
                        self.ended(ended.ok());
                    }
                }
                () = self.hatch.rung(), if !self.closing => self.take(),
                Some((app, permit)) = turn(app), if can_begin => {
                    if let Some(due) = self.desk.begin() {
                        self.running.spawn(Arc::clone(&self.attempts).deliver(app, due, permit));
                    }
                }
                () = sleep_until(self.look_at), if can_look => {}
            }
        }
    }

    /// The app, as it is configured now.
    fn app(&self) -> Option<Arc<App>> {
        self.all.gateway.load().apps.get(&self.upstream).map(Arc::clone)
    }

    async fn look(&mut self, app: &App) {
        let inbox = &self.all.inbox;
        match inbox.due(app.upstream.name(), self.desk.held(), self.desk.room()).await {
            Ok(taken) => {
                let next = taken.next_at.map_or(LOOK_INTERVAL, |at| self.wait_until(at).min(LOOK_INTERVAL));
                let wait = if taken.more { Duration::ZERO } else { next };
                self.look_at = Instant::now() + wait;
                // All is on its way that can be before the end.
                self.closing |= self.stopping && taken.due.is_empty();
                self.desk.take(taken.due);
            }
            Err(error) => {
                tracing::warn!(upstream = self.upstream, %error, "cannot look for what is due");
                self.look_at = Instant::now() + LOOK_AGAIN;
            }
        }
    }

    /// Takes what was handed.
    fn take(&mut self) {
        if !self.lost && self.desk.take_handed(self.hatch.take()) {
            self.look_at = Instant::now();
        }
    }

    /// The end has begun.
    fn stop(&mut self) {
        self.stopping = true;
        self.closing = !self.all.drain;
        self.look_at = Instant::now();
    }

    /// An attempt's end is on the disk; none if its task died.
    fn ended(&mut self, ended: Option<Ended>) {
        let Some(ended) = ended else {
            tracing::error!(
                upstream = self.upstream,
                "an attempt failed by a defect; its event is taken up again"
            );
            self.desk.put_back();
            self.lost = true;
            return;
        };
        if self.desk.end(&ended.due, self.hatch.take()) {
            self.look_at = Instant::now();
        }
        // It is due again some time; or the next of its lane is, now.
        let next = match ended.fate {
            Fate::Retry(at) => Some(self.wait_until(at)),
            Fate::Delivered | Fate::Dead => ended.due.lane.map(|_| Duration::ZERO),
        };
        if let Some(wait) = next {
            self.look_at = self.look_at.min(Instant::now() + wait);
        }
        if self.stopping && ended.fate != Fate::Delivered {
            self.closing = true;
            self.desk.put_back();
        }
    }

    /// Once nothing runs, what is still held is what was lost.
    fn find(&mut self) {
        if self.lost && self.running.is_empty() {
            (self.desk, self.lost) = (Desk::default(), false);
            self.look_at = Instant::now() + LOOK_AGAIN;
        }
    }

    fn wait_until(&self, at: Timestamp) -> Duration {
        Duration::try_from(self.all.inbox.now().duration_until(at)).unwrap_or_default()
    }
}

/// A place at the app.
async fn turn(app: Option<Arc<App>>) -> Option<(Arc<App>, tokio::sync::OwnedSemaphorePermit)> {
    let app = app?;
    let permit = app.upstream.turn().await?;
    Some((app, permit))
}

impl fmt::Debug for Couriers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Couriers").finish_non_exhaustive()
    }
}
