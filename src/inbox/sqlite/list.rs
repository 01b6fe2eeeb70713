//! What operators look for.

use jiff::Timestamp;
use rusqlite::{ToSql, params};

use super::{
    Result, Sqlite, error,
    keys::{self, Kind},
    tally::status_of,
};
use crate::{
    identity::EventId,
    inbox::record::{Action, Attempt, Filter, Status, Stored, StoredDelivery},
};

/// Conditions on events (`e`) and on those of their deliveries that are meant (`d`), and their values.
pub(super) struct Matching {
    pub events: String,
    pub values: Vec<Box<dyn ToSql>>,
    pub deliveries: String,
    pub delivery_values: Vec<Box<dyn ToSql>>,
}

/// A filter as SQL: of fixed texts and numbers; all that comes from outside is bound. `recent` are the events of the id that is
/// looked for, as far as they may not be in the index.
pub(super) fn matching(filter: &Filter, recent: &[i64]) -> Matching {
    let Filter { id, source, event_type, subject, partition_key, upstream, status, since, until } = filter;
    let mut events = vec!["1".to_owned()];
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    let mut also = |condition: &str, value: Box<dyn ToSql>| {
        events.push(condition.to_owned());
        values.push(value);
    };
    if let Some(id) = id {
        // One statement has so many SELECTs; of rows there may be more.
        let recent: Vec<_> = recent.iter().map(|event| format!("({event})")).collect();
        let recent =
            if recent.is_empty() { String::new() } else { format!(" UNION ALL VALUES {}", recent.join(",")) };
        let events = format!("e.event IN (SELECT event FROM ids WHERE id = ?{recent})");
        also(&events, Box::new(id.key().to_be_bytes()));
    }
    for (kind, key) in [(Kind::Subject, subject), (Kind::PartitionKey, partition_key)] {
        if let Some(key) = key {
            also(&format!("e.event IN ({})", keys::events(kind)), Box::new(key.clone()));
        }
    }
    // With a plus, no index is used: of those few, none is looked for by what it shares with many; and what is read by a range
    // of types or of times would have to be sorted, however much it is.
    let by = if id.is_some() || subject.is_some() || partition_key.is_some() { "+" } else { "" };
    if let Some(source) = source {
        also(&format!("{by}e.source = ?"), Box::new(source.clone()));
    }
    match event_type.as_deref().map(|pattern| (pattern, pattern.strip_suffix('*'))) {
        Some((_, Some(prefix))) => {
            // All texts that begin so: from the prefix on, to what comes after all of its continuations.
            also("+e.type >= ?", Box::new(prefix.to_owned()));
            also("+e.type < ?", Box::new(format!("{prefix}\u{10FFFF}")));
        }
        Some((exact, None)) => also(&format!("{by}e.type = ?"), Box::new(exact.to_owned())),
        None => {}
    }
    if let Some(since) = since {
        also("+e.received_at >= ?", Box::new(since.as_millisecond()));
    }
    if let Some(until) = until {
        also("+e.received_at < ?", Box::new(until.as_millisecond()));
    }
    let mut deliveries = vec!["1"];
    let mut delivery_values: Vec<Box<dyn ToSql>> = Vec::new();
    if let Some(status) = status {
        deliveries.push(match status {
            Status::Ready => "d.state = 'open' AND d.attempts = 0",
            Status::Retrying => "d.state = 'open' AND d.attempts > 0",
            Status::Delivered => "d.state = 'delivered'",
            Status::Dead => "d.state = 'dead'",
            Status::Discarded => "d.state = 'discarded'",
        });
    }
    if let Some(upstream) = upstream {
        deliveries.push("d.upstream = (SELECT upstream FROM upstreams WHERE name = ?)");
        delivery_values.push(Box::new(upstream.clone()));
    }
    let deliveries = deliveries.join(" AND ");
    // Most are delivered: those are found by going through the events, all others by going through the others.
    match status {
        None if upstream.is_none() => {}
        Some(Status::Ready | Status::Retrying | Status::Dead | Status::Discarded) => {
            events.push(format!("e.event IN (SELECT d.event FROM deliveries d WHERE {deliveries})"));
        }
        None | Some(Status::Delivered) => {
            let delivery = "SELECT 1 FROM deliveries d WHERE d.event = e.event AND";
            events.push(format!("EXISTS ({delivery} {deliveries})"));
        }
    }
    if status.is_some() || upstream.is_some() {
        values.extend(upstream.iter().map(|upstream| Box::new(upstream.clone()) as Box<dyn ToSql>));
    }
    Matching { events: events.join(" AND "), values, deliveries, delivery_values }
}

impl Matching {
    /// The newest events that match, of those before one.
    fn newest(&self, before: i64, limit: usize) -> String {
        format!(
            "SELECT e.event, e.id, e.received_at, e.source, e.type, e.subject, e.partitionkey FROM events e \
             WHERE e.event < {before} AND {} ORDER BY e.event DESC LIMIT {limit}",
            self.events
        )
    }
}

