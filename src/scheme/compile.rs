//! Makes a [`Verifier`] of [`Settings`] and secrets, or says everything that is wrong with them.

use std::sync::Arc;

use http::{HeaderName, header::AUTHORIZATION};
use zeroize::Zeroizing;

use crate::{secret::Secret, units::Span};

use super::{
    Assurance, Scheme, Verifier,
    digest::Digest,
    encoding,
    hmac::{Carrier, Hmac, Window},
    key::{Key, sum_bytes},
    settings::{Encoding, Hash, Place, SchemeName, SecretEncoding, Settings, Syntax, Texts, TimestampUnit},
    signature::{Layout, Reader},
    template::Template,
    token::{self, Token},
};

/// How far a signed time may be from now, unless set otherwise: what Standard Webhooks libraries use.
const TOLERANCE: Span = Span::from_secs(300);

/// One thing that is wrong, for the operator. Never says what a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The member of [`Settings`] it is about, or `secret`.
    pub key: &'static str,
    /// What is wrong, and how to mend it.
    pub text: String,
    /// Which secret it is about, from 0.
    pub secret_index: Option<usize>,
}

/// What is wrong so far. Building goes on with stand-ins, so that all of it comes out at once; a verifier leaves
/// [`Settings::compile`] only if this is empty.
struct Faults(Vec<Fault>);

/// A secret's id and bytes, decoded.
type Decoded = (Option<Arc<str>>, Zeroizing<Vec<u8>>);

impl Settings {
    /// Prepares everything a request needs. `url` stands for `{url}` where the settings name none.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, at least one fault.
    pub fn compile(&self, secrets: &[Secret], url: Option<&str>) -> Result<Verifier, Vec<Fault>> {
        let mut faults = Faults(Vec::new());
        let verifier = match self.scheme {
            None => {
                faults.add("scheme", "nothing says how the vendor signs; set verify = { scheme = \"…\" }");
                none()
            }
            Some(SchemeName::Digest) => self.digest(secrets, &mut faults),
            Some(SchemeName::Hmac) => self.hmac(secrets, url, &mut faults),
            Some(SchemeName::None) => none(),
            Some(SchemeName::StandardWebhooks) => self.standard_webhooks(secrets, &mut faults),
            Some(SchemeName::Token) => self.token(secrets, &mut faults),
        };
        if faults.0.is_empty() { Ok(verifier) } else { Err(faults.0) }
    }

    /// Bytes of the key that a secret stands for here, however long its spelling; none if it cannot be decoded.
    #[must_use]
    pub fn key_bytes(&self, secret: &Secret) -> Option<usize> {
        let (encoding, prefixes) = self.spelling();
        decode(stripped(secret.expose(), &prefixes), encoding).ok().map(|key| Zeroizing::new(key).len())
    }

    fn digest(&self, secrets: &[Secret], faults: &mut Faults) -> Verifier {
        if self.hash.is_some_and(|hash| hash != Hash::Sha256) {
            faults.add("hash", "the digest scheme is SHA-256; remove the key, or set scheme = \"hmac\"");
        }
        let headers = self.headers(faults);
        let reader = self.reader(Hash::Sha256, false);
        let secrets = self.secrets(secrets, faults);
        for (index, (_, secret)) in secrets.iter().enumerate() {
            let begins = |(other, (_, longer)): (usize, &Decoded)| {
                other != index && longer.starts_with(secret) && (longer.len() > secret.len() || other < index)
            };
            if !secret.is_empty() && secrets.iter().enumerate().any(begins) {
                faults.secret(
                    index,
                    "is the beginning of another secret of this source: what one signs, the other would accept with \
                     bytes moved into the body; remove one (often it is the same secret with a line end behind it)",
                );
            }
        }
        Verifier {
            method: "sha256-secret-prefix",
            header: headers.first().cloned(),
            assurance: Assurance::SignedWeak,
            scheme: Scheme::Digest(Digest {
                headers,
                reader,
                keys: secrets.into_iter().map(|(id, secret)| Key::prefix(id, &secret)).collect(),
            }),
        }
    }

