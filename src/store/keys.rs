//! Maps whose keys are hashes already: parts of a SHA-256, so that there is nothing left to hash.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// Values by event.
pub(super) type ByKey<V> = HashMap<u128, V, BuildHasherDefault<Folded>>;

/// Half of a key's bits are as good as all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = (key >> 64) as u64 ^ key as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_apart() {
        let mut map = ByKey::default();
        for key in 0..1000_u128 {
            map.insert(key << 100 | key, key);
        }
        assert!((0..1000).all(|key| map.get(&(key << 100 | key)) == Some(&key)));
        assert_eq!(map.len(), 1000);
    }
}
