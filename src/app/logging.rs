//! Logs: JSON lines, or text on a terminal, on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

use super::{
    log_json::JsonLines,
    log_writer::{self, LogGuard},
};
use crate::{
    clock::Clock,
    config::{Log, LogFormat, Report, Severity},
};

/// The HTTP/2 library warns of what clients may send a million times (a PING answered that nobody asked). Directives of
/// `log.level` come behind this and may say otherwise.
const QUIET: &str = "h2=error";

/// Begins to log, panics included. Dropping the guard writes what is waiting.
///
/// # Errors
///
/// The system gives no thread.
pub fn init(log: &Log) -> io::Result<LogGuard> {
    let (writer, guard) = log_writer::start(io::stderr())?;
    let level = format!("{QUIET},{}", log.level);
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new(format!("{QUIET},info")));
    let terminal = io::stderr().is_terminal();
    let format = log.format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let builder = fmt().with_env_filter(filter).with_writer(writer);
    // A subscriber that is there already (a test's) stays.
    let set = match format {
        LogFormat::Json => builder.event_format(JsonLines { clock: Clock::system() }).try_init(),
        LogFormat::Text => {
            let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            builder.with_ansi(colour).try_init()
        }
    };
    drop(set);
    std::panic::set_hook(Box::new(|panic| {
        // Without its message, which may show what was worked on.
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, "a panic");
    }));
    Ok(guard)
}

/// Logs what is wrong with a configuration, or unwise: a line a problem.
pub fn problems(report: &Report) {
    for problem in report.problems() {
        let (key, text, hint) = (problem.key.join("."), &problem.text, problem.hint.as_deref());
        match problem.severity {
            Severity::Error => tracing::error!(key, hint, "{text}"),
            Severity::Warning => tracing::warn!(key, hint, "{text}"),
        }
    }
}
