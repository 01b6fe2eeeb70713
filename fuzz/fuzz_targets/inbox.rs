//! An inbox whose file was damaged, opened and worked through by the real engine: what comes out whole is what was
//! stored, everything else is told as damage.
//!
//! An input is a byte and edits. The byte says whether edits change bytes of the file (three of the place, one put there) or
//! values of its tables (a column, a row, a type, a length and as many bytes): see [`damage_file`] and [`damage_rows`].

#![no_main]

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use bytes::Bytes;
use hookwarden::{
    clock::Clock,
    identity::EventId,
    inbox::{
        Action, Attempt, Content, Due, EngineError, Fate, Filter, Inbox, InboxUrl, OpenError, Record,
        Settings, Status, Way,
    },
    json::Document,
    store::Memory,
    upstream::Format,
    vendor::{Extent, Identity, Options, Plan, Windowed, builtin},
};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use rusqlite::{Connection, types::Value};
use tokio::runtime::{Builder, Runtime};

const NOW: Timestamp = Timestamp::constant(1_770_111_000, 0);
const KEEP: Duration = Duration::from_secs(3600);
const EVENTS: u8 = 6;
const UPSTREAMS: [&str; 2] = ["app", "raw"];
const EDITS_MAX: usize = 64;
/// An event that looks the same each time.
const SWITCH: &[u8] = br#"{"success":true,"data":{"type":"application.enabled","account":{"publicId":"a"}}}"#;
const SCHEMA: &str = include_str!("../../src/inbox/sqlite/schema.sql");

/// Every column, and its table.
const COLUMNS: [(&str, &str); 49] = [
    ("contents", "checksum"),
    ("contents", "attributes"),
    ("contents", "data"),
    ("contents", "raw"),
    ("contents", "content_type"),
    ("contents", "event"),
    ("events", "event"),
    ("events", "id"),
    ("events", "realm"),
    ("events", "received_at"),
    ("events", "source"),
    ("events", "type"),
    ("events", "subject"),
    ("events", "partitionkey"),
    ("events", "client"),
    ("deliveries", "event"),
    ("deliveries", "upstream"),
    ("deliveries", "format"),
    ("deliveries", "state"),
    ("deliveries", "due_at"),
    ("deliveries", "settled_at"),
    ("deliveries", "attempts"),
    ("deliveries", "tries"),
    ("deliveries", "replay"),
    ("deliveries", "lane"),
    ("deliveries", "place"),
    ("attempts", "at"),
    ("attempts", "status"),
    ("attempts", "error"),
    ("attempts", "took_ms"),
    ("windows", "key"),
    ("windows", "kind"),
    ("windows", "since"),
    ("windows", "until"),
    ("windows", "bucket"),
    ("windows", "generation"),
    ("upstreams", "name"),
    ("deliveries", "tried_at"),
    ("deliveries", "status"),
    ("deliveries", "error"),
    ("deliveries", "took_ms"),
    ("indexed", "event"),
    ("ids", "id"),
    ("ids", "realm"),
    ("ids", "event"),
    ("keys", "segment"),
    ("keys", "kind"),
    ("keys", "key"),
    ("keys", "event"),
];
/// The first of them that are covered by the checksum, row by row.
const CONTENTS: usize = 5;
/// What counts up, and is not checked to be far from its end.
const COUNTS: [&str; 2] = ["attempts", "generation"];
const COUNT_MAX: i64 = u32::MAX as i64 - 100;

/// What is there before the damage.
struct Lab {
    runtime: Runtime,
    url: InboxUrl,
    /// The file as hookwarden makes it.
    strict: Vec<u8>,
    /// The same, but its columns take values of any type, as those of a damaged one do.
    lax: Vec<u8>,
    stored: BTreeMap<u128, Content>,
    switch: Windowed,
}

thread_local!(static LAB: RefCell<Option<Lab>> = const { RefCell::new(None) });

