//! `hookwarden health`: asks a gateway whether it is ready, for container health checks in images without a shell.

use std::{
    env,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use clap::Args;
use figment::value::Dict;
use http::Request;

use super::{Failure, print};
use crate::{
    config,
    upstream::{Roots, Target, once},
};

/// Longest wait for the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Ask a running gateway whether it is ready
///
/// Exits with 0 if it is and with 1 if not.
#[derive(Args, Debug)]
pub(super) struct Health {
    /// The gateway's admin listener; every address (0.0.0.0, [::]) means loopback here
    /// [default: that of --config, else 127.0.0.1:9600]
    #[arg(long, value_name = "ADDR", env = "HOOKWARDEN_ADMIN__LISTEN", hide_env_values = true)]
    admin: Option<SocketAddr>,
    /// The gateway's configuration, to learn `admin.listen`
    #[arg(long, value_name = "FILE", env = "HOOKWARDEN_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
}

impl Health {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let admin = match (self.admin, &self.config) {
            (Some(admin), _) => admin,
            (None, config) => {
                let loaded = config::load(config.as_deref(), env::vars_os(), &Dict::new());
                loaded.map_err(Failure::Config)?.settings.admin.listen
            }
        };
        let admin = reachable(admin);
        let target: Target = format!("http://{admin}/readyz").parse().context("--admin")?;
        let roots = Roots::new(None).context("TLS")?;
        let answer = once(&target, &roots, Request::new(Bytes::new()), PATIENCE).await;
        let status = answer.with_context(|| format!("no answer from {admin}"))?.status();
        if status.is_success() {
            Ok(print("ready\n")?)
        } else {
            Err(anyhow!("not ready: {}", status.as_u16()).into())
        }
    }
}

/// Where a listener can be called that listens on this address.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_loopback_to_us() {
        for (listen, call) in
            [("0.0.0.0:9600", "127.0.0.1:9600"), ("[::]:1", "[::1]:1"), ("10.1.2.3:9600", "10.1.2.3:9600")]
        {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), call);
        }
    }
}
