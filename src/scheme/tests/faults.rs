//! What is refused before the first request.

use super::{secrets, settings};
use crate::scheme::Fault;

fn faults(toml: &str, texts: &[&str]) -> Vec<Fault> {
    settings(toml).compile(&secrets(texts), None).expect_err(toml)
}

fn keys(toml: &str, texts: &[&str]) -> Vec<(&'static str, Option<usize>)> {
    faults(toml, texts).iter().map(|fault| (fault.key, fault.secret_index)).collect()
}

#[test]
fn each_fault_names_its_key() {
    for (toml, key) in [
        ("", "scheme"),
        ("scheme = 'hmac'", "header"),
        ("scheme = 'hmac'\nheader = []", "header"),
        ("scheme = 'hmac'\nheader = 'a b'", "header"),
        ("scheme = 'hmac'\nheader = ['x-a', '']", "header"),
        ("scheme = 'hmac'\nheader = 'x-a'\ntemplate = '{url}'", "url"),
        ("scheme = 'hmac'\nheader = 'x-a'\ntemplate = '{secret}{body}'", "template"),
        ("scheme = 'hmac'\nheader = 'x-a'\ntemplate = ''", "template"),
        ("scheme = 'hmac'\nheader = 'x-a'\ntemplate = '{timestamp}.{body}'", "timestamp_header"),
        (
            "scheme = 'hmac'\nheader = 'x-a'\ntemplate = '{body}'\ntimestamp_header = 'x a'",
            "timestamp_header",
        ),
        ("scheme = 'hmac'\nheader = 'x-a'\ntemplate = '{id}.{body}'", "id_header"),
        ("scheme = 'digest'", "header"),
        ("scheme = 'digest'\nheader = 'x-a'\nhash = 'sha512'", "hash"),
        ("scheme = 'token'", "header"),
        ("scheme = 'token'\nplace = 'basic'", "username"),
    ] {
        assert_eq!(keys(toml, &["secret"]), [(key, None)], "{toml}");
    }
}

#[test]
fn all_faults_come_at_once() {
    let toml = "scheme = 'hmac'\ntemplate = '{id}.{timestamp}.{url}'\nsecret_encoding = 'hex'";
    assert_eq!(
        keys(toml, &["00", "zz", ""]),
        [
            ("url", None),
            ("header", None),
            ("timestamp_header", None),
            ("id_header", None),
            ("secret", Some(1)),
            ("secret", Some(2)),
        ]
    );
    let bad_prefix = keys("scheme = 'standard-webhooks'\nheader_prefix = ' '", &[]);
    assert_eq!((bad_prefix[0], bad_prefix.last()), (("header_prefix", None), Some(&("secret", None))));
}

#[test]
fn a_scheme_that_needs_a_secret_gets_one() {
    for scheme in ["hmac", "digest", "token", "standard-webhooks"] {
        let toml = format!("scheme = '{scheme}'\nheader = 'x-a'");
        assert_eq!(keys(&toml, &[]), [("secret", None)], "{scheme}");
        assert_eq!(keys(&toml, &["MTEx", ""]), [("secret", Some(1))], "{scheme}");
    }
    assert!(settings("scheme = 'none'").compile(&[], None).is_ok());
}

#[test]
fn a_standard_webhooks_secret_is_base64_and_not_empty() {
    let unusable = [
        "whsec_",
        "v1,whsec_",
        "whsec_!!!!",
        "whsec_====",
        "whsec_MTE-",
        "whsec_M",
        "whpk_MTEx",
        "whsk_MTEx",
        "v1a,whpk_MTEx",
        "whsec_MTEx|whsec_MTEx",
        "whsec_MTEx\n",
        " MTEx",
        "",
    ];
    for text in unusable {
        let faults = faults("scheme = 'standard-webhooks'", &["whsec_MTEx", text]);
        assert_eq!((faults.len(), faults[0].key, faults[0].secret_index), (1, "secret", Some(1)), "{text}");
        assert!(text.trim().len() < 4 || !faults[0].text.contains(text.trim()), "a value in {faults:?}");
    }
    for text in ["whsec_MTEx", "v1,whsec_MTEx", "MTEx", "MTE", "MTE="] {
        assert!(settings("scheme = 'standard-webhooks'").compile(&secrets(&[text]), None).is_ok(), "{text}");
    }
}

#[test]
fn a_key_is_as_long_as_what_its_spelling_stands_for() {
    for (toml, text, bytes) in [
        ("scheme = 'standard-webhooks'", "whsec_MTEx", Some(3)),
        ("scheme = 'standard-webhooks'", "v1,whsec_MTEx", Some(3)),
        ("scheme = 'standard-webhooks'", "whsec_!!!!", None),
        ("scheme = 'hmac'\nsecret_encoding = 'hex'", "0011", Some(2)),
        ("scheme = 'hmac'\nsecret_prefix = 'key-'", "key-0011", Some(4)),
        ("scheme = 'token'", "whsec_MTEx", Some(10)),
    ] {
        assert_eq!(settings(toml).key_bytes(&secrets(&[text])[0]), bytes, "{toml} {text}");
    }
}

#[test]
fn no_digest_secret_begins_another() {
    let digest = |texts: &[&str]| keys("scheme = 'digest'\nheader = 'x-a'", texts);
    assert_eq!(digest(&["k", "k\n"]), [("secret", Some(0))]);
    assert_eq!(digest(&["key-a", "key-b", "key"]), [("secret", Some(2))]);
    assert_eq!(digest(&["same", "same"]), [("secret", Some(1))]);
    let hmac = settings("scheme = 'hmac'\nheader = 'x-a'").compile(&secrets(&["k", "k\n"]), None);
    assert!(hmac.is_ok(), "HMAC keeps secret and body apart");
    let apart = settings("scheme = 'digest'\nheader = 'x-a'").compile(&secrets(&["key-a", "key-b"]), None);
    assert!(apart.is_ok());
}

#[test]
fn the_settings_own_url_wins() {
    let toml = "scheme = 'hmac'\nheader = 'x-a'\ntemplate = '{url}'";
    let own = format!("{toml}\nurl = 'https://hooks.example.com/'");
    assert!(settings(&own).compile(&secrets(&["secret"]), None).is_ok());
    assert!(settings(toml).compile(&secrets(&["secret"]), Some("https://x.example/")).is_ok());
}
