//! What users read: help texts and tables, word for word.

use std::{fs, path::Path};

use clap::CommandFactory;

use super::*;

/// Compares with a file of `tests/cli`; written anew if `UPDATE_SNAPSHOTS` is set.
fn snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli").join(name);
    if env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert_eq!(text, expected, "{name}: if the new text is right, run again with UPDATE_SNAPSHOTS=1");
}

#[test]
fn help() {
    let mut cli = Cli::command();
    cli.build();
    cli.clone().debug_assert();
    let mut text = cli.render_long_help().to_string();
    for command in cli.get_subcommands_mut() {
        text.push_str(&format!(
            "\n--- {} ---\n\n{}",
            command.get_name().to_owned(),
            command.render_long_help()
        ));
    }
    snapshot("help.txt", &text);
}

#[test]
fn columns_are_as_wide_as_their_widest_cell() {
    let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
    let text = table(&[row(["A", "B", "C"]), row(["✓✓✓", "", "c"]), row(["a", "bb", ""])]);
    assert_eq!(text, "A    B   C\n✓✓✓      c\na    bb\n");
    assert_eq!(table(&[]), "");
}
