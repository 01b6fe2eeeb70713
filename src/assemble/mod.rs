//! A configuration becomes a gateway: secrets are read, vendors compiled, names resolved, budgets compared. Everything
//! that is wrong comes out at once, with its key.

mod budgets;
mod source;
mod upstream;

use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsString,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    config::{Problem, Settings, Severity, explain::similar, secrets},
    gateway::{Gateway, Shared},
    identity::{SCHEMA_PATH, schema},
    inbox::{self, mount},
    limit::PerAddress,
    secret::Secret,
    server::Tls,
    source::{App, Source},
    units::Size,
    upstream::{Order, Settings as AppSettings},
    vendor::{BUILTIN, Options, Plan, compile::Fault, format::VendorFile},
};

/// What a configuration amounts to.
#[derive(Debug)]
pub struct Assembly {
    pub gateway: Gateway,
    pub tls: Option<Tls>,
    /// The bearer token of the admin API, if there is one.
    pub admin_token: Option<Secret>,
    pub warnings: Vec<Problem>,
}

/// Looks an environment variable up.
pub type Env = dyn Fn(&str) -> Option<OsString>;

/// Puts a gateway together. Blocks: it reads secrets and certificates. What `previous` has and the settings did not
/// change (budgets in use) is kept.
///
/// # Errors
///
/// Every error, and the warnings with them.
pub fn assemble(
    settings: &Settings,
    env: &Env,
    shared: &Arc<Shared>,
    previous: Option<&Gateway>,
) -> Result<Assembly, Vec<Problem>> {
    let mut assembler = Assembler {
        settings,
        env,
        shared,
        previous,
        problems: Vec::new(),
        files: BTreeMap::new(),
        plans: HashMap::new(),
        apps: Apps::new(),
    };
    assembler.globals();
    assembler.inbox();
    let tls = assembler.tls();
    let admin_token = assembler.admin_token();
    assembler.vendors();
    assembler.apps = assembler.apps();
    let sources = assembler.sources();
    assembler.warn_of_shared(&sources);
    budgets::check(settings, &assembler.files, &mut assembler.problems);
    let problems = assembler.problems;
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(problems);
    }
    let base = settings.base_url();
    let dataschema = base.map(|base| format!("{base}{SCHEMA_PATH}"));
    let path_behind_host =
        base.and_then(|base| base.split("://").nth(1)?.split_once('/')).map(|(_, path)| path);
    let mut schema_paths = vec![SCHEMA_PATH.to_owned()];
    schema_paths.extend(path_behind_host.map(|path| format!("/{path}{SCHEMA_PATH}")));
    let path = |source: &Arc<Source>| (Arc::clone(&source.name), source.path.clone());
    let gateway = Gateway {
        paths: sources.values().map(path).collect(),
        // A listener does not change; what a reload says of it takes a restart.
        tls: previous.map_or_else(|| tls.is_some(), |gateway| gateway.tls),
        sources,
        apps: assembler.apps,
        trusted_proxies: settings.server.trusted_proxies.clone(),
        per_address: per_address(settings, shared, previous),
        body_bytes_max: settings.server.body_bytes_max.bytes(),
        structure_bytes_max: settings
            .limits
            .inflight_bytes_max
            .bytes()
            .saturating_sub(settings.server.body_bytes_max.bytes()),
        body_timeout: settings.server.body_timeout.0,
        body_rate_min: settings.server.body_rate_min.0,
        request_timeout: settings.server.request_timeout.0,
        schema: (schema_paths, schema::data(dataschema.as_deref()).to_string().into()),
        shared: Arc::clone(shared),
    };
    Ok(Assembly { gateway, tls, admin_token, warnings: problems })
}

/// The addresses' budgets; the ones in use, if the rate is the same.
fn per_address(settings: &Settings, shared: &Shared, previous: Option<&Gateway>) -> Arc<PerAddress> {
    let rate = settings.limits.per_ip;
    let known = previous.map(|gateway| &gateway.per_address).filter(|known| known.rate() == rate);
    known.map_or_else(|| Arc::new(PerAddress::new(rate, &shared.clock)), Arc::clone)
}

struct Assembler<'a> {
    settings: &'a Settings,
    env: &'a Env,
    shared: &'a Arc<Shared>,
    previous: Option<&'a Gateway>,
    problems: Vec<Problem>,
    /// The vendor files in use, by name.
    files: BTreeMap<String, VendorFile>,
    /// Plans that sources without wishes of their own share. None: its faults have been told.
    plans: HashMap<String, Option<Arc<Plan>>>,
    /// The apps that could be built, by name.
    apps: Apps,
}

