//! Verification on the board: what is asked while an incident is being verified, and what the answers bring. That the alert resolves is enough in any
//! case; a rule's expression, or the runbook's `verify`, may say sooner that the run has helped.

use super::Board;
use crate::app::report;
use crate::engine::lifecycle::Event;
use crate::model::duration::Duration;
use crate::model::incident::{Incident, IncidentId, Reason, State};
use crate::model::rule::{Expects, Rule};
use crate::model::run::{Handler, Run, RunId};
use crate::ports::LastEffect;
use jiff::Timestamp;
use std::collections::HashMap;

/// Still firing this long after its expectation was met: a person looks at it.
pub(super) const RECOVERED_AT_MOST: Duration = Duration::from_secs(3600);

/// How long past its deadline an attempt is not judged while its alert may be gone, and how often that is looked at.
const GONE_AT_MOST: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_secs(10);

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

/// The last attempt of an incident on the board, when it has ended.
pub(super) struct Attempt {
    pub run: RunId,
    pub runbook: String,
    pub started_at: Timestamp,
    /// What it came to has been counted.
    pub judged: bool,
    /// When it last had an effect; `None` when it had none.
    acted_at: Option<Timestamp>,
    /// What its incident had locked when it was released.
    pub released: Vec<String>,
}

impl Board {
    /// An attempt has ended.
    pub(super) fn attempted(&mut self, run: &Run, acted_at: Option<Timestamp>) {
        if run.handler != Handler::OnResolved {
            let (runbook, judged) = (run.runbook.clone(), self.is_judged(&run.rule, run.id));
            let released = Vec::new();
            let attempt = Attempt { run: run.id, runbook, started_at: run.started_at, judged, acted_at, released };
            self.attempts.insert(run.incident, attempt);
        }
    }

    /// After a restart: the last attempt of everything on the board.
    pub(super) fn recall_attempts(&mut self, runs: &[Run], effects: &[LastEffect]) {
        let acted: HashMap<(&str, &str), Timestamp> =
            effects.iter().map(|effect| ((effect.rule.as_str(), effect.key.as_str()), effect.at)).collect();
        let mut ended: Vec<&Run> = runs.iter().filter(|run| run.state.ended() && !run.shadow).collect();
        ended.sort_by_key(|run| run.id);
        for run in ended {
            let Some(incident) = self.incidents.get(&run.incident) else { continue };
            // What is not known to the second was after its start.
            let at = acted.get(&(run.rule.as_str(), incident.key.as_str())).copied().unwrap_or(run.started_at);
            let acted_at = incident.had_effect.then_some(at);
            self.attempted(run, acted_at);
        }
    }

    /// When something was last done on account of any of these incidents, unless it was given back since.
    pub(super) fn acted_at(&self, incidents: &[IncidentId]) -> Option<Timestamp> {
        let kept = incidents.iter().filter(|id| self.incidents.get(id).is_some_and(|incident| !incident.gave_back));
        kept.filter_map(|id| self.attempts.get(id)?.acted_at).max()
    }

    /// Does all of it fire since before its last attempt had its effect, which has not had its time to show? Then this is no new episode.
    pub(super) fn decays(&self, id: IncidentId, now: Timestamp) -> bool {
        let Some(incident) = self.incidents.get(&id).filter(|_| !self.live.contains_key(&id)) else { return false };
        let (Some(rule), Some(acted)) = (self.rule_of(incident), self.acted_at(&[id])) else { return false };
        let firing = || self.levels_of(incident).filter(|level| level.firing());
        now < acted + rule.verify.within.signed() && firing().all(|level| level.alert.starts_at <= acted)
    }

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
        if self.may_be_gone(incident, now) {
            return self.edit(id, |incident| incident.until = Some(now + LOOK_AGAIN.signed()));
        }
        let (attempt, waited) = (incident.attempt, Duration::between(incident.since, now));
        let expected = self.unmet.get(&id).map_or_else(String::new, |why| format!("; {why}"));
        let text = format!("attempt {attempt} ran, and {waited} later it still fires{expected}");
        self.not_helped(id, Reason::new("not_resolved", text), now);
    }

    /// Alertmanager no longer lists it, and has not said that it is resolved: the attempt is not judged before that is known, or for so long.
    fn may_be_gone(&self, incident: &Incident, now: Timestamp) -> bool {
        let firing = self.firing(incident);
        let within = self.rule_of(incident).map_or(Rule::RESOLVED_WITHIN, |rule| rule.verify.within);
        let waits = now < incident.since + within.signed() + GONE_AT_MOST.signed();
        waits && firing.confirmed == 0 && firing.suppressed == 0 && firing.unconfirmed > 0
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
