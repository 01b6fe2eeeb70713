//! Length extension against the digest scheme, done for real: SHA-256 resumed from a published sum (FIPS 180-4 §6.2).

use bytes::Bytes;
use http::HeaderMap;
use sha2::{Digest as _, Sha256};

use super::{NOW, headers, verifier, verify};
use crate::{
    json::Document,
    scheme::{Mismatch, Scheme, Verifier, beside::Beside, digest::may_be_extension},
};

const SETTINGS: &str = "scheme = 'digest'\nheader = 'x-signature'";

const ORIGINALS: [&[u8]; 6] = [
    b"",
    br#"{"id":"a","state":"denied"}"#,
    b"{\"id\":\"a\",\"state\":\"denied\"}\n",
    // Open string that ends inside a character: the padding's 80 completes it.
    b"{\"a\":\"\xc2",
    b"id=a&state=denied",
    br#"{"id":"a","state":"denied","padding":"................................................................"}"#,
];

const SUFFIXES: [&[u8]; 5] =
    [b"", br#"{"state":"verified"}"#, b"\n{\"state\":\"verified\"}\n", b"\"}", b"&state=verified"];

/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes (FIPS 180-4 §4.2.2).
fn constants() -> [u32; 64] {
    let is_prime = |n: &u128| (2..*n).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    let mut primes = (2_u128..).filter(is_prime);
    std::array::from_fn(|_| {
        // The cube root of prime · 2^96 is that of the prime, shifted by 32 bits.
        let scaled = primes.next().unwrap() << 96;
        let (mut low, mut high) = (0_u128, 1 << 36);
        while high - low > 1 {
            let middle = u128::midpoint(low, high);
            if middle * middle * middle <= scaled { low = middle } else { high = middle }
        }
        low as u32
    })
}

fn compress(state: &mut [u32; 8], block: &[u8], constants: &[u32; 64]) {
    let mut w = [0_u32; 64];
    for (word, bytes) in w.iter_mut().zip(block.chunks_exact(4)) {
        *word = u32::from_be_bytes(bytes.try_into().unwrap());
    }
    for t in 16..64 {
        let s0 = w[t - 15].rotate_right(7) ^ w[t - 15].rotate_right(18) ^ (w[t - 15] >> 3);
        let s1 = w[t - 2].rotate_right(17) ^ w[t - 2].rotate_right(19) ^ (w[t - 2] >> 10);
        w[t] = w[t - 16].wrapping_add(s0).wrapping_add(w[t - 7]).wrapping_add(s1);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for t in 0..64 {
        let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let ch = (e & f) ^ (!e & g);
        let t1 = h.wrapping_add(s1).wrapping_add(ch).wrapping_add(constants[t]).wrapping_add(w[t]);
        let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let maj = (a & b) ^ (a & c) ^ (b & c);
        (h, g, f, e, d, c, b, a) =
            (g, f, e, d.wrapping_add(t1), c, b, a, t1.wrapping_add(s0).wrapping_add(maj));
    }
    for (sum, new) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *sum = sum.wrapping_add(new);
    }
}

/// What stands behind a message of that many bytes (FIPS 180-4 §5.1.1).
fn padding(length: usize) -> Vec<u8> {
    let mut padding = vec![0x80];
    padding.resize(1 + (55 + 64 - length % 64) % 64, 0);
    padding.extend_from_slice(&(length as u64 * 8).to_be_bytes());
    padding
}

/// A body that goes on after `body`, and its signature, from the signature of `body` and the secret's length alone.
fn forge(
    body: &[u8],
    signature: [u8; 32],
    secret_bytes: usize,
    suffix: &[u8],
    constants: &[u32; 64],
) -> (Vec<u8>, [u8; 32]) {
    let forged = [body, &padding(secret_bytes + body.len()), suffix].concat();
    let mut state: [u32; 8] =
        std::array::from_fn(|i| u32::from_be_bytes(signature[4 * i..4 * i + 4].try_into().unwrap()));
    let tail = [suffix, &padding(secret_bytes + forged.len())].concat();
    tail.chunks_exact(64).for_each(|block| compress(&mut state, block, constants));
    let mut sum = [0; 32];
    sum.chunks_exact_mut(4).zip(state).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_be_bytes()));
    (forged, sum)
}

