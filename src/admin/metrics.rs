//! `/metrics`: OpenMetrics for those who ask for it, else Prometheus' older text format.

use std::{collections::BTreeSet, fmt::Write};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header::ACCEPT};
use http_body_util::Full;

use super::answer::respond;
use crate::{
    gateway::{Gateway, Shared},
    inbox::Stats,
    metrics::{Metrics, OfState, OfUpstream},
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All values as of now, those of the store included.
pub(super) async fn answer(shared: &Shared, gateway: &Gateway, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let (metrics, store) = (&shared.metrics, &shared.store);
    metrics.dedup_entries.set(i64::try_from(store.len()).unwrap_or(i64::MAX));
    if let Some(inbox) = shared.inbox() {
        // If it cannot be read, the values stay as they were; that it fails is a metric of its own.
        let upstreams = gateway.apps.keys().map(String::as_str);
        if let Ok(stats) = inbox.stats().await {
            show(metrics, &stats, upstreams);
        }
    }
    let text = metrics.text();
    if prefers_open_metrics(headers) {
        respond(StatusCode::OK, OPEN_METRICS, text)
    } else {
        respond(StatusCode::OK, CLASSIC, classic(&text))
    }
}

/// Whether `Accept` (RFC 9110 §12.5.1) gives OpenMetrics a weight, and none greater to `text/plain`.
fn prefers_open_metrics(headers: &HeaderMap) -> bool {
    let mut weights = [0.0_f32; 2];
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    for range in lines.flat_map(|line| line.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let place = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "application/openmetrics-text" => 0,
            "text/plain" => 1,
            _ => continue,
        };
        let weight = parts
            .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
            .map_or(Some(1.0), |weight| weight.parse().ok());
        weights[place] = weights[place].max(weight.unwrap_or(0.0));
    }
    let [open, text] = weights;
    open > 0.0 && open >= text
}

/// What is in the inbox, also of upstreams that have nothing there, and of those that are configured no more.
fn show<'a>(metrics: &Metrics, stats: &'a Stats, upstreams: impl Iterator<Item = &'a str>) {
    let gauge = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    metrics.inbox_bytes.set(gauge(stats.bytes));
    let known: BTreeSet<&str> = stats.tally.keys().map(String::as_str).chain(upstreams).collect();
    for upstream in known {
        let tally = stats.tally.get(upstream).cloned().unwrap_or_default();
        for (state, count) in [("ready", tally.ready), ("retrying", tally.retrying), ("dead", tally.dead)] {
            let of = OfState { upstream: upstream.to_owned(), state };
            metrics.inbox_events.get_or_create(&of).set(gauge(count));
        }
        let oldest = stats.oldest.get(upstream).map_or(0.0, |at| at.as_duration().as_secs_f64());
        metrics
            .inbox_oldest_event_timestamp
            .get_or_create(&OfUpstream { upstream: upstream.to_owned() })
            .set(oldest);
    }
}

/// OpenMetrics text in the older format. There HELP and TYPE name the samples, suffix and all; the types `info` and
/// `unknown` do not exist, and parsers refuse the whole text over them; UNIT and EOF mean nothing.
fn classic(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len() + open_metrics.len() / 8);
    let mut help = "";
    for line in open_metrics.lines() {
        if let Some((_, text)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help = text;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                _ => ("", kind),
            };
            // Writing into a String does not fail.
            writeln!(out, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}").unwrap_or_default();
        } else if !line.starts_with("# ") {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_names_samples_and_knows_fewer_types() {
        let open_metrics = "# HELP a_seconds What it is.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
            a_seconds_total{x=\"# TYPE y info\"} 1\n# HELP build Running.\n# TYPE build info\nbuild_info{v=\"1\"} 1\n\
            # HELP g G.\n# TYPE g unknown\ng 2\n# EOF\n";
        let expected = "# HELP a_seconds_total What it is.\n# TYPE a_seconds_total counter\n\
            a_seconds_total{x=\"# TYPE y info\"} 1\n# HELP build_info Running.\n# TYPE build_info gauge\n\
            build_info{v=\"1\"} 1\n# HELP g G.\n# TYPE g untyped\ng 2\n";
        assert_eq!(classic(open_metrics), expected);
    }
}
