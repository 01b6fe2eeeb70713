//! What the inbox stores, and what it gives back.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;

use crate::{identity::EventId, store::OpenWindow, upstream::Format};

/// An event to be stored: all that its deliveries need, whatever the configuration says by then.
#[derive(Clone)]
pub struct Record {
    pub id: EventId,
    /// With the id, what an event is known by: its origin, its proof and its ways.
    pub realm: u128,
    /// The window its id is of, for events that look the same each time.
    pub window: Option<OpenWindow>,
    /// For how long a repetition is a duplicate.
    pub dedup_window: Duration,
    pub received_at: Timestamp,
    /// Name of the source.
    pub source: Arc<str>,
    /// Short type.
    pub event_type: &'static str,
    pub subject: Option<String>,
    pub partition_key: String,
    /// Who sent it.
    pub client: IpAddr,
    pub content: Content,
    pub ways: Vec<Way>,
}

/// The bytes an event's requests are made of.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The CloudEvents attributes, a JSON object.
    pub attributes: Bytes,
    /// The data object; none if every way wants the raw body.
    pub data: Option<Bytes>,
    /// The vendor's body; none if no way wants it.
    pub raw: Option<Bytes>,
    /// The vendor's content type, for the raw body.
    pub content_type: Option<Bytes>,
}

/// An event's way to one app.
#[derive(Clone, Debug)]
pub struct Way {
    pub upstream: Arc<str>,
    pub format: Format,
    /// Whether it goes after all events of the same partition key.
    pub ordered: bool,
}

/// A delivery: an event on its way to one app. Events count up in the order of receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub event: i64,
    pub upstream: i64,
}

/// A delivery whose time has come.
#[derive(Clone)]
pub struct Due {
    pub key: Key,
    pub id: EventId,
    pub received_at: Timestamp,
    pub source: Arc<str>,
    pub event_type: Arc<str>,
    pub client: String,
    pub format: Format,
    /// The partition it keeps its order in.
    pub lane: Option<Arc<str>>,
    /// Attempts since it was stored, or replayed.
    pub tries: u32,
    /// An operator asked for it.
    pub replay: bool,
    /// None: what is on the disk is not what was stored.
    pub content: Option<Content>,
}

/// What a look for due deliveries found.
#[derive(Debug, Default)]
pub struct Taken {
    pub due: Vec<Due>,
    /// There may be more by now.
    pub more: bool,
    /// When the next one is due, as far as known.
    pub next_at: Option<Timestamp>,
}

/// One attempt to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub at: Timestamp,
    /// The app's answer, if there was one.
    pub status: Option<u16>,
    /// Why it failed, in our own words.
    pub error: Option<String>,
    pub took: Duration,
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Delivered,
    /// Another attempt, not before this time.
    Retry(Timestamp),
    /// No other, unless an operator asks for it.
    Dead,
}

/// How far a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Not tried yet.
    Ready,
    /// Tried, and to be tried again.
    Retrying,
    Delivered,
    Dead,
    /// An operator gave it up.
    Discarded,
}

impl Status {
    pub const ALL: [Self; 5] = [Self::Ready, Self::Retrying, Self::Delivered, Self::Dead, Self::Discarded];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Retrying => "retrying",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Discarded => "discarded",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

/// Which events are meant. What is none does not matter.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub id: Option<EventId>,
    pub source: Option<String>,
    /// A short type, or a prefix that ends in `.*`.
    pub event_type: Option<String>,
    pub subject: Option<String>,
    pub partition_key: Option<String>,
    pub upstream: Option<String>,
    pub status: Option<Status>,
    /// Received at this time or later.
    pub since: Option<Timestamp>,
    /// Received before this time.
    pub until: Option<Timestamp>,
}

/// An event as operators see it: nothing of its data.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its place in the order of receipt.
    pub event: i64,
    pub id: EventId,
    pub received_at: Timestamp,
    pub source: String,
    pub event_type: String,
    pub subject: Option<String>,
    pub partition_key: String,
    pub deliveries: Vec<StoredDelivery>,
}

#[derive(Clone, Debug)]
pub struct StoredDelivery {
    pub upstream: String,
    pub status: Status,
    /// When it is tried next; none if it is settled, or waits for another of its partition.
    pub due_at: Option<Timestamp>,
    /// When it was delivered or discarded.
    pub settled_at: Option<Timestamp>,
    pub replay: bool,
    pub attempts: Vec<Attempt>,
}

/// What an operator does to deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Again: settled ones and dead letters as if they were new, marked as replays; those that wait for their time at
    /// once.
    Replay,
    /// Never: open ones and dead letters.
    Discard,
}

/// What is in the inbox, of one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub ready: u64,
    pub retrying: u64,
    pub dead: u64,
}

// === impl Debug: nothing of what was sent ===

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, source, ways, .. } = self;
        f.debug_struct("Record")
            .field("id", id)
            .field("source", source)
            .field("ways", ways)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |part: &Option<Bytes>| part.as_ref().map(Bytes::len);
        f.debug_struct("Content")
            .field("data_bytes", &bytes(&self.data))
            .field("raw_bytes", &bytes(&self.raw))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, id, source, tries, .. } = self;
        f.debug_struct("Due")
            .field("key", key)
            .field("id", id)
            .field("source", source)
            .field("tries", tries)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, source, event_type, status, .. } = self;
        f.debug_struct("Filter")
            .field("id", id)
            .field("source", source)
            .field("type", event_type)
            .field("status", status)
            .finish_non_exhaustive()
    }
}
