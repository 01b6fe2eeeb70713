//! An inbox in a few maps: what any engine is held against.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use crate::{
    identity::EventId,
    inbox::{
        engine::{Engine, EngineError, Look, Stats, Write, Written},
        record::{Action, Attempt, Content, Due, Fate, Filter, Key, Record, Status, Stored, Taken},
    },
    store::OpenWindow,
    upstream::Format,
};

#[derive(Debug, Default)]
pub(super) struct Model {
    pub events: Vec<Event>,
    pub deliveries: BTreeMap<(i64, i64), Delivery>,
    pub upstreams: HashMap<String, i64>,
    /// Planted: a retry lets the next of its lane go first.
    pub retry_overtakes: bool,
    /// Planted: what is held is handed out again.
    pub forgets_leases: bool,
}

#[derive(Debug)]
pub(super) struct Event {
    id: EventId,
    realm: Option<u128>,
    received_at: Timestamp,
}

#[derive(Debug)]
pub(super) struct Delivery {
    status: Status,
    due_at: Option<Timestamp>,
    tries: u32,
    attempts: u32,
    replay: bool,
    lane: Option<String>,
    place: i64,
}

impl Engine for Model {
    fn write(&mut self, now: Timestamp, batch: &[Write]) -> Result<Vec<Written>, EngineError> {
        Ok(batch.iter().map(|write| self.one(now, write)).collect())
    }

    fn due(&mut self, look: &Look<'_>) -> Result<Taken, EngineError> {
        let Some(&upstream) = self.upstreams.get(look.upstream) else { return Ok(Taken::default()) };
        let of = |(key, delivery): (&(i64, i64), &Delivery)| {
            delivery.due_at.filter(|_| key.1 == upstream).map(|at| (at, key.0))
        };
        let mut due: Vec<(Timestamp, i64)> = self.deliveries.iter().filter_map(of).collect();
        due.sort();
        let next_at = due.iter().map(|(at, _)| *at).find(|at| *at > look.now);
        due.retain(|(at, event)| *at <= look.now && (self.forgets_leases || !look.held.contains(event)));
        let more = due.len() > look.max;
        let taken = due.iter().take(look.max).map(|(_, event)| self.taken(Key { event: *event, upstream }));
        Ok(Taken { due: taken.collect(), more, next_at })
    }

    fn knows(&mut self, _: EventId, _: u128, _: Timestamp) -> Result<bool, EngineError> {
        Err(EngineError::Other("the simulation does not ask".to_owned()))
    }

    fn list(&mut self, _: &Filter, _: Option<i64>, _: usize) -> Result<Vec<Stored>, EngineError> {
        Err(EngineError::Other("the simulation does not list".to_owned()))
    }

    fn count(&mut self, _: &Filter, _: Action) -> Result<u64, EngineError> {
        Err(EngineError::Other("the simulation does not count".to_owned()))
    }

    fn windows(&mut self, _: Timestamp) -> Result<Vec<OpenWindow>, EngineError> {
        Err(EngineError::Other("the simulation has none".to_owned()))
    }

    fn stats(&mut self) -> Result<Stats, EngineError> {
        let mut stats = Stats::default();
        for (name, number) in &self.upstreams {
            let tally = stats.tally.entry(name.clone()).or_default();
            for delivery in self.deliveries.iter().filter(|(key, _)| key.1 == *number).map(|(_, it)| it) {
                match delivery.status {
                    Status::Ready => tally.ready += 1,
                    Status::Retrying => tally.retrying += 1,
                    Status::Dead => tally.dead += 1,
                    Status::Delivered | Status::Discarded => {}
                }
            }
        }
        Ok(stats)
    }

    fn room(&mut self) -> Result<(u64, u64), EngineError> {
        Ok((0, u64::MAX))
    }

