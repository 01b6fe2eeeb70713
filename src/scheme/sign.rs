//! The inverse of verifying: what a vendor adds to a request. For samples; nothing the gateway does depends on it.

use std::{fmt, iter::once, slice};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::secret::Secret;

use super::{
    Fault, Scheme,
    compile::{decode, stripped},
    encoding::Sum,
    hmac::Hmac,
    settings::{Encoding, Settings, TimestampUnit},
    signature::{Layout, Reader},
    template::Values,
    token::Carrier,
};

/// What proves a request. A token stands in it as it is: the headers are marked sensitive.
#[derive(Default)]
pub struct Signed {
    pub headers: HeaderMap,
    /// `name=value`, for tokens that stand in the query.
    pub query: Option<String>,
}

impl Settings {
    /// Signs a POST of `body` at `now` the way the vendor would: the verifier that these settings, `secret` and `url` make
    /// takes it. `id` goes where the scheme signs one.
    ///
    /// # Errors
    ///
    /// As [`Settings::compile`], and if what is to be sent fits no header.
    pub fn sign(
        &self,
        secret: &Secret,
        url: Option<&str>,
        body: &[u8],
        id: &str,
        now: Timestamp,
    ) -> Result<Signed, Vec<Fault>> {
        let verifier = self.compile(slice::from_ref(secret), url)?;
        let mut signed = Signed::default();
        match &verifier.scheme {
            Scheme::Digest(digest) => {
                for (name, key) in digest.headers.iter().zip(&digest.keys) {
                    signed.put(name, value(&digest.reader, &key.sum(once(body)), "").into_bytes())?;
                }
            }
            Scheme::Hmac(hmac) => signed.hmac(hmac, verifier.header.as_ref(), body, id, now)?,
            Scheme::None => {}
            Scheme::Token(token) => {
                let prefixes = self.secret_prefix.clone().unwrap_or_default();
                let secret =
                    decode(stripped(secret.expose(), &prefixes), self.secret_encoding.unwrap_or_default());
                signed.token(&token.carrier, &secret.unwrap_or_default())?;
            }
        }
        Ok(signed)
    }
}

impl Signed {
    fn hmac(
        &mut self,
        hmac: &Hmac,
        header: Option<&HeaderName>,
        body: &[u8],
        id: &str,
        now: Timestamp,
    ) -> Result<(), Vec<Fault>> {
        let timestamp = match hmac.window.unit {
            TimestampUnit::Milliseconds => now.as_millisecond().to_string(),
            TimestampUnit::Seconds => now.as_second().to_string(),
        };
        let values = Values { id: id.as_bytes(), timestamp: &timestamp, body, method: "POST" };
        let usual = hmac.carriers.iter().find(|carrier| Some(&carrier.signature) == header);
        for (carrier, key) in usual.into_iter().zip(&hmac.keys) {
            let sum = key.sum(hmac.template.pieces(values));
            self.put(&carrier.signature, value(&hmac.reader, &sum, &timestamp).into_bytes())?;
            for (name, text) in [(&carrier.timestamp, timestamp.as_str()), (&carrier.id, id)] {
                name.iter().try_for_each(|name| self.put(name, text.into()))?;
            }
        }
        Ok(())
    }

    fn token(&mut self, carrier: &Carrier, secret: &[u8]) -> Result<(), Vec<Fault>> {
        match carrier {
            Carrier::Basic { header, username } => {
                let credentials = STANDARD.encode([username.as_bytes(), b":", secret].concat());
                self.put(header, format!("Basic {credentials}").into_bytes())
            }
            Carrier::Bearer(header) => self.put(header, [b"Bearer ", secret].concat()),
            Carrier::Header { names, prefix } => {
                names.iter().take(1).try_for_each(|name| self.put(name, [prefix.as_bytes(), secret].concat()))
            }
            Carrier::Query(name) => {
                let encoded: String = secret.iter().map(|byte| format!("%{byte:02X}")).collect();
                self.query = Some(format!("{name}={encoded}"));
                Ok(())
            }
        }
    }

    fn put(&mut self, name: &HeaderName, value: Vec<u8>) -> Result<(), Vec<Fault>> {
        let text = "cannot stand in a header: it has a control character".to_owned();
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| vec![Fault { key: "secret", text, secret_index: Some(0) }])?;
        value.set_sensitive(true);
        self.headers.insert(name.clone(), value);
        Ok(())
    }
}

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signed").field("headers", &self.headers).finish_non_exhaustive()
    }
}

