//! Events by subject and by partition key. A segment's events are sorted and written at once, when it is full, behind the segment
//! before: whom an event is about follows no order, so that in one index of all events, each would change a page of its own.
//! Who looks for a key looks into segment after segment, and through the events behind the last.

use std::ops::RangeInclusive;

use rusqlite::{OptionalExtension, params};

use super::{EVENTS_END, Result, error, write::Batch};
use crate::inbox::engine::EngineError;

/// Events of a segment, by their numbers: the file's, not to be changed. The more, the fewer places to look into, and the
/// longer the transaction that writes them. Few where it is tested.
const SEGMENT: i64 = if cfg!(any(test, fuzzing)) { 4 } else { 1024 };
/// Numbers of segments from here on are damage: behind those before there is room for as many events again.
const SEGMENTS_END: i64 = EVENTS_END / 2 / SEGMENT;
/// Most segments that are looked into: in a damaged file they may have no end.
const SEGMENTS_MAX: i64 = 1 << 20;
/// Segments that are looked into first, and then four times as many each time: a key may be that of most events.
const FIRST_LOOK: i64 = if cfg!(any(test, fuzzing)) { 1 } else { 16 };
/// Events that are left of a segment when the entries of all others go: one may stay for long.
const FEW: i64 = if cfg!(any(test, fuzzing)) { 1 } else { 16 };

/// What a key is of an event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Subject,
    PartitionKey,
}

/// What this connection knows of the segments.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// The first that is not written, if that is known.
    next: Option<i64>,
    /// What belongs into it cannot be read: until the file is opened anew, no more are written.
    damaged: bool,
}

impl Segments {
    /// What this transaction wrote is not there.
    pub(super) fn rolled_back(&mut self) {
        self.next = None;
    }
}

/// A query for those of a range of events that have a key, which is bound.
pub(super) fn events(kind: Kind, range: &RangeInclusive<i64>) -> String {
    let (kind, column) = match kind {
        Kind::Subject => (0, "subject"),
        Kind::PartitionKey => (1, "partitionkey"),
    };
    let (first, last) = (range.start(), range.end());
    let (first_segment, last_segment) = (first / SEGMENT, last / SEGMENT);
    format!(
        "WITH RECURSIVE wanted (key) AS (SELECT ?), s (segment) AS ( \
            SELECT min(segment) FROM keys WHERE segment >= {first_segment} UNION ALL \
            SELECT (SELECT min(segment) FROM keys k WHERE k.segment > s.segment) FROM s WHERE s.segment < {last_segment} \
            LIMIT {SEGMENTS_MAX}) \
         SELECT k.event FROM s CROSS JOIN keys k USING (segment) \
          WHERE k.kind = {kind} AND k.key = (SELECT key FROM wanted) UNION ALL \
         SELECT event FROM events WHERE {column} = (SELECT key FROM wanted) AND event BETWEEN {first} AND {last} \
            AND event >= {}",
        first_behind()
    )
}

/// The first event, in SQL, that may be in no segment.
pub(super) fn first_behind() -> String {
    format!("(SELECT coalesce(max(segment) + 1, 0) FROM keys WHERE segment < {SEGMENTS_END}) * {SEGMENT}")
}

/// Ranges of events to look into, from the newest on: `last` is the last of all, or near it.
pub(super) fn newest_first(last: i64, before: i64) -> impl Iterator<Item = RangeInclusive<i64>> {
    let mut end = before.saturating_sub(1);
    looks().map_while(move |events| {
        let first = end.min(last).saturating_sub(events).max(0);
        let range = first..=end;
        end = first.saturating_sub(1);
        (range.end() >= range.start()).then_some(range)
    })
}

/// Ranges of events to look into, from the oldest on: `last` is the last of all, or near it.
pub(super) fn oldest_first(last: i64, after: i64) -> impl Iterator<Item = RangeInclusive<i64>> {
    let mut start = after.saturating_add(1);
    looks().map_while(move |events| {
        let first = start;
        let end = first.saturating_add(events);
        let end = if end < last { end } else { i64::MAX };
        start = end.saturating_add(1);
        (first < i64::MAX).then_some(first..=end)
    })
}

fn looks() -> impl Iterator<Item = i64> {
    std::iter::successors(Some(FIRST_LOOK * SEGMENT), |events| Some(events.saturating_mul(4)))
}

impl Batch<'_> {
    /// Writes the first segment that is not written, if it is full.
    ///
    /// # Errors
    ///
    /// Those of the disk. What is damaged is told in the log: events are found without a segment, too, if slowly.
    pub(super) fn write_segment(&mut self) -> Result<()> {
        if self.segments.damaged {
            return Ok(());
        }
        match self.next_segment() {
            Err(error @ (EngineError::Damaged(_) | EngineError::Other(_))) => {
                tracing::warn!(%error, "subjects and partition keys are no longer indexed: looking for them will take longer");
                self.segments.damaged = true;
                Ok(())
            }
            other => other,
        }
    }

    fn next_segment(&mut self) -> Result<()> {
        let segment = match self.segments.next {
            Some(segment) => segment,
            None => {
                let behind = format!(
                    "SELECT event FROM events WHERE event >= {} ORDER BY event LIMIT 1",
                    first_behind()
                );
                let first = self.connection.query_row(&behind, (), |row| row.get(0)).optional();
                first.map_err(error)?.unwrap_or(self.ids.last + 1) / SEGMENT
            }
        };
        self.segments.next = Some(segment);
        let (first, last) = bounds(segment);
        if last > self.ids.last {
            return Ok(());
        }
        let sorted = "INSERT OR IGNORE INTO keys (segment, kind, key, event) \
                      SELECT ?1, 0, subject, event FROM events WHERE event BETWEEN ?2 AND ?3 AND subject IS NOT NULL UNION ALL \
                      SELECT ?1, 1, partitionkey, event FROM events WHERE event BETWEEN ?2 AND ?3 ORDER BY 2, 3, 4";
        self.execute(sorted, params![segment, first, last])?;
        self.segments.next = Some(segment + 1);
        Ok(())
    }

    /// Forgets the entries of an event's segment, if few are left of its events.
    pub(super) fn thin_segment(&self, event: i64) -> Result<()> {
        let segment = event / SEGMENT;
        let (first, last) = bounds(segment);
        let left = "SELECT count(*) FROM (SELECT 1 FROM events WHERE event BETWEEN ? AND ? LIMIT ?)";
        let left = self.one(left, [first, last, FEW + 1], |row| row.get::<_, i64>(0))?;
        if left == Some(FEW) || left == Some(0) {
            let gone = "DELETE FROM keys WHERE segment = ?1 AND event NOT IN (SELECT event FROM events WHERE event BETWEEN ?2 AND ?3)";
            self.execute(gone, params![segment, first, last])?;
        }
        Ok(())
    }
}

/// The first and the last event a segment may have.
fn bounds(segment: i64) -> (i64, i64) {
    let first = segment.saturating_mul(SEGMENT);
    (first, first.saturating_add(SEGMENT - 1))
}
