//! One transaction: events stored, attempts noted.

use std::{cell::RefCell, collections::HashMap, ptr, sync::atomic::Ordering};

use jiff::Timestamp;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use twox_hash::XxHash3_64;

use super::{
    InboxFile, LOG_PAGES_MAX, Result, Sqlite, error,
    forget::Cursors,
    ids::{self, Changes},
    keys::Segments,
    tally::{Tallies, status_of},
};
use crate::{
    ascii::address,
    identity::EventId,
    inbox::{
        engine::{EngineError, Write, Written},
        record::{Attempt, Content, Fate, Key, Record, Status, Way},
    },
    store::OpenWindow,
};

/// The statement by which the end of an attempt moves its delivery, if what else is asked for holds, too.
macro_rules! moves {
    ($and:literal) => {
        concat!(
            "UPDATE deliveries SET state = ?, due_at = ?, settled_at = ?, attempts = attempts + 1, tries = tries + 1, ",
            "tried_at = ?, status = ?, error = ?, took_ms = ? WHERE event = ? AND upstream = ?",
            $and
        )
    };
}

/// A transaction that is being written.
pub(super) struct Batch<'a> {
    pub connection: &'a Connection,
    /// What was asked of it: prepared, or looked up, once a transaction.
    pub statements: RefCell<Vec<(&'static str, CachedStatement<'a>)>>,
    pub names: &'a mut Names,
    pub file: &'a InboxFile,
    pub tallies: Tallies,
    pub ids: Changes,
    pub now: i64,
    /// No room for more events.
    pub full: bool,
    pub cursors: &'a mut Cursors,
    pub segments: &'a mut Segments,
}

/// Numbers that stand for texts.
#[derive(Debug, Default)]
pub(super) struct Names {
    upstreams: HashMap<String, i64>,
    realms: HashMap<u128, i64>,
}

impl Sqlite {
    pub(super) fn transact(&mut self, now: Timestamp, batch: &[Write]) -> Result<Vec<Written>> {
        self.order("BEGIN IMMEDIATE")?;
        let committed = self.written(now, batch).and_then(|all| self.order("COMMIT").map(|()| all));
        match committed {
            Ok((written, tallies, ids)) => {
                self.file.tallies().take_over(&tallies);
                self.file.ids().take_over(ids);
                self.keep_the_log_short();
                Ok(written)
            }
            Err(error) => {
                // Some errors have rolled it back already.
                drop(self.connection.execute_batch("ROLLBACK"));
                self.names = Names::default();
                self.segments.rolled_back();
                Err(error)
            }
        }
    }

    fn order(&self, sql: &str) -> Result<()> {
        self.connection.prepare_cached(sql).and_then(|mut order| order.execute(())).map(drop).map_err(error)
    }

    /// Writes all, within a transaction, and gives its statements back; what came of it, and what it changes once it is committed.
    fn written(&mut self, now: Timestamp, batch: &[Write]) -> Result<(Vec<Written>, Tallies, Changes)> {
        let appends = batch.iter().any(|write| matches!(write, Write::Append(_)));
        let full = appends && self.bytes()? >= self.file.bytes_max();
        let mut transaction = Batch {
            connection: &self.connection,
            statements: RefCell::default(),
            names: &mut self.names,
            file: &self.file,
            tallies: Tallies::default(),
            ids: self.file.ids().begin(),
            now: now.as_millisecond(),
            full,
            cursors: &mut self.cursors,
            segments: &mut self.segments,
        };
        // Before anything is forgotten that it may be about.
        transaction.index()?;
        transaction.write_segment()?;
        let written = batch.iter().map(|write| transaction.write(write)).collect::<Result<_>>()?;
        Ok((written, transaction.tallies, transaction.ids))
    }

    /// Load or readers may keep `tidy` from ever catching up; then the writer does it, and all wait for it.
    fn keep_the_log_short(&self) {
        if self.file.log_pages.load(Ordering::Relaxed) > LOG_PAGES_MAX
            && let Err(error) = self.checkpoint("RESTART")
        {
            tracing::warn!(%error, "the inbox's log could not be moved to its file; it grows");
        }
    }
}

impl<'a> Batch<'a> {
    fn index(&self) -> Result<()> {
        for (id, realm, event) in &self.ids.stretch {
            // After a start some are there already.
            let values = params![id.to_be_bytes(), realm, event];
            self.execute("INSERT OR IGNORE INTO ids (id, realm, event) VALUES (?, ?, ?)", values)?;
        }
        if let Some(event) = self.ids.round_ends {
            self.execute(ids::INDEXED_TO, [event])?;
        }
        Ok(())
    }

    fn write(&mut self, write: &Write) -> Result<Written> {
        match write {
            Write::Append(record) => self.append(record),
            Write::Ended { key, attempt, fate, .. } => self.ended(*key, attempt, *fate),
            Write::Act { action, filter, after, max } => self.act(*action, filter, *after, *max),
            Write::Prune { before, max } => self.prune(before.as_millisecond(), *max),
            Write::Strip { max } => self.strip(*max),
        }
    }

