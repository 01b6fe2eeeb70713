//! Secret bytes: wiped when dropped, never shown, never serialised.

use std::{fmt, sync::Arc};

use schemars::JsonSchema;
use serde::Deserialize;
use zeroize::Zeroizing;

/// Shortest secret, in bytes, that is taken without `allow_weak = true`.
pub const SECRET_BYTES_MIN: usize = 16;

/// One member of `secrets = […]`: where a secret is, and the id that names it. Exactly one of `env` and `file` is set;
/// whoever reads the secret checks that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRef {
    /// Environment variable that holds the secret.
    pub env: Option<String>,
    /// File that holds the secret; one trailing newline is stripped.
    pub file: Option<String>,
    /// Names the secret in metrics and logs, such as `current` or `previous`.
    pub id: Option<String>,
}

/// One configured secret. Its id names it in metrics, logs and `vendor.verification.key_id`; its bytes appear nowhere.
#[derive(Clone)]
pub struct Secret {
    id: Option<Arc<str>>,
    bytes: Arc<Zeroizing<Vec<u8>>>,
}

impl Secret {
    /// A secret with the id the operator gave it, if any.
    #[must_use]
    pub fn new(id: Option<&str>, bytes: Vec<u8>) -> Self {
        Self { id: id.map(Arc::from), bytes: Arc::new(Zeroizing::new(bytes)) }
    }

    /// The id the operator gave it: set only under `secrets = [{ id = "…" }]`.
    #[must_use]
    pub fn id(&self) -> Option<&Arc<str>> {
        self.id.as_ref()
    }

    /// The bytes. Only `scheme` and `upstream` have a use for them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }
}

/// What `whsec_` stands before in a serialised Standard Webhooks secret: base64, not decoded yet. None: a plain secret.
#[must_use]
pub fn serialised(secret: &[u8]) -> Option<&[u8]> {
    unversioned(secret).strip_prefix(b"whsec_")
}

/// Without the version that some write in front, as in `v1,whsec_…`.
#[must_use]
pub fn unversioned(secret: &[u8]) -> &[u8] {
    secret.strip_prefix(b"v1,").unwrap_or(secret)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.id.as_deref().unwrap_or("-"))
    }
}
