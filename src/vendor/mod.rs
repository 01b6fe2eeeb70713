//! What a vendor's payload means. A vendor is a TOML file; this room reads it (`format`), turns it into a plan
//! (`compile`) and runs the plan over a document. Pure: no clock, no I/O.

pub mod compile;
mod convert;
pub mod encode;
pub mod format;
mod map;
mod paths;
mod plan;
#[cfg(test)]
mod tests;
mod text;
mod unmapped;
mod values;

use std::{borrow::Cow, fmt, time::Duration};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

pub use self::plan::{Options, Plan};
use self::{
    convert::Value,
    format::VendorFile,
    map::{Usage, derive, fill},
    paths::{Found, Places, Slot},
    plan::EventPlan,
    text::IdPart,
    values::{Kept, Values},
};
use crate::{
    identity::{
        EventId, EventType, Recipe,
        data::{Field, member},
        is_attribute,
    },
    json::{Document, Duplicate, Index, Kind},
};

/// Most events in one delivery.
pub const EVENTS_MAX: usize = 256;

/// Longest text, in bytes, in a CloudEvents attribute that a vendor's value goes into.
const ATTRIBUTE_BYTES_MAX: usize = 512;

/// How long an event without id and time counts as the same one, unless the vendor file says otherwise.
const WINDOW: Duration = Duration::from_secs(600);

/// The name of an event that has none.
const NAMELESS: &str = "unknown";

const OCCURRED_AT: Field = member("occurred_at");
const TEST: Field = member("test");
const SUBJECT_ID: Field = member("subject.id");

/// Members that events are put in order by; the first one there is counts.
const PARTITION: [Field; 5] = [
    member("approval.parent_id"),
    member("approval.id"),
    SUBJECT_ID,
    member("target.id"),
    member("vendor.account_id"),
];

/// How much of an event is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Its attributes: the vendor's own body goes with them. Whether a member of `data` alone is as expected stays unknown.
    Attributes,
    /// All of it.
    Data,
}

/// The built-in vendors.
pub const BUILTIN: &[(&str, &str)] = &[
    ("sendauth", include_str!("builtin/sendauth.toml")),
    ("loginradius", include_str!("builtin/loginradius.toml")),
    ("zenlogin", include_str!("builtin/zenlogin.toml")),
    ("authpi", include_str!("builtin/authpi.toml")),
    ("authalert", include_str!("builtin/authalert.toml")),
];

/// The file of a built-in vendor.
#[must_use]
pub fn builtin(name: &str) -> Option<VendorFile> {
    let (_, text) = BUILTIN.iter().find(|(known, _)| *known == name)?;
    // Unwrap safety: a test parses every built-in file.
    Some(toml::from_str(text).expect("built-in vendor file"))
}

/// One event of a delivery, understood but not yet written.
#[derive(Clone)]
pub struct Reading {
    pub event_type: EventType,
    /// The vendor's name for it.
    pub name: String,
    pub mapping: Mapping,
    pub identity: Identity,
    /// CloudEvents `subject`.
    pub subject: Option<String>,
    pub correlation_id: Option<String>,
    /// Without one, the event's id is its own partition.
    pub partition_key: Option<String>,
    pub occurred_at: Option<Timestamp>,
    pub test: bool,
    extent: Extent,
    values: Values,
    usage: Usage,
    /// The element of the vendor's array that this event is.
    item: Option<(Index, Index)>,
}

/// How much of the event the mapping understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    Full,
    /// A field was missing or not what was expected.
    Partial,
    /// Nobody knows this event: everything is in `unmapped`.
    Passthrough,
}

/// What makes the event the same event when it comes again.
#[derive(Clone, Debug)]
pub enum Identity {
    Fixed(EventId),
    /// Events that look the same each time: see [`format::Window`].
    Windowed(Box<Windowed>),
}

/// An id that needs the time of receipt: which window it falls in only the store knows.
#[derive(Clone, Debug)]
pub struct Windowed {
    recipe: Recipe,
    pub width: Duration,
    /// What is switched.
    pub group: u128,
    /// The event without its window.
    pub kind: u128,
}

