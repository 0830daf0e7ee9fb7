//! The journal on disk: one SQLite file in WAL mode, one thread that writes, another that checkpoints, a few connections that read.
//!
//! A commit is on the disk when its ticket resolves (`synchronous=FULL`). Callers that wait at the same time share one sync.

mod checkpoint;
mod reader;
mod retention;
mod ring;
mod rows;
mod schema;
mod writer;

use super::error;
use crate::model::alert::{Fingerprint, Level};
use crate::model::incident::{Incident, IncidentId, Transition};
use crate::model::message::{MessageId, ThreadRef};
use crate::model::run::{ProgramHash, Run, RunId, Sources};
use crate::model::step::Step;
use crate::ports::{
    IncidentFilter, Intake, Journal, JournalError, NewIntake, Pending, Recovered, RunFilter, Ticket, Write,
};
use async_trait::async_trait;
use checkpoint::{Checkpointer, Wal};
use futures_util::FutureExt;
use jiff::Timestamp;
use reader::Readers;
use rows::Rows;
use rusqlite::{Connection, ErrorCode, params};
use schema::number;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use tokio::sync::{oneshot, watch};
use writer::{Reply, Shared, Unit, Writer};

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it: wait for it to end, and try again.
    #[error("the journal {} is in use by another runbookd; stop that one, or wait for it to end", path.display())]
    Locked { path: PathBuf },
    #[error(
        "the journal {} is of a later release (version {found}; this one knows versions up to {known}); \
         start that release, or one after it", path.display()
    )]
    Newer { path: PathBuf, found: usize, known: usize },
    #[error("{} is a database, but no journal of runbookd's; name another path in journal.url", path.display())]
    Foreign { path: PathBuf },
    #[error(
        "the journal {} cannot be kept as a write-ahead log (SQLite chose {mode:?}); \
         it must be on a local disk, not on a network file system", path.display()
    )]
    NoWal { path: PathBuf, mode: String },
    #[error("cannot open the journal {}: {source}; its directory must exist and be writable", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("cannot open the journal {}: {source}", path.display())]
    Sqlite { path: PathBuf, source: rusqlite::Error },
}

/// The journal in one SQLite file. Dropping it writes what is still staged and closes the file.
pub struct SqliteJournal {
    shared: Arc<Shared>,
    readers: Readers,
    writer: Option<JoinHandle<()>>,
    /// Dropped after the writer has ended.
    _checkpointer: Checkpointer,
    /// Let go of last of all.
    _lock: File,
}

impl SqliteJournal {
    /// Opens the journal at `path`, or makes one there; brings one of an earlier release up to date. Blocks for as long as that takes.
    ///
    /// `PATH.lock` keeps every other process out until this journal is dropped or its process ends: then [`OpenError::Locked`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        let lock = lock(&path)?;
        let mut conn = schema::open_writer(&path)?;
        let sqlite = |source| OpenError::Sqlite { path: path.clone(), source };
        let io = |source| OpenError::Io { path: path.clone(), source };

        let wal = Arc::new(Wal::default());
        let pages = wal.clone();
        conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, count| {
            pages.grown(u32::try_from(count).unwrap_or(0));
            Ok(())
        }))
        .map_err(sqlite)?;
        let rows = Rows::new(conn);
        let last_intake = rows.last_intake().map_err(sqlite)?;
        let checkpointer =
            Checkpointer::start(wal.clone(), schema::open_checkpointer(&path).map_err(sqlite)?).map_err(io)?;
        let shared = Arc::new(Shared::new(path.clone(), last_intake, wal));
        let writer = Writer::new(shared.clone(), rows, last_intake);
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || writer.run()).map_err(io)?;
        Ok(SqliteJournal {
            shared,
            readers: Readers::new(path),
            writer: Some(thread),
            _checkpointer: checkpointer,
            _lock: lock,
        })
    }

    /// Writes that are staged and not durable yet. Nothing bounds them: while the journal cannot write they wait here, and intake, from which
    /// all work comes, is refused.
    pub fn backlog(&self) -> usize {
        self.shared.backlog()
    }

    /// Lets the file grow to at most `pages` pages of 4 KiB, or as it likes (`None`). At the limit it behaves as on a full disk.
    pub fn limit_pages(&self, pages: Option<std::num::NonZeroU32>) {
        self.shared.max_pages.store(pages.map_or(0, |pages| pages.get()), Ordering::Relaxed);
    }

    /// Queues what `unit` makes of the reply, and waits for it.
    fn ask<T: Send + 'static>(&self, unit: impl FnOnce(Reply<T>) -> Unit) -> Ticket<T> {
        let (reply, answer) = oneshot::channel();
        self.shared.ask(unit(reply));
        async move { answer.await.unwrap_or_else(|_| Err(closed())) }.boxed()
    }

    /// Reads after what was staged before.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        if self.shared.backlog() > 0 {
            self.ask(Unit::Flush).await?;
        }
        self.readers.read(read).await
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(writer) = self.writer.take() {
            // A panic of that thread has been printed; there is nothing more to do about it.
            let _ = writer.join();
        }
    }
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options().create(true).append(true).open(&name);
    let file = file.map_err(|source| OpenError::Io { path: path.into(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.into() }),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path: path.into(), source }),
    }
}

