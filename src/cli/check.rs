//! `hookwarden check`: what `run` would say of a configuration, without serving.

use std::{env, io};

use clap::Args;
use figment::value::Dict;

use super::{ConfigFile, EXIT_CONFIG, Failure, is_colourful, print, print_json, say};
use crate::{
    app,
    config::{self, Report, Settings},
};

/// Check a configuration without serving
///
/// Shows every error and warning with its file, line and column. Exits with 78 if there is an error.
#[derive(Args, Debug)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigFile,
    /// Print errors and warnings as JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        let loaded = config::load(Some(&self.config.config), env::vars_os(), &Dict::new());
        let checked = loaded.and_then(|loaded| Ok((app::check(&loaded)?, ok(&loaded.settings))));
        match checked {
            Ok((warnings, _)) if self.json => Ok(print_json(&warnings.to_json())?),
            Ok((warnings, ok)) => {
                show(&warnings);
                Ok(print(&ok)?)
            }
            Err(report) if self.json => {
                print_json(&report.to_json())?;
                Err(Failure::Said(EXIT_CONFIG))
            }
            Err(report) => Err(Failure::Config(report)),
        }
    }
}

fn show(warnings: &Report) {
    say(&warnings.render(is_colourful(&io::stderr())));
}

fn ok(settings: &Settings) -> String {
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (sources, upstreams) = (settings.sources.len(), settings.upstreams.len());
    format!("ok: {}, {}\n", count(sources, "source"), count(upstreams, "upstream"))
}
