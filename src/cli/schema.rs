//! `hookwarden schema`: what events and configurations look like, for machines.

use clap::{Args, ValueEnum};

use super::{Failure, print_json};
use crate::{config, identity};

/// Print a JSON Schema
#[derive(Args, Debug)]
pub(super) struct Schema {
    /// What the schema is of
    #[arg(value_enum)]
    of: Of,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Of {
    /// `data` of the events the app gets
    Event,
    /// The configuration file
    Config,
}

impl Schema {
    pub(super) fn run(self) -> Result<(), Failure> {
        let schema = match self.of {
            Of::Config => config::schema::schema(),
            Of::Event => identity::schema::data(None),
        };
        Ok(print_json(&schema)?)
    }
}
