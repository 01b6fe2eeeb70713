//! Layers: defaults < file < environment < flags. A configuration is read until nothing in it is wrong any more, each
//! mistake taken out and written down, so that all of them are shown at once.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use figment::{
    Figment,
    error::{Actual, Kind},
    providers::{Format, Serialized, Toml},
    value::{Dict, Value},
};
use toml_edit::ImDocument;

use super::{
    Settings, absent,
    env::{self, Variable},
    explain::explain,
    place::{Origin, Place, Spot},
    report::{Problem, Report},
    secrets::{self, SecretFields},
};
use crate::{file, units::Size};

/// Largest configuration file.
pub const FILE_BYTES_MAX: Size = Size::mib(1);
/// Problems after which reading stops.
const PROBLEMS_MAX: usize = 100;
/// Longest name of an upstream, a source or a vendor, in bytes: it becomes a label, a header and part of a path.
const NAME_BYTES_MAX: usize = 64;

/// A configuration, as far as it could be read.
pub struct Loaded {
    pub settings: Settings,
    /// What could not be read, and was left out. With any, the configuration is for looking at, not for use.
    pub problems: Vec<Problem>,
    file: Option<PathBuf>,
    origin: Origin,
}

/// Reads `file` (if there is one), the variables of `env` that begin with `HOOKWARDEN_` (`__` goes one level down),
/// and `flags`, a nested table. Relative paths are relative to the working directory. Reads no secrets.
///
/// # Errors
///
/// Nothing could be read at all: the file is not there, or is not TOML. What is wrong in it comes with what is right.
pub fn load(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    flags: &Dict,
) -> Result<Loaded, Report> {
    let mut origin = Origin::default();
    let from_file = match file {
        Some(path) => read(path, &mut origin)?,
        None => Dict::new(),
    };
    let mut figment = Figment::from(Serialized::defaults(&from_file));
    let mut problems = Vec::new();
    for Variable { name, key, value } in env::variables(env, &from_file) {
        origin.add_variable(key.clone(), &name);
        match value.into_string() {
            Ok(text) => figment = figment.merge(Serialized::defaults(env::nest(&key, text))),
            Err(_) => {
                problems.push(Problem { key, ..Problem::error(&[], format!("`{name}` is not valid UTF-8")) });
            }
        }
    }
    origin.add_flags(flags);

    // Unwrap safety: these are tables in memory.
    let root = figment.merge(Serialized::defaults(flags)).extract();
    let mut root: Dict = root.expect("tables can be put on top of each other");
    problems.extend(absent::refuse(&mut root));
    problems.extend(refuse_names(&root));
    match extract(root, &origin, &mut problems) {
        Some(settings) => Ok(Loaded { settings, problems, file: file.map(Path::to_owned), origin }),
        None => Err(report(&origin, problems)),
    }
}

impl Loaded {
    /// Puts problems found later, behind those of reading, to where their keys stand. What is only missed where a key
    /// beside it could not be read is no news: it may be that key.
    #[must_use]
    pub fn report(&self, later: Vec<Problem>) -> Report {
        let table = |key: &[String]| key.split_last().map(|(_, table)| table.to_vec());
        let is_news = |problem: &Problem| {
            !self.problems.iter().any(|unread| {
                unread.key == problem.key
                    || (table(&unread.key) == table(&problem.key) && !self.origin.has(&problem.key))
            })
        };
        let later = later.into_iter().filter(is_news);
        report(&self.origin, self.problems.iter().cloned().chain(later).collect())
    }

    /// Itself, if it could be read whole.
    ///
    /// # Errors
    ///
    /// Everything that could not.
    pub fn whole(self) -> Result<Self, Report> {
        if self.problems.is_empty() { Ok(self) } else { Err(self.report(Vec::new())) }
    }

    /// Every file this configuration depends on, itself included: what a change of must be noticed.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let settings = &self.settings;
        let mut files: Vec<PathBuf> = self.file.iter().cloned().collect();
        if let Some(tls) = &settings.server.tls {
            files.extend([&tls.cert_file, &tls.key_file].map(PathBuf::from));
            files.extend(tls.client_ca_file.iter().map(PathBuf::from));
        }
        files.extend(secrets::files(&SecretFields::from(&settings.admin)));
        for upstream in settings.upstreams.values() {
            files.extend(secrets::files(&SecretFields::from(upstream)));
            files.extend(upstream.ca_file.iter().map(PathBuf::from));
        }
        for source in settings.sources.values() {
            files.extend(secrets::files(&SecretFields::from(source)));
        }
        files
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("file", &self.file).finish_non_exhaustive()
    }
}

