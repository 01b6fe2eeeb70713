//! Short texts that are made for every event (ids, times, traces, addresses): on the stack, not on the heap.

use std::{io::Write, net::IpAddr, ops::Deref};

/// Bytes of the longest address: eight groups of four digits, and colons.
const ADDRESS_BYTES: usize = 39;

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

/// An address, as the standard library writes it.
#[must_use]
pub fn address(address: IpAddr) -> Ascii<ADDRESS_BYTES> {
    let mut bytes = [0; ADDRESS_BYTES];
    let mut rest = &mut bytes[..];
    let written = match address {
        // By far the most, and in a fifth of the time.
        IpAddr::V4(address) => address.octets().iter().enumerate().try_for_each(|(nth, octet)| {
            rest.write_all(if nth == 0 { b"" } else { b"." })?;
            rest.write_all(itoa::Buffer::new().format(*octet).as_bytes())
        }),
        IpAddr::V6(address) => write!(rest, "{address}"),
    };
    let left = rest.len();
    // Unwrap safety: there is room for the longest.
    written.expect("39 bytes");
    Ascii::new(bytes, ADDRESS_BYTES - left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_usual() {
        for text in [
            "0.0.0.0",
            "127.0.0.1",
            "255.255.255.255",
            "192.0.2.70",
            "::",
            "2001:db8::1",
            "::ffff:192.0.2.70",
        ] {
            assert_eq!(&*address(text.parse().unwrap()), text);
        }
        let longest = "1111:2222:3333:4444:5555:6666:7777:8888";
        assert_eq!(&*address(longest.parse().unwrap()), longest);
    }
}
