//! Which event has which id. The index of ids is written behind the events: what is new is kept here, and goes to the file in
//! the order of ids, a stretch at a time. The ids that come together lie far apart: in the order of receipt, each
//! would take a page of the log for itself.

use std::{
    collections::{BTreeSet, HashSet},
    ops::Bound,
};

use rusqlite::Connection;

use super::{EVENTS_END, Result, error, keys};
use crate::identity::EventId;

/// Entries kept in memory, some 1.5 MB: the more there are, the more of them go to the same page, of which a million events take
/// 7,000. Few where it is tested, so that it comes to that there.
const RECENT_MAX: usize = if cfg!(any(test, fuzzing)) { 4 } else { 32 << 10 };
/// Entries that go to the index at once: for fewer, a transaction of one event would write pages of the index each time.
const STRETCH_MIN: usize = if cfg!(any(test, fuzzing)) { 1 } else { 64 };
/// Entries that go to the index at once, at most: after a start there may be many.
const STRETCH_MAX: usize = 1024;
/// Events behind the index that are read at a start: as many as there may be while all goes well, since some wait for the round
/// after. If there are more, they are indexed at once.
const BEHIND_MAX: usize = 5 * RECENT_MAX;

/// What is known of an event that may not be in the index yet.
pub(super) const RECENT: &str = "SELECT received_at FROM events WHERE event = ?";
/// What is known by the index: the last event of an id and a realm.
pub(super) const INDEXED: &str = "SELECT e.received_at FROM ids i JOIN events e USING (id, realm, event) \
                                  WHERE i.id = ? AND i.realm = ? ORDER BY i.event DESC LIMIT 1";

/// Notes up to which event all are in the index.
pub(super) const INDEXED_TO: &str = "INSERT OR REPLACE INTO indexed (rowid, event) VALUES (1, ?)";

/// An id, its realm, and an event that is known by them.
type Entry = (u128, i64, i64);

/// The events that are on the disk and, perhaps, not in the index.
#[derive(Debug, Default)]
pub(super) struct Ids {
    recent: Entries,
    /// The last entry that this round has written; none at its start.
    written: Option<Entry>,
    /// All events up to this one are in the index.
    indexed: i64,
    /// The last event when this round began: with its end, all events up to this one are.
    round: i64,
    /// The last event of all: while the file is open no number is used twice, nor ever one that `indexed` or `keys` speaks of.
    last: i64,
}

/// Entries in the order of the index.
#[derive(Debug, Default)]
pub(super) struct Entries(BTreeSet<Entry>);

/// What a transaction changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub added: Entries,
    /// The last event of all.
    pub last: i64,
    /// Events that were forgotten.
    pub forgotten: HashSet<i64>,
    /// Entries that go to the index.
    pub stretch: Vec<Entry>,
    /// With these it has all events up to this one.
    pub round_ends: Option<i64>,
}

impl Ids {
    /// What is not in the index, or not sure to be; `last` is the last event that was known before.
    pub(super) fn read(connection: &Connection, last: i64) -> Result<Self> {
        // A number that cannot be one is as good as none: all is indexed again.
        let number =
            |sql: &str| connection.query_one(sql, (), |row| Ok(row.get(0).unwrap_or(0))).map_err(error);
        // What only speaks of events speaks of none so far away that none would fit behind it.
        let far = EVENTS_END / 2;
        let mut indexed = number(&format!("SELECT max(event) FROM indexed WHERE event < {far}"))?;
        let newest = number(&format!("SELECT max(event) FROM events WHERE event < {EVENTS_END}"))?;
        let in_segments = number(&format!("SELECT {} - 1", keys::first_behind()))?;
        let last = last.max(indexed).max(newest).max(in_segments);
        if is_far_behind(connection, indexed)? {
            match catch_up(connection, indexed, last) {
                Ok(()) => indexed = last,
                // The disk may be full.
                Err(error) => tracing::debug!(%error, "the inbox's ids are not indexed yet"),
            }
        }
        let recent = "SELECT id, realm, event FROM events WHERE event > ?";
        let mut statement = connection.prepare(recent).map_err(error)?;
        let mut rows = statement.query([indexed]).map_err(error)?;
        let mut recent = Entries::default();
        while let Some(row) = rows.next().map_err(error)? {
            // By an id that is damaged nothing is found.
            if let (Ok(id), Ok(realm), Ok(event)) = (row.get(0), row.get(1), row.get(2)) {
                recent.0.insert((u128::from_be_bytes(id), realm, event));
            }
        }
        Ok(Self { recent, written: None, indexed, round: last, last })
    }