impl Sqlite {
    pub(super) fn listed(&self, filter: &Filter, before: Option<i64>, limit: usize) -> Result<Vec<Stored>> {
        let query = matching(filter, &self.file.recent(filter));
        let before = before.unwrap_or(i64::MAX);
        let read = || {
            let mut statement = self.connection.prepare(&query.newest(before, limit))?;
            let values: Vec<&dyn ToSql> = query.values.iter().map(AsRef::as_ref).collect();
            let rows = statement.query_map(values.as_slice(), |row| {
                Ok(Stored {
                    event: row.get(0)?,
                    id: EventId::from_bytes(row.get(1)?),
                    received_at: time(row.get(2)?),
                    source: row.get(3)?,
                    event_type: row.get(4)?,
                    subject: row.get(5)?,
                    partition_key: row.get(6)?,
                    deliveries: Vec::new(),
                })
            })?;
            let mut events = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            for event in &mut events {
                event.deliveries = self.deliveries(event.event)?;
            }
            Ok(events)
        };
        read().map_err(error)
    }

    fn deliveries(&self, event: i64) -> rusqlite::Result<Vec<StoredDelivery>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT d.upstream, u.name, d.state, d.attempts > 0, d.due_at, d.settled_at, d.replay \
               FROM deliveries d JOIN upstreams u USING (upstream) WHERE d.event = ? ORDER BY d.upstream",
        )?;
        let rows = statement.query_map([event], |row| {
            let attempts = self.attempts(event, row.get(0)?)?;
            Ok(StoredDelivery {
                upstream: row.get(1)?,
                status: status_of(&row.get::<_, String>(2)?, row.get(3)?),
                due_at: row.get::<_, Option<i64>>(4)?.map(time),
                settled_at: row.get::<_, Option<i64>>(5)?.map(time),
                replay: row.get(6)?,
                attempts,
            })
        })?;
        rows.collect()
    }

    fn attempts(&self, event: i64, upstream: i64) -> rusqlite::Result<Vec<Attempt>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT attempt, at, status, error, took_ms FROM attempts WHERE event = ?1 AND upstream = ?2 UNION ALL \
             SELECT attempts, tried_at, status, error, took_ms FROM deliveries \
              WHERE event = ?1 AND upstream = ?2 AND attempts > 0 ORDER BY 1",
        )?;
        let rows = statement.query_map(params![event, upstream], |row| {
            Ok(Attempt {
                at: time(row.get(1)?),
                status: row.get(2)?,
                error: row.get(3)?,
                took: std::time::Duration::from_millis(row.get::<_, i64>(4)?.try_into().unwrap_or(0)),
            })
        })?;
        rows.collect()
    }

    pub(super) fn counted(&self, filter: &Filter, action: Action) -> Result<u64> {
        let query = matching(filter, &self.file.recent(filter));
        let changes = match action {
            Action::Replay => "(d.state <> 'open' OR d.due_at IS NOT NULL)",
            Action::Discard => "d.state IN ('open', 'dead')",
        };
        let sql = format!(
            "SELECT count(*) FROM events e JOIN deliveries d USING (event) WHERE {} AND {} AND {changes}",
            query.events, query.deliveries
        );
        let values: Vec<&dyn ToSql> =
            query.values.iter().chain(&query.delivery_values).map(AsRef::as_ref).collect();
        let count = self.connection.query_one(&sql, values.as_slice(), |row| row.get::<_, i64>(0));
        count.map(|count| u64::try_from(count).unwrap_or_default()).map_err(error)
    }
}

pub(super) fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// The newest are found without a look at all that match.
    #[test]
    fn nothing_is_sorted() {
        let file = Connection::open_in_memory().unwrap();
        file.execute_batch(include_str!("schema.sql")).unwrap();
        let text = || Some("text".to_owned());
        let by = |id: u8, bits: u8| Filter {
            id: (id == 1).then(|| EventId::from_bytes([1; 16])),
            subject: if id == 2 { text() } else { None },
            partition_key: if id == 3 { text() } else { None },
            source: if bits & 1 > 0 { text() } else { None },
            event_type: [None, text(), Some("text*".to_owned()), None][usize::from(bits >> 1 & 3)].clone(),
            since: (bits & 8 > 0).then_some(Timestamp::UNIX_EPOCH),
            until: (bits & 16 > 0).then_some(Timestamp::MAX),
            upstream: if bits & 32 > 0 { text() } else { None },
            status: (bits & 64 > 0).then_some(Status::Delivered),
        };
        for filter in (0..4).flat_map(|id| (0..128).map(move |bits| by(id, bits))) {
            let query = matching(&filter, &[1, 2]);
            let plan = format!("EXPLAIN QUERY PLAN {}", query.newest(100, 10));
            let mut statement = file.prepare(&plan).unwrap();
            let values: Vec<&dyn ToSql> = query.values.iter().map(AsRef::as_ref).collect();
            let steps = statement.query_map(values.as_slice(), |row| row.get::<_, String>("detail")).unwrap();
            let steps: Vec<String> = steps.map(Result::unwrap).collect();
            assert!(!steps.iter().any(|step| step.contains("ORDER BY")), "{filter:?}: {steps:#?}");
        }
    }
}
