//! Reading back: a few connections of their own, used on blocking threads, that see what was committed.

use super::explain;
use super::schema::{nanos, number, open_reader};
use crate::adapters::journal::{error, listed, page};
use crate::model::effect::Effect;
use crate::model::incident::{Incident, IncidentId, State};
use crate::model::run::Run;
use crate::model::step::Step;
use crate::ports::{IncidentFilter, Intake, JournalError, LastEffect, NewIntake, Pending, Recovered, RunFilter};
use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, OptionalExtension, Params, params};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// Reads at the same time; more wait.
const CONNECTIONS: usize = 2;
/// Bytes of bodies that one reading of intakes brings at most, one row aside.
const INTAKE_BYTES: usize = 32 << 20;

/// The connections for reading, opened when first needed.
#[derive(Clone)]
pub(super) struct Readers {
    path: Arc<PathBuf>,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Readers { path: path.into(), idle: Arc::default(), permits: Semaphore::new(CONNECTIONS).into() }
    }

    /// Runs `read` on a blocking thread, in one snapshot.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        let permit = self.permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        let Readers { path, idle, .. } = self.clone();
        let work = move || {
            let _permit = permit;
            let spare = idle.lock().expect("no code panics while it holds the lock").pop();
            let mut conn = spare.map_or_else(|| open_reader(&path), Ok)?;
            let snapshot = conn.transaction()?;
            let value = read(&snapshot)?;
            drop(snapshot);
            idle.lock().expect("no code panics while it holds the lock").push(conn);
            Ok(value)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result.map_err(|cause| explain(&self.path, "read", &cause)),
            Err(_) => Err(error("a read of the journal was cut off")),
        }
    }
}

/// A column of JSON.
struct Json<T>(T);

impl<T: DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let text = value.as_bytes()?;
        serde_json::from_slice(text).map(Json).map_err(|error| FromSqlError::Other(error.into()))
    }
}

/// The first column of every row, from JSON.
pub(super) fn all<T: DeserializeOwned>(conn: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<Vec<T>> {
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map(params, |row| row.get(0).map(|Json(value)| value))?;
    rows.collect()
}

/// The first column of the one row there may be, from JSON.
pub(super) fn one<T: DeserializeOwned>(
    conn: &Connection,
    sql: &str,
    params: impl Params,
) -> rusqlite::Result<Option<T>> {
    conn.prepare_cached(sql)?.query_row(params, |row| row.get(0).map(|Json(value)| value)).optional()
}

/// Posts above `after`, as they came; they are decoded again by whom they concern.
pub(super) fn intake_after(conn: &Connection, after: u64, limit: usize) -> rusqlite::Result<Vec<Intake>> {
    let sql = "SELECT id, received_at, source, body FROM intake WHERE id > ?1 ORDER BY id LIMIT ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params![number(after), number(limit as u64)])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while bytes < INTAKE_BYTES
        && let Some(row) = rows.next()?
    {
        let body: Vec<u8> = row.get(3)?;
        bytes += body.len();
        let received_at = instant(row.get(1)?);
        let source: String = row.get(2)?;
        let post = NewIntake { received_at, source: source.into(), body: body.into(), group: None };
        found.push(Intake { id: row.get::<_, i64>(0)? as u64, post });
    }
    Ok(found)
}

fn instant(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).expect("an i64 of nanoseconds is within jiff's range")
}

pub(super) fn recover(conn: &Connection, since: Timestamp) -> rusqlite::Result<Recovered> {
    let since = nanos(since);
    let counter = |name: &str| {
        let sql = "SELECT value FROM counter WHERE name = ?1";
        conn.query_row(sql, [name], |row| row.get::<_, i64>(0)).optional().map(|value| value.unwrap_or(0) as u64)
    };
    let last = |name: &str, table: &str| {
        let sql = format!("SELECT ifnull(max(id), 0) FROM {table}");
        let highest = conn.query_row(&sql, [], |row| row.get::<_, i64>(0))? as u64;
        counter(name).map(|deleted: u64| deleted.max(highest))
    };
    // Sorted here: SQLite would keep every body in memory twice to do so.
    let mut incidents: Vec<Incident> = all(conn, "SELECT body FROM incident WHERE closed_at IS NULL", [])?;
    incidents.extend(all::<Incident>(conn, "SELECT body FROM incident WHERE closed_at > ?1", [since])?);
    incidents.sort_unstable_by_key(|one| one.id);
    let mut runs: Vec<Run> = all(conn, "SELECT body FROM run WHERE ended = 0", [])?;
    runs.extend(all::<Run>(conn, "SELECT body FROM run WHERE ended = 1 AND started_at > ?1", [since])?);
    runs.sort_unstable_by_key(|one| one.id);
    let mut settings = conn.prepare_cached("SELECT name, value FROM setting ORDER BY name")?;
    let settings = settings.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Recovered {
        handled: counter("handled")?,
        levels: all(conn, "SELECT body FROM level", [])?,
        incidents,
        runs,
        last_effects: last_effects(conn, since)?,
        effects: effects(conn, since)?,
        settings: settings.collect::<rusqlite::Result<_>>()?,
        last_incident: last("last_incident", "incident")?,
        last_run: last("last_run", "run")?,
        last_message: last("last_message", "message")?,
    })
}

