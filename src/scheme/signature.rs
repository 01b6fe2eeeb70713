//! Reads a signature header: one signature, several, or several with their times.

use super::{
    Mismatch,
    encoding::{Sum, signature},
    settings::Encoding,
};

/// Signatures that one header may hold.
pub(super) const SIGNATURES_MAX: usize = 16;

/// Times that one header may hold, each with its signatures. Each costs a pass over the body for each secret.
pub(super) const SETS_MAX: usize = 2;

/// How to read a header's value.
pub(super) struct Reader {
    pub layout: Layout,
    /// Stands before each signature.
    pub prefix: String,
    pub encoding: Encoding,
    /// Length of each signature, decoded.
    pub signature_bytes: usize,
}

/// How signatures stand in the value.
pub(super) enum Layout {
    Bare,
    Pairs { signature_key: String, timestamp_key: Option<String> },
    List { version: String },
}

/// What a header holds.
pub(super) struct Signatures<'a> {
    /// The last one is being filled.
    sets: Vec<Set<'a>>,
    /// Signatures so far, also those that cannot be decoded.
    count: usize,
}

/// Signatures made at one time.
#[derive(Default)]
pub(super) struct Set<'a> {
    /// As it stands in the header.
    pub timestamp: Option<&'a str>,
    pub sums: Vec<Sum>,
}

impl Reader {
    /// The signatures of the kind that counts. Others are skipped, and so are those that cannot be decoded.
    ///
    /// # Errors
    ///
    /// [`Mismatch::Malformed`] if none is left or there are too many.
    pub(super) fn read<'a>(&self, value: &'a str) -> Result<Signatures<'a>, Mismatch> {
        let mut found = Signatures::none();
        match &self.layout {
            Layout::Bare => found.push(self.decode(value))?,
            Layout::Pairs { signature_key, timestamp_key } => {
                for pair in value.split([',', ' ']).filter(|pair| !pair.is_empty()) {
                    let (key, value) = pair.split_once('=').ok_or(Mismatch::Malformed)?;
                    if timestamp_key.as_deref() == Some(key) {
                        found.begin_set(value)?;
                    } else if signature_key == key {
                        found.push(self.decode(value))?;
                    }
                }
            }
            Layout::List { version } => {
                // Supabase joins by ", ": all entries but the last end in a comma.
                let entries = value.split(' ').map(|entry| entry.trim_end_matches(','));
                for (_, text) in
                    entries.filter_map(|entry| entry.split_once(',')).filter(|(v, _)| v == version)
                {
                    found.push(self.decode(text))?;
                }
            }
        }
        if found.sets().next().is_none() { Err(Mismatch::Malformed) } else { Ok(found) }
    }

    fn decode(&self, text: &str) -> Option<Sum> {
        signature(text.strip_prefix(self.prefix.as_str())?, self.encoding, self.signature_bytes)
    }
}