fn closed() -> JournalError {
    error("the journal was closed before this was durable")
}

/// What went wrong and what to do about it.
fn explain(path: &Path, what: &str, cause: &rusqlite::Error) -> JournalError {
    let help = match cause.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "; make room on its disk",
        Some(ErrorCode::SystemIoFailure) => "; look at its disk and at the kernel's log",
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "; restore it from a copy, or start with a new one"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => "; look at its permissions",
        _ => "",
    };
    error(format!("cannot {what} the journal {}: {cause}{help}", path.display()))
}

#[async_trait]
impl Journal for SqliteJournal {
    fn intake(&self, post: NewIntake) -> Ticket<u64> {
        self.ask(|reply| Unit::Intake(post, reply))
    }

    async fn intake_after(&self, after: u64, limit: usize) -> Result<Vec<Intake>, JournalError> {
        if let Some(recent) = self.shared.ring().after(after, limit) {
            return Ok(recent);
        }
        self.readers.read(move |conn| reader::intake_after(conn, after, limit)).await
    }

    fn intakes(&self) -> watch::Receiver<u64> {
        self.shared.intakes.subscribe()
    }

    fn stage(&self, writes: Vec<Write>) {
        let handled = writes.iter().rev().find_map(|write| match write {
            Write::Handled(id) => Some(*id),
            _ => None,
        });
        self.shared.stage(writes);
        if let Some(id) = handled {
            self.shared.ring().handled(id);
        }
    }

    fn commit(&self) -> Ticket<()> {
        let (ticket, durable) = oneshot::channel();
        self.shared.ask(Unit::Commit(ticket));
        async move { durable.await.map_err(|_| closed()) }.boxed()
    }

    fn health(&self) -> Result<(), JournalError> {
        self.shared.health()
    }

    async fn recover(&self, since: Timestamp) -> Result<Recovered, JournalError> {
        self.read(move |conn| reader::recover(conn, since)).await
    }

    async fn run(&self, id: RunId) -> Result<Option<Run>, JournalError> {
        self.read(move |conn| reader::one(conn, "SELECT body FROM run WHERE id = ?1", [number(id.0)])).await
    }

    async fn steps(&self, id: RunId) -> Result<Vec<Step>, JournalError> {
        let sql = "SELECT body FROM step WHERE run = ?1 ORDER BY seq";
        self.read(move |conn| reader::all(conn, sql, [number(id.0)])).await
    }

    async fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>, JournalError> {
        let filter = filter.clone();
        self.read(move |conn| reader::runs(conn, &filter)).await
    }

    async fn program(&self, hash: &ProgramHash) -> Result<Option<Sources>, JournalError> {
        let hash = hash.clone();
        self.read(move |conn| reader::one(conn, "SELECT body FROM program WHERE hash = ?1", [&*hash.0])).await
    }

    async fn incident(&self, id: IncidentId) -> Result<Option<Incident>, JournalError> {
        self.read(move |conn| reader::one(conn, "SELECT body FROM incident WHERE id = ?1", [number(id.0)])).await
    }

    async fn transitions(&self, id: IncidentId) -> Result<Vec<Transition>, JournalError> {
        let sql = "SELECT body FROM transition WHERE incident = ?1 ORDER BY seq";
        self.read(move |conn| reader::all(conn, sql, [number(id.0)])).await
    }

    async fn incidents(&self, filter: &IncidentFilter) -> Result<Vec<Incident>, JournalError> {
        let filter = filter.clone();
        self.read(move |conn| reader::incidents(conn, &filter)).await
    }

    async fn level(&self, fingerprint: Fingerprint) -> Result<Option<Level>, JournalError> {
        let sql = "SELECT body FROM level WHERE fingerprint = ?1";
        self.read(move |conn| reader::one(conn, sql, params![fingerprint.0 as i64])).await
    }

    async fn outbox(&self, after: MessageId, limit: usize) -> Result<Vec<Pending>, JournalError> {
        self.read(move |conn| reader::outbox(conn, after, limit)).await
    }

    async fn outbox_depth(&self) -> Result<u64, JournalError> {
        let sql = "SELECT count(*) FROM message WHERE done_at IS NULL";
        self.read(move |conn| conn.query_row(sql, [], |row| row.get::<_, i64>(0))).await.map(|count| count as u64)
    }

    async fn thread(&self, incident: IncidentId) -> Result<Option<ThreadRef>, JournalError> {
        let sql = "SELECT body FROM thread WHERE incident = ?1";
        self.read(move |conn| reader::one(conn, sql, [number(incident.0)])).await
    }

    async fn prune(&self, before: Timestamp) -> Result<u64, JournalError> {
        let mut gone = 0;
        loop {
            match self.ask(|reply| Unit::Prune(before, reply)).await? {
                0 => return Ok(gone),
                rows => gone += rows,
            }
        }
    }
}