    fn hmac(&self, secrets: &[Secret], url: Option<&str>, faults: &mut Faults) -> Verifier {
        let hash = self.hash.unwrap_or_default();
        let text = self.template.as_deref().unwrap_or("{body}");
        let url = self.url.as_deref().or(url);
        if url.is_none() && text.contains("{url}") {
            faults
                .add("url", "the vendor signs the URL it calls; set public_url, or verify = { url = \"…\" }");
        }
        let template = Template::parse(text, url.unwrap_or_default()).unwrap_or_else(|wrong| {
            faults.add("template", wrong);
            Template::body()
        });
        let headers = self.headers(faults);
        let timestamp = optional_name("timestamp_header", self.timestamp_header.as_deref(), faults)
            .filter(|_| template.signs_timestamp());
        if template.signs_timestamp() && self.timestamp_header.is_none() && self.syntax != Some(Syntax::Pairs)
        {
            faults.add(
                "timestamp_header",
                "the template has {timestamp}; name the header that carries the time",
            );
        }
        let id =
            optional_name("id_header", self.id_header.as_deref(), faults).filter(|_| template.signs_id());
        if template.signs_id() && self.id_header.is_none() {
            faults.add("id_header", "the template has {id}; name the header that carries the id");
        }
        let carrier = |signature| Carrier { signature, timestamp: timestamp.clone(), id: id.clone() };
        Verifier {
            method: hmac_method(hash, template.signs_url() && !template.signs_body()),
            header: headers.first().cloned(),
            assurance: if template.signs_body() { Assurance::Signed } else { Assurance::SharedSecret },
            scheme: Scheme::Hmac(Box::new(Hmac {
                carriers: headers.into_iter().map(carrier).collect(),
                reader: self.reader(hash, template.signs_timestamp() && timestamp.is_none()),
                template,
                window: self.window(self.timestamp_unit.unwrap_or_default()),
                keys: hmac_keys(self.secrets(secrets, faults), hash),
            })),
        }
    }

    /// Standard Webhooks 1.0.0: of the signature, only the headers' prefix, the tolerance and the secret's spelling are
    /// open.
    fn standard_webhooks(&self, secrets: &[Secret], faults: &mut Faults) -> Verifier {
        let prefixes = match &self.header_prefix {
            Some(prefix) => vec![prefix.as_str()],
            None => vec!["svix-", "webhook-"],
        };
        let carriers: Vec<Carrier> = prefixes
            .into_iter()
            .filter_map(|prefix| {
                let mut name = |end: &str| name("header_prefix", &format!("{prefix}{end}"), faults);
                Some(Carrier {
                    signature: name("signature")?,
                    timestamp: Some(name("timestamp")?),
                    id: Some(name("id")?),
                })
            })
            .collect();
        let secrets = self.secrets(secrets, faults);
        Verifier {
            method: "standard-webhooks",
            header: carriers.last().map(|carrier| carrier.signature.clone()),
            assurance: Assurance::Signed,
            scheme: Scheme::Hmac(Box::new(Hmac {
                carriers,
                reader: Reader {
                    layout: Layout::List { version: "v1".to_owned() },
                    prefix: String::new(),
                    encoding: Encoding::Base64,
                    signature_bytes: sum_bytes(Hash::Sha256),
                },
                template: Template::standard_webhooks(),
                window: self.window(TimestampUnit::Seconds),
                keys: hmac_keys(secrets, Hash::Sha256),
            })),
        }
    }

    fn token(&self, secrets: &[Secret], faults: &mut Faults) -> Verifier {
        let place = self.place.unwrap_or_default();
        let names = match (place, &self.header) {
            (Place::Header, _) | (Place::Bearer | Place::Basic, Some(_)) => self.headers(faults),
            (Place::Bearer | Place::Basic, None) => vec![AUTHORIZATION],
            (Place::Query, _) => vec![],
        };
        if place == Place::Basic && self.username.is_none() {
            faults.add("username", "HTTP Basic needs a user name; set it to \"\" if the vendor sends none");
        }
        let header = names.first().cloned();
        let single = header.clone().unwrap_or(AUTHORIZATION);
        let carrier = match place {
            Place::Header => {
                token::Carrier::Header { names, prefix: self.prefix.clone().unwrap_or_default() }
            }
            Place::Bearer => token::Carrier::Bearer(single),
            Place::Basic => {
                token::Carrier::Basic { header: single, username: self.username.clone().unwrap_or_default() }
            }
            Place::Query => {
                token::Carrier::Query(self.query.clone().unwrap_or_else(|| "access_token".to_owned()))
            }
        };
        let secrets = self.secrets(secrets, faults);
        let keys = secrets.into_iter().map(|(id, secret)| carrier.key(id, &secret)).collect();
        Verifier {
            method: "shared-secret",
            header,
            assurance: Assurance::SharedSecret,
            scheme: Scheme::Token(Token { carrier, keys }),
        }
    }

    fn headers(&self, faults: &mut Faults) -> Vec<HeaderName> {
        let names = self.header.as_ref().map_or(&[][..], |names| &names.0);
        if names.is_empty() {
            faults.add(
                "header",
                "the vendor does not document the header it sends; set verify = { header = \"…\" } to the one you see",
            );
        }
        names.iter().filter_map(|text| name("header", text, faults)).collect()
    }

