//! All pointers that a vendor's mapping reads, as one tree, so that one walk over the document finds them all and sees
//! when a member that is read stands there twice.

use crate::json::{Document, Duplicate, Index, Kind};

/// Longest list, in elements, that is mapped element by element; a longer one stays whole in `unmapped`.
pub(super) const ELEMENTS_MAX: usize = 1000;

/// A pointer's place in the tree.
pub(super) type Slot = u16;

const NOTHING: Index = Index::MAX;
const ROOT: Slot = 0;

/// The pointers, put together step by step.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, Default)]
struct Step {
    children: Vec<(Box<str>, Slot)>,
    /// Bit n: there is a child of n bytes, of 63 or more the last. Most members of a body are nobody's.
    lengths: u64,
    /// The child that stands for the current item of a delivery with several events.
    item: Option<Slot>,
    /// What is read of each element of the array here.
    each: Option<Box<Paths>>,
}

/// Where each pointer's value is in one document.
#[derive(Clone, Debug)]
pub(super) struct Found {
    values: Vec<Index>,
    /// For each array whose elements are read: the element and what was found in it.
    elements: Vec<(Slot, Index, Self)>,
}

// === impl Paths ===

impl Default for Paths {
    fn default() -> Self {
        Self { steps: vec![Step::default()] }
    }
}

impl Paths {
    /// The slot of a JSON Pointer, new or known. `/*` is the current item.
    pub(super) fn add(&mut self, pointer: &str) -> Slot {
        pointer.split('/').skip(1).fold(ROOT, |at, step| self.child(at, step))
    }

    /// Reads every element of the array at `slot` by `paths` as well.
    pub(super) fn add_each(&mut self, slot: Slot, paths: Self) {
        self.steps[usize::from(slot)].each = Some(Box::new(paths));
    }

    fn child(&mut self, at: Slot, step: &str) -> Slot {
        // Unwrap safety: a vendor file is far too small for 65,535 steps (config::FILE_BYTES_MAX).
        let new = Slot::try_from(self.steps.len()).expect("fewer than 65,535 steps");
        let parent = &mut self.steps[usize::from(at)];
        if step == "*" {
            if let Some(item) = parent.item {
                return item;
            }
            parent.item = Some(new);
        } else {
            let name = step.replace("~1", "/").replace("~0", "~");
            if let Some((_, child)) = parent.children.iter().find(|(known, _)| **known == *name) {
                return *child;
            }
            parent.lengths |= length_bit(&name);
            parent.children.push((name.into(), new));
        }
        self.steps.push(Step::default());
        new
    }

    /// Finds every pointer's value below `root`; `item` is the current item of a delivery with several events.
    ///
    /// # Errors
    ///
    /// A member on one of the paths stands twice in its object.
    pub(super) fn read(
        &self,
        document: &Document,
        root: Index,
        item: Option<Index>,
    ) -> Result<Found, Duplicate> {
        let mut found = Found { values: vec![NOTHING; self.steps.len()], elements: Vec::new() };
        self.walk(document, root, ROOT, item, &mut found)?;
        Ok(found)
    }

    fn walk(
        &self,
        document: &Document,
        at: Index,
        slot: Slot,
        item: Option<Index>,
        found: &mut Found,
    ) -> Result<(), Duplicate> {
        if std::mem::replace(&mut found.values[usize::from(slot)], at) != NOTHING {
            return Err(Duplicate);
        }
        let step = &self.steps[usize::from(slot)];
        match document.kind(at) {
            Kind::Object if !step.children.is_empty() => {
                for (name, value) in document.members(at) {
                    let Some(name) = document.name(name) else { continue };
                    if step.lengths & length_bit(&name) == 0 {
                        continue;
                    }
                    let mut children = step.children.iter();
                    if let Some((_, child)) = children.find(|(wanted, _)| *wanted.as_bytes() == *name) {
                        self.walk(document, value, *child, item, found)?;
                    }
                }
            }
            Kind::Array => {
                for (name, child) in &step.children {
                    let position = name.parse().ok();
                    if let Some(value) = position.and_then(|nth| document.elements(at).nth(nth)) {
                        self.walk(document, value, *child, item, found)?;
                    }
                }
                if let (Some(child), Some(value)) = (step.item, item) {
                    self.walk(document, value, child, item, found)?;
                }
                if let Some(each) =
                    step.each.as_ref().filter(|_| document.elements(at).nth(ELEMENTS_MAX).is_none())
                {
                    for element in document.elements(at) {
                        found.elements.push((slot, element, each.read(document, element, None)?));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn length_bit(name: impl AsRef<[u8]>) -> u64 {
    1 << name.as_ref().len().min(63)
}

// === impl Found ===

impl Found {
    /// The value at a pointer, whatever it is.
    #[must_use]
    pub(super) fn get(&self, slot: Slot) -> Option<Index> {
        let at = self.values[usize::from(slot)];
        (at != NOTHING).then_some(at)
    }

    /// The value at the first of these pointers that has one that says something.
    #[must_use]
    pub(super) fn first(&self, document: &Document, slots: &[Slot]) -> Option<Index> {
        slots.iter().filter_map(|slot| self.get(*slot)).find(|at| !document.says_nothing(*at))
    }

    /// The elements of the array at `slot` and what was found in each.
    pub(super) fn each(&self, slot: Slot) -> impl Iterator<Item = (Index, &Self)> {
        self.elements.iter().filter(move |(array, ..)| *array == slot).map(|(_, at, found)| (*at, found))
    }
}