fn last_effects(conn: &Connection, since: i64) -> rusqlite::Result<Vec<LastEffect>> {
    let sql = "SELECT run.rule, incident.key, step.effect_at, step.effect
        FROM step JOIN run ON run.id = step.run JOIN incident ON incident.id = run.incident
        WHERE step.effect_at > ?1 AND step.effect IS NOT NULL ORDER BY step.effect_at, step.run, step.seq";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([since])?;
    let mut newest: BTreeMap<(String, String), (i64, String)> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        newest.insert((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?));
    }
    let named = |((rule, key), (at, what))| LastEffect { rule, key, at: instant(at), what };
    Ok(newest.into_iter().map(named).collect())
}

fn effects(conn: &Connection, since: i64) -> rusqlite::Result<Vec<Effect>> {
    let sql = "SELECT run.rule, run.incident, step.body FROM step JOIN run ON run.id = step.run
        WHERE step.effect_at > ?1 ORDER BY step.effect_at, step.run, step.seq";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([since])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (rule, incident): (String, i64) = (row.get(0)?, row.get(1)?);
        let Json(step): Json<Step> = row.get(2)?;
        found.extend(Effect::of(&rule, IncidentId(incident as u64), &step));
    }
    Ok(found)
}

pub(super) fn runs(conn: &Connection, filter: &RunFilter) -> rusqlite::Result<Vec<Run>> {
    let before = filter.before.map_or(i64::MAX, |id| number(id.0));
    let limit = page(filter.limit) as i64;
    match filter.incident {
        Some(incident) => all(
            conn,
            "SELECT body FROM run WHERE incident = ?3 AND id < ?1 ORDER BY id DESC LIMIT ?2",
            params![before, limit, number(incident.0)],
        ),
        None => all(conn, "SELECT body FROM run WHERE id < ?1 ORDER BY id DESC LIMIT ?2", params![before, limit]),
    }
}

/// Newest first. Columns narrow it down; labels, which may be anything, are compared here and not by SQLite.
pub(super) fn incidents(conn: &Connection, filter: &IncidentFilter) -> rusqlite::Result<Vec<Incident>> {
    // Names of states are our own words: they need no parameters.
    let names = |states: &[State]| states.iter().map(|state| format!("'{state}'")).collect::<Vec<_>>().join(", ");
    let mut sql = "SELECT body FROM incident WHERE id < ?1 AND opened_at > ?2 AND opened_at < ?3".to_string();
    if !filter.states.is_empty() {
        sql += &format!(" AND state IN ({})", names(&filter.states));
        if !filter.states.contains(&State::Resolved) {
            // In the words of an index: what is open now is found without going through all that ever was.
            sql += " AND state <> 'resolved'";
        }
    }
    sql += " ORDER BY id DESC";
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params![
        filter.before.map_or(i64::MAX, |id| number(id.0)),
        filter.opened_after.map_or(i64::MIN, nanos),
        filter.opened_before.map_or(i64::MAX, nanos),
    ])?;
    let mut found = Vec::new();
    while found.len() < page(filter.limit)
        && let Some(row) = rows.next()?
    {
        let Json(incident) = row.get(0)?;
        if listed(filter, &incident) {
            found.push(incident);
        }
    }
    Ok(found)
}

pub(super) fn outbox(conn: &Connection, after: u64, limit: usize) -> rusqlite::Result<Vec<Pending>> {
    let sql = "SELECT id, body FROM message WHERE done_at IS NULL AND id > ?1 ORDER BY id LIMIT ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map(params![number(after), number(limit as u64)], |row| {
        let Json(message) = row.get(1)?;
        Ok(Pending { id: row.get::<_, i64>(0)? as u64, message })
    })?;
    rows.collect()
}
