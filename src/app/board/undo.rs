//! Undo on the board: an incident of its own, without a rule, that lives as long as the run that puts back what another did.

use super::{Board, NO_RULE, Start, lock_name};
use crate::app::undo::{RUNBOOK, Wish};
use crate::app::{CommandError, report};
use crate::engine::guard::{self, Verdict};
use crate::engine::lifecycle;
use crate::model::event::{Event, On};
use crate::model::incident::{Incident, IncidentId, Reason, State};
use crate::model::mode::Mode;
use crate::model::run::{Handler, Input, Run, RunId, RunState};
use crate::ports::Write;
use jiff::Timestamp;
use serde_json::json;
use std::sync::Arc;

/// The event that such an incident is about.
const EVENT: &str = "undo";

impl Board {
    /// A person has seen the plan and wants it carried out. It is refused where nothing is ever changed, to whom the rule does not name among its approvers, while
    /// effects are stopped, and while another works on one of its targets, or the same undo is at work: whoever asks is there and can mend that. One that came
    /// to nothing and waits for a person is closed by the next.
    pub fn undo(&mut self, wish: Wish, now: Timestamp) -> Result<Incident, CommandError> {
        let undoes = wish.planned.undoes.id;
        let rule = self.catalog.rule(&wish.planned.undoes.rule);
        let refused = |why: String| Err(CommandError::Conflict(format!("run {undoes} cannot be undone: {why}")));
        if self.config.max_mode == Mode::Shadow {
            return refused("max_mode of the configuration is shadow, so nothing is ever changed".to_string());
        }
        if let Some(rule) = rule.filter(|rule| !self.is_among(&rule.approve.by, &wish.by)) {
            let named = rule.approve.by.join(", ");
            return refused(format!("{} is not among those who decide about rule {}: {named}", wish.by, rule.name));
        }
        if let (_, Verdict::Hold { reason, .. }) =
            guard::stopped(rule.map(|rule| &**rule), &self.stops.view(&self.config), now)
        {
            return Err(CommandError::Conflict(format!("run {undoes} cannot be undone now: {}", reason.text)));
        }
        let mut targets: Vec<String> =
            wish.planned.plan.allow.iter().filter_map(|(primitive, target)| lock_name(primitive, target)).collect();
        targets.sort();
        targets.dedup();
        let id = IncidentId(self.last_incident + 1);
        if let Some((target, holder)) = self.locks.taken(id, &targets) {
            let text = format!("{target} is being worked on by incident {holder}: wait for its end, or close it first");
            return Err(CommandError::Conflict(text));
        }
        let key = format!("undo of {undoes}");
        let before = self.by_key.get(&(NO_RULE.into(), key.as_str().into())).copied();
        if let Some((before, run)) = before.and_then(|before| Some((before, self.live.get(&before)?))) {
            let text = format!("{undoes} is being undone by {run} of incident {before}: wait for its end");
            return Err(CommandError::Conflict(text));
        }
        if let Some(before) = before {
            let text = format!("{} wants {undoes} undone once more", wish.by);
            self.step(before, lifecycle::Event::Closed, Reason::new("newer_undo", text), now);
        }
        let id = self.open(None, &key, "a person wants it", now);
        let labels = [("event", EVENT), ("run", &undoes.to_string()), ("by", &wish.by)].into_iter().collect();
        let event = Event::new(On::Manual, labels, now);
        self.lock(id, &targets);
        self.edit(id, |incident| {
            incident.labels = event.labels.clone();
            incident.runbook = Some(RUNBOOK.to_string());
            incident.event = Some(event.into());
        });
        let why = if wish.reason.is_empty() { String::new() } else { format!(": {}", wish.reason) };
        let text = format!("{} wants run {undoes} undone{why}", wish.by);
        self.undoing = Some(wish);
        self.step(id, lifecycle::Event::Allowed, Reason::new("undo", text.clone()), now);
        self.tell_the_undone(undoes, &text, now);
        self.incidents.get(&id).map(|incident| (**incident).clone()).ok_or(CommandError::NotFound(id))
    }

    /// People who follow the incident of that run hear of it.
    fn tell_the_undone(&mut self, undoes: RunId, text: &str, now: Timestamp) {
        let found =
            self.incidents.values().find(|it| it.escalated && it.state != State::Resolved && it.runs.contains(&undoes));
        if let Some(id) = found.map(|incident| incident.id) {
            self.report(id, now, |facts| report::follow_up(facts, "What runbookd did is being undone", text));
        }
    }

    /// Starts the run of an incident that is an undo. Returns false for any other.
    pub(super) fn begin_undo(&mut self, id: IncidentId, now: Timestamp) -> bool {
        let Some(Wish { planned, .. }) = self.undoing.take() else { return false };
        let Some(event) = self.incidents.get(&id).and_then(|incident| incident.event.as_deref()) else { return false };
        let input = Input {
            alert: super::events::snapshot(event),
            params: json!({ "undoes": planned.undoes.id, "allow": planned.plan.allow }),
        };
        self.last_run += 1;
        let run = Run {
            id: RunId(self.last_run),
            incident: id,
            rule: planned.undoes.rule.clone(),
            runbook: RUNBOOK.to_string(),
            program: planned.program.hash.clone(),
            handler: Handler::OnEvent,
            shadow: false,
            plan: None,
            approved_by: Vec::new(),
            undoes: Some(planned.undoes.id),
            attempt: 1,
            state: RunState::Running,
            reason: None,
            input: Arc::new(input),
            wake_at: None,
            resumes: 0,
            log: Vec::new(),
            started_at: now,
            finished_at: None,
        };
        self.out.writes.push(Write::Program(planned.program.hash.clone(), planned.program.sources.clone()));
        self.live.insert(id, run.id);
        self.note_alive(now);
        let mut locked = Vec::new();
        self.edit(id, |incident| {
            incident.attempt = 1;
            incident.runs.push(run.id);
            locked.clone_from(&incident.locks);
        });
        self.metrics.undo_started();
        self.out.writes.push(Write::Run(Box::new(run.clone())));
        self.out.starts.push(Start { run, resumed: false, locked });
        true
    }
}

/// Is this incident the undo of a run? It has no rule, and is not tried again by itself.
pub(super) fn is_undo(incident: &Incident) -> bool {
    incident.rule.is_none()
        && incident.event.as_ref().is_some_and(|event| event.on == On::Manual && event.name() == EVENT)
}
