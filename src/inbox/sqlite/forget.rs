//! What is forgotten: settled events past their time, and contents for want of room.

use rusqlite::params;

use super::{Result, write::Batch};
use crate::inbox::engine::Written;

/// How far the looks for what may be forgotten have come.
#[derive(Debug)]
pub(super) struct Cursors {
    /// A delivery, by its event's time of receipt, its event and its upstream.
    pruned: (i64, i64, i64),
    /// An event.
    stripped: i64,
}

impl Default for Cursors {
    fn default() -> Self {
        Self { pruned: (i64::MIN, 0, 0), stripped: 0 }
    }
}

impl Batch<'_> {
    /// Looks at no more than `max` deliveries, in the order of receipt from where the last look ended, and forgets those
    /// settled before a time; with the last of its deliveries, the event.
    pub(super) fn prune(&mut self, before: i64, max: usize) -> Result<Written> {
        // What was settled before was received before.
        let next = "SELECT e.received_at, e.event, d.upstream, d.settled_at FROM events e JOIN deliveries d USING (event) \
                     WHERE e.received_at < ? AND (e.received_at, e.event, d.upstream) > (?, ?, ?) \
                     ORDER BY e.received_at, e.event, d.upstream LIMIT ?";
        let (at, event, upstream) = self.cursors.pruned;
        let rows = self.run(next, |statement| {
            let rows = statement.query_map(params![before, at, event, upstream, max_rows(max)], |row| {
                Ok(((row.get(0)?, row.get(1)?, row.get(2)?), row.get(3)?))
            })?;
            rows.collect::<rusqlite::Result<Vec<((i64, i64, i64), Option<i64>)>>>()
        })?;
        let mut count = 0;
        for ((_, event, upstream), settled_at) in &rows {
            if settled_at.is_some_and(|at| at < before) {
                self.forget(*event, *upstream)?;
                count += 1;
            }
        }
        let more = rows.len() == max;
        // From the start again when all were seen: some are settled late.
        let last = rows.last().filter(|_| more).map(|(place, _)| *place);
        self.cursors.pruned = last.unwrap_or(Cursors::default().pruned);
        Ok(Written::Forgotten { count, more })
    }

    fn forget(&mut self, event: i64, upstream: i64) -> Result<()> {
        self.execute("DELETE FROM attempts WHERE event = ? AND upstream = ?", params![event, upstream])?;
        self.execute("DELETE FROM deliveries WHERE event = ? AND upstream = ?", params![event, upstream])?;
        let left = "SELECT upstream FROM deliveries WHERE event = ? LIMIT 1";
        if self.one(left, [event], |row| row.get::<_, i64>(0))?.is_none() {
            self.execute("DELETE FROM contents WHERE event = ?", [event])?;
            self.execute("DELETE FROM windows WHERE event = ?", [event])?;
            let by_id = "DELETE FROM ids WHERE (id, realm, event) = (SELECT id, realm, event FROM events WHERE event = ?)";
            self.execute(by_id, [event])?;
            self.execute("DELETE FROM events WHERE event = ?", [event])?;
            self.ids.forgotten.insert(event);
        }
        Ok(())
    }

    /// Looks at no more than `max` contents, in the order of receipt from where the last look ended, and forgets what settled
    /// events would be sent as; that they were here is remembered.
    pub(super) fn strip(&mut self, max: usize) -> Result<Written> {
        let next = "SELECT event FROM contents WHERE event > ? ORDER BY event LIMIT ?";
        let events = self.run(next, |statement| {
            let rows =
                statement.query_map(params![self.cursors.stripped, max_rows(max)], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<Vec<i64>>>()
        })?;
        let needed = "SELECT upstream FROM deliveries WHERE event = ? AND state IN ('open', 'dead') LIMIT 1";
        let mut count = 0;
        for event in &events {
            if self.one(needed, [event], |row| row.get::<_, i64>(0))?.is_none() {
                count += self.execute("DELETE FROM contents WHERE event = ?", [event])?;
            }
        }
        let more = events.len() == max;
        self.cursors.stripped = events.last().copied().filter(|_| more).unwrap_or_default();
        Ok(Written::Forgotten { count, more })
    }
}

fn max_rows(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}