fn report(origin: &Origin, problems: Vec<Problem>) -> Report {
    let entries = problems.into_iter().map(|problem| {
        let place = origin.place(&problem.key);
        (problem, place)
    });
    Report::new(entries.collect())
}

/// What the file says.
fn read(path: &Path, origin: &mut Origin) -> Result<Dict, Report> {
    let name = path.display().to_string();
    let broken = |text: String, spot: Option<Spot>| {
        Report::new(vec![(Problem::error(&[], text), Place::File { file: name.clone(), spot })])
    };
    let bytes = file::read(path, FILE_BYTES_MAX)
        .map_err(|refusal| broken(format!("cannot read the configuration file: {refusal}"), None))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        broken("not valid UTF-8".to_owned(), Some(Spot::bare(&valid, valid.len())))
    })?;
    let document = ImDocument::parse(text.clone()).map_err(|error| {
        let spot = error.span().map(|span| Spot::bare(&text, span.start));
        broken(format!("not valid TOML: {}", error.message().trim().replace('\n', "; ")), spot)
    })?;
    let table = Figment::from(Toml::string(&text)).extract();
    let table = table.map_err(|_| broken("not a table of keys and values".to_owned(), None))?;
    origin.add_file(name, &document);
    Ok(table)
}

fn refuse_names(root: &Dict) -> Vec<Problem> {
    let fits = |name: &str| {
        (1..=NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            && name.as_bytes()[0].is_ascii_alphanumeric()
    };
    let text =
        format!("a name is 1 to {NAME_BYTES_MAX} of `a-z A-Z 0-9 - _ .` and begins with a letter or digit");
    let named =
        ["upstreams", "sources", "vendors"].map(|kind| (kind, root.get(kind).and_then(Value::as_dict)));
    let names = named
        .into_iter()
        .flat_map(|(kind, table)| table.into_iter().flat_map(Dict::keys).map(move |name| (kind, name)));
    names.filter(|(_, name)| !fits(name)).map(|(kind, name)| Problem::error(&[kind, name], &text)).collect()
}

/// How [`explain`] begins where a variable cannot hold what is wanted.
const TABLE_EXPECTED: &str = "expected a table";

/// Reads until it works, taking out what does not.
fn extract(root: Dict, origin: &Origin, problems: &mut Vec<Problem>) -> Option<Settings> {
    let mut root = Value::from(root);
    let mut gone = BTreeSet::new();
    while problems.len() < PROBLEMS_MAX {
        let error = match root.deserialize::<Settings>() {
            Ok(settings) => return Some(settings),
            Err(error) => error,
        };
        let key = as_written(&error.path, &gone);
        if origin.is_variable(&key)
            && matches!(error.kind, Kind::InvalidType(Actual::Str(_), _))
            && let Some(value) = find(&mut root, &error.path)
            && let Some(typed) = value.as_str().and_then(env::typed)
        {
            *value = typed;
            continue;
        }
        let mut problem = explain(&error.kind, &key);
        if origin.is_variable(&key) && problem.text.starts_with(TABLE_EXPECTED) {
            problem.hint =
                Some("each key of a table has a variable of its own, two underscores further".to_owned());
        }
        if !problems.iter().any(|known| known.key == problem.key) {
            problems.push(problem);
        }
        let (last, parent) = error.path.split_last()?;
        match find(&mut root, parent)? {
            Value::Dict(_, dict) => drop(dict.remove(last)?),
            Value::Array(_, list) => {
                let position: usize = last.parse().ok().filter(|position| *position < list.len())?;
                list.remove(position);
                gone.insert((key[..parent.len()].to_vec(), key.last()?.parse().ok()?));
            }
            Value::String(..) | Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => {
                return None;
            }
        }
    }
    None
}

/// The path before anything was taken out of lists on its way. `gone` holds lists and the positions taken out.
fn as_written(path: &[String], gone: &BTreeSet<(Vec<String>, usize)>) -> Vec<String> {
    let mut written: Vec<String> = Vec::new();
    for step in path {
        let mut taken = gone.iter().filter(|(list, _)| *list == written).peekable();
        let position = step.parse::<usize>().ok().filter(|_| taken.peek().is_some());
        let moved =
            position.map(|at| taken.fold(at, |at, (_, taken)| if *taken <= at { at + 1 } else { at }));
        written.push(moved.map_or_else(|| step.clone(), |at| at.to_string()));
    }
    written
}

fn find<'a>(value: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |value, step| match value {
        Value::Dict(_, dict) => dict.get_mut(step),
        Value::Array(_, list) => list.get_mut(step.parse::<usize>().ok()?),
        Value::String(..) | Value::Char(..) | Value::Bool(..) | Value::Num(..) | Value::Empty(..) => None,
    })
}
