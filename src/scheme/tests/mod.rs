//! What holds whatever the scheme: lists, repeated headers, times, flipped bits.

mod extension;
mod faults;
mod vectors;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::{
    Assurance, Mismatch, Proof, Request, Settings, Verifier,
    key::{Key, sum_bytes},
    settings::Hash,
};
use crate::secret::Secret;

/// Header names and values.
type Lines = Vec<(String, String)>;

const NOW: i64 = 1_700_000_000;
const PLAIN: &str = "scheme = 'hmac'\nheader = 'x-signature'";
const STRIPE: &str =
    "scheme = 'hmac'\nheader = 'stripe-signature'\nsyntax = 'pairs'\ntemplate = '{timestamp}.{body}'";
const SLACK: &str = "scheme = 'hmac'\nheader = 'x-slack-signature'\nprefix = 'v0='\n\
    template = 'v0:{timestamp}:{body}'\ntimestamp_header = 'x-slack-request-timestamp'";
const STANDARD: &str = "scheme = 'standard-webhooks'";
const RAW_STANDARD: &str = "scheme = 'standard-webhooks'\nsecret_encoding = 'text'";

fn settings(toml: &str) -> Settings {
    toml::from_str(toml).unwrap()
}

fn secrets(texts: &[&str]) -> Vec<Secret> {
    texts.iter().map(|text| Secret::new(None, text.as_bytes().to_vec())).collect()
}

fn verifier(toml: &str, texts: &[&str]) -> Verifier {
    settings(toml).compile(&secrets(texts), Some("https://hooks.example.com/in/x")).unwrap()
}

fn headers<N: AsRef<str>, V: AsRef<str>>(lines: &[(N, V)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name: HeaderName = name.as_ref().parse().unwrap();
        headers.append(name, HeaderValue::from_str(value.as_ref()).unwrap());
    }
    headers
}

fn verify(verifier: &Verifier, headers: &HeaderMap, body: &[u8], now: i64) -> Result<Proof, Mismatch> {
    let body = Bytes::copy_from_slice(body);
    let request = Request { headers, method: &Method::POST, query: None, body: &body };
    let proof = verifier.verify_and_sum(&request, Timestamp::from_second(now).unwrap());
    let made = proof.as_ref().ok().and_then(Proof::body_sha256);
    assert!(made.is_none_or(|sum| sum == *Sha256::digest(&body)));
    proof
}

fn hmac(secret: &str, message: &str) -> Vec<u8> {
    let sum = Key::hmac(None, Hash::Sha256, secret.as_bytes()).sum(std::iter::once(message.as_bytes()));
    sum[..sum_bytes(Hash::Sha256)].to_vec()
}

fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}

/// The three headers of a request signed at `time` by "secret".
fn standard(prefix: &str, time: &str, body: &str) -> [(String, String); 3] {
    let signature = base64(&hmac("secret", &format!("m.{time}.{body}")));
    [
        (format!("{prefix}id"), "m".to_owned()),
        (format!("{prefix}timestamp"), time.to_owned()),
        (format!("{prefix}signature"), format!("v1,{signature}")),
    ]
}

#[test]
fn what_a_proof_says() {
    let secrets = [
        Secret::new(Some("current"), b"new-secret".to_vec()),
        Secret::new(Some("previous"), b"secret".to_vec()),
        Secret::new(Some("current"), b"newer-secret".to_vec()),
    ];
    let standard_webhooks = settings(RAW_STANDARD).compile(&secrets, None).unwrap();
    let signed = headers(&standard("webhook-", "1699999990", "{}"));
    let mut proof = verify(&standard_webhooks, &signed, b"{}", NOW).unwrap();
    assert_eq!(proof.assurance(), Assurance::Signed);
    assert_eq!(proof.key_id().map(|id| &**id), Some("previous"));
    assert_eq!(proof.signed_at(), Timestamp::from_second(1_699_999_990).ok());
    assert!(proof.take_document().is_none());
    assert_eq!(standard_webhooks.key_ids(), ["current", "previous"]);

    let none = verifier("scheme = 'none'", &[]);
    let proof = verify(&none, &HeaderMap::new(), b"anything", NOW).unwrap();
    assert_eq!((proof.assurance(), proof.key_id()), (Assurance::None, None));
    assert_eq!(Proof::report_only(&Mismatch::Missing).assurance(), Assurance::None);
}

