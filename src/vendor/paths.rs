//! All pointers that a vendor's mapping reads, as one tree, so that one walk over the document finds them all and sees
//! when a member that is read stands there twice.

use super::Extent;
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
    /// The children by their names: a hash table, a power of two long and half empty, of places in `children`.
    by_name: Vec<Option<u16>>,
    /// The child that stands for the current item of a delivery with several events.
    item: Option<Slot>,
    /// What is read of each element of the array here.
    each: Option<Box<Paths>>,
}

impl Step {
    /// The member of that name, if it is read.
    #[inline]
    fn child(&self, name: &[u8]) -> Option<Slot> {
        let last = self.by_name.len().checked_sub(1)?;
        let ends = Ends::of(name);
        let mut at = ends.hash();
        loop {
            let child = &self.children[usize::from(self.by_name[at & last]?)];
            if child.ends == ends && (ends.bytes <= 16 || *child.name.as_bytes() == *name) {
                return Some(child.slot);
            }
            at += 1;
        }
    }

    fn add(&mut self, child: Child) {
        self.children.push(child);
        let length = (2 * self.children.len()).next_power_of_two();
        self.by_name = vec![None; length];
        for (place, child) in (0..).zip(&self.children) {
            let mut at = child.ends.hash();
            while self.by_name[at % length].is_some() {
                at += 1;
            }
            self.by_name[at % length] = Some(place);
        }
    }

    /// Whether nothing is read inside.
    fn ends(&self) -> bool {
        self.children.is_empty() && self.item.is_none() && self.each.is_none()
    }
}

#[derive(Clone, Debug)]
struct Child {
    ends: Ends,
    slot: Slot,
    name: Box<str>,
}

/// A name's length and the bytes at its ends: all of a name of up to 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    bytes: usize,
    first: u64,
    last: u64,
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
            if let Some(known) = parent.child(name.as_bytes()) {
                return known;
            }
            parent.add(Child { ends: Ends::of(name.as_bytes()), slot: new, name: name.into() });
        }
        self.steps.push(Step::default());
        new
    }

    /// Finds every pointer's value in the document; `item` is the current item of a delivery with several events. Inside the
    /// elements of lists, only if all of `data` is wanted: no attribute comes from there.
    ///
    /// # Errors
    ///
    /// A member on one of the paths stands twice in its object.
    pub(super) fn read(
        &self,
        document: &Document,
        item: Option<Index>,
        extent: Extent,
    ) -> Result<Found, Duplicate> {
        let mut found = Found { places: vec![NOTHING; self.steps.len()], elements: Vec::new() };
        let mut arrays = Vec::new();
        Walk { document, item, places: &mut found.places, arrays: &mut arrays }.step(
            self,
            Document::ROOT,
            ROOT,
        )?;
        for (array, at) in arrays.into_iter().filter(|_| extent == Extent::Data) {
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
    #[inline(always)]
    fn step(&mut self, paths: &Paths, at: Index, slot: Slot) -> Result<(), Duplicate> {
        if std::mem::replace(&mut self.places[usize::from(slot)], at) != NOTHING {
            return Err(Duplicate);
        }
        let step = &paths.steps[usize::from(slot)];
        if step.ends() { Ok(()) } else { self.inside(paths, step, at, slot) }
    }

    #[inline(never)]
    fn inside(&mut self, paths: &Paths, step: &Step, at: Index, slot: Slot) -> Result<(), Duplicate> {
        let document = self.document;
        match document.kind(at) {
            Kind::Object if !step.children.is_empty() => {
                for (name, value) in document.members(at) {
                    let Some(name) = document.name(name) else { continue };
                    let Some(child) = step.child(&name) else { continue };
                    self.step(paths, value, child)?;
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

impl Ends {
    #[inline]
    fn of(name: &[u8]) -> Self {
        let (first, last) = match (name.first_chunk(), name.last_chunk()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => match (name.first_chunk(), name.last_chunk()) {
                (Some(first), Some(last)) => {
                    (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into())
                }
                _ => (name.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)), 0),
            },
        };
        Self { bytes: name.len(), first, last }
    }

    #[inline]
    fn hash(self) -> usize {
        let mixed = (self.first ^ self.last.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 48) as usize ^ self.bytes
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_whatever_they_share() {
        let names = [
            "",
            "a",
            "b",
            "ab",
            "abc",
            "abd",
            "adc",
            "abcd",
            "abcde",
            "abxde",
            "abcdefg",
            "abcdefgh",
            "abcdefghi",
            "abcdefgh-abcdefgh",
            "abcdefgh_abcdefgh",
            "abcdefgh--abcdefgh",
            "é",
            "è",
        ];
        for (own, name) in names.iter().enumerate() {
            let mut paths = Paths::default();
            let slots = names.map(|name| paths.add(&format!("/{name}")));
            let document = Document::parse(format!(r#"{{"{name}":1}}"#).into()).unwrap();
            let found = paths.read(&document, None, Extent::Data).unwrap();
            for (at, slot) in slots.into_iter().enumerate() {
                assert_eq!(found.document().get(slot).is_some(), at == own, "{name:?}: {:?}", names[at]);
            }
            let mut others = Paths::default();
            let slots: Vec<_> = names
                .iter()
                .filter(|other| *other != name)
                .map(|other| others.add(&format!("/{other}")))
                .collect();
            let found = others.read(&document, None, Extent::Data).unwrap();
            assert!(slots.iter().all(|slot| found.document().get(*slot).is_none()), "{name:?}");
        }
    }
}
