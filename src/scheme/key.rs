//! A secret as a hash state that has taken it in already: a request costs a copy of the state, not a key schedule.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use subtle::{Choice, ConstantTimeEq};

use super::{
    beside::Beside,
    encoding::{SUM_BYTES_MAX, Sum},
    settings::Hash,
};

/// A prepared secret and the id it goes by.
pub(super) struct Key {
    pub id: Option<Arc<str>>,
    state: State,
}

enum State {
    Sha1(Box<Hmac<Sha1>>),
    Sha256(Box<Hmac<Sha256>>),
    Sha512(Box<Hmac<Sha512>>),
    /// SHA-256 that has read the secret, of so many bytes, and reads the message next.
    Prefix(Sha256, usize),
}

impl Key {
    pub(super) fn hmac(id: Option<Arc<str>>, hash: Hash, secret: &[u8]) -> Self {
        let state = match hash {
            Hash::Sha1 => State::Sha1(Box::new(keyed(secret))),
            Hash::Sha256 => State::Sha256(Box::new(keyed(secret))),
            Hash::Sha512 => State::Sha512(Box::new(keyed(secret))),
        };
        Self { id, state }
    }

    pub(super) fn prefix(id: Option<Arc<str>>, secret: &[u8]) -> Self {
        Self { id, state: State::Prefix(Sha256::new_with_prefix(secret), secret.len()) }
    }

    /// The sum of the pieces, one after the other.
    pub(super) fn sum<'a>(&self, pieces: impl Iterator<Item = &'a [u8]>) -> Sum {
        self.sum_beside(pieces, &mut Beside::nothing())
    }

    /// The same, and the body's own sum beside it, if that is wanted and this one is made by SHA-256, too.
    fn sum_beside<'a>(&self, pieces: impl Iterator<Item = &'a [u8]>, beside: &mut Beside<'_>) -> Sum {
        match &self.state {
            State::Sha1(state) => mac((**state).clone(), pieces),
            State::Sha256(state) => {
                let mut mac = (**state).clone();
                // The key is a block of its own (RFC 2104 §2).
                beside.feed(pieces, 0, |piece| mac.update(piece));
                padded(&mac.finalize().into_bytes())
            }
            State::Sha512(state) => mac((**state).clone(), pieces),
            State::Prefix(state, taken) => {
                let mut state = state.clone();
                beside.feed(pieces, *taken, |piece| state.update(piece));
                padded(&state.finalize())
            }
        }
    }
}

/// The first key under which one of the signatures is that of the pieces. Every key is tried with every signature,
/// whatever matched before, in constant time for each.
pub(super) fn matching<'k, 'a, P>(
    keys: &'k [Key],
    signatures: &[Sum],
    pieces: &P,
    beside: &mut Beside<'_>,
) -> Option<&'k Key>
where
    P: Iterator<Item = &'a [u8]> + Clone,
{
    let mut found = None;
    for key in keys {
        let expected = key.sum_beside(pieces.clone(), beside);
        let mut equal = Choice::from(0);
        for signature in signatures {
            equal |= signature.ct_eq(&expected);
        }
        if bool::from(equal) {
            found = found.or(Some(key));
        }
    }
    found
}

/// Bytes of the hash's sum.
pub(super) fn sum_bytes(hash: Hash) -> usize {
    match hash {
        Hash::Sha1 => 20,
        Hash::Sha256 => 32,
        Hash::Sha512 => 64,
    }
}

fn keyed<M: KeyInit>(secret: &[u8]) -> M {
    // Unwrap safety: HMAC takes keys of any length (RFC 2104 §3).
    M::new_from_slice(secret).expect("HMAC takes keys of any length")
}

fn mac<'a, M: Mac>(mut mac: M, pieces: impl Iterator<Item = &'a [u8]>) -> Sum {
    pieces.for_each(|piece| mac.update(piece));
    padded(&mac.finalize().into_bytes())
}

fn padded(bytes: &[u8]) -> Sum {
    let mut sum = [0; SUM_BYTES_MAX];
    sum[..bytes.len()].copy_from_slice(bytes);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 2202 §3 and RFC 4231 §4.3, test case 2.
    #[test]
    fn published_sums() {
        let sums = [
            (Hash::Sha1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
            (Hash::Sha256, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (
                Hash::Sha512,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
                 9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
        ];
        for (hash, expected) in sums {
            let key = Key::hmac(None, hash, b"Jefe");
            let sum = key.sum([&b"what do ya "[..], b"want ", b"", b"for nothing?"].into_iter());
            assert_eq!(hex::encode(&sum[..sum_bytes(hash)]), expected);
        }
        let sum = Key::prefix(None, b"a").sum([&b"bc"[..]].into_iter());
        assert_eq!(hex::encode(&sum[..4]), "ba7816bf", "FIPS 180-4, SHA-256 of \"abc\"");
    }

    #[test]
    fn the_first_matching_key_counts() {
        let keys: Vec<Key> = [("a", "one"), ("b", "two"), ("c", "two")]
            .map(|(id, secret)| Key::hmac(Some(id.into()), Hash::Sha256, secret.as_bytes()))
            .into();
        let body = || [&b"body"[..]].into_iter();
        let wrong = [0; SUM_BYTES_MAX];
        let right = keys[1].sum(body());
        for signatures in [&[right, wrong][..], &[wrong, right], &[right]] {
            assert_eq!(
                matching(&keys, signatures, &body(), &mut Beside::nothing()).unwrap().id.as_deref(),
                Some("b")
            );
        }
        assert!(matching(&keys, &[wrong], &body(), &mut Beside::nothing()).is_none());
        assert!(matching(&keys, &[], &body(), &mut Beside::nothing()).is_none());
    }

    #[test]
    fn every_bit_of_a_signature_counts() {
        for (hash, bytes) in [(Hash::Sha1, 20), (Hash::Sha256, 32), (Hash::Sha512, 64)] {
            let keys = [Key::hmac(None, hash, b"secret")];
            let body = || [&b"body"[..]].into_iter();
            let right = keys[0].sum(body());
            assert!(matching(&keys, &[right], &body(), &mut Beside::nothing()).is_some());
            for bit in 0..8 * bytes {
                let mut wrong = right;
                wrong[bit / 8] ^= 1 << (bit % 8);
                assert!(
                    matching(&keys, &[wrong], &body(), &mut Beside::nothing()).is_none(),
                    "bit {bit} of {bytes} bytes"
                );
            }
        }
    }
}