#[test]
fn a_proof_names_the_secret_that_matched_whatever_the_scheme() {
    let secrets = [
        Secret::new(Some("current"), b"new-secret".to_vec()),
        Secret::new(Some("previous"), b"secret".to_vec()),
    ];
    let digest = hex::encode(Sha256::digest(b"secret{}"));
    for (toml, value) in [
        (PLAIN, hex::encode(hmac("secret", "{}"))),
        ("scheme = 'digest'\nheader = 'x-signature'", digest),
        ("scheme = 'token'\nheader = 'x-signature'", "secret".to_owned()),
    ] {
        let verifier = settings(toml).compile(&secrets, None).unwrap();
        let proof = verify(&verifier, &headers(&[("x-signature", value)]), b"{}", NOW).unwrap();
        assert_eq!(proof.key_id().map(|id| &**id), Some("previous"), "{toml}");
        assert_eq!(verifier.key_ids(), ["current", "previous"], "{toml}");
    }
}

#[test]
fn a_mismatch_has_one_of_four_labels() {
    let labels = [
        (Mismatch::Missing, "missing"),
        (Mismatch::Malformed, "malformed"),
        (Mismatch::NotJson, "malformed"),
        (Mismatch::Mismatch, "mismatch"),
        (Mismatch::Stale, "stale"),
    ];
    for (mismatch, label) in labels {
        assert_eq!(mismatch.as_str(), label);
    }
}

#[test]
fn what_a_verifier_says() {
    let of = |toml: &str| {
        let verifier = verifier(toml, &["MTEx"]);
        let header = verifier.header().map(|name| name.as_str().to_owned());
        (verifier.method(), header, verifier.assurance().as_str())
    };
    let says = |method, header: &str, assurance| (method, Some(header.to_owned()), assurance);
    assert_eq!(of("scheme = 'hmac'\nheader = 'X-A'"), says("hmac-sha256", "x-a", "signed"));
    let url = "scheme = 'hmac'\nheader = ['x-a', 'x-b']\ntemplate = '{url}'";
    assert_eq!(of(url), says("hmac-sha256-url", "x-a", "shared-secret"));
    let both = "scheme = 'hmac'\nheader = 'x-a'\nhash = 'sha1'\ntemplate = '{url}{body}'";
    assert_eq!(of(both), says("hmac-sha1", "x-a", "signed"));
    assert_eq!(of("scheme = 'digest'\nheader = 'x-a'"), says("sha256-secret-prefix", "x-a", "signed-weak"));
    assert_eq!(of(STANDARD), says("standard-webhooks", "webhook-signature", "signed"));
    assert_eq!(of("scheme = 'token'\nheader = 'x-a'"), says("shared-secret", "x-a", "shared-secret"));
    assert_eq!(
        of("scheme = 'token'\nplace = 'bearer'"),
        says("shared-secret", "authorization", "shared-secret")
    );
    assert_eq!(of("scheme = 'token'\nplace = 'query'"), ("shared-secret", None, "shared-secret"));
    assert_eq!(of("scheme = 'none'"), ("none", None, "none"));
    assert!(Assurance::Signed > Assurance::SignedWeak && Assurance::SharedSecret > Assurance::Network);
}

