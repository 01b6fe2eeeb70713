//! What must survive a crash: events that were acknowledged and not delivered yet. An event is stored, with the claim on
//! its id, in one transaction that is on the disk before its vendor is answered; couriers deliver from there.
//!
//! States of a delivery: open (ready, or retrying) → delivered, dead or discarded; an operator's replay opens it again. In
//! a lane (`order = "partition"`) only the head is ever due.

mod desk;
mod engine;
mod handoff;
pub mod mount;
mod record;
mod schedule;
mod settings;
#[cfg(test)]
mod simulation;
mod sqlite;
#[cfg(test)]
mod tests;
mod threads;

use std::{collections::HashSet, sync::Arc, time::Duration};

pub use self::{
    desk::Desk,
    engine::{EngineError, OpenError, Stats},
    handoff::{Handed, Hatch},
    record::{
        Action, Attempt, Content, Due, Fate, Filter, Key, Record, Status, Stored, StoredDelivery, Taken,
        Tally, Way,
    },
    schedule::{Ending, fate},
    settings::{InboxUrl, Settings},
};
use self::{
    engine::{Engine, Look, Write, Written},
    handoff::Handoff,
    sqlite::{InboxFile, Sqlite},
    threads::{Health, Reader, Writer},
};
use crate::{clock::Clock, identity::EventId, store::OpenWindow};
use jiff::{SignedDuration, Timestamp};
use prometheus_client::metrics::counter::Counter;

/// Most bytes of contents that one look for due deliveries brings.
const TAKEN_BYTES_MAX: usize = 4 << 20;
/// How long ago a window may have closed whose ids must not be given again: longer than any window is wide.
const WINDOWS_KEPT: SignedDuration = SignedDuration::from_hours(48);
/// Events that one transaction of an operator's action looks at: short enough for appends not to wait.
const ACTED_MAX: usize = 500;

/// An inbox that is open.
#[derive(Debug)]
pub struct Inbox {
    file: Arc<InboxFile>,
    clock: Clock,
    writer: Writer,
    /// Looks for due deliveries.
    due: Reader,
    /// Answers operators, whose questions may take longer.
    query: Reader,
    handoff: Arc<Handoff>,
}

/// What became of an event that was to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is on the disk.
    Stored,
    /// It was before.
    Known,
}

impl Inbox {
    /// Opens the inbox, makes it if there is none, and keeps other processes out. What is settled is kept for `keep`;
    /// `errors` counts how often it began to fail. Opened within a runtime, it is to be closed before that ends.
    ///
    /// # Errors
    ///
    /// It is another's, newer than this program, in use, or cannot be opened.
    pub fn open(
        settings: &Settings,
        url: &InboxUrl,
        keep: Duration,
        clock: &Clock,
        errors: Counter,
    ) -> Result<Self, OpenError> {
        let file = InboxFile::open(&url.path, settings.bytes_max.0)?;
        let path = || url.path.display().to_string();
        let connect = |writes| {
            let engine =
                Sqlite::new(&file, writes).map_err(|error| OpenError::Engine { path: path(), error })?;
            Ok::<Box<dyn Engine>, OpenError>(Box::new(engine))
        };
        let handoff = Arc::<Handoff>::default();
        let health = Health::new(keep, errors);
        let io = |error| OpenError::Io { path: path(), error };
        Ok(Self {
            writer: Writer::start(connect(true)?, connect(false)?, clock, health, Arc::clone(&handoff))
                .map_err(io)?,
            due: Reader::start("inbox-due", connect(false)?).map_err(io)?,
            query: Reader::start("inbox-query", connect(false)?).map_err(io)?,
            clock: clock.clone(),
            handoff,
            file,
        })
    }

    /// Changes how long settled events are kept and how much is stored.
    pub fn set_bounds(&self, settings: &Settings, keep: Duration) {
        self.file.set_bytes_max(settings.bytes_max.0);
        self.writer.health().keep_for(keep);
    }

