//! Which event has which id. The index of ids is written behind the events: what is new is kept here, and goes to the file in
//! the order of ids, a stretch with each transaction. The ids that come together lie far apart: in the order of receipt, each
//! would take a page of the log for itself.

use std::{
    collections::{BTreeSet, HashSet},
    ops::Bound,
};

use rusqlite::Connection;

use super::{Result, error};
use crate::identity::EventId;

/// Entries kept in memory, of 32 bytes: the more there are, the more of them go to the same page. Few in tests, so that it comes
/// to that there.
const RECENT_MAX: usize = if cfg!(test) { 4 } else { 8192 };
/// Entries that are written for each new one, as long as there are more than that.
const CATCH_UP: usize = 4;

/// What is known of an event that is not in the index yet.
pub(super) const RECENT: &str = "SELECT received_at FROM events WHERE event = ?";
/// What is known by the index: the last event of an id and a realm.
pub(super) const INDEXED: &str = "SELECT e.received_at FROM ids i JOIN events e USING (event) \
                                  WHERE i.id = ? AND i.realm = ? ORDER BY i.event DESC LIMIT 1";

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
    /// The last event of all. Numbers are not used twice while something goes by them.
    last: i64,
}

/// Entries in the order of the index.
#[derive(Debug, Default)]
pub(super) struct Entries(BTreeSet<Entry>);

/// What a transaction changes.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub added: Entries,
    /// Events that were forgotten.
    pub forgotten: HashSet<i64>,
    pub stretch: Stretch,
}

/// Entries that are to be written together.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    pub entries: Vec<Entry>,
    /// With these the index has all events up to this one.
    pub round_ends: Option<i64>,
}

impl Ids {
    pub(super) fn read(connection: &Connection) -> Result<Self> {
        let number = |sql| connection.query_one(sql, (), |row| row.get::<_, i64>(0)).map_err(error);
        let indexed = number("SELECT coalesce(max(event), 0) FROM indexed")?;
        let last = indexed.max(number("SELECT coalesce(max(event), 0) FROM events")?);
        let mut statement =
            connection.prepare("SELECT id, realm, event FROM events WHERE event > ?").map_err(error)?;
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

    /// The last event of all.
    pub(super) fn last(&self) -> i64 {
        self.last
    }

    pub(super) fn recent(&self) -> &Entries {
        &self.recent
    }

    /// What goes to the file next, beside so many new events.
    pub(super) fn stretch(&self, appends: usize) -> Stretch {
        let count = self.recent.0.len().saturating_sub(RECENT_MAX).min(CATCH_UP * appends);
        let ahead = self.written.map_or(Bound::Unbounded, Bound::Excluded);
        let entries: Vec<_> = self.recent.0.range((ahead, Bound::Unbounded)).take(count).copied().collect();
        let round_ends = (entries.len() < count).then_some(self.round);
        Stretch { entries, round_ends }
    }

    /// What a transaction changed, once it is committed.
    pub(super) fn take_over(&mut self, changes: Changes) {
        let Changes { added, mut forgotten, stretch } = changes;
        self.last = added.0.iter().map(|(_, _, event)| *event).fold(self.last, i64::max);
        for entry in &stretch.entries {
            self.recent.0.remove(entry);
        }
        self.recent.0.extend(added.0);
        // Most of them are old.
        forgotten.retain(|event| *event > self.indexed);
        if !forgotten.is_empty() {
            self.recent.0.retain(|(_, _, event)| !forgotten.contains(event));
        }
        self.written = stretch.entries.last().copied().or(self.written);
        if let Some(event) = stretch.round_ends {
            (self.written, self.indexed, self.round) = (None, event, self.last);
        }
    }
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
