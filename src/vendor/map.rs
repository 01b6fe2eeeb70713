//! The members of `data` out of a document: which values, which of the vendor's members they used up, and whether all
//! was as expected.

use std::{borrow::Cow, net::IpAddr};

use super::{
    convert::{Converted, List, Value, convert},
    format::Pick,
    paths::{ELEMENTS_MAX, Found, Places},
    plan::{Assignment, FieldPlan, Rules},
    values::Values,
};
use crate::{
    identity::data::{Field, Shape, member},
    json::{Document, Index, Kind},
};

/// What the mapping did to the document.
#[derive(Clone, Debug)]
pub(super) struct Usage {
    marks: Vec<Marks>,
    /// A value was not what was expected.
    pub partial: bool,
}

/// What became of 64 nodes, a bit for each.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    /// Mapped, so no longer in `unmapped`.
    consumed: u64,
    /// Kept in `unmapped` although mapped: the value says less than the original.
    kept: u64,
}

pub(super) const COUNTRY: Field = member("geo.country");
pub(super) const REGION: Field = member("geo.region");
pub(super) const REGION_ISO: Field = member("geo.region_iso");
pub(super) const IP: Field = member("network.ip");
pub(super) const IP_VERSION: Field = member("network.ip_version");

/// Fills the members of a plan, in their order, behind what is there. `lists` holds the elements of the arrays that become
/// lists.
pub(super) fn fill(
    values: &mut Values,
    plan: &FieldPlan,
    document: &Document,
    places: Places<'_>,
    lists: Option<&Found>,
    usage: &mut Usage,
) {
    let start = values.len();
    let mut filled = None;
    for assignment in &plan.assignments {
        let field = assignment.field;
        if filled == Some(field) {
            continue;
        }
        let Some(source) = places.first(document, &assignment.slots) else { continue };
        if assignment.rules.is_none() && assignment.passes.lets(document, source) {
            usage.consume(source);
            values.push_verbatim(field, source);
        } else if let Some(value) = assign(assignment, document, source, places, lists, usage) {
            values.push(field, value);
        } else {
            continue;
        }
        filled = Some(field);
    }
    // A literal alone says nothing: it joins members that came from the vendor.
    let joining = plan.literals.iter().filter(|literal| {
        let mut mapped = values.fields(start);
        let joins = literal.family.is_none() || mapped.clone().any(|field| literal.joins(field));
        joins && mapped.all(|field| field != literal.field)
    });
    for literal in joining.collect::<Vec<_>>() {
        values.insert(start, literal.field, literal.value.clone());
    }
}

/// Adds the members that follow from others.
pub(super) fn derive(values: &mut Values, document: &Document) {
    let text = |field| values.get(field).and_then(|value| value.text(document));
    let version =
        text(IP).and_then(|ip| ip.parse().ok()).map(|ip: IpAddr| if ip.is_ipv4() { "4" } else { "6" });
    let region_iso = text(COUNTRY).zip(text(REGION)).and_then(|(country, region)| {
        let fits = (1..=3).contains(&region.len()) && region.bytes().all(|byte| byte.is_ascii_alphanumeric());
        fits.then(|| format!("{country}-{}", region.to_ascii_uppercase()))
    });
    let version = version.map(|version| (IP_VERSION, Value::Number(version.into())));
    let region_iso = region_iso.map(|code| (REGION_ISO, Value::Text(code.into())));
    for (field, value) in version.into_iter().chain(region_iso) {
        values.insert(0, field, value);
    }
}

/// The value of a member, where it is not the vendor's own.
#[inline(never)]
fn assign(
    assignment: &Assignment,
    document: &Document,
    source: Index,
    places: Places<'_>,
    lists: Option<&Found>,
    usage: &mut Usage,
) -> Option<Value> {
    let shape = assignment.shape;
    let Some(rules) = assignment.rules.as_deref() else {
        return usage.take(document, source, convert(document, source, None, shape), false);
    };
    if rules.pick.is_some() && document.kind(source) != Kind::Array {
        usage.partial = true;
        return None;
    }
    if let Some(each) = &rules.each {
        return list(each, assignment, document, source, places, lists?, usage);
    }
    // What is picked out of an array may say nothing.
    let at = picked(rules, document, source, usage).filter(|at| !document.says_nothing(*at))?;
    if let Some(other) = rules.same_as.and_then(|slot| places.get(slot))
        && document.raw(other) != document.raw(at)
    {
        usage.partial = true;
    }
    let text = match edited(rules, document, at) {
        Edited::Verbatim => None,
        Edited::Text(text) => Some(text),
        Edited::Excluded => return None,
        Edited::Odd => return usage.take(document, at, Converted::Odd, rules.keep),
    };
    // What is only copied by its name must at least be of the right type.
    let odd = rules.keep && shape == Shape::Text && document.kind(at) == Kind::Number;
    let converted = if odd { Converted::Odd } else { convert(document, at, text.as_deref(), shape) };
    if matches!(converted, Converted::Odd) && rules.split.is_some() {
        // The other part may be mapped; this one is told by the original alone.
        usage.keep(at);
    }
    usage.take(document, at, converted, rules.keep)
}

