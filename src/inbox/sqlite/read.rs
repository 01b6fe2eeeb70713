//! What is due, and what is there.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{LOG_PAGES_TIDY, Result, Sqlite, error, ids, list::time, write::checksum};
use crate::{
    identity::EventId,
    inbox::{
        engine::{Engine, EngineError, Look, Stats, Write, Written},
        record::{Action, Content, Due, Filter, Key, Stored, Taken},
    },
    store::OpenWindow,
    upstream::Format,
};

/// Writes as much as an event may have, syncs, and takes it back: whether the disk takes what will come.
const PROBE: &str = "INSERT OR REPLACE INTO contents (event, checksum, attributes) VALUES (-1, x'', zeroblob(131072)); \
                     DELETE FROM contents WHERE event = -1";

/// A delivery that is due, without its event.
struct Place {
    key: Key,
    format: Format,
    lane: Option<Arc<str>>,
    tries: u32,
    replay: bool,
}

impl Engine for Sqlite {
    fn write(&mut self, now: Timestamp, batch: &[Write]) -> Result<Vec<Written>> {
        self.transact(now, batch)
    }

    fn due(&mut self, look: &Look<'_>) -> Result<Taken> {
        let Some(upstream) = self.number("SELECT upstream FROM upstreams WHERE name = ?", [look.upstream])?
        else {
            return Ok(Taken::default());
        };
        let (places, full) = self.places(upstream, look).map_err(error)?;
        let mut taken = Taken { more: full, ..Taken::default() };
        let mut bytes = 0;
        for place in places {
            let due = self.event(place)?;
            bytes += due.bytes();
            taken.due.push(due);
            if bytes > look.bytes_max {
                taken.more = true;
                break;
            }
        }
        if !taken.more {
            let next =
                "SELECT min(due_at) FROM deliveries WHERE state = 'open' AND upstream = ? AND due_at > ?";
            let next = self.connection.prepare_cached(next).and_then(|mut it| {
                it.query_one(params![upstream, look.now.as_millisecond()], |row| row.get::<_, Option<i64>>(0))
            });
            taken.next_at = next.map_err(error)?.map(time);
        }
        Ok(taken)
    }

    fn knows(&mut self, id: EventId, realm_hash: u128, after: Timestamp) -> Result<bool> {
        let realm = "SELECT realm FROM realms WHERE hash = ?";
        let Some(realm) = self.number(realm, [realm_hash.to_be_bytes()])? else { return Ok(false) };
        let recent = self.file.ids().recent().last(id, realm);
        let received_at = match recent {
            Some(event) => self.number(ids::RECENT, [event])?,
            None => self.number(ids::INDEXED, params![id.key().to_be_bytes(), realm])?,
        };
        Ok(received_at.is_some_and(|received_at| received_at > after.as_millisecond()))
    }

    fn list(&mut self, filter: &Filter, before: Option<i64>, limit: usize) -> Result<Vec<Stored>> {
        self.listed(filter, before, limit)
    }

    fn count(&mut self, filter: &Filter, action: Action) -> Result<u64> {
        self.counted(filter, action)
    }

