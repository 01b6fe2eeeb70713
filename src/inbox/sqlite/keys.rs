//! Events by subject and by partition key. A segment's events are sorted and written at once, when it is full, behind the segment
//! before: whom an event is about follows no order, so that in one index of all events, each would change a page of its own.
//! Who looks for a key looks into every segment, and through the events behind the last.

use rusqlite::params;

use super::{Result, write::Batch};

/// Events of a segment, by their numbers. The more, the fewer places to look into, and the longer the transaction that writes
/// them. Few where it is tested.
pub(super) const SEGMENT: i64 = if cfg!(any(test, fuzzing)) { 4 } else { 1024 };
/// Most segments that are looked into: in a damaged file they may have no end.
const SEGMENTS_MAX: i64 = 1 << 20;

/// What a key is of an event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Subject,
    PartitionKey,
}

/// A query for the events of a key, which is bound.
pub(super) fn events(kind: Kind) -> String {
    let (kind, column) = match kind {
        Kind::Subject => (0, "subject"),
        Kind::PartitionKey => (1, "partitionkey"),
    };
    format!(
        "WITH RECURSIVE wanted (key) AS (SELECT ?), s (segment) AS ( \
            SELECT min(segment) FROM keys UNION ALL \
            SELECT (SELECT min(segment) FROM keys k WHERE k.segment > s.segment) FROM s WHERE s.segment IS NOT NULL \
            LIMIT {SEGMENTS_MAX}) \
         SELECT k.event FROM s CROSS JOIN keys k USING (segment) \
          WHERE k.kind = {kind} AND k.key = (SELECT key FROM wanted) UNION ALL \
         SELECT event FROM events WHERE {column} = (SELECT key FROM wanted) \
            AND event >= (SELECT coalesce(max(segment) + 1, 0) FROM keys) * {SEGMENT}"
    )
}

impl Batch<'_> {
    /// Writes the first segment that is not written, if it is full.
    pub(super) fn write_segment(&self) -> Result<()> {
        let behind = "SELECT event FROM events WHERE event >= (SELECT coalesce(max(segment) + 1, 0) FROM keys) * ? \
                      ORDER BY event LIMIT 1";
        let Some(event) = self.one(behind, [SEGMENT], |row| row.get::<_, i64>(0))? else { return Ok(()) };
        let segment = event / SEGMENT;
        let (first, last) = bounds(segment);
        if last > self.ids.last {
            return Ok(());
        }
        let sorted = "INSERT OR IGNORE INTO keys (segment, kind, key, event) \
                      SELECT ?1, 0, subject, event FROM events WHERE event BETWEEN ?2 AND ?3 AND subject IS NOT NULL UNION ALL \
                      SELECT ?1, 1, partitionkey, event FROM events WHERE event BETWEEN ?2 AND ?3 ORDER BY 2, 3, 4";
        self.execute(sorted, params![segment, first, last])?;
        Ok(())
    }

    /// Forgets an event's segment, if all of it is forgotten.
    pub(super) fn forget_segment(&self, event: i64) -> Result<()> {
        let segment = event / SEGMENT;
        let (first, last) = bounds(segment);
        let left = "SELECT event FROM events WHERE event BETWEEN ? AND ? LIMIT 1";
        if self.one(left, [first, last], |row| row.get::<_, i64>(0))?.is_none() {
            self.execute("DELETE FROM keys WHERE segment = ?", [segment])?;
        }
        Ok(())
    }
}

/// The first and the last event a segment may have.
fn bounds(segment: i64) -> (i64, i64) {
    let first = segment.saturating_mul(SEGMENT);
    (first, first.saturating_add(SEGMENT - 1))
}