#[test]
fn a_header_counts_once() {
    let slack = verifier(SLACK, &["secret"]);
    let plain = verifier(PLAIN, &["secret"]);
    let standard_webhooks = verifier(RAW_STANDARD, &["secret"]);
    let good = hex::encode(hmac("secret", "{}"));
    let slack_good = format!("v0={}", hex::encode(hmac("secret", "v0:1700000000:{}")));
    let slack_lines =
        [("x-slack-signature", slack_good), ("x-slack-request-timestamp", "1700000000".to_owned())];
    let lines = [
        (&plain, vec![("x-signature".to_owned(), good)]),
        (&slack, slack_lines.map(|(name, value)| (name.to_owned(), value)).into()),
        (&standard_webhooks, standard("webhook-", "1700000000", "{}").into()),
    ];
    for (verifier, lines) in &lines {
        assert!(verify(verifier, &headers(lines), b"{}", NOW).is_ok());
        for at in 0..lines.len() {
            let change = |change: &dyn Fn(&mut Lines)| {
                let mut lines = lines.clone();
                change(&mut lines);
                verify(verifier, &headers(&lines), b"{}", NOW).unwrap_err()
            };
            let name = lines[at].0.clone();
            assert_eq!(change(&|lines| drop(lines.remove(at))), Mismatch::Missing);
            assert_eq!(change(&|lines| lines[at].1.clear()), Mismatch::Missing);
            assert_eq!(change(&|lines| lines[at].0 = name.replace('-', "_")), Mismatch::Missing);
            assert_eq!(change(&|lines| lines.push((name.clone(), "bad".into()))), Mismatch::Malformed);
            assert_eq!(change(&|lines| lines.insert(0, (name.clone(), "bad".into()))), Mismatch::Malformed);
            assert_eq!(change(&|lines| lines.push(lines[at].clone())), Mismatch::Malformed);
        }
    }
}

#[test]
fn of_several_headers_the_first_counts() {
    let verifier = verifier("scheme = 'hmac'\nheader = ['x-a', 'x-b']", &["secret"]);
    let (good, bad) = (hex::encode(hmac("secret", "{}")), "00".repeat(32));
    let verify = |lines: &[(&str, &String)]| verify(&verifier, &headers(lines), b"{}", NOW).map(|_| ());
    assert_eq!(verify(&[("x-b", &good)]), Ok(()));
    assert_eq!(verify(&[("x-b", &bad), ("x-a", &good)]), Ok(()));
    assert_eq!(verify(&[("x-b", &good), ("x-a", &bad)]), Err(Mismatch::Mismatch));
    assert_eq!(verify(&[]), Err(Mismatch::Missing));
}

#[test]
fn standard_webhooks_prefixes() {
    let default = verifier(RAW_STANDARD, &["secret"]);
    let own = verifier(&format!("{RAW_STANDARD}\nheader_prefix = 'interceptor-'"), &["secret"]);
    let run = |verifier: &Verifier, lines: &[(String, String)]| {
        verify(verifier, &headers(lines), b"{}", NOW).map(|_| ())
    };
    let [svix, webhook, interceptor] =
        ["svix-", "webhook-", "interceptor-"].map(|prefix| standard(prefix, "1700000000", "{}"));
    assert_eq!(run(&default, &svix), Ok(()));
    assert_eq!(run(&default, &webhook), Ok(()));
    assert_eq!(run(&default, &interceptor), Err(Mismatch::Missing));
    assert_eq!(run(&own, &interceptor), Ok(()));
    assert_eq!(run(&own, &webhook), Err(Mismatch::Missing));
    // One set of headers, not a mixture.
    let mixed = [svix[0].clone(), webhook[1].clone(), svix[2].clone()];
    assert_eq!(run(&default, &mixed), Err(Mismatch::Missing));
}

#[test]
fn only_v1_counts() {
    let verifier = verifier(RAW_STANDARD, &["secret"]);
    let good = base64(&hmac("secret", "m.1700000000.{}"));
    let bad = base64(&[0; 32]);
    let run = |signature: String| {
        let lines =
            [("webhook-id", "m"), ("webhook-timestamp", "1700000000"), ("webhook-signature", &signature)];
        verify(&verifier, &headers(&lines), b"{}", NOW).map(|_| ())
    };
    for list in [
        format!("v1,{good}"),
        format!("v1,{bad} v1,{good}"),
        format!("v1,{good} v1,{bad}"),
        format!("v1a,xyz v1,{good}"),
        format!("v1,{} v1,{good}", &good[..8]),
    ] {
        assert_eq!(run(list.clone()), Ok(()), "{list}");
    }
    assert_eq!(run(format!("v1,{bad}")), Err(Mismatch::Mismatch));
    let thousand = vec![format!("v1,{bad}"); 999].join(" ");
    for list in [
        format!("v1a,{good}"),
        format!("v2,{good}"),
        good.clone(),
        "v1,".to_owned(),
        format!("{thousand} v1,{good}"),
        format!("v1,{good} {thousand}"),
    ] {
        assert_eq!(run(list), Err(Mismatch::Malformed));
    }
}