    pub(super) fn recent(&self) -> &Entries {
        &self.recent
    }

    /// The last event of all.
    pub(super) fn last(&self) -> i64 {
        self.last
    }

    /// What a transaction begins with: what goes to the index beside all else.
    pub(super) fn begin(&self) -> Changes {
        let count = self.recent.0.len().saturating_sub(RECENT_MAX);
        let count = if count < STRETCH_MIN { 0 } else { count.min(STRETCH_MAX) };
        let ahead = self.written.map_or(Bound::Unbounded, Bound::Excluded);
        let stretch: Vec<_> = self.recent.0.range((ahead, Bound::Unbounded)).take(count).copied().collect();
        let round_ends = (stretch.len() < count).then_some(self.round);
        Changes { last: self.last, stretch, round_ends, ..Changes::default() }
    }

    /// What a transaction changed, once it is committed.
    pub(super) fn take_over(&mut self, changes: Changes) {
        let Changes { added, last, mut forgotten, stretch, round_ends } = changes;
        self.last = last;
        for entry in &stretch {
            self.recent.0.remove(entry);
        }
        self.recent.0.extend(added.0);
        // Most of them are old.
        forgotten.retain(|event| *event > self.indexed);
        if !forgotten.is_empty() {
            self.recent.0.retain(|(_, _, event)| !forgotten.contains(event));
        }
        self.written = stretch.last().copied().or(self.written);
        if let Some(event) = round_ends {
            (self.written, self.indexed, self.round) = (None, event, self.last);
        }
    }
}

/// Whether more events are behind the index than should be: a process that stores few does not come to the end of a round.
fn is_far_behind(connection: &Connection, indexed: i64) -> Result<bool> {
    let sql = format!("SELECT event FROM events WHERE event > ? LIMIT 1 OFFSET {BEHIND_MAX}");
    let mut statement = connection.prepare(&sql).map_err(error)?;
    statement.exists([indexed]).map_err(error)
}

/// Brings the index up to date, from one event to another.
fn catch_up(connection: &Connection, indexed: i64, last: i64) -> Result<()> {
    let transaction = connection.unchecked_transaction().map_err(error)?;
    let all = "INSERT OR IGNORE INTO ids SELECT id, realm, event FROM events WHERE event > ? ORDER BY id, realm, event";
    transaction.execute(all, [indexed]).map_err(error)?;
    transaction.execute(INDEXED_TO, [last]).map_err(error)?;
    transaction.commit().map_err(error)
}

impl Entries {
    pub(super) fn insert(&mut self, id: EventId, realm: i64, event: i64) {
        self.0.insert((id.key(), realm, event));
    }

    /// The last event of an id and a realm.
    pub(super) fn last(&self, id: EventId, realm: i64) -> Option<i64> {
        let id = id.key();
        self.0.range((id, realm, i64::MIN)..=(id, realm, i64::MAX)).next_back().map(|(_, _, event)| *event)
    }

    /// All events of an id.
    pub(super) fn all(&self, id: EventId) -> impl Iterator<Item = i64> {
        let id = id.key();
        self.0.range((id, i64::MIN, i64::MIN)..=(id, i64::MAX, i64::MAX)).map(|(_, _, event)| *event)
    }
}
