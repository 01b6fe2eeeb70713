//! Which members of a payload are secrets. Identity event §5.4.

/// What stands in for a secret.
pub const REDACTED: &str = "[redacted]";

/// Longest key, in bytes, that is looked at closely; a longer one is judged by its end.
const KEY_BYTES_MAX: usize = 64;

const ENDINGS: &[&str] = &[
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "privatekey",
    "accesskey",
    "securityanswer",
    "otp",
    "recoverycode",
    "recoverycodes",
    "backupcode",
    "backupcodes",
];

const WORDS: &[&str] = &["pin", "authorization", "cookie", "salt", "credential", "credentials"];

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
    pub fn hides<S: AsRef<str>>(&self, path: &[S], nameable: bool) -> bool {
        let Some(key) = path.last() else { return false };
        let named = nameable && is_secret_key(key.as_ref());
        let secret = named || self.secret.iter().any(|pattern| pattern.matches(path));
        secret && !self.exposed.iter().any(|pattern| pattern.matches(path))
    }

    /// Whether a pointer leads to a secret or into one: such a value is not mapped. `*` in it is any element.
    #[must_use]
    pub fn covers(&self, pointer: &str) -> bool {
        let path: Vec<&str> = pointer.split('/').skip(1).collect();
        (1..=path.len()).any(|length| self.hides(&path[..length], true))
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

    fn matches<S: AsRef<str>>(&self, path: &[S]) -> bool {
        let fits = path.len() == self.steps.len() || (self.anywhere && path.len() > self.steps.len());
        fits && path.iter().rev().zip(self.steps.iter().rev()).all(|(step, wanted)| {
            let step = step.as_ref();
            let an_element = step == "*" && wanted.bytes().all(|byte| byte.is_ascii_digit());
            &**wanted == "*" || an_element || step == &**wanted
        })
    }
}

/// Whether a member of that name is taken for a secret whatever the vendor: its name, in lower case and without `_`,
/// `-` and spaces, ends with one of `ENDINGS` or is one of `WORDS`.
#[must_use]
pub fn is_secret_key(key: &str) -> bool {
    let mut folded = [0; KEY_BYTES_MAX];
    let mut start = KEY_BYTES_MAX;
    for byte in key.bytes().rev().filter(|byte| !matches!(byte, b'_' | b'-' | b' ')) {
        if start == 0 {
            break;
        }
        start -= 1;
        folded[start] = byte.to_ascii_lowercase();
    }
    let folded = &folded[start..];
    ENDINGS.iter().any(|ending| folded.ends_with(ending.as_bytes()))
        || WORDS.iter().any(|word| folded == word.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(redactions.hides(&["a/b", "~"], true) && !redactions.hides(&["a", "b", "~"], true));
    }

    #[test]
    fn pointers_add_and_take_away() {
        let vendor = ["**/ProviderAccessCredential/*", "/data/hint"];
        let redactions = Redactions::new(vendor.into_iter(), ["/data/accessToken"].into_iter());
        assert!(redactions.hides(&["Data", "Identities", "0", "ProviderAccessCredential", "Id"], true));
        assert!(redactions.hides(&["ProviderAccessCredential", "Id"], true));
        assert!(redactions.hides(&["data", "hint"], true));
        assert!(!redactions.hides(&["x", "data", "hint"], true));
        assert!(!redactions.hides(&["data", "accessToken"], true));
        assert!(redactions.hides(&["accessToken"], true));
        assert!(!redactions.hides::<&str>(&[], true));
        assert!(redactions.hides(&["data", "hint"], false), "a number, by its pointer");
        assert!(!redactions.hides(&["accessToken"], false), "a flag, by its name");
        assert!(redactions.covers("/data/hint/deep") && redactions.covers("/x/*/token/id"));
        assert!(!redactions.covers("/data/accessToken") && !redactions.covers("/data"));
    }
}