#[test]
fn a_signature_has_its_whole_length() {
    let plain = verifier(PLAIN, &["secret"]);
    let good = hex::encode(hmac("secret", "{}")).repeat(2);
    for length in [1, 8, 63, 65, 128] {
        let result = verify(&plain, &headers(&[("x-signature", &good[..length])]), b"{}", NOW);
        assert_eq!(result.unwrap_err(), Mismatch::Malformed, "{length}");
    }
    assert!(verify(&plain, &headers(&[("x-signature", good[..64].to_uppercase())]), b"{}", NOW).is_ok());
    let result = verify(&plain, &headers(&[("x-signature", "")]), b"{}", NOW);
    assert_eq!(result.unwrap_err(), Mismatch::Missing);
}

#[test]
fn times_are_near_on_both_sides() {
    let at = |verifier: &Verifier, time: i64, unit: i64, now: i64| {
        let time = (time * unit).to_string();
        let signature = hex::encode(hmac("secret", &format!("{time}.{{}}")));
        let lines = [("stripe-signature", format!("t={time},v1={signature}"))];
        verify(verifier, &headers(&lines), b"{}", now).map(|_| ())
    };
    let seconds = verifier(STRIPE, &["secret"]);
    let milliseconds = verifier(&format!("{STRIPE}\ntimestamp_unit = 'ms'"), &["secret"]);
    let narrow = verifier(&format!("{STRIPE}\ntolerance = '30s'"), &["secret"]);
    for offset in [-300, -290, 0, 290, 300] {
        assert_eq!(at(&seconds, NOW + offset, 1, NOW), Ok(()), "{offset}");
        assert_eq!(at(&milliseconds, NOW + offset, 1000, NOW), Ok(()), "{offset}");
        assert_eq!(at(&narrow, NOW + offset / 10, 1, NOW), Ok(()), "{offset}");
    }
    for offset in [-301, 301, 1_000_000] {
        assert_eq!(at(&seconds, NOW + offset, 1, NOW), Err(Mismatch::Stale), "{offset}");
        assert_eq!(at(&milliseconds, NOW + offset, 1000, NOW), Err(Mismatch::Stale), "{offset}");
    }
    assert_eq!(at(&narrow, NOW + 31, 1, NOW), Err(Mismatch::Stale));
    assert!(at(&seconds, NOW, 1000, NOW).is_err(), "milliseconds are no seconds");
    assert_eq!(at(&milliseconds, NOW, 1, NOW), Err(Mismatch::Stale), "nor the other way round");
}

#[test]
fn each_set_has_its_own_time() {
    let verifier = verifier(STRIPE, &["secret"]);
    let set = |time: i64, secret| {
        let signature = hex::encode(hmac(secret, &format!("{time}.{{}}")));
        format!("t={time},v1={signature}")
    };
    let run = |sets: &[String]| {
        let lines = [("stripe-signature", sets.join(" "))];
        verify(&verifier, &headers(&lines), b"{}", NOW).map(|proof| proof.signed_at().unwrap().as_second())
    };
    assert_eq!(run(&[set(NOW, "other"), set(NOW + 1, "secret")]), Ok(NOW + 1));
    assert_eq!(run(&[set(NOW, "secret"), set(NOW + 1, "other")]), Ok(NOW));
    assert_eq!(run(&[set(NOW - 999, "other"), set(NOW, "secret")]), Ok(NOW));
    // A fresh time does not help another time's signature.
    assert_eq!(run(&[set(NOW - 999, "secret"), set(NOW, "other")]), Err(Mismatch::Mismatch));
    assert_eq!(run(&[set(NOW - 999, "secret"), set(NOW + 999, "secret")]), Err(Mismatch::Stale));
    assert_eq!(run(&[set(NOW, "secret"), format!("t={}", NOW + 1), "t=1".into()]), Err(Mismatch::Malformed));
    let untimed = headers(&[("stripe-signature", format!("v1={}", hex::encode(hmac("secret", ".{}"))))]);
    assert_eq!(verify(&verifier, &untimed, b"{}", NOW).unwrap_err(), Mismatch::Malformed);
}

