//! The commands. Data goes to standard output, everything else to standard error; a file a command.

mod check;
mod completions;
mod demo;
mod events;
mod health;
mod listen;
mod local;
mod origin;
mod receiver;
mod run;
mod sample;
mod schema;
mod send;
#[cfg(test)]
mod tests;
mod trigger;
mod vendors;

use std::{
    env,
    io::{self, IsTerminal, Write},
    num::NonZeroUsize,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use crate::{app::StartError, config::Report};

/// EX_CONFIG and EX_UNAVAILABLE of sysexits.h. Wrong usage is 2, which is clap's to say; anything else is 1.
const EXIT_CONFIG: u8 = 78;
const EXIT_UNAVAILABLE: u8 = 69;

/// Takes webhooks from identity vendors, verifies, deduplicates and normalises them, and forwards them to your app,
/// signed in one standard way.
#[derive(Debug, Parser)]
#[command(name = "hookwarden", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Check(check::Check),
    Demo(demo::Demo),
    Events(Box<events::Events>),
    Listen(listen::Listen),
    Trigger(Box<trigger::Trigger>),
    Vendors(vendors::Vendors),
    Schema(schema::Schema),
    Health(health::Health),
    Completions(completions::Completions),
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration, a TOML file; `config.example.toml` shows every key.
    #[arg(long, value_name = "FILE", env = "HOOKWARDEN_CONFIG", hide_env_values = true)]
    config: PathBuf,
}

/// Why a command ended early.
#[derive(Debug)]
pub enum Failure {
    /// The configuration is wrong.
    Config(Report),
    /// The command's own output says it.
    Said(u8),
    /// An address cannot be listened on, or the inbox not be opened.
    Unavailable(String),
    Other(anyhow::Error),
}

impl Cli {
    /// Runs the command to its end.
    ///
    /// # Errors
    ///
    /// What [`Failure::tell`] turns into words and an exit code.
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Check(check) => check.run(),
            Command::Completions(completions) => completions.run(),
            Command::Demo(demo) => one_thread(demo.run()),
            Command::Events(events) => one_thread(events.run()),
            Command::Health(health) => one_thread(health.run()),
            Command::Listen(listen) => one_thread(listen.run()),
            Command::Run(run) => run.run(),
            Command::Schema(schema) => schema.run(),
            Command::Trigger(trigger) => one_thread(trigger.run()),
            Command::Vendors(vendors) => vendors.run(),
        }
    }
}

impl Failure {
    /// Says on standard error what happened; the code to exit with.
    #[must_use]
    pub fn tell(self) -> ExitCode {
        let (code, text) = match self {
            Self::Config(report) => (EXIT_CONFIG, report.render(is_colourful(&io::stderr()))),
            Self::Other(error) => (1, format!("error: {error:#}\n")),
            Self::Said(code) => (code, String::new()),
            Self::Unavailable(text) => (EXIT_UNAVAILABLE, format!("error: {text}\n")),
        };
        say(&text);
        ExitCode::from(code)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.into())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Bind { .. } | StartError::Inbox(_) => Self::Unavailable(error.to_string()),
            StartError::Config(report) => Self::Config(report),
            StartError::Signals(error) => error.into(),
        }
    }
}

/// Writes data. A reader that has gone away has had enough: that is no failure.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Data for machines.
fn print_json(value: &serde_json::Value) -> io::Result<()> {
    print(&format!("{value:#}\n"))
}

/// Writes to standard error; there is nowhere to complain if that fails.
fn say(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}

/// Whether a stream takes colours: <https://no-color.org>.
fn is_colourful(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A runtime with as many threads as there are workers; the only one of them is this thread.
fn runtime(workers: NonZeroUsize) -> io::Result<Runtime> {
    match workers.get() {
        1 => Builder::new_current_thread().enable_all().build(),
        workers => Builder::new_multi_thread().worker_threads(workers).enable_all().build(),
    }
}

fn one_thread(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = runtime(NonZeroUsize::MIN)?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}

/// Columns of text, each as wide as its widest cell.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
