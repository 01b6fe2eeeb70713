//! What is handed out beside the program holds what it promises: the manifests pass Pod Security "restricted", the
//! configurations in manifests and documents are ones the program reads, the README's tables are the code's, and nothing
//! is built in of which a hole is known.

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

/// Crates, the version that mended them, and what was wrong. Of none: the crate itself may not be there. Advisories are
/// looked up where their database is in reach; these are held everywhere.
const MENDED: [(&str, Option<[u64; 3]>, &str); 10] = [
    ("bytes", Some([1, 11, 1]), "RUSTSEC-2026-0007: reserve overflows"),
    ("h2", Some([0, 4, 16]), "RUSTSEC-2026-0258, -2024-0332, -2024-0003, -2023-0034: floods"),
    ("hyper", Some([0, 14, 10]), "RUSTSEC-2021-0078, -0079, -0020: framing"),
    ("jsonwebtoken", Some([10, 3, 0]), "CVE-2026-25537: claims of the wrong type count as absent"),
    ("ring", Some([0, 17, 12]), "RUSTSEC-2025-0009: AES panics"),
    ("rsa", None, "RUSTSEC-2023-0071: timing"),
    ("rustls", Some([0, 23, 45]), "RUSTSEC-2026-0285: handshake messages at the wrong encryption level"),
    (
        "rustls-webpki",
        Some([0, 103, 13]),
        "RUSTSEC-2026-0104, -0099, -0098, -0049: certificates and their revocation",
    ),
    ("svix", Some([1, 17, 0]), "RUSTSEC-2024-0010: compares up to the shorter"),
    ("tracing-subscriber", Some([0, 3, 20]), "RUSTSEC-2025-0055: escape sequences in the log"),
];

/// Names and versions of a lock file. A pre-release counts as what comes before it.
fn locked(lock: &str) -> Vec<(String, [u64; 3])> {
    let lock: toml::Table = lock.parse().expect("TOML");
    let packages = lock["package"].as_array().expect("packages").iter();
    let version = |text: &str| {
        let mut numbers = text.split(['.', '-', '+']).map(|number| number.parse().unwrap_or(0));
        std::array::from_fn(|_| numbers.next().unwrap_or(0))
    };
    let text = |package: &toml::Value, key| package[key].as_str().expect("text").to_owned();
    packages.map(|package| (text(package, "name"), version(&text(package, "version")))).collect()
}

fn holes(packages: &[(String, [u64; 3])]) -> Vec<String> {
    let hole = |(name, version): &(String, [u64; 3])| {
        let (_, mended, what) = MENDED.iter().find(|(known, ..)| known == name)?;
        let is_open = mended.is_none_or(|mended| *version < mended);
        is_open.then(|| format!("{name} {version:?}: {what}"))
    };
    packages.iter().filter_map(hole).collect()
}

#[test]
fn no_hole_that_is_known_is_built_in() {
    let packages = locked(&read("Cargo.lock"));
    assert_eq!(holes(&packages), Vec::<String>::new());
    for name in ["bytes", "h2", "hyper", "ring", "rustls", "rustls-webpki", "tracing-subscriber"] {
        assert!(packages.iter().any(|package| package.0 == name), "{name} is looked at");
    }
    let open = "[[package]]\nname = 'h2'\nversion = '0.4.15'\n[[package]]\nname = 'rsa'\nversion = '1.0.0-rc.1'\n\
                [[package]]\nname = 'h2'\nversion = '0.4.16'";
    assert_eq!(holes(&locked(open)).len(), 2, "what is open is found");
}

fn settings(path: &str, toml: &str) -> Settings {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), toml).expect("written");
    match load(Some(file.path()), [], &Dict::new()) {
        Ok(loaded) => loaded.settings,
        Err(report) => panic!("{path}: {report}\n{toml}"),
    }
}
