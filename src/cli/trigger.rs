//! `hookwarden trigger`: sends correctly signed samples of a vendor's events.

use std::{
    env, fs,
    io::{self, Read},
    net::IpAddr,
    num::NonZeroU32,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use serde_json::json;

use super::{
    Failure, local,
    origin::Origin,
    print,
    sample::{Assignment, Sample},
    send::{Answer, Sender, target},
};
use crate::{
    clock::Clock,
    secret::Secret,
    upstream::{Roots, Target},
    vendor::format::VendorFile,
};

/// Send correctly signed samples of a vendor's events
///
/// Prints a line for each request. Exits with 0 only if every answer was the expected one: success, 401 to
/// --bad-signature, and `hookwarden-duplicate: true` to the copies of --duplicate.
#[derive(Args, Debug)]
pub(super) struct Trigger {
    /// A built-in vendor (`hookwarden vendors` lists them), or the name of a source of --config
    vendor: String,
    /// The event, as the vendor calls it [default: the vendor's first sample]
    event: Option<String>,
    /// Send as a source of this configuration, with its vendor, path, URL and first secret
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to send [default: http://127.0.0.1:8080/in/VENDOR]
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// Variable that holds the vendor's secret [default: VENDOR_SECRET in upper case; if that is not set and --to is
    /// loopback, the secret `hookwarden listen` uses then]
    #[arg(long, value_name = "NAME")]
    secret_env: Option<String>,
    /// The URL as registered at a vendor that signs it [default: --to]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The header of the signature or token [default: the vendor's, or x-VENDOR-secret]
    #[arg(long, value_name = "NAME")]
    header: Option<String>,
    /// Send this file instead of a sample, byte for byte; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "event")]
    body: Option<PathBuf>,
    /// Put a value (JSON, else a text) into the body, at a JSON pointer; may be repeated
    #[arg(long, value_name = "PTR=VALUE")]
    set: Vec<Assignment>,
    /// Sign with a wrong secret
    #[arg(long, conflicts_with = "duplicate")]
    bad_signature: bool,
    /// Send every event a second time
    #[arg(long)]
    duplicate: bool,
    /// How many events to send
    #[arg(long, value_name = "N", default_value = "1")]
    times: NonZeroU32,
    /// Print a JSON object for each request
    #[arg(long)]
    json: bool,
}

/// What is sent: the same bytes each time, or a new sample.
enum Bodies {
    Fixed(Bytes),
    Made(Sample),
}

impl Trigger {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let origin = match &self.config {
            Some(config) => Origin::source(config, &self.vendor)?,
            None => Origin::vendor(&self.vendor)?,
        };
        let clock = Clock::system();
        let mut bodies = self.bodies(&origin.file, &clock)?;
        let sender = self.sender(origin)?;
        let mut as_expected = true;
        for _ in 0..self.times.get() {
            let body = bodies.next()?;
            let answer = sender.send(&body, clock.now()).await?;
            let expected = if self.bad_signature { answer.status == 401 } else { answer.is_success() };
            self.tell(&bodies, &answer, expected)?;
            as_expected &= expected;
            if self.duplicate {
                let answer = sender.send(&body, clock.now()).await?;
                let expected = answer.is_success() && answer.duplicate;
                self.tell(&bodies, &answer, expected)?;
                as_expected &= expected;
            }
        }
        if as_expected { Ok(()) } else { Err(Failure::Said(1)) }
    }

    fn sender(&self, origin: Origin) -> anyhow::Result<Sender> {
        let to = self.to.clone().unwrap_or(origin.to);
        let secret = match origin.secret {
            Some(secret) if self.secret_env.is_none() => secret,
            _ => self.secret(&target(&to).context("--to")?)?,
        };
        let mut verify = origin.verify;
        if let Some(header) = &self.header {
            verify.header = Some([header.as_str()].into_iter().collect());
        }
        let url = self.url.clone().or(origin.url).unwrap_or_else(|| to.clone());
        // The one in the configuration would win.
        verify.url = verify.url.filter(|_| self.url.is_none());
        let sender = Sender { to, url, verify, secret, roots: Roots::new(None)? };
        Ok(if self.bad_signature { sender.forger() } else { sender })
    }

    fn secret(&self, target: &Target) -> anyhow::Result<Secret> {
        let variable = self.secret_env.clone().unwrap_or_else(|| local::variable(&self.vendor));
        // A forgery is signed with another secret in any case.
        let public_will_do = self.bad_signature || (self.secret_env.is_none() && is_loopback(target));
        let bytes = match env::var_os(&variable) {
            Some(value) if !value.is_empty() => value.into_vec(),
            _ if public_will_do => local::development_secret(&self.vendor).into_bytes(),
            _ => bail!("{variable} is not set: it holds the secret the gateway has for {}", self.vendor),
        };
        Ok(Secret::new(None, bytes))
    }

    fn bodies(&self, file: &VendorFile, clock: &Clock) -> anyhow::Result<Bodies> {
        let set = self.set.clone();
        let Some(path) = &self.body else {
            let sample = Sample::of(file, self.event.as_deref(), clock.now())?;
            return Ok(Bodies::Made(sample.with(set)));
        };
        let bytes = read(path).with_context(|| format!("cannot read {}", path.display()))?;
        if set.is_empty() {
            return Ok(Bodies::Fixed(bytes.into()));
        }
        let text = str::from_utf8(&bytes).context("--set needs a body that is JSON")?;
        let body = serde_json::from_str(text).context("--set needs a body that is JSON")?;
        Ok(Bodies::Made(Sample::fixed("", body, clock.now()).with(set)))
    }

    fn tell(&self, bodies: &Bodies, answer: &Answer, expected: bool) -> io::Result<()> {
        let event = match bodies {
            Bodies::Fixed(_) => "",
            Bodies::Made(sample) => &sample.event,
        };
        let Answer { status, code, id, duplicate } = answer;
        if self.json {
            let vendor = &self.vendor;
            let line = json!({
                "vendor": vendor, "event": event, "status": status, "code": code, "id": id,
                "duplicate": duplicate, "expected": expected,
            });
            return print(&format!("{line}\n"));
        }
        let unexpected = if expected { "" } else { "(unexpected)" };
        let words = [&self.vendor, event, &answer.text(), id.as_deref().unwrap_or_default(), unexpected];
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        print(&format!("{}\n", words.join("  ")))
    }
}

impl Bodies {
    fn next(&mut self) -> anyhow::Result<Bytes> {
        match self {
            Self::Fixed(bytes) => Ok(bytes.clone()),
            Self::Made(sample) => sample.next(),
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    if path.as_os_str() != "-" {
        return fs::read(path);
    }
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Development secrets are public: they go to this machine only.
fn is_loopback(target: &Target) -> bool {
    match target {
        Target::Tcp { host, .. } => {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        Target::Unix { .. } => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn development_secrets_stay_on_this_machine() {
        for (url, loopback) in [
            ("http://127.0.0.1:8080/in/x", true),
            ("http://[::1]/in/x", true),
            ("https://localhost/in/x", true),
            ("http://localhost.example.com/in/x", false),
            ("http://127.0.0.1.example.com/in/x", false),
            ("http://10.0.0.1/in/x", false),
        ] {
            assert_eq!(is_loopback(&target(url).unwrap()), loopback, "{url}");
        }
        assert!(target("unix:/run/app.sock:/").is_err() && target("ftp://x/").is_err());
    }
}
