//! A vendor's mapping, compiled: what `compile` makes of a vendor file, and `map` runs over a document.

use std::{collections::BTreeMap, time::Duration};

use super::{
    OCCURRED_AT, PARTITION, TEST,
    convert::{Passes, Value},
    format::Pick,
    paths::{Paths, Slot},
    text::{IdPart, Template},
};
use crate::identity::{
    EventType, Severity,
    data::{Field, Member, Shape},
    redact::Redactions,
};

/// How a source wants its vendor's mapping changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The event's name, whatever the body says.
    pub event: Option<String>,
    pub expose_secrets: Vec<String>,
    pub extra_redactions: Vec<String>,
    pub severities: BTreeMap<EventType, Severity>,
    pub include_raw: bool,
}

/// A vendor's mapping, ready to run. Holds no secrets.
#[derive(Clone, Debug)]
pub struct Plan {
    pub vendor: Box<str>,
    pub(super) options: Options,
    pub(super) paths: Paths,
    pub(super) items: Option<Slot>,
    pub(super) ignore_name_case: bool,
    pub(super) names: Vec<(Vec<Slot>, Template, Vec<Slot>)>,
    pub(super) expect: Vec<(Slot, Box<str>)>,
    pub(super) events: Vec<EventPlan>,
    pub(super) id: Vec<IdPart>,
    pub(super) window: Option<WindowPlan>,
    pub(super) redactions: Redactions,
}

#[derive(Clone, Debug)]
pub(super) struct EventPlan {
    pub names: Vec<String>,
    pub when: Vec<Slot>,
    pub event_type: EventType,
    pub fields: FieldPlan,
    /// Of these, what the attributes are made of.
    pub attributes: FieldPlan,
    pub subject: Option<Template>,
    pub correlation: Vec<Slot>,
    pub required: Vec<Slot>,
    pub id: Vec<IdPart>,
    pub window: bool,
    pub partial: bool,
}

/// What fills the members of `data`, or of an element of one of its lists.
#[derive(Clone, Debug)]
pub(super) struct FieldPlan {
    pub members: &'static [Member],
    /// In the order of the members; of several for one member, the first that gives a value counts.
    pub assignments: Vec<Assignment>,
    pub literals: Vec<Literal>,
}

/// A value from the vendor's file.
#[derive(Clone, Debug)]
pub(super) struct Literal {
    pub field: Field,
    pub value: Value,
    /// It stands only where a member from here to there came from the vendor.
    pub family: Option<(Field, Field)>,
}

#[derive(Clone, Debug)]
pub(super) struct Assignment {
    pub field: Field,
    pub shape: Shape,
    /// Which values pass as they stand, without a closer look.
    pub passes: Passes,
    pub slots: Vec<Slot>,
    pub rules: Option<Box<Rules>>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub words: Option<BTreeMap<String, String>>,
    pub has: Option<String>,
    pub lacks: Option<String>,
    pub split: Option<(String, usize)>,
    pub pick: Option<Pick>,
    pub take: Option<String>,
    pub each: Option<FieldPlan>,
    pub same_as: Option<Slot>,
    pub keep: bool,
}

#[derive(Clone, Debug)]
pub(super) struct WindowPlan {
    pub width: Duration,
    pub group: Vec<Slot>,
}

impl Plan {
    /// The types this vendor's events can have, each once.
    #[must_use]
    pub fn types(&self) -> Vec<EventType> {
        let mut types: Vec<EventType> = self.events.iter().map(|event| event.event_type).collect();
        types.push(EventType::VendorEvent);
        types.sort_unstable();
        types.dedup();
        types
    }

    /// Whether a delivery can hold several events.
    #[must_use]
    pub fn splits(&self) -> bool {
        self.items.is_some()
    }
}

impl FieldPlan {
    /// What an event's attributes are made of, beside its id: members that become one, and those that a literal among these
    /// joins.
    pub(super) fn of_attributes(&self) -> Self {
        let counts = |field| [OCCURRED_AT, TEST].contains(&field) || PARTITION.contains(&field);
        let literals = self.literals.iter().filter(|literal| counts(literal.field)).cloned();
        let literals: Vec<Literal> = literals.collect();
        let mut assignments = self.assignments.clone();
        assignments.retain(|Assignment { field, .. }| {
            counts(*field) || literals.iter().any(|literal| literal.joins(*field))
        });
        Self { members: self.members, assignments, literals }
    }
}

impl Literal {
    /// Whether it stands because that member came from the vendor.
    pub(super) fn joins(&self, field: Field) -> bool {
        self.family.is_some_and(|(first, last)| (first..=last).contains(&field))
    }
}