    fn append(&mut self, record: &Record) -> Result<Written> {
        let realm = self.realm(record.realm)?;
        let id = record.id.key().to_be_bytes();
        let Record { source, event_type, subject, partition_key, client, content, .. } = record;
        let client = address(*client);
        let recent = self.ids.added.last(record.id, realm);
        let recent = recent.or_else(|| self.file.ids().recent().last(record.id, realm));
        let received_at = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
        let known = match recent {
            Some(event) => self.one(ids::RECENT, [event], received_at)?,
            None => self.one(ids::INDEXED, params![id, realm], received_at)?,
        };
        let window = i64::try_from(record.dedup_window.as_millis()).unwrap_or(i64::MAX);
        if known.is_some_and(|received_at| received_at.saturating_add(window) > self.now) {
            return Ok(Written::Known);
        }
        if self.full {
            return Ok(Written::NoRoom);
        }
        let event = self.ids.last + 1;
        self.execute(
            "INSERT INTO events (event, id, realm, received_at, source, type, subject, partitionkey, client) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                event,
                id,
                realm,
                record.received_at.as_millisecond(),
                source,
                event_type,
                subject,
                partition_key,
                &*client
            ],
        )?;
        self.ids.last = event;
        self.ids.added.insert(record.id, realm, event);
        let Content { attributes, data, raw, content_type } = content;
        self.execute(
            "INSERT INTO contents (event, checksum, attributes, data, raw, content_type) VALUES (?, ?, ?, ?, ?, ?)",
            params![
                event,
                checksum(record.id, source, &client, content),
                &attributes[..],
                data.as_deref(),
                raw.as_deref(),
                content_type.as_deref()
            ],
        )?;
        if let Some(window) = &record.window {
            self.remember(event, window)?;
        }
        let ways = record.ways.iter().map(|way| self.deliver(event, way, partition_key));
        Ok(Written::Stored { event, ways: ways.collect::<Result<_>>()? })
    }

    fn remember(&self, event: i64, window: &OpenWindow) -> Result<()> {
        let OpenWindow { key, kind, since, until, bucket, generation } = window;
        self.execute(
            "INSERT INTO windows (event, key, kind, since, until, bucket, generation) VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![
                event,
                key.to_be_bytes(),
                kind.to_be_bytes(),
                since.as_millisecond(),
                until.as_millisecond(),
                bucket,
                generation
            ],
        )?;
        Ok(())
    }

    fn deliver(&mut self, event: i64, way: &Way, partition_key: &str) -> Result<(i64, bool)> {
        let upstream = self.upstream(&way.upstream)?;
        let lane = way.ordered.then_some(partition_key);
        let due_at =
            if lane.is_some() && self.head(upstream, lane)?.is_some() { None } else { Some(self.now) };
        self.execute(
            "INSERT INTO deliveries (event, upstream, format, state, due_at, lane, place) \
             VALUES (?, ?, ?, 'open', ?, ?, ?)",
            params![event, upstream, way.format.as_str(), due_at, lane, event],
        )?;
        self.tallies.moved(upstream, None, Some(Status::Ready));
        Ok((upstream, due_at.is_some()))
    }

    /// The first of a lane.
    pub(super) fn head(&self, upstream: i64, lane: Option<&str>) -> Result<Option<i64>> {
        let head = "SELECT event FROM deliveries WHERE upstream = ? AND lane = ? AND lane IS NOT NULL AND state = 'open' \
                    ORDER BY place, event LIMIT 1";
        self.one(head, params![upstream, lane], |row| row.get(0))
    }

    /// A lane whose head has gone goes on with the next.
    pub(super) fn go_on(&self, upstream: i64, lane: Option<&str>) -> Result<()> {
        if lane.is_none() {
            return Ok(());
        }
        if let Some(event) = self.head(upstream, lane)? {
            self.execute(
                "UPDATE deliveries SET due_at = ? WHERE event = ? AND upstream = ? AND due_at IS NULL",
                params![self.now, event, upstream],
            )?;
        }
        Ok(())
    }

    fn ended(&mut self, key: Key, attempt: &Attempt, fate: Fate) -> Result<Written> {
        let Key { event, upstream } = key;
        let (state, due_at, settled_at) = match fate {
            Fate::Delivered => ("delivered", None, Some(self.now)),
            Fate::Retry(at) => ("open", Some(at.as_millisecond()), None),
            Fate::Dead => ("dead", None, None),
        };
        let (at, status) = (attempt.at.as_millisecond(), attempt.status);
        let took_ms = i64::try_from(attempt.took.as_millis()).unwrap_or(i64::MAX);
        let after = params![state, due_at, settled_at, at, status, attempt.error, took_ms, event, upstream];
        // Most are in no lane, and this is their first attempt: one statement.
        let first = self.execute(moves!(" AND state = 'open' AND attempts = 0 AND lane IS NULL"), after)?;
        if first > 0 {
            self.tallies.moved(upstream, Some(Status::Ready), Some(status_of(state, true)));
            return Ok(Written::Ended(true));
        }
        let row = "SELECT state, attempts, lane FROM deliveries WHERE event = ? AND upstream = ?";
        let row: Option<(String, i64, Option<String>)> =
            self.one(row, params![event, upstream], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let Some((before, attempts, lane)) = row else { return Ok(Written::Ended(false)) };
        self.execute(
            "INSERT OR IGNORE INTO attempts (event, upstream, attempt, at, status, error, took_ms) \
             SELECT event, upstream, attempts, tried_at, status, error, took_ms FROM deliveries \
              WHERE event = ? AND upstream = ? AND attempts > 0",
            params![event, upstream],
        )?;
        // What an operator gave up meanwhile stays so, unless the app has taken it.
        let open = before == "open";
        if open || fate == Fate::Delivered {
            self.execute(moves!(""), after)?;
            self.tallies.moved(
                upstream,
                Some(status_of(&before, attempts > 0)),
                Some(status_of(state, true)),
            );
        } else {
            self.execute(
                "UPDATE deliveries SET attempts = attempts + 1, tries = tries + 1, \
                        tried_at = ?, status = ?, error = ?, took_ms = ? \
                 WHERE event = ? AND upstream = ?",
                params![at, status, attempt.error, took_ms, event, upstream],
            )?;
        }
        if open && state != "open" {
            self.go_on(upstream, lane.as_deref())?;
        }
        Ok(Written::Ended(open))
    }

    pub(super) fn execute(&self, sql: &'static str, params: impl rusqlite::Params) -> Result<usize> {
        self.run(sql, |statement| statement.execute(params))
    }

    pub(super) fn one<T>(
        &self,
        sql: &'static str,
        params: impl rusqlite::Params,
        read: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>> {
        self.run(sql, |statement| statement.query_one(params, read).optional())
    }

    /// Runs a statement, known by its place in the program: one that stands in two places is prepared twice, which is all.
    pub(super) fn run<T>(
        &self,
        sql: &'static str,
        run: impl FnOnce(&mut CachedStatement<'a>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut statements = self.statements.borrow_mut();
        if let Some((_, statement)) = statements.iter_mut().find(|(known, _)| ptr::eq(*known, sql)) {
            return run(statement).map_err(error);
        }
        let mut statement = self.connection.prepare_cached(sql).map_err(error)?;
        let result = run(&mut statement).map_err(error);
        statements.push((sql, statement));
        result
    }

    fn upstream(&mut self, name: &str) -> Result<i64> {
        if let Some(number) = self.names.upstreams.get(name) {
            return Ok(*number);
        }
        self.execute("INSERT OR IGNORE INTO upstreams (name) VALUES (?)", [name])?;
        let number = self.one("SELECT upstream FROM upstreams WHERE name = ?", [name], |row| row.get(0))?;
        let number =
            number.ok_or_else(|| EngineError::Other("a row that was written is not there".to_owned()))?;
        self.names.upstreams.insert(name.to_owned(), number);
        Ok(number)
    }

    fn realm(&mut self, realm: u128) -> Result<i64> {
        if let Some(number) = self.names.realms.get(&realm) {
            return Ok(*number);
        }
        let hash = realm.to_be_bytes();
        self.execute("INSERT OR IGNORE INTO realms (hash) VALUES (?)", [hash])?;
        let number = self.one("SELECT realm FROM realms WHERE hash = ?", [hash], |row| row.get(0))?;
        let number =
            number.ok_or_else(|| EngineError::Other("a row that was written is not there".to_owned()))?;
        self.names.realms.insert(realm, number);
        Ok(number)
    }
}

/// Of all that is sent, so that what the disk changed is not: each part by XXH3, seeded with that of the parts before.
pub(super) fn checksum(id: EventId, source: &str, client: &str, content: &Content) -> [u8; 8] {
    let id = id.key().to_be_bytes();
    let always = [&id[..], source.as_bytes(), client.as_bytes(), &content.attributes].map(Some);
    let optional = [&content.data, &content.raw, &content.content_type].map(|part| part.as_deref());
    let hash = always.into_iter().chain(optional).fold(0, |before, part| match part {
        Some(part) => XxHash3_64::oneshot_with_seed(before, part),
        None => before.wrapping_add(1),
    });
    hash.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_contents_have_different_checksums() {
        let id = EventId::from_bytes([1; 16]);
        let part = |at: usize, bits: usize| (bits >> at & 1 == 1).then(|| bytes::Bytes::from_static(b"x"));
        let sums: std::collections::HashSet<_> = (0..8)
            .map(|bits| Content {
                attributes: "{}".into(),
                data: part(0, bits),
                raw: part(1, bits),
                content_type: part(2, bits),
            })
            .map(|content| checksum(id, "source", "client", &content))
            .collect();
        assert_eq!(sums.len(), 8);
    }
}
