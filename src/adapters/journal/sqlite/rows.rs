//! One write to one statement: how each noun is laid out in its table. Runs on the writer's thread only.

use super::schema::{nanos, number};
use crate::adapters::journal::{counted, effect};
use crate::model::incident::{Incident, IncidentId, Transition};
use crate::model::message::{Message, MessageId, ThreadRef};
use crate::model::run::{ProgramHash, Run, Sources};
use crate::model::step::Step;
use crate::ports::{NewIntake, Write};
use jiff::Timestamp;
use rusqlite::{Connection, Params, params};
use serde::Serialize;
use std::collections::HashSet;

/// The writer's connection and what it remembers between statements.
pub(super) struct Rows {
    pub(super) conn: Connection,
    /// Where rows are serialised; kept to be used again.
    buffer: Vec<u8>,
    /// Programs that are in their table: a run pins one each time.
    programs: HashSet<ProgramHash>,
}

/// A larger buffer is given back after use.
const BUFFER_MAX: usize = 64 << 10;

impl Rows {
    pub(super) fn new(conn: Connection) -> Self {
        Rows { conn, buffer: Vec::new(), programs: HashSet::new() }
    }

    /// The highest id of an intake ever committed: handled ones may have been deleted.
    pub(super) fn last_intake(&self) -> rusqlite::Result<u64> {
        let sql = "SELECT max((SELECT ifnull(max(id), 0) FROM intake), ifnull((SELECT value FROM counter WHERE name = 'handled'), 0))";
        self.conn.query_row(sql, [], |row| row.get::<_, i64>(0)).map(|id| id as u64)
    }

