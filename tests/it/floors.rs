//! Rooms use only what lies below them. The floors are the table of ARCHITECTURE.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

#[test]
fn no_room_uses_one_of_its_own_floor_or_above() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let floors = floors(&fs::read_to_string(root.join("ARCHITECTURE.md")).expect("the document"));
    let mut upward = BTreeSet::new();
    let mut rooms = BTreeSet::new();
    for file in files(&root.join("src")) {
        let inside = file.strip_prefix(root.join("src")).expect("a source file");
        let room = inside.components().next().expect("a name").as_os_str().to_string_lossy();
        let room = room.trim_end_matches(".rs").to_owned();
        if room == "lib" || room == "main" || inside.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("readable");
        for used in uses(text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()) {
            let (Some(own), Some(other)) = (floors.get(&room), floors.get(&used)) else {
                panic!("{}: no floor for `{room}` or for `{used}` in ARCHITECTURE.md", file.display());
            };
            if used != room && other >= own {
                upward.insert(format!("{}: {room} ({own}) uses {used} ({other})", inside.display()));
            }
        }
        rooms.insert(room);
    }
    assert!(upward.is_empty(), "{upward:#?}");
    assert!(rooms.len() > 20, "{rooms:?}");
}

/// The number of each room's floor.
fn floors(document: &str) -> BTreeMap<String, usize> {
    let (_, table) = document.split_once("## Rooms and floors").expect("the section");
    let table = table.split("```").nth(1).expect("the table");
    let lines = table.lines().filter_map(|line| line.split_once(' '));
    let lines = lines.filter_map(|(floor, rooms)| Some((floor.parse().ok()?, rooms)));
    lines
        .flat_map(|(floor, rooms)| rooms.split_whitespace().map(move |room| (room.to_owned(), floor)))
        .collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter(|path| path.file_name().is_some_and(|name| name != "tests.rs"))
        .collect()
}

/// The rooms that follow `crate::`, alone or as the members of one pair of braces.
fn uses(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for after in text.split("crate::").skip(1) {
        let Some(list) = after.strip_prefix('{') else {
            found.extend(name(after));
            continue;
        };
        let mut depth = 0;
        for part in list.split_inclusive(['{', '}', ',']) {
            if depth == 0 {
                found.extend(name(part));
            }
            match part.chars().next_back() {
                Some('{') => depth += 1,
                Some('}') if depth == 0 => break,
                Some('}') => depth -= 1,
                _ => {}
            }
        }
    }
    found
}

fn name(text: &str) -> Option<String> {
    let name: String =
        text.trim_start().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}
