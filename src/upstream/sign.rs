//! The one signature every app checks, whatever the vendor: Standard Webhooks v1.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::secret::{Secret, serialised, unversioned};

/// Bytes of a SHA-256 in base64.
const SUM_TEXT_BYTES: usize = 44;

/// Signs with each of an upstream's secrets.
#[derive(Clone)]
pub struct Signer(Vec<Hmac<Sha256>>);

/// A secret that cannot sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a secret that begins with `whsec_` continues in base64, and not with nothing")]
pub struct Undecodable;

impl Signer {
    /// Prepares the keys: `whsec_…` is decoded, any other secret is the key as it is.
    ///
    /// # Errors
    ///
    /// The position of the first secret that is not what it says.
    pub fn new(secrets: &[Secret]) -> Result<Self, (usize, Undecodable)> {
        let key = |(position, secret): (usize, &Secret)| {
            let bytes = key_bytes(secret.expose()).ok_or((position, Undecodable))?;
            // Unwrap safety: HMAC takes keys of any length (RFC 2104 §3).
            Ok(Hmac::<Sha256>::new_from_slice(&bytes).expect("any length"))
        };
        secrets.iter().enumerate().map(key).collect::<Result<_, _>>().map(Self)
    }

    /// Appends the value of `webhook-signature`: `v1,` and base64 of HMAC-SHA256 over `{id}.{timestamp}.{body}`, one by each
    /// secret, with spaces between.
    pub fn sign(&self, out: &mut Vec<u8>, id: &str, timestamp: &str, body: &[u8]) {
        for (nth, key) in self.0.iter().enumerate() {
            let mut mac = key.clone();
            for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
                mac.update(part);
            }
            out.extend_from_slice(if nth == 0 { b"v1," } else { b" v1," });
            let mut text = [0; SUM_TEXT_BYTES];
            // Unwrap safety: there is room for just that.
            STANDARD.encode_slice(mac.finalize().into_bytes(), &mut text).expect("44 bytes");
            out.extend_from_slice(&text);
        }
    }
}

fn key_bytes(secret: &[u8]) -> Option<Vec<u8>> {
    match serialised(secret) {
        None => Some(unversioned(secret).to_vec()),
        Some(encoded) => {
            let unpadded =
                encoded.strip_suffix(b"==").or_else(|| encoded.strip_suffix(b"=")).unwrap_or(encoded);
            let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
            engine.decode(unpadded).ok().filter(|bytes| !bytes.is_empty())
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({} secrets)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector that every Standard Webhooks library tests itself with (libraries/go/webhook_test.go).
    #[test]
    fn signs_as_the_published_vector() {
        let secret = Secret::new(None, b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_vec());
        let signer = Signer::new(&[secret.clone(), secret]).unwrap();
        let mut signed = Vec::new();
        signer.sign(&mut signed, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b"{\"test\": 2432232314}");
        let one = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(String::from_utf8(signed).unwrap(), format!("{one} {one}"));
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in ["whsec_", "whsec_!!!!", "whsec_="] {
            assert!(Signer::new(&[Secret::new(None, text.into())]).is_err(), "{text}");
        }
        assert!(Signer::new(&[Secret::new(None, b"a plain secret of the app".to_vec())]).is_ok());
    }
}
