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
    children: Vec<Child>,
    /// Bit n: there is a child of n bytes, of 63 or more the last. Most members of a body are nobody's.
    lengths: u64,
    /// The child that stands for the current item of a delivery with several events.
    item: Option<Slot>,
    /// What is read of each element of the array here.
    each: Option<Box<Paths>>,
}

impl Step {
    /// Whether nothing is read inside.
    fn ends(&self) -> bool {
        self.children.is_empty() && self.item.is_none() && self.each.is_none()
    }
}

#[derive(Clone, Debug)]
struct Child {
    name: Box<str>,
    /// What its name is told apart by before it is compared.
    hint: u32,
    slot: Slot,
}

/// Where each pointer's value is in one document.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Of the document's own pointers; behind them, of the pointers into each element in turn.
    places: Vec<Index>,
    elements: Vec<Element>,
}

/// An element that is read of an array.
#[derive(Clone, Copy, Debug)]
struct Element {
    array: Slot,
    /// Where its places begin.
    start: usize,
}

/// The places of one set of pointers: the document's, or those into one element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places<'a>(&'a [Index]);

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
            if let Some(child) = parent.children.iter().find(|child| *child.name == *name) {
                return child.slot;
            }
            parent.lengths |= length_bit(name.as_bytes());
            parent.children.push(Child { hint: hint(name.as_bytes()), name: name.into(), slot: new });
        }
        self.steps.push(Step::default());
        new
    }

    /// Finds every pointer's value in the document; `item` is the current item of a delivery with several events.
    ///
    /// # Errors
    ///
    /// A member on one of the paths stands twice in its object.
    pub(super) fn read(&self, document: &Document, item: Option<Index>) -> Result<Found, Duplicate> {
        let mut found = Found { places: vec![NOTHING; self.steps.len()], elements: Vec::new() };
        let mut arrays = Vec::new();
        Walk { document, item, places: &mut found.places, arrays: &mut arrays }.step(
            self,
            Document::ROOT,
            ROOT,
        )?;
        for (array, at) in arrays {
            let Some(each) = &self.steps[usize::from(array)].each else { continue };
            for element in document.elements(at) {
                let start = found.places.len();
                found.places.resize(start + each.steps.len(), NOTHING);
                found.elements.push(Element { array, start });
                // An element of a list holds no list.
                let (places, arrays) = (&mut found.places[start..], &mut Vec::new());
                Walk { document, item: None, places, arrays }.step(each, element, ROOT)?;
            }
        }
        Ok(found)
    }
}

/// One way through a document.
struct Walk<'a> {
    document: &'a Document,
    item: Option<Index>,
    places: &'a mut [Index],
    /// Arrays that were met whose elements are read.
    arrays: &'a mut Vec<(Slot, Index)>,
}

impl Walk<'_> {
    fn step(&mut self, paths: &Paths, at: Index, slot: Slot) -> Result<(), Duplicate> {
        let document = self.document;
        if std::mem::replace(&mut self.places[usize::from(slot)], at) != NOTHING {
            return Err(Duplicate);
        }
        let step = &paths.steps[usize::from(slot)];
        if step.ends() {
            return Ok(());
        }
        match document.kind(at) {
            Kind::Object if !step.children.is_empty() => {
                for (name, value) in document.members(at) {
                    let Some(name) = document.name(name) else { continue };
                    if step.lengths & length_bit(&name) == 0 {
                        continue;
                    }
                    let hint = hint(&name);
                    let is_it = |child: &&Child| child.hint == hint && *child.name.as_bytes() == *name;
                    if let Some(child) = step.children.iter().find(is_it) {
                        self.step(paths, value, child.slot)?;
                    }
                }
            }
            Kind::Array => {
                for child in &step.children {
                    let position = child.name.parse().ok();
                    if let Some(value) = position.and_then(|nth| document.elements(at).nth(nth)) {
                        self.step(paths, value, child.slot)?;
                    }
                }
                if let (Some(child), Some(value)) = (step.item, self.item) {
                    self.step(paths, value, child)?;
                }
                if step.each.is_some() && document.elements(at).nth(ELEMENTS_MAX).is_none() {
                    self.arrays.push((slot, at));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn length_bit(name: &[u8]) -> u64 {
    1 << name.len().min(63)
}

/// Its length and the bytes at its ends.
fn hint(name: &[u8]) -> u32 {
    let end = |byte: Option<&u8>| byte.copied().unwrap_or_default();
    u32::from_be_bytes([end(name.first()), end(name.last()), (name.len() >> 8) as u8, name.len() as u8])
}

// === impl Found, Places ===

impl Found {
    /// The places of the document's own pointers.
    #[must_use]
    pub(super) fn document(&self) -> Places<'_> {
        Places(&self.places)
    }

    /// The elements of the array at `slot`, in their order.
    pub(super) fn each(&self, slot: Slot) -> impl ExactSizeIterator<Item = Places<'_>> {
        // Arrays are read one after the other: the elements of one stand together.
        let start = self.elements.iter().position(|element| element.array == slot);
        let of = &self.elements[start.unwrap_or(self.elements.len())..];
        let end = of.iter().position(|element| element.array != slot).unwrap_or(of.len());
        of[..end].iter().map(|element| Places(&self.places[element.start..]))
    }
}

impl Places<'_> {
    /// The value at a pointer, whatever it is.
    #[must_use]
    pub(super) fn get(self, slot: Slot) -> Option<Index> {
        let at = self.0[usize::from(slot)];
        (at != NOTHING).then_some(at)
    }

    /// The value at the first of these pointers that has one that says something.
    #[must_use]
    pub(super) fn first(self, document: &Document, slots: &[Slot]) -> Option<Index> {
        slots.iter().filter_map(|slot| self.get(*slot)).find(|at| !document.says_nothing(*at))
    }
}
