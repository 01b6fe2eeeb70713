//! The SHA-256 of the body alone, made beside that of what is signed. One SHA-256 waits, from one instruction to the next, for
//! itself; two that take turns wait for each other instead, and take 1.6 times as long as one.

use std::ptr;

use sha2::{Digest, Sha256};

/// Bytes of a SHA-256 block (FIPS 180-4 §1).
const BLOCK_BYTES: usize = 64;

/// Bytes of a turn: short enough for the processor to begin the next one meanwhile.
const TURN_BYTES: usize = 2 * BLOCK_BYTES;

/// A body whose own sum is wanted, until it is made; and the sum.
pub(super) struct Beside<'a> {
    body: Option<&'a [u8]>,
    sum: Option<[u8; 32]>,
}

impl<'a> Beside<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { body: Some(body), sum: None }
    }

    /// For who wants no sum but that of what is signed.
    pub(super) fn nothing() -> Self {
        Self { body: None, sum: None }
    }

    pub(super) fn sum(&self) -> Option<[u8; 32]> {
        self.sum
    }

    /// Hands the pieces to a SHA-256 that has taken `taken` bytes before; while it takes the body, so does our own.
    pub(super) fn feed<'p>(
        &mut self,
        pieces: impl Iterator<Item = &'p [u8]>,
        mut taken: usize,
        mut update: impl FnMut(&[u8]),
    ) {
        for piece in pieces {
            match self.body.take_if(|body| ptr::eq(piece, *body)) {
                Some(body) => self.sum = Some(both(body, taken, &mut update)),
                None => update(piece),
            }
            taken += piece.len();
        }
    }
}

fn both(body: &[u8], taken: usize, mut update: impl FnMut(&[u8])) -> [u8; 32] {
    let mut own = Sha256::new();
    // From here on both have whole blocks, which they take from where they stand.
    let (start, rest) = body.split_at(body.len().min(taken.wrapping_neg() % BLOCK_BYTES));
    update(start);
    // No more turns than ours.
    let mut turns = rest.chunks(TURN_BYTES);
    for turn in body.chunks(TURN_BYTES) {
        own.update(turn);
        turns.next().map(&mut update).unwrap_or_default();
    }
    own.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sums_are_what_each_would_be_alone() {
        let text: Vec<u8> = (0..700_u32).map(|number| (number * 7) as u8).collect();
        for before in [0, 1, 31, 32, 63, 64, 65, 127, 128, 200] {
            for length in (0..300).chain([383, 384, 385, 500]) {
                let (prefix, body) = (&text[..before], &text[200..200 + length]);
                let mut signed = Sha256::new_with_prefix(b"key");
                let mut beside = Beside::new(body);
                let pieces = [prefix, body, b"-", body];
                beside.feed(pieces.into_iter(), 3, |piece| signed.update(piece));
                let alone = Sha256::digest([&b"key"[..], prefix, body, b"-", body].concat());
                assert_eq!(signed.finalize(), alone, "{before} {length}");
                assert_eq!(beside.sum(), Some(Sha256::digest(body).into()), "{before} {length}");
            }
        }
    }

    #[test]
    fn what_is_not_wanted_or_not_there_is_not_made() {
        let body = b"body";
        let copy = body.to_vec();
        for (mut beside, piece) in [(Beside::nothing(), &body[..]), (Beside::new(body), &copy)] {
            let mut taken = Vec::new();
            beside.feed([piece].into_iter(), 0, |piece| taken.extend_from_slice(piece));
            assert_eq!((taken, beside.sum()), (copy.clone(), None));
        }
    }
}