/// The value a rule means: itself, or one element of an array. What else is in the array stays unused.
fn picked(rules: &Rules, document: &Document, source: Index, usage: &mut Usage) -> Option<Index> {
    let Some(pick) = &rules.pick else { return Some(source) };
    let take = |element| match &rules.take {
        Some(name) => document.member(element, name),
        None => Some(element),
    };
    let mut elements = document.elements(source);
    let first = elements.next()?;
    match pick {
        Pick::Only => {
            if elements.next().is_none() {
                take(first)
            } else {
                None
            }
        }
        Pick::Max => {
            let values = document.elements(source).filter_map(take);
            let texts = values.filter_map(|at| document.scalar(at).map(|text| (text, at)));
            texts.max_by(|(left, _), (right, _)| left.cmp(right)).map(|(_, at)| at)
        }
        Pick::Where(wanted) => {
            let word = |element| {
                let at = document.member(element, &wanted.member)?;
                document.string(at)?.eq_ignore_ascii_case(&wanted.equals).then_some(at)
            };
            let chosen = document.elements(source).find_map(|element| Some((element, word(element)?)));
            if let Some((_, word)) = chosen {
                usage.consume(word);
            }
            take(chosen.map_or(first, |(element, _)| element))
        }
    }
}

enum Edited<'a> {
    Verbatim,
    Text(Cow<'a, str>),
    Excluded,
    Odd,
}

fn edited<'a>(rules: &'a Rules, document: &'a Document, at: Index) -> Edited<'a> {
    if rules.words.is_none() && rules.split.is_none() && rules.has.is_none() && rules.lacks.is_none() {
        return Edited::Verbatim;
    }
    let Some(text) = document.scalar(at) else { return Edited::Odd };
    let excluded = rules.has.as_ref().is_some_and(|has| !text.contains(has.as_str()))
        || rules.lacks.as_ref().is_some_and(|lacks| text.contains(lacks.as_str()));
    if excluded {
        return Edited::Excluded;
    }
    if let Some(words) = &rules.words {
        return words.get(&*text).map_or(Edited::Odd, |word| Edited::Text(Cow::Borrowed(word)));
    }
    match &rules.split {
        Some((by, part)) => match text.split(by.as_str()).nth(*part) {
            Some("") | None => Edited::Odd,
            Some(part) => Edited::Text(Cow::Owned(part.to_owned())),
        },
        None => Edited::Verbatim,
    }
}

/// Every element of an array as an object.
fn list(
    each: &FieldPlan,
    assignment: &Assignment,
    document: &Document,
    source: Index,
    places: Places<'_>,
    lists: &Found,
    usage: &mut Usage,
) -> Option<Value> {
    let slot = assignment.slots.iter().copied().find(|slot| places.get(*slot) == Some(source))?;
    let odd = |at| document.kind(at) != Kind::Object;
    let elements = document.elements(source);
    if document.kind(source) != Kind::Array
        || elements.enumerate().any(|(nth, at)| nth >= ELEMENTS_MAX || odd(at))
    {
        usage.partial = true;
        return None;
    }
    let elements = lists.each(slot);
    let mut list = List {
        array: source,
        members: each.members,
        values: Values::with_capacity(elements.len() * each.assignments.len()),
        ends: Vec::with_capacity(elements.len()),
    };
    for places in elements {
        fill(&mut list.values, each, document, places, None, usage);
        list.ends.push(list.values.len());
    }
    usage.consume_if_empty(document, source);
    Some(Value::List(Box::new(list)))
}

// === impl Usage ===

impl Usage {
    #[must_use]
    pub(super) fn new(document: &Document) -> Self {
        Self { marks: vec![Marks::default(); document.len().div_ceil(64)], partial: false }
    }

    /// Whether the value no longer belongs into `unmapped`.
    #[must_use]
    pub(super) fn is_consumed(&self, at: Index) -> bool {
        let Marks { consumed, kept } = self.marks[at as usize / 64];
        (consumed & !kept) >> (at % 64) & 1 == 1
    }

    /// Marks a value as told elsewhere.
    pub(super) fn consume(&mut self, at: Index) {
        self.marks[at as usize / 64].consumed |= 1 << (at % 64);
    }

    fn consume_if_empty(&mut self, document: &Document, at: Index) {
        if document.elements(at).next().is_none() {
            self.consume(at);
        }
    }

    /// Leaves a value in `unmapped`, whoever else has a use for it.
    fn keep(&mut self, at: Index) {
        self.marks[at as usize / 64].kept |= 1 << (at % 64);
    }

    fn take(&mut self, document: &Document, at: Index, converted: Converted, keep: bool) -> Option<Value> {
        let (value, whole) = match converted {
            Converted::Whole(value) => (value, true),
            Converted::Part(value) => (value, false),
            Converted::No => return None,
            Converted::Odd => {
                self.partial |= !keep && !document.says_nothing(at);
                return None;
            }
        };
        self.consume(at);
        if !whole || keep {
            self.keep(at);
        }
        Some(value)
    }
}
