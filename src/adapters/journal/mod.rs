//! The journal: SQLite on disk, and one in memory for tests and the simulator. What both decide alike stands here.

pub mod memory;
pub mod sqlite;
mod tables;

use crate::model::effect::Effect;
use crate::model::incident::{Incident, IncidentId};
use crate::model::step::{Intent, Outcome, Step};
use crate::ports::{IncidentFilter, JournalError};
use jiff::Timestamp;
use std::path::PathBuf;

/// The most rows that one page of a listing holds.
pub const PAGE_MAX: usize = 1_000;

/// The path in a journal's URL, `sqlite://PATH`.
pub fn path_of(url: &str) -> Result<PathBuf, String> {
    match url.strip_prefix("sqlite://") {
        Some(path) if !path.is_empty() && !path.starts_with(':') => Ok(path.into()),
        _ => Err(format!("{url:?} is no journal; expected sqlite://PATH, for example sqlite://runbookd.db")),
    }
}

fn error(text: impl Into<String>) -> JournalError {
    JournalError(text.into().into())
}

/// Between one row and [`PAGE_MAX`].
fn page(limit: usize) -> usize {
    limit.clamp(1, PAGE_MAX)
}

/// When a step had an effect, and which: what cooldowns are computed from.
fn effect(step: &Step) -> Option<(Timestamp, String)> {
    match (&step.intent, step.outcome) {
        (Some(intent @ (Intent::Services(_) | Intent::Reload { .. })), Outcome::Applied) => {
            Some((step.finished_at.unwrap_or(step.started_at), intent.to_string()))
        }
        _ => None,
    }
}

/// When a step changed something, or may have: what budgets and the fleet brake count.
fn counted(step: &Step) -> Option<Timestamp> {
    Effect::of("", IncidentId(0), step).map(|effect| effect.at)
}

/// Does an incident belong into the listing? The cursor and the limit are the caller's.
fn listed(filter: &IncidentFilter, incident: &Incident) -> bool {
    (filter.states.is_empty() || filter.states.contains(&incident.state))
        && filter.opened_after.is_none_or(|after| incident.opened_at > after)
        && filter.opened_before.is_none_or(|before| incident.opened_at < before)
        && filter.labels.iter().all(|(name, value)| incident.labels.value(name) == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_url_is_a_scheme_and_a_path() {
        let check = |url: &str, path: Option<&str>| assert_eq!(path_of(url).ok(), path.map(PathBuf::from), "{url}");
        check("sqlite://runbookd.db", Some("runbookd.db"));
        check("sqlite:///var/lib/runbookd.db", Some("/var/lib/runbookd.db"));
        check("sqlite://", None);
        check("sqlite://:memory:", None);
        check("postgres://db/runbookd", None);
        check("runbookd.db", None);
    }
}
