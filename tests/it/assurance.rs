//! `docs/assurance.md` names a test for each rule and each planted bug: the test must be there.

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

/// The document up to a heading, and the section of that heading.
fn section(heading: &str) -> (String, String) {
    let text = fs::read_to_string(root().join("docs/assurance.md")).expect("the document");
    let (before, rest) = text.split_once(&format!("\n## {heading}\n")).expect("the section");
    let inside = rest.split("\n## ").next().unwrap_or_default();
    (before.to_owned(), inside.to_owned())
}

/// The lines of tables that begin with a threat (a letter and a number), and the threat.
fn rows(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let id = line.strip_prefix("| ")?.split(' ').next()?;
        let number = id.strip_prefix(|letter: char| letter.is_ascii_uppercase())?;
        number.parse::<u8>().ok().map(|_| (id, line))
    })
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
    let (text, _) = section("What was run");
    let there: BTreeSet<&str> = rows(&text).map(|(id, _)| id).collect();
    let sections =
        [('A', 8), ('B', 7), ('C', 6), ('D', 5), ('E', 5), ('F', 10), ('G', 7), ('H', 4), ('I', 5)];
    let wanted =
        sections.into_iter().flat_map(|(letter, last)| (1..=last).map(move |at| format!("{letter}{at}")));
    let missing: Vec<String> = wanted.filter(|id| !there.contains(id.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_threat_with_tests_has_a_planted_bug_that_they_notice() {
    let (text, planted) = section("Planted bugs");
    let tested: BTreeSet<&str> =
        rows(&text).filter(|(_, line)| named(line).next().is_some()).map(|(id, _)| id).collect();
    let unnoticed: Vec<_> = rows(&planted).filter(|(_, line)| named(line).next().is_none()).collect();
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
    let noticed: BTreeSet<&str> = rows(&planted).map(|(id, _)| id).collect();
    assert_eq!(noticed, tested);
}