fn signed(signature: [u8; 32]) -> HeaderMap {
    headers(&[("x-signature", hex::encode(signature))])
}

/// Whether the comparison alone lets it pass.
fn passes_bare(verifier: &Verifier, signature: [u8; 32], body: &[u8]) -> bool {
    let Scheme::Digest(digest) = &verifier.scheme else { panic!("not the digest scheme") };
    let text = hex::encode(signature);
    digest.compare(&digest.reader.read(&text).unwrap(), body, &mut Beside::nothing()).is_some()
}

#[test]
fn the_forger_knows_sha256() {
    let constants = constants();
    assert_eq!((constants[0], constants[63]), (0x428a_2f98, 0xc671_78f2));
    let (forged, sum) = forge(b"body", Sha256::digest(b"secretbody").into(), 6, b"suffix", &constants);
    assert_eq!(sum, <[u8; 32]>::from(Sha256::digest([b"secret", &forged[..]].concat())));
}

#[test]
fn extensions_pass_the_comparison_and_each_rule_alone_refuses_them() {
    let constants = constants();
    let mut forgeries = 0;
    for secret_bytes in 1..=200 {
        let secret = "s".repeat(secret_bytes);
        let verifier = verifier(SETTINGS, &[&secret]);
        for body in ORIGINALS {
            let signature = Sha256::digest([secret.as_bytes(), body].concat()).into();
            for suffix in SUFFIXES {
                let (forged, sum) = forge(body, signature, secret_bytes, suffix, &constants);
                assert!(passes_bare(&verifier, sum, &forged), "a real forgery");
                assert!(may_be_extension(&forged));
                assert!(Document::parse(Bytes::from(forged.clone())).is_err());
                assert_eq!(verify(&verifier, &signed(sum), &forged, NOW).unwrap_err(), Mismatch::Mismatch);

                // An extension of an extension is one as well.
                let (forged, sum) = forge(&forged, sum, secret_bytes, suffix, &constants);
                assert!(passes_bare(&verifier, sum, &forged));
                assert!(may_be_extension(&forged) && Document::parse(Bytes::from(forged.clone())).is_err());
                assert!(verify(&verifier, &signed(sum), &forged, NOW).is_err());
                forgeries += 2;
            }
        }
    }
    assert_eq!(forgeries, 200 * ORIGINALS.len() * SUFFIXES.len() * 2);
}

#[test]
fn what_is_signed_must_be_one_json_text_without_byte_00() {
    let verifier = verifier(SETTINGS, &["secret"]);
    let run = |body: &[u8]| {
        let signature = Sha256::digest([b"secret", body].concat()).into();
        assert!(passes_bare(&verifier, signature, body));
        verify(&verifier, &signed(signature), body, NOW)
    };
    let body = br#" {"id":1} "#;
    let mut proof = run(body).unwrap();
    assert_eq!(proof.take_document().unwrap().text().as_ref(), body, "read once");
    assert!(proof.take_document().is_none());
    for wrong in [&b""[..], b"{}{}", b"{}\n{}", b"a=b", b"{\"a\":\"\xff\"}", b"{}x"] {
        assert_eq!(run(wrong).unwrap_err(), Mismatch::NotJson, "{wrong:?}");
    }
    for wrong in [&b"\0"[..], b"{}\0", b"\0{}", b"{\"a\":\"\0\"}"] {
        assert_eq!(run(wrong).unwrap_err(), Mismatch::Mismatch, "{wrong:?}");
    }
}
