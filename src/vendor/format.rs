//! The vendor format: what one TOML file says of a vendor. The built-in files and an operator's `[vendors.NAME]` are
//! read by the very same types.
//!
//! Pointers are RFC 6901 JSON Pointers into the vendor's body. In a file that splits a delivery into several events
//! (`items`), `/*` after the items' pointer means "this item".

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, value::MapAccessDeserializer},
};

use crate::{
    identity::EventType,
    scheme::{self, Texts},
    units::Span,
};

/// A whole vendor file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VendorFile {
    /// The vendor's name as people write it.
    pub title: String,
    /// The vendor's page on its webhooks.
    #[serde(default)]
    pub docs: Option<String>,
    /// How a request proves that it comes from this vendor.
    pub verify: scheme::Settings,
    /// What the vendor wants to hear, and what it does when it does not.
    #[serde(default)]
    pub response: Contract,
    /// What is known, from where, and whether anyone confirmed it.
    #[serde(default)]
    pub fact: Vec<Fact>,
    /// Names of events are compared without regard to ASCII case.
    #[serde(default)]
    pub ignore_name_case: bool,
    /// Where an array of events stands, for vendors that send several in one delivery.
    #[serde(default)]
    pub items: Option<String>,
    /// How an event gets its name; the first rule that holds wins. None holds: `vendor.event`.
    #[serde(default)]
    pub name: Vec<NameRule>,
    /// The id recipe of every event that has none of its own. Without any: the SHA-256 of the body.
    #[serde(default)]
    pub id: Vec<Part>,
    /// For vendors whose repeated events look the same: see [`Window`].
    #[serde(default)]
    pub window: Option<Window>,
    /// Pointers whose value is always the same. Another value: the event is mapped as `partial`.
    #[serde(default)]
    pub expect: BTreeMap<String, String>,
    /// What each event means; the first whose `match` fits wins.
    #[serde(default)]
    pub event: Vec<EventRule>,
    /// Groups of fields that events share: `[map.NAME]`, member of the identity event = where it comes from.
    #[serde(default)]
    pub map: BTreeMap<String, Fields>,
    /// Pointers to secrets, beside the keys that are always taken for secret. `*` is one step, a leading `**` any.
    #[serde(default)]
    pub redact: Vec<String>,
    /// Events to try the mapping with: `hookwarden trigger`, `hookwarden demo`.
    #[serde(default)]
    pub sample: Vec<Sample>,
}

/// Target member (`"subject.id"`) = source.
pub type Fields = BTreeMap<String, Source>;

/// The vendor's side of the conversation.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Contract {
    /// The status that means "taken". 200 is the only one every vendor accepts.
    pub success_status: u16,
    /// The status of a rate limit; 503 for vendors that give an event up on any 4xx.
    pub limited_status: u16,
    /// How long the vendor waits for an answer; unknown if absent.
    pub time_budget: Option<Span>,
    /// Whether the vendor tries again after a failure.
    pub retries: Retries,
    /// From the first attempt to the last one; unknown if absent.
    pub retry_horizon: Option<Span>,
}

impl Default for Contract {
    fn default() -> Self {
        Self {
            success_status: 200,
            limited_status: 429,
            time_budget: None,
            retries: Retries::Unknown,
            retry_horizon: None,
        }
    }
}

/// Whether a vendor sends an event again that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Retries {
    Yes,
    No,
    Unknown,
}

/// One thing known about a vendor.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fact {
    /// A sentence.
    pub text: String,
    /// The page or file that says so.
    pub source: String,
    /// False: an assumption, or somebody else's word.
    pub confirmed: bool,
}

/// How an event gets its name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NameRule {
    /// Holds if any of these is there and not null. Empty: if every pointer of `name` is.
    #[serde(default)]
    pub when: Vec<String>,
    /// Text with pointers in braces: `"approval.{/state}"`.
    pub name: String,
}

/// What an event means.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventRule {
    /// Names, or prefixes that end in `*`.
    #[serde(rename = "match")]
    pub names: Vec<String>,
    /// Only if any of these is there and not null.
    #[serde(default)]
    pub when: Vec<String>,
    /// One of the closed list.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// Groups of fields, by name. `"profile@/Data"` reads the group's pointers below `/Data`.
    #[serde(default)]
    pub maps: Vec<String>,
    /// Fields of this event alone; they win over the groups'.
    #[serde(default)]
    pub set: Fields,
    /// Pointers without which the event is mapped as `partial`.
    #[serde(default)]
    pub required: Vec<String>,
    /// The id recipe of this event.
    #[serde(default)]
    pub id: Vec<Part>,
    /// The event can come again with the same bytes: it gets the vendor's window.
    #[serde(default)]
    pub window: bool,
    /// The type is only a guess: mapped as `partial`.
    #[serde(default)]
    pub partial: bool,
    /// A sentence for people.
    #[serde(default)]
    pub note: Option<String>,
}

