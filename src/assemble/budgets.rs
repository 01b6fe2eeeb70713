//! Do the times fit each other? `upstream timeout + waits between attempts ≤ the vendor's time budget < the claim's
//! lease` (the lease is made to fit), and `dedup_window ≥ the vendor's retry horizon`.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    config::{Delivery, Problem, Settings, SourceSettings},
    units::Span,
    upstream::Options,
    vendor::format::{Retries, VendorFile},
};

const SHORTEN: &str = "lower the upstream's `timeout`, or the attempts or waits of its `retry`";

/// Compares what the settings and the vendors say of time.
pub(super) fn check(
    settings: &Settings,
    vendors: &BTreeMap<String, VendorFile>,
    problems: &mut Vec<Problem>,
) {
    let mut zero = |table: &str, name: &str, key: &str, span: Option<Span>| {
        if span.is_some_and(|span| span.0.is_zero()) {
            problems.push(Problem::error(&[table, name, key], "expected a time longer than 0s"));
        }
    };
    for (name, upstream) in &settings.upstreams {
        zero("upstreams", name, "timeout", upstream.timeout);
    }
    for (name, source) in &settings.sources {
        zero("sources", name, "dedup_window", source.dedup_window);
        zero("sources", name, "max_age", source.max_age);
    }
    for (name, upstream) in settings.upstreams.iter().filter(|(name, _)| is_direct(settings, name)) {
        let (needed, text) = needed(&upstream.options());
        let limit = settings.server.request_timeout;
        if needed > limit.0 {
            let text = format!("{text} is more than `server.request_timeout` ({limit})");
            let problem = Problem::warning(&["upstreams", name, "timeout"], text);
            problems.push(problem.with_hint(SHORTEN));
        }
    }
    for (name, source) in &settings.sources {
        let Some(file) = source.vendor.as_ref().and_then(|vendor| vendors.get(vendor)) else { continue };
        let direct = delivery(settings, source) == Delivery::Direct;
        if direct {
            budget(settings, name, source, file, problems);
        }
        let window = source.dedup_window();
        let horizon = file.response.retry_horizon.filter(|horizon| *horizon > window && !window.0.is_zero());
        if let Some(horizon) = horizon {
            let text = format!(
                "{} tries again for {horizon}, and ids are forgotten after {window}: late retries would be forwarded twice",
                file.title
            );
            let problem = Problem::warning(&["sources", name, "dedup_window"], text);
            problems.push(problem.with_hint(format!("raise `dedup_window` to {horizon} or more")));
        }
        if direct && file.response.retries != Retries::Yes {
            let does = match file.response.retries {
                Retries::No => "does not try again",
                Retries::Unknown | Retries::Yes => "does not say whether it tries again",
            };
            let text = format!(
                "direct delivery, and {} {does}: an event that meets a dead app may be lost",
                file.title
            );
            problems.push(Problem::warning(&["sources", name, "delivery"], text));
        }
    }
}

/// Whether events go there while their vendor waits. What nothing goes to yet may be used so.
fn is_direct(settings: &Settings, upstream: &str) -> bool {
    let goes_there = |source: &&SourceSettings| source.upstreams().any(|name| name == upstream);
    let mut sources = settings.sources.values().filter(goes_there).peekable();
    sources.peek().is_none() || sources.any(|source| delivery(settings, source) == Delivery::Direct)
}

fn delivery(settings: &Settings, source: &SourceSettings) -> Delivery {
    source.delivery(settings.inbox.url.is_some())
}

fn budget(
    settings: &Settings,
    name: &str,
    source: &SourceSettings,
    file: &VendorFile,
    problems: &mut Vec<Problem>,
) {
    let Some(budget) = file.response.time_budget else { return };
    for upstream in source.upstreams() {
        let Some(settings) = settings.upstreams.get(upstream) else { continue };
        let (needed, text) = needed(&settings.options());
        if needed > budget.0 {
            let text =
                format!("{text} is more than {} waits for an answer ({budget}; source `{name}`)", file.title);
            problems.push(Problem::warning(&["upstreams", upstream, "timeout"], text).with_hint(SHORTEN));
        }
    }
}

/// The longest a delivery should take, and how to say so: one whole attempt, and the waits before the others (which
/// are made only where the one before did not reach the app, so at once).
fn needed(options: &Options) -> (Duration, String) {
    let waits = (1..options.attempts.get().min(16)).fold(Duration::ZERO, |sum, attempt| {
        sum.saturating_add(options.backoff_base.saturating_mul(1 << (attempt - 1)))
    });
    let text =
        format!("one attempt ({}) and the waits before retries ({})", Span(options.timeout), Span(waits));
    (options.timeout.saturating_add(waits), text)
}
