//! Who `trigger` sends as: a built-in vendor, or a source of a configuration.

use std::{env, path::Path};

use anyhow::{Context, anyhow};
use figment::value::Dict;

use super::{Failure, health::reachable, send::assumed_header};
use crate::{
    config::{self, secrets, secrets::SecretFields},
    scheme::Settings,
    secret::Secret,
    vendor::{self, format::VendorFile},
};

/// A sender's name and what is known of it. What is not, the flags say.
pub(super) struct Origin {
    pub file: VendorFile,
    pub verify: Settings,
    /// Where it sends.
    pub to: String,
    /// The URL it was told.
    pub url: Option<String>,
    pub secret: Option<Secret>,
}

impl Origin {
    /// A built-in vendor and its path at a gateway on this machine.
    pub(super) fn vendor(name: &str) -> Result<Self, Failure> {
        let Some(file) = vendor::builtin(name) else {
            let known: Vec<&str> = vendor::BUILTIN.iter().map(|(name, _)| *name).collect();
            return Err(anyhow!(
                "no such vendor; there are: {}; a source of your own needs --config FILE",
                known.join(", ")
            )
            .into());
        };
        let mut verify = file.verify.clone();
        if let Some(header) = assumed_header(name, &verify) {
            verify.header = Some([header.as_str()].into_iter().collect());
        }
        Ok(Self { file, verify, to: format!("http://127.0.0.1:8080/in/{name}"), url: None, secret: None })
    }

    /// A source of a configuration. Of several secrets the first signs.
    pub(super) fn source(config: &Path, name: &str) -> Result<Self, Failure> {
        let loaded = config::load(Some(config), env::vars_os(), &Dict::new())
            .and_then(config::Loaded::whole)
            .map_err(Failure::Config)?;
        let settings = &loaded.settings;
        let Some(source) = settings.sources.get(name) else {
            let known: Vec<&str> = settings.sources.keys().map(String::as_str).collect();
            return Err(anyhow!("no such source; there are: {}", known.join(", ")).into());
        };
        let vendor = source.vendor.as_deref().unwrap_or_default();
        let file = settings.vendor_file(vendor);
        let file = file.with_context(|| format!("the source {name} has no vendor that is known"))?;
        let fields = SecretFields::from(source);
        let read = secrets::read(&fields, &["sources", name], &|name| env::var_os(name));
        let (secrets, _) = read.map_err(|problems| Failure::Config(loaded.report(problems)))?;
        let path = source.path_of(name);
        let scheme = if settings.server.tls.is_some() { "https" } else { "http" };
        Ok(Self {
            verify: source.verify.over(&file.verify),
            to: format!("{scheme}://{}{path}", reachable(settings.server.listen)),
            url: settings.base_url().map(|base| format!("{base}{path}")),
            // Without a secret there is nothing to sign with: a source that is not verified.
            secret: Some(secrets.into_iter().next().unwrap_or_else(|| Secret::new(None, Vec::new()))),
            file,
        })
    }
}