    /// Everything that `work` writes is one transaction: committed when this returns `Ok`, gone when it returns `Err`.
    pub(super) fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.execute("BEGIN IMMEDIATE", [])?;
        let result = work(self).and_then(|value| self.execute("COMMIT", []).map(|_| value));
        if result.is_err() {
            self.programs.clear();
            // A full disk rolls back by itself; an error here would hide the one that matters.
            if !self.conn.is_autocommit() {
                let _ = self.execute("ROLLBACK", []);
            }
        }
        result
    }

    /// Runs a statement; returns the number of rows it changed.
    pub(super) fn execute(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.conn.prepare_cached(sql)?.execute(params)
    }

    pub(super) fn intake(&self, id: u64, post: &NewIntake) -> rusqlite::Result<()> {
        let sql = "INSERT INTO intake (id, received_at, source, body) VALUES (?1, ?2, ?3, ?4)";
        self.execute(sql, params![number(id), nanos(post.received_at), &*post.source, &*post.body]).map(drop)
    }

    pub(super) fn handled(&self, id: u64) -> rusqlite::Result<()> {
        self.count("handled", number(id))
    }

    pub(super) fn count(&self, name: &str, value: i64) -> rusqlite::Result<()> {
        let sql =
            "INSERT INTO counter (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.execute(sql, params![name, value]).map(drop)
    }

    /// Every write but `Handled`, of which only the last of a transaction counts.
    pub(super) fn write(&mut self, write: &Write) -> rusqlite::Result<()> {
        match write {
            Write::Handled(_) => Ok(()),
            Write::Level(level) => {
                let sql = "INSERT INTO level (fingerprint, body) VALUES (?1, ?2) ON CONFLICT (fingerprint) DO UPDATE SET body = excluded.body";
                let fingerprint = level.alert.fingerprint.0 as i64;
                self.json(&**level, |rows, body| rows.execute(sql, params![fingerprint, body]))
            }
            Write::ForgetSteps(run) => self.execute("DELETE FROM step WHERE run = ?1", [number(run.0)]).map(drop),
            Write::ForgetLevel(fingerprint) => {
                self.execute("DELETE FROM level WHERE fingerprint = ?1", [fingerprint.0 as i64]).map(drop)
            }
            Write::Incident(incident) => self.incident(incident),
            Write::Transition(transition) => self.transition(transition),
            Write::Run(run) => self.run(run),
            Write::Step(step) => self.step(step),
            Write::Program(hash, sources) => self.program(hash, sources),
            Write::Message(id, message) => self.message(*id, message),
            Write::Sent { id, at, thread } => {
                self.done(*id, *at, None)?;
                thread.as_ref().map_or(Ok(()), |(incident, thread)| self.thread(*incident, thread))
            }
            Write::Unsendable { id, at, why } => self.done(*id, *at, Some(why)),
            Write::Setting(name, Some(value)) => {
                let sql = "INSERT INTO setting (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
                self.execute(sql, params![&**name, value]).map(drop)
            }
            Write::Setting(name, None) => self.execute("DELETE FROM setting WHERE name = ?1", [&**name]).map(drop),
        }
    }

    fn incident(&mut self, incident: &Incident) -> rusqlite::Result<()> {
        let sql = "INSERT INTO incident (id, state, key, opened_at, closed_at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
            ON CONFLICT (id) DO UPDATE SET state = excluded.state, key = excluded.key, opened_at = excluded.opened_at,
                closed_at = excluded.closed_at, body = excluded.body";
        let Incident { id, state, key, opened_at, closed_at, .. } = incident;
        let closed_at = closed_at.map(nanos);
        self.json(incident, |rows, body| {
            rows.execute(sql, params![number(id.0), state.name(), key, nanos(*opened_at), closed_at, body])
        })
    }

    fn transition(&mut self, transition: &Transition) -> rusqlite::Result<()> {
        let sql = "INSERT INTO transition (incident, seq, body)
            SELECT ?1, ifnull(max(seq), 0) + 1, ?2 FROM transition WHERE incident = ?1";
        self.json(transition, |rows, body| rows.execute(sql, params![number(transition.incident.0), body]))
    }

    fn run(&mut self, run: &Run) -> rusqlite::Result<()> {
        let sql = "INSERT INTO run (id, incident, rule, program, ended, started_at, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
            ON CONFLICT (id) DO UPDATE SET incident = excluded.incident, rule = excluded.rule, program = excluded.program,
                ended = excluded.ended, started_at = excluded.started_at, body = excluded.body";
        let Run { id, incident, rule, program, state, started_at, .. } = run;
        self.json(run, |rows, body| {
            let key = (number(id.0), number(incident.0));
            rows.execute(sql, params![key.0, key.1, rule, &*program.0, state.ended(), nanos(*started_at), body])
        })
    }

    fn step(&mut self, step: &Step) -> rusqlite::Result<()> {
        let sql = "INSERT INTO step (run, seq, effect_at, effect, body) VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT (run, seq) DO UPDATE SET effect_at = excluded.effect_at, effect = excluded.effect, body = excluded.body";
        let at = counted(step).map(nanos);
        let what = effect(step).map(|(_, what)| what);
        self.json(step, |rows, body| rows.execute(sql, params![number(step.run.0), step.seq, at, what, body]))
    }

    fn program(&mut self, hash: &ProgramHash, sources: &Sources) -> rusqlite::Result<()> {
        if self.programs.contains(hash) {
            return Ok(());
        }
        let sql = "INSERT INTO program (hash, body) VALUES (?1, ?2) ON CONFLICT (hash) DO NOTHING";
        self.json(sources, |rows, body| rows.execute(sql, params![&*hash.0, body]))?;
        self.programs.insert(hash.clone());
        Ok(())
    }

    /// Unreferenced programs have been deleted: which ones are there must be asked again.
    pub(super) fn forget_programs(&mut self) {
        self.programs.clear();
    }

    fn message(&mut self, id: MessageId, message: &Message) -> rusqlite::Result<()> {
        let sql = "INSERT INTO message (id, incident, body) VALUES (?1, ?2, ?3)
            ON CONFLICT (id) DO UPDATE SET incident = excluded.incident, body = excluded.body";
        let incident = message.incident.map(|incident| number(incident.0));
        self.json(message, |rows, body| rows.execute(sql, params![number(id), incident, body]))
    }

    fn done(&self, id: MessageId, at: Timestamp, why: Option<&str>) -> rusqlite::Result<()> {
        let sql = "UPDATE message SET done_at = ?2, why = ?3 WHERE id = ?1";
        self.execute(sql, params![number(id), nanos(at), why]).map(drop)
    }

    fn thread(&mut self, incident: IncidentId, thread: &ThreadRef) -> rusqlite::Result<()> {
        let sql = "INSERT INTO thread (incident, body) VALUES (?1, ?2) ON CONFLICT (incident) DO UPDATE SET body = excluded.body";
        self.json(thread, |rows, body| rows.execute(sql, params![number(incident.0), body]))
    }

    /// Serialises `value` and hands the text to `write`.
    fn json(
        &mut self,
        value: &impl Serialize,
        write: impl FnOnce(&Self, &str) -> rusqlite::Result<usize>,
    ) -> rusqlite::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let result = serde_json::to_writer(&mut buffer, value)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
            .and_then(|()| write(self, std::str::from_utf8(&buffer).expect("serde_json writes UTF-8")));
        if buffer.capacity() <= BUFFER_MAX {
            self.buffer = buffer;
        }
        result.map(drop)
    }

    /// Writes and removes `bytes`, each on its own, to find out whether the disk has room for them again.
    pub(super) fn probe(&mut self, bytes: usize) -> rusqlite::Result<()> {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        self.transaction(|rows| rows.execute("INSERT INTO probe (body) VALUES (zeroblob(?1))", [bytes]))?;
        self.transaction(|rows| rows.execute("DELETE FROM probe", [])).map(drop)
    }
}
