//! Connections that wait for their next request.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::connection::Connection;

/// Longest time a connection may have been idle when it is used again. Node closes idle connections after 5 s and others
/// are no more patient; a request that meets the closing one is lost with its outcome unknown. linkerd uses 3 s, too.
const IDLE_MAX: Duration = Duration::from_secs(3);

/// How often idle connections are looked after, as long as there are any.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The idle connections to one app: with those in use no more than were in use at once, which the upstream's `concurrency` bounds.
#[derive(Debug, Default)]
pub(super) struct Pool(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// The longest idle first.
    idle: VecDeque<Idle>,
    /// Whether somebody looks after them.
    swept: bool,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// The connection used last, if one is open and fresh enough. Closes what is too old.
    pub(super) fn take(&self, now: Instant) -> Option<Connection> {
        let mut kept = lock(&self.0);
        kept.discard_stale(now);
        while let Some(Idle { mut connection, .. }) = kept.idle.pop_back() {
            if connection.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose last answer was read to its end.
    pub(super) fn put(&self, connection: Connection, now: Instant) {
        let mut kept = lock(&self.0);
        kept.discard_stale(now);
        kept.idle.push_back(Idle { connection, since: now });
        if !kept.swept {
            kept.swept = true;
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
    }

    /// Whether the connections kept have all been closed by the app.
    #[cfg(test)]
    pub(super) fn all_closed(&self) -> bool {
        lock(&self.0).idle.iter_mut().all(|idle| !idle.connection.is_quiet())
    }
}

impl Kept {
    fn discard_stale(&mut self, now: Instant) {
        // The oldest stand in front: mostly one is looked at.
        let stale = |idle: &&Idle| now.saturating_duration_since(idle.since) > IDLE_MAX;
        self.idle.drain(..self.idle.iter().take_while(stale).count());
    }
}

/// Closes idle connections that are too old or were closed by the app, until none is left.
async fn sweep(pool: Weak<Mutex<Kept>>) {
    loop {
        sleep(SWEEP_INTERVAL).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut kept = lock(&pool);
        kept.discard_stale(Instant::now());
        kept.idle.retain_mut(|idle| idle.connection.is_quiet());
        if kept.idle.is_empty() {
            kept.swept = false;
            return;
        }
    }
}

fn lock(pool: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}
