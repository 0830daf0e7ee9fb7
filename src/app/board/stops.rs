//! What stops effects: the kill switch, one-off freezes, the fleet brake. Journalled, told, and released; what they held is asked about anew.

use super::Board;
use crate::app::stops::{Braked, Paused, Stops};
use crate::app::{CommandError, report};
use crate::model::diagnostic::nearest;
use crate::model::duration::Duration;
use crate::model::freeze::{self, Freeze, FreezeId, Scope};
use crate::model::incident::{IncidentId, Reason, State};
use crate::model::run::Run;
use crate::ports::Write;
use jiff::Timestamp;

/// Under these names the journal keeps the switch, each freeze (with its id behind it), and the highest id of one.
const PAUSED: &str = "paused";
const FREEZE: &str = "freeze ";
const LAST_FREEZE: &str = "last_freeze";
const BRAKE: &str = "brake";
const RELEASED: &str = "brake_released_at";
/// Targets that the message about the brake names.
const TARGETS_TOLD: usize = 20;
/// A freeze that cannot be read back is in force for so long: somebody meant to stop something.
const UNREADABLE_FOR: Duration = Duration::from_secs(24 * 3600);
/// The longest freeze for once. What is to last longer stands in the configuration.
const FREEZE_AT_MOST: Duration = Duration::from_secs(366 * 24 * 3600);

impl Board {
    pub fn stops(&self) -> &Stops {
        &self.stops
    }

    /// Whether they have changed since this was last asked.
    pub fn take_stops_changed(&mut self) -> bool {
        std::mem::take(&mut self.stops_changed)
    }

    /// Pulls the kill switch: no run starts and no effect begins until `resume`.
    pub fn pause(&mut self, by: &str, why: &str, now: Timestamp) -> Paused {
        let paused = Paused { by: by.to_string(), reason: why.to_string(), at: now };
        self.keep(PAUSED.into(), Some(&paused));
        self.metrics.set_paused(true);
        self.stops.paused = Some(paused.clone());
        let text = if why.is_empty() { "No reason was given." } else { why };
        self.send(report::operators(&format!("runbookd was paused by {by}"), text, now));
        paused
    }

    /// Releases the kill switch; what it held is asked for again.
    pub fn resume(&mut self, by: &str, now: Timestamp) -> Result<(), CommandError> {
        if self.stops.paused.take().is_none() {
            return Err(CommandError::Conflict("runbookd is not paused".to_string()));
        }
        self.keep(PAUSED.into(), None::<&Paused>);
        self.metrics.set_paused(false);
        self.send(report::good_news(&format!("runbookd goes on, released by {by}"), "", now));
        self.consider_held("paused", now);
        Ok(())
    }

    /// Makes a freeze for once. Errors (conflict): it is over already, or would be for no rule there is.
    pub fn freeze(
        &mut self,
        scope: Scope,
        until: Timestamp,
        by: &str,
        why: &str,
        now: Timestamp,
    ) -> Result<Freeze, CommandError> {
        if until <= now || until > now + FREEZE_AT_MOST.signed() {
            let text = format!("a freeze until {until:.0} would be over already, or last longer than {FREEZE_AT_MOST}");
            return Err(CommandError::Conflict(text));
        }
        self.some_rule_of(&scope)?;
        let id = FreezeId(self.last_freeze + 1);
        let freeze = Freeze { id, scope, by: by.to_string(), reason: why.to_string(), at: now, until };
        self.last_freeze = id.0;
        self.keep(LAST_FREEZE.into(), Some(&id.0));
        self.keep(format!("{FREEZE}{id}"), Some(&freeze));
        let title = format!("{by} froze {} until {until:.0} ({id})", freeze.scope);
        self.send(report::operators(&title, why, now));
        self.stops.freezes.push(freeze.clone());
        Ok(freeze)
    }

    /// A freeze for a name that is written wrong would be none, and nobody would know.
    fn some_rule_of(&self, scope: &Scope) -> Result<(), CommandError> {
        let rules = &self.catalog.rules;
        let near = match scope {
            Scope::All => return Ok(()),
            Scope::Rule(name) if rules.iter().any(|rule| freeze::names(name, &rule.name)) => return Ok(()),
            Scope::Tag(tag) if rules.iter().any(|rule| rule.tags.contains(tag)) => return Ok(()),
            Scope::Rule(name) => nearest(name, rules.iter().map(|rule| rule.name.as_str())),
            Scope::Tag(tag) => nearest(tag, rules.iter().flat_map(|rule| &rule.tags).map(String::as_str)),
        };
        let help = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        Err(CommandError::Conflict(format!("{scope}: there is no such rule{help}")))
    }

    /// Ends a freeze before its time.
    pub fn unfreeze(&mut self, id: FreezeId, by: &str, now: Timestamp) -> Result<Freeze, CommandError> {
        let freeze = self.thaw(id).ok_or_else(|| {
            CommandError::NoFreeze(format!("there is no freeze {id}, or it is over; `runbookd freezes` lists them"))
        })?;
        self.send(report::good_news(&format!("{id}, for {}, was ended by {by}", freeze.scope), "", now));
        self.consider_held("freeze", now);
        Ok(freeze)
    }

    fn thaw(&mut self, id: FreezeId) -> Option<Freeze> {
        let at = self.stops.freezes.iter().position(|freeze| freeze.id == id)?;
        self.keep(format!("{FREEZE}{id}"), None::<&Freeze>);
        Some(self.stops.freezes.remove(at))
    }

    /// When the first freeze ends by itself.
    pub(super) fn next_thaw(&self) -> Option<Timestamp> {
        self.stops.freezes.iter().map(|freeze| freeze.until).min()
    }

