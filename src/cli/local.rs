//! A gateway for this machine alone: all built-in vendors, one app, no file. For `demo` and `listen`.

use std::{env, net::SocketAddr, sync::Arc};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use figment::value::{Dict, Value};
use serde_json::{Map, json};
use tokio_rustls::rustls::crypto::ring;

use super::send::assumed_header;
use crate::{app, config, vendor};

/// A literal secret is what a configuration is warned about; here they are generated, or public on purpose.
const QUIET: &str = "hookwarden::app::logging=error";

/// What such a gateway is told.
pub(super) struct Local {
    pub listen: SocketAddr,
    /// The URL that vendors which sign it are said to call.
    pub public_url: String,
    pub log_level: &'static str,
    pub app_url: String,
    pub app_secret: SecretAt,
    /// A source each, of the same name.
    pub vendors: Vec<(&'static str, SecretAt)>,
}

/// Where a secret is.
#[derive(Clone)]
pub(super) enum SecretAt {
    Here(String),
    Variable(String),
}

impl Local {
    /// The configuration.
    pub(super) fn load(&self) -> app::Load {
        let flags = self.flags();
        // The environment is for gateways that are configured by it.
        Arc::new(move || config::load(None, [], &flags))
    }

    fn flags(&self) -> Dict {
        let mut upstream = self.app_secret.keys();
        upstream.insert("url".to_owned(), self.app_url.as_str().into());
        let sources: Map<_, _> = self.vendors.iter().map(|(name, secret)| source(name, secret)).collect();
        let tables = json!({
            "public_url": self.public_url,
            "server": { "listen": self.listen },
            "admin": { "listen": "127.0.0.1:0" },
            "log": { "level": format!("{},{QUIET}", self.log_level), "format": "text" },
            "upstreams": { "app": upstream },
            "sources": sources,
        });
        // Unwrap safety: a table of texts and tables is one to figment, too.
        Value::serialize(tables).ok().and_then(Value::into_dict).expect("a table")
    }
}

impl SecretAt {
    /// The variable if it is set, else the literal.
    pub(super) fn variable_or(variable: String, literal: impl FnOnce() -> String) -> Self {
        match env::var_os(&variable) {
            Some(value) if !value.is_empty() => Self::Variable(variable),
            _ => Self::Here(literal()),
        }
    }

    fn keys(&self) -> Map<String, serde_json::Value> {
        let (key, text) = match self {
            Self::Here(secret) => ("secret", secret),
            Self::Variable(name) => ("secret_env", name),
        };
        Map::from_iter([(key.to_owned(), text.as_str().into())])
    }
}

fn source(name: &str, secret: &SecretAt) -> (String, serde_json::Value) {
    let mut keys = secret.keys();
    keys.insert("vendor".to_owned(), name.into());
    keys.insert("upstream".to_owned(), "app".into());
    keys.insert("forward_tests".to_owned(), true.into());
    if let Some(header) = vendor::builtin(name).and_then(|file| assumed_header(name, &file.verify)) {
        keys.insert("verify".to_owned(), json!({ "header": header }));
    }
    (name.to_owned(), keys.into())
}

/// The variable a vendor's secret is looked for in: `SENDAUTH_SECRET`.
pub(super) fn variable(vendor: &str) -> String {
    format!("{}_SECRET", vendor.to_ascii_uppercase().replace(['-', '.'], "_"))
}

/// The secret of a vendor's source where nobody set one. Public, so for loopback addresses only.
pub(super) fn development_secret(vendor: &str) -> String {
    format!("hookwarden-development-{vendor}")
}

/// A new Standard Webhooks signing secret.
pub(super) fn signing_secret() -> anyhow::Result<String> {
    Ok(format!("whsec_{}", STANDARD.encode(random()?)))
}

/// A new secret as a vendor would make one.
pub(super) fn vendor_secret() -> anyhow::Result<String> {
    Ok(hex::encode(random()?))
}

fn random() -> anyhow::Result<[u8; 24]> {
    let mut bytes = [0; 24];
    let filled = ring::default_provider().secure_random.fill(&mut bytes);
    filled.ok().context("the system gives no random bytes")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn such_a_configuration_has_no_mistakes() {
        let local = Local {
            listen: "127.0.0.1:0".parse().unwrap(),
            public_url: "http://127.0.0.1:8080".into(),
            log_level: "warn",
            app_url: "http://127.0.0.1:1/".into(),
            app_secret: SecretAt::Here(signing_secret().unwrap()),
            vendors: vendor::BUILTIN
                .iter()
                .map(|(name, _)| (*name, SecretAt::Here(development_secret(name))))
                .collect(),
        };
        let loaded = local.load()().unwrap();
        assert_eq!(loaded.settings.sources.len(), vendor::BUILTIN.len());
        assert!(!app::check(&loaded).unwrap().has_errors());
    }

    #[test]
    fn variables_are_named_after_vendors() {
        assert_eq!(variable("sendauth"), "SENDAUTH_SECRET");
        assert_eq!(variable("my-vendor.2"), "MY_VENDOR_2_SECRET");
        assert_ne!(signing_secret().unwrap(), signing_secret().unwrap());
    }
}
