//! Reading the secrets an operator names, and refusing those that protect nothing.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fmt,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use super::{Admin, SourceSettings, report::Problem, strength::unfit};
use crate::{
    file,
    secret::{Secret, SecretRef},
    units::Size,
    upstream,
};

/// Largest file with a secret.
pub const SECRET_FILE_BYTES_MAX: Size = Size::kib(64);

/// The members of a table that say where its secret is.
#[derive(Clone, Copy)]
pub struct SecretFields<'a> {
    /// What the members are called: `secret`, `secret_env`, `secret_file`, `secrets`; or `token_env` and so on.
    pub name: &'static str,
    pub secret: Option<&'a str>,
    pub secret_env: Option<&'a str>,
    pub secret_file: Option<&'a str>,
    pub secrets: Option<&'a [SecretRef]>,
    /// Whether short ones are taken; none where the table has no such key.
    pub allow_weak: Option<bool>,
}

/// Reads the secrets of the table at `key_path`, in their order. None named: none read, which is the caller's to
/// judge. `env` looks a variable up. Blocks.
///
/// # Errors
///
/// Everything wrong with them; what is merely unwise comes beside the secrets, as warnings.
pub fn read(
    fields: &SecretFields<'_>,
    key_path: &[&str],
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<(Vec<Secret>, Vec<Problem>), Vec<Problem>> {
    let mut reader = Reader {
        allow_weak: fields.allow_weak,
        env,
        secrets: Vec::new(),
        warnings: Vec::new(),
        errors: Vec::new(),
    };
    let names = ["", "_env", "_file", "s"].map(|suffix| format!("{}{suffix}", fields.name));
    let [literal, env_name, file_name, list] = &names;
    let given = [
        fields.secret.is_some(),
        fields.secret_env.is_some(),
        fields.secret_file.is_some(),
        fields.secrets.is_some(),
    ];
    let mut given = names.iter().zip(given).filter_map(|(name, given)| given.then_some(name));
    if let (Some(first), Some(second)) = (given.next(), given.next()) {
        let text = format!("`{first}` and `{second}` exclude each other: keep one");
        return Err(vec![Problem::error(&[key_path, &[second]].concat(), text)]);
    }

    if let Some(text) = fields.secret {
        let key = [key_path, &[literal]].concat();
        let warning =
            Problem::warning(&key, "a secret written into the configuration: whoever reads that has it");
        reader.warnings.push(warning.with_hint(format!("use `{env_name}` or `{file_name}`")));
        reader.take(&key, None, text.as_bytes().to_vec());
    }
    if let Some(variable) = fields.secret_env {
        reader.variable(&[key_path, &[env_name]].concat(), None, variable);
    }
    if let Some(path) = fields.secret_file {
        reader.file(&[key_path, &[file_name]].concat(), None, path);
    }
    if let Some(refs) = fields.secrets {
        reader.list(&[key_path, &[list]].concat(), refs);
    }
    if reader.errors.is_empty() { Ok((reader.secrets, reader.warnings)) } else { Err(reader.errors) }
}

impl SecretFields<'_> {
    /// The member that is set; where one should be, if none is.
    #[must_use]
    pub fn given(&self) -> &'static str {
        match self {
            Self { secrets: Some(_), .. } => "secrets",
            Self { secret_file: Some(_), .. } => "secret_file",
            Self { secret: Some(_), .. } => "secret",
            _ => "secret_env",
        }
    }
}

/// The files the secrets are in.
#[must_use]
pub fn files(fields: &SecretFields<'_>) -> Vec<PathBuf> {
    let listed = fields.secrets.unwrap_or_default().iter().filter_map(|secret| secret.file.as_deref());
    fields.secret_file.into_iter().chain(listed).map(PathBuf::from).collect()
}

struct Reader<'a> {
    allow_weak: Option<bool>,
    env: &'a dyn Fn(&str) -> Option<OsString>,
    secrets: Vec<Secret>,
    warnings: Vec<Problem>,
    errors: Vec<Problem>,
}

