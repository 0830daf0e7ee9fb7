//! What people ask of the board: acknowledge, close, pause, resume.

use super::Board;
use crate::app::{CommandError, Paused, report};
use crate::engine::lifecycle::Event;
use crate::model::incident::{Incident, IncidentId, Reason, State};
use crate::ports::Write;
use jiff::Timestamp;

pub(super) const PAUSED: &str = "paused";

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
        let text = if why.is_empty() { format!("closed by {by}") } else { format!("closed by {by}: {why}") };
        self.step(id, Event::Closed, Reason::new("closed", text), now);
        self.found(id)
    }

    fn found(&self, id: IncidentId) -> Result<Incident, CommandError> {
        self.incidents.get(&id).map(|incident| (**incident).clone()).ok_or(CommandError::NotFound(id))
    }

    /// Pulls the kill switch: no run starts and no effect begins until `resume`.
    pub fn pause(&mut self, by: &str, why: &str, now: Timestamp) -> Paused {
        let paused = Paused { by: by.to_string(), reason: why.to_string(), at: now };
        let stored = serde_json::to_string(&paused).expect("plain text and a time serialise");
        self.out.writes.push(Write::Setting(PAUSED.into(), Some(stored)));
        self.metrics.set_paused(true);
        self.paused = Some(paused.clone());
        let text = if why.is_empty() { "No reason was given." } else { why };
        self.send(report::operators(&format!("runbookd was paused by {by}"), text, now));
        paused
    }

    /// Releases the kill switch; what it held is asked for again.
    pub fn resume(&mut self, by: &str, now: Timestamp) -> Result<(), CommandError> {
        if self.paused.take().is_none() {
            return Err(CommandError::Conflict("runbookd is not paused".to_string()));
        }
        self.out.writes.push(Write::Setting(PAUSED.into(), None));
        self.metrics.set_paused(false);
        self.send(report::operators(&format!("runbookd goes on, released by {by}"), "", now));
        let mut held: Vec<IncidentId> = self
            .incidents
            .values()
            .filter(|it| it.state == State::Held && it.reason.code == "paused")
            .map(|it| it.id)
            .collect();
        held.sort();
        for id in held {
            self.consider(id, now);
        }
        Ok(())
    }
}
