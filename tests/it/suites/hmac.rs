//! HMAC by the vectors of Project Wycheproof and of RFC 2202 and 4231, through the verifier that a source has. Its
//! signatures have their whole length: a truncated one is refused, right as it is as far as it goes.
//!
//! Out of scope is what no source can be set to: MD5, SHA-224, SHA-384, SHA-512/224, SHA-512/256, SHA-3 and SM3. Keys
//! under 16 bytes are run here, below the configuration, which asks for `allow_weak` first.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use bytes::Bytes;
use hookwarden::{
    scheme::{Mismatch, Request, Settings},
    secret::Secret,
};
use http::{HeaderMap, Method};
use serde::Deserialize;

use super::vectors;

/// One vector: what is signed, with which key, and the sum that is said to be its own.
struct Vector {
    key: Vec<u8>,
    message: Vec<u8>,
    sum: Vec<u8>,
}

impl Vector {
    /// What the verifiers of a hash say: one for each spelling of the sum and of the key, all of which must agree.
    fn verify(&self, hash: &str) -> Result<(), Mismatch> {
        let hex = hex::encode(&self.sum);
        let (padded, bare) = (STANDARD.encode(&self.sum), STANDARD_NO_PAD.encode(&self.sum));
        let secrets = [
            ("text", self.key.clone()),
            ("hex", hex::encode(&self.key).into_bytes()),
            ("base64", STANDARD.encode(&self.key).into_bytes()),
        ];
        let mut said = Vec::new();
        for (secret_encoding, secret) in &secrets {
            for (encoding, sums) in [
                ("hex", &[&hex, &hex.to_uppercase()]),
                ("base64", &[&padded, &bare]),
                ("any", &[&hex, &padded]),
            ] {
                let settings = format!(
                    "scheme = 'hmac'\nheader = 'x-signature'\nhash = '{hash}'\nencoding = '{encoding}'\n\
                     secret_encoding = '{secret_encoding}'"
                );
                let settings: Settings = toml::from_str(&settings).expect("settings");
                let secret = Secret::new(None, secret.clone());
                let verifier = settings.compile(&[secret], None).expect("compiles");
                for sum in sums {
                    let headers = HeaderMap::from_iter([(
                        http::HeaderName::from_static("x-signature"),
                        http::HeaderValue::from_str(sum).expect("a header"),
                    )]);
                    let body = Bytes::copy_from_slice(&self.message);
                    let request =
                        Request { headers: &headers, method: &Method::POST, query: None, body: &body };
                    said.push(verifier.verify(&request, jiff::Timestamp::UNIX_EPOCH).map(drop));
                }
            }
        }
        assert_eq!(said.len(), 18);
        assert!(said.iter().all(|one| one == &said[0]), "{said:?}");
        said[0]
    }
}

// === Wycheproof ===

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    number_of_tests: usize,
    test_groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    /// In bits, as all sizes here.
    key_size: usize,
    tag_size: usize,
    tests: Vec<Test>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Test {
    tc_id: usize,
    comment: String,
    key: String,
    msg: String,
    tag: String,
    result: String,
}

/// How many vectors verified, how many were refused as wrong, and how many because they are truncated.
fn run(hash: &str, bits: usize) -> (usize, usize, usize) {
    let file: File = serde_json::from_value(vectors(&format!("wycheproof/hmac_{hash}_test.json")))
        .expect("the format of Wycheproof's MAC tests");
    let (mut verified, mut wrong, mut truncated) = (0, 0, 0);
    for group in &file.test_groups {
        for test in &group.tests {
            let name = format!("{hash} {}: {}", test.tc_id, test.comment);
            let bytes = |text: &str| hex::decode(text).expect("hex");
            let vector = Vector { key: bytes(&test.key), message: bytes(&test.msg), sum: bytes(&test.tag) };
            assert_eq!((vector.key.len() * 8, vector.sum.len() * 8), (group.key_size, group.tag_size));
            let (wanted, count) = match (group.tag_size == bits, test.result.as_str()) {
                (true, "valid") => (Ok(()), &mut verified),
                (true, "invalid") => (Err(Mismatch::Mismatch), &mut wrong),
                (false, "valid" | "invalid") => (Err(Mismatch::Malformed), &mut truncated),
                (_, other) => panic!("{name}: {other}"),
            };
            assert_eq!(vector.verify(hash), wanted, "{name}");
            *count += 1;
        }
    }
    assert_eq!(verified + wrong + truncated, file.number_of_tests, "every vector of the file was run");
    (verified, wrong, truncated)
}