impl Reader<'_> {
    fn variable(&mut self, key: &[&str], id: Option<&str>, name: &str) {
        // Somebody may have put the secret itself here; what does not look like a variable is not repeated.
        let usual =
            name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
        match (self.env)(name) {
            Some(value) => self.take(key, id, value.into_vec()),
            None if usual => self.errors.push(
                Problem::error(key, format!("the environment variable `{name}` is not set"))
                    .with_hint("set it where hookwarden runs, or name a file"),
            ),
            None => self.errors.push(
                Problem::error(key, "the environment variable named here is not set")
                    .with_hint("this is the variable's name, not the secret"),
            ),
        }
    }

    fn file(&mut self, key: &[&str], id: Option<&str>, path: &str) {
        let shown = if path.starts_with(['/', '.']) { format!("`{path}`") } else { "named here".to_owned() };
        match file::read(Path::new(path), SECRET_FILE_BYTES_MAX) {
            Ok(mut bytes) => {
                if bytes.pop_if(|byte| *byte == b'\n').is_some() {
                    bytes.pop_if(|byte| *byte == b'\r');
                }
                self.take(key, id, bytes);
            }
            Err(refusal) => self.errors.push(
                Problem::error(key, format!("cannot read the secret file {shown}: {refusal}"))
                    .with_hint("mount it there, and let hookwarden's user read it"),
            ),
        }
    }

    fn list(&mut self, key: &[&str], refs: &[SecretRef]) {
        if refs.is_empty() {
            self.error(key, "the list of secrets is empty");
        }
        let mut ids = BTreeSet::new();
        for (position, secret) in refs.iter().enumerate() {
            let position = position.to_string();
            let at = |member: &'static str| [key, &[&position, member]].concat();
            let id = secret.id.as_deref();
            match id {
                Some("") => self.error(&at("id"), "the id is empty"),
                Some(id) if !ids.insert(id) => self.error(&at("id"), "another secret here has the same id"),
                Some(_) | None => {}
            }
            match (&secret.env, &secret.file) {
                (Some(name), None) => self.variable(&at("env"), id, name),
                (None, Some(path)) => self.file(&at("file"), id, path),
                (None, None) => self.error(&[key, &[&position]].concat(), "a secret needs `env` or `file`"),
                (Some(_), Some(_)) => {
                    self.error(&at("file"), "`env` and `file` exclude each other: keep one")
                }
            }
        }
    }

    fn take(&mut self, key: &[&str], id: Option<&str>, bytes: Vec<u8>) {
        if let Some((text, hint)) = unfit(&bytes, self.allow_weak) {
            self.errors.push(Problem::error(key, text).with_hint(hint));
            return;
        }
        if bytes.last().is_some_and(u8::is_ascii_whitespace) {
            let warning = Problem::warning(key, "the secret ends with white space, which is part of it");
            self.warnings
                .push(warning.with_hint("of a file, one trailing newline is stripped and nothing else"));
        }
        self.secrets.push(Secret::new(id, bytes));
    }

    fn error(&mut self, key: &[&str], text: impl Into<String>) {
        self.errors.push(Problem::error(key, text));
    }
}

impl fmt::Debug for SecretFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFields").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> From<&'a SourceSettings> for SecretFields<'a> {
    fn from(source: &'a SourceSettings) -> Self {
        Self {
            name: "secret",
            secret: source.secret.as_deref(),
            secret_env: source.secret_env.as_deref(),
            secret_file: source.secret_file.as_deref(),
            secrets: source.secrets.as_deref(),
            allow_weak: Some(source.allow_weak.unwrap_or(false)),
        }
    }
}

impl<'a> From<&'a upstream::Settings> for SecretFields<'a> {
    fn from(upstream: &'a upstream::Settings) -> Self {
        Self {
            name: "secret",
            secret: upstream.secret.as_deref(),
            secret_env: upstream.secret_env.as_deref(),
            secret_file: upstream.secret_file.as_deref(),
            secrets: upstream.secrets.as_deref(),
            allow_weak: Some(upstream.allow_weak.unwrap_or(false)),
        }
    }
}

