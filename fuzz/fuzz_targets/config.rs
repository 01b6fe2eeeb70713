//! A configuration file, as `hookwarden check` reads it: every problem says something, stands at a line that is there,
//! and repeats no value.
//!
//! An input is the file.

#![no_main]

use std::{fs, path::PathBuf, process, sync::LazyLock};

use figment::value::Dict;
use hookwarden::{
    app,
    config::{Report, load},
};
use libfuzzer_sys::fuzz_target;

/// As a value it must not be in what is said.
const CANARY: &str = "canary-0123456789-secret";

/// Where the file is: in memory, if there is such a place.
static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    folder.join(format!("hookwarden-fuzz-{}.toml", process::id()))
});

/// Whether the canary is a value wherever it is, whole: names and paths are shown.
fn is_only_a_value(text: &str) -> bool {
    fn outside(value: &toml::Value) -> bool {
        match value {
            toml::Value::Table(table) => {
                table.iter().any(|(key, value)| key.contains(CANARY) || outside(value))
            }
            toml::Value::Array(list) => list.iter().any(outside),
            toml::Value::String(text) => text != CANARY && text.contains(CANARY),
            _ => false,
        }
    }
    match text.parse() {
        Ok(table) => !outside(&toml::Value::Table(table)),
        // Of a file that is no TOML nobody knows what is a value.
        Err(_) => text.match_indices(CANARY).all(|(at, _)| {
            let (before, after) = (&text[..at], &text[at + CANARY.len()..]);
            before.ends_with("= \"") && after.starts_with("\"\n")
        }),
    }
}

fn judge(report: &Report, text: Option<&str>) {
    let (plain, coloured) = (report.render(false), report.render(true));
    let json = report.to_json();
    if text.is_some_and(is_only_a_value) {
        let shown = [&plain, &coloured, &json.to_string()].into_iter().any(|said| said.contains(CANARY));
        assert!(!shown, "a value is shown: {plain}");
    }
    let lines = text.map_or(usize::MAX, |text| text.split('\n').count());
    for (problem, entry) in report.problems().zip(json.as_array().expect("a list")) {
        assert!(!problem.text.is_empty(), "nothing is said");
        let line = entry["line"].as_u64().map(|line| usize::try_from(line).expect("a line"));
        assert!(line.is_none_or(|line| (1..=lines).contains(&line)), "no such line: {plain}");
        assert!(entry["file"].is_string(), "no place: {plain}");
    }
}

fuzz_target!(|input: &[u8]| {
    fs::write(&*PATH, input).expect("written");
    let checked = load(Some(&PATH), [], &Dict::new()).and_then(|loaded| {
        let checked = app::check(&loaded);
        assert!(loaded.problems.is_empty() || checked.is_err(), "what could not be read is let through");
        checked
    });
    let text = str::from_utf8(input).ok();
    match checked {
        Ok(warnings) => {
            assert!(!warnings.has_errors(), "an error that is none: {warnings}");
            judge(&warnings, text);
        }
        Err(report) => {
            assert!(report.has_errors(), "refused, and nobody says why: {report}");
            judge(&report, text);
        }
    }
});