#[test]
fn wycheproof_sha1() {
    assert_eq!(run("sha1", 160), (33, 54, 83));
}

#[test]
fn wycheproof_sha256() {
    assert_eq!(run("sha256", 256), (33, 54, 87));
}

#[test]
fn wycheproof_sha512() {
    assert_eq!(run("sha512", 512), (33, 54, 87));
}

// === RFC 2202 §3 and RFC 4231 §4 ===

const LONG_KEY: &str = "Test Using Larger Than Block-Size Key - Hash Key First";

/// Keys and messages that both have; what differs is how long the long keys are, and the last message.
fn rfc_inputs(long_key_bytes: usize, last: &str) -> [(Vec<u8>, Vec<u8>); 7] {
    let long_key = vec![0xaa; long_key_bytes];
    [
        (vec![0x0b; 20], b"Hi There".to_vec()),
        (b"Jefe".to_vec(), b"what do ya want for nothing?".to_vec()),
        (vec![0xaa; 20], vec![0xdd; 50]),
        ((1..=25).collect(), vec![0xcd; 50]),
        (vec![0x0c; 20], b"Test With Truncation".to_vec()),
        (long_key.clone(), LONG_KEY.into()),
        (long_key, last.into()),
    ]
}

/// Runs the seven cases. The fifth is the one that the RFC truncates, to this many bytes.
fn run_rfc(hash: &str, inputs: [(Vec<u8>, Vec<u8>); 7], sums: [&str; 7], truncated_bytes: usize) {
    for (number, ((key, message), sum)) in (1..).zip(inputs.into_iter().zip(sums)) {
        let mut vector = Vector { key, message, sum: hex::decode(sum).expect("hex") };
        assert_eq!(vector.verify(hash), Ok(()), "{hash} {number}");
        if number == 5 {
            vector.sum.truncate(truncated_bytes);
            assert_eq!(vector.verify(hash), Err(Mismatch::Malformed), "{hash} {number}, truncated");
        }
    }
}

#[test]
fn rfc_2202() {
    let last = "Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data";
    let sums = [
        "b617318655057264e28bc0b6fb378c8ef146be00",
        "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
        "125d7342b9ac11cd91a39af48aa17b4f63f175d3",
        "4c9007f4026250c6bc8414f9bf50c86c2d7235da",
        "4c1a03424b55e07fe7f27be1d58bb9324a9a5a04",
        "aa4ae5e15272d00e95705637ce8a3b55ed402112",
        "e8e99d0f45237d786d6bbaa7965c7808bbff1a91",
    ];
    run_rfc("sha1", rfc_inputs(80, last), sums, 12);
}

#[test]
fn rfc_4231() {
    let last = "This is a test using a larger than block-size key and a larger than block-size data. The key \
                needs to be hashed before being used by the HMAC algorithm.";
    let sha256 = [
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        "a3b6167473100ee06e0c796c2955552bfa6f7c0a6a8aef8b93f860aab0cd20c5",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ];
    let sha512 = [
        "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde\
         daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
         9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
        "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39\
         bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb",
        "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3db\
         a91ca5c11aa25eb4d679275cc5788063a5f19741120c4f2de2adebeb10a298dd",
        "415fad6271580a531d4179bc891d87a650188707922a4fbb36663a1eb16da008\
         711c5b50ddd0fc235084eb9d3364a1454fb2ef67cd1d29fe6773068ea266e96b",
        "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352\
         6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
        "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944\
         b6022cac3c4982b10d5eeb55c3e4de15134676fb6de0446065c97440fa8c6a58",
    ];
    run_rfc("sha256", rfc_inputs(131, last), sha256, 16);
    run_rfc("sha512", rfc_inputs(131, last), sha512, 16);
}
