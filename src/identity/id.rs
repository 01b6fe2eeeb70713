//! Event ids: derived, never taken over, so that retries, two replicas and two subscriptions to the same event agree.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::ascii::Ascii;

/// An event's id: `hw1_` and 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EventId([u8; 16]);

/// Stands before the digits, and tells how the id was made.
const PREFIX: &str = "hw1_";
const TEXT_BYTES: usize = PREFIX.len() + 32;

/// Puts an id together from parts (identity event §5.3): each part goes in with its length in front (u32, big endian),
/// so that no two lists of parts look alike; null is a length of `FF FF FF FF`.
#[derive(Clone, Debug)]
pub struct Recipe(Sha256);

impl Recipe {
    /// The parts every id begins with.
    #[must_use]
    pub fn new(vendor: &str) -> Self {
        Self(Sha256::new()).part(Some("hookwarden.id.v1")).part(Some(vendor))
    }

    /// Adds a part: the vendor's own text, or null.
    #[must_use]
    pub fn part(mut self, part: Option<&str>) -> Self {
        match part {
            Some(text) => {
                // Bodies are far below 4 GiB, and so are their parts.
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX - 1);
                self.0.update(length.to_be_bytes());
                self.0.update(text.as_bytes());
            }
            None => self.0.update([0xFF; 4]),
        }
        self
    }

    #[must_use]
    pub fn id(self) -> EventId {
        let digest: [u8; 32] = self.0.finalize().into();
        EventId(std::array::from_fn(|at| digest[at]))
    }
}

impl EventId {
    /// An id that was stored: the bytes of [`EventId::key`], big endian.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// An id as it is written; none if it is not.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let mut bytes = [0; 16];
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// As it is written.
    #[must_use]
    pub fn text(self) -> Ascii<TEXT_BYTES> {
        let mut text = [0; TEXT_BYTES];
        text[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
        // Unwrap safety: 16 bytes are 32 hex digits.
        hex::encode_to_slice(self.0, &mut text[PREFIX.len()..]).expect("room for 32 digits");
        Ascii::new(text, TEXT_BYTES)
    }

    /// 128 bits that stand for the event.
    #[must_use]
    pub fn key(self) -> u128 {
        u128::from_be_bytes(self.0)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(vendor: &str, parts: &[Option<&str>]) -> String {
        parts.iter().fold(Recipe::new(vendor), |recipe, part| recipe.part(*part)).id().to_string()
    }

    /// The vectors of the specification, §5.3.
    #[test]
    fn ids_are_as_specified() {
        let empty_object = hex::encode(Sha256::digest(b"{}"));
        let data = "815c02247ab0859cfa2bfbc0d6d461e3a5f8d41647aa65771c538001acd55d5a";
        let vectors: &[(&str, &[Option<&str>], &str)] = &[
            (
                "sendauth",
                &[Some("approval"), Some("approval-uuid"), Some("verified"), Some("2024-01-15T10:35:00Z")],
                "hw1_1d6b09ca08d94558ce41e8136bf0bff1",
            ),
            (
                "sendauth",
                &[
                    Some("transaction"),
                    Some("transaction-uuid"),
                    Some("denied"),
                    Some("2024-01-15T10:35:00Z"),
                ],
                "hw1_01d488f1e6b33e083112af0f9a1289d9",
            ),
            (
                "sendauth",
                &[Some("transaction"), Some("transaction-uuid"), Some("pending"), None],
                "hw1_e78485abde81601d216a79cacbe0ea4f",
            ),
            (
                "loginradius",
                &[
                    Some("event"),
                    Some("login"),
                    Some("2025-03-04T08:15:30Z"),
                    Some("9b1f0c7de2a84c10b7a9d1f4c0aa5521"),
                    Some(data),
                ],
                "hw1_54629ae3b5682ea00644e7effa863086",
            ),
            (
                "zenlogin",
                &[Some("login_check"), Some("alch39ztz6gg65as")],
                "hw1_8d4b0e0c750d364c71969dc2feb1e692",
            ),
            (
                "zenlogin",
                &[Some("account.created"), Some("accn1abtwskjj3q1"), None],
                "hw1_fa289a0f49dca8df159fd023fded9bc0",
            ),
            (
                "zenlogin",
                &[
                    Some("application.enabled"),
                    Some("accn1abtwskjj3q1"),
                    Some("applrn12zr5zayrp"),
                    Some("2950185"),
                ],
                "hw1_a4bb004f50852fd17fbc96fd623c8787",
            ),
            ("authpi", &[Some("event"), Some("9876-9876-9876-9876")], "hw1_4431fb997c87be8a798ec3347aac079b"),
            (
                "authalert",
                &[
                    Some("new_device"),
                    Some("HZkj3L8we0gZjnHlrxziA53e1TH2"),
                    Some("6uex31zf1tx"),
                    Some("1615819845"),
                ],
                "hw1_43dd97a45d80f694bbd5949d48223a8d",
            ),
            ("authpi", &[Some("body"), Some(&empty_object), None], "hw1_b057bbdc06833c37ac7c3a52f197b985"),
        ];
        for (vendor, parts, expected) in vectors {
            assert_eq!(&id(vendor, parts), expected, "{vendor} {parts:?}");
        }
    }

    #[test]
    fn an_id_is_read_back_as_it_was_written_and_stored() {
        let id = Recipe::new("v").id();
        let text = id.to_string();
        assert_eq!(EventId::parse(&text), Some(id));
        assert_eq!(EventId::from_bytes(id.key().to_be_bytes()), id);
        assert_ne!(EventId::parse("hw1_00000000000000000000000000000000"), Some(id));
        for wrong in ["", "hw1_", &text[..35], &text[4..], &format!("{text}0"), &text.replace("hw1", "hw2")] {
            assert_eq!(EventId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(id("v", &[Some("ab"), Some("c")]), id("v", &[Some("a"), Some("bc")]));
        assert_ne!(id("v", &[Some("")]), id("v", &[None]));
        assert_ne!(id("v", &[Some("x")]), id("v", &[Some("x"), Some("")]));
    }
}
