//! What operators look for.

use std::ops::RangeInclusive;

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

/// A filter as SQL, for a range of events: of fixed texts and numbers; all that comes from outside is bound. `recent` are the
/// events of the id that is looked for, as far as they may not be in the index. `ordered` tells that they are read in their order.
pub(super) fn matching(
    filter: &Filter,
    recent: &[i64],
    range: &RangeInclusive<i64>,
    ordered: bool,
) -> Matching {
    let Filter { id, source, event_type, subject, partition_key, upstream, status, since, until } = filter;
    let mut events = vec![format!("e.event BETWEEN {} AND {}", range.start(), range.end())];
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
    // With a plus, no index is used: events are found by what the fewest share, and of a range of types or of times they
    // would come in that order, and all of them be sorted.
    let mut by = if is_led(filter) { "+" } else { "" };
    for (kind, column, key) in
        [(Kind::Subject, "subject", subject), (Kind::PartitionKey, "partitionkey", partition_key)]
    {
        let Some(key) = key else { continue };
        if by.is_empty() {
            also(&format!("e.event IN ({})", keys::events(kind, range)), Box::new(key.clone()));
            by = "+";
        } else {
            also(&format!("+e.{column} = ?"), Box::new(key.clone()));
        }
    }
    let ranges_by = if ordered { "+" } else { by };
    if let Some(source) = source {
        also(&format!("{by}e.source = ?"), Box::new(source.clone()));
    }
    match event_type.as_deref().map(|pattern| (pattern, pattern.strip_suffix('*'))) {
        Some((_, Some(prefix))) => {
            // All texts that begin so: from the prefix on, to what comes after all of its continuations.
            also(&format!("{ranges_by}e.type >= ?"), Box::new(prefix.to_owned()));
            also(&format!("{ranges_by}e.type < ?"), Box::new(format!("{prefix}\u{10FFFF}")));
        }
        Some((exact, None)) => also(&format!("{by}e.type = ?"), Box::new(exact.to_owned())),
        None => {}
    }
    if let Some(since) = since {
        also(&format!("{ranges_by}e.received_at >= ?"), Box::new(since.as_millisecond()));
    }
    if let Some(until) = until {
        also(&format!("{ranges_by}e.received_at < ?"), Box::new(until.as_millisecond()));
    }
    let (deliveries, delivery_values) = meant(filter);
    // Most are delivered: those are found by going through the events, all others by going through the others.
    if status.is_some_and(|status| status != Status::Delivered) {
        events.push(format!("e.event IN (SELECT d.event FROM deliveries d WHERE {deliveries})"));
    } else if status.is_some() || upstream.is_some() {
        let delivery = "SELECT 1 FROM deliveries d WHERE d.event = e.event AND";
        events.push(format!("EXISTS ({delivery} {deliveries})"));
    }
    values.extend(upstream.iter().map(|upstream| Box::new(upstream.clone()) as Box<dyn ToSql>));
    Matching { events: events.join(" AND "), values, deliveries, delivery_values }
}

/// A filter's conditions on the deliveries (`d`) that are meant, and their values.
fn meant(filter: &Filter) -> (String, Vec<Box<dyn ToSql>>) {
    let Filter { upstream, status, .. } = filter;
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
    (deliveries.join(" AND "), delivery_values)
}

/// Whether few events match whatever their keys are: those are not looked for by them.
fn is_led(filter: &Filter) -> bool {
    filter.id.is_some() || matches!(filter.status, Some(Status::Dead | Status::Discarded))
}

/// Whether events are looked for by a key, and so in ranges one after the other.
pub(super) fn is_by_key(filter: &Filter) -> bool {
    !is_led(filter) && (filter.subject.is_some() || filter.partition_key.is_some())
}

impl Matching {
    /// The newest events that match.
    fn newest(&self, limit: usize) -> String {
        format!(
            "SELECT e.event, e.id, e.received_at, e.source, e.type, e.subject, e.partitionkey FROM events e \
             WHERE {} ORDER BY e.event DESC LIMIT {limit}",
            self.events
        )
    }
}

impl Sqlite {
    pub(super) fn listed(&self, filter: &Filter, before: Option<i64>, limit: usize) -> Result<Vec<Stored>> {
        let recent = self.file.recent(filter);
        let before = before.unwrap_or(i64::MAX);
        let last = self.file.ids().last();
        let ranges: Vec<_> = if is_by_key(filter) {
            keys::newest_first(last, before).collect()
        } else {
            vec![i64::MIN..=before.saturating_sub(1)]
        };
        let mut events = Vec::new();
        for range in ranges {
            let query = matching(filter, &recent, &range, true);
            self.read_newest(&query, limit - events.len(), &mut events).map_err(error)?;
            if events.len() == limit {
                break;
            }
        }
        Ok(events)
    }

    fn read_newest(&self, query: &Matching, limit: usize, events: &mut Vec<Stored>) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(&query.newest(limit))?;
        let values: Vec<&dyn ToSql> = query.values.iter().map(AsRef::as_ref).collect();
        let mut rows = statement.query(values.as_slice())?;
        while let Some(row) = rows.next()? {
            let event = row.get(0)?;
            events.push(Stored {
                event,
                id: EventId::from_bytes(row.get(1)?),
                received_at: time(row.get(2)?),
                source: row.get(3)?,
                event_type: row.get(4)?,
                subject: row.get(5)?,
                partition_key: row.get(6)?,
                deliveries: self.deliveries(event)?,
            });
        }
        Ok(())
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
        let query = matching(filter, &self.file.recent(filter), &(i64::MIN..=i64::MAX), false);
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

    fn plan(file: &Connection, query: &str, values: &[Box<dyn ToSql>]) -> Vec<String> {
        let mut statement = file.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let values: Vec<&dyn ToSql> = values.iter().map(AsRef::as_ref).collect();
        let steps = statement.query_map(values.as_slice(), |row| row.get("detail")).unwrap();
        steps.map(Result::unwrap).collect()
    }

    #[test]
    fn no_list_is_sorted() {
        let file = Connection::open_in_memory().unwrap();
        file.execute_batch(include_str!("schema.sql")).unwrap();
        let text = || Some("text".to_owned());
        let types = [None, text(), Some("text*".to_owned())];
        let statuses =
            [Status::Ready, Status::Retrying, Status::Delivered, Status::Dead, Status::Discarded].map(Some);
        for (bits, event_type) in (0..128_u8).flat_map(|bits| types.iter().map(move |of| (bits, of.clone())))
        {
            let if_bit = |bit: u8| if bits >> bit & 1 > 0 { text() } else { None };
            for status in statuses.into_iter().chain([None]) {
                let filter = Filter {
                    id: (bits & 64 > 0).then(|| EventId::from_bytes([1; 16])),
                    source: if_bit(0),
                    event_type: event_type.clone(),
                    subject: if_bit(1),
                    partition_key: if_bit(2),
                    upstream: if_bit(3),
                    status,
                    since: (bits & 16 > 0).then_some(Timestamp::UNIX_EPOCH),
                    until: (bits & 32 > 0).then_some(Timestamp::MAX),
                };
                let query = matching(&filter, &[1, 2], &(1..=100), true);
                let steps = plan(&file, &query.newest(10), &query.values);
                assert!(!steps.iter().any(|step| step.contains("ORDER BY")), "{filter:?}: {steps:#?}");
            }
        }
    }
}
