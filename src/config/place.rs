//! Where a key stands: its line in the file, or the environment variable or flag that set it. Keeps names and
//! positions only, no values.

use std::{collections::BTreeMap, fmt, ops::Range};

use figment::value::{Dict, Value};
use toml_edit::{ImDocument, Item, Key, TableLike};

/// Where a problem stands.
#[derive(Clone, Debug)]
pub(super) enum Place {
    File { file: String, spot: Option<Spot> },
    Variable(String),
    Flag(String),
    Unknown,
}

/// A position in the file, counted from 1; columns in characters.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) shown: Option<Shown>,
}

/// The line as it may be shown, and what to mark in it: characters before the mark, and marked.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) text: String,
    pub(super) before: usize,
    pub(super) width: usize,
}

/// Where every key of one configuration was written.
#[derive(Debug, Default)]
pub(super) struct Origin {
    file: Option<String>,
    spots: BTreeMap<Vec<String>, Spot>,
    /// What wins over the file: environment variables and flags.
    above: BTreeMap<Vec<String>, Place>,
}

/// Positions in a text.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl Origin {
    pub(super) fn add_file(&mut self, file: String, document: &ImDocument<String>) {
        self.file = Some(file);
        let lines = Lines::new(document.raw());
        walk(document.as_table(), &mut Vec::new(), &lines, &mut self.spots);
    }

    pub(super) fn add_variable(&mut self, key: Vec<String>, name: &str) {
        self.above.insert(key, Place::Variable(name.to_owned()));
    }

    /// Flags are named after their keys: `server.listen` is `--listen`, `log.level` is `--log-level`. One that says in which
    /// variable a secret is stands for that variable.
    pub(super) fn add_flags(&mut self, flags: &Dict) {
        let mut open: Vec<(Vec<String>, &Dict)> = vec![(Vec::new(), flags)];
        while let Some((path, dict)) = open.pop() {
            for (name, value) in dict {
                let key: Vec<String> = path.iter().chain([name]).cloned().collect();
                if let Value::Dict(_, inner) = value {
                    open.push((key, inner));
                } else if let ("secret_env", Some(variable)) = (name.as_str(), value.as_str()) {
                    self.add_variable(key, variable);
                } else {
                    let steps = if key[0] == "server" { &key[1..] } else { &key[..] };
                    let flag = format!("--{}", steps.join("-").replace('_', "-"));
                    self.above.insert(key, Place::Flag(flag));
                }
            }
        }
    }

    /// Whether the environment set exactly this key.
    pub(super) fn is_variable(&self, key: &[String]) -> bool {
        matches!(self.above.get(key), Some(Place::Variable(_)))
    }

    /// Whether anybody wrote this key.
    pub(super) fn has(&self, key: &[String]) -> bool {
        self.above.contains_key(key) || self.spots.contains_key(key)
    }

    /// Where a key stands; of a key that is missing, the nearest table around it.
    pub(super) fn place(&self, key: &[String]) -> Place {
        let file = || self.file.clone().unwrap_or_default();
        for near in (1..=key.len()).rev().map(|length| &key[..length]) {
            if let Some(place) = self.above.get(near) {
                return place.clone();
            }
            if let Some(spot) = self.spots.get(near) {
                return Place::File { file: file(), spot: Some(spot.clone()) };
            }
            if let Some((_, place)) =
                self.above.range(near.to_vec()..).find(|(below, _)| below.starts_with(near))
            {
                return place.clone();
            }
        }
        if self.file.is_some() { Place::File { file: file(), spot: None } } else { Place::Unknown }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, spot: Some(spot) } => write!(f, "{file}:{}:{}", spot.line, spot.column),
            Self::File { file, spot: None } => f.write_str(file),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Unknown => f.write_str("configuration"),
        }
    }
}

impl Spot {
    /// The position of a byte, with nothing to show of the line.
    pub(super) fn bare(text: &str, byte: usize) -> Self {
        let (line, before) = Lines::new(text).find(byte.min(text.len()));
        Self { line, column: before.chars().count() + 1, shown: None }
    }
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(byte, _)| byte + 1));
        Self { text, starts: starts.collect() }
    }

    /// The number of the line that holds a byte, from 1, and what stands before the byte in it.
    fn find(&self, byte: usize) -> (usize, &'a str) {
        let line = self.starts.partition_point(|&start| start <= byte);
        (line, self.text.get(self.starts[line - 1]..byte).unwrap_or_default())
    }

    /// `[[header]]` of one table in a list of tables.
    fn header(&self, span: Range<usize>) -> Spot {
        let (line, before) = self.find(span.start);
        let text = self.text.get(span).and_then(|header| header.lines().next()).unwrap_or_default();
        let text = text.split_inclusive(']').take(2).collect::<String>();
        let shown = Shown { before: 0, width: text.chars().count(), text };
        Spot { line, column: before.chars().count() + 1, shown: Some(shown) }
    }

    /// A key may be shown, with what stands around it up to `=`; an inline table may not: it holds values.
    fn spot(&self, span: Range<usize>) -> Spot {
        let (line, before) = self.find(span.start);
        let name = self.text.get(span.clone()).unwrap_or_default();
        let after = self.text.get(span.end..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let (text, start) = if before.contains(['{', '=', ',']) {
            (format!("{name} = …"), "")
        } else if before.trim_start().starts_with('[') {
            let rest = after.split(']').next().unwrap_or_default();
            let close = if before.contains("[[") { "]]" } else { "]" };
            (format!("{before}{name}{rest}{close}"), before)
        } else {
            let rest = after.split('=').next().unwrap_or_default().trim_end();
            (format!("{before}{name}{rest} = …"), before)
        };
        let shown = Shown {
            text: text.replace('\t', " "),
            before: start.chars().count(),
            width: name.chars().count(),
        };
        Spot { line, column: before.chars().count() + 1, shown: Some(shown) }
    }
}

fn walk(
    table: &dyn TableLike,
    path: &mut Vec<String>,
    lines: &Lines<'_>,
    spots: &mut BTreeMap<Vec<String>, Spot>,
) {
    for (name, item) in table.iter() {
        path.push(name.to_owned());
        if let Some(span) = table.key(name).and_then(Key::span) {
            spots.insert(path.clone(), lines.spot(span));
        }
        walk_item(item, path, lines, spots);
        path.pop();
    }
}

/// Values in a list have no spot of their own: the list's key stands for them. `[[tables]]` have their headers.
fn walk_item(
    item: &Item,
    path: &mut Vec<String>,
    lines: &Lines<'_>,
    spots: &mut BTreeMap<Vec<String>, Spot>,
) {
    let mut element = |position: usize, table: &dyn TableLike, header: Option<Range<usize>>| {
        path.push(position.to_string());
        if let Some(header) = header {
            spots.insert(path.clone(), lines.header(header));
        }
        walk(table, path, lines, spots);
        path.pop();
    };
    match item {
        Item::ArrayOfTables(tables) => {
            for (position, table) in tables.iter().enumerate() {
                element(position, table, table.span());
            }
        }
        Item::Value(toml_edit::Value::Array(list)) => {
            for (position, value) in list.iter().enumerate() {
                if let Some(table) = value.as_inline_table() {
                    element(position, table, None);
                }
            }
        }
        Item::Value(_) | Item::Table(_) | Item::None => {
            if let Some(table) = item.as_table_like() {
                walk(table, path, lines, spots);
            }
        }
    }
}
