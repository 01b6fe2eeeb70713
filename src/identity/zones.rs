//! Time zone names. `zones.txt` holds the names of the IANA time zone database, links included, in the order of their
//! lower-case forms.

use std::sync::OnceLock;

/// The IANA name for what a vendor wrote: the same but for case, or with its halves swapped (`sydney/australia`, as
/// AuthAlert sends it). None for anything else.
#[must_use]
pub fn timezone(text: &str) -> Option<&'static str> {
    known(text).or_else(|| {
        let (left, right) = text.split_once('/')?;
        known(&format!("{right}/{left}"))
    })
}

fn known(text: &str) -> Option<&'static str> {
    static NAMES: OnceLock<Vec<&str>> = OnceLock::new();
    let names = NAMES.get_or_init(|| include_str!("zones.txt").lines().collect());
    let wanted = text.to_ascii_lowercase();
    names.binary_search_by(|name| name.to_ascii_lowercase().cmp(&wanted)).ok().map(|at| names[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_repaired() {
        for line in include_str!("zones.txt").lines() {
            assert_eq!(timezone(line), Some(line));
        }
        assert_eq!(timezone("sydney/australia"), Some("Australia/Sydney"));
        assert_eq!(timezone("europe/paris"), Some("Europe/Paris"));
        assert_eq!(timezone("Mars/Olympus"), None);
        assert_eq!(timezone(""), None);
    }
}
