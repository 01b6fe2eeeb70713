//! The `verify` table of a vendor file or of a source: how the vendor proves that a request is its own. Data only;
//! [`Settings::compile`] makes something that verifies of it.

use std::fmt;

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess},
};

use crate::units::Span;

/// How a request proves that it comes from the vendor. Every member is optional: a source overrides single ones of its
/// vendor's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The kind of proof. The other keys are read as far as it has a use for them.
    pub scheme: Option<SchemeName>,
    /// The header that carries the signature or the token; of several, the first that is there counts.
    pub header: Option<Texts>,
    /// hmac: the hash function. Default sha256.
    pub hash: Option<Hash>,
    /// How the signature's bytes are written. Default hex.
    pub encoding: Option<Encoding>,
    /// What stands before each signature, or before a token in a header: `sha256=`.
    pub prefix: Option<String>,
    /// How signatures stand in the header. Default bare.
    pub syntax: Option<Syntax>,
    /// The key (pairs) or version (list) of a signature that counts; others are skipped. Default `v1`.
    pub signature_key: Option<String>,
    /// The key of the time in pairs. Default `t`.
    pub timestamp_key: Option<String>,
    /// hmac: what is signed, over `{id}` `{timestamp}` `{body}` `{url}` `{method}`. Default `{body}`.
    pub template: Option<String>,
    /// The header that carries the time; it wins over the time in pairs.
    pub timestamp_header: Option<String>,
    /// The unit of the time. Default s.
    pub timestamp_unit: Option<TimestampUnit>,
    /// How far the signed time may be from now, in the past or the future, bounds included. Default 5m.
    pub tolerance: Option<Span>,
    /// The header that carries the id.
    pub id_header: Option<String>,
    /// How the secret's bytes are written. Default text; base64 for standard-webhooks.
    pub secret_encoding: Option<SecretEncoding>,
    /// Stripped from a secret before it is decoded; the first that fits. Default for standard-webhooks: `v1,whsec_`
    /// and `whsec_`.
    pub secret_prefix: Option<Texts>,
    /// The URL byte for byte as it is registered at the vendor. Default: `public_url` and the source's path.
    pub url: Option<String>,
    /// standard-webhooks: what stands before `id`, `timestamp` and `signature`. Default: `svix-` if such a signature is
    /// there, else `webhook-`.
    pub header_prefix: Option<String>,
    /// token: where it stands. Default header.
    pub place: Option<Place>,
    /// token in the query: the parameter's name. Default `access_token`.
    pub query: Option<String>,
    /// token as HTTP Basic: the user name; the secret is the password.
    pub username: Option<String>,
}

/// The kinds of proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SchemeName {
    /// HMAC over a template.
    Hmac,
    /// SHA-256 of secret and body, one after the other. Bodies must be JSON: see `digest.rs`.
    Digest,
    /// Standard Webhooks 1.0.0, symmetric signatures (v1).
    StandardWebhooks,
    /// The secret itself, sent along.
    Token,
    /// Nothing. Anyone may send anything.
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Hash {
    Sha1,
    #[default]
    Sha256,
    Sha512,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// In lower or upper case.
    #[default]
    Hex,
    /// The standard alphabet, padded or not.
    Base64,
    /// Either; the length tells.
    Any,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Syntax {
    /// The signature is the whole value.
    #[default]
    Bare,
    /// `t=1700000000,v1=…,v1=…`. A second time begins a second set, as some vendors send while secrets rotate.
    Pairs,
    /// `v1,… v1,…`, as in Standard Webhooks.
    List,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TimestampUnit {
    /// Unix seconds.
    #[default]
    #[serde(rename = "s")]
    Seconds,
    /// Unix milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretEncoding {
    /// The bytes are the text's own.
    #[default]
    Text,
    /// The standard alphabet, padded or not.
    Base64,
    Hex,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The whole value of `header`, after `prefix`.
    #[default]
    Header,
    /// `Authorization: Bearer …`
    Bearer,
    /// `Authorization: Basic …`
    Basic,
    /// A parameter of the query.
    Query,
}

/// A text, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

impl Settings {
    /// These settings, and what they leave open from `base`.
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        macro_rules! first {
            ($($member:ident)*) => {
                Settings { $($member: self.$member.clone().or_else(|| base.$member.clone())),* }
            };
        }
        let mut both = first! {
            scheme header hash encoding prefix syntax signature_key timestamp_key template timestamp_header
            timestamp_unit tolerance id_header secret_encoding secret_prefix url header_prefix place query username
        };
        // Credentials have a header of their own (RFC 9110 §11.6.2), whatever else the vendor sends in another.
        let credentials =
            matches!(self.place, Some(Place::Bearer | Place::Basic)) && self.place != base.place;
        if credentials && self.header.is_none() {
            both.header = None;
        }
        both
    }
}

impl<'a> FromIterator<&'a str> for Texts {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Self {
        Self(texts.into_iter().map(str::to_owned).collect())
    }
}

/// By hand: serde's untagged enums lose the path of an error.
impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = seq.next_element()? {
                    texts.push(text);
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Texts {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Texts".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [
            { "type": "string" }, { "type": "array", "items": { "type": "string" } },
        ] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_overrides_single_members() {
        let vendor: Settings =
            toml::from_str("scheme = 'hmac'\nheader = 'signature'\ntolerance = '3m'").unwrap();
        let source: Settings = toml::from_str("header = ['x-a', 'x-b']\nencoding = 'base64'").unwrap();
        let both = source.over(&vendor);
        assert_eq!(both.scheme, Some(SchemeName::Hmac));
        assert_eq!(both.header, Some(["x-a", "x-b"].into_iter().collect()));
        assert_eq!(both.encoding, Some(Encoding::Base64));
        assert_eq!(both.tolerance, Some(Span::from_secs(180)));
    }

    #[test]
    fn credentials_are_not_looked_for_in_the_signature_s_header() {
        let vendor: Settings = toml::from_str("scheme = 'hmac'\nheader = 'x-signature'").unwrap();
        let header = |source: &str| toml::from_str::<Settings>(source).unwrap().over(&vendor).header;
        assert_eq!(header("scheme = 'token'\nplace = 'bearer'"), None);
        assert_eq!(
            header("scheme = 'token'\nplace = 'basic'\nheader = 'x-a'"),
            Some(Texts(vec!["x-a".to_owned()]))
        );
        assert_eq!(header("scheme = 'token'"), vendor.header);
    }

    #[test]
    fn texts_are_one_or_a_list_and_say_so() {
        let error = toml::from_str::<Settings>("header = 1").unwrap_err();
        assert!(error.message().contains("expected a text or a list of texts"), "{error}");
        let schema = serde_json::to_value(schemars::schema_for!(Texts)).unwrap();
        let forms =
            serde_json::json!([{ "type": "string" }, { "type": "array", "items": { "type": "string" } }]);
        assert_eq!(schema["anyOf"], forms);
    }

    #[test]
    fn unknown_keys_and_words_are_refused() {
        for text in ["sceme = 'hmac'", "scheme = 'hmca'", "header = 1", "timestamp_unit = 'seconds'"] {
            assert!(toml::from_str::<Settings>(text).is_err(), "{text}");
        }
    }
}
