//! The inbox's own threads: one writes, in groups; others read, and one tidies. A database blocks; the runtime must not.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use prometheus_client::metrics::counter::Counter;
use tokio::{runtime::Handle, sync::oneshot};

use super::{
    engine::{Engine, EngineError, Write, Written},
    handoff::Handoff,
};
use crate::clock::Clock;

/// Most writes in one transaction.
const GROUP_MAX: usize = 256;
/// Writes that came at once from which on more are likely to come.
const CROWD: usize = 8;
/// Longest wait of an attempt's end for an append to share its sync: what a crash may repeat grows by as much.
const COMPANY_WAIT: Duration = Duration::from_millis(3);
/// How often the writer looks whether there is something to forget, and, when the disk fails, whether it is back.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Deliveries forgotten beside a group of writes: more than come in, few enough for no one to wait.
const FORGOTTEN_MIN: usize = 32;
/// Of `inbox.bytes_max`, what is in use when the contents of settled events go: nine tenths.
const STRIP_AT: (u64, u64) = (9, 10);
/// And below what a full inbox takes events again.
const ROOM_AT: (u64, u64) = (19, 20);

type Answer = oneshot::Sender<Result<Written, EngineError>>;
type Question = Box<dyn FnOnce(&mut dyn Engine) + Send>;

/// A thread that asks a database.
#[derive(Debug)]
pub(super) struct Reader(Worker<Question>);

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Writer {
    worker: Worker<(Write, Answer)>,
    tidying: Mutex<Option<JoinHandle<()>>>,
    health: Arc<Health>,
}

/// A thread and what it is to do. Without a sender it comes to its end.
struct Worker<T> {
    sender: Mutex<Option<Sender<T>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How the inbox is.
#[derive(Debug, Default)]
pub struct Health {
    failing: Mutex<Option<EngineError>>,
    /// Times it began to fail.
    errors: Counter,
    keep_ms: AtomicU64,
}

// === impl Worker ===

impl<T: Send + 'static> Worker<T> {
    fn start(name: &str, run: impl FnOnce(&Receiver<T>) + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(&receiver))?;
        Ok(Self { sender: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    fn send(&self, work: T) {
        // A worker that has stopped drops the work, and with it the sender of its answer.
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sender) = sender {
            sender.send(work).unwrap_or_default();
        }
    }

    /// Lets it finish what it was given.
    fn stop(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        join(&self.thread);
    }
}

impl<T> fmt::Debug for Worker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

// === impl Reader ===

impl Reader {
    pub(super) fn start(name: &str, mut engine: Box<dyn Engine>) -> io::Result<Self> {
        let run = move |questions: &Receiver<Question>| {
            questions.iter().for_each(|question| question(&mut *engine))
        };
        Worker::start(name, run).map(Self)
    }

    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut dyn Engine) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let (answer, told) = oneshot::channel();
        self.0.send(Box::new(move |engine| drop(answer.send(question(engine)))));
        told.await.unwrap_or_else(|_| Err(closed()))
    }

    pub(super) fn stop(&self) {
        self.0.stop();
    }
}

fn closed() -> EngineError {
    EngineError::Other("the inbox is closed".to_owned())
}

// === impl Writer ===

impl Writer {
    pub(super) fn start(
        engine: Box<dyn Engine>,
        mut tidying: Box<dyn Engine>,
        clock: &Clock,
        health: Health,
        handoff: Arc<Handoff>,
    ) -> io::Result<Self> {
        let health = Arc::new(health);
        // It ends when the writer does.
        let (tidy, wanted) = sync_channel::<()>(1);
        let tidying = thread::Builder::new().name("inbox-tidy".to_owned()).spawn(move || {
            for () in wanted {
                if let Err(error) = tidying.tidy() {
                    tracing::warn!(%error, "the inbox's log could not be moved to its file");
                }
            }
        })?;
        let scribe = Scribe {
            engine,
            clock: clock.clone(),
            health: Arc::clone(&health),
            handoff,
            runtime: Handle::try_current().ok(),
            tidy,
            look_at: clock.elapsed() + LOOK_INTERVAL,
            prune: true,
            strip: false,
            full: false,
            unforgettable: false,
            broken: None,
        };
        let worker = Worker::start("inbox-write", |work| scribe.run(work))?;
        Ok(Self { worker, tidying: Mutex::new(Some(tidying)), health })
    }

