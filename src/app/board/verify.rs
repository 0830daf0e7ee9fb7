//! Verification on the board: what is asked while an incident is being verified, and what the answers bring. That the alert resolves is enough in any
//! case; a rule's expression, or the runbook's `verify`, may say sooner that the run has helped.

use super::Board;
use crate::app::report;
use crate::engine::lifecycle::Event;
use crate::model::duration::Duration;
use crate::model::incident::{IncidentId, Reason, State};
use crate::model::rule::{Expects, Rule};
use crate::model::run::RunId;
use jiff::Timestamp;

/// Still firing this long after its expectation was met: a person looks at it.
pub(super) const RECOVERED_AT_MOST: Duration = Duration::from_secs(3600);

/// What the executor is to ask, every poll, until it is met or the incident is no longer verified.
#[derive(Clone, Debug)]
pub struct Verification {
    pub incident: IncidentId,
    /// The run that is to have helped: its program and its input are those of `verify`.
    pub run: RunId,
    /// Since when the incident is verified: answers to an earlier verification count for nothing.
    pub since: Timestamp,
    pub asked: Asked,
}

#[derive(Clone, Debug)]
pub enum Asked {
    /// This expression, its labels put in.
    Promql(String),
    /// The runbook's `verify`, if the run's program has one.
    Runbook,
}

/// What one look said, in words.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    Met(String),
    NotMet(String),
    /// It could not be asked, or there was no readable answer. That is never met.
    Unknown(String),
}

impl Seen {
    /// As a metric's label.
    pub fn name(&self) -> &'static str {
        match self {
            Seen::Met(_) => "met",
            Seen::NotMet(_) => "not_met",
            Seen::Unknown(_) => "unknown",
        }
    }
}

impl Board {
    /// Has the expectation of the rule now in force asked.
    pub(super) fn ask_whether_it_helped(&mut self, id: IncidentId) {
        let Some(incident) = self.incidents.get(&id).filter(|incident| incident.state == State::Verifying) else {
            return;
        };
        let (Some(rule), Some(run)) = (self.rule_of(incident), incident.runs.last().copied()) else { return };
        let asked = match &rule.verify.expects {
            // Every alert of the incident has the labels that are needed: routing saw to it.
            Expects::Promql(query) => query.render(&incident.labels).ok().map(Asked::Promql),
            Expects::AsTheRunbookSays => Some(Asked::Runbook),
            Expects::Resolved => None,
        };
        let since = incident.since;
        match asked {
            Some(asked) => self.out.verify.push(Verification { incident: id, run, since, asked }),
            None => self.out.verified.push(id),
        }
    }

    /// After a change of the rules: what is asked is what the rule now in force expects.
    pub(super) fn ask_anew(&mut self) {
        let mut verifying: Vec<IncidentId> =
            self.incidents.values().filter(|it| it.state == State::Verifying).map(|it| it.id).collect();
        verifying.sort();
        for id in verifying {
            self.ask_whether_it_helped(id);
        }
    }

    /// Is it the verification that began then which is still going on?
    pub(super) fn is_verified(&self, id: IncidentId, since: Timestamp) -> bool {
        let found = self.incidents.get(&id);
        found.is_some_and(|incident| incident.state == State::Verifying && incident.since == since)
    }

    /// What a look at an expectation said. Told when it is another answer than the one before.
    pub fn looked(&mut self, id: IncidentId, since: Timestamp, seen: Seen, now: Timestamp) {
        if !self.is_verified(id, since) {
            return;
        }
        let text = match seen {
            Seen::NotMet(text) | Seen::Unknown(text) => {
                self.unmet.insert(id, text);
                return;
            }
            Seen::Met(text) => text,
        };
        self.step(id, Event::Recovered, Reason::new("recovered", format!("{text}; the alert still fires")), now);
        self.edit(id, |incident| incident.until = Some(now + RECOVERED_AT_MOST.signed()));
        // Nothing more is done to its targets.
        self.release(id, now);
        if self.incidents.get(&id).is_some_and(|incident| incident.escalated) {
            self.report(id, now, report::state_update);
        }
    }

    /// The time to verify is over, and it fires.
    pub(super) fn not_resolved_in_time(&mut self, id: IncidentId, now: Timestamp) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let (attempt, waited) = (incident.attempt, Duration::between(incident.since, now));
        let expected = self.unmet.get(&id).map_or_else(String::new, |why| format!("; {why}"));
        let text = format!("attempt {attempt} ran, and {waited} later it still fires{expected}");
        self.not_helped(id, Reason::new("not_resolved", text), now);
    }

    /// Starts the time of verification.
    pub(super) fn verify(&mut self, id: IncidentId, rule: &Rule, now: Timestamp) {
        self.edit(id, |incident| incident.until = Some(now + rule.verify.within.signed()));
        self.ask_whether_it_helped(id);
    }

    /// The incident is no longer being verified.
    pub(super) fn stop_verifying(&mut self, id: IncidentId) {
        self.unmet.remove(&id);
        self.out.verified.push(id);
    }
}