    /// Stores an event. When this returns, it is on the disk.
    ///
    /// # Errors
    ///
    /// It is not, as far as is known.
    pub async fn append(&self, record: Record) -> Result<Appended, EngineError> {
        match self.writer.write(Write::Append(Box::new(record))).await? {
            Written::Stored { .. } => Ok(Appended::Stored),
            Written::Known => Ok(Appended::Known),
            _ => Err(EngineError::Full("inbox.bytes_max is reached".to_owned())),
        }
    }

    /// Whether an event was stored within its window.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub async fn knows(&self, id: EventId, realm: u128, window: Duration) -> Result<bool, EngineError> {
        let window = SignedDuration::try_from(window).unwrap_or(SignedDuration::MAX);
        let after = self.clock.now().checked_sub(window).unwrap_or(Timestamp::MIN);
        self.due.ask(move |engine| engine.knows(id, realm, after)).await
    }

    /// Notes the end of an attempt; `urgent` if others wait for it. False: the delivery was not open any more.
    ///
    /// # Errors
    ///
    /// It is not on the disk; try again.
    pub async fn ended(
        &self,
        key: Key,
        attempt: Attempt,
        fate: Fate,
        urgent: bool,
    ) -> Result<bool, EngineError> {
        Ok(self.writer.write(Write::Ended { key, attempt, fate, urgent }).await? == Written::Ended(true))
    }

    /// Deliveries of an upstream that are due and not held.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub async fn due(&self, upstream: &str, held: &HashSet<i64>, max: usize) -> Result<Taken, EngineError> {
        let (upstream, held, now) = (upstream.to_owned(), held.clone(), self.clock.now());
        let look = move |engine: &mut dyn Engine| {
            engine.due(&Look { upstream: &upstream, now, held: &held, max, bytes_max: TAKEN_BYTES_MAX })
        };
        self.due.ask(look).await
    }

    /// Where what is stored is handed to an upstream's courier.
    #[must_use]
    pub fn hatch(&self, upstream: &str) -> Arc<Hatch> {
        self.handoff.of(upstream)
    }

    /// Events that match, the newest first, beginning before `before`.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub async fn list(
        &self,
        filter: Filter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Stored>, EngineError> {
        self.query.ask(move |engine| engine.list(&filter, before, limit)).await
    }

    /// How many deliveries [`Inbox::act`] would change.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub async fn count(&self, filter: Filter, action: Action) -> Result<u64, EngineError> {
        self.query.ask(move |engine| engine.count(&filter, action)).await
    }

    /// Replays or discards; how many deliveries that changed.
    ///
    /// # Errors
    ///
    /// The file cannot be written; what was changed before stays so.
    pub async fn act(&self, action: Action, filter: Filter) -> Result<u64, EngineError> {
        let (mut after, mut total) = (0, 0);
        loop {
            let write = Write::Act { action, filter: filter.clone(), after, max: ACTED_MAX };
            let Written::Acted { changed, last } = self.writer.write(write).await? else { return Ok(total) };
            total += changed;
            match last {
                Some(last) => after = last,
                None => break,
            }
        }
        self.handoff.ring_all();
        Ok(total)
    }

    /// The windows that may still matter, in the order in which they were opened.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub async fn windows(&self) -> Result<Vec<OpenWindow>, EngineError> {
        let after = self.clock.now().checked_sub(WINDOWS_KEPT).unwrap_or(Timestamp::MIN);
        self.query.ask(move |engine| engine.windows(after)).await
    }

    /// What is in it.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub async fn stats(&self) -> Result<Stats, EngineError> {
        self.query.ask(|engine| engine.stats()).await
    }

    /// Whether it can be written, or else why not.
    #[must_use]
    pub fn health(&self) -> &Health {
        self.writer.health()
    }

    /// The time, as the inbox goes by it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Writes what is to be written and closes the file.
    pub fn close(&self) {
        self.due.stop();
        self.query.stop();
        self.writer.stop();
    }
}
