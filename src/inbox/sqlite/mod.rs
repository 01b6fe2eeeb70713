//! The inbox in one SQLite file: write-ahead log, every commit synced, one connection that writes and others that read.

mod act;
mod forget;
mod ids;
mod keys;
mod list;
mod read;
mod tally;
mod write;

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use self::{forget::Cursors, ids::Ids, keys::Segments, tally::Tallies, write::Names};
use super::{
    engine::{EngineError, OpenError},
    record::Filter,
};

/// `PRAGMA application_id`: "hkwd".
const APPLICATION_ID: i64 = 0x686b_7764;
/// `PRAGMA user_version`: the version of the schema, and the statements that lead from the one before to it.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];

/// Numbers of events from here on are damage.
const EVENTS_END: i64 = 1 << 62;

/// Memory for pages of the file, of the writer and of each reader.
const CACHE_KIB: i64 = 4096;
/// Pages of 4 KiB in the log that are worth tidying: 32 MiB. Pages that are written again and again are moved once.
const LOG_PAGES_TIDY: u64 = 8 * 1024;
/// Pages in the log beyond which the writer itself moves them to their place, since readers or load have kept
/// `tidy` from catching up: 64 MiB.
const LOG_PAGES_MAX: u64 = 16 * 1024;

/// One connection to the file.
#[derive(Debug)]
pub(super) struct Sqlite {
    connection: Connection,
    file: Arc<InboxFile>,
    names: Names,
    cursors: Cursors,
    segments: Segments,
}

/// The file of an inbox, held against other processes.
#[derive(Debug)]
pub(super) struct InboxFile {
    path: PathBuf,
    bytes_max: AtomicU64,
    /// Pages in the log after the last commit.
    log_pages: Arc<AtomicU64>,
    /// Kept by the connection that writes.
    tallies: Mutex<Tallies>,
    ids: Mutex<Ids>,
    _lock: File,
}

type Result<T, E = EngineError> = std::result::Result<T, E>;

impl InboxFile {
    /// Makes the file if it is not there, brings its schema up to date, and keeps other processes out.
    ///
    /// # Errors
    ///
    /// It cannot be opened or written, is another program's, or is in use.
    pub(in crate::inbox) fn open(path: &Path, bytes_max: u64) -> Result<Arc<Self>, OpenError> {
        let shown = || path.display().to_string();
        let io = |error| OpenError::Io { path: shown(), error };
        let lock = private(&beside(path, "-lock")).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: shown() }),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        let is_new = !path.exists();
        drop(private(path).map_err(io)?);
        if is_new {
            sync_folder(path).map_err(io)?;
        }
        let file = Arc::new(Self {
            path: path.to_owned(),
            bytes_max: AtomicU64::new(bytes_max),
            log_pages: Arc::default(),
            tallies: Mutex::default(),
            ids: Mutex::default(),
            _lock: lock,
        });
        let engine = |error| OpenError::Engine { path: shown(), error };
        let mut connection = file.connect().map_err(engine)?;
        let pragma = |connection: &Connection, name: &str| {
            connection
                .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
                .map_err(error)
                .map_err(engine)
        };
        let (id, version) = (pragma(&connection, "application_id")?, pragma(&connection, "user_version")?);
        let tables = "SELECT count(*) FROM sqlite_schema";
        let tables: i64 =
            connection.query_one(tables, (), |row| row.get(0)).map_err(error).map_err(engine)?;
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        match (id, version) {
            (0, 0) if tables == 0 => {}
            (APPLICATION_ID, 1..) if version <= known => {}
            (APPLICATION_ID, found) => return Err(OpenError::Version { path: shown(), found, known }),
            _ => return Err(OpenError::Foreign { path: shown() }),
        }
        migrate(&mut connection, version).map_err(engine)?;
        Ok(file)
    }

    /// Changes the bound on what is stored.
    pub(in crate::inbox) fn set_bytes_max(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// The bound on what is stored.
    #[must_use]
    pub(in crate::inbox) fn bytes_max(&self) -> u64 {
        self.bytes_max.load(Ordering::Relaxed)
    }

    fn tallies(&self) -> MutexGuard<'_, Tallies> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ids(&self) -> MutexGuard<'_, Ids> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events of the id that a filter looks for, as far as they may not be in the index.
    fn recent(&self, filter: &Filter) -> Vec<i64> {
        filter.id.map(|id| self.ids().recent().all(id).collect()).unwrap_or_default()
    }

    fn connect(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(error)?;
        let settings = format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; \
             PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; \
             PRAGMA cache_size = -{CACHE_KIB};"
        );
        connection.execute_batch(&settings).map_err(error)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(error)?;
        Ok(connection)
    }
}

impl Sqlite {
    /// A connection. The one that writes is told how many pages the log has.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub(in crate::inbox) fn new(file: &Arc<InboxFile>, writes: bool) -> Result<Self> {
        let mut connection = file.connect()?;
        if writes {
            *file.tallies() = Tallies::read(&connection)?;
            let last = file.ids().last();
            let ids = Ids::read(&connection, last)?;
            *file.ids() = ids;
            let log_pages = Arc::clone(&file.log_pages);
            let told = move |_: &mut rusqlite::hooks::Wal, pages| {
                log_pages.store(u64::try_from(pages).unwrap_or_default(), Ordering::Relaxed);
                Ok(())
            };
            connection.wal_hook(Some(told)).map_err(error)?;
        }
        Ok(Self {
            connection,
            file: Arc::clone(file),
            names: Names::default(),
            cursors: Cursors::default(),
            segments: Segments::default(),
        })
    }

    /// Bytes in use.
    fn bytes(&self) -> Result<u64> {
        // Asked with every group of appends: prepared once.
        let number =
            |pragma| self.connection.prepare_cached(pragma)?.query_one((), |row| row.get::<_, i64>(0));
        let pages = || {
            Ok((number("PRAGMA page_count")?, number("PRAGMA freelist_count")?, number("PRAGMA page_size")?))
        };
        let (all, free, size) = pages().map_err(error)?;
        Ok(u64::try_from(all.saturating_sub(free) * size).unwrap_or_default())
    }
}

fn migrate(connection: &mut Connection, version: i64) -> Result<()> {
    let done = usize::try_from(version).unwrap_or_default();
    for (step, statements) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction().map_err(error)?;
        transaction.execute_batch(statements).map_err(error)?;
        let next = i64::try_from(step + 1).unwrap_or(i64::MAX);
        transaction.pragma_update(None, "user_version", next).map_err(error)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(error)?;
        transaction.commit().map_err(error)?;
    }
    Ok(())
}

/// A file that only its owner reads, made if it is not there.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// A new file is there after a crash only if its folder is on the disk too.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// An error of SQLite's as one of ours. Its text is SQLite's own for that code, and names no value.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn error(error: rusqlite::Error) -> EngineError {
    let rusqlite::Error::SqliteFailure(failure, _) = &error else {
        return EngineError::Other("the database answered something else than was asked".to_owned());
    };
    let text = ffi::code_to_str(failure.extended_code).to_owned();
    match failure.code {
        ErrorCode::DiskFull => EngineError::Full(text),
        ErrorCode::SystemIoFailure
        | ErrorCode::ReadOnly
        | ErrorCode::CannotOpen
        | ErrorCode::PermissionDenied => EngineError::Disk(text),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => EngineError::Damaged(text),
        _ => EngineError::Other(text),
    }
}