fn value(reader: &Reader, sum: &Sum, timestamp: &str) -> String {
    let bytes = &sum[..reader.signature_bytes];
    let text = match reader.encoding {
        Encoding::Any | Encoding::Hex => hex::encode(bytes),
        Encoding::Base64 => STANDARD.encode(bytes),
    };
    let signature = format!("{}{text}", reader.prefix);
    match &reader.layout {
        Layout::Bare => signature,
        Layout::List { version } => format!("{version},{signature}"),
        Layout::Pairs { signature_key, timestamp_key: Some(key) } => {
            format!("{key}={timestamp},{signature_key}={signature}")
        }
        Layout::Pairs { signature_key, timestamp_key: None } => format!("{signature_key}={signature}"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Method;

    use super::{super::Request, *};

    const URL: Option<&str> = Some("https://hooks.example.com/in/x");

    fn secret(text: &str) -> Secret {
        Secret::new(None, text.into())
    }

    /// Whether what one secret signs is taken by a verifier that has the other.
    fn taken(settings: &str, signing: &str, verifying: &str) -> bool {
        let settings: Settings = toml::from_str(settings).unwrap();
        let (body, now) = (Bytes::from_static(b"{\"a\":1}"), Timestamp::from_second(1_700_000_000).unwrap());
        let signed = settings.sign(&secret(signing), URL, &body, "msg_1", now).unwrap();
        let verifier = settings.compile(&[secret(verifying)], URL).unwrap();
        let (headers, query) = (&signed.headers, signed.query.as_deref());
        let request = Request { headers, method: &Method::POST, query, body: &body };
        verifier.verify(&request, now).is_ok()
    }

    #[test]
    fn what_is_signed_verifies() {
        const ONE: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
        for settings in [
            "scheme = 'digest'\nheader = 'x-a'",
            "scheme = 'hmac'\nheader = ['x-a', 'x-b']\nprefix = 'sha1='\nhash = 'sha1'",
            "scheme = 'hmac'\nheader = 'x-a'\nencoding = 'base64'\nhash = 'sha512'\nsecret_encoding = 'hex'",
            "scheme = 'hmac'\nheader = 'x-a'\nencoding = 'any'\ntemplate = '{url}'",
            "scheme = 'hmac'\nheader = 'x-a'\nsyntax = 'pairs'\ntemplate = '{timestamp}.{body}'\n\
                timestamp_unit = 'ms'\ntimestamp_key = 'time'",
            "scheme = 'hmac'\nheader = 'x-a'\nsyntax = 'pairs'\nsignature_key = 's'",
            "scheme = 'hmac'\nheader = 'x-a'\nsyntax = 'list'\ntemplate = '{method}{id}.{timestamp}.{body}'\n\
                timestamp_header = 'x-time'\nid_header = 'x-id'",
            "scheme = 'standard-webhooks'",
            "scheme = 'standard-webhooks'\nheader_prefix = 'svix-'",
            "scheme = 'token'\nheader = 'x-a'\nprefix = 'Token '\nsecret_encoding = 'base64'",
            "scheme = 'token'\nplace = 'bearer'",
            "scheme = 'token'\nplace = 'basic'\nusername = 'hooks'",
            "scheme = 'token'\nplace = 'query'",
        ] {
            assert!(taken(settings, ONE, ONE), "{settings}");
            // base64 of only a or b is no text: an arbitrary header value all the same.
            assert!(!taken(settings, OTHER, ONE), "{settings}");
        }
        assert!(taken("scheme = 'none'", ONE, OTHER));
        assert!(taken("scheme = 'token'\nplace = 'query'", "a b&c=d%+", "a b&c=d%+"));
    }

    #[test]
    fn what_cannot_be_sent_is_said() {
        let fault = |settings: &str, text: &str| {
            let settings: Settings = toml::from_str(settings).unwrap();
            settings.sign(&secret(text), None, b"", "", Timestamp::UNIX_EPOCH).err().unwrap().remove(0).key
        };
        assert_eq!(fault("scheme = 'token'", "a"), "header");
        assert_eq!(fault("scheme = 'token'\nheader = 'x-a'", "a\nb"), "secret");
        assert_eq!(fault("scheme = 'hmac'\nheader = 'x-a'\ntemplate = '{url}'", "a"), "url");
    }
}
