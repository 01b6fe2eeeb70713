//! What is handed out beside the program holds what it promises: the manifests pass Pod Security "restricted", the
//! configurations in manifests and documents are ones the program reads, the README's tables are the code's.

use std::{fs, path::Path};

use figment::value::Dict;
use hookwarden::{
    config::{Settings, load},
    rejection::Code,
    vendor::{BUILTIN, Options, Plan},
};

const MANIFESTS: [&str; 3] = ["deploy/inbox.yaml", "deploy/sidecar.yaml", "deploy/standalone.yaml"];
/// The delivery that the README shows.
const GOLDEN: &str = "sendauth/transaction-denied";

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines of the container whose `image` stands at this line, without their indentation.
fn container<'a>(lines: &[&'a str], image: usize) -> Vec<&'a str> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let dash = indent(lines[image]) - 2;
    let first =
        lines[..image].iter().rposition(|line| indent(line) == dash && line.trim_start().starts_with("- "));
    let first = first.expect("containers are a list");
    let rest = lines[first + 1..].iter().take_while(|line| line.is_empty() || indent(line) > dash);
    [&lines[first]].into_iter().chain(rest).map(|line| line.trim()).collect()
}

#[test]
fn every_container_passes_pod_security_restricted() {
    for path in MANIFESTS {
        let text = read(path);
        let lines: Vec<&str> = text.lines().collect();
        let images: Vec<usize> =
            (0..lines.len()).filter(|at| lines[*at].trim().starts_with("image:")).collect();
        assert!(!images.is_empty(), "{path}: no container");
        for at in images {
            let container = container(&lines, at);
            let name = container[0];
            for wanted in [
                "runAsNonRoot: true",
                "allowPrivilegeEscalation: false",
                "readOnlyRootFilesystem: true",
                r#"drop: ["ALL"]"#,
                "type: RuntimeDefault",
            ] {
                assert_eq!(
                    container.iter().filter(|line| **line == wanted).count(),
                    1,
                    "{path}: {name}: {wanted}"
                );
            }
        }
        let refused = ["privileged:", "host", "runAsUser: 0", "add:", "sysctls:", "procMount:", "subPath:"];
        let key = |line: &&str| line.trim_start_matches([' ', '-']).to_owned();
        let found = lines.iter().map(key).find(|key| refused.iter().any(|refused| key.starts_with(refused)));
        assert_eq!(found, None, "{path}");
        assert!(text.contains("automountServiceAccountToken: false"), "{path}");
    }
}

#[test]
fn configurations_in_manifests_are_read() {
    for path in MANIFESTS {
        let text = read(path);
        let (_, rest) = text.split_once("hookwarden.toml: |\n").expect("a configuration");
        let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
        let toml: String =
            lines.flat_map(|line| [line.strip_prefix("    ").unwrap_or_default(), "\n"]).collect();
        let settings = settings(path, &toml);
        let sources = settings.sources.values().map(|source| &source.secret_file);
        for file in sources.chain(settings.upstreams.values().map(|upstream| &upstream.secret_file)) {
            let file =
                Path::new(file.as_ref().expect("secrets are files: they can be changed without a restart"));
            assert_eq!(file.parent(), Some(Path::new("/run/secrets/hookwarden")), "{path}");
            let key = format!("  {}: replace-me\n", file.file_name().expect("a name").display());
            assert!(text.contains(&key), "{path}: {key}");
            assert!(text.contains("mountPath: /run/secrets/hookwarden\n"), "{path}");
        }
    }
}

#[test]
fn configurations_in_documents_are_read() {
    for path in ["README.md", "CONTRIBUTING.md"] {
        let text = read(path);
        let mut blocks = text.split("```toml\n").skip(1).peekable();
        assert!(blocks.peek().is_some(), "{path}: no configuration");
        for block in blocks {
            let settings = settings(path, block.split("```").next().unwrap_or_default());
            for (name, vendor) in &settings.vendors {
                let plan = Plan::compile(name, vendor, Options::default());
                assert!(plan.is_ok(), "{path}: {:?}", plan.err());
            }
        }
    }
}

#[test]
fn the_readme_tells_every_code_and_every_vendor() {
    let readme = read("README.md");
    let (_, codes) = readme.split_once("## Codes\n").expect("the section");
    let codes = codes.split("\n## ").next().unwrap_or_default();
    for code in Code::ALL {
        let row = format!("| {} | `{}` |", code.status().as_u16(), code.as_str());
        assert!(codes.contains(&row), "missing in README.md: {row}");
    }
    for (vendor, _) in BUILTIN {
        assert!(readme.contains(&format!("| `{vendor}` |")), "{vendor}");
    }
}

#[test]
fn the_readme_s_event_is_what_becomes_of_its_delivery() {
    let readme = read("README.md");
    let blocks: Vec<serde_json::Value> = readme
        .split("```json\n")
        .skip(1)
        .map(|block| serde_json::from_str(block.split("```").next().unwrap_or_default()).expect("JSON"))
        .collect();
    let golden = read(&format!("tests/vendors/{GOLDEN}.http"));
    let (_, sent) = golden.split_once("\n\n").expect("a body");
    let sent: serde_json::Value = serde_json::from_str(sent).expect("JSON");
    let made: serde_json::Value =
        serde_json::from_str(&read(&format!("tests/vendors/{GOLDEN}.json"))).expect("JSON");
    assert!(blocks.contains(&sent), "the delivery of {GOLDEN}");
    assert!(blocks.contains(&made), "the event of {GOLDEN}");
}

fn settings(path: &str, toml: &str) -> Settings {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), toml).expect("written");
    match load(Some(file.path()), [], &Dict::new()) {
        Ok(loaded) => loaded.settings,
        Err(report) => panic!("{path}: {report}\n{toml}"),
    }
}
