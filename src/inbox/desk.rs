//! What a courier has in hand: deliveries it has taken and not begun, and those that run. Each is held from the look that
//! found it until its end is on the disk, so that it is nobody's twice; a partition's lane is held as long.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use super::record::Due;

/// Most deliveries in hand that have not begun.
pub const WAITING_MAX: usize = 256;

/// The deliveries of one upstream that are in one courier's hand.
#[derive(Debug, Default)]
pub struct Desk {
    waiting: VecDeque<Due>,
    held: HashSet<i64>,
    lanes: HashSet<Arc<str>>,
}

impl Desk {
    /// Events whose deliveries are held.
    #[must_use]
    pub fn held(&self) -> &HashSet<i64> {
        &self.held
    }

    /// How many more may be taken; none as long as there is enough to do.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.waiting.len() > WAITING_MAX / 2 { 0 } else { WAITING_MAX - self.waiting.len() }
    }

    /// Takes what was found.
    pub fn take(&mut self, due: impl IntoIterator<Item = Due>) {
        for due in due {
            if self.held.insert(due.key.event) {
                self.waiting.push_back(due);
            }
        }
    }

    /// Whether something can begin.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.iter().all(|due| self.is_blocked(due))
    }

    /// Begins the next, whose lane nothing else is running in.
    pub fn begin(&mut self) -> Option<Due> {
        let at = self.waiting.iter().position(|due| !self.is_blocked(due))?;
        let due = self.waiting.remove(at)?;
        self.lanes.extend(due.lane.clone());
        Some(due)
    }

    /// Its end is on the disk.
    pub fn end(&mut self, due: &Due) {
        self.held.remove(&due.key.event);
        if let Some(lane) = &due.lane {
            self.lanes.remove(lane);
        }
    }

    /// Gives back what has not begun.
    pub fn put_back(&mut self) {
        for due in self.waiting.drain(..) {
            self.held.remove(&due.key.event);
        }
    }

    fn is_blocked(&self, due: &Due) -> bool {
        due.lane.as_ref().is_some_and(|lane| self.lanes.contains(lane))
    }
}
