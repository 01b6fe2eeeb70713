//! The identity event: the closed list of types, the members of `data`, the id recipe, redaction, times. Version 1.0.

pub mod data;
mod id;
pub mod redact;
pub mod schema;
pub mod time;
mod types;
mod zones;

pub use self::{
    id::{EventId, Recipe},
    types::{EventType, Outcome, Severity, TypeFilter},
    zones::timezone,
};

/// Version of the schema, `major.minor`.
pub const VERSION: &str = "1.0";

/// Where the JSON Schema of `data` is served, below `public_url`.
pub const SCHEMA_PATH: &str = "/.well-known/hookwarden/identity-event/1.0.json";
