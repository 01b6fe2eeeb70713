//! What a courier has in hand: deliveries it has taken and not begun, and those that run. Each is held from the look that
//! found it until its end is on the disk, so that it is nobody's twice; a partition's lane is held as long.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use super::{handoff::Handed, record::Due};

/// Most deliveries in hand that have not begun.
const WAITING_MAX: usize = 256;

/// Most deliveries in hand: past it none is taken, so that a disk that takes no ends does not fill the memory.
const HELD_MAX: usize = 4 * WAITING_MAX;

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
        if self.waiting.len() > WAITING_MAX / 2 || self.held.len() >= HELD_MAX {
            return 0;
        }
        WAITING_MAX - self.waiting.len()
    }

    /// Takes what was found on the disk.
    pub fn take(&mut self, due: impl IntoIterator<Item = Due>) {
        for due in due {
            if self.held.insert(due.key.event) {
                self.waiting.push_back(due);
            }
        }
    }

    /// Takes what was handed, as far as there is room; true if some is left on the disk.
    pub fn take_handed(&mut self, handed: Handed) -> bool {
        let mut more = handed.more;
        for due in handed.due {
            if self.waiting.len() >= WAITING_MAX || self.held.len() >= HELD_MAX {
                more = true;
            } else {
                self.take([due]);
            }
        }
        more
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

    /// Its end is on the disk. What was handed until now is taken first: it may be this very delivery, found on the disk
    /// before it was handed, and not to be begun again. True if some of it is left on the disk.
    pub fn end(&mut self, due: &Due, handed: Handed) -> bool {
        let more = self.take_handed(handed);
        self.held.remove(&due.key.event);
        if let Some(lane) = &due.lane {
            self.lanes.remove(lane);
        }
        more
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
