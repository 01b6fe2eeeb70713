-- The inbox, version 1. Times are milliseconds since 1970. README, "The inbox's file", says how to read it.

-- Every verified event, in the order of receipt.
CREATE TABLE events (
  event        INTEGER PRIMARY KEY,
  id           BLOB NOT NULL,     -- 16 bytes: what follows `hw1_`
  realm        INTEGER NOT NULL,  -- with the id, what a repetition is known by
  received_at  INTEGER NOT NULL,
  source       TEXT NOT NULL,     -- its name in the configuration
  type         TEXT NOT NULL,
  subject      TEXT,
  partitionkey TEXT NOT NULL,
  client       TEXT NOT NULL      -- the sender's address
) STRICT;
CREATE INDEX events_received ON events (received_at);
CREATE INDEX events_source ON events (source);
CREATE INDEX events_type ON events (type);

-- Events by subject (kind 0) and by partition key (1), segment after segment of 1,024: the last are not here yet.
CREATE TABLE keys (
  segment INTEGER NOT NULL,
  kind    INTEGER NOT NULL,
  key     ANY NOT NULL,
  event   INTEGER NOT NULL,
  PRIMARY KEY (segment, kind, key, event)
) STRICT, WITHOUT ROWID;

-- Events by id. Written behind them: the newest may not be here.
CREATE TABLE ids (
  id    BLOB NOT NULL,
  realm INTEGER NOT NULL,
  event INTEGER NOT NULL,
  PRIMARY KEY (id, realm, event)
) STRICT, WITHOUT ROWID;

-- Up to which event all are in `ids`.
CREATE TABLE indexed (event INTEGER NOT NULL) STRICT;
INSERT INTO indexed (rowid, event) VALUES (1, 0);

-- What is sent: gone before its event if room is short.
CREATE TABLE contents (
  event        INTEGER PRIMARY KEY,
  checksum     BLOB NOT NULL,     -- of all that is sent: XXH3, 8 bytes
  attributes   BLOB NOT NULL,     -- CloudEvents attributes, JSON
  data         BLOB,              -- the data object, JSON
  raw          BLOB,              -- the vendor's body
  content_type BLOB               -- the vendor's
) STRICT;

-- An event on its way to one upstream.
CREATE TABLE deliveries (
  event      INTEGER NOT NULL,
  upstream   INTEGER NOT NULL,
  format     TEXT NOT NULL,
  state      TEXT NOT NULL        -- without IN, which SQLite makes a table for each time
             CHECK (state = 'delivered' OR state = 'open' OR state = 'dead' OR state = 'discarded'),
  due_at     INTEGER,             -- of open ones; null: behind another of its lane
  settled_at INTEGER,             -- when it was delivered or discarded
  attempts   INTEGER NOT NULL DEFAULT 0,
  tried_at   INTEGER,             -- the last attempt: when,
  status     INTEGER,             -- what the app answered,
  error      TEXT,                -- or what else came of it,
  took_ms    INTEGER,             -- and how long it took
  tries      INTEGER NOT NULL DEFAULT 0,   -- attempts since it was stored or replayed
  replay     INTEGER NOT NULL DEFAULT 0,
  lane       TEXT,                -- the partition key, where the order is kept
  place      INTEGER NOT NULL,    -- in the lane
  PRIMARY KEY (event, upstream)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_open ON deliveries (upstream, due_at, event, attempts) WHERE state = 'open';
CREATE INDEX deliveries_lane ON deliveries (upstream, lane, place) WHERE lane IS NOT NULL AND state = 'open';
CREATE INDEX deliveries_stopped ON deliveries (state, event) WHERE state = 'dead' OR state = 'discarded';

-- The attempts before a delivery's last, which stands with the delivery: most need no more than one.
CREATE TABLE attempts (
  event    INTEGER NOT NULL,
  upstream INTEGER NOT NULL,
  attempt  INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  status   INTEGER,
  error    TEXT,
  took_ms  INTEGER NOT NULL,
  PRIMARY KEY (event, upstream, attempt)
) STRICT, WITHOUT ROWID;

-- Of events that look the same each time: which id is taken by which window.
CREATE TABLE windows (
  event      INTEGER PRIMARY KEY,
  key        BLOB NOT NULL,
  kind       BLOB NOT NULL,
  since      INTEGER NOT NULL,
  until      INTEGER NOT NULL,
  bucket     INTEGER NOT NULL,
  generation INTEGER NOT NULL
) STRICT;

CREATE TABLE upstreams (
  upstream INTEGER PRIMARY KEY,
  name     TEXT NOT NULL UNIQUE
) STRICT;

-- Origin, proof and ways of events, hashed.
CREATE TABLE realms (
  realm INTEGER PRIMARY KEY,
  hash  BLOB NOT NULL UNIQUE
) STRICT;

-- For people: one line a delivery.
CREATE VIEW inbox AS
  SELECT 'hw1_' || lower(hex(e.id)) AS id, datetime(e.received_at / 1000, 'unixepoch') AS received, e.source, e.type,
         e.subject, e.partitionkey, u.name AS upstream,
         CASE WHEN d.state <> 'open' THEN d.state WHEN d.attempts > 0 THEN 'retrying' ELSE 'ready' END AS status,
         d.attempts, datetime(d.due_at / 1000, 'unixepoch') AS due, coalesce(d.error, d.status) AS last
    FROM events e JOIN deliveries d USING (event) JOIN upstreams u USING (upstream);
