//! Which members of a payload are secrets. Identity event §5.4.

use std::borrow::Cow;

/// What stands in for a secret.
pub const REDACTED: &str = "[redacted]";

/// Longest key, in bytes, that is looked at closely; a longer one is judged by its end.
const KEY_BYTES_MAX: usize = 64;

/// What the name of a secret ends with, by its last byte: a name is compared with few of them.
const fn endings(last: u8) -> &'static [&'static str] {
    match last {
        b'd' => &["password", "passwd"],
        b'e' => &["recoverycode", "backupcode"],
        b'n' => &["token"],
        b'p' => &["otp"],
        b'r' => &["securityanswer"],
        b's' => &["recoverycodes", "backupcodes"],
        b't' => &["secret"],
        b'y' => &["apikey", "privatekey", "accesskey"],
        _ => &[],
    }
}

/// Whole names of secrets, likewise.
const fn words(last: u8) -> &'static [&'static str] {
    match last {
        b'e' => &["cookie"],
        b'l' => &["credential"],
        b'n' => &["pin", "authorization"],
        b's' => &["credentials"],
        b't' => &["salt"],
        _ => &[],
    }
}

/// Pointers that are secret, and pointers that are not although their name says so.
#[derive(Clone, Debug, Default)]
pub struct Redactions {
    secret: Vec<Pattern>,
    exposed: Vec<Pattern>,
}

/// A pointer in which `*` is any one step and a leading `**` any number of steps.
#[derive(Clone, Debug)]
pub struct Pattern {
    anywhere: bool,
    steps: Vec<Box<str>>,
}

impl Redactions {
    /// The vendor's and the operator's pointers; `exposed` wins over everything.
    pub fn new<'a>(secret: impl Iterator<Item = &'a str>, exposed: impl Iterator<Item = &'a str>) -> Self {
        Self { secret: secret.map(Pattern::new).collect(), exposed: exposed.map(Pattern::new).collect() }
    }

    /// Whether the value at this path is a secret. By its name alone (`nameable`) only texts, objects and arrays are:
    /// flags and numbers are none unless a pointer says so.
    #[must_use]
    pub fn hides<'p>(
        &self,
        path: &(impl DoubleEndedIterator<Item = Cow<'p, str>> + ExactSizeIterator + Clone),
        nameable: bool,
    ) -> bool {
        let named = || nameable && path.clone().next_back().is_some_and(|key| is_secret_key(&key));
        let matches = |pattern: &Pattern| pattern.matches(path.clone());
        let secret = path.len() > 0 && (named() || self.secret.iter().any(matches));
        secret && !self.exposed.iter().any(matches)
    }

    /// Whether a pointer leads to a secret or into one: such a value is not mapped. `*` in it is any element.
    #[must_use]
    pub fn covers(&self, pointer: &str) -> bool {
        let path: Vec<&str> = pointer.split('/').skip(1).collect();
        let steps = path.iter().map(|step| Cow::Borrowed(*step));
        (1..=path.len()).any(|length| self.hides(&steps.clone().take(length), true))
    }
}

impl Pattern {
    /// Whether a text is a pattern at all.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.starts_with('/') || text.starts_with("**/")
    }

    fn new(text: &str) -> Self {
        let anywhere = text.starts_with("**/");
        let steps = text.split('/').skip(1);
        Self {
            anywhere,
            steps: steps.map(|step| step.replace("~1", "/").replace("~0", "~").into()).collect(),
        }
    }

    fn matches<'p>(&self, path: impl DoubleEndedIterator<Item = Cow<'p, str>> + ExactSizeIterator) -> bool {
        let fits = path.len() == self.steps.len() || (self.anywhere && path.len() > self.steps.len());
        fits && path.rev().zip(self.steps.iter().rev()).all(|(step, wanted)| {
            let an_element = step == "*" && wanted.bytes().all(|byte| byte.is_ascii_digit());
            &**wanted == "*" || an_element || step == **wanted
        })
    }
}

