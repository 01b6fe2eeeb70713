//! The reader's errors in our own words: figment's and serde's repeat the value, which may be a secret in the wrong
//! place.

use figment::error::{Actual, Kind};

use super::report::Problem;

/// Likeness (0 to 1) from which a name is taken for a slip of another one.
const LIKENESS_MIN: f64 = 0.6;
/// Words up to which a list of what would have been right is printed.
const LISTED_MAX: usize = 40;

/// The problem that `kind` at `key` is. For a missing member, `key` is its table.
pub(super) fn explain(kind: &Kind, key: &[String]) -> Problem {
    let mut problem = Problem::error(&[], String::new());
    problem.key = key.to_vec();
    let last = key.last().map_or("", String::as_str);
    match kind {
        Kind::UnknownField(_, known) => (problem.text, problem.hint) = unknown_key(last, known),
        // The name of a member can be one of a closed list, too.
        Kind::UnknownVariant(word, known) if word == last => {
            (problem.text, problem.hint) = unknown_key(last, known)
        }
        Kind::UnknownVariant(word, known) => {
            problem.text = "unknown value".to_owned();
            problem.hint = similar(word, known).or_else(|| listed("expected", known));
        }
        Kind::MissingField(name) => {
            problem.text = format!("missing key `{name}`");
            problem.key.push(name.to_string());
        }
        Kind::InvalidType(actual, expected) => {
            problem.text = format!("expected {}, found {}", in_words(expected), name_of(actual));
        }
        Kind::InvalidValue(_, expected) => {
            problem.text = format!("out of range: expected {}", in_words(expected))
        }
        Kind::InvalidLength(_, expected) => {
            problem.text = format!("wrong length: expected {}", in_words(expected))
        }
        Kind::DuplicateField(_) => problem.text = "set twice".to_owned(),
        Kind::Message(message) => problem.text = own_words(message).to_owned(),
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => {
            problem.text = "number out of range".to_owned()
        }
        Kind::Unsupported(_) | Kind::UnsupportedKey(..) => problem.text = UNFIT.to_owned(),
    }
    problem
}

const UNFIT: &str = "this value does not fit here";

fn unknown_key(name: &str, known: &'static [&'static str]) -> (String, Option<String>) {
    let hint = similar(name, known).or_else(|| listed("known here", known));
    (format!("unknown key `{}`", name.escape_debug()), hint)
}

pub(crate) fn similar(word: &str, known: &[&str]) -> Option<String> {
    let likeness = |other: &str| strsim::normalized_damerau_levenshtein(&word.to_ascii_lowercase(), other);
    let best = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= LIKENESS_MIN).then(|| format!("did you mean `{best}`?"))
}

fn listed(what: &str, known: &[&str]) -> Option<String> {
    let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    (names.len() <= LISTED_MAX).then(|| format!("{what}: {}", names.join(", ")))
}

/// Only messages that are known to hold no value: those of our own types begin with "expected".
fn own_words(message: &str) -> &str {
    match message {
        "invalid socket address syntax" => ADDRESS,
        _ if message.starts_with("expected ") => message,
        _ => UNFIT,
    }
}

const ADDRESS: &str = r#"expected an address and a port such as "127.0.0.1:8080""#;

/// What serde expected. These texts come from types, never from values.
fn in_words(expected: &str) -> &str {
    match expected {
        "string" | "path string" => "a string",
        "a boolean" => "`true` or `false`",
        "a sequence" => "a list",
        "a map" => "a table",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or greater",
        "a nonzero u32" => "a whole number from 1 to 4294967295",
        "a nonzero u64" | "a nonzero usize" => "a whole number, 1 or greater",
        "i64" => "a whole number",
        "socket address" => ADDRESS.trim_start_matches("expected "),
        _ if expected.starts_with("struct ") => "a table",
        _ if expected.starts_with("enum ") || expected.starts_with("variant ") => "one of the known words",
        _ => expected,
    }
}

fn name_of(actual: &Actual) -> &'static str {
    match actual {
        Actual::Bool(_) => "a boolean",
        Actual::Unsigned(_) | Actual::Signed(_) => "a number",
        Actual::Float(_) => "a number with a fraction",
        Actual::Char(_) | Actual::Str(_) | Actual::Bytes(_) => "a string",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        Actual::Unit
        | Actual::Option
        | Actual::NewtypeStruct
        | Actual::Enum
        | Actual::UnitVariant
        | Actual::NewtypeVariant
        | Actual::TupleVariant
        | Actual::StructVariant
        | Actual::Other(_) => "something else",
    }
}
