//! What a database must do to be an inbox. Everything here blocks and is called from the inbox's own threads; one
//! instance writes, others read.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use crate::{identity::EventId, store::OpenWindow};

use super::record::{Action, Attempt, Due, Fate, Filter, Key, Record, Stored, Taken, Tally};

/// A database.
pub(super) trait Engine: Send {
    /// All of it as one transaction, on the disk when this returns.
    ///
    /// # Errors
    ///
    /// Nothing of it counts; whether it is on the disk is unknown until [`Engine::reopen`] has looked.
    fn write(&mut self, now: Timestamp, batch: &[Write]) -> Result<Vec<Written>, EngineError>;

    /// Whether an event was stored after this time.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    fn knows(&mut self, id: EventId, realm: u128, after: Timestamp) -> Result<bool, EngineError>;

    /// Deliveries of an upstream whose time has come and that are not `held`, the longest due first: at most `max`, and
    /// no more than fit into `bytes_max` (but one).
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    fn due(&mut self, look: &Look<'_>) -> Result<Taken, EngineError>;

    /// Events that match, the newest first, beginning before `before`.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    fn list(
        &mut self,
        filter: &Filter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<Stored>, EngineError>;

    /// How many deliveries of matching events an action would change.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    fn count(&mut self, filter: &Filter, action: Action) -> Result<u64, EngineError>;

    /// The windows that were open after this time, in the order in which they were opened.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    fn windows(&mut self, after: Timestamp) -> Result<Vec<OpenWindow>, EngineError>;

    /// What is in it.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    fn stats(&mut self) -> Result<Stats, EngineError>;

    /// Bytes in use, and the bound on them.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    fn room(&mut self) -> Result<(u64, u64), EngineError>;

    /// Starts anew after an error, and proves by a write that the disk takes it.
    ///
    /// # Errors
    ///
    /// It does not yet.
    fn reopen(&mut self) -> Result<(), EngineError>;

    /// Moves what was written to its final place, as far as that holds up no one.
    ///
    /// # Errors
    ///
    /// The disk fails; nothing is lost by that.
    fn tidy(&mut self) -> Result<(), EngineError>;

    /// Whether it is time to tidy.
    fn is_untidy(&self) -> bool;
}

/// What [`Engine::due`] looks for.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub upstream: &'a str,
    pub now: Timestamp,
    /// Events whose delivery to this upstream is somebody's already.
    pub held: &'a HashSet<i64>,
    pub max: usize,
    pub bytes_max: usize,
}

/// One thing to write.
#[derive(Debug)]
pub(super) enum Write {
    /// An event.
    Append(Box<Record>),
    /// An attempt has ended; whether others wait for that to be on the disk.
    Ended { key: Key, attempt: Attempt, fate: Fate, urgent: bool },
    /// An operator's wish, for the deliveries of at most `max` matching events, `after` the one that came last.
    Act { action: Action, filter: Filter, after: i64, max: usize },
    /// Forgets at most `max` deliveries that were settled before this time, and their events.
    Prune { before: Timestamp, max: usize },
    /// Forgets the contents of at most `max` settled events, the oldest first, for want of room.
    Strip { max: usize },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// A new event; of each of its ways, the upstream's number and whether its time has come.
    Stored { event: i64, ways: Vec<(i64, bool)> },
    /// An event that was there.
    Known,
    /// A new event, for which there is no room within `inbox.bytes_max`.
    NoRoom,
    /// An attempt; false: its delivery was not open any more.
    Ended(bool),
    /// Deliveries changed, and the last event that was looked at; none if all were.
    Acted { changed: u64, last: Option<i64> },
    /// How many were forgotten, and whether there are more to look at.
    Forgotten { count: usize, more: bool },
}

/// What is in the inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// By upstream.
    pub tally: BTreeMap<String, Tally>,
    /// When the oldest open event was received, by upstream.
    pub oldest: BTreeMap<String, Timestamp>,
    /// Bytes in use.
    pub bytes: u64,
}

/// Why the database does not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// No room, neither on the disk nor within `inbox.bytes_max`.
    #[error("there is no room: {0}")]
    Full(String),
    /// The disk fails, or does not let us write.
    #[error("the disk fails: {0}")]
    Disk(String),
    /// What is on the disk makes no sense.
    #[error("the file is damaged: {0}")]
    Damaged(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Why an inbox does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot open the inbox `{path}`: {error}")]
    Io { path: String, error: std::io::Error },
    #[error("cannot open the inbox `{path}`: {error}")]
    Engine { path: String, error: EngineError },
    #[error("the inbox `{path}` is in use by another process")]
    InUse { path: String },
    #[error("`{path}` is no inbox of hookwarden: it is another program's database")]
    Foreign { path: String },
    #[error(
        "the inbox `{path}` has schema version {found}, and this hookwarden knows versions up to {known}"
    )]
    Version { path: String, found: i64, known: i64 },
}

impl Due {
    /// Bytes of its content.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let Some(content) = &self.content else { return 0 };
        let optional = [&content.data, &content.raw, &content.content_type];
        content.attributes.len() + optional.into_iter().flatten().map(bytes::Bytes::len).sum::<usize>()
    }
}
