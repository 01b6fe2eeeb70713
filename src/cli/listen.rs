//! `hookwarden listen`: the gateway for an app that is being written.

use std::net::SocketAddr;

use anyhow::{Context, anyhow};
use clap::Args;

use super::{
    Failure,
    local::{Local, SecretAt, development_secret, signing_secret, variable},
    print_json,
    receiver::Receiver,
    say,
};
use crate::{
    app::{self, StartError},
    upstream::Target,
    vendor,
};

/// Variable with the secret the app verifies by.
const APP_SECRET: &str = "APP_WEBHOOK_SECRET";

/// Run the gateway for local development, without a configuration
///
/// Takes every built-in vendor at /in/VENDOR and shows a line for each request. Vendors' secrets come from
/// SENDAUTH_SECRET, LOGINRADIUS_SECRET and so on; where one is not set, a public one, which `hookwarden trigger` knows.
#[derive(Args, Debug)]
pub(super) struct Listen {
    /// The app's URL. It verifies by APP_WEBHOOK_SECRET, or by the secret shown. Without it, events are printed as JSON
    #[arg(long, value_name = "URL")]
    forward_to: Option<String>,
    /// Address and port to listen on; loopback, unless every vendor's secret is set
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The URL of this gateway as vendors that sign it know it, such as a tunnel's [default: http://LISTEN]
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
}

impl Listen {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let vendors = vendors();
        refuse_public(self.listen, &vendors)?;
        // Found here, a mistake is told of the flag, not of the configuration that is made of it.
        self.forward_to.as_ref().map(|url| url.parse::<Target>()).transpose().context("--forward-to")?;
        let generated = signing_secret()?;
        let (app_url, app_secret, receiver) = match self.forward_to {
            Some(url) => (url, SecretAt::variable_or(APP_SECRET.to_owned(), || generated), None),
            None => {
                let receiver = Receiver::start(&generated).await?;
                (receiver.url.clone(), SecretAt::Here(generated), Some(receiver))
            }
        };
        if let (SecretAt::Here(secret), None) = (&app_secret, &receiver) {
            say(&format!("The app verifies by this secret:\n\n  export {APP_SECRET}={secret}\n\n"));
        }
        let public_url = self.public_url.unwrap_or_else(|| format!("http://{}", self.listen));
        let local =
            Local { listen: self.listen, public_url, log_level: "info", app_url, app_secret, vendors };
        let load = local.load();
        let _logging = app::logging::init(&load().map_err(Failure::Config)?.settings.log)?;
        let running = app::start(load).await.map_err(|error| match error {
            // Nobody wrote the configuration that the warnings are about.
            StartError::Config(report) => Failure::Config(report.errors()),
            error => error.into(),
        })?;
        say(&format!(
            "Vendors post to http://{}/in/VENDOR; try: hookwarden trigger sendauth{}\n",
            running.listen,
            if self.listen.port() == 8080 {
                String::new()
            } else {
                format!(" --to http://{}/in/sendauth", running.listen)
            },
        ));
        tokio::select! {
            () = running.until_signal() => Ok(()),
            failed = show(receiver) => Err(failed),
        }
    }
}

/// All built-in vendors.
fn vendors() -> Vec<(&'static str, SecretAt)> {
    let secret = |name: &str| SecretAt::variable_or(variable(name), || development_secret(name));
    vendor::BUILTIN.iter().map(|(name, _)| (*name, secret(name))).collect()
}

/// Prints what comes; ends only if it cannot.
async fn show(receiver: Option<Receiver>) -> Failure {
    if let Some(mut receiver) = receiver {
        while let Some(received) = receiver.next().await {
            if let Err(error) = print_json(&received.event) {
                return error.into();
            }
        }
    }
    std::future::pending().await
}

fn refuse_public(listen: SocketAddr, vendors: &[(&str, SecretAt)]) -> anyhow::Result<()> {
    let public = vendors.iter().filter(|(_, secret)| matches!(secret, SecretAt::Here(_)));
    let unset: Vec<String> = public.map(|(name, _)| variable(name)).collect();
    if listen.ip().is_loopback() || unset.is_empty() {
        return Ok(());
    }
    Err(anyhow!(
        "{listen} is not loopback, and anyone knows the development secrets; set {}",
        unset.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_secrets_stay_on_loopback() {
        let public = [("a", SecretAt::Here(development_secret("a"))), ("b", SecretAt::Variable("B".into()))];
        let error = refuse_public("0.0.0.0:80".parse().unwrap(), &public).unwrap_err().to_string();
        assert!(error.contains("A_SECRET") && !error.contains("B_SECRET"), "{error}");
        assert!(refuse_public("[::1]:80".parse().unwrap(), &public).is_ok());
        assert!(refuse_public("0.0.0.0:80".parse().unwrap(), &public[1..]).is_ok());
    }
}
