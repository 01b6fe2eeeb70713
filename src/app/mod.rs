//! The program as a whole: listeners, reloads, signals, the end.

mod log_json;
mod log_writer;
pub mod logging;
mod reload;

use std::{
    io,
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt};

use self::reload::Reloader;
use crate::{
    admin::{Admin, ApiAccess},
    assemble::{Assembly, assemble},
    clock::Clock,
    config::{Loaded, Report, Settings, Severity},
    courier::Couriers,
    gateway::{Gateway, Shared, SharedBounds},
    inbox::{Inbox, OpenError, mount},
    server::{self, Bounds},
    stack::stack,
};

/// Reads the configuration, again for each reload.
pub type Load = Arc<dyn Fn() -> Result<Loaded, Report> + Send + Sync>;

/// Connections the admin listener takes at once.
const ADMIN_CONNECTIONS_MAX: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// How long the admin listener may take to answer what is running when everything else has ended.
const ADMIN_GRACE: Duration = Duration::from_secs(1);

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Config(Report),
    #[error("cannot listen on {address} ({key}): {error}")]
    Bind { key: &'static str, address: SocketAddr, error: io::Error },
    #[error("cannot hear signals: {0}")]
    Signals(io::Error),
    #[error("{0} (inbox.url)")]
    Inbox(OpenError),
}

/// A gateway that serves.
#[derive(Debug)]
pub struct Running {
    /// Where vendors reach it; the port that was chosen, if the configuration says 0.
    pub listen: SocketAddr,
    /// Health, metrics, API.
    pub admin: SocketAddr,
    reloader: Reloader,
    reloads: mpsc::Receiver<crate::admin::ReloadRequest>,
    signals: Signals,
    listeners: Listeners,
}

/// What must be stopped.
#[derive(Debug)]
struct Listeners {
    shared: Arc<Shared>,
    couriers: Option<Couriers>,
    drain_delay: Duration,
    shutdown_grace: Duration,
    stop_server: CancellationToken,
    stop_admin: CancellationToken,
    server: JoinHandle<()>,
    admin_server: JoinHandle<()>,
}

/// Looks at a configuration as the start would: what is wrong, or what is unwise.
///
/// # Errors
///
/// Everything that keeps the gateway from starting, and the warnings with it.
pub fn check(loaded: &Loaded) -> Result<Report, Report> {
    let shared = shared(&loaded.settings);
    build(loaded, &shared, None).map(|assembly| loaded.report(assembly.warnings))
}

/// Puts the gateway together, or tells everything that is wrong: in reading the configuration and in what it means.
fn build(loaded: &Loaded, shared: &Arc<Shared>, previous: Option<&Gateway>) -> Result<Assembly, Report> {
    if let Some(previous) = previous {
        // First without what is shared: a configuration that is refused leaves no trace in the metrics.
        build(loaded, &self::shared(&loaded.settings), None)?;
        return assemble(&loaded.settings, &env, shared, Some(previous))
            .map_err(|problems| loaded.report(problems));
    }
    match assemble(&loaded.settings, &env, shared, previous) {
        Ok(assembly) if loaded.problems.is_empty() => Ok(assembly),
        // What is unwise about half a configuration is of no interest.
        Ok(_) => Err(loaded.report(Vec::new())),
        Err(mut problems) => {
            problems.retain(|problem| problem.severity == Severity::Error || loaded.problems.is_empty());
            Err(loaded.report(problems))
        }
    }
}

/// Reads the configuration, opens the listeners and serves.
///
/// # Errors
///
/// A bad configuration, or an address that can't be listened on.
pub async fn start(load: Load) -> Result<Running, StartError> {
    let loaded = load().map_err(StartError::Config)?;
    let settings = &loaded.settings;
    let shared = shared(settings);
    let assembly = build(&loaded, &shared, None).map_err(StartError::Config)?;
    let Assembly { gateway, tls, admin_token, warnings } = assembly;
    logging::problems(&loaded.report(warnings));
    // From here on: one that comes before anybody waits for it is kept.
    let signals = Signals::new().map_err(StartError::Signals)?;
    let public = bind("server.listen", settings.server.listen).await?;
    let admin = bind("admin.listen", settings.admin.listen).await?;
    let gateway = Arc::new(ArcSwap::from_pointee(gateway));
    let couriers = open_inbox(settings, &gateway).await?;
    let (reload_sender, reloads) = mpsc::channel(1);
    let api = ApiAccess::new(settings.admin.api, admin_token.as_ref());
    let admin_service = Admin::new(Arc::clone(&shared), Arc::clone(&gateway), api, reload_sender);
    let (stop_server, stop_admin) = (CancellationToken::new(), CancellationToken::new());
    let (listen, admin_listen) =
        (address(&public, settings.server.listen), address(&admin, settings.admin.listen));
    let listeners = Listeners {
        drain_delay: settings.server.drain_delay.0,
        shutdown_grace: settings.server.shutdown_grace.0,
        server: tokio::spawn({
            let gateway = Arc::clone(&gateway);
            let bounds = Bounds::from(&settings.server);
            // Each request gets the stack of the configuration it began with.
            server::serve(public, tls.clone(), bounds, stop_server.clone(), move |peer, request| {
                let gateway = gateway.load_full();
                async move {
                    let mut stack = stack(&gateway);
                    let Ok(ready) = stack.ready().await;
                    let Ok(answer) = ready.call((peer, request)).await;
                    answer
                }
            })
        }),
        admin_server: tokio::spawn({
            let admin_service = admin_service.clone();
            let bounds =
                Bounds { connections_max: ADMIN_CONNECTIONS_MAX.get(), ..Bounds::from(&settings.server) };
            server::serve(admin, None, bounds, stop_admin.clone(), move |peer, request| {
                let admin = admin_service.clone();
                async move { admin.answer(peer, request).await }
            })
        }),
        couriers: couriers.clone(),
        shared,
        stop_server,
        stop_admin,
    };
    let reloader = Reloader::new(load, loaded, gateway, tls, admin_service, couriers);
    tracing::info!(%listen, admin = %admin_listen, version = env!("CARGO_PKG_VERSION"), "serving");
    Ok(Running { listen, admin: admin_listen, reloader, reloads, signals, listeners })
}

