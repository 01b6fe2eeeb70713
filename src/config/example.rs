//! What a key looks like when it is right: its line in `config.example.toml`, which has every key.

const EXAMPLE: &str = include_str!("../../config.example.toml");

/// The line of a key, whether it is commented out there or not; positions in lists do not count.
pub(super) fn line(key: &[String]) -> Option<&'static str> {
    let table = key.first()?;
    let name = key.iter().rev().find(|step| step.parse::<usize>().is_err())?;
    let mut current = "";
    for line in EXAMPLE.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(header) = line.strip_prefix('[') {
            current = header.trim_matches(['[', ']']).split('.').next().unwrap_or_default();
        }
        let is_it = line.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(" = "));
        if is_it && (current == table || key.len() == 1 && current.is_empty()) {
            return Some(line.split(" # ").next().unwrap_or(line));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_its_table() {
        let line = |key: &str| line(&key.split('.').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(line("upstreams.app.format"), Some("format = \"cloudevents\""));
        assert_eq!(line("upstreams.other.format"), line("upstreams.app.format"));
        assert_eq!(line("log.format"), Some("format = \"json\""));
        assert!(line("sources.a.secrets.0.env").is_none(), "part of another line");
        assert!(line("sources.a.no_such_key").is_none() && line("").is_none());
    }
}
