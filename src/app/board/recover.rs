//! The board after a restart: what the journal holds, and which runs go on.

use super::runs::NOTED_AHEAD;
use super::{
    Board, Known, Start,
    effectiveness::EFFECTIVENESS,
    events::{HAND, SEEN},
    intake::CUT_OFF,
    news::NEWS,
    trust::TRUST,
};
use crate::engine::lifecycle::Event;
use crate::model::duration::Duration;
use crate::model::incident::{Incident, IncidentId, Reason, State};
use crate::model::rule::Rule;
use crate::model::run::{Handler, Run};
use crate::ports::{Recovered, Write};
use jiff::Timestamp;
use std::collections::HashMap;

/// When the engine was last known to be alive, written every so often.
const ALIVE: &str = "alive_at";
/// So often at most: what it decides is counted in minutes.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
/// A verification deadline that passed during a downtime gets this much more.
const VERIFY_GRACE: Duration = Duration::from_secs(300);

impl Board {
    /// Takes over what the journal holds. Runs that had not ended are to be started again, as resumed.
    pub fn recover(&mut self, found: Recovered, now: Timestamp) {
        self.handled = found.handled;
        self.last_incident = found.last_incident;
        self.last_run = found.last_run;
        self.last_message = found.last_message;
        self.take_settings(&found.settings, now);
        for level in found.levels {
            let fingerprint = level.alert.fingerprint;
            self.groups.entry(level.group.key.clone()).or_default().insert(fingerprint);
            if let Some(at) = level.refire_at {
                self.doubts.insert((at, fingerprint));
            }
            let seen_in_journal = level.last_seen;
            self.levels.insert(
                fingerprint,
                Box::new(Known { level, incidents: Vec::with_capacity(1), seen_in_journal, absent_since: None }),
            );
        }
        let mut incidents = found.incidents;
        incidents.sort_by_key(|incident| incident.id);
        for incident in incidents {
            self.by_key.insert(Self::key_of(&incident), incident.id);
            for fingerprint in &incident.alerts {
                if let Some(known) = self.levels.get_mut(fingerprint) {
                    known.incidents.push(incident.id);
                }
            }
            *self.counts.entry(incident.state).or_default() += 1;
            if let Some(at) = incident.until {
                self.timers.insert((at, incident.id));
            }
            self.incidents.insert(incident.id, Box::new(incident));
        }
        self.recall_attempts(&found.runs, &found.last_effects);
        for effect in found.last_effects {
            let asked = self.catalog.rule(&effect.rule).is_some_and(|rule| rule.cooldown.is_some());
            if asked || self.effects.len() < NOTED_AHEAD {
                self.effects.insert((effect.rule.into(), effect.key.into()), (effect.at, effect.what));
            }
        }
        for effect in &found.effects {
            self.ledger.note(effect);
        }
        self.lock_held();
        self.lock_verifying();
        self.take_runs(found.runs);
        self.wake_answered();
        self.forget_closed(now);
        self.mend(now);
        self.watch(now);
        // The rules may have changed while nobody was there.
        self.route_unmatched(now);
    }

    fn take_settings(&mut self, settings: &[(String, String)], now: Timestamp) {
        for (name, value) in settings {
            match name.as_str() {
                _ if self.recall_stop(name, value, now) => {}
                ALIVE => self.down_for = value.parse().ok().map(|at: Timestamp| Duration::between(at, now)),
                _ if name.starts_with(TRUST) => self.recall_trust(&name[TRUST.len()..], value),
                _ if name.starts_with(CUT_OFF) => self.recall_cut_off(value),
                _ if name.starts_with(EFFECTIVENESS) => self.recall_effectiveness(&name[EFFECTIVENESS.len()..], value),
                _ if name.starts_with(NEWS) => self.recall_news(&name[NEWS.len()..], value),
                _ if name.starts_with(HAND) => self.recall_hand(value),
                _ if name.starts_with(SEEN) => self.recall_seen(&name[SEEN.len()..], value),
                _ => {}
            }
        }
        self.metrics.set_paused(self.stops.paused.is_some());
    }

