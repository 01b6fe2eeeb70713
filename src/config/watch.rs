//! Has anything changed? Compares the contents of files, not their times or names: a Kubernetes ConfigMap swaps the
//! `..data` link above them, and editors write a new file beside the old one.

use std::{fmt, io, path::Path};

use sha2::{Digest, Sha256};

use crate::{
    file::{self, Refusal},
    units::Size,
};

/// Bytes of a file that are looked at; a larger one counts as unreadable.
const WATCHED_BYTES_MAX: Size = Size::mib(1);

/// SHA-256 over some files' contents. It is made from secrets, so it is not shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of these files, in this order. A file that is missing, or cannot be read, has a mark of its own. Blocks.
    #[must_use]
    pub fn of<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Self {
        let mut hash = Sha256::new();
        let mut add = |mark: u8, bytes: &[u8]| {
            hash.update([mark]);
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        for path in paths {
            add(b'p', path.as_ref().as_os_str().as_encoded_bytes());
            match file::read(path.as_ref(), WATCHED_BYTES_MAX) {
                Ok(bytes) => add(b'f', &bytes),
                Err(Refusal::Io(io::ErrorKind::NotFound)) => add(b'-', &[]),
                Err(Refusal::Io(_) | Refusal::NotRegular | Refusal::Larger(_)) => add(b'?', &[]),
            }
        }
        Self(hash.finalize().into())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn contents_count_not_times() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let missing = Fingerprint::of([&path]);
        fs::write(&path, "").unwrap();
        let empty = Fingerprint::of([&path]);
        fs::write(&path, "one").unwrap();
        let one = Fingerprint::of([&path]);
        fs::write(&path, "two").unwrap();
        let two = Fingerprint::of([&path]);
        fs::write(&path, "one").unwrap();
        assert_eq!(Fingerprint::of([&path]), one);
        assert!(missing != empty && empty != one && one != two);
        assert_ne!(Fingerprint::of([&path, &path]), one);
        assert_eq!(format!("{one:?}"), "Fingerprint(…)");
    }

    #[test]
    fn what_cannot_be_read_has_its_own_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thing");
        let missing = Fingerprint::of([&path]);
        fs::create_dir(&path).unwrap();
        let directory = Fingerprint::of([&path]);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, vec![b'x'; WATCHED_BYTES_MAX.bytes() + 1]).unwrap();
        assert_ne!(missing, directory);
        assert_eq!(Fingerprint::of([&path]), directory);
    }

    /// kubelet: `name` → `..data/name`, `..data` → `..2026_01`, and the swap renames a new `..data` over the old one.
    #[test]
    fn the_swap_of_a_config_map_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (version, text) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("secret"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/secret", at("secret")).unwrap();
        let before = Fingerprint::of([at("secret")]);
        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_ne!(Fingerprint::of([at("secret")]), before);
    }
}