impl Lab {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("hookwarden-fuzz-{}.db", process::id()));
        let url: InboxUrl = format!("sqlite:{}", path.display()).parse().expect("an address");
        let plan = Plan::compile("zenlogin", &builtin("zenlogin").expect("built in"), Options::default());
        let document = Document::parse(Bytes::from_static(SWITCH)).expect("JSON");
        let reading = plan.expect("it compiles").read(&document, Extent::Data).expect("readable").remove(0);
        let Identity::Windowed(switch) = reading.identity else { panic!("a window") };
        let mut lab = Self {
            runtime: Builder::new_current_thread().build().expect("a runtime"),
            url,
            strict: Vec::new(),
            lax: Vec::new(),
            stored: BTreeMap::new(),
            switch: *switch,
        };
        lab.strict = lab.filled(SCHEMA);
        lab.lax = lab.filled(&lax(SCHEMA));
        lab
    }

    /// The bytes of a file with events, of which one was tried and another delivered.
    fn filled(&mut self, schema: &str) -> Vec<u8> {
        self.remove();
        let connection = Connection::open(&self.url.path).expect("made");
        connection.execute_batch(schema).expect("tables");
        connection
            .execute_batch("PRAGMA application_id = 0x686b7764; PRAGMA user_version = 1")
            .expect("marked");
        connection.close().expect("closed");
        let inbox = self.open().expect("opened");
        let store = Memory::new(1, Default::default(), &Clock::manual(NOW));
        for number in 1..=EVENTS {
            let mut record = record(number);
            if number == EVENTS {
                (record.id, record.window) = store.windowed_id(&self.switch, 0);
            }
            self.stored.insert(record.id.key(), record.content.clone());
            self.runtime.block_on(inbox.append(record)).expect("stored");
        }
        let due = self.due(&inbox, "app").expect("readable");
        assert_eq!(due.len(), usize::from(EVENTS) - 1, "one waits in its lane");
        for (due, fate) in due.iter().zip([Fate::Retry(NOW), Fate::Delivered]) {
            self.ended(&inbox, due, fate).expect("noted");
        }
        inbox.close();
        drop(inbox);
        fs::read(&self.url.path).expect("there")
    }

    fn open(&self) -> Result<Inbox, OpenError> {
        Inbox::open(&Settings::default(), &self.url, KEEP, &Clock::manual(NOW), Default::default())
    }

    fn remove(&self) {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            drop(fs::remove_file(format!("{}{suffix}", self.url.path.display())));
        }
    }

    fn due(&self, inbox: &Inbox, upstream: &str) -> Result<Vec<Due>, EngineError> {
        self.runtime.block_on(inbox.due(upstream, &HashSet::new(), 100)).map(|taken| taken.due)
    }

    fn ended(&self, inbox: &Inbox, due: &Due, fate: Fate) -> Result<bool, EngineError> {
        let attempt = Attempt { at: NOW, status: Some(200), error: None, took: Duration::ZERO };
        self.runtime.block_on(inbox.ended(due.key, attempt, fate, true))
    }

    /// Opens the file and does all that can be done. `damaged`: events whose contents were changed, if nothing else was.
    fn work(&self, damaged: Option<&HashSet<i64>>) -> Result<(), EngineError> {
        let inbox = match self.open() {
            Ok(inbox) => inbox,
            Err(error) => {
                assert!(damaged.is_none(), "one event's damage is that event's: {error}");
                return Ok(());
            }
        };
        let outcome = self.work_through(&inbox, damaged);
        assert!(damaged.is_none() || outcome.is_ok(), "one event's damage is that event's: {outcome:?}");
        inbox.close();
        outcome
    }

    fn work_through(&self, inbox: &Inbox, damaged: Option<&HashSet<i64>>) -> Result<(), EngineError> {
        if let Ok(windows) = self.runtime.block_on(inbox.windows()) {
            let store = Memory::new(1, Default::default(), &Clock::manual(NOW));
            store.reopen_windows(windows);
            store.windowed_id(&self.switch, 0);
        }
        let mut all = Vec::new();
        for upstream in UPSTREAMS {
            all.extend(self.due(inbox, upstream).inspect(|due| self.judge(due)).unwrap_or_default());
        }
        if let Some(damaged) = damaged {
            // One waits in its lane, and one was delivered.
            assert_eq!(all.len(), UPSTREAMS.len() * usize::from(EVENTS) - 2, "due, whatever is in it");
            let hurt = |due: &&Due| due.content.is_none();
            assert!(all.iter().filter(hurt).all(|due| damaged.contains(&due.key.event)), "and others too");
        }
        let filters = [
            Filter::default(),
            Filter { id: Some(EventId::from_bytes([1; 16])), ..Filter::default() },
            Filter { status: Some(Status::Retrying), upstream: Some("app".into()), ..Filter::default() },
            Filter {
                source: Some("source".into()),
                event_type: Some("session.*".into()),
                ..Filter::default()
            },
            Filter {
                subject: Some("user/2".into()),
                partition_key: Some("2".into()),
                ..Filter::default()
            },
        ];
        for filter in filters {
            drop(self.runtime.block_on(inbox.list(filter.clone(), None, 100)));
            drop(self.runtime.block_on(inbox.count(filter, Action::Replay)));
        }
        drop(self.runtime.block_on(inbox.stats()));
        drop(self.runtime.block_on(inbox.knows(EventId::from_bytes([1; 16]), 1, KEEP)));
        for (due, fate) in all.iter().zip([Fate::Delivered, Fate::Dead, Fate::Retry(NOW)].into_iter().cycle())
        {
            drop(self.ended(inbox, due, fate));
        }
        let acted = [Action::Replay, Action::Discard]
            .map(|action| self.runtime.block_on(inbox.act(action, Filter::default())).map(drop));
        let appended = self.runtime.block_on(inbox.append(record(EVENTS + 1))).map(drop);
        acted.into_iter().chain([appended]).collect()
    }

    /// What is whole is what was stored.
    fn judge(&self, due: &[Due]) {
        for due in due {
            let Some(content) = &due.content else { continue };
            assert!(
                self.stored.get(&due.id.key()).is_some_and(|stored| stored == content),
                "{due:?} was changed"
            );
            assert!(&*due.source == "source" && due.client == "127.0.0.1", "{due:?} was changed");
        }
    }
}

