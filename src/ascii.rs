//! Short texts that are made for every event (ids, times, traces): on the stack, not on the heap.

use std::ops::Deref;

/// A text of at most `N` bytes, all of them ASCII.
#[derive(Clone, Copy, Debug)]
pub struct Ascii<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Ascii<N> {
    /// The first `length` of these bytes.
    ///
    /// # Panics
    ///
    /// One of them is not ASCII, or there are fewer.
    #[must_use]
    pub fn new(bytes: [u8; N], length: usize) -> Self {
        assert!(bytes[..length].is_ascii());
        Self { bytes, length }
    }
}

impl<const N: usize> Deref for Ascii<N> {
    type Target = str;

    fn deref(&self) -> &str {
        // Unwrap safety: `new` has looked.
        std::str::from_utf8(&self.bytes[..self.length]).expect("ASCII")
    }
}
