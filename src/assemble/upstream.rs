//! Upstreams: where they are, how they are reached, what signs for them.

use std::{path::Path, sync::Arc};

use super::{Apps, Assembler};
use crate::{
    config::{Problem, secrets},
    file,
    secret::{Secret, serialised},
    source::App,
    units::Size,
    upstream::{Order, Roots, Settings, Signer, Target, Upstream},
};

/// Largest file of certificate authorities.
const CA_FILE_BYTES_MAX: Size = Size::mib(1);

impl Assembler<'_> {
    pub(super) fn apps(&mut self) -> Apps {
        let mut apps = Apps::new();
        for (name, settings) in &self.settings.upstreams {
            let target = self.target(name, settings);
            let signer = self.signer(name, settings);
            let roots = self.roots(name, settings);
            if let (Some(target), Some(signer), Some(roots)) = (target, signer, roots) {
                let clock = self.shared.clock.clone();
                let upstream = Upstream::open(name, target, roots, settings.options(), clock);
                let in_use = self.app_in_use(name);
                let upstream = upstream.sharing(in_use.map(|app| &app.upstream));
                let format = settings.format.unwrap_or_default();
                let (schedule, ordered) = (settings.schedule(), settings.order == Some(Order::Partition));
                apps.insert(name.clone(), Arc::new(App { upstream, format, signer, schedule, ordered }));
            }
        }
        apps
    }

    /// The app of that name that events go to now.
    fn app_in_use(&self, name: &str) -> Option<&App> {
        self.previous?.apps.get(name).map(AsRef::as_ref)
    }

    fn target(&mut self, name: &str, settings: &Settings) -> Option<Target> {
        let key = ["upstreams", name, "url"];
        let Some(url) = &settings.url else {
            let hint = "`http://…`, `https://…`, or `unix:/path/of/socket:/uri-path`";
            self.problems.push(Problem::error(&key, "`url` is missing").with_hint(hint));
            return None;
        };
        url.parse().map_err(|error: crate::upstream::TargetError| self.error(&key, error.to_string())).ok()
    }

    fn signer(&mut self, name: &str, settings: &Settings) -> Option<Signer> {
        let table = ["upstreams", name];
        let fields = settings.into();
        let secrets = match secrets::read(&fields, &table, self.env) {
            Ok((secrets, warnings)) => {
                self.problems.extend(warnings);
                secrets
            }
            Err(problems) => {
                self.problems.extend(problems);
                return None;
            }
        };
        if secrets.is_empty() {
            let problem = Problem::error(&["upstreams", name, "secret_env"], "a signing secret is missing");
            let hint = "every request to the app is signed: set `secret_env`, `secret_file` or `secrets`";
            self.problems.push(problem.with_hint(hint));
            return None;
        }
        let ambiguous = |secret: &Secret| {
            serialised(secret.expose()).is_none_or(|encoded| !encoded.len().is_multiple_of(4))
        };
        if secrets.iter().any(ambiguous) {
            let text = "Standard Webhooks libraries may read this secret otherwise, and then the app refuses every delivery: \
                        without `whsec_` it is taken as it is here, and some libraries want the `=` of base64";
            let problem = Problem::warning(&["upstreams", name, fields.given()], text);
            self.problems.push(problem.with_hint("make one with: echo \"whsec_$(openssl rand -base64 32)\""));
        }
        match Signer::new(&secrets) {
            Ok(signer) => Some(signer),
            Err((position, undecodable)) => {
                let member = fields.given();
                let position = position.to_string();
                let mut key = vec!["upstreams", name, member];
                key.extend((member == "secrets").then_some(position.as_str()));
                self.error(&key, undecodable.to_string());
                None
            }
        }
    }

    fn roots(&mut self, name: &str, settings: &Settings) -> Option<Roots> {
        let key = ["upstreams", name, "ca_file"];
        let extra = match &settings.ca_file {
            None => None,
            Some(path) => match file::read(Path::new(path), CA_FILE_BYTES_MAX) {
                Ok(bytes) => Some(bytes),
                Err(error) => {
                    self.error(&key, format!("cannot read `{path}`: {error}"));
                    return None;
                }
            },
        };
        Roots::new(extra.as_deref()).map_err(|error| self.error(&key, error.to_string())).ok()
    }
}