    /// What is journalled as locked is locked: before anybody is given what a rule of today names.
    fn lock_held(&mut self) {
        let mut held: Vec<(IncidentId, Vec<String>)> =
            self.incidents.values().map(|incident| (incident.id, incident.locks.clone())).collect();
        held.sort();
        for (id, targets) in held {
            self.lock_free(id, targets);
        }
    }

    /// What is being verified held its targets for certain: nobody else is given them.
    fn lock_verifying(&mut self) {
        let verifying: Vec<(IncidentId, Vec<String>)> = (self.incidents.values())
            .filter(|incident| incident.state == State::Verifying)
            .map(|incident| (incident.id, Self::held_targets(self.rule_of(incident).as_deref(), incident)))
            .collect();
        for (id, targets) in verifying {
            self.lock_free(id, targets);
        }
    }

    /// What an incident had locked. Journals of old do not hold what its rule names literally.
    fn held_targets(rule: Option<&Rule>, incident: &Incident) -> Vec<String> {
        let mut targets = rule.map_or_else(Vec::new, |rule| Self::literal_targets(rule, incident));
        targets.extend(incident.locks.iter().cloned());
        targets
    }

    fn take_runs(&mut self, mut runs: Vec<Run>) {
        // The others held their targets since they began; `on_resolved` may still have waited for them.
        runs.sort_by_key(|run| (run.handler, run.id));
        for run in runs {
            let rule = self.catalog.rule(&run.rule).cloned();
            if run.handler != Handler::OnResolved && run.undoes.is_none() && !run.shadow {
                self.note_attempt(&run.rule, run.started_at);
            }
            if run.state.ended() {
                continue;
            }
            let Some(incident) = self.incidents.get(&run.incident) else { continue };
            // An undo has no rule: what it works on was noted when it began. A rehearsal works on nothing.
            let rule = rule.filter(|_| run.undoes.is_none());
            let locked = match rule {
                _ if run.shadow => Vec::new(),
                rule => Self::held_targets(rule.as_deref(), incident),
            };
            let locked = self.lock_free(run.incident, locked);
            self.live.insert(run.incident, run.id);
            self.out.starts.push(Start { run, resumed: true, locked });
        }
    }

    /// Incidents whose flap window has passed meanwhile cannot be reopened.
    fn forget_closed(&mut self, now: Timestamp) {
        let over = |it: &Incident| it.state == State::Resolved && it.until.is_none_or(|until| until <= now);
        let ids: Vec<IncidentId> = self.incidents.values().filter(|it| over(it)).map(|it| it.id).collect();
        for id in ids {
            self.forget(id);
        }
    }

    /// What a restart must put right: deadlines that passed meanwhile, incidents left between two states.
    fn mend(&mut self, now: Timestamp) {
        let states: HashMap<IncidentId, State> =
            self.incidents.iter().map(|(id, incident)| (*id, incident.state)).collect();
        let mut ids: Vec<IncidentId> = states.keys().copied().collect();
        ids.sort();
        for id in ids {
            match states[&id] {
                State::Verifying => self.mend_verifying(id, now),
                State::Running if !self.live.contains_key(&id) => {
                    let reason = Reason::new("interrupted", "the journal holds no run of it, though it was running");
                    self.step(id, Event::HandedOver, reason, now);
                }
                // What they waited for (a lock, a release) may have come while nobody was there.
                State::Open | State::Held if self.incidents[&id].reason.code != "retry" => {
                    self.edit(id, |incident| incident.until = Some(now))
                }
                _ => {}
            }
        }
    }

    fn mend_verifying(&mut self, id: IncidentId, now: Timestamp) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let late = incident.until.is_none_or(|until| until <= now);
        if late {
            self.edit(id, |incident| incident.until = Some(now + VERIFY_GRACE.signed()));
        }
        self.ask_whether_it_helped(id);
    }

    /// Noted while there are runs, so that the next process knows how long nobody was there for them.
    pub fn note_alive(&mut self, now: Timestamp) {
        let lately = |noted: Timestamp| now.duration_since(noted) < ALIVE_EVERY.signed();
        if self.live.is_empty() || self.noted_alive.is_some_and(lately) {
            return;
        }
        self.noted_alive = Some(now);
        self.out.writes.push(Write::Setting(ALIVE.into(), Some(now.to_string())));
    }
}