    /// `timed`: the time stands in the value too.
    fn reader(&self, hash: Hash, timed: bool) -> Reader {
        let signature_key = self.signature_key.clone().unwrap_or_else(|| "v1".to_owned());
        let timestamp_key = || self.timestamp_key.clone().unwrap_or_else(|| "t".to_owned());
        Reader {
            layout: match self.syntax.unwrap_or_default() {
                Syntax::Bare => Layout::Bare,
                Syntax::Pairs => Layout::Pairs { signature_key, timestamp_key: timed.then(timestamp_key) },
                Syntax::List => Layout::List { version: signature_key },
            },
            prefix: self.prefix.clone().unwrap_or_default(),
            encoding: self.encoding.unwrap_or_default(),
            signature_bytes: sum_bytes(hash),
        }
    }

    fn window(&self, unit: TimestampUnit) -> Window {
        let tolerance = self.tolerance.unwrap_or(TOLERANCE).0;
        let tolerance = match unit {
            TimestampUnit::Seconds => tolerance.as_secs(),
            TimestampUnit::Milliseconds => u64::try_from(tolerance.as_millis()).unwrap_or(u64::MAX),
        };
        Window { unit, tolerance }
    }

    /// How a secret is spelt: the encoding and prefixes are those of the scheme where the settings name none.
    fn spelling(&self) -> (SecretEncoding, Texts) {
        let (encoding, prefixes): (_, &[&str]) = match self.scheme {
            Some(SchemeName::StandardWebhooks) => (SecretEncoding::Base64, &["v1,whsec_", "whsec_"]),
            Some(SchemeName::Digest | SchemeName::Hmac | SchemeName::None | SchemeName::Token) | None => {
                (SecretEncoding::Text, &[])
            }
        };
        let prefixes = self.secret_prefix.clone().unwrap_or_else(|| prefixes.iter().copied().collect());
        (self.secret_encoding.unwrap_or(encoding), prefixes)
    }

    /// Strips and decodes.
    fn secrets(&self, secrets: &[Secret], faults: &mut Faults) -> Vec<Decoded> {
        if secrets.is_empty() {
            faults.add("secret", "this scheme needs a secret; set secret_env, secret_file or secrets");
        }
        let (encoding, prefixes) = self.spelling();
        let mut decoded = Vec::with_capacity(secrets.len());
        for (index, secret) in secrets.iter().enumerate() {
            let bytes = decode(stripped(secret.expose(), &prefixes), encoding);
            let bytes = bytes.unwrap_or_else(|wrong| {
                faults.secret(index, wrong);
                Vec::new()
            });
            decoded.push((secret.id().cloned(), Zeroizing::new(bytes)));
        }
        decoded
    }
}

impl Faults {
    fn add(&mut self, key: &'static str, text: &str) {
        self.0.push(Fault { key, text: text.to_owned(), secret_index: None });
    }

    fn secret(&mut self, index: usize, text: &str) {
        self.0.push(Fault { key: "secret", text: text.to_owned(), secret_index: Some(index) });
    }
}

fn none() -> Verifier {
    Verifier { scheme: Scheme::None, method: "none", header: None, assurance: Assurance::None }
}

fn name(key: &'static str, text: &str, faults: &mut Faults) -> Option<HeaderName> {
    let name = text.parse().ok();
    if name.is_none() {
        faults.add(key, "is no header name: letters, digits and dashes make one");
    }
    name
}

fn optional_name(key: &'static str, text: Option<&str>, faults: &mut Faults) -> Option<HeaderName> {
    text.and_then(|text| name(key, text, faults))
}

fn hmac_method(hash: Hash, url_only: bool) -> &'static str {
    match (hash, url_only) {
        (Hash::Sha1, false) => "hmac-sha1",
        (Hash::Sha1, true) => "hmac-sha1-url",
        (Hash::Sha256, false) => "hmac-sha256",
        (Hash::Sha256, true) => "hmac-sha256-url",
        (Hash::Sha512, false) => "hmac-sha512",
        (Hash::Sha512, true) => "hmac-sha512-url",
    }
}

fn hmac_keys(secrets: Vec<Decoded>, hash: Hash) -> Vec<Key> {
    secrets.into_iter().map(|(id, secret)| Key::hmac(id, hash, &secret)).collect()
}

/// Without the first prefix that fits.
pub(super) fn stripped<'a>(secret: &'a [u8], prefixes: &Texts) -> &'a [u8] {
    prefixes.0.iter().find_map(|prefix| secret.strip_prefix(prefix.as_bytes())).unwrap_or(secret)
}

pub(super) fn decode(secret: &[u8], encoding: SecretEncoding) -> Result<Vec<u8>, &'static str> {
    let bytes = match encoding {
        SecretEncoding::Text => secret.to_vec(),
        SecretEncoding::Base64 => encoding::base64(secret)
            .ok_or("is not base64; copy it from the vendor again, with its prefix if it has one")?,
        SecretEncoding::Hex => {
            hex::decode(secret).map_err(|_| "is not hex; copy it from the vendor again")?
        }
    };
    if bytes.is_empty() { Err("is empty once its prefix is off: anyone could sign") } else { Ok(bytes) }
}
