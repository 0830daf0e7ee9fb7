//! The journal's tables, the migrations that lead to them, and how a connection is set up.
//!
//! Rows are JSON, as `model/` serialises it, beside the columns that queries need. Times are nanoseconds since 1970.

use super::OpenError;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// One step a version: entry 0 leads from an empty file to version 1. Never change an entry that was released: add one.
const MIGRATIONS: [&str; 1] = [r#"
    CREATE TABLE intake (id INTEGER PRIMARY KEY, received_at INTEGER NOT NULL, source TEXT NOT NULL, body BLOB NOT NULL) STRICT;
    -- Fingerprints are random: as the key of the table they would scatter a flood of new alerts over all its pages.
    CREATE TABLE level (fingerprint INTEGER NOT NULL UNIQUE, body TEXT NOT NULL) STRICT;

    CREATE TABLE incident (id INTEGER PRIMARY KEY, state TEXT NOT NULL, key TEXT NOT NULL, opened_at INTEGER NOT NULL, closed_at INTEGER,
        body TEXT NOT NULL) STRICT;
    CREATE INDEX incident_unresolved ON incident (id) WHERE state <> 'resolved';
    CREATE INDEX incident_unclosed ON incident (id) WHERE closed_at IS NULL;
    CREATE INDEX incident_closed ON incident (closed_at) WHERE closed_at IS NOT NULL;
    CREATE TABLE transition (incident INTEGER NOT NULL, seq INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (incident, seq)) STRICT, WITHOUT ROWID;

    CREATE TABLE run (id INTEGER PRIMARY KEY, incident INTEGER NOT NULL, rule TEXT NOT NULL, program TEXT NOT NULL, ended INTEGER NOT NULL,
        started_at INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
    CREATE INDEX run_incident ON run (incident);
    CREATE INDEX run_program ON run (program);
    CREATE INDEX run_unended ON run (id) WHERE ended = 0;
    CREATE INDEX run_started ON run (started_at);
    -- `effect`: what an applied, mutating step changed, and when; what cooldowns are computed from.
    CREATE TABLE step (run INTEGER NOT NULL, seq INTEGER NOT NULL, effect_at INTEGER, effect TEXT, body TEXT NOT NULL,
        PRIMARY KEY (run, seq)) STRICT, WITHOUT ROWID;
    CREATE INDEX step_effect ON step (effect_at) WHERE effect_at IS NOT NULL;
    CREATE TABLE program (hash TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;

    -- The outbox: a message is done when it was sent, or given up (`why`).
    CREATE TABLE message (id INTEGER PRIMARY KEY, incident INTEGER, done_at INTEGER, why TEXT, body TEXT NOT NULL) STRICT;
    CREATE INDEX message_unsent ON message (id) WHERE done_at IS NULL;
    CREATE INDEX message_incident ON message (incident) WHERE incident IS NOT NULL;
    CREATE INDEX message_lone ON message (done_at) WHERE incident IS NULL;
    CREATE TABLE thread (incident INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;

    CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    -- `handled`, and the highest ids whose rows retention has deleted.
    CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    -- Written and emptied again to find out whether the disk has room.
    CREATE TABLE probe (body BLOB NOT NULL) STRICT;
"#];

/// "rbkd": says whose file it is.
const APPLICATION_ID: i32 = 0x7262_6b64;

/// How long a connection waits for another's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The one connection that writes. `synchronous=FULL`: a commit is on the disk when it returns. Checkpoints are another thread's work.
pub(super) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::Sqlite { path: path.into(), source };
    create_private(path).map_err(|source| OpenError::Io { path: path.into(), source })?;
    let mut conn = Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE)).map_err(failed)?;
    check_owner(&conn, path)?;
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(OpenError::NoWal { path: path.into(), mode });
    }
    // Cache sizes are in KiB. A WAL that grew beyond the limit is cut back when it starts anew.
    conn.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 67108864;
         PRAGMA cache_size = -3072; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;",
    )
    .and_then(|()| conn.busy_timeout(BUSY_TIMEOUT))
    .map_err(failed)?;
    conn.set_prepared_statement_cache_capacity(64);
    migrate(&mut conn).map_err(failed)?;
    Ok(conn)
}

/// A connection that only reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE))?;
    conn.execute_batch(
        "PRAGMA query_only = ON; PRAGMA cache_size = -512; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;",
    )?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    Ok(conn)
}

/// The connection that moves the WAL into the file.
pub(super) fn open_checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE))?;
    conn.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -64; PRAGMA mmap_size = 0;",
    )?;
    // A reader that stays long must not keep the writer waiting: the next attempt comes soon.
    conn.busy_timeout(Duration::from_millis(100))?;
    Ok(conn)
}

/// Each connection belongs to one thread at a time: no mutex of SQLite's own.
fn flags(access: OpenFlags) -> OpenFlags {
    access | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// Alerts and intents are nobody else's business: the file, and with it the WAL, is its owner's alone.
fn create_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

fn version(conn: &Connection) -> rusqlite::Result<usize> {
    let version: i64 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

/// Refuses a database of somebody else's, and a journal of a later release, before anything in it is touched.
fn check_owner(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Sqlite { path: path.into(), source };
    let owner: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if owner != APPLICATION_ID && tables > 0 {
        return Err(OpenError::Foreign { path: path.into() });
    }
    let found = version(conn).map_err(failed)?;
    if found > MIGRATIONS.len() {
        return Err(OpenError::Newer { path: path.into(), found, known: MIGRATIONS.len() });
    }
    Ok(())
}

/// Brings a journal of any earlier version to this one, all or nothing.
fn migrate(conn: &mut Connection) -> rusqlite::Result<()> {
    let found = version(conn)?;
    if found == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction = conn.transaction()?;
    for step in &MIGRATIONS[found..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    transaction.commit()
}

/// Nanoseconds since 1970, at the ends of the range where an i64 has none (the years 1677 and 2262).
pub(super) fn nanos(at: Timestamp) -> i64 {
    let nanos = at.as_nanosecond();
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

/// Ids are counted from 1 and never come near the end; what people type may.
pub(super) fn number(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}
