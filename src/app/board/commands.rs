//! What people ask of the board about one incident: acknowledge, close; and what they are told of a rule that is not there.

use super::Board;
use crate::app::{CommandError, report};
use crate::engine::lifecycle::Event;
use crate::model::diagnostic::nearest;
use crate::model::incident::{Incident, IncidentId, Reason, State};
use jiff::Timestamp;

impl Board {
    /// A person has it.
    pub fn ack(&mut self, id: IncidentId, by: &str, now: Timestamp) -> Result<Incident, CommandError> {
        let incident = self.incidents.get(&id).ok_or(CommandError::NotFound(id))?;
        match incident.state {
            State::Resolved => {
                return Err(CommandError::Conflict(format!("{id} is resolved: there is nothing to acknowledge")));
            }
            State::Open | State::Running => {
                let text =
                    format!("{id} is {}: its runbook is at work, wait for its end or pause runbookd", incident.state);
                return Err(CommandError::Conflict(text));
            }
            _ => {}
        }
        let (from, told) = (incident.state, incident.escalated);
        let reason = Reason::new("acknowledged", format!("{by} has it"));
        self.record(id, now, Some(from), from, reason.clone());
        self.edit(id, |incident| incident.acked_by = Some(by.to_string()));
        if told {
            self.report(id, now, |facts| report::follow_up(facts, &format!("Acknowledged by {by}"), ""));
        }
        self.found(id)
    }

    /// A person says that it is over.
    pub fn close_by_hand(
        &mut self,
        id: IncidentId,
        by: &str,
        why: &str,
        now: Timestamp,
    ) -> Result<Incident, CommandError> {
        let incident = self.incidents.get(&id).ok_or(CommandError::NotFound(id))?;
        if incident.state == State::Resolved {
            return Err(CommandError::Conflict(format!("{id} is resolved already")));
        }
        if self.live.contains_key(&id) {
            let text = format!("{id} has a run at work; pause runbookd if it must not go on, or wait for its end");
            return Err(CommandError::Conflict(text));
        }
        let mut text = if why.is_empty() { format!("closed by {by}") } else { format!("closed by {by}: {why}") };
        if incident.had_effect && self.fires(incident) {
            text += "; it fires still, so what was changed is not given back";
        }
        for fingerprint in incident.alerts.clone() {
            let Some(known) = self.levels.get_mut(&fingerprint).filter(|known| known.level.firing()) else { continue };
            known.level.closed_at = Some(now);
            self.keep_level(fingerprint);
        }
        self.step(id, Event::Closed, Reason::new("closed", text), now);
        self.found(id)
    }

    /// Somebody named a rule that is not there.
    pub(super) fn no_rule(&self, name: &str) -> CommandError {
        let help = match nearest(name, self.catalog.rules.iter().map(|rule| rule.name.as_str())) {
            Some(near) => format!("did you mean {near}?"),
            None => "`runbookd rules` lists them".to_string(),
        };
        CommandError::NoRule(format!("there is no rule {name:?}; {help}"))
    }

    fn found(&self, id: IncidentId) -> Result<Incident, CommandError> {
        self.incidents.get(&id).map(|incident| (**incident).clone()).ok_or(CommandError::NotFound(id))
    }
}
