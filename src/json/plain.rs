//! Bytes that stand for themselves in a JSON string, and what ends a run of them: a quote, a backslash or a control
//! character. Many are looked at at a time: most of a body is inside of strings.

use wide::u8x16;

/// Bytes that one instruction compares.
const LANE_BYTES: usize = 16;

/// Bytes that [`Ends`] looks at together: as many as an integer has bits.
const BLOCK_BYTES: usize = 64;

/// The ends in a text, from its front to its back. A block is looked at once, and the strings that end in it ask for bits of
/// a register: what one string waits for of the one before it is a subtraction, not a look into memory.
pub(super) struct Ends<'a> {
    text: &'a [u8],
    /// Where the block begins that was looked at last.
    block: usize,
    /// A bit for each byte of the block, its first one lowest: whether it is an end.
    found: u64,
}

impl<'a> Ends<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        let mut ends = Self { text, block: 0, found: 0 };
        ends.look(0);
        ends
    }

    /// Where the first end is from there on; without one, the text's length.
    #[inline(always)]
    pub(super) fn from(&mut self, mut at: usize) -> usize {
        loop {
            let passed = at.wrapping_sub(self.block);
            if passed < BLOCK_BYTES {
                let left = self.found >> passed;
                if left != 0 {
                    return at + left.trailing_zeros() as usize;
                }
                at = self.block + BLOCK_BYTES;
                if at >= self.text.len() {
                    return self.text.len();
                }
            }
            self.look(at - at % BLOCK_BYTES);
        }
    }

    #[inline(always)]
    fn look(&mut self, block: usize) {
        let rest = self.text.get(block..).unwrap_or_default();
        let mut last = [b' '; BLOCK_BYTES];
        let bytes = rest.first_chunk().unwrap_or_else(|| {
            last[..rest.len()].copy_from_slice(rest);
            &last
        });
        let (lanes, _) = bytes.as_chunks();
        self.block = block;
        self.found = (0..)
            .zip(lanes)
            .fold(0, |found, (nth, lane)| found | u64::from(ends(*lane)) << (nth * LANE_BYTES));
    }
}

/// How many bytes at the beginning stand for themselves.
#[inline(always)]
pub(super) fn plain_bytes(text: &[u8]) -> usize {
    let (lanes, rest) = text.as_chunks();
    for (nth, lane) in lanes.iter().enumerate() {
        let ends = ends(*lane);
        if ends != 0 {
            return LANE_BYTES * nth + ends.trailing_zeros() as usize;
        }
    }
    let mut lane = [b' '; LANE_BYTES];
    lane[..rest.len()].copy_from_slice(rest);
    text.len() - rest.len() + rest.len().min(ends(lane).trailing_zeros() as usize)
}

/// A bit for each byte, the first one lowest: whether it ends a run of plain ones.
#[inline(always)]
fn ends(lane: [u8; LANE_BYTES]) -> u32 {
    let bytes = u8x16::new(lane);
    // Control characters are what stays as it is where nothing may be more than the last of them.
    let controls = bytes.min(u8x16::splat(0x1f)).simd_eq(bytes);
    (bytes.simd_eq(u8x16::splat(b'"')) | bytes.simd_eq(u8x16::splat(b'\\')) | controls).to_bitmask()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_end(byte: u8) -> bool {
        matches!(byte, b'"' | b'\\' | 0..=0x1f)
    }

    #[test]
    fn what_ends_a_run_of_plain_bytes_is_found_wherever_it_stands() {
        for length in 0..40 {
            for (at, end) in (0..length).flat_map(|at| (0..=255u8).map(move |end| (at, end))) {
                for filler in [b'a', 0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7f, 0x80, 0xff] {
                    let mut text = vec![filler; length];
                    text[at] = end;
                    assert_eq!(plain_bytes(&text), if is_end(end) { at } else { length }, "{text:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_next_end_is_found_from_anywhere(
            text in proptest::collection::vec(prop_oneof![8 => Just(b'a'), 1 => any::<u8>(), 1 => Just(b'"')], 0..300),
            places in proptest::collection::vec(0..=300_usize, 0..20),
        ) {
            let mut ends = Ends::new(&text);
            for at in places.into_iter().map(|at| at.min(text.len())) {
                let rest = &text[at..];
                let plain = rest.iter().position(|byte| is_end(*byte)).unwrap_or(rest.len());
                prop_assert_eq!(ends.from(at), at + plain, "from {}", at);
                prop_assert_eq!(plain_bytes(rest), plain);
            }
        }
    }
}
