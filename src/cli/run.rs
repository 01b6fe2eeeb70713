//! `hookwarden run`: serves until it is told to stop.

use std::{env, net::SocketAddr, num::NonZeroUsize, sync::Arc, thread::available_parallelism};

use anyhow::Context;
use clap::Args;
use figment::value::{Dict, Value};

use super::{ConfigFile, Failure, runtime};
use crate::{app, config};

/// Serve: take webhooks and forward them
///
/// SIGTERM and SIGINT drain and end it, a second one ends it at once; SIGHUP reads the configuration again. Exits with 0
/// after a drain, 78 if the configuration is wrong, 69 if an address cannot be listened on or the inbox not opened.
#[derive(Args, Debug)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigFile,
    /// Address and port vendors reach [config: server.listen]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Address and port of health, metrics and the API [config: admin.listen]
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<SocketAddr>,
    /// error, warn, info, debug, trace, or filter directives [config: log.level]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Form of the log [config: log.format]
    #[arg(long, value_name = "FORMAT", value_parser = ["json", "text"])]
    log_format: Option<String>,
}

impl Run {
    pub(super) fn run(self) -> Result<(), Failure> {
        let flags = self.flags();
        let file = self.config.config;
        let load: app::Load = Arc::new(move || config::load(Some(&file), env::vars_os(), &flags));
        let settings = load().map_err(Failure::Config)?.settings;
        let workers = settings.server.workers.unwrap_or_else(cpus);
        let _logging = app::logging::init(&settings.log)?;
        let runtime = runtime(workers).context("cannot start the runtime")?;
        let result = runtime.block_on(async {
            let running = app::start(load).await?;
            running.until_signal().await;
            Ok(())
        });
        // What has not ended within the grace is not waited for.
        runtime.shutdown_background();
        result
    }

    /// The flags as a layer of the configuration.
    fn flags(&self) -> Dict {
        let text = |address: &Option<SocketAddr>| address.map(|address| address.to_string());
        let given = [
            ("server", "listen", text(&self.listen)),
            ("admin", "listen", text(&self.admin_listen)),
            ("log", "level", self.log_level.clone()),
            ("log", "format", self.log_format.clone()),
        ];
        let mut tables: Dict = Dict::new();
        for (table, key, value) in given {
            let Some(value) = value else { continue };
            let entry = tables.entry(table.to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, keys) = entry {
                keys.insert(key.to_owned(), value.into());
            }
        }
        tables
    }
}

/// CPUs this process may use: affinity and, on Linux, the cgroup's quota are respected.
fn cpus() -> NonZeroUsize {
    available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        run: Run,
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hookwarden.toml");
        std::fs::write(
            &file,
            "server.listen = '127.0.0.1:1'\nadmin.listen = '127.0.0.1:2'\nlog.level = 'warn'",
        )
        .unwrap();
        let path = file.to_str().unwrap();
        let args =
            ["", "--config", path, "--listen", "127.0.0.1:3", "--log-level", "debug", "--log-format", "json"];
        let run = Only::parse_from(args).run;
        let settings = config::load(Some(&file), [], &run.flags()).unwrap().settings;
        assert_eq!((settings.server.listen.port(), settings.admin.listen.port()), (3, 2));
        assert_eq!(
            (settings.log.level.as_str(), settings.log.format),
            ("debug", Some(config::LogFormat::Json))
        );
        let run = Only::parse_from(["", "--config", path, "--admin-listen", "[::1]:4"]).run;
        let settings = config::load(Some(&file), [], &run.flags()).unwrap().settings;
        assert_eq!((settings.server.listen.port(), settings.admin.listen.port()), (1, 4));
    }
}
