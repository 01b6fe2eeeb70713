//! How many deliveries are in which state: counted once at the start, then kept with each transaction.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::{Result, error};
use crate::inbox::record::{Status, Tally};

/// By upstream number.
#[derive(Clone, Debug, Default)]
pub(super) struct Tallies(BTreeMap<i64, [i64; 3]>);

impl Tallies {
    pub(super) fn read(connection: &Connection) -> Result<Self> {
        let counted = "SELECT upstream, state, attempts > 0, count(*) FROM deliveries WHERE state = 'open' GROUP BY 1, 2, 3 UNION ALL \
             SELECT upstream, state, attempts > 0, count(*) FROM deliveries WHERE state = 'dead' GROUP BY 1, 2, 3";
        let mut tallies = Self::default();
        let mut statement = connection.prepare(counted).map_err(error)?;
        let mut rows = statement.query(()).map_err(error)?;
        while let Some(row) = rows.next().map_err(error)? {
            let read = || Ok((row.get(0)?, status_of(&row.get::<_, String>(1)?, row.get(2)?), row.get(3)?));
            let (upstream, status, count) = read().map_err(error)?;
            tallies.add(upstream, status, count);
        }
        Ok(tallies)
    }

    /// A delivery changes from one status to another; none is none that is counted.
    pub(super) fn moved(&mut self, upstream: i64, from: Option<Status>, to: Option<Status>) {
        for (status, count) in [(from, -1), (to, 1)] {
            if let Some(status) = status {
                self.add(upstream, status, count);
            }
        }
    }

    fn add(&mut self, upstream: i64, status: Status, count: i64) {
        let at = match status {
            Status::Ready => 0,
            Status::Retrying => 1,
            Status::Dead => 2,
            Status::Delivered | Status::Discarded => return,
        };
        self.0.entry(upstream).or_default()[at] += count;
    }

    /// What a transaction changed, once it is committed.
    pub(super) fn take_over(&mut self, changes: &Self) {
        for (upstream, counts) in &changes.0 {
            let known = self.0.entry(*upstream).or_default();
            known.iter_mut().zip(counts).for_each(|(known, change)| *known += change);
        }
    }

    pub(super) fn of(&self, upstream: i64) -> Tally {
        let counts = self.0.get(&upstream).copied().unwrap_or_default();
        let [ready, retrying, dead] = counts.map(|count| u64::try_from(count).unwrap_or(0));
        Tally { ready, retrying, dead }
    }
}

/// A status, of what stands in the table.
pub(super) fn status_of(state: &str, tried: bool) -> Status {
    match state {
        "open" if tried => Status::Retrying,
        "open" => Status::Ready,
        "delivered" => Status::Delivered,
        "dead" => Status::Dead,
        _ => Status::Discarded,
    }
}
