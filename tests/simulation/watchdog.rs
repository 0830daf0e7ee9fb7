//! The judge of the dead man's switch: when the alert that is always expected was not taken for too long of a living process, people hear of it, and when it is
//! taken again that is over.

use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::time::{at, millis};
use runbookd::model::incident::{Incident, State};

/// The journal is looked at this often at least.
const LOOKED_AT: u64 = 65_000;
/// From being taken to being handled.
const HANDLED: u64 = 5_000;

pub struct Watchdog {
    every: u64,
    /// When it was taken, and when a process began: from then on it is waited for.
    heard: Vec<u64>,
    taken: Option<u64>,
    open: bool,
}

impl Watchdog {
    pub fn new(plan: &Plan) -> Option<Self> {
        let (_, secs) = plan.watchdog?;
        Some(Watchdog { every: secs * 1_000, heard: Vec::new(), taken: None, open: false })
    }

    /// A post was taken that says that it fires.
    pub fn taken(&mut self) {
        self.taken = Some(millis());
        self.heard.push(millis());
    }

    pub fn life_begins(&mut self) {
        self.heard.push(millis());
    }

    /// What is wrong with what is open about it.
    pub fn look(&mut self, incidents: &[Incident], oracle: &Oracle) -> Option<String> {
        let of_it: Vec<&Incident> = incidents.iter().filter(|incident| is_of(incident)).collect();
        let open = of_it.iter().find(|incident| incident.state != State::Resolved);
        let last = *self.heard.last()?;
        let by_hand = of_it.iter().any(|incident| oracle.closed.contains(&incident.id));
        let was_open = std::mem::replace(&mut self.open, open.is_some());
        let Some(open) = open else {
            let silent = millis().saturating_sub(last);
            let text = format!("the watchdog was not heard for {} s and nobody is told", silent / 1_000);
            return (silent > self.every + LOOKED_AT && !by_hand).then_some(text);
        };
        let since = at(open.since);
        if self.taken.is_some_and(|taken| taken > since + 1 && millis() > taken + HANDLED) {
            return Some(format!("{} is open though the watchdog was heard again", open.id));
        }
        let before = self.heard.iter().rfind(|at| **at + 1 < since);
        let early = before.is_some_and(|before| since + 1_000 < before + self.every);
        let text = || {
            format!(
                "{} says that the watchdog is silent, which was heard less than {} s ago",
                open.id,
                self.every / 1_000
            )
        };
        (early && !was_open && !by_hand).then(text)
    }
}

/// Is this incident about it?
pub fn is_of(incident: &Incident) -> bool {
    incident.rule.is_none() && incident.key.starts_with("watchdog")
}