/// Whether a member of that name is taken for a secret whatever the vendor: its name, in lower case and without `_`,
/// `-` and spaces, ends with one of `endings` or is one of `words`.
#[must_use]
pub fn is_secret_key(key: &str) -> bool {
    let counts = |byte: &u8| !matches!(byte, b'_' | b'-' | b' ');
    let Some(last) = key.bytes().rev().find(counts).map(|byte| byte.to_ascii_lowercase()) else {
        return false;
    };
    let (endings, words) = (endings(last), words(last));
    if endings.is_empty() && words.is_empty() {
        return false;
    }
    let mut folded = [0; KEY_BYTES_MAX];
    let mut start = KEY_BYTES_MAX;
    for byte in key.bytes().rev().filter(counts) {
        if start == 0 {
            break;
        }
        start -= 1;
        folded[start] = byte.to_ascii_lowercase();
    }
    let folded = &folded[start..];
    endings.iter().any(|ending| folded.ends_with(ending.as_bytes()))
        || words.iter().any(|word| folded == word.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hides(redactions: &Redactions, path: &[&'static str], nameable: bool) -> bool {
        redactions.hides(&path.iter().map(|step| Cow::Borrowed(*step)), nameable)
    }

    #[test]
    fn names_are_found_by_their_last_byte() {
        for last in 0..=u8::MAX {
            assert!(endings(last).iter().chain(words(last)).all(|name| name.as_bytes().ends_with(&[last])));
        }
        let all =
            |of: fn(u8) -> &'static [&'static str]| (0..=u8::MAX).map(|last| of(last).len()).sum::<usize>();
        assert_eq!((all(endings), all(words)), (13, 6));
    }

    #[test]
    fn secret_names_are_known() {
        for key in
            ["Password", "accessToken", "access_token", "X-API-KEY", "pin", "PIN", "OTP", "backup codes"]
        {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["", "IsSecurePasswordx", "LastPasswordChangeDate", "pinned", "saltine", "tokens", "spin"]
        {
            assert!(!is_secret_key(key), "{key}");
        }
        assert!(is_secret_key(&format!("{}token", "x".repeat(1000))));
        assert!(!is_secret_key(&format!("{}pin", "x".repeat(1000))));
    }

    #[test]
    fn a_pattern_is_a_pointer_or_one_from_anywhere() {
        for text in ["/", "/data/hint", "**/hint", "/data/*"] {
            assert!(Pattern::is_one(text), "{text}");
        }
        for text in ["", "data", "*/hint", "**", "**hint"] {
            assert!(!Pattern::is_one(text), "{text}");
        }
    }

    #[test]
    fn any_element_may_be_the_one_that_is_secret() {
        let redactions = Redactions::new(["/list/0/hint", "/a~1b/~0"].into_iter(), std::iter::empty());
        assert!(redactions.covers("/list/*/hint") && redactions.covers("/list/0/hint"));
        assert!(!redactions.covers("/list/1/hint") && !redactions.covers("/*/0/hint"));
        assert!(hides(&redactions, &["a/b", "~"], true) && !hides(&redactions, &["a", "b", "~"], true));
    }

    #[test]
    fn pointers_add_and_take_away() {
        let vendor = ["**/ProviderAccessCredential/*", "/data/hint"];
        let redactions = Redactions::new(vendor.into_iter(), ["/data/accessToken"].into_iter());
        assert!(hides(&redactions, &["Data", "Identities", "0", "ProviderAccessCredential", "Id"], true));
        assert!(hides(&redactions, &["ProviderAccessCredential", "Id"], true));
        assert!(hides(&redactions, &["data", "hint"], true));
        assert!(!hides(&redactions, &["x", "data", "hint"], true));
        assert!(!hides(&redactions, &["data", "accessToken"], true));
        assert!(hides(&redactions, &["accessToken"], true));
        assert!(!hides(&redactions, &[], true));
        assert!(hides(&redactions, &["data", "hint"], false), "a number, by its pointer");
        assert!(!hides(&redactions, &["accessToken"], false), "a flag, by its name");
        assert!(redactions.covers("/data/hint/deep") && redactions.covers("/x/*/token/id"));
        assert!(!redactions.covers("/data/accessToken") && !redactions.covers("/data"));
    }
}
