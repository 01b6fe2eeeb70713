//! Connections that wait for their next request.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::connect::Connection;

/// Longest time a connection may have been idle when it is used again. Node closes idle connections after 5 s and others
/// are no more patient; a request that meets the closing one is lost with its outcome unknown. linkerd uses 3 s, too.
const IDLE_MAX: Duration = Duration::from_secs(3);

/// Most idle connections that are kept.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// The idle connections to one app, the longest idle first.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Idle>>);

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// The connection used last, if one is open and fresh enough. Closes what is too old.
    pub(super) fn take(&self, now: Instant) -> Option<Connection> {
        let mut idle = self.idle();
        discard_stale(&mut idle, now);
        while let Some(Idle { connection, .. }) = idle.pop() {
            if !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose last answer was read to its end.
    pub(super) fn put(&self, connection: Connection, now: Instant) {
        let mut idle = self.idle();
        discard_stale(&mut idle, now);
        if !connection.is_closed() && idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(Idle { connection, since: now });
        }
    }

    /// Whether the connections kept have all been closed by the app.
    #[cfg(test)]
    pub(super) fn all_closed(&self) -> bool {
        self.idle().iter().all(|idle| idle.connection.is_closed())
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn discard_stale(idle: &mut Vec<Idle>, now: Instant) {
    let stale = idle.partition_point(|idle| now.saturating_duration_since(idle.since) > IDLE_MAX);
    idle.drain(..stale);
}