impl<'a> Signatures<'a> {
    /// The sets that hold a signature; at least one.
    pub(super) fn sets(&self) -> impl Iterator<Item = &Set<'a>> {
        self.sets.iter().filter(|set| !set.sums.is_empty())
    }

    fn none() -> Self {
        Self { sets: vec![Set::default()], count: 0 }
    }

    fn push(&mut self, sum: Option<Sum>) -> Result<(), Mismatch> {
        // What cannot be decoded counts too: the bound is on work.
        if self.count == SIGNATURES_MAX {
            return Err(Mismatch::Malformed);
        }
        self.count += 1;
        if let Some(set) = self.sets.last_mut() {
            set.sums.extend(sum);
        }
        Ok(())
    }

    fn begin_set(&mut self, timestamp: &'a str) -> Result<(), Mismatch> {
        if self.sets.last().is_none_or(|set| set.timestamp.is_some()) {
            if self.sets.len() == SETS_MAX {
                return Err(Mismatch::Malformed);
            }
            self.sets.push(Set::default());
        }
        if let Some(set) = self.sets.last_mut() {
            set.timestamp = Some(timestamp);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs() -> Reader {
        let layout = Layout::Pairs { signature_key: "v1".into(), timestamp_key: Some("t".into()) };
        Reader { layout, prefix: String::new(), encoding: Encoding::Hex, signature_bytes: 32 }
    }

    fn list() -> Reader {
        let layout = Layout::List { version: "v1".into() };
        Reader { layout, encoding: Encoding::Base64, ..pairs() }
    }

    fn bare(prefix: &str) -> Reader {
        Reader { layout: Layout::Bare, prefix: prefix.into(), ..pairs() }
    }

    /// Time and first bytes of the signatures, set by set.
    fn seen(reader: &Reader, value: &str) -> Option<Vec<(String, Vec<u8>)>> {
        let found = reader.read(value).ok()?;
        let set = |set: &Set<'_>| {
            (set.timestamp.unwrap_or("-").to_owned(), set.sums.iter().map(|sum| sum[0]).collect())
        };
        Some(found.sets().map(set).collect())
    }

    fn one(timestamp: &str, first: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
        Some(vec![(timestamp.into(), first.into())])
    }

    #[test]
    fn pairs_in_every_spelling() {
        let (a, b) = ("aa".repeat(32), "bb".repeat(32));
        for value in [
            format!("t=1,v1={a},v1={b}"),
            format!("t=1, v1={a}, v1={b}"),
            format!("v1={a},t=1,v0={b},v1={b}"),
            format!("v2=x=y,t=1,v1={a},v1=zz,v1={b},"),
        ] {
            assert_eq!(seen(&pairs(), &value), one("1", &[0xaa, 0xbb]), "{value}");
        }
        assert_eq!(seen(&pairs(), &format!("v1={a}")), one("-", &[0xaa]));
        let two = seen(&pairs(), &format!("t=1,v1={a} t=2,v1={b}")).unwrap();
        assert_eq!(two, [("1".to_owned(), vec![0xaa]), ("2".to_owned(), vec![0xbb])]);
        for value in [
            String::new(),
            "t=1".into(),
            format!("t=1,v0={a}"),
            format!("t=1,{a}"),
            format!("t=1,v1={a},v1"),
            format!("t=1,v1={}", &a[2..]),
            format!("t=1,v1={a},t=2,v1={a},t=3,v1={a}"),
        ] {
            assert!(pairs().read(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn lists_skip_unknown_versions() {
        let (a, b) =
            ("qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=", "u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7s=");
        let both = one("-", &[0xaa, 0xbb]);
        for value in [
            format!("v1,{a} v1,{b}"),
            format!("v1,{a}, v1,{b}"),
            format!("v1a,{a} v1,{a} v2,{b} v1 x v1,short v1,{b} v1,"),
        ] {
            assert_eq!(seen(&list(), &value), both, "{value}");
        }
        for value in ["v1,", "v1", a, "v1a,{a}", &format!("V1,{a}"), &format!("v1,{a}{b}")] {
            assert!(list().read(value).is_err(), "{value}");
        }
    }

    #[test]
    fn a_prefix_is_not_optional() {
        let a = "aa".repeat(32);
        assert_eq!(seen(&bare("sha256="), &format!("sha256={a}")), one("-", &[0xaa]));
        for value in [a.clone(), format!("sha1={a}"), format!("SHA256={a}"), format!("sha256= {a}")] {
            assert!(bare("sha256=").read(&value).is_err(), "{value}");
        }
        assert!(bare("").read(&format!("{a},{a}")).is_err());
    }

    #[test]
    fn at_most_sixteen() {
        let a = "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=";
        let many = |count: usize| vec![format!("v1,{a}"); count].join(" ");
        assert_eq!(seen(&list(), &many(16)), one("-", &[0xaa; 16]));
        for count in [17, 1000] {
            assert_eq!(list().read(&many(count)).err(), Some(Mismatch::Malformed), "{count}");
        }
        assert!(list().read(&vec!["v1,x"; 17].join(" ")).is_err());
        assert!(pairs().read(&format!("t=1,{}", vec!["v1=00"; 17].join(","))).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(value in "\\PC*", shaped in "((t|v1|v2)?[=, ]?[0-9a-zA-Z+/=]{0,70}[, ]?){0,40}") {
            for reader in [bare(""), bare("sha256="), pairs(), list()] {
                drop(reader.read(&value));
                drop(reader.read(&shaped));
            }
        }
    }
}
