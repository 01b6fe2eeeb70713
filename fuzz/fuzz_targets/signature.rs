//! Requests against the verifiers of all schemes. What is taken must carry the right signature (or token) of one of the
//! keys, which no input knows; whether it does is judged by a second, simpler reading of the request.
//!
//! An input is three bytes (which verifier, which key signs, how far the clock is off), `name: value` lines (the line
//! `?…` is the query), an empty line and a body. Control characters in values stand for what only the vendor could
//! write, so that mutations begin from right signatures: see [`Pen`].

#![no_main]

use std::sync::LazyLock;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use hookwarden::{
    scheme::{Encoding, Hash, Place, Request, SchemeName, Settings, Syntax, TimestampUnit, Verifier},
    secret::Secret,
    vendor::{BUILTIN, builtin},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

const NOW: i64 = 1_700_000_000;
const URL: &str = "https://hooks.example.com/in/x";
/// Seconds: that of the verifiers.
const TOLERANCE: i64 = 300;
/// Lines beyond which heads are of no interest.
const LINES_MAX: usize = 40;

/// By their ids. They decode as base64, too.
const KEYS: [(&str, &str); 2] =
    [("a", "c29tZSBrZXkgdGhhdCBubyBpbnB1dCBrbm93cyE="), ("b", "YW5vdGhlciBrZXkgb2YgdGhlIHNhbWUgc291cmNl")];

/// Beside those of the built-in vendors.
const CUSTOM: &[&str] = &[
    "scheme = 'standard-webhooks'",
    "scheme = 'standard-webhooks'\nheader_prefix = 'x-'\nsecret_encoding = 'text'",
    "scheme = 'hmac'\nheader = 'x-a'\nsyntax = 'pairs'\ntemplate = '{timestamp}.{body}'",
    "scheme = 'hmac'\nheader = 'x-a'\nsyntax = 'pairs'\ntemplate = '{timestamp}.{id}.{body}'\nid_header = 'x-id'\n\
     timestamp_key = 'time'\nsignature_key = 's'\ntimestamp_unit = 'ms'\nencoding = 'any'",
    "scheme = 'hmac'\nheader = 'x-a'\nprefix = 'v0='\ntemplate = 'v0:{timestamp}:{body}'\ntimestamp_header = 'x-time'",
    "scheme = 'hmac'\nheader = ['x-a', 'x-b']\nhash = 'sha1'\nprefix = 'sha1='",
    "scheme = 'hmac'\nheader = 'x-a'\nhash = 'sha512'\nencoding = 'base64'\nsecret_encoding = 'base64'",
    "scheme = 'hmac'\nheader = 'x-a'\nsyntax = 'list'\ntemplate = '{method}{url}{id}.{timestamp}.{body}'\n\
     timestamp_header = 'x-time'\nid_header = 'x-id'\nencoding = 'any'\nprefix = 'p'",
    "scheme = 'digest'\nheader = ['x-a', 'x-b']\nsyntax = 'list'\nencoding = 'any'",
    "scheme = 'token'\nheader = ['x-a', 'x-b']\nprefix = 'Token '",
    "scheme = 'token'\nplace = 'bearer'",
    "scheme = 'token'\nplace = 'basic'\nusername = 'hook'",
    "scheme = 'token'\nplace = 'query'",
];

/// A verifier, and what it is made of.
struct Case {
    settings: Settings,
    verifier: Verifier,
    /// Decoded, with their ids.
    keys: Vec<(&'static str, Vec<u8>)>,
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let vendors = BUILTIN.iter().map(|(name, _)| builtin(name).expect("built in").verify);
    let custom = CUSTOM.iter().map(|text| toml::from_str(text).expect("settings"));
    vendors.chain(custom).map(Case::new).collect()
});

impl Case {
    fn new(mut settings: Settings) -> Self {
        // AuthAlert's is for the operator to say.
        if settings.place.unwrap_or_default() == Place::Header && settings.header.is_none() {
            settings.header = Some(["x-authalert-secret"].into_iter().collect());
        }
        let secrets = KEYS.map(|(id, text)| Secret::new(Some(id), text.into()));
        let verifier = settings.compile(&secrets, Some(URL)).expect("it compiles");
        let is_base64 =
            settings.secret_encoding.map_or(settings.scheme == Some(SchemeName::StandardWebhooks), |it| {
                it == hookwarden::scheme::SecretEncoding::Base64
            });
        let decoded =
            |text: &str| if is_base64 { STANDARD.decode(text).expect("base64") } else { text.into() };
        let keys = KEYS.map(|(id, text)| (id, decoded(text))).into();
        Self { settings, verifier, keys }
    }

    fn scheme(&self) -> SchemeName {
        self.settings.scheme.expect("set")
    }

    /// What stands before `id`, `timestamp` and `signature`, where that is how headers are named.
    fn prefixes(&self) -> Vec<&str> {
        match (self.scheme(), &self.settings.header_prefix) {
            (SchemeName::StandardWebhooks, Some(prefix)) => vec![prefix],
            (SchemeName::StandardWebhooks, None) => vec!["svix-", "webhook-"],
            _ => vec![],
        }
    }

    /// Names of the headers with signature (or token), time and id; none of those that are not used.
    fn names(&self) -> Vec<[Option<String>; 3]> {
        let Settings { header, timestamp_header, id_header, .. } = &self.settings;
        let signatures = header.iter().flat_map(|names| &names.0);
        let own = signatures.map(|name| [Some(name.clone()), timestamp_header.clone(), id_header.clone()]);
        let standard =
            |prefix: &str| ["signature", "timestamp", "id"].map(|end| Some(format!("{prefix}{end}")));
        own.chain(self.prefixes().into_iter().map(standard)).collect()
    }

    fn template(&self) -> &str {
        match self.scheme() {
            SchemeName::StandardWebhooks => "{id}.{timestamp}.{body}",
            _ => self.settings.template.as_deref().unwrap_or("{body}"),
        }
    }

    /// The right signature.
    fn sum(&self, key: &[u8], id: &[u8], time: &str, body: &[u8]) -> Vec<u8> {
        fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
            M::new_from_slice(key).expect("any length").chain_update(message).finalize().into_bytes().to_vec()
        }
        if self.scheme() == SchemeName::Digest {
            return Sha256::digest([key, body].concat()).to_vec();
        }
        let mut message = Vec::new();
        for piece in self.template().split_inclusive('}') {
            let (literal, name) = piece.split_once('{').unwrap_or((piece, ""));
            message.extend_from_slice(literal.as_bytes());
            message.extend_from_slice(match name {
                "id}" => id,
                "timestamp}" => time.as_bytes(),
                "body}" => body,
                "url}" => URL.as_bytes(),
                "method}" => b"POST",
                _ => b"",
            });
        }
        match self.settings.hash.unwrap_or_default() {
            Hash::Sha1 => mac::<Hmac<Sha1>>(key, &message),
            Hash::Sha256 => mac::<Hmac<Sha256>>(key, &message),
            Hash::Sha512 => mac::<Hmac<Sha512>>(key, &message),
        }
    }

    fn now_text(&self) -> String {
        match self.settings.timestamp_unit.unwrap_or_default() {
            TimestampUnit::Seconds => NOW.to_string(),
            TimestampUnit::Milliseconds => (NOW * 1000).to_string(),
        }
    }

    /// Whether a time as it stands in a request is near now.
    fn is_near(&self, time: &str, now: i64) -> bool {
        let unit = match self.settings.timestamp_unit.unwrap_or_default() {
            TimestampUnit::Seconds => 1,
            TimestampUnit::Milliseconds => 1000,
        };
        let number = time.parse::<i64>().ok().filter(|_| !time.starts_with('+'));
        number.is_some_and(|number| number.abs_diff(now * unit) <= (TOLERANCE * unit).unsigned_abs())
    }

    /// The ids of the keys without which nobody could have written this request.
    fn provers(&self, headers: &HeaderMap, query: Option<&str>, body: &[u8], now: i64) -> Vec<&'static str> {
        let proves = |(_, key): &&(&'static str, Vec<u8>)| match self.scheme() {
            SchemeName::Token => self.holds_token(headers, query, key),
            SchemeName::None => true,
            SchemeName::Hmac | SchemeName::Digest | SchemeName::StandardWebhooks => {
                self.names().iter().any(|[signature, time, id]| {
                    let the = |name: &Option<String>| name.as_ref().and_then(|name| the_only(headers, name));
                    let Some(value) = the(signature) else { return false };
                    let id = if self.template().contains("{id}") { the(id) } else { Some(&b""[..]) };
                    let Some(id) = id else { return false };
                    let Ok(value) = str::from_utf8(value) else { return false };
                    let times = match time {
                        _ if !self.template().contains("{timestamp}") => vec![""],
                        Some(_) => the(time).and_then(|time| str::from_utf8(time).ok()).into_iter().collect(),
                        None => {
                            value.split([',', ' ']).filter_map(|pair| Some(pair.split_once('=')?.1)).collect()
                        }
                    };
                    let near = |time: &&str| time.is_empty() || self.is_near(time, now);
                    times
                        .into_iter()
                        .filter(near)
                        .any(|time| self.shows(value, &self.sum(key, id, time, body)))
                })
            }
        };
        self.keys.iter().filter(proves).map(|(id, _)| *id).collect()
    }

    /// Whether a header's value spells this signature.
    fn shows(&self, value: &str, sum: &[u8]) -> bool {
        let Settings { syntax, encoding, prefix, .. } = &self.settings;
        let prefix = prefix.as_deref().unwrap_or_default();
        let is_one = |text: &str| {
            let Some(text) = text.strip_prefix(prefix) else { return false };
            let hex = text.eq_ignore_ascii_case(&hex::encode(sum));
            let base64 = text == STANDARD.encode(sum) || text == STANDARD_NO_PAD.encode(sum);
            match encoding.unwrap_or_default() {
                _ if self.scheme() == SchemeName::StandardWebhooks => base64,
                Encoding::Hex => hex,
                Encoding::Base64 => base64,
                Encoding::Any => hex || base64,
            }
        };
        match syntax.unwrap_or_default() {
            Syntax::Bare if self.scheme() != SchemeName::StandardWebhooks => is_one(value),
            _ => value
                .split([',', ' '])
                .any(|part| is_one(part) || part.split_once('=').is_some_and(|(_, text)| is_one(text))),
        }
    }

    fn holds_token(&self, headers: &HeaderMap, query: Option<&str>, key: &[u8]) -> bool {
        let authorization = the_only(headers, "authorization").unwrap_or_default();
        let ends_with = |end: &[u8]| authorization.ends_with(end);
        match self.settings.place.unwrap_or_default() {
            Place::Header => {
                let token = [self.settings.prefix.as_deref().unwrap_or_default().as_bytes(), key].concat();
                let names = self.settings.header.iter().flat_map(|names| &names.0);
                names.into_iter().any(|name| the_only(headers, name) == Some(&token))
            }
            Place::Bearer => ends_with(key),
            Place::Basic => {
                let credentials = [b"hook:", key].concat();
                ends_with(STANDARD.encode(&credentials).as_bytes())
                    || ends_with(STANDARD_NO_PAD.encode(&credentials).as_bytes())
            }
            Place::Query => query.is_some_and(|query| {
                query
                    .split('&')
                    .filter(|pair| {
                        pair.strip_prefix("access_token=").is_some_and(|value| percent_decoded(value) == key)
                    })
                    .count()
                    == 1
            }),
        }
    }
}

