//! Sources: which vendor, which secrets, which ways.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use http::StatusCode;

use super::Assembler;
use crate::{
    cloudevent::Origin,
    config::{Delivery, Problem, SourceSettings, explain::similar, secrets},
    identity::{Recipe, TypeFilter},
    limit::Budget,
    metrics::{RouteMetrics, SourceMetrics},
    scheme::{self, Assurance, SchemeName, Verifier},
    secret::{SECRET_BYTES_MIN, Secret},
    source::{LastDelivery, Route, Source},
    units::Rate,
    upstream::Format,
    vendor::{Options, Plan, format::VendorFile},
};

impl Assembler<'_> {
    pub(super) fn sources(&mut self) -> HashMap<Box<str>, Arc<Source>> {
        let mut sources: HashMap<Box<str>, Arc<Source>> = HashMap::new();
        for (name, settings) in &self.settings.sources {
            let Some(source) = self.source(name, settings) else { continue };
            if let Some(other) = sources.get(&source.path) {
                let text = format!("source `{}` has the same path", other.name);
                self.error(&["sources", name, "path"], text);
                continue;
            }
            sources.insert(source.path.clone(), Arc::new(source));
        }
        sources
    }

    /// A source; everything about it is looked at, even if a part of it is wrong.
    fn source(&mut self, name: &str, settings: &SourceSettings) -> Option<Source> {
        let table = ["sources", name];
        let path = self.path(name, settings);
        let filters = self.filters(&["sources", name, "filters"], settings.filters.as_deref());
        let Some(vendor) = &settings.vendor else {
            self.error(&["sources", name, "vendor"], "`vendor` is missing");
            self.routes(name, settings, None);
            return None;
        };
        let file = self.vendor(vendor, &["sources", name, "vendor"]);
        let plan = file.as_ref().and_then(|file| self.compile(vendor, file, options(settings), &table));
        let verifier = file.as_ref().and_then(|file| self.verifier(name, settings, file, path.as_deref()?));
        let routes = self.routes(name, settings, plan.as_deref());
        let delivery = self.delivery(name, settings);
        self.warn(name, settings);
        if let (Some(filters), Some(routes), Some(plan)) = (&filters, &routes, &plan) {
            self.warn_of_missed(name, filters, routes, plan);
        }
        let origin_fits = self.origin_fits(name, settings);
        let unsigned = self.unsigned(settings);
        if let Some(verifier) = &verifier {
            self.warn_of_assurance(name, verifier.assurance().max(unsigned));
        }
        let (path, filters, file, plan, verifier) = (path?, filters?, file?, plan?, verifier?);
        let tenant = origin_fits.then(|| settings.tenant.as_deref().unwrap_or("main"))?;
        let origin = self.origin(settings, vendor, tenant);
        Some(Source {
            name: name.into(),
            path: path.into(),
            metrics: SourceMetrics::new(&self.shared.metrics, name, vendor, verifier.key_ids(), plan.types()),
            enforce: settings.enforce.unwrap_or(true),
            allow: settings.allow.clone(),
            budget: self.budget(name, settings.rate.unwrap_or(Rate::Unlimited)),
            routes: self.scoped(name, &origin, routes?),
            origin,
            filters,
            forward_tests: settings.forward_tests.unwrap_or(false),
            delivery,
            dedup_window: settings.dedup_window().0,
            max_age: settings.max_age.map(|span| span.0),
            success_status: status(file.response.success_status),
            limited_status: status(file.response.limited_status),
            time_budget: time_budget(&file, self.settings.server.request_timeout.0),
            unsigned,
            last: self
                .in_use(name)
                .map_or_else(Arc::<LastDelivery>::default, |source| Arc::clone(&source.last)),
            plan,
            verifier,
        })
    }

    /// How events are handed over. An inbox that is in the file and not open yet takes a restart; until then they go as before.
    fn delivery(&mut self, name: &str, settings: &SourceSettings) -> Delivery {
        let there = self.settings.inbox.url.is_some();
        let open = self.previous.is_none_or(|gateway| gateway.shared.inbox().is_some());
        if settings.delivery == Some(Delivery::Inbox) && !(there && open) {
            let text = if there { "the inbox opens with a restart" } else { "there is no inbox" };
            let hint = "set `inbox.url`, such as \"sqlite:/var/lib/hookwarden/inbox.db\", or use `direct`";
            self.problems.push(Problem::error(&["sources", name, "delivery"], text).with_hint(hint));
        }
        settings.delivery(there && open)
    }

    /// What an unsigned request is worth: that it comes from a known network, or with a known certificate.
    fn unsigned(&self, settings: &SourceSettings) -> Assurance {
        let client_ca = self.settings.server.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
        // A listener without TLS stays so until a restart, whatever the file says by now.
        let served = self.previous.is_none_or(|gateway| gateway.tls);
        if settings.allow.is_some() || (client_ca && served) { Assurance::Network } else { Assurance::None }
    }

    /// Both become a URI reference that names where events come from.
    fn origin_fits(&mut self, name: &str, settings: &SourceSettings) -> bool {
        let fits = |text: &Option<String>, more: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || more.as_bytes().contains(&byte);
            text.as_ref().is_none_or(|text| !text.is_empty() && text.bytes().all(allowed))
        };
        let tenant = fits(&settings.tenant, "-._~");
        let source = fits(&settings.source, "-._~:/?#[]@!$&'()*+,;=%");
        if !tenant {
            self.error(&["sources", name, "tenant"], "expected letters, digits and `-._~`");
        }
        if !source {
            self.error(&["sources", name, "source"], "expected a URI reference (RFC 3986)");
        }
        tenant && source
    }

    /// Two sources of one vendor and tenant in front of one app are one to deduplication.
    pub(super) fn warn_of_shared(&mut self, sources: &HashMap<Box<str>, Arc<Source>>) {
        let mut seen: BTreeMap<u128, &str> = BTreeMap::new();
        let mut sources: Vec<&Arc<Source>> = sources.values().collect();
        sources.sort_by_key(|source| &source.name);
        for source in sources {
            for route in &source.routes {
                let other = *seen.entry(route.scope).or_insert(&source.name);
                if other != &*source.name {
                    let text = format!(
                        "shares its events with source `{other}`: what came through one is a duplicate for the other"
                    );
                    let problem = Problem::warning(&["sources", &source.name, "tenant"], text);
                    self.problems
                        .push(problem.with_hint("right for two webhooks of one tenant; else set `tenant`"));
                }
            }
        }
    }

    fn path(&mut self, name: &str, settings: &SourceSettings) -> Option<String> {
        let path = settings.path_of(name);
        let plain = path.starts_with('/')
            && path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
        if !plain {
            self.error(
                &["sources", name, "path"],
                "expected a path such as `/in/sendauth`, without query or fragment",
            );
        }
        plain.then_some(path)
    }

    fn filters(&mut self, key: &[&str], patterns: Option<&[String]>) -> Option<TypeFilter> {
        let Some(patterns) = patterns else { return Some(TypeFilter::all()) };
        if patterns.is_empty() {
            self.error(key, "there is no type: every event would be dropped");
            return None;
        }
        let filter = TypeFilter::parse(patterns);
        if let Err(position) = &filter {
            let position = position.to_string();
            let problem = Problem::error(&[key, &[&position]].concat(), "no event type is called so");
            let hint = "`hookwarden schema event` lists the types; a prefix ends in `.*`";
            self.problems.push(problem.with_hint(hint));
        }
        filter.ok()
    }

    fn verifier(
        &mut self,
        name: &str,
        settings: &SourceSettings,
        file: &VendorFile,
        path: &str,
    ) -> Option<Verifier> {
        let table = ["sources", name];
        let fields = settings.into();
        let read = secrets::read(&fields, &table, self.env);
        let (secrets, warnings) = read.map_err(|problems| self.problems.extend(problems)).ok()?;
        self.problems.extend(warnings);
        let url = self.settings.base_url().map(|base| format!("{base}{path}"));
        let verify = settings.verify.over(&file.verify);
        if verify.scheme == Some(SchemeName::None) && !secrets.is_empty() {
            self.error(
                &["sources", name, "verify"],
                "a secret is set, and `scheme = \"none\"` does not look at it",
            );
        }
        if settings.allow_weak != Some(true) {
            self.weak(&table, &fields, &verify, &secrets);
        }
        match verify.compile(&secrets, url.as_deref()) {
            Ok(verifier) => {
                if settings.max_age.is_some() && verifier.assurance() < Assurance::SignedWeak {
                    let text = "the vendor does not sign the body, so no time in it is looked at: nothing is refused";
                    self.problems.push(Problem::warning(&["sources", name, "max_age"], text));
                }
                Some(verifier)
            }
            Err(faults) => {
                for fault in faults {
                    self.fault(&table, &fields, fault);
                }
                None
            }
        }
    }

    /// Refuses secrets whose spelling is long and whose key is not.
    fn weak(
        &mut self,
        table: &[&str],
        fields: &secrets::SecretFields<'_>,
        verify: &scheme::Settings,
        secrets: &[Secret],
    ) {
        for (position, secret) in secrets.iter().enumerate() {
            let Some(bytes) = verify.key_bytes(secret).filter(|bytes| (1..SECRET_BYTES_MIN).contains(bytes))
            else {
                continue;
            };
            let text = format!(
                "the secret stands for {bytes} bytes, fewer than {SECRET_BYTES_MIN}; take a longer one, or this one with \
                 `allow_weak = true`"
            );
            self.fault(table, fields, scheme::Fault { key: "secret", text, secret_index: Some(position) });
        }
    }

    fn fault(&mut self, table: &[&str], fields: &secrets::SecretFields<'_>, fault: scheme::Fault) {
        let position = fault.secret_index.map(|position| position.to_string());
        let key: Vec<&str> = match (fault.key, &position) {
            ("secret", Some(position)) if fields.given() == "secrets" => vec!["secrets", position],
            ("secret", _) => vec![fields.given()],
            (key, _) => vec!["verify", key],
        };
        self.error(&[table, &key].concat(), fault.text);
    }

    fn warn_of_assurance(&mut self, name: &str, assurance: Assurance) {
        let text = match assurance {
            Assurance::Signed | Assurance::Network => return,
            Assurance::SignedWeak => {
                "the vendor's signature is weak (a plain hash); hookwarden makes it safe by refusing what could be \
                 extended, yet whoever has a delivery can try out secrets on it: use a long random one"
            }
            Assurance::SharedSecret => {
                "the vendor does not sign the body: who sees one delivery can forge any; add `allow` if the vendor \
                 names its addresses"
            }
            Assurance::None => "nothing is verified: anyone who finds the path can send anything",
        };
        self.problems.push(Problem::warning(&["sources", name, "vendor"], text));
    }

    fn routes(
        &mut self,
        name: &str,
        settings: &SourceSettings,
        plan: Option<&Plan>,
    ) -> Option<Vec<(TypeFilter, String)>> {
        let routes = match (&settings.upstream, &settings.routes) {
            (Some(_), Some(_)) => {
                self.error(
                    &["sources", name, "routes"],
                    "`upstream` and `routes` exclude each other: keep one",
                );
                return None;
            }
            (None, None) => {
                let problem = Problem::error(&["sources", name, "upstream"], "`upstream` is missing");
                let hint = "the name of a table [upstreams.NAME]: who gets this source's events";
                self.problems.push(problem.with_hint(hint));
                return None;
            }
            (Some(upstream), None) => {
                vec![(Some(TypeFilter::all()), upstream.clone(), vec!["upstream".to_owned()])]
            }
            (None, Some(routes)) => (routes.iter().enumerate())
                .map(|(position, route)| {
                    let position = position.to_string();
                    let filter =
                        self.filters(&["sources", name, "routes", &position, "types"], Some(&route.types));
                    (
                        filter,
                        route.upstream.clone(),
                        vec!["routes".to_owned(), position, "upstream".to_owned()],
                    )
                })
                .collect(),
        };
        if routes.is_empty() {
            self.error(&["sources", name, "routes"], "there is no route: every event would be dropped");
            return None;
        }
        let mut known = Vec::new();
        for (filter, upstream, key) in routes {
            let key: Vec<&str> =
                ["sources", name].into_iter().chain(key.iter().map(String::as_str)).collect();
            self.upstream_exists(&upstream, &key);
            let raw = self.apps.get(&upstream).is_some_and(|app| app.format == Format::Raw);
            if raw && plan.is_some_and(Plan::splits) {
                let text = "this upstream wants the raw body, and the vendor's deliveries hold several events: \
                            choose the format `cloudevents`";
                self.error(&key, text);
            }
            known.push((filter?, upstream));
        }
        known.iter().all(|(_, upstream)| self.apps.contains_key(upstream)).then_some(known)
    }

    /// Warns if the vendor has events that the filters let through and that fit no route.
    fn warn_of_missed(
        &mut self,
        name: &str,
        filters: &TypeFilter,
        routes: &[(TypeFilter, String)],
        plan: &Plan,
    ) {
        let goes_somewhere = |event_type| routes.iter().any(|(types, _)| types.lets(event_type));
        if plan.types().into_iter().all(|known| !filters.lets(known) || goes_somewhere(known)) {
            return;
        }
        let text = "events that fit no route go nowhere, and their vendor hears that they were taken";
        let hint = "end with a route of `types = [\"*\"]`, or name in `filters` what is wanted";
        self.problems.push(Problem::warning(&["sources", name, "routes"], text).with_hint(hint));
    }

    fn upstream_exists(&mut self, upstream: &str, key: &[&str]) {
        if self.settings.upstreams.contains_key(upstream) {
            return;
        }
        let known: Vec<&str> = self.settings.upstreams.keys().map(String::as_str).collect();
        let hint = match (similar(upstream, &known), known.is_empty()) {
            (Some(hint), _) => hint,
            (None, true) => "add a table [upstreams.NAME] with `url` and a secret".to_owned(),
            (None, false) => format!("known are {}", known.join(", ")),
        };
        self.problems.push(Problem::error(key, "there is no such upstream").with_hint(hint));
    }

    fn scoped(&self, name: &str, origin: &Origin, routes: Vec<(TypeFilter, String)>) -> Vec<Route> {
        let apps = &self.apps;
        let route = |(types, upstream): (TypeFilter, String)| {
            let scope = Recipe::new(&origin.vendor).part(Some(&origin.source)).part(Some(&upstream));
            Some(Route {
                types,
                app: Arc::clone(apps.get(&upstream)?),
                scope: scope.id().key(),
                metrics: RouteMetrics::new(&self.shared.metrics, name, &upstream),
            })
        };
        routes.into_iter().filter_map(route).collect()
    }

    fn origin(&self, settings: &SourceSettings, vendor: &str, tenant: &str) -> Origin {
        let base = self.settings.base_url();
        let own = || match base {
            Some(base) => format!("{base}/{vendor}/{tenant}"),
            None => format!("/hookwarden/{vendor}/{tenant}"),
        };
        Origin {
            source: settings.source.clone().unwrap_or_else(own),
            type_prefix: self.settings.type_prefix.clone(),
            dataschema: base.map(|base| format!("{base}{}", crate::identity::SCHEMA_PATH)),
            vendor: vendor.to_owned(),
        }
    }

    /// The source's budget; the one in use, if the rate is the same.
    fn budget(&self, name: &str, rate: Rate) -> Option<Arc<Budget>> {
        if rate == Rate::Unlimited {
            return None;
        }
        let known = self.in_use(name).and_then(|source| source.budget.clone());
        let known = known.filter(|budget| budget.rate() == rate);
        known.or_else(|| Some(Arc::new(Budget::new(rate, "source", &self.shared.clock))))
    }

    /// The source of this name in the configuration before this one.
    fn in_use(&self, name: &str) -> Option<&Source> {
        let mut sources = self.previous?.sources.values();
        sources.find(|source| *source.name == *name).map(AsRef::as_ref)
    }

    fn warn(&mut self, name: &str, settings: &SourceSettings) {
        if settings.enforce == Some(false) {
            let text = "report only: what fails verification is forwarded, with `hwassurance: none`";
            self.problems.push(Problem::warning(&["sources", name, "enforce"], text));
        }
        for position in 0..settings.expose_secrets.as_ref().map_or(0, Vec::len) {
            let position = position.to_string();
            let text = "this member goes to the app as it is, though it looks like a secret";
            self.problems.push(Problem::warning(&["sources", name, "expose_secrets", &position], text));
        }
    }
}

fn options(settings: &SourceSettings) -> Options {
    Options {
        event: settings.event.clone(),
        expose_secrets: settings.expose_secrets.clone().unwrap_or_default(),
        extra_redactions: settings.extra_redactions.clone().unwrap_or_default(),
        severities: settings.severity_overrides.clone().unwrap_or_default(),
        include_raw: settings.include_raw.unwrap_or(false),
    }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::OK)
}

/// How long a request of this vendor may take.
fn time_budget(file: &VendorFile, request_timeout: Duration) -> Duration {
    file.response.time_budget.map_or(request_timeout, |budget| budget.0.min(request_timeout))
}