#[test]
fn what_is_not_signed_is_not_asked_for() {
    let toml = format!("{PLAIN}\ntimestamp_header = 'x-time'\nid_header = 'x-id'");
    let good = hex::encode(hmac("secret", "{}"));
    for lines in
        [vec![("x-signature", &*good)], vec![("x-signature", &*good), ("x-time", "0"), ("x-id", "1")]]
    {
        let proof = verify(&verifier(&toml, &["secret"]), &headers(&lines), b"{}", NOW).unwrap();
        assert_eq!(proof.signed_at(), None, "only what is signed is known");
    }
}

#[test]
fn a_time_in_pairs_that_is_not_the_signed_one_is_a_pair_like_any_other() {
    let good = |message: &str| hex::encode(hmac("secret", message));
    let times = |signature: String| format!("t=1,t=2,t=3,v1={signature}");
    let body = verifier(&format!("{PLAIN}\nsyntax = 'pairs'"), &["secret"]);
    let lines = [("x-signature", times(good("{}")))];
    assert!(verify(&body, &headers(&lines), b"{}", NOW).is_ok());
    let timed = verifier(&format!("{STRIPE}\ntimestamp_header = 'x-time'"), &["secret"]);
    let lines = [("stripe-signature", times(good("1700000000.{}"))), ("x-time", "1700000000".to_owned())];
    assert!(verify(&timed, &headers(&lines), b"{}", NOW).is_ok());
}

/// Flips bit number `bit` of the text, counted round; a text stays text if the flip is among its lowest three bits.
fn flipped(text: &str, bit: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let at = bit % bytes.len();
    bytes[at] ^= 1 << (bit % 3);
    String::from_utf8(bytes).unwrap()
}

proptest! {
    #[test]
    fn a_flipped_bit_is_refused(
        secret in "[ -~]{1,100}", id in "[a-z0-9_]{1,40}", body in "[ -~]{1,300}", bit: usize,
    ) {
        let verifier = verifier(RAW_STANDARD, &[&secret]);
        let run = |id: &str, time: &str, signature: &[u8], body: &[u8], now| {
            let signature = format!("v1,{}", base64(signature));
            let lines = [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", &signature)];
            verify(&verifier, &headers(&lines), body, now).is_ok()
        };
        let (time, now) = (NOW.to_string(), NOW);
        let signature = hmac(&secret, &format!("{id}.{time}.{body}"));
        prop_assert!(run(&id, &time, &signature, body.as_bytes(), now));

        let foreign = hmac(&flipped(&secret, bit), &format!("{id}.{time}.{body}"));
        prop_assert!(!run(&id, &time, &foreign, body.as_bytes(), now));
        let mut other = signature.clone();
        other[bit % 32] ^= 1 << (bit % 8);
        prop_assert!(!run(&id, &time, &other, body.as_bytes(), now));
        let mut other = body.clone().into_bytes();
        let at = bit % other.len();
        other[at] ^= 1 << (bit % 8);
        prop_assert!(!run(&id, &time, &signature, &other, now));
        prop_assert!(!run(&flipped(&id, bit), &time, &signature, body.as_bytes(), now));
        let time = flipped(&time, bit);
        let now = time.parse().unwrap_or(now);
        prop_assert!(!run(&id, &time, &signature, body.as_bytes(), now));
    }

    #[test]
    fn no_header_panics(value in proptest::collection::vec(0x20_u8..=0xff, 0..200), other: bool) {
        let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
        let schemes = [PLAIN, STRIPE, SLACK, RAW_STANDARD, "scheme = 'digest'\nheader = 'x-signature'"];
        for toml in schemes {
            let verifier = verifier(toml, &["secret"]);
            let mut lines = headers(&[
                ("webhook-id", "m"), ("webhook-timestamp", "1700000000"), ("webhook-signature", "v1,AAAA"),
                ("x-slack-request-timestamp", "1700000000"), ("x-slack-signature", "v0=00"),
            ]);
            let names = ["x-signature", "stripe-signature", "x-slack-signature", "webhook-signature"];
            let times = ["x-signature", "stripe-signature", "x-slack-request-timestamp", "webhook-timestamp"];
            for name in if other { names } else { times } {
                lines.insert(HeaderName::from_static(name), value.clone());
            }
            prop_assert!(verify(&verifier, &lines, b"body", NOW).is_err());
        }
    }
}
