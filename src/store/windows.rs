//! Which id an event has that looks the same each time (identity event §5.3, "the toggle trap"): the one its window
//! began with, as long as the window is open. It closes after its width, and as soon as another event of the same
//! group comes: on, off, on is three events, however fast.

use std::{collections::HashMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::{identity::EventId, vendor::Windowed};

/// Most groups whose windows are remembered; past it every event of a new group is a new one.
pub const WINDOWS_MAX: usize = 100_000;

/// Most windows remembered of one group.
const USED_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Windows {
    groups: HashMap<u128, Group>,
    /// Groups are swept once so many have been added since the last sweep.
    unswept: usize,
}

#[derive(Debug)]
struct Group {
    open: Window,
    /// Windows before the open one: so that none gets the id of another.
    used: Vec<Window>,
}

/// A window as it outlives the process: whoever stores an event with it remembers that its id is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenWindow {
    /// The group, and what kept it apart from others.
    pub key: u128,
    pub kind: u128,
    pub since: Timestamp,
    pub until: Timestamp,
    pub bucket: i64,
    pub generation: u32,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    kind: u128,
    since: Timestamp,
    until: Timestamp,
    bucket: i64,
    generation: u32,
}

impl Windows {
    /// The id, and its window; none if there is no room to remember it.
    pub(super) fn id(
        &mut self,
        event: &Windowed,
        realm: u128,
        now: Timestamp,
    ) -> (EventId, Option<OpenWindow>) {
        let key = event.group ^ realm;
        let width =
            SignedDuration::try_from(event.width.max(Duration::from_secs(1))).unwrap_or(SignedDuration::MAX);
        let bucket = now.as_second().div_euclid(width.as_secs().max(1));
        let until = now.checked_add(width).unwrap_or(Timestamp::MAX);
        let new = Window { kind: event.kind, since: now, until, bucket, generation: 0 };
        self.sweep(now);
        let full = self.groups.len() >= WINDOWS_MAX;
        let Some(group) = self.groups.get_mut(&key) else {
            if full {
                // An event too many rather than one too few: without memory, none is taken for a repetition.
                return (event.id(bucket, fastrand::u32(1..)), None);
            }
            self.groups.insert(key, Group { open: new, used: Vec::new() });
            return (event.id(bucket, 0), Some(new.of(key)));
        };
        if group.open.kind != event.kind || !(group.open.since..group.open.until).contains(&now) {
            group.used.push(group.open);
            // A window's bucket comes again as long as it lasts at most one width more.
            group.used.retain(|window| window.until.checked_add(width).is_ok_and(|end| end > now));
            if group.used.len() > USED_MAX {
                group.used.remove(0);
            }
            let before = group.used.iter().rev().find(|used| used.kind == new.kind && used.bucket == bucket);
            let generation = before.map_or(0, |used| used.generation + 1);
            group.open = Window { generation, ..new };
        }
        (event.id(group.open.bucket, group.open.generation), Some(group.open.of(key)))
    }

    /// Takes up a window that was opened before this process, after those that were opened before it.
    pub(super) fn reopen(&mut self, window: OpenWindow) {
        let OpenWindow { key, kind, since, until, bucket, generation } = window;
        let open = Window { kind, since, until, bucket, generation };
        if self.groups.len() >= WINDOWS_MAX && !self.groups.contains_key(&key) {
            return;
        }
        match self.groups.get_mut(&key) {
            None => drop(self.groups.insert(key, Group { open, used: Vec::new() })),
            Some(group) => {
                group.used.push(std::mem::replace(&mut group.open, open));
                if group.used.len() > USED_MAX {
                    group.used.remove(0);
                }
            }
        }
    }

    /// Forgets groups whose window has long been closed; the cost is spread over the additions.
    fn sweep(&mut self, now: Timestamp) {
        self.unswept += 1;
        if self.unswept > (self.groups.len() / 2).max(64) {
            self.unswept = 0;
            self.groups.retain(|_, group| {
                let width = group.open.since.duration_until(group.open.until);
                group.open.until.checked_add(width).is_ok_and(|end| end > now)
            });
        }
    }
}