fn record(number: u8) -> Record {
    let ways = UPSTREAMS.map(|upstream| Way {
        upstream: upstream.into(),
        format: if upstream == "raw" { Format::Raw } else { Format::CloudEvents },
        ordered: upstream == "app",
    });
    Record {
        id: EventId::from_bytes([number; 16]),
        realm: 1,
        window: None,
        dedup_window: Duration::from_secs(600),
        received_at: NOW,
        source: "source".into(),
        event_type: "session.login",
        subject: Some(format!("user/{number}")),
        // The first two are one lane.
        partition_key: number.max(2).to_string(),
        client: [127, 0, 0, 1].into(),
        content: Content {
            attributes: format!(r#"{{"id":"{number}","traceparent":"00"}}"#).into(),
            data: Some(vec![number; 100].into()),
            raw: Some(vec![number; 50].into()),
            content_type: Some("application/json".into()),
        },
        ways: ways.into(),
    }
}

/// Without what keeps values of other types out.
fn lax(schema: &str) -> String {
    let states = "CHECK (state = 'delivered' OR state = 'open' OR state = 'dead' OR state = 'discarded')";
    let lax = schema
        .replace(") STRICT, WITHOUT ROWID", ") WITHOUT ROWID")
        .replace(") STRICT", ")")
        .replace(states, "");
    assert!(!lax.contains("STRICT") && !lax.contains("CHECK"), "the schema has changed");
    lax
}

/// Puts bytes into the file.
fn damage_file(whole: &[u8], edits: &[u8], path: &Path) {
    let mut bytes = whole.to_vec();
    for edit in edits.chunks_exact(4).take(EDITS_MAX) {
        let at = u32::from_le_bytes([edit[0], edit[1], edit[2], 0]) as usize;
        let at = at % bytes.len();
        bytes[at] = edit[3];
    }
    fs::write(path, bytes).expect("written");
}

/// Puts values into the tables; the events whose contents were changed, if nothing else was.
fn damage_rows(whole: &[u8], mut edits: &[u8], path: &Path) -> Option<HashSet<i64>> {
    fs::write(path, whole).expect("written");
    let connection = Connection::open(path).expect("whole");
    connection.execute_batch("PRAGMA synchronous = OFF; BEGIN").expect("begun");
    let mut damaged = Some(HashSet::new());
    let mut count = 0;
    while let [column, row, kind, length, rest @ ..] = edits
        && count < EDITS_MAX
    {
        let column = usize::from(*column) % COLUMNS.len();
        let (table, name) = COLUMNS[column];
        let row = i64::from(row % (2 * EVENTS));
        let (bytes, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        let number = bytes.iter().take(8).rev().fold(0, |number, byte| number << 8 | i64::from(*byte));
        let (value, text) = match kind % 5 {
            0 => (Value::Null, false),
            1 if COUNTS.contains(&name) => (Value::Integer(number.min(COUNT_MAX)), false),
            1 => (Value::Integer(number), false),
            2 => (Value::Real(number as f64 / 3.0), false),
            3 => (Value::Blob(bytes.to_vec()), true),
            _ => (Value::Blob(bytes.to_vec()), false),
        };
        let value_sql = if text { "CAST(? AS TEXT)" } else { "?" };
        // The row of that number, counted round.
        let keys = if matches!(table, "deliveries" | "attempts") { "event, upstream" } else { key(table) };
        let sql = format!(
            "UPDATE OR IGNORE {table} SET {name} = {value_sql} WHERE ({keys}) = \
             (SELECT {keys} FROM {table} ORDER BY {keys} LIMIT 1 OFFSET {row} % max(1, (SELECT count(*) FROM {table})))"
        );
        // A constraint may refuse it: so be it.
        drop(connection.execute(&sql, [value]));
        damaged = damaged.filter(|_| column < CONTENTS).map(|mut damaged| {
            damaged.insert(row % i64::from(EVENTS) + 1);
            damaged
        });
        (edits, count) = (rest, count + 1);
    }
    connection.execute_batch("COMMIT").expect("committed");
    connection.close().expect("closed");
    damaged
}

fn key(table: &str) -> &str {
    if table == "upstreams" { "upstream" } else { "event" }
}

fuzz_target!(|input: &[u8]| {
    let [mode, edits @ ..] = input else { return };
    LAB.with_borrow_mut(|lab| {
        let lab = lab.get_or_insert_with(Lab::new);
        lab.remove();
        let path: PathBuf = lab.url.path.clone();
        let damaged = match mode % 2 {
            0 => {
                damage_file(&lab.strict, edits, &path);
                edits.is_empty().then(HashSet::new)
            }
            _ => damage_rows(&lab.lax, edits, &path),
        };
        drop(lab.work(damaged.as_ref()));
        lab.remove();
    });
});