/// One part of an id recipe (identity event §5.3):
///
/// * `"/pointer"` – the value's text; the recipe fails without it
/// * `"/pointer?"` – the same, or null
/// * `"{name}"` – the event's name, in lower case where the vendor ignores case
/// * `"sha256:/pointer"` – hex SHA-256 of the raw bytes of that value
/// * `["/a", "/b"]` – the first that is there; `?` after the last one: or null
/// * any other text – itself
///
/// A recipe that fails gives way to the SHA-256 of the body: an id that is missing must not make all such events
/// duplicates of each other.
pub type Part = Texts;

/// For events that look the same each time (an "enabled" without id or time): a repetition inside `width` is a retry,
/// unless another event of the same group came between. Identity event §5.3, "the toggle trap".
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Longer than the vendor's whole retry horizon.
    pub width: Span,
    /// Pointers to what is switched.
    pub group: Vec<String>,
}

/// A body to try with.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The events it stands for.
    pub events: Vec<String>,
    /// Where the event's name is written, if it stands for several.
    #[serde(default)]
    pub set: Option<String>,
    /// Pointers that get a new value each time, so that a sample is a new event. Strings only, or Unix seconds.
    #[serde(default)]
    pub fresh: Vec<String>,
    /// The page it was taken from, or how it was made.
    #[serde(default)]
    pub source: Option<String>,
    /// JSON.
    pub body: String,
}

/// Where a member of the identity event comes from: a pointer (`"/id"`), a literal (any text that does not begin with
/// `/`), the first of several pointers that is there, or a table.
#[derive(Clone, Debug)]
pub enum Source {
    Literal(String),
    Pointers(Vec<String>),
    Table(Box<Expr>),
}

/// A source with conditions.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expr {
    /// The first of these that is there.
    pub from: Texts,
    /// Vendor's word = our word. Another word: not mapped, `partial`.
    #[serde(default)]
    pub words: Option<BTreeMap<String, String>>,
    /// Only if the text contains this.
    #[serde(default)]
    pub has: Option<String>,
    /// Only if the text does not contain this.
    #[serde(default)]
    pub lacks: Option<String>,
    /// Part number `part` (from 0) of the text cut at this.
    #[serde(default)]
    pub split: Option<String>,
    #[serde(default)]
    pub part: Option<usize>,
    /// Which element of an array: `"only"` (if it has exactly one), `"max"` (the greatest by text), or the first
    /// whose member equals a word regardless of case, else the first: `{ member = "Type", equals = "primary" }`.
    #[serde(default)]
    pub pick: Option<Pick>,
    /// The member of the picked element.
    #[serde(default)]
    pub take: Option<String>,
    /// Every element of the array becomes an object by this group of fields.
    #[serde(default)]
    pub each: Option<String>,
    /// Must be equal to this, else `partial`.
    #[serde(default)]
    pub same_as: Option<String>,
    /// The original stays in `unmapped`, and an odd value is no drift.
    #[serde(default)]
    pub keep: bool,
}

/// How one element of an array is chosen.
#[derive(Clone, Debug)]
pub enum Pick {
    Only,
    Max,
    Where(Where),
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Where {
    pub member: String,
    pub equals: String,
}

// === hand-written deserializers: serde's untagged enums lose the path of an error ===

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Source;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a pointer, a literal, a list of pointers, or a table with `from`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Source, E> {
                Ok(if text.starts_with('/') {
                    Source::Pointers(vec![text.to_owned()])
                } else {
                    Source::Literal(text.to_owned())
                })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Source, A::Error> {
                let mut pointers = Vec::new();
                while let Some(pointer) = seq.next_element()? {
                    pointers.push(pointer);
                }
                Ok(Source::Pointers(pointers))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Source, A::Error> {
                Expr::deserialize(MapAccessDeserializer::new(map)).map(|expr| Source::Table(Box::new(expr)))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for Pick {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Pick;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#""only", "max" or { member, equals }"#)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Pick, E> {
                match text {
                    "only" => Ok(Pick::Only),
                    "max" => Ok(Pick::Max),
                    _ => Err(E::custom(r#"expected "only", "max" or { member, equals }"#)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Pick, A::Error> {
                Where::deserialize(MapAccessDeserializer::new(map)).map(Pick::Where)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

macro_rules! schema_any_of {
    ($name:ty, $text:literal, $schema:tt) => {
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $text.into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let _ = &generator;
                schema_any_of!(@ generator $schema)
            }
        }
    };
    (@ $g:ident source) => {{
        let table = $g.subschema_for::<Expr>();
        schemars::json_schema!({ "anyOf": [
            { "type": "string" }, { "type": "array", "items": { "type": "string" } }, table,
        ] })
    }};
    (@ $g:ident pick) => {{
        let table = $g.subschema_for::<Where>();
        schemars::json_schema!({ "anyOf": [ { "enum": ["only", "max"] }, table ] })
    }};
}
schema_any_of!(Source, "Source", source);
schema_any_of!(Pick, "Pick", pick);