    fn reopen(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    fn tidy(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    fn is_untidy(&self) -> bool {
        false
    }
}

impl Model {
    fn one(&mut self, now: Timestamp, write: &Write) -> Written {
        match write {
            Write::Append(record) => self.append(now, record),
            Write::Ended { key, attempt, fate, .. } => self.ended(now, *key, attempt, *fate),
            Write::Act { action, filter, .. } => self.act(now, *action, filter),
            Write::Prune { .. } | Write::Strip { .. } => Written::Forgotten { count: 0, more: false },
        }
    }

    fn append(&mut self, now: Timestamp, record: &Record) -> Written {
        let same = |event: &&mut Event| event.id == record.id && event.realm == Some(record.realm);
        if let Some(known) = self.events.iter_mut().find(same) {
            if known.received_at + record.dedup_window > now {
                return Written::Known;
            }
            known.realm = None;
        }
        let Record { id, realm, received_at, .. } = *record;
        self.events.push(Event { id, realm: Some(realm), received_at });
        let event = i64::try_from(self.events.len()).unwrap();
        let mut ways = Vec::new();
        for way in &record.ways {
            let next = i64::try_from(self.upstreams.len()).unwrap() + 1;
            let upstream = *self.upstreams.entry(way.upstream.to_string()).or_insert(next);
            let lane = way.ordered.then(|| record.partition_key.clone());
            let due_at = self.head(upstream, lane.as_deref()).is_none().then_some(now);
            let delivery = Delivery {
                status: Status::Ready,
                due_at,
                tries: 0,
                attempts: 0,
                replay: false,
                lane,
                place: event,
            };
            ways.push((upstream, due_at.is_some()));
            self.deliveries.insert((event, upstream), delivery);
        }
        Written::Stored { event, ways }
    }

    /// The first open one of a lane.
    fn head(&self, upstream: i64, lane: Option<&str>) -> Option<i64> {
        let lane = lane?;
        let open = self.deliveries.iter().filter(|((_, of), delivery)| {
            *of == upstream
                && delivery.lane.as_deref() == Some(lane)
                && matches!(delivery.status, Status::Ready | Status::Retrying)
        });
        open.map(|((event, _), delivery)| (delivery.place, *event)).min().map(|(_, event)| event)
    }

    fn go_on(&mut self, now: Timestamp, upstream: i64, lane: Option<&str>) {
        if let Some(event) = self.head(upstream, lane) {
            self.deliveries.get_mut(&(event, upstream)).unwrap().due_at.get_or_insert(now);
        }
    }

    fn ended(&mut self, now: Timestamp, key: Key, _: &Attempt, fate: Fate) -> Written {
        let Key { event, upstream } = key;
        let Some(delivery) = self.deliveries.get_mut(&(event, upstream)) else {
            return Written::Ended(false);
        };
        let open = matches!(delivery.status, Status::Ready | Status::Retrying);
        (delivery.tries, delivery.attempts) = (delivery.tries + 1, delivery.attempts + 1);
        let lane = delivery.lane.clone();
        (delivery.status, delivery.due_at) = match fate {
            Fate::Delivered => (Status::Delivered, None),
            _ if !open => (delivery.status, delivery.due_at),
            Fate::Retry(at) => (Status::Retrying, Some(at)),
            Fate::Dead => (Status::Dead, None),
        };
        if open && !matches!(fate, Fate::Retry(_)) {
            self.go_on(now, upstream, lane.as_deref());
        } else if self.retry_overtakes && open && lane.is_some() {
            let waiting = self
                .deliveries
                .values_mut()
                .find(|it| it.lane == lane && it.due_at.is_none() && it.status == Status::Ready);
            waiting.into_iter().for_each(|it| it.due_at = Some(now));
        }
        Written::Ended(open)
    }

    fn act(&mut self, now: Timestamp, action: Action, filter: &Filter) -> Written {
        let of_id = |event: &i64| Some(self.events[usize::try_from(*event).unwrap() - 1].id) == filter.id;
        let keys: Vec<(i64, i64)> =
            self.deliveries.keys().filter(|(event, _)| of_id(event)).copied().collect();
        let newest = i64::try_from(self.events.len()).unwrap();
        let mut changed = 0;
        for (event, upstream) in keys {
            let delivery = &self.deliveries[&(event, upstream)];
            let (status, due, lane) = (delivery.status, delivery.due_at, delivery.lane.clone());
            let open = matches!(status, Status::Ready | Status::Retrying);
            let waits = self.head(upstream, lane.as_deref()).is_some();
            let delivery = self.deliveries.get_mut(&(event, upstream)).unwrap();
            match action {
                Action::Replay if open && due.is_none() => continue,
                Action::Replay if open => delivery.due_at = Some(now),
                Action::Replay => {
                    delivery.status = if delivery.attempts > 0 { Status::Retrying } else { Status::Ready };
                    (delivery.tries, delivery.replay, delivery.place) = (0, true, newest);
                    delivery.due_at = (!waits).then_some(now);
                }
                Action::Discard if matches!(status, Status::Delivered | Status::Discarded) => continue,
                Action::Discard => {
                    (delivery.status, delivery.due_at) = (Status::Discarded, None);
                    self.go_on(now, upstream, lane.as_deref());
                }
            }
            changed += 1;
        }
        Written::Acted { changed, last: None }
    }

    fn taken(&self, key: Key) -> Due {
        let delivery = &self.deliveries[&(key.event, key.upstream)];
        let event = &self.events[usize::try_from(key.event).unwrap() - 1];
        Due {
            key,
            id: event.id,
            received_at: event.received_at,
            source: "s".into(),
            event_type: "login".into(),
            client: "127.0.0.1".to_owned(),
            format: Format::CloudEvents,
            lane: delivery.lane.as_deref().map(Into::into),
            tries: delivery.tries,
            replay: delivery.replay,
            content: Some(Content::default()),
        }
    }
}
