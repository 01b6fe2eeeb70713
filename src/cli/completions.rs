//! `hookwarden completions`: what a shell needs to complete arguments.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::{Cli, Failure, print};

/// Print a script that completes arguments in a shell
#[derive(Args, Debug)]
pub(super) struct Completions {
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "hookwarden", &mut script);
        Ok(print(&String::from_utf8_lossy(&script))?)
    }
}
