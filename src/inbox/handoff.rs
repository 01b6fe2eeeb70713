//! From the writer's hand into the couriers': what has just been stored and is due need not be read back from the disk. What
//! does not fit here is found there.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{
    engine::{Write, Written},
    record::{Due, Key, Record},
};

/// Most deliveries that wait for a courier, and most bytes of theirs.
const HANDED_MAX: usize = 256;
const HANDED_BYTES_MAX: usize = 4 << 20;

/// One place for each upstream, by its name.
#[derive(Debug, Default)]
pub(super) struct Handoff(Mutex<HashMap<String, Arc<Hatch>>>);

/// Where deliveries are handed to one upstream's courier.
#[derive(Debug, Default)]
pub struct Hatch {
    bell: Notify,
    handed: Mutex<Handed>,
}

/// What was handed.
#[derive(Debug, Default)]
pub struct Handed {
    pub due: VecDeque<Due>,
    /// There is more on the disk.
    pub more: bool,
    pub(super) bytes: usize,
}

impl Handoff {
    pub(super) fn of(&self, upstream: &str) -> Arc<Hatch> {
        let mut hatches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match hatches.get(upstream) {
            Some(hatch) => Arc::clone(hatch),
            None => Arc::clone(hatches.entry(upstream.to_owned()).or_default()),
        }
    }

    /// Hands over what a transaction stored, and returns where it was handed: their couriers are to be woken. Nothing else
    /// may be written in between: a courier that found it on the disk must not have ended it before it is handed.
    #[must_use]
    pub(super) fn stored(&self, writes: &[Write], written: &[Written]) -> Vec<Arc<Hatch>> {
        let hatches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut handed: Vec<Arc<Hatch>> = Vec::new();
        for (write, written) in writes.iter().zip(written) {
            let (Write::Append(record), Written::Stored { event, ways }) = (write, written) else { continue };
            for (upstream, due) in dues(record, *event, ways) {
                // Not due: it waits for another of its lane.
                let (Some(hatch), Some(due)) = (hatches.get(upstream), due) else { continue };
                hatch.hand(due);
                if !handed.iter().any(|known| Arc::ptr_eq(known, hatch)) {
                    handed.push(Arc::clone(hatch));
                }
            }
        }
        handed
    }

    /// Everything may have changed on the disk.
    pub(super) fn ring_all(&self) {
        let hatches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hatches.values().for_each(|hatch| hatch.ring());
    }
}

impl Hatch {
    /// Returns when something was handed.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// What was handed since the last time.
    pub fn take(&self) -> Handed {
        std::mem::take(&mut *self.lock())
    }

    /// There may be more on the disk.
    pub(crate) fn ring(&self) {
        self.lock().more = true;
        self.wake();
    }

    /// Wakes the courier.
    pub(super) fn wake(&self) {
        self.bell.notify_one();
    }

    fn hand(&self, due: Due) {
        let mut handed = self.lock();
        if handed.due.len() < HANDED_MAX && handed.bytes < HANDED_BYTES_MAX {
            handed.bytes += due.bytes();
            handed.due.push_back(due);
        } else {
            handed.more = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Handed> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The deliveries of an event that was stored as `event`, by the names of their upstreams; `ways` says what the engine made
/// of each way: its upstream's number, and whether it is due.
pub(super) fn dues<'a>(
    record: &'a Record,
    event: i64,
    ways: &'a [(i64, bool)],
) -> impl Iterator<Item = (&'a str, Option<Due>)> {
    record.ways.iter().zip(ways).map(move |(way, (upstream, is_due))| {
        let due = || Due {
            key: Key { event, upstream: *upstream },
            id: record.id,
            received_at: record.received_at,
            source: Arc::clone(&record.source),
            event_type: record.event_type.into(),
            client: record.client.to_string(),
            format: way.format,
            lane: way.ordered.then(|| record.partition_key.as_str().into()),
            tries: 0,
            replay: false,
            content: Some(record.content.clone()),
        };
        (&*way.upstream, is_due.then(due))
    })
}