impl Windowed {
    /// The id in a window: `bucket` is its number since 1970, `generation` tells repetitions inside it apart.
    #[must_use]
    pub fn id(&self, bucket: i64, generation: u32) -> EventId {
        let recipe = self.recipe.clone().part(Some(&bucket.to_string()));
        match generation {
            0 => recipe.id(),
            _ => recipe.part(Some(&generation.to_string())).id(),
        }
    }
}

impl Mapping {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::Passthrough => "passthrough",
        }
    }
}

/// Why a document can't be read as events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error(transparent)]
    Duplicate(#[from] Duplicate),
    #[error("more than {EVENTS_MAX} events in one delivery")]
    TooMany,
}

impl Plan {
    /// Understands a document: one event, or as many as the vendor's array holds. [`encode::data`] takes what was read as
    /// [`Extent::Data`].
    ///
    /// # Errors
    ///
    /// A member that the mapping reads stands twice, or the array is too long.
    pub fn read(&self, document: &Document, extent: Extent) -> Result<Vec<Reading>, Unreadable> {
        let whole = self.paths.read(document, None, extent)?;
        let array = self.items.and_then(|slot| whole.document().get(slot));
        let Some(array) = array.filter(|at| document.kind(*at) == Kind::Array) else {
            return Ok(vec![self.event(document, &whole, None, extent)]);
        };
        if document.elements(array).nth(EVENTS_MAX).is_some() {
            return Err(Unreadable::TooMany);
        }
        let event = |item| {
            let found = self.paths.read(document, Some(item), extent)?;
            Ok(self.event(document, &found, Some((array, item)), extent))
        };
        document.elements(array).map(event).collect()
    }

    fn event(
        &self,
        document: &Document,
        found: &Found,
        item: Option<(Index, Index)>,
        extent: Extent,
    ) -> Reading {
        let places = found.document();
        let (name, named_by) = self.name(document, places);
        let rule = name.as_deref().and_then(|name| self.rule(name, document, places));
        let mut usage = Usage::new(document);
        let mut values = Values::default();
        let mut subject = None;
        let mut correlation_id = None;
        if let Some(rule) = rule {
            let fields = match extent {
                Extent::Attributes => &rule.attributes,
                Extent::Data => &rule.fields,
            };
            values = Values::with_capacity(fields.assignments.len() + fields.literals.len());
            fill(&mut values, fields, document, places, Some(found), &mut usage);
            if extent == Extent::Data {
                derive(&mut values, document);
            }
            subject = rule.subject.as_ref().and_then(|template| template.render(document, places));
            let correlated = places.first(document, &rule.correlation);
            correlation_id = correlated.and_then(|at| document.scalar(at)).and_then(attribute);
            usage.partial |= rule.required.iter().any(|slot| places.first(document, &[*slot]).is_none());
        }
        for slot in named_by {
            places.get(*slot).into_iter().for_each(|at| usage.consume(at));
        }
        for (slot, expected) in &self.expect {
            let Some(at) = places.get(*slot) else { continue };
            if document.string(at).as_deref() == Some(expected) {
                usage.consume(at);
            } else {
                usage.partial = true;
            }
        }
        let text = |field| values.get(field).and_then(|value| value.text(document)).and_then(attribute);
        let occurred_at = match values.get(OCCURRED_AT) {
            Some(Kept::Made(Value::Time(at, _))) => Some(*at),
            _ => None,
        };
        let event_type = rule.map_or(EventType::VendorEvent, |rule| rule.event_type);
        let (identity, own_id) =
            self.identity(document, places, rule, name.as_deref(), occurred_at.is_some(), item);
        let mapping = match rule {
            Some(rule) if event_type != EventType::VendorEvent || rule.partial => {
                if rule.partial || usage.partial || !own_id { Mapping::Partial } else { Mapping::Full }
            }
            _ => Mapping::Passthrough,
        };
        Reading {
            event_type,
            name: name.map_or_else(|| NAMELESS.to_owned(), Cow::into_owned),
            mapping,
            identity,
            subject: subject
                .map(Cow::Owned)
                .and_then(attribute)
                .or_else(|| text(SUBJECT_ID).map(|id| format!("user/{id}"))),
            correlation_id,
            partition_key: PARTITION.into_iter().find_map(text),
            occurred_at,
            test: matches!(values.get(TEST), Some(Kept::Made(Value::Bool(true)))),
            extent,
            values,
            usage,
            item,
        }
    }

