//! What is wrong with a configuration, shown the way compilers do: each problem with the line it stands on. A value is
//! never shown, since it may be a secret in the wrong place.

use std::{
    error,
    fmt::{self, Write},
};

use serde_json::json;

use super::{
    example,
    place::{Place, Spot},
};

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is not used.
    Error,
    Warning,
}

/// One thing wrong with the configuration. Neither text nor hint may repeat a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// Path of the key, as written: `["sources", "sendauth", "vendor"]`; positions in lists count from 0. Empty:
    /// the configuration as a whole.
    pub key: Vec<String>,
    /// What is wrong, in lower case, without a full stop.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Problems, and where they stand. `Display` is what people read; see [`Report::render`] and [`Report::to_json`].
#[derive(Clone, Debug, Default)]
pub struct Report {
    entries: Vec<(Problem, Place)>,
}

impl Problem {
    #[must_use]
    pub fn error(key: &[&str], text: impl Into<String>) -> Self {
        let key = key.iter().map(|&step| step.to_owned()).collect();
        Self { severity: Severity::Error, key, text: text.into(), hint: None }
    }

    #[must_use]
    pub fn warning(key: &[&str], text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(key, text) }
    }

    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl Report {
    pub(super) fn new(mut entries: Vec<(Problem, Place)>) -> Self {
        entries.sort_by_key(|(_, place)| match place {
            Place::File { spot: Some(spot), .. } => (0, spot.line, spot.column),
            Place::File { spot: None, .. } => (0, 0, 0),
            Place::Variable(_) | Place::Flag(_) | Place::Unknown => (1, 0, 0),
        });
        for (problem, _) in &mut entries {
            if problem.severity == Severity::Error && problem.hint.is_none() {
                problem.hint = Some(example::line(&problem.key).map_or_else(
                    || "config.example.toml shows every key, with its default".to_owned(),
                    |line| format!("for example `{line}`"),
                ));
            }
        }
        Self { entries }
    }

    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.entries.iter().map(|(problem, _)| problem)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.problems().any(|problem| problem.severity == Severity::Error)
    }

    /// What must be mended, without the warnings.
    #[must_use]
    pub fn errors(mut self) -> Self {
        self.entries.retain(|(problem, _)| problem.severity == Severity::Error);
        self
    }

    /// The whole report as text, with terminal colours if asked for. Every line ends with a newline.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let mut out = String::new();
        for (position, (problem, place)) in self.entries.iter().enumerate() {
            if position > 0 {
                out.push('\n');
            }
            // Unwrap safety: writing to a String never fails.
            render(&mut out, problem, place, colour).expect("a String takes everything");
        }
        out
    }

    /// For machines: a list of `{severity, file, line, column, from, key, text, hint}`; `from` names an environment
    /// variable or a flag.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let entries = self.entries.iter().map(|(problem, place)| {
            let (file, spot) = match place {
                Place::File { file, spot } => (Some(file), spot.as_ref()),
                Place::Variable(_) | Place::Flag(_) | Place::Unknown => (None, None),
            };
            json!({
                "severity": problem.severity.as_str(),
                "file": file,
                "line": spot.map(|spot| spot.line),
                "column": spot.map(|spot| spot.column),
                "from": match place {
                    Place::Variable(_) | Place::Flag(_) => Some(place.to_string()),
                    Place::File { .. } | Place::Unknown => None,
                },
                "key": dotted(&problem.key),
                "text": problem.text,
                "hint": problem.hint,
            })
        });
        entries.collect()
    }
}

impl Severity {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl error::Error for Report {}

/// A key's path as TOML writes it.
pub(super) fn dotted(key: &[String]) -> String {
    let bare = |step: &str| {
        !step.is_empty() && step.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
    };
    let steps = key.iter().map(|step| if bare(step) { step.clone() } else { format!("{step:?}") });
    steps.collect::<Vec<_>>().join(".")
}

fn render(out: &mut String, problem: &Problem, place: &Place, colour: bool) -> fmt::Result {
    let paint = |code: &'static str| if colour { code } else { "" };
    let (bold, blue, plain) = (paint("\x1b[1m"), paint("\x1b[1;34m"), paint("\x1b[0m"));
    let mark = match problem.severity {
        Severity::Error => paint("\x1b[1;31m"),
        Severity::Warning => paint("\x1b[1;33m"),
    };
    writeln!(out, "{mark}{}{plain}{bold}: {}{plain}", problem.severity.as_str(), problem.text)?;

    let spot = match place {
        Place::File { spot, .. } => spot.as_ref(),
        Place::Variable(_) | Place::Flag(_) | Place::Unknown => None,
    };
    let gutter = 1 + spot.map_or(1, |spot| spot.line.to_string().len());
    write!(out, "{:gutter$}{blue}-->{plain} {place}", "")?;
    if !problem.key.is_empty() {
        write!(out, "  ({})", dotted(&problem.key))?;
    }
    out.push('\n');

    let hint = problem.hint.as_deref();
    match spot {
        Some(Spot { line, shown: Some(shown), .. }) => {
            let (before, under) = (shown.before, "^".repeat(shown.width.max(1)));
            writeln!(out, "{:gutter$} {blue}|{plain}", "")?;
            writeln!(out, "{blue}{line:>gutter$} |{plain} {}", shown.text)?;
            let line =
                format!("{:gutter$} {blue}|{plain} {:before$}{mark}{under} {}", "", "", hint.unwrap_or(""));
            writeln!(out, "{}{plain}", line.trim_end())
        }
        _ => match hint {
            Some(hint) => writeln!(out, "{:gutter$} {blue}={plain} {hint}", ""),
            None => Ok(()),
        },
    }
}