    pub(super) fn thaw_due(&mut self, now: Timestamp) {
        let over: Vec<FreezeId> =
            self.stops.freezes.iter().filter(|freeze| freeze.until <= now).map(|freeze| freeze.id).collect();
        if over.is_empty() {
            return;
        }
        for freeze in over.into_iter().filter_map(|id| self.thaw(id)).collect::<Vec<_>>() {
            let Freeze { id, scope, by, .. } = freeze;
            self.send(report::good_news(&format!("{id} by {by}, for {scope}, is over"), "", now));
        }
        self.consider_held("freeze", now);
    }

    /// Too much is changed: everything holds until a person releases it, who is told once for all of it.
    pub(super) fn pull_brake(&mut self, why: &str, now: Timestamp) {
        if self.stops.braked.is_some() {
            return;
        }
        let braked = Braked { reason: why.to_string(), at: now };
        self.keep(BRAKE.into(), Some(&braked));
        self.stops.braked = Some(braked);
        self.metrics.set_braked(true);
        self.metrics.escalation("brake");
        tracing::error!(%why, "the fleet brake is on: nothing is changed until it is released");
        let mut changed: Vec<_> = self.ledger.targets_after(self.released_at).collect();
        changed.sort_by_key(|(target, mark)| (std::cmp::Reverse(mark.at), *target));
        let mut text = format!("{why}\nNothing is changed until a person releases it: runbookd release\nChanged last:");
        for (target, mark) in changed.into_iter().take(TARGETS_TOLD) {
            text +=
                &format!("\n{target}, by rule {} {} ago ({})", mark.rule, Duration::between(mark.at, now), mark.run);
        }
        self.send(report::operators("The fleet brake is on: runbookd changes too much at once", &text, now));
    }

    /// What was before does not pull it again.
    pub fn release_brake(&mut self, by: &str, now: Timestamp) -> Result<(), CommandError> {
        if self.stops.braked.take().is_none() {
            return Err(CommandError::Conflict("the fleet brake is not on".to_string()));
        }
        self.released_at = now;
        self.keep(RELEASED.into(), Some(&now));
        self.keep(BRAKE.into(), None::<&Braked>);
        self.metrics.set_braked(false);
        self.send(report::good_news(&format!("The fleet brake was released by {by}"), "", now));
        self.consider_held("brake", now);
        Ok(())
    }

    /// Asks again about everything that is held for this reason.
    pub(super) fn consider_held(&mut self, code: &str, now: Timestamp) {
        let held = self.incidents.values().filter(|it| it.state == State::Held && it.reason.code == code);
        let mut held: Vec<IncidentId> = held.map(|it| it.id).collect();
        held.sort();
        for id in held {
            self.consider(id, now);
        }
    }

    /// A run under way may begin no effect now, and waits.
    pub fn run_held(&mut self, run: &Run, reason: Reason, now: Timestamp) {
        let Some(incident) = self.incidents.get(&run.incident) else { return };
        let (id, state, told) = (incident.id, incident.state, incident.escalated);
        self.record(id, now, Some(state), state, reason.clone());
        self.edit(id, |incident| incident.reason = reason.clone());
        // Of a switch that was pulled people were told; a window begins by itself.
        if reason.code == "freeze" && !told {
            self.edit(id, |incident| incident.escalated = true);
            self.metrics.escalation(reason.code.to_string());
            self.report(id, now, |facts| report::held(facts, &reason));
        }
    }

    /// What held a run under way is over.
    pub fn run_released(&mut self, run: &Run, now: Timestamp) {
        let Some(incident) = self.incidents.get(&run.incident) else { return };
        let (id, state) = (incident.id, incident.state);
        let reason = Reason::new("released", format!("{} goes on", run.id));
        self.record(id, now, Some(state), state, reason.clone());
        self.edit(id, |incident| incident.reason = reason);
    }

    fn keep(&mut self, name: String, value: Option<&impl serde::Serialize>) {
        let stored = value.map(|value| serde_json::to_string(value).expect("plain text and times serialise"));
        self.out.writes.push(Write::Setting(name.into(), stored));
        self.stops_changed = true;
    }

    /// What the journal holds under one name; whether it is about this.
    pub(super) fn recall_stop(&mut self, name: &str, value: &str, now: Timestamp) -> bool {
        let unreadable = |error: serde_json::Error| format!("what the journal holds of it cannot be read: {error}");
        if name == PAUSED {
            // An unreadable switch counts as pulled.
            let pulled = |error| Paused { by: "runbookd".into(), reason: unreadable(error), at: now };
            self.stops.paused = Some(serde_json::from_str(value).unwrap_or_else(pulled));
        } else if name == LAST_FREEZE {
            self.last_freeze = value.parse().unwrap_or_default();
        } else if name == BRAKE {
            let pulled = |error| Braked { reason: unreadable(error), at: now };
            self.stops.braked = Some(serde_json::from_str(value).unwrap_or_else(pulled));
            self.metrics.set_braked(true);
        } else if name == RELEASED {
            self.released_at = serde_json::from_str(value).unwrap_or_default();
        } else if let Some(id) = name.strip_prefix(FREEZE) {
            let made = |error| Freeze {
                id: id.parse().unwrap_or(FreezeId(0)),
                scope: Scope::All,
                by: "runbookd".into(),
                reason: unreadable(error),
                at: now,
                until: now + UNREADABLE_FOR.signed(),
            };
            self.stops.freezes.push(serde_json::from_str(value).unwrap_or_else(made));
        } else {
            return false;
        }
        true
    }
}