    /// The event's name, and the pointers it was read from.
    fn name(&self, document: &Document, places: Places<'_>) -> (Option<Cow<'_, str>>, &[Slot]) {
        if let Some(name) = &self.options.event {
            return (Some(Cow::Borrowed(name)), &[]);
        }
        for (when, template, read) in &self.names {
            if (when.is_empty() || places.first(document, when).is_some())
                && let Some(name) = template.render(document, places)
            {
                return (Some(Cow::Owned(name)), read);
            }
        }
        (None, &[])
    }

    fn rule(&self, name: &str, document: &Document, places: Places<'_>) -> Option<&EventPlan> {
        let same = |left: &[u8], right: &[u8]| {
            if self.ignore_name_case { left.eq_ignore_ascii_case(right) } else { left == right }
        };
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => {
                name.as_bytes().get(..prefix.len()).is_some_and(|start| same(start, prefix.as_bytes()))
            }
            None => same(name.as_bytes(), pattern.as_bytes()),
        };
        let holds = |when: &[_]| when.is_empty() || places.first(document, when).is_some();
        self.events.iter().find(|rule| rule.names.iter().any(fits) && holds(&rule.when))
    }

    /// The event's identity, and whether it is the one its recipe asks for.
    fn identity(
        &self,
        document: &Document,
        places: Places<'_>,
        rule: Option<&EventPlan>,
        name: Option<&str>,
        has_time: bool,
        item: Option<(Index, Index)>,
    ) -> (Identity, bool) {
        let name = match name {
            Some(name) if self.ignore_name_case => Some(Cow::Owned(name.to_ascii_lowercase())),
            name => name.map(Cow::Borrowed),
        };
        let own: &[IdPart] = rule.filter(|rule| !rule.id.is_empty()).map_or(&self.id, |rule| &rule.id);
        let begin = || Recipe::new(&self.vendor);
        let recipe =
            own.iter().try_fold(begin(), |recipe, part| part.add(recipe, document, places, name.as_deref()));
        let window = self.window.as_ref().filter(|_| rule.is_some_and(|rule| rule.window));
        match (recipe.filter(|_| !own.is_empty()), window) {
            (Some(recipe), None) => (Identity::Fixed(recipe.id()), true),
            (Some(recipe), Some(window)) => {
                let group = window.group.iter().fold(begin(), |group, slot| {
                    let value = places.first(document, &[*slot]).and_then(|at| document.scalar(at));
                    group.part(value.as_deref())
                });
                let (kind, group) = (recipe.clone().id().key(), group.id().key());
                let windowed = Windowed { recipe, width: window.width, group, kind };
                (Identity::Windowed(Box::new(windowed)), true)
            }
            (None, _) => {
                let text =
                    item.map_or_else(|| document.text().as_ref(), |(_, item)| document.raw_bytes(item));
                let recipe = begin().part(Some("body")).part(Some(&hex::encode(Sha256::digest(text))));
                let kind = recipe.clone().id().key();
                let identity = match has_time {
                    true => Identity::Fixed(recipe.id()),
                    false => {
                        Identity::Windowed(Box::new(Windowed { recipe, width: WINDOW, group: kind, kind }))
                    }
                };
                (identity, own.is_empty())
            }
        }
    }
}

/// The type alone: everything else is the vendor's.
impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").field("type", &self.event_type.as_str()).finish_non_exhaustive()
    }
}

/// A vendor's text as a CloudEvents attribute: ids only, so nothing with an `@`; bounded.
fn attribute(text: Cow<'_, str>) -> Option<String> {
    let fits = !text.is_empty() && text.len() <= ATTRIBUTE_BYTES_MAX;
    let fits = fits && !text.bytes().any(|byte| byte == b'@') && is_attribute(&text);
    fits.then(|| text.into_owned())
}