impl Window {
    fn of(self, key: u128) -> OpenWindow {
        let Self { kind, since, until, bucket, generation } = self;
        OpenWindow { key, kind, since, until, bucket, generation }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prometheus_client::metrics::counter::Counter;

    use super::{super::Memory, *};
    use crate::{
        clock::Clock,
        json::Document,
        vendor::{Extent, Identity, Options, Plan, builtin},
    };

    fn toggle(event: &str) -> Windowed {
        let plan = Plan::compile("zenlogin", &builtin("zenlogin").unwrap(), Options::default()).unwrap();
        let body = format!(
            r#"{{"success":true,"data":{{"type":"{event}","account":{{"publicId":"accn1abtwskjj3q1"}},"application":{{"publicId":"applrn12zr5zayrp"}}}}}}"#
        );
        let document = Document::parse(Bytes::from(body)).unwrap();
        match plan.read(&document, Extent::Data).unwrap().remove(0).identity {
            Identity::Windowed(windowed) => *windowed,
            Identity::Fixed(_) => panic!("{event} has a window"),
        }
    }

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    #[test]
    fn the_first_id_is_the_specified_one() {
        let (id, _) = Windows::default().id(&toggle("application.enabled"), 0, at("2026-02-03T09:30:00Z"));
        assert_eq!(id.to_string(), "hw1_a4bb004f50852fd17fbc96fd623c8787");
    }

    #[test]
    fn a_retry_keeps_its_id_over_the_bucket_s_edge() {
        let mut windows = Windows::default();
        let on = toggle("application.enabled");
        let first = windows.id(&on, 0, at("2026-02-03T09:39:59Z")).0;
        assert_eq!(windows.id(&on, 0, at("2026-02-03T09:40:01Z")).0, first);
        assert_eq!(windows.id(&on, 0, at("2026-02-03T09:49:58Z")).0, first);
        assert_ne!(windows.id(&on, 0, at("2026-02-03T09:49:59Z")).0, first, "the window has closed");
    }

    #[test]
    fn on_off_on_is_three_events() {
        let mut windows = Windows::default();
        let (on, off) = (toggle("application.enabled"), toggle("application.disabled"));
        let ids = [
            windows.id(&on, 0, at("2026-02-03T09:30:00Z")).0,
            windows.id(&off, 0, at("2026-02-03T09:30:01Z")).0,
            windows.id(&on, 0, at("2026-02-03T09:30:02Z")).0,
            windows.id(&off, 0, at("2026-02-03T09:30:03Z")).0,
            windows.id(&on, 0, at("2026-02-03T09:30:04Z")).0,
        ];
        for (nth, id) in ids.iter().enumerate() {
            assert!(!ids[..nth].contains(id), "{nth}");
        }
        assert_eq!(windows.id(&on, 0, at("2026-02-03T09:30:05Z")).0, ids[4], "a retry");
    }

    #[test]
    fn groups_and_realms_keep_apart() {
        let on = toggle("application.enabled");
        let mut other = on.clone();
        other.group = !on.group;
        let now = at("2026-02-03T09:30:00Z");
        for realm in [0, 1, u128::MAX] {
            let key = |event, realm| Windows::default().id(event, realm, now).1.unwrap().key;
            assert_ne!(key(&on, realm), key(&other, realm), "{realm}");
            assert_ne!(key(&on, realm), key(&on, realm ^ 2), "{realm}");
        }
    }

    #[test]
    fn in_another_bucket_an_event_is_the_first_again() {
        let mut windows = Windows::default();
        let (on, off) = (toggle("application.enabled"), toggle("application.disabled"));
        windows.id(&on, 0, at("2026-02-03T09:39:00Z"));
        windows.id(&off, 0, at("2026-02-03T09:39:01Z"));
        let later = at("2026-02-03T09:41:00Z");
        assert_eq!(windows.id(&on, 0, later).1, Windows::default().id(&on, 0, later).1);
        assert_eq!(windows.id(&off, 0, later).1, Windows::default().id(&off, 0, later).1);
    }

    #[test]
    fn old_groups_are_forgotten() {
        let mut windows = Windows::default();
        let on = toggle("application.enabled");
        for second in 0..200_000_i64 {
            let mut event = on.clone();
            event.group = u128::try_from(second).unwrap();
            windows.id(&event, 0, Timestamp::from_second(1_700_000_000 + second).unwrap());
        }
        assert!(windows.groups.len() < 5_000, "{}", windows.groups.len());
    }

    /// So many groups, each with its open window.
    fn filled(groups: usize) -> Windows {
        let mut windows = Windows::default();
        let (_, window) = windows.id(&toggle("application.enabled"), 0, at("2026-02-03T09:30:00Z"));
        let window = window.unwrap();
        for key in 1..groups as u128 {
            windows.reopen(OpenWindow { key: window.key ^ key, ..window });
        }
        assert_eq!(windows.groups.len(), groups);
        windows
    }

    #[test]
    fn past_the_bound_an_event_of_a_new_group_is_a_new_one_and_known_ones_stay() {
        let on = toggle("application.enabled");
        let now = at("2026-02-03T09:30:01Z");
        let first = Windows::default().id(&on, 0, now).0;
        let mut windows = filled(WINDOWS_MAX - 1);
        let other = u128::MAX;
        assert!(windows.id(&on, other, now).1.is_some(), "the last one there is room for");
        let another = other ^ (1 << 100);
        let (new, window) = windows.id(&on, another, now);
        assert!(window.is_none() && new != first);
        assert_eq!(windows.id(&on, 0, now).0, first, "a known one");
        let open = windows.id(&on, 0, now).1.unwrap();
        windows.reopen(OpenWindow { key: another, ..open });
        assert_eq!(windows.groups.len(), WINDOWS_MAX);
        windows.reopen(OpenWindow { generation: 7, ..open });
        assert_eq!(windows.id(&on, 0, now).1.unwrap().generation, 7, "of a known group there is room");
    }

    #[test]
    fn a_group_remembers_so_many_windows_and_no_more() {
        let mut windows = Windows::default();
        let (on, off) = (toggle("application.enabled"), toggle("application.disabled"));
        let mut ids = std::collections::HashSet::new();
        for second in 0..60 {
            let now = at("2026-02-03T09:30:00Z") + SignedDuration::from_secs(second);
            let (id, window) = windows.id(if second % 2 == 0 { &on } else { &off }, 0, now);
            assert!(ids.insert(id.key()), "{second}");
            let group = &windows.groups[&window.unwrap().key];
            assert_eq!(group.used.len(), usize::try_from(second).unwrap().min(USED_MAX));
        }
        let open = windows.id(&off, 0, at("2026-02-03T09:30:59Z")).1.unwrap();
        let mut after = Windows::default();
        for before in 0..60_usize {
            after.reopen(open);
            assert_eq!(after.groups[&open.key].used.len(), before.min(USED_MAX));
        }
        // Windows that can no longer come again are forgotten with the next one.
        windows.id(&on, 0, at("2026-02-03T10:30:00Z"));
        assert!(windows.groups[&open.key].used.is_empty());
    }

    #[test]
    fn the_store_s_windows_outlive_it() {
        let clock = Clock::manual(at("2026-02-03T09:30:00Z"));
        let store = || Memory::new(10, Counter::default(), &clock);
        let (on, off) = (toggle("application.enabled"), toggle("application.disabled"));
        let before = store();
        let windows = [&on, &off].map(|event| before.windowed_id(event, 0));
        let after = store();
        after.reopen_windows(windows.iter().filter_map(|(_, window)| *window));
        assert_eq!(after.windowed_id(&off, 0), windows[1]);
        assert_ne!(after.windowed_id(&on, 0).0, windows[0].0);
        assert_eq!(store().windowed_id(&on, 0), windows[0]);
        assert_ne!(store().windowed_id(&on, 1).1, windows[0].1, "another realm's group");
    }

    #[test]
    fn groups_whose_window_may_come_again_are_kept() {
        let mut windows = Windows::default();
        let (on, off) = (toggle("application.enabled"), toggle("application.disabled"));
        let now = at("2026-02-03T09:30:00Z");
        windows.id(&on, 0, now);
        windows.id(&off, 0, now);
        let again = windows.id(&on, 0, now);
        let later = at("2026-02-03T09:39:59Z");
        for realm in 1..1000 {
            windows.id(&on, realm, later);
        }
        assert_eq!(windows.id(&on, 0, later), again, "a retry, and no first event");
    }

    #[test]
    fn on_off_restart_on_is_three_events_and_a_retry_still_one() {
        let (on, off) = (toggle("application.enabled"), toggle("application.disabled"));
        let mut before = Windows::default();
        let (first, opened) = before.id(&on, 0, at("2026-02-03T09:30:00Z"));
        let (second, closed) = before.id(&off, 0, at("2026-02-03T09:30:01Z"));
        let mut after = Windows::default();
        [opened, closed].into_iter().flatten().for_each(|window| after.reopen(window));
        assert_eq!(after.id(&off, 0, at("2026-02-03T09:30:02Z")).0, second, "a retry over the restart");
        let (third, _) = after.id(&on, 0, at("2026-02-03T09:30:03Z"));
        assert!(third != first && third != second);
        assert_eq!(third, before.id(&on, 0, at("2026-02-03T09:30:03Z")).0, "as without a restart");
    }
}
