//! `hookwarden vendors`: what is known of each vendor, and from where.

use std::{collections::BTreeSet, fmt::Write};

use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::{Value, json};

use super::{Failure, origin::Origin, print, print_json, table};
use crate::{
    secret::Secret,
    units::Span,
    vendor::{
        self,
        format::{Retries, VendorFile},
    },
};

/// Show what is known of the built-in vendors
#[derive(Args, Debug)]
pub(super) struct Vendors {
    /// One vendor, in full: verification, answers, events, and the source of each fact
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A vendor at a glance.
struct Summary {
    name: &'static str,
    file: VendorFile,
    /// The file itself.
    table: Value,
    method: &'static str,
    assurance: &'static str,
    events: usize,
    unconfirmed: usize,
}

impl Vendors {
    pub(super) fn run(self) -> Result<(), Failure> {
        let all = vendor::BUILTIN.iter().map(|(name, text)| Summary::new(name, text));
        let all: Vec<Summary> = all.collect::<Result<_, _>>()?;
        let Some(name) = self.name else {
            let shown = if self.json {
                print_json(&all.iter().map(Summary::json).collect())
            } else {
                print(&overview(&all))
            };
            return Ok(shown?);
        };
        let Some(one) = all.iter().find(|summary| summary.name == name) else {
            let known: Vec<&str> = all.iter().map(|summary| summary.name).collect();
            return Err(anyhow!("no such vendor; there are: {}", known.join(", ")).into());
        };
        if self.json {
            let mut json = one.json();
            json["file"] = one.table.clone();
            return Ok(print_json(&json)?);
        }
        // Unwrap safety: writing to a String never fails.
        Ok(print(&one.in_full().expect("a String takes everything"))?)
    }
}

impl Summary {
    fn new(name: &'static str, text: &str) -> Result<Self, Failure> {
        let Origin { file, verify, .. } = Origin::vendor(name)?;
        let table = toml::from_str(text).context(name)?;
        // Any secret will do, if it is base64, hex and text at once: only the words are wanted.
        let secret = Secret::new(None, b"00000000000000000000000000000000".to_vec());
        let verifier = verify.compile(&[secret], Some("https://hooks.example.com/"));
        let (method, assurance) =
            verifier.map_or(("?", "?"), |verifier| (verifier.method(), verifier.assurance().as_str()));
        let names = file.event.iter().flat_map(|rule| &rule.names);
        let events: BTreeSet<&String> = names.filter(|name| !name.ends_with('*')).collect();
        let (events, unconfirmed) = (events.len(), file.fact.iter().filter(|fact| !fact.confirmed).count());
        Ok(Self { name, table, method, assurance, events, unconfirmed, file })
    }

    fn retries(&self) -> &'static str {
        match self.file.response.retries {
            Retries::No => "no",
            Retries::Unknown => "unknown",
            Retries::Yes => "yes",
        }
    }

    fn json(&self) -> Value {
        let response = &self.file.response;
        json!({
            "name": self.name,
            "title": self.file.title,
            "docs": self.file.docs,
            "scheme": self.method,
            "assurance": self.assurance,
            "events": self.events,
            "retries": self.retries(),
            "retry_horizon": response.retry_horizon,
            "time_budget": response.time_budget,
            "unconfirmed": self.unconfirmed,
        })
    }

    fn in_full(&self) -> Result<String, std::fmt::Error> {
        let VendorFile { title, docs, response, event, fact, .. } = &self.file;
        let mut out = String::new();
        writeln!(out, "{title} ({})\n{}\n", self.name, docs.as_deref().unwrap_or_default())?;
        writeln!(out, "Verification: {}, assurance {}", self.method, self.assurance)?;
        let keys = self.table["verify"].as_object().into_iter().flatten();
        out.push_str(&indented(keys.map(|(key, value)| vec![key.clone(), bare(value)])));

        let answers = [
            ("taken", response.success_status.to_string()),
            ("rate limited", response.limited_status.to_string()),
            ("waits", or_unknown(response.time_budget)),
            ("tries again", self.retries().to_owned()),
            ("for", or_unknown(response.retry_horizon)),
        ];
        writeln!(out, "\nAnswers")?;
        out.push_str(&indented(answers.into_iter().map(|(key, value)| vec![key.to_owned(), value])));

        writeln!(out, "\nEvents ({})", self.events)?;
        out.push_str(&indented(event.iter().map(|rule| {
            let note = rule.note.clone().unwrap_or_default();
            vec![rule.names.join(", "), rule.event_type.as_str().to_owned(), note]
        })));

        writeln!(out, "\nFacts (✓ confirmed, ? not)")?;
        for fact in fact {
            let mark = if fact.confirmed { '✓' } else { '?' };
            writeln!(out, "  {mark} {}\n    {}", fact.text, fact.source)?;
        }
        Ok(out)
    }
}

fn overview(all: &[Summary]) -> String {
    let heading = ["NAME", "SCHEME", "ASSURANCE", "EVENTS", "RETRIES", "WAITS", "UNCONFIRMED"];
    let rows = all.iter().map(|summary| {
        vec![
            summary.name.to_owned(),
            summary.method.to_owned(),
            summary.assurance.to_owned(),
            summary.events.to_string(),
            summary.retries().to_owned(),
            or_unknown(summary.file.response.time_budget),
            summary.unconfirmed.to_string(),
        ]
    });
    let rows: Vec<_> = [heading.map(str::to_owned).to_vec()].into_iter().chain(rows).collect();
    table(&rows)
}

fn or_unknown(span: Option<Span>) -> String {
    span.map_or_else(|| "unknown".to_owned(), |span| span.to_string())
}

fn indented(rows: impl Iterator<Item = Vec<String>>) -> String {
    let text = table(&rows.collect::<Vec<_>>());
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// A text without quotes; anything else as JSON.
fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