/// Opens the inbox, if there is to be one, and starts its couriers.
async fn open_inbox(
    settings: &Settings,
    gateway: &Arc<ArcSwap<Gateway>>,
) -> Result<Option<Couriers>, StartError> {
    let Some(url) = &settings.inbox.url else { return Ok(None) };
    let current = gateway.load_full();
    let shared = &current.shared;
    let errors = shared.metrics.inbox_errors.clone();
    let inbox = Inbox::open(&settings.inbox, url, kept(settings), &shared.clock, errors)
        .map_err(StartError::Inbox)?;
    let inbox = shared.inbox.get_or_init(|| Arc::new(inbox));
    let windows = inbox.windows().await.map_err(|error| {
        let path = url.path.display().to_string();
        StartError::Inbox(OpenError::Engine { path, error })
    })?;
    shared.store.reopen_windows(windows);
    for (upstream, tally) in inbox.stats().await.unwrap_or_default().tally {
        let waiting = tally.ready + tally.retrying;
        if waiting > 0 && !current.apps.contains_key(&upstream) {
            tracing::warn!(upstream, waiting, "events wait for an upstream that is not configured any more");
        }
    }
    let drain = mount::ephemeral(&url.path).is_some();
    Ok(Some(Couriers::start(Arc::clone(inbox), Arc::clone(gateway), drain)))
}

/// How long delivered events are kept: their ids count for as long as the longest `dedup_window`.
fn kept(settings: &Settings) -> Duration {
    let windows = settings.sources.values().map(|source| source.dedup_window().0);
    windows.chain([settings.inbox.retention.0]).max().unwrap_or_default()
}

impl Running {
    /// Serves until SIGTERM or SIGINT, then drains. SIGHUP, changed files and the API reload the configuration. A
    /// second signal ends at once.
    pub async fn until_signal(self) {
        let Self { mut reloader, mut reloads, signals, listeners, .. } = self;
        let Signals { mut hangup, mut stop, _file_size } = signals;
        let reload = async {
            loop {
                tokio::select! {
                    _ = hangup.recv() => drop(reloader.reload().await),
                    () = reloader.changed() => drop(reloader.reload().await),
                    Some(request) = reloads.recv() => request.0.send(reloader.reload().await).unwrap_or_default(),
                }
            }
        };
        // A reload that hangs, on a file system that does, must not keep a stop from being heard.
        tokio::select! {
            () = stop.heard() => {}
            () = reload => {}
        }
        tracing::info!("stopping: new work until `server.drain_delay` is over, then running requests finish");
        tokio::select! {
            () = listeners.stop() => tracing::info!("stopped"),
            () = stop.heard() => tracing::warn!("stopped at once, by a second signal"),
        }
    }

    /// Ends gracefully: not ready at once, new work for `drain_delay`, then running requests within `shutdown_grace`.
    pub async fn stop(self) {
        self.listeners.stop().await;
    }
}

impl Listeners {
    async fn stop(self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        sleep(self.drain_delay).await;
        self.shared.cut_off.set(Instant::now() + self.shutdown_grace).unwrap_or_default();
        self.stop_server.cancel();
        let detached = &self.shared.detached;
        detached.close();
        let finish = async {
            self.server.await.unwrap_or_default();
            detached.wait().await;
            if let Some(couriers) = &self.couriers {
                couriers.stop().await;
            }
        };
        if timeout(self.shutdown_grace, finish).await.is_err() {
            tracing::warn!(grace = ?self.shutdown_grace, "shutdown_grace is over; what still runs is cut off");
        }
        self.stop_admin.cancel();
        drop(timeout(ADMIN_GRACE, self.admin_server).await);
        if let Some(inbox) = self.shared.inbox().map(Arc::clone) {
            // What has been given to it is written before the file is closed.
            spawn_blocking(move || inbox.close()).await.unwrap_or_default();
        }
    }
}

/// The signals that mean something here.
#[derive(Debug)]
struct Signals {
    hangup: Signal,
    stop: Stop,
    /// Heard, a write past the limit of a file's size (`ulimit -f`) is an error; unheard, it ends the process.
    _file_size: Option<Signal>,
}

#[derive(Debug)]
struct Stop {
    term: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let stop =
            Stop { term: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
        // SIGXFSZ, on Linux of every architecture but MIPS.
        let file_size = signal(SignalKind::from_raw(25)).ok();
        Ok(Self { hangup: signal(SignalKind::hangup())?, stop, _file_size: file_size })
    }
}

impl Stop {
    async fn heard(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn env(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

fn shared(settings: &Settings) -> Arc<Shared> {
    Shared::new(
        Clock::system(),
        &SharedBounds {
            entries_max: usize::try_from(settings.store.entries_max).unwrap_or(usize::MAX),
            arrivals_max: settings.server.connections_max.get().max(settings.server.requests_max.get()),
            requests_max: settings.server.requests_max.get(),
            body_bytes_max: settings.limits.inflight_bytes_max.bytes(),
        },
    )
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|error| StartError::Bind { key, address, error })
}

fn address(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}
