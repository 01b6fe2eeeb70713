//! `docs/assurance.md` names a test for each rule: the test must be there.

use std::{collections::BTreeSet, fs};

use crate::harness::root;

/// The tests a line names: `it/…::name` or `src/…::name` in backticks.
fn named(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|text| text.starts_with("it/") || text.starts_with("src/"))
        .filter_map(|text| text.rsplit_once("::"))
}

fn is_there(file: &str, test: &str) -> bool {
    let file = match file.strip_prefix("it/") {
        Some(file) => format!("tests/it/{file}.rs"),
        None => format!("{file}.rs"),
    };
    let Ok(text) = fs::read_to_string(root().join(&file)) else { return false };
    // A test, and not just a function: its attribute stands in one of the lines above.
    let Some(at) = text.find(&format!("fn {test}(")) else { return false };
    let above: Vec<&str> = text.get(..at).unwrap_or_default().lines().rev().take(4).collect();
    above.iter().any(|line| line.contains("#[test]") || line.contains("#[tokio::test"))
        || text.contains("proptest!")
}

#[test]
fn every_test_that_assurance_names_is_there() {
    let text = fs::read_to_string(root().join("docs/assurance.md")).expect("the document");
    let missing: Vec<_> = named(&text).filter(|(file, test)| !is_there(file, test)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(named(&text).count() > 60, "the table can be read");
}

#[test]
fn every_threat_has_its_row() {
    let text = fs::read_to_string(root().join("docs/assurance.md")).expect("the document");
    let rows: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|id| id.len() == 2 && id.starts_with(|letter: char| letter.is_ascii_uppercase()))
        .collect();
    let sections =
        [('A', 8), ('B', 7), ('C', 6), ('D', 5), ('E', 5), ('F', 10), ('G', 7), ('H', 4), ('I', 5)];
    let wanted =
        sections.into_iter().flat_map(|(letter, last)| (1..=last).map(move |at| format!("{letter}{at}")));
    // Of two digits there is one.
    let missing: Vec<String> =
        wanted.filter(|id| !rows.contains(id.as_str()) && !text.contains(&format!("| {id} "))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
