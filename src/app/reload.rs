//! Reloads: everything is read, checked and built beside what runs, then swapped in whole. What is wrong changes nothing.

use std::{fmt, path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use tokio::{
    task::{JoinError, spawn_blocking},
    time::sleep,
};

use super::{Load, build, kept, logging};
use crate::{
    admin::{Admin, ApiAccess},
    assemble::Assembly,
    config::{Loaded, Problem, Report, Settings, watch::Fingerprint},
    courier::Couriers,
    gateway::Gateway,
    server::Tls,
    units::Span,
};

/// Swaps configurations.
pub(super) struct Reloader {
    load: Load,
    /// What the process was started with: listeners and the like stay so until a restart.
    started: Settings,
    /// Between two looks.
    poll: Span,
    gateway: Arc<ArcSwap<Gateway>>,
    tls: Option<Tls>,
    admin: Admin,
    couriers: Option<Couriers>,
    /// What is looked at for changes: the files of the configuration that was read last, in use or refused. A file that
    /// it misses may come later.
    files: Vec<PathBuf>,
    seen: Option<Fingerprint>,
}

impl Reloader {
    pub(super) fn new(
        load: Load,
        current: Loaded,
        gateway: Arc<ArcSwap<Gateway>>,
        tls: Option<Tls>,
        admin: Admin,
        couriers: Option<Couriers>,
    ) -> Self {
        let files = current.files();
        let seen = Some(Fingerprint::of(&files));
        let poll = current.settings.reload.poll;
        let started = current.settings;
        Self { load, started, poll, gateway, tls, admin, couriers, files, seen }
    }

    /// Returns when a file the configuration depends on has other contents than at the last reload.
    pub(super) async fn changed(&self) {
        loop {
            sleep(self.poll.0).await;
            let files = self.files.clone();
            let now = spawn_blocking(move || Fingerprint::of(files)).await.ok();
            if now.is_some() && now != self.seen {
                return;
            }
        }
    }

    /// Reloads. What was wrong comes back as text, and is logged and counted.
    pub(super) async fn reload(&mut self) -> Result<String, String> {
        let metrics = Arc::clone(&self.gateway.load().shared.metrics);
        let built = self.read().await;
        metrics.reloaded(matches!(built, Ok(Ok(_))));
        match built {
            Ok(Ok((loaded, assembly))) => {
                let report = self.take(&loaded, assembly);
                logging::problems(&report);
                tracing::info!("configuration reloaded");
                Ok(report.to_string())
            }
            Ok(Err(report)) => {
                logging::problems(&report);
                tracing::error!("the new configuration is not used: it has errors; the old one stays");
                Err(report.to_string())
            }
            Err(_) => {
                tracing::error!("reading the new configuration failed; the old one stays");
                Err("internal error".to_owned())
            }
        }
    }

    /// Reads and builds, and remembers what was read.
    async fn read(&mut self) -> Result<Result<(Loaded, Assembly), Report>, JoinError> {
        let before = self.files.clone();
        // Looked at before it is read: what changes meanwhile is seen at the next look.
        self.seen = spawn_blocking(move || Fingerprint::of(before)).await.ok();
        let (load, previous) = (Arc::clone(&self.load), self.gateway.load_full());
        let before = self.files.clone();
        let (named, built) = spawn_blocking(move || {
            let loaded = match load() {
                Ok(loaded) => loaded,
                Err(report) => return (None, Err(report)),
            };
            // Files that are named only now have not been looked at yet.
            let named = Some(loaded.files()).filter(|files| *files != before);
            let named = named.map(|files| (Fingerprint::of(&files), files));
            let built = build(&loaded, &previous.shared, Some(&previous));
            (named, built.map(|assembly| (loaded, assembly)))
        })
        .await?;
        if let Some((seen, files)) = named {
            (self.seen, self.files) = (Some(seen), files);
        }
        Ok(built)
    }

    /// From now on, this configuration is in use. What is unwise about it.
    fn take(&mut self, loaded: &Loaded, mut assembly: Assembly) -> Report {
        assembly.warnings.extend(fixed(&self.started, &loaded.settings));
        if let (Some(tls), Some(new)) = (&self.tls, &assembly.tls) {
            tls.replace(new);
        }
        let api = loaded.settings.admin.api;
        self.admin.let_in(ApiAccess::new(api, assembly.admin_token.as_ref()));
        let entries_max = usize::try_from(loaded.settings.store.entries_max).unwrap_or(usize::MAX);
        assembly.gateway.shared.store.resize(entries_max);
        if let Some(inbox) = assembly.gateway.shared.inbox() {
            inbox.set_bounds(&loaded.settings.inbox, kept(&loaded.settings));
        }
        self.gateway.store(Arc::new(assembly.gateway));
        if let Some(couriers) = &self.couriers {
            couriers.reloaded();
        }
        self.poll = loaded.settings.reload.poll;
        loaded.report(assembly.warnings)
    }
}

/// What a reload does not change: listeners, and what is shared by all requests.
fn fixed(old: &Settings, new: &Settings) -> Vec<Problem> {
    let server = |settings: &Settings| crate::server::Settings {
        body_bytes_max: old.server.body_bytes_max,
        body_timeout: old.server.body_timeout,
        body_rate_min: old.server.body_rate_min,
        request_timeout: old.server.request_timeout,
        trusted_proxies: Vec::new(),
        tls: None,
        ..settings.server.clone()
    };
    let has_tls = |settings: &Settings| settings.server.tls.is_some();
    let bytes = |settings: &Settings| settings.limits.inflight_bytes_max;
    let admin = |settings: &Settings| settings.admin.listen;
    let log = |settings: &Settings| (settings.log.format, settings.log.level.clone());
    [
        ("server", server(old) != server(new) || has_tls(old) != has_tls(new)),
        ("admin", admin(old) != admin(new)),
        ("limits", bytes(old) != bytes(new)),
        ("inbox", old.inbox.url != new.inbox.url),
        ("log", log(old) != log(new)),
    ]
    .into_iter()
    .filter(|(_, changed)| *changed)
    .map(|(table, _)| Problem::warning(&[table], "a change here takes a restart"))
    .collect()
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}
