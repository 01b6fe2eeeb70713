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
        let looked_at = self.run(next, |statement| {
            let rows = statement.query_map(params![before, at, event, upstream, looks(max)], |row| {
                let settled_at: Option<i64> = row.get(3).unwrap_or_default();
                Ok(((row.get(0)?, row.get(1)?, row.get(2)?), settled_at.is_some_and(|at| at < before)))
            })?;
            rows.collect::<rusqlite::Result<Vec<((Value, i64, i64), bool)>>>()
        })?;
        let forget = |(_, event, upstream): &(_, i64, i64)| self.forget(*event, *upstream).map(|()| 1);
        let (count, last) = pass(looked_at, max, forget)?;
        let more = last.is_some();
        // From the start again when all were seen: some are settled late.
        self.cursors.pruned = last.unwrap_or_else(|| Cursors::default().pruned);
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
            self.thin_segment(event)?;
        }
        Ok(())
    }

    /// Forgets what no more than `max` settled events would be sent as, in the order of receipt from where the last look ended;
    /// that they were here is remembered.
    pub(super) fn strip(&mut self, max: usize) -> Result<Written> {
        let next = "SELECT event, max(state = 'open' OR state = 'dead') = 0 FROM deliveries WHERE event > ? GROUP BY event LIMIT ?";
        let looked_at = self.run(next, |statement| {
            let values = params![self.cursors.stripped, looks(max)];
            let rows = statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<(i64, bool)>>>()
        })?;
        let strip = |event: &i64| self.execute("DELETE FROM contents WHERE event = ?", [event]);
        let (count, last) = pass(looked_at, max, strip)?;
        self.cursors.stripped = last.unwrap_or_default();
        Ok(Written::Forgotten { count, more: last.is_some() })
    }
}

/// Goes through the places that were looked at, each with whether it may be forgotten, until `max` are; how many are, and the
/// last place, if there may be more behind it.
fn pass<P>(
    looked_at: Vec<(P, bool)>,
    max: usize,
    mut forget: impl FnMut(&P) -> Result<usize>,
) -> Result<(usize, Option<P>)> {
    let all = looked_at.len() < LOOKS * max;
    let (mut count, mut last) = (0, None);
    for (place, may_go) in looked_at {
        if may_go {
            count += forget(&place)?;
        }
        if count == max {
            return Ok((count, Some(place)));
        }
        last = Some(place);
    }
    Ok((count, last.filter(|_| !all)))
}

/// The rows to look at for `max` that may be forgotten.
fn looks(max: usize) -> i64 {
    i64::try_from(LOOKS * max).unwrap_or(i64::MAX)
}
