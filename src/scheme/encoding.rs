//! Hex and base64, strictly: a lenient decoder turns `whsec_!!!!` into the empty key, and then anyone can sign.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::settings::Encoding;

/// Bytes of the longest hash, SHA-512.
pub(super) const SUM_BYTES_MAX: usize = 64;

/// A hash sum or a signature, zeros behind it if it is shorter. Both sides of a comparison have the same hash, so that
/// comparing the whole compares the sums.
pub(super) type Sum = [u8; SUM_BYTES_MAX];

/// Standard alphabet, padded or not; stray bits in the last character are refused.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Base64 of any length; none if it is not.
pub(super) fn base64(text: &[u8]) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

/// A signature of exactly `bytes` bytes (at most [`SUM_BYTES_MAX`]); none if it is written or sized otherwise.
pub(super) fn signature(text: &str, encoding: Encoding, bytes: usize) -> Option<Sum> {
    match encoding {
        Encoding::Hex => signature_hex(text, bytes),
        Encoding::Base64 => signature_base64(text, bytes),
        Encoding::Any => signature_hex(text, bytes).or_else(|| signature_base64(text, bytes)),
    }
}

/// Digits of either case. By a table: asked digit by digit what they are, sums would be guessed wrong half the time.
fn signature_hex(text: &str, bytes: usize) -> Option<Sum> {
    if text.len() != 2 * bytes {
        return None;
    }
    let (mut sum, mut odd) = ([0; SUM_BYTES_MAX], 0);
    for (byte, [high, low]) in sum.iter_mut().zip(text.as_bytes().as_chunks().0) {
        let (high, low) = (HEX_DIGITS[usize::from(*high)], HEX_DIGITS[usize::from(*low)]);
        odd |= high | low;
        *byte = high << 4 | low;
    }
    (odd < 16).then_some(sum)
}

/// What each byte is as a hex digit; 255 for what is none.
const HEX_DIGITS: [u8; 256] = {
    let (mut digits, mut digit) = ([255; 256], 0);
    while digit < 16 {
        digits[b"0123456789abcdef"[digit] as usize] = digit as u8;
        digits[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    digits
};

fn signature_base64(text: &str, bytes: usize) -> Option<Sum> {
    // Four characters make three bytes: room for the longest text that passes the first line.
    let mut decoded = [0; SUM_BYTES_MAX.next_multiple_of(3)];
    if text.len() > bytes.div_ceil(3) * 4 || BASE64.decode_slice(text, &mut decoded).ok()? != bytes {
        return None;
    }
    let mut sum = [0; SUM_BYTES_MAX];
    sum[..bytes].copy_from_slice(&decoded[..bytes]);
    Some(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_signature_has_exactly_its_length() {
        for bytes in [20, 32, 64] {
            for length in (0..=140).filter(|length| *length != bytes) {
                let other = vec![7_u8; length];
                for text in [hex::encode(&other), BASE64.encode(&other)] {
                    assert!(signature(&text, Encoding::Any, bytes).is_none(), "{length} for {bytes}");
                }
            }
        }
    }

    #[test]
    fn hex_is_strict() {
        for at in 0..8 {
            for byte in 0..128_u8 {
                let mut text = *b"00fF9aA1";
                text[at] = byte;
                let text = std::str::from_utf8(&text).unwrap();
                let sum = signature(text, Encoding::Hex, 4);
                assert_eq!(sum.map(|sum| sum[..4].to_vec()), hex::decode(text).ok(), "{text:?}");
            }
        }
        assert!(signature("0\u{e9}0", Encoding::Hex, 2).is_none());
    }

    #[test]
    fn base64_is_strict() {
        assert_eq!(base64(b"MTEx").as_deref(), Some(&b"111"[..]));
        assert_eq!(base64(b"MTE").as_deref(), Some(&b"11"[..]));
        assert_eq!(base64(b"MTE=").as_deref(), Some(&b"11"[..]));
        for wrong in ["!!!!", "====", "MTF", "MTE-", "MT E", "MTE=MTE=", "M"] {
            assert!(base64(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in proptest::collection::vec(any::<u8>(), 64), pick in 0..3_usize) {
            let length = [20, 32, 64][pick];
            let bytes = &bytes[..length];
            let padded = BASE64.encode(bytes);
            for text in [hex::encode(bytes), hex::encode_upper(bytes), padded.clone(), padded.replace('=', "")] {
                let sum = signature(&text, Encoding::Any, length).unwrap();
                prop_assert_eq!(&sum[..length], bytes);
                prop_assert!(sum[length..].iter().all(|byte| *byte == 0));
            }
        }

        #[test]
        fn nothing_panics(text in "\\PC*") {
            for encoding in [Encoding::Hex, Encoding::Base64, Encoding::Any] {
                let _ = signature(&text, encoding, 32);
            }
        }
    }
}
