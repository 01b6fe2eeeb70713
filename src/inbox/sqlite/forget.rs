//! What is forgotten: settled events past their time, and contents for want of room.

use rusqlite::{params, types::Value};

use super::{Result, write::Batch};
use crate::inbox::engine::Written;

/// Deliveries, or events, that are looked at for each that may be forgotten: others may stand before them.
const LOOKS: usize = 8;

/// How far the looks for what may be forgotten have come. If a transaction is rolled back, what it has passed waits for the next
/// round.
#[derive(Debug)]
pub(super) struct Cursors {
    /// A delivery, by its event's time of receipt (whatever stands there), its event and its upstream.
    pruned: (Value, i64, i64),
    /// An event.
    stripped: i64,
}

impl Default for Cursors {
    fn default() -> Self {
        Self { pruned: (Value::Integer(i64::MIN), 0, 0), stripped: 0 }
    }
}

impl Batch<'_> {
    /// Forgets no more than `max` deliveries settled before a time, in the order of receipt from where the last look ended;
    /// with the last of its deliveries, the event.
    pub(super) fn prune(&mut self, before: i64, max: usize) -> Result<Written> {
        // What was settled before was received before; if the clock was set back in between, it waits until it was.
        let next = "SELECT e.received_at, e.event, d.upstream, d.settled_at FROM events e JOIN deliveries d USING (event) \
                     WHERE e.received_at < ? AND (e.received_at, e.event, d.upstream) > (?, ?, ?) \
                     ORDER BY e.received_at, e.event, d.upstream LIMIT ?";
        let (at, event, upstream) = &self.cursors.pruned;
        let rows = self.run(next, |statement| {
            let values = params![before, at, event, upstream, max_rows(LOOKS * max)];
            let rows = statement.query_map(values, |row| {
                Ok(((row.get(0)?, row.get(1)?, row.get(2)?), row.get(3).unwrap_or_default()))
            })?;
            rows.collect::<rusqlite::Result<Vec<((Value, i64, i64), Option<i64>)>>>()
        })?;
        let mut more = rows.len() == LOOKS * max;
        let (mut count, mut last) = (0, None);
        for (place, settled_at) in rows {
            if settled_at.is_some_and(|at| at < before) {
                self.forget(place.1, place.2)?;
                count += 1;
            }
            last = Some(place);
            if count == max {
                more = true;
                break;
            }
        }
        // From the start again when all were seen: some are settled late.
        self.cursors.pruned = last.filter(|_| more).unwrap_or_else(|| Cursors::default().pruned);
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

    /// Forgets what no more than `max` settled events would be sent as, in the order of receipt from where the last look ended;
    /// that they were here is remembered.
    pub(super) fn strip(&mut self, max: usize) -> Result<Written> {
        let next = "SELECT event, max(state = 'open' OR state = 'dead') FROM deliveries WHERE event > ? GROUP BY event LIMIT ?";
        let events = self.run(next, |statement| {
            let values = params![self.cursors.stripped, max_rows(LOOKS * max)];
            let rows = statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<(i64, bool)>>>()
        })?;
        let mut more = events.len() == LOOKS * max;
        let (mut count, mut last) = (0, 0);
        for (event, needed) in events {
            if !needed {
                count += self.execute("DELETE FROM contents WHERE event = ?", [event])?;
            }
            last = event;
            if count == max {
                more = true;
                break;
            }
        }
        self.cursors.stripped = if more { last } else { 0 };
        Ok(Written::Forgotten { count, more })
    }
}

fn max_rows(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}