/// The value of the only line of that name.
fn the_only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none()).map(HeaderValue::as_bytes)
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = if *first == b'%' { tail.get(..2).and_then(|two| hex::decode(two).ok()) } else { None };
        rest = if escaped.is_some() { &tail[2..] } else { tail };
        out.extend(escaped.unwrap_or_else(|| vec![*first]));
    }
    out
}

/// What the vendor would write in place of control characters.
struct Pen {
    sum: Vec<u8>,
    time: String,
    key: &'static str,
}

impl Pen {
    fn expand(&self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for byte in text {
            match byte {
                1 => out.extend(hex::encode(&self.sum).into_bytes()),
                2 => out.extend(hex::encode_upper(&self.sum).into_bytes()),
                3 => out.extend(STANDARD.encode(&self.sum).into_bytes()),
                4 => out.extend(STANDARD_NO_PAD.encode(&self.sum).into_bytes()),
                5 => out.extend(self.time.as_bytes()),
                6 => out.extend(self.key.as_bytes()),
                7 => out.extend(STANDARD.encode(format!("hook:{}", self.key)).into_bytes()),
                other => out.push(*other),
            }
        }
        out
    }
}

/// A request: its headers, its query and its body.
type Sent = (HeaderMap, Option<String>, Bytes);

fn request(case: &Case, signer: usize, text: &[u8]) -> Sent {
    let at = text.windows(2).position(|two| two == b"\n\n").unwrap_or(text.len());
    let (head, body) = (&text[..at], Bytes::copy_from_slice(text.get(at + 2..).unwrap_or_default()));
    let lines: Vec<&[u8]> = head.split(|byte| *byte == b'\n').take(LINES_MAX).collect();
    let split = |line: &&[u8]| -> Option<(HeaderName, Vec<u8>)> {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let value = line[colon + 1..].trim_ascii_start().to_vec();
        Some((HeaderName::from_bytes(&line[..colon]).ok()?, value))
    };
    let named: Vec<_> = lines.iter().filter_map(split).collect();
    // Of an id that is signed, whoever signs takes the first there is.
    let names = case.names();
    let ids = names
        .iter()
        .filter_map(|[.., id]| named.iter().find(|(name, _)| Some(name.as_str()) == id.as_deref()));
    let id = ids.map(|(_, value)| value.clone()).next().unwrap_or_default();
    let (time, (_, key)) = (case.now_text(), &case.keys[signer]);
    let pen = Pen { sum: case.sum(key, &id, &time, &body), time, key: KEYS[signer].1 };
    let mut headers = HeaderMap::new();
    for (name, value) in named {
        if let Ok(value) = HeaderValue::from_bytes(&pen.expand(&value)) {
            headers.append(name, value);
        }
    }
    let query = lines.iter().find_map(|line| line.strip_prefix(b"?"));
    (headers, query.and_then(|query| String::from_utf8(pen.expand(query)).ok()), body)
}

