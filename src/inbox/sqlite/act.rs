//! What operators do: replay and discard.

use rusqlite::params;

use super::{
    Result, error, keys,
    list::{Matching, is_by_key, matching},
    tally::status_of,
    write::Batch,
};
use crate::inbox::{
    engine::Written,
    record::{Action, Filter, Status},
};

/// A delivery that may be changed.
struct Row {
    event: i64,
    upstream: i64,
    status: Status,
    tried: bool,
    /// At the head of its lane, or in none.
    due: bool,
    lane: Option<String>,
}

impl Batch<'_> {
    pub(super) fn act(&mut self, action: Action, filter: &Filter, after: i64, max: usize) -> Result<Written> {
        let (rows, last) = self.rows(filter, after, max)?;
        let mut changed = 0;
        for row in &rows {
            let did = match action {
                Action::Replay => self.replay(row)?,
                Action::Discard => self.discard(row)?,
            };
            changed += u64::from(did);
        }
        Ok(Written::Acted { changed, last })
    }

    fn rows(&self, filter: &Filter, after: i64, max: usize) -> Result<(Vec<Row>, Option<i64>)> {
        let mut recent = self.file.recent(filter);
        recent.extend(filter.id.iter().flat_map(|id| self.ids.added.all(*id)));
        let ranges: Vec<_> = if is_by_key(filter) {
            keys::oldest_first(self.ids.last, after).collect()
        } else {
            vec![after.saturating_add(1)..=i64::MAX]
        };
        let (mut rows, mut count) = (Vec::new(), 0);
        for range in ranges {
            let query = matching(filter, &recent, &range, true);
            let found = self.oldest(&query, max - count).map_err(error)?;
            // An event that matches has a delivery that does.
            count += found.chunk_by(|one, next| one.event == next.event).count();
            rows.extend(found);
            if count >= max {
                let last = rows.last().map(|row: &Row| row.event);
                return Ok((rows, last));
            }
        }
        // With fewer of them than asked for, there are no more.
        Ok((rows, None))
    }

    fn oldest(&self, query: &Matching, max: usize) -> rusqlite::Result<Vec<Row>> {
        let sql = format!(
            "SELECT d.event, d.upstream, d.state, d.attempts > 0, d.due_at IS NOT NULL, d.lane \
               FROM (SELECT e.event FROM events e WHERE {} ORDER BY e.event LIMIT {max}) \
               JOIN deliveries d USING (event) WHERE {} ORDER BY d.event",
            query.events, query.deliveries
        );
        let mut statement = self.connection.prepare(&sql)?;
        let both: Vec<&dyn rusqlite::ToSql> =
            query.values.iter().chain(&query.delivery_values).map(AsRef::as_ref).collect();
        let rows = statement.query_map(both.as_slice(), |row| {
            Ok(Row {
                event: row.get(0)?,
                upstream: row.get(1)?,
                status: status_of(&row.get::<_, String>(2)?, row.get(3)?),
                tried: row.get(3)?,
                due: row.get(4)?,
                lane: row.get(5)?,
            })
        })?;
        rows.collect()
    }

    fn replay(&mut self, row: &Row) -> Result<bool> {
        let Row { event, upstream, status, .. } = *row;
        match status {
            Status::Ready | Status::Retrying if row.due => {
                let now = "UPDATE deliveries SET due_at = ? WHERE event = ? AND upstream = ?";
                return Ok(self.execute(now, params![self.now, event, upstream])? > 0);
            }
            // It waits for another of its lane.
            Status::Ready | Status::Retrying => return Ok(false),
            Status::Delivered | Status::Dead | Status::Discarded => {}
        }
        let content: Option<i64> =
            self.one("SELECT event FROM contents WHERE event = ?", [event], |row| row.get(0))?;
        if content.is_none() {
            return Ok(false);
        }
        // Behind everything that is in its lane by now: one at a time.
        let waits = row.lane.is_some() && self.head(upstream, row.lane.as_deref())?.is_some();
        let due_at = if waits { None } else { Some(self.now) };
        self.execute(
            "UPDATE deliveries SET state = 'open', due_at = ?, settled_at = NULL, tries = 0, replay = 1, \
                    place = (SELECT max(event) FROM events) WHERE event = ? AND upstream = ?",
            params![due_at, event, upstream],
        )?;
        let after = if row.tried { Status::Retrying } else { Status::Ready };
        self.tallies.moved(upstream, Some(status), Some(after));
        Ok(true)
    }

    fn discard(&mut self, row: &Row) -> Result<bool> {
        let Row { event, upstream, status, .. } = *row;
        if matches!(status, Status::Delivered | Status::Discarded) {
            return Ok(false);
        }
        self.execute(
            "UPDATE deliveries SET state = 'discarded', due_at = NULL, settled_at = ? WHERE event = ? AND upstream = ?",
            params![self.now, event, upstream],
        )?;
        self.tallies.moved(upstream, Some(status), Some(Status::Discarded));
        self.go_on(upstream, row.lane.as_deref())?;
        Ok(true)
    }
}
