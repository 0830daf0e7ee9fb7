//! Deletes what is old, a little at a time: each batch is one transaction between others, so that no commit waits long.

use super::rows::Rows;
use super::schema::nanos;
use jiff::Timestamp;
use rusqlite::params;

/// How much one batch deletes at most: an incident may have thousands of steps, an intake megabytes of body.
const INCIDENTS: u32 = 16;
const INTAKES: u32 = 128;
const MESSAGES: u32 = 512;

/// One batch of what closed, was handled or was sent before `before`. Returns how many rows went: 0 when nothing is left.
pub(super) fn batch(rows: &mut Rows, before: Timestamp) -> rusqlite::Result<u64> {
    let before = nanos(before);
    for delete in [incidents, intakes, messages, programs] {
        let gone = delete(rows, before)?;
        if gone > 0 {
            return Ok(gone);
        }
    }
    Ok(0)
}

/// Closed incidents with all that belongs to them. One that still has something to say, or a run that has not ended, stays.
fn incidents(rows: &mut Rows, before: i64) -> rusqlite::Result<u64> {
    let sql = "SELECT id FROM incident WHERE closed_at < ?1
            AND NOT EXISTS (SELECT 1 FROM message WHERE message.incident = incident.id AND done_at IS NULL)
            AND NOT EXISTS (SELECT 1 FROM run WHERE run.incident = incident.id AND ended = 0)
        ORDER BY closed_at LIMIT ?2";
    let mut statement = rows.conn.prepare_cached(sql)?;
    let ids = statement.query_map(params![before, INCIDENTS], |row| row.get(0))?;
    let ids: Vec<i64> = ids.collect::<rusqlite::Result<_>>()?;
    drop(statement);
    if ids.is_empty() {
        return Ok(0);
    }
    keep_counting(rows)?;
    let mut gone = 0;
    for id in ids {
        for sql in [
            "DELETE FROM step WHERE run IN (SELECT id FROM run WHERE incident = ?1)",
            "DELETE FROM run WHERE incident = ?1",
            "DELETE FROM transition WHERE incident = ?1",
            "DELETE FROM message WHERE incident = ?1",
            "DELETE FROM thread WHERE incident = ?1",
            "DELETE FROM incident WHERE id = ?1",
        ] {
            gone += rows.execute(sql, [id])?;
        }
    }
    Ok(gone as u64)
}

/// Handled posts. They came in the order of their ids: looking at the lowest is enough.
fn intakes(rows: &mut Rows, before: i64) -> rusqlite::Result<u64> {
    let sql = "DELETE FROM intake WHERE id IN (
        SELECT id FROM (SELECT id, received_at FROM intake
            WHERE id <= ifnull((SELECT value FROM counter WHERE name = 'handled'), 0) ORDER BY id LIMIT ?2)
        WHERE received_at < ?1)";
    rows.execute(sql, params![before, INTAKES]).map(|gone| gone as u64)
}

/// Messages that belong to no incident.
fn messages(rows: &mut Rows, before: i64) -> rusqlite::Result<u64> {
    let sql =
        "DELETE FROM message WHERE id IN (SELECT id FROM message WHERE incident IS NULL AND done_at < ?1 LIMIT ?2)";
    keep_counting(rows)?;
    rows.execute(sql, params![before, MESSAGES]).map(|gone| gone as u64)
}

/// Ids are never given twice, not even when their rows are gone.
fn keep_counting(rows: &Rows) -> rusqlite::Result<()> {
    for (name, table) in [("last_incident", "incident"), ("last_run", "run"), ("last_message", "message")] {
        let sql = format!(
            "INSERT INTO counter (name, value) SELECT ?1, max(id) FROM {table} WHERE true HAVING max(id) IS NOT NULL
             ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)"
        );
        rows.execute(&sql, [name])?;
    }
    Ok(())
}

/// Programs that no run pins any more.
fn programs(rows: &mut Rows, _before: i64) -> rusqlite::Result<u64> {
    let sql = "DELETE FROM program WHERE NOT EXISTS (SELECT 1 FROM run WHERE run.program = program.hash)";
    let gone = rows.execute(sql, [])?;
    if gone > 0 {
        rows.forget_programs();
    }
    Ok(gone as u64)
}
