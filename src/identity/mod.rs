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

/// Whether a CloudEvents attribute may hold the text: no control characters and no noncharacters (CloudEvents 1.0.2,
/// "Type System", String).
#[must_use]
pub fn is_attribute(text: &str) -> bool {
    if text.bytes().fold(true, |all, byte| all & matches!(byte, b' '..=b'~')) {
        return true;
    }
    let noncharacter = |c: char| matches!(u32::from(c), 0xFDD0..=0xFDEF) || u32::from(c) & 0xFFFE == 0xFFFE;
    !text.chars().any(|c| c.is_control() || noncharacter(c))
}

/// Where the JSON Schema of `data` is served, below `public_url`.
pub const SCHEMA_PATH: &str = "/.well-known/hookwarden/identity-event/1.0.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_has_no_control_and_no_noncharacter() {
        for text in ["", "a b", "é", "\u{fdcf}\u{fdf0}", "\u{fffd}\u{10000}\u{1fffd}\u{20000}"] {
            assert!(is_attribute(text), "{text:?}");
        }
        for c in [
            '\0',
            '\n',
            '\u{7f}',
            '\u{85}',
            '\u{fdd0}',
            '\u{fdef}',
            '\u{fffe}',
            '\u{ffff}',
            '\u{1fffe}',
            '\u{10ffff}',
        ] {
            assert!(!is_attribute(&format!("a{c}b")), "{c:?}");
        }
    }
}