/// The bearer token of the API.
impl<'a> From<&'a Admin> for SecretFields<'a> {
    fn from(admin: &'a Admin) -> Self {
        Self {
            name: "token",
            secret: None,
            secret_env: admin.token_env.as_deref(),
            secret_file: admin.token_file.as_deref(),
            secrets: None,
            allow_weak: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const GOOD: &str = "3q2+7w-0123456789";

    const NONE: SecretFields<'_> = SecretFields {
        name: "secret",
        secret: None,
        secret_env: None,
        secret_file: None,
        secrets: None,
        allow_weak: Some(false),
    };

    fn env(name: &str) -> Option<OsString> {
        match name {
            "GOOD" => Some(GOOD.into()),
            "OTHER" => Some("another-0123456789".into()),
            "EMPTY" => Some("".into()),
            _ => None,
        }
    }

    fn read_all(
        fields: &SecretFields<'_>,
        allow_weak: bool,
    ) -> Result<(Vec<Secret>, Vec<Problem>), Vec<Problem>> {
        let fields = SecretFields { allow_weak: Some(allow_weak), ..*fields };
        read(&fields, &["sources", "a"], &env)
    }

    fn errors(fields: SecretFields<'_>) -> Vec<String> {
        let problems = read_all(&fields, false).unwrap_err();
        problems.iter().map(|problem| format!("{}: {}", problem.key.join("."), problem.text)).collect()
    }

    fn secret_ref(env: Option<&str>, file: Option<&str>, id: Option<&str>) -> SecretRef {
        let [env, file, id] = [env, file, id].map(|text| text.map(str::to_owned));
        SecretRef { env, file, id }
    }

    #[test]
    fn files_lose_one_newline_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let path = path.to_str().unwrap();
        for (end, kept, warnings) in
            [("", "", 0), ("\n", "", 0), ("\r\n", "", 0), ("\n\n", "\n", 1), ("\r", "\r", 1), (" \n", " ", 1)]
        {
            fs::write(path, format!("{GOOD}{end}")).unwrap();
            let fields = SecretFields { secret_file: Some(path), ..NONE };
            let (secrets, warned) = read_all(&fields, false).unwrap();
            assert_eq!(secrets[0].expose(), format!("{GOOD}{kept}").as_bytes());
            assert_eq!(warned.len(), warnings, "{end:?}");
            assert_eq!(files(&fields), [PathBuf::from(path)]);
        }
        fs::write(path, vec![b'k'; 64 << 10]).unwrap();
        assert!(read_all(&SecretFields { secret_file: Some(path), ..NONE }, false).is_ok());
        fs::write(path, vec![b'k'; (64 << 10) + 1]).unwrap();
        let at = "sources.a.secret_file: cannot read the secret file";
        let of = |path| errors(SecretFields { secret_file: Some(path), ..NONE });
        assert_eq!(of(path), [format!("{at} `{path}`: larger than 64KiB")]);
        assert_eq!(of("/nowhere"), [format!("{at} `/nowhere`: no such file")]);
        assert_eq!(of("/"), [format!("{at} `/`: not a regular file")]);
        assert_eq!(of("whsec_abc"), [format!("{at} named here: no such file")]);
    }

    #[test]
    fn exactly_one_of_the_four_is_taken() {
        assert_eq!(read_all(&NONE, false).unwrap().0.len(), 0);
        let both = SecretFields { secret: Some(GOOD), secret_env: Some("GOOD"), ..NONE };
        assert_eq!(
            errors(both),
            ["sources.a.secret_env: `secret` and `secret_env` exclude each other: keep one"]
        );
        let variable = |name| errors(SecretFields { secret_env: Some(name), ..NONE });
        assert_eq!(
            variable("MISSING"),
            ["sources.a.secret_env: the environment variable `MISSING` is not set"]
        );
        assert_eq!(
            variable("s3cr3t"),
            ["sources.a.secret_env: the environment variable named here is not set"]
        );
        assert_eq!(variable("EMPTY"), ["sources.a.secret_env: the secret is empty"]);
        let (_, warnings) = read_all(&SecretFields { secret: Some(GOOD), ..NONE }, false).unwrap();
        assert_eq!(warnings[0].hint.as_deref(), Some("use `secret_env` or `secret_file`"));
        let token = SecretFields { name: "token", secret_env: Some("MISSING"), ..NONE };
        assert_eq!(errors(token), ["sources.a.token_env: the environment variable `MISSING` is not set"]);
    }

    #[test]
    fn a_list_is_for_rotation() {
        let refs = [
            secret_ref(Some("GOOD"), None, Some("current")),
            secret_ref(Some("OTHER"), None, Some("previous")),
        ];
        let (secrets, warnings) = read_all(&SecretFields { secrets: Some(&refs), ..NONE }, false).unwrap();
        let ids: Vec<_> = secrets.iter().map(|secret| secret.id().unwrap().to_string()).collect();
        assert_eq!((ids, warnings.len()), (vec!["current".to_owned(), "previous".to_owned()], 0));

        let refs = [
            secret_ref(Some("GOOD"), None, Some("a")),
            secret_ref(Some("OTHER"), None, Some("a")),
            secret_ref(Some("GOOD"), Some("/x"), None),
            secret_ref(None, None, Some("")),
        ];
        let expected = [
            "sources.a.secrets.1.id: another secret here has the same id",
            "sources.a.secrets.2.file: `env` and `file` exclude each other: keep one",
            "sources.a.secrets.3.id: the id is empty",
            "sources.a.secrets.3: a secret needs `env` or `file`",
        ];
        assert_eq!(errors(SecretFields { secrets: Some(&refs), ..NONE }), expected);
        let none = SecretFields { secrets: Some(&[]), ..NONE };
        assert_eq!(errors(none), ["sources.a.secrets: the list of secrets is empty"]);
    }
}