    /// Writes; when this returns, it is on the disk.
    pub(super) async fn write(&self, write: Write) -> Result<Written, EngineError> {
        if let (Write::Append(_), Some(error)) = (&write, self.health.failing()) {
            return Err(error);
        }
        let (answer, told) = oneshot::channel();
        self.worker.send((write, answer));
        told.await.unwrap_or_else(|_| {
            self.health.ill(closed());
            Err(closed())
        })
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Writes what it was given. Whoever closes the file last moves the log into it.
    pub(super) fn stop(&self) {
        self.worker.stop();
        join(&self.tidying);
    }
}

fn join(thread: &Mutex<Option<JoinHandle<()>>>) {
    let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
    thread.map(JoinHandle::join).transpose().map(drop).unwrap_or_default();
}

/// The writer, on its thread.
struct Scribe {
    engine: Box<dyn Engine>,
    clock: Clock,
    health: Arc<Health>,
    handoff: Arc<Handoff>,
    /// Where those who are answered wait, if that is known.
    runtime: Option<Handle>,
    tidy: SyncSender<()>,
    /// When to look again, on the clock.
    look_at: Duration,
    /// There may be something to forget, or to strip.
    prune: bool,
    strip: bool,
    /// `inbox.bytes_max` is reached.
    full: bool,
    /// Forgetting met damage.
    unforgettable: bool,
    /// What failed, until the database has been opened anew.
    broken: Option<EngineError>,
}

impl Scribe {
    fn run(mut self, work: &Receiver<(Write, Answer)>) {
        loop {
            match work.recv_timeout(LOOK_INTERVAL) {
                Ok(first) => {
                    let mut group = vec![first];
                    gather(&mut group, work);
                    wait_for_company(&mut group, work);
                    let (writes, answers) = group.into_iter().unzip();
                    self.group(writes, answers);
                    // Under load, too.
                    if self.clock.elapsed() >= self.look_at {
                        self.look();
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn group(&mut self, mut writes: Vec<Write>, answers: Vec<Answer>) {
        let asked = writes.len();
        let now = self.clock.now();
        if let Err(error) = self.mend() {
            return tell_all(answers, &error);
        }
        writes.extend(self.forget(now, 2 * asked + FORGOTTEN_MIN));
        let written = self.engine.write(now, &writes);
        match written {
            Ok(written) => {
                self.full |= written.contains(&Written::NoRoom);
                if !self.full {
                    self.health.well();
                }
                self.forgot(&writes[asked..], &written[asked..]);
                self.told(writes, written, answers);
                if self.engine.is_untidy() {
                    self.tidy.try_send(()).unwrap_or_default();
                }
            }
            // One that cannot be written must not take the others with it.
            Err(EngineError::Damaged(_) | EngineError::Other(_)) if writes.len() > 1 => {
                (self.prune, self.strip) = (false, false);
                for (write, answer) in writes.into_iter().zip(answers) {
                    self.group(vec![write], vec![answer]);
                }
            }
            Err(error) => {
                self.fail(error.clone());
                tell_all(answers, &error);
            }
        }
    }

    /// Health and what couriers are handed first: whoever hears of an outcome finds it so.
    fn told(&self, writes: Vec<Write>, written: Vec<Written>, answers: Vec<Answer>) {
        if self.full {
            self.health.ill(EngineError::Full("inbox.bytes_max is reached".to_owned()));
        }
        let handed = self.handoff.stored(&writes, &written);
        let (several, crowd) = (answers.len() > 1, answers.len() >= CROWD);
        let wake = || handed.iter().for_each(|hatch| hatch.wake());
        let tell = move || {
            for (answer, written) in answers.into_iter().zip(written) {
                answer.send(Ok(written)).unwrap_or_default();
            }
            // Best freed where they were made: by another thread, it costs both more.
            drop(writes);
        };
        // Vendors wait, couriers do not. In a crowd couriers begin all the same: their ends share the sync of what vendors,
        // once answered, send next.
        if crowd {
            wake();
        }
        // Several from within the runtime: from here, it would be woken for each of them.
        match &self.runtime {
            Some(runtime) if several => drop(runtime.spawn(async { tell() })),
            _ => tell(),
        }
        if !crowd {
            wake();
        }
    }

    /// What may be forgotten beside a group.
    fn forget(&self, now: Timestamp, max: usize) -> Vec<Write> {
        let mut writes = Vec::new();
        if self.prune {
            let keep = SignedDuration::try_from(self.health.keep()).unwrap_or(SignedDuration::MAX);
            writes.push(Write::Prune { before: now.checked_sub(keep).unwrap_or(Timestamp::MIN), max });
        }
        if self.strip {
            writes.push(Write::Strip { max });
        }
        writes
    }

    fn forgot(&mut self, writes: &[Write], written: &[Written]) {
        for (write, written) in writes.iter().zip(written) {
            match (write, written) {
                (Write::Prune { .. }, Written::Forgotten { more, .. }) => self.prune = *more,
                (Write::Strip { .. }, Written::Forgotten { more, .. }) => self.strip = *more,
                _ => {}
            }
        }
    }

    /// Every now and then: what there is to forget, and whether the disk is back.
    fn look(&mut self) {
        self.look_at = self.clock.elapsed() + LOOK_INTERVAL;
        if self.mend().is_err() {
            return;
        }
        match self.engine.room() {
            Ok((bytes, max)) => {
                self.strip = bytes > max / STRIP_AT.1 * STRIP_AT.0;
                // Once full, until there is room worth the name: not now yes, now no.
                self.full &= bytes > max / ROOM_AT.1 * ROOM_AT.0;
                if !self.full {
                    self.health.well();
                }
            }
            Err(error) => return self.fail(error),
        }
        self.prune = !self.unforgettable;
        let now = self.clock.now();
        let writes = self.forget(now, GROUP_MAX);
        match self.engine.write(now, &writes) {
            Ok(written) => self.forgot(&writes, &written),
            Err(error @ (EngineError::Damaged(_) | EngineError::Other(_))) => {
                tracing::warn!(%error, "settled events cannot be forgotten any more: the inbox's file is damaged");
                self.unforgettable = true;
            }
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: EngineError) {
        self.health.ill(error.clone());
        self.broken = Some(error);
    }

    /// After a failure nothing is written, and nobody answered with success, until the database has been opened anew and
    /// has taken a write of its own: a sync that failed once may succeed the second time without anything having been
    /// written.
    fn mend(&mut self) -> Result<(), EngineError> {
        let Some(error) = self.broken.take() else { return Ok(()) };
        self.broken = self.engine.reopen().err();
        match &self.broken {
            None => Ok(()),
            Some(now) => {
                tracing::debug!(error = %now, "the inbox still fails");
                Err(error)
            }
        }
    }
}

/// What came while the disk was busy goes together. Where that is a crowd, so is what others are about to send: on a core that
/// they share with the writer they get their turn first. Where it is not, that would be a turn for another process, perhaps.
fn gather(group: &mut Vec<(Write, Answer)>, work: &Receiver<(Write, Answer)>) {
    let mut take = || {
        group.extend(work.try_iter().take(GROUP_MAX - group.len()));
        group.len()
    };
    if take() >= CROWD {
        thread::yield_now();
        take();
    }
}

/// Ends of attempts that nobody waits for wait a moment for an append to share its sync.
fn wait_for_company(group: &mut Vec<(Write, Answer)>, work: &Receiver<(Write, Answer)>) {
    let patient = |write: &Write| matches!(write, Write::Ended { urgent: false, .. });
    let mut left = COMPANY_WAIT;
    while group.len() < GROUP_MAX && group.iter().all(|(write, _)| patient(write)) {
        let began = Clock::system();
        let Ok(next) = work.recv_timeout(left) else { return };
        group.push(next);
        gather(group, work);
        left = left.saturating_sub(began.elapsed());
    }
}

fn tell_all(answers: Vec<Answer>, error: &EngineError) {
    for answer in answers {
        answer.send(Err(error.clone())).unwrap_or_default();
    }
}

// === impl Health ===

impl Health {
    pub(super) fn new(keep: Duration, errors: Counter) -> Self {
        let health = Self { errors, ..Self::default() };
        health.keep_for(keep);
        health
    }

    /// Why it cannot be written, if so.
    #[must_use]
    pub fn failing(&self) -> Option<EngineError> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn keep_for(&self, keep: Duration) {
        self.keep_ms.store(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn keep(&self) -> Duration {
        Duration::from_millis(self.keep_ms.load(Ordering::Relaxed))
    }

    fn ill(&self, error: EngineError) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if failing.is_none() {
            self.errors.inc();
            tracing::error!(%error, "the inbox cannot be written: its sources are answered 503 until it can");
        }
        *failing = Some(error);
    }

    fn well(&self) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if failing.take().is_some() {
            tracing::info!("the inbox can be written again");
        }
    }
}