impl Assembler<'_> {
    fn error(&mut self, key: &[&str], text: impl Into<String>) {
        self.problems.push(Problem::error(key, text));
    }

    fn globals(&mut self) {
        let settings = self.settings;
        if let Some(url) = &settings.public_url
            && let Err(text) = check_url(url)
        {
            self.error(&["public_url"], text);
        }
        let prefix = &settings.type_prefix;
        let reverse_dns = prefix.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        });
        if !reverse_dns || prefix.len() > 128 {
            self.error(&["type_prefix"], "expected a domain name in reverse, such as `com.example.hooks`");
        }
        let words = ["off", "error", "warn", "info", "debug", "trace"];
        let level = settings.log.level.as_str();
        // A single word that is no level would be taken for the name of a module, and silence everything else.
        let known = level.contains(['=', ',']) || words.contains(&level);
        if !known || level.parse::<tracing_subscriber::EnvFilter>().is_err() {
            self.error(&["log", "level"], "expected error, warn, info, debug or trace, or filter directives");
        }
        if settings.store.entries_max == 0 {
            self.error(&["store", "entries_max"], "at least 1: without ids there is no deduplication");
        }
        let server = &settings.server;
        let spans = [
            (["reload", "poll"], settings.reload.poll),
            (["server", "header_timeout"], server.header_timeout),
            (["server", "body_timeout"], server.body_timeout),
            (["server", "request_timeout"], server.request_timeout),
            (["server", "idle_timeout"], server.idle_timeout),
        ];
        for (key, span) in spans {
            if span.0.is_zero() {
                self.error(&key, "expected a time longer than 0s");
            }
        }
        let sizes = [
            (["server", "body_bytes_max"], server.body_bytes_max, Size(1)),
            (["server", "header_bytes_max"], server.header_bytes_max, Size::kib(1)),
        ];
        for (key, size, least) in sizes {
            if size < least {
                self.error(&key, format!("expected {least} or more: every request would be refused"));
            }
        }
        if both_cannot_listen(server.listen, settings.admin.listen) {
            self.error(&["admin", "listen"], "the port is that of `server.listen`: choose another");
        }
        if settings.limits.inflight_bytes_max < settings.server.body_bytes_max {
            self.error(
                &["limits", "inflight_bytes_max"],
                "less than `server.body_bytes_max`: the largest body would never be taken",
            );
        }
        if settings.sources.is_empty() {
            let problem = Problem::error(&["sources"], "there is no source: nothing would be received");
            self.problems
                .push(problem.with_hint("add a table [sources.NAME] with `vendor`, a secret and `upstream`"));
        }
    }

    fn inbox(&mut self) {
        let inbox = &self.settings.inbox;
        if inbox.retention.0.is_zero() {
            self.error(&["inbox", "retention"], "expected a time longer than 0s");
        }
        if inbox.bytes_max < INBOX_BYTES_MIN {
            let text = format!(
                "too little: expected {INBOX_BYTES_MIN} or more; the tables of an empty inbox take a third of that"
            );
            self.error(&["inbox", "bytes_max"], text);
        }
        let Some(url) = &inbox.url else { return self.warn_of_no_inbox() };
        if let Some(kind) = mount::ephemeral(&url.path) {
            let text = format!("the inbox {}, and acknowledged events with it", kind.as_str());
            let problem = Problem::warning(&["inbox", "url"], text);
            self.problems.push(problem.with_hint("a path on a persistent volume"));
        }
        let folder = url.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if folder.is_some_and(|folder| !folder.is_dir()) {
            // A configuration may be checked elsewhere than where it runs; `run` itself says that it cannot open the file.
            let problem = Problem::warning(&["inbox", "url"], "the folder of this file does not exist here");
            self.problems.push(problem.with_hint("make it, or mount a volume there, before `run`"));
        }
    }

    /// Warns of what is said of an inbox that there is none of.
    fn warn_of_no_inbox(&mut self) {
        let settings = self.settings;
        let mut idle = |key: &[&str], is_set: bool| {
            if is_set {
                let problem = Problem::warning(key, "nothing comes of this: there is no inbox");
                self.problems.push(problem.with_hint("set `inbox.url`"));
            }
        };
        let (inbox, default) = (&settings.inbox, inbox::Settings::default());
        idle(&["inbox", "retention"], inbox.retention != default.retention);
        idle(&["inbox", "bytes_max"], inbox.bytes_max != default.bytes_max);
        for (name, upstream) in &settings.upstreams {
            let schedule = upstream.schedule() != AppSettings::default().schedule();
            idle(&["upstreams", name, "schedule"], schedule);
            idle(&["upstreams", name, "order"], upstream.order == Some(Order::Partition));
        }
    }

    fn tls(&mut self) -> Option<Tls> {
        let settings = self.settings.server.tls.as_ref()?;
        Tls::load(settings).map_err(|error| self.error(&["server", "tls", error.key], error.text)).ok()
    }

    fn admin_token(&mut self) -> Option<Secret> {
        let admin = &self.settings.admin;
        let tokens = match secrets::read(&admin.into(), &["admin"], self.env) {
            Ok((tokens, warnings)) => {
                self.problems.extend(warnings);
                tokens
            }
            Err(problems) => {
                self.problems.extend(problems);
                return None;
            }
        };
        if tokens.is_empty() && admin.api && !admin.listen.ip().is_loopback() {
            let text =
                "the API would be open to the network: it needs a token where `admin.listen` is not loopback";
            let problem = Problem::error(&["admin", "listen"], text);
            self.problems.push(
                problem.with_hint("set `admin.token_env` or `admin.token_file`, or `admin.api = false`"),
            );
        }
        tokens.into_iter().next()
    }

    /// Compiles every vendor of the operator's own, used or not.
    fn vendors(&mut self) {
        for (name, file) in &self.settings.vendors {
            if BUILTIN.iter().any(|(known, _)| known == name) {
                self.error(&["vendors", name], "this is the name of a built-in vendor; choose another");
            }
            self.compile(name, file, Options::default(), &["vendors", name]);
        }
    }

    /// The file of a vendor: built in, or the operator's.
    fn vendor(&mut self, name: &str, key: &[&str]) -> Option<VendorFile> {
        let file = self.settings.vendor_file(name);
        if file.is_none() {
            let own = self.settings.vendors.keys().map(String::as_str);
            let known: Vec<&str> = BUILTIN.iter().map(|(name, _)| *name).chain(own).collect();
            let hint = similar(name, &known).unwrap_or_else(|| {
                format!("known are {}; a vendor of your own is a table [vendors.NAME]", known.join(", "))
            });
            self.problems.push(Problem::error(key, "there is no such vendor").with_hint(hint));
        }
        if let Some(file) = &file {
            self.files.entry(name.to_owned()).or_insert_with(|| file.clone());
        }
        file
    }

    /// The plan of a vendor; sources without wishes of their own share one.
    fn compile(
        &mut self,
        name: &str,
        file: &VendorFile,
        options: Options,
        key: &[&str],
    ) -> Option<Arc<Plan>> {
        let plain = options == Options::default();
        match self.plans.get(name) {
            Some(None) => return None,
            Some(plan) if plain => return plan.clone(),
            _ => {}
        }
        let plan = match Plan::compile(name, file, options) {
            Ok(plan) => Some(Arc::new(plan)),
            Err(faults) => {
                for Fault { path, text } in faults {
                    let path: Vec<&str> =
                        key.iter().copied().chain(path.iter().map(String::as_str)).collect();
                    self.error(&path, text);
                }
                None
            }
        };
        if plain {
            self.plans.insert(name.to_owned(), plan.clone());
        }
        plan
    }
}

/// Least room for an inbox: its tables and a few events.
const INBOX_BYTES_MIN: Size = Size::kib(256);

type Apps = BTreeMap<String, Arc<App>>;

/// Whether two listeners have the same port of the same address, or of every address (`::`: of IPv4, too).
fn both_cannot_listen(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    let all = |of: IpAddr, address: IpAddr| of.is_unspecified() && (of.is_ipv6() || address.is_ipv4());
    one.port() == other.port() && one.port() != 0 && (a == b || all(a, b) || all(b, a))
}

fn check_url(url: &str) -> Result<(), &'static str> {
    const EXPECTED: &str =
        "expected an address such as `https://hooks.example.com`, without query or fragment";
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).ok_or(EXPECTED)?;
    let uri: http::Uri = url.parse().map_err(|_| EXPECTED)?;
    let plain = uri.host().is_some_and(|host| !host.is_empty()) && uri.query().is_none();
    if plain && !rest.contains(['#', '@']) { Ok(()) } else { Err(EXPECTED) }
}