    fn windows(&mut self, after: Timestamp) -> Result<Vec<OpenWindow>> {
        let sql =
            "SELECT key, kind, since, until, bucket, generation FROM windows WHERE until > ? ORDER BY event";
        let read = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            let rows = statement.query_map([after.as_millisecond()], |row| {
                Ok(OpenWindow {
                    key: u128::from_be_bytes(row.get(0)?),
                    kind: u128::from_be_bytes(row.get(1)?),
                    since: time(row.get(2)?),
                    until: time(row.get(3)?),
                    bucket: row.get(4)?,
                    generation: row.get(5)?,
                })
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(error)
    }

    fn stats(&mut self) -> Result<Stats> {
        let read = || {
            let mut statement = self.connection.prepare_cached("SELECT upstream, name FROM upstreams")?;
            let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<(i64, String)>>>()
        };
        let upstreams = read().map_err(error)?;
        let oldest = "SELECT received_at FROM events \
                      WHERE event = (SELECT min(event) FROM deliveries WHERE state = 'open' AND upstream = ?)";
        let mut stats = Stats { bytes: self.bytes()?, ..Stats::default() };
        for (number, name) in upstreams {
            stats.tally.insert(name.clone(), self.file.tallies().of(number));
            stats.oldest.extend(self.number(oldest, [number])?.map(|at| (name, time(at))));
        }
        Ok(stats)
    }

    fn reopen(&mut self) -> Result<()> {
        let again = Self::new(&self.file, true)?;
        // On a full disk, the log may be what fills it.
        again.checkpoint("TRUNCATE").unwrap_or_default();
        again.connection.execute_batch(PROBE).map_err(error)?;
        *self = again;
        Ok(())
    }

    fn room(&mut self) -> Result<(u64, u64)> {
        Ok((self.bytes()?, self.file.bytes_max()))
    }

    fn tidy(&mut self) -> Result<()> {
        self.checkpoint("PASSIVE")
    }

    fn is_untidy(&self) -> bool {
        self.file.log_pages.load(Ordering::Relaxed) > LOG_PAGES_TIDY
    }
}

impl Sqlite {
    pub(super) fn checkpoint(&self, mode: &str) -> Result<()> {
        let done = self
            .connection
            .query_one(&format!("PRAGMA wal_checkpoint({mode})"), (), |row| row.get::<_, i64>(0));
        done.map(drop).map_err(error)
    }

    fn number(&self, sql: &str, params: impl rusqlite::Params) -> Result<Option<i64>> {
        let number = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut it| it.query_one(params, |row| row.get(0)).optional());
        number.map_err(error)
    }

    /// The places that are due and not held, and whether there may be more.
    fn places(&self, upstream: i64, look: &Look<'_>) -> rusqlite::Result<(Vec<Place>, bool)> {
        let mut statement = self.connection.prepare_cached(
            "SELECT event, format, lane, tries, replay FROM deliveries \
             WHERE state = 'open' AND upstream = ? AND due_at <= ? ORDER BY due_at, event LIMIT ?",
        )?;
        let limit = look.max.saturating_add(look.held.len());
        let mut rows = statement.query(params![
            upstream,
            look.now.as_millisecond(),
            i64::try_from(limit).unwrap_or(i64::MAX)
        ])?;
        let (mut places, mut seen) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            seen += 1;
            let event = row.get(0)?;
            if !look.held.contains(&event) && places.len() < look.max {
                places.push(Place {
                    key: Key { event, upstream },
                    format: Format::parse(row.get_ref(1)?.as_str().unwrap_or_default()),
                    lane: row.get(2)?,
                    tries: row.get(3)?,
                    replay: row.get(4)?,
                });
            }
        }
        Ok((places, seen >= limit))
    }

    /// A delivery with its event; without contents if those are damaged or gone.
    fn event(&self, place: Place) -> Result<Due> {
        let Place { key, format, lane, tries, replay } = place;
        let sql = "SELECT e.id, e.received_at, e.source, e.type, e.client, c.checksum, c.attributes, c.data, c.raw, \
                          c.content_type FROM events e JOIN contents c USING (event) WHERE e.event = ?";
        let read = |row: &rusqlite::Row<'_>| {
            let id = EventId::from_bytes(row.get(0)?);
            let (source, client): (Arc<str>, String) = (row.get(2)?, row.get(4)?);
            let content = Content {
                attributes: part(row, 6)?.unwrap_or_default(),
                data: part(row, 7)?,
                raw: part(row, 8)?,
                content_type: part(row, 9)?,
            };
            let whole = row.get_ref(5)?.as_blob()? == checksum(id, &source, &client, &content);
            Ok(Due {
                key,
                id,
                received_at: time(row.get(1)?),
                source,
                event_type: row.get(3)?,
                client,
                format,
                lane: lane.clone(),
                tries,
                replay,
                content: whole.then_some(content),
            })
        };
        let row =
            self.connection.prepare_cached(sql).and_then(|mut it| it.query_one([key.event], read).optional());
        match row.map_err(error) {
            Ok(Some(due)) => return Ok(due),
            // One row's damage is that row's: the others go on.
            Ok(None) | Err(EngineError::Damaged(_) | EngineError::Other(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(Due {
            key,
            id: EventId::from_bytes([0; 16]),
            received_at: Timestamp::UNIX_EPOCH,
            source: "".into(),
            event_type: "".into(),
            client: String::new(),
            format,
            lane,
            tries,
            replay,
            content: None,
        })
    }
}

fn part(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Option<Bytes>> {
    Ok(row.get_ref(at)?.as_bytes_or_null()?.map(Bytes::copy_from_slice))
}
