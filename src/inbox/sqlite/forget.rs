//! What is forgotten: settled events past their time, and contents for want of room.

use rusqlite::params;

use super::{Result, write::Batch};
use crate::inbox::engine::Written;

impl Batch<'_> {
    /// Forgets deliveries settled before a time; with the last of its deliveries, the event.
    pub(super) fn prune(&mut self, before: i64, max: usize) -> Result<Written> {
        let settled =
            "SELECT event, upstream FROM deliveries WHERE settled_at < ? ORDER BY settled_at LIMIT ?";
        let rows = self.pairs(settled, params![before, max_rows(max)])?;
        for (event, upstream) in &rows {
            self.execute("DELETE FROM attempts WHERE event = ? AND upstream = ?", params![event, upstream])?;
            self.execute(
                "DELETE FROM deliveries WHERE event = ? AND upstream = ?",
                params![event, upstream],
            )?;
            let left: Option<i64> =
                self.one("SELECT upstream FROM deliveries WHERE event = ? LIMIT 1", [event], |row| {
                    row.get(0)
                })?;
            if left.is_none() {
                self.execute("DELETE FROM contents WHERE event = ?", [event])?;
                self.execute("DELETE FROM windows WHERE event = ?", [event])?;
                self.execute("DELETE FROM events WHERE event = ?", [event])?;
            }
        }
        Ok(Written::Forgotten(rows.len()))
    }

    /// Forgets what settled events would be sent as; that they were here is remembered.
    pub(super) fn strip(&mut self, max: usize) -> Result<Written> {
        let settled = "SELECT settled_at, event FROM deliveries WHERE settled_at IS NOT NULL AND (settled_at, event) > (?, ?) \
                       ORDER BY settled_at, event LIMIT ?";
        let (at, event) = *self.stripped_to;
        let rows = self.pairs(settled, params![at, event, max_rows(max)])?;
        let needed = "SELECT upstream FROM deliveries WHERE event = ? AND state IN ('open', 'dead') LIMIT 1";
        let mut stripped = 0;
        for (_, event) in &rows {
            if self.one(needed, [event], |row| row.get::<_, i64>(0))?.is_none() {
                stripped += self.execute("DELETE FROM contents WHERE event = ?", [event])?;
            }
        }
        // From the start again when the end is reached: the clock may have gone back.
        *self.stripped_to = rows.last().copied().unwrap_or_default();
        Ok(Written::Forgotten(stripped))
    }

    fn pairs(&self, sql: &'static str, params: impl rusqlite::Params) -> Result<Vec<(i64, i64)>> {
        self.run(sql, |statement| {
            statement.query_map(params, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
    }
}

fn max_rows(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}