/// What a vendor signs, its verifier takes: unless it is a digest of what is no JSON, or might be an extension.
fn what_is_signed_verifies(case: &Case, signer: usize, body: &Bytes) {
    let now = Timestamp::from_second(NOW).expect("a time");
    let (id, key) = KEYS[signer];
    let secret = Secret::new(Some(id), key.into());
    let signed = case.settings.sign(&secret, Some(URL), body, "msg_1", now).expect("signed");
    let (headers, query) = (&signed.headers, signed.query.as_deref());
    let request = Request { headers, method: &Method::POST, query, body };
    let is_json = || {
        str::from_utf8(body)
            .is_ok_and(|text| serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok())
    };
    let taken = case.verifier.verify(&request, now);
    match (case.scheme(), taken) {
        (SchemeName::Digest, Err(_)) => assert!(!is_json() || body.contains(&0) || body.len() > 128),
        (SchemeName::Digest, Ok(_)) => assert!(is_json() && !body.contains(&0)),
        (_, taken) => assert_eq!(taken.expect("genuine").key_id().map(|id| &**id), Some(id)),
    }
}

fuzz_target!(|input: &[u8]| {
    let [case, signer, skew, text @ ..] = input else { return };
    let case = &CASES[usize::from(*case) % CASES.len()];
    let signer = usize::from(*signer) % KEYS.len();
    let now = NOW + 10 * i64::from(skew.cast_signed());
    let (headers, query, body) = request(case, signer, text);
    let request = Request { headers: &headers, method: &Method::POST, query: query.as_deref(), body: &body };
    let taken = case.verifier.verify_and_sum(&request, Timestamp::from_second(now).expect("a time"));
    if let Ok(proof) = taken {
        let provers = case.provers(&headers, query.as_deref(), &body, now);
        let key = proof.key_id().expect("all keys have ids");
        assert!(provers.contains(&&**key), "taken, and proven by {provers:?} alone");
        assert_eq!(proof.assurance(), case.verifier.assurance());
        assert!(proof.body_sha256().is_none_or(|sum| sum == *Sha256::digest(&body)));
        assert!(proof.signed_at().is_none_or(|at| (at.as_second() - now).abs() <= TOLERANCE));
        assert!(case.scheme() != SchemeName::Digest || !body.contains(&0));
    }
    what_is_signed_verifies(case, signer, &body);
});
