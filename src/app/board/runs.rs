//! Runs on the board: starting them, what they ask, and what their end brings.

use super::{Board, Start, undo};
use crate::app::report;
use crate::engine::guard::{self, Change, Company, Verdict};
use crate::engine::lifecycle::Event;
use crate::model::alert::Level;
use crate::model::duration::Duration;
use crate::model::effect::{Effect, target_name};
use crate::model::effectiveness::Judgement;
use crate::model::incident::{Incident, IncidentId, Reason, State};
use crate::model::label::Labels;
use crate::model::mode::Plan;
use crate::model::rule::Rule;
use crate::model::run::{Handler, Input, Run, RunId, RunState};
use crate::model::step::Step;
use crate::ports::Write;
use crate::runbook::catalog::rule_handler;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Primitives that change services.
pub const SERVICES: [&str; 5] = ["scale", "update", "restart", "rollback", "reschedule"];
/// What the guards that look over all rules said of an effect holds for so long: one that is sent later than that, since it had to wait, is asked about anew.
const ADMITTED_FOR: Duration = Duration::from_secs(10);
/// Effects of an incident's runs that are kept to be told.
const EFFECTS_KEPT: usize = 20;

/// Attempts noted for a rule without a budget, and effects noted for rules without a cooldown.
const ATTEMPTS_NOTED: usize = 100;
pub(super) const NOTED_AHEAD: usize = 10_000;

/// A run that has ended, as its executor tells it.
pub struct Ended {
    pub run: Run,
    /// What it changed, in words, in order.
    pub effects: Vec<String>,
    /// What a rehearsal would have done.
    pub plan: Option<Plan>,
    /// When the last of that was done.
    pub acted_at: Option<Timestamp>,
}

impl Board {
    /// The targets that the rule's grant names without a glob: locked before a run starts.
    pub(super) fn literal_targets(rule: &Rule, incident: &Incident) -> Vec<String> {
        let mut targets: Vec<String> = rule
            .allow
            .iter()
            .filter_map(|grant| lock_name(&grant.primitive, &grant.target.literal(&incident.labels)?))
            .collect();
        targets.sort();
        targets.dedup();
        targets
    }

    /// The services among them, each with what its grant is for.
    pub(super) fn literal_services<'a>(rule: &'a Rule, incident: &Incident) -> Vec<(&'a str, String)> {
        let granted = rule.allow.iter().filter(|grant| SERVICES.contains(&&*grant.primitive));
        granted.filter_map(|grant| Some((&*grant.primitive, grant.target.literal(&incident.labels)?))).collect()
    }

    pub(super) fn attempts_in_window(&mut self, rule: &Rule, now: Timestamp) -> u32 {
        let (Some(budget), Some(made)) = (rule.budget, self.budgets.get_mut(&rule.name)) else { return 0 };
        while made.front().is_some_and(|at| now.duration_since(*at) >= budget.per.signed()) {
            made.pop_front();
        }
        u32::try_from(made.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn start_run(&mut self, id: IncidentId, now: Timestamp) {
        let mut attempt = 0;
        self.edit(id, |incident| {
            incident.attempt += 1;
            attempt = incident.attempt;
        });
        let Some(rule) = self.incidents.get(&id).and_then(|incident| self.rule_of(incident)) else { return };
        self.note_attempt(&rule.name, now);
        let handler = self.handler_of(&rule);
        self.begin(id, &rule, handler, attempt, false, now);
    }

    /// Finds out what the next attempt would do. The incident stays as it is meanwhile.
    pub(super) fn rehearse(&mut self, id: IncidentId, rule: &Rule, now: Timestamp) {
        let handler = self.handler_of(rule);
        let attempt = self.incidents.get(&id).map_or(0, |incident| incident.attempt);
        self.begin(id, rule, handler, attempt + 1, true, now);
    }

    fn handler_of(&self, rule: &Rule) -> Handler {
        let program = rule.runbook.as_ref().and_then(|name| self.catalog.programs.get(name));
        // Loading sees to it that there is one; `begin` tells people of a runbook that is not there.
        program.and_then(|program| rule_handler(rule, program)).unwrap_or(Handler::OnFiring)
    }

    /// Every rule's attempts are noted: one that is given a budget later must find those made before.
    pub(super) fn note_attempt(&mut self, rule: &str, at: Timestamp) {
        let budget = self.catalog.rule(rule).and_then(|rule| rule.budget).map_or(0, |budget| budget.count as usize);
        let made = self.budgets.entry(rule.to_string()).or_default();
        made.push_back(at);
        // More than the budget allows need not be counted.
        while made.len() > budget.max(ATTEMPTS_NOTED) {
            made.pop_front();
        }
    }

    /// Runs `on_resolved`, once, if there is something to give back. Returns whether it does.
    pub(super) fn give_back(&mut self, id: IncidentId, now: Timestamp) -> bool {
        let Some(incident) = self.incidents.get(&id) else { return false };
        let Some(rule) = self.rule_of(incident) else { return false };
        let program = rule.runbook.as_ref().and_then(|name| self.catalog.programs.get(name));
        let can = program.is_some_and(|program| program.handlers.contains(&Handler::OnResolved));
        // An event is over when its run is: nothing of it can resolve.
        if !can || incident.event.is_some() || !incident.had_effect || incident.gave_back || self.live.contains_key(&id)
        {
            return false;
        }
        let attempt = incident.attempt;
        self.edit(id, |incident| incident.gave_back = true);
        self.begin(id, &rule, Handler::OnResolved, attempt, false, now);
        true
    }

    fn begin(&mut self, id: IncidentId, rule: &Rule, handler: Handler, attempt: u32, shadow: bool, now: Timestamp) {
        let name = rule.runbook.clone().unwrap_or_default();
        let Some(program) = self.catalog.programs.get(&name).cloned() else {
            // Loading refuses such a rule; a person hears of it all the same.
            let reason =
                Reason::new("no_runbook", format!("rule {} names the runbook {name}, which is not there", rule.name));
            return self.step(id, Event::HandedOver, reason, now);
        };
        // With every run: retention deletes what no run is pinned to, and a known hash costs nothing.
        self.out.writes.push(Write::Program(program.hash.clone(), program.sources.clone()));
        let Some(incident) = self.incidents.get(&id) else { return };
        let mut params: BTreeMap<String, Value> = program.defaults.clone();
        params.extend(rule.params.clone());
        let set = incident.event.iter().flat_map(|event| &event.params);
        params.extend(
            set.filter(|(name, _)| program.defaults.contains_key(*name))
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        let input = Input { alert: self.snapshot(incident, handler), params: json!(params) };
        let (plan, approved_by) = if shadow { (None, Vec::new()) } else { Self::approved_plan(incident) };
        let targets = if shadow { Vec::new() } else { Self::literal_targets(rule, incident) };
        let locked = self.lock_free(id, targets);
        self.last_run += 1;
        let run = Run {
            id: RunId(self.last_run),
            incident: id,
            rule: rule.name.clone(),
            runbook: name,
            program: program.hash.clone(),
            handler,
            shadow,
            plan,
            approved_by,
            undoes: None,
            attempt,
            state: RunState::Running,
            reason: None,
            input: Arc::new(input),
            wake_at: None,
            resumes: 0,
            log: Vec::new(),
            started_at: now,
            finished_at: None,
        };
        self.live.insert(id, run.id);
        self.note_alive(now);
        self.edit(id, |incident| {
            incident.runs.push(run.id);
            if !shadow {
                // An approval is for one attempt.
                incident.approval = None;
            }
        });
        self.out.writes.push(Write::Run(Box::new(run.clone())));
        self.out.starts.push(Start { run, resumed: false, locked });
    }

    /// `alert`, as a handler is given it: what fires now, or (for `on_resolved`) what fired.
    fn snapshot(&self, incident: &Incident, handler: Handler) -> Value {
        if let Some(event) = &incident.event {
            return super::events::snapshot(event);
        }
        let all: Vec<&Level> = self.levels_of(incident).collect();
        let mut told: Vec<&Level> = all.iter().copied().filter(|level| level.firing()).collect();
        if handler == Handler::OnResolved || told.is_empty() {
            told = all;
        }
        let common = |of: fn(&Level) -> &Labels| {
            let mut sets = told.iter().map(|level| of(level));
            let first = sets.next().cloned().unwrap_or_default();
            sets.fold(first, |common, next| common.common(next))
        };
        let alerts: Vec<Value> = told
            .iter()
            .map(|level| {
                json!({
                    "labels": level.alert.labels,
                    "annotations": level.alert.annotations,
                    "starts_at": level.alert.starts_at,
                    "generator_url": level.alert.generator_url,
                    "fingerprint": level.alert.fingerprint,
                })
            })
            .collect();
        let starts_at = told.iter().map(|level| level.alert.starts_at).min();
        let generator_url = told.iter().map(|level| &level.alert.generator_url).find(|url| !url.is_empty());
        json!({
            "alerts": alerts,
            "labels": common(|level| &level.alert.labels),
            "annotations": common(|level| &level.alert.annotations),
            "starts_at": starts_at,
            "generator_url": generator_url.map_or("", |url| url),
        })
    }

    /// A run has ended.
    pub fn run_ended(&mut self, ended: Ended, now: Timestamp) {
        let Ended { run, effects, plan, acted_at } = ended;
        let id = run.incident;
        if let Some(plan) = plan {
            self.live.remove(&id);
            self.out.writes.push(Write::Run(Box::new(run.clone())));
            self.rehearsed(&run, plan, now);
            return self.take_next_event(id, now);
        }
        let secs = now.duration_since(run.started_at).as_secs_f64();
        self.metrics.run_ended(run.state, secs);
        self.live.remove(&id);
        let (state, handler) = (run.state, run.handler);
        let reason = run.reason.clone();
        // Nobody waits for an answer any more.
        let asked = |incident: &Incident| incident.approval.as_deref().is_some_and(|it| it.run == Some(run.id));
        if self.incidents.get(&id).is_some_and(|incident| asked(incident)) {
            self.edit(id, |incident| incident.approval = None);
        }
        self.attempted(&run, acted_at);
        self.out.writes.push(Write::Run(Box::new(run)));
        self.note_effects(id, handler, &effects, now);
        match handler {
            Handler::OnFiring | Handler::OnEvent => self.attempt_ended(id, state, reason, &effects, now),
            Handler::OnResolved => self.gave_back(id, state, reason, now),
            // It is asked while an incident is verified, and no run is of it.
            Handler::Verify => {}
        }
        self.take_next_event(id, now);
    }

    fn note_effects(&mut self, id: IncidentId, handler: Handler, effects: &[String], now: Timestamp) {
        let (Some(last), true) = (effects.last(), handler != Handler::OnResolved) else { return };
        self.edit(id, |incident| {
            incident.had_effect = true;
            incident.effects.extend(effects.iter().cloned());
            let surplus = incident.effects.len().saturating_sub(EFFECTS_KEPT);
            incident.effects.drain(..surplus);
        });
        let Some(incident) = self.incidents.get(&id) else { return };
        // Noted for every rule: one that is given a cooldown later must find what was done before.
        let asked = self.rule_of(incident).is_some_and(|rule| rule.cooldown.is_some());
        if asked || self.effects.len() < NOTED_AHEAD {
            self.effects.insert(Self::key_of(incident), (now, last.clone()));
        }
    }

    fn attempt_ended(
        &mut self,
        id: IncidentId,
        state: RunState,
        reason: Option<Reason>,
        effects: &[String],
        now: Timestamp,
    ) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let firing = self.fires(incident);
        let reason = reason.unwrap_or_else(|| Reason::new("done", "the run is done"));
        match state {
            RunState::Done => {
                if !firing {
                    self.judge(id, Judgement::Helped, now);
                }
                let Some(incident) = self.incidents.get(&id) else { return };
                let text = match (firing, &incident.event) {
                    (_, Some(_)) => "the run is done",
                    (true, None) => "the run is done; does the alert go away?",
                    (false, None) => "the run is done and nothing fires any more",
                };
                self.step(id, Event::RunDone { firing }, Reason::new("done", text), now);
            }
            // Whoever wanted it looks at what is there now, and asks again.
            RunState::Interrupted if undo::is_undo(incident) => self.step(id, Event::HandedOver, reason, now),
            // Nothing was changed: as if it had never begun.
            RunState::Interrupted if effects.is_empty() && reason.code != "resumed_too_often" => {
                self.edit(id, |incident| incident.attempt = incident.attempt.saturating_sub(1));
                self.step(id, Event::NotHelped { retry: true }, Reason::new("retry", reason.text), now);
                self.edit(id, |incident| incident.until = Some(now));
            }
            RunState::Interrupted | RunState::Escalated => self.step(id, Event::HandedOver, reason, now),
            // A no says nothing of the runbook, and would be no other at the next attempt.
            _ if ["denied", "not_approved"].contains(&&*reason.code) => self.step(id, Event::HandedOver, reason, now),
            _ if reason.code == "resources" => {
                self.judge(id, Judgement::DidNotHelp, now);
                self.step(id, Event::HandedOver, reason, now);
            }
            // What an event asked for is not done: it does not go by itself.
            _ if firing || incident.event.is_some() => self.not_helped(id, reason, now),
            // The alert went by itself; a run that failed half-way may have left something behind.
            _ if !effects.is_empty() => {
                self.judge(id, Judgement::DidNotHelp, now);
                self.step(id, Event::HandedOver, reason, now);
            }
            _ => {
                let text = format!("nothing fires any more; the run had failed: {}", reason.text);
                self.step(id, Event::RunDone { firing: false }, Reason::new("resolved", text), now);
            }
        }
    }

    fn gave_back(&mut self, id: IncidentId, state: RunState, reason: Option<Reason>, now: Timestamp) {
        let refired = reason.as_ref().is_some_and(|reason| reason.code == "refired");
        if refired {
            // It was stopped before its end: when the alert resolves again, it is its turn again.
            self.edit(id, |incident| incident.gave_back = false);
        }
        let failed = state != RunState::Done && !refired;
        let Some(incident) = self.incidents.get(&id) else { return };
        match incident.state {
            State::Resolved if failed => {
                let why = reason.map_or_else(String::new, |reason| reason.text);
                let reason =
                    Reason::new("give_back_failed", format!("the alert is resolved, but on_resolved failed: {why}"));
                self.step(id, Event::HandedOver, reason, now);
            }
            State::Resolved => {
                self.release(id, now);
                if self.incidents.get(&id).is_some_and(|incident| incident.until.is_none_or(|until| until <= now)) {
                    self.due(id, now);
                }
            }
            // It fires again and waited for this run to stop.
            State::Open | State::Held => self.consider(id, now),
            _ => self.release(id, now),
        }
    }

    /// May a run that was interrupted by a restart begin a new effect?
    pub fn may_go_on(&self, run: &Run) -> Result<(), Reason> {
        if let Some(down) = self.down_for.filter(|down| *down > self.config.runs.resume_within) {
            let limit = self.config.runs.resume_within;
            return Err(Reason::new("interrupted", format!("runbookd was down for {down}, longer than {limit}")));
        }
        let firing = self.incidents.get(&run.incident).map(|incident| self.firing(incident));
        match (run.handler, firing) {
            (Handler::OnFiring, Some(firing)) if firing.confirmed == 0 => {
                Err(Reason::new("interrupted", "runbookd was restarted meanwhile, and the alert no longer fires"))
            }
            _ => Ok(()),
        }
    }

    /// Locks those of `targets` that no other incident holds, and returns them. `on_resolved` of an incident that was handed over may find that
    /// another works on its target by now: then its first step that names the target waits for it.
    pub(super) fn lock_free(&mut self, id: IncidentId, mut targets: Vec<String>) -> Vec<String> {
        targets.retain(|target| self.locks.taken(id, std::slice::from_ref(target)).is_none());
        self.lock(id, &targets);
        targets
    }

    /// Locks targets that are free. What is locked is journalled: the rule may be another, or gone, after a restart.
    pub(super) fn lock(&mut self, id: IncidentId, targets: &[String]) {
        self.locks.take(id, targets);
        let known = self.incidents.get(&id).map_or(&[][..], |incident| &incident.locks);
        let new: Vec<String> = targets.iter().filter(|target| !known.contains(target)).cloned().collect();
        if !new.is_empty() {
            self.edit(id, |incident| incident.locks.extend(new));
        }
    }

    /// Locks targets that a step names for the first time. `Err` names the holder.
    pub fn lock_more(&mut self, run: &Run, targets: &[String]) -> Result<(), Reason> {
        match self.locks.taken(run.incident, targets) {
            None => {
                self.lock(run.incident, targets);
                Ok(())
            }
            Some((target, holder)) => {
                Err(Reason::new("lock", format!("{target} is being worked on by incident {holder}")))
            }
        }
    }

    /// May a run make this effect now, everything else considered? If so, it is counted; since when, is returned. One that was admitted a moment ago is
    /// not counted again; one that had to wait since is asked about like a new one, and counts from now on.
    pub fn admit(
        &mut self,
        run: &Run,
        effect: Effect,
        mut companies: Vec<Company>,
        now: Timestamp,
    ) -> Result<Timestamp, Verdict> {
        for member in companies.iter_mut().flat_map(|company| &mut company.members) {
            member.held = self.locks.taken(run.incident, std::slice::from_ref(&member.target)).is_some();
        }
        let effect = Effect { at: now, ..effect };
        let since = self.ledger.since(&effect);
        let lately = since.filter(|at| *at >= self.released_at && (*at..=*at + ADMITTED_FOR.signed()).contains(&now));
        if lately.is_none() {
            self.ledger.forget(&effect);
        }
        let change = Change {
            now,
            stops: self.stops.view(&self.config),
            fleet: self.fleet(&effect.targets),
            effect: &effect,
            arbitration: &self.config.arbitration,
            companies: &companies,
            counted: lately.is_some(),
            gives_back: run.handler == Handler::OnResolved,
        };
        let rule = crate::engine::undo::in_force(run, self.catalog.rule(&run.rule));
        let (guard, verdict) = guard::before_change(rule.as_deref(), &change);
        if verdict == Verdict::Allow {
            self.ledger.note(&effect);
            return Ok(lately.unwrap_or(now));
        }
        self.metrics.verdict(guard, verdict.name());
        if let Some(at) = since {
            // Some of it may have been done then.
            self.ledger.note(&Effect { at, ..effect });
        }
        if let ("brake", Verdict::Hold { reason, .. }) = (guard, &verdict) {
            self.pull_brake(&reason.text, now);
        }
        Err(verdict)
    }

    /// Does anything of a run's incident still fire?
    pub fn run_fires(&self, run: &Run) -> bool {
        self.incidents.get(&run.incident).is_some_and(|incident| self.fires(incident))
    }

    /// `notify`: the step and its message are one transaction.
    pub fn notify(&mut self, run: &Run, step: Step, text: &str, now: Timestamp) {
        self.out.writes.push(Write::Step(Box::new(step)));
        self.report(run.incident, now, |facts| report::notice(facts, text, run.id));
    }
}

/// The name under which a target is locked; `None` where two at once do no harm.
pub fn lock_name(primitive: &str, target: &str) -> Option<String> {
    match primitive {
        // Each is its own: a silence by its key, a job by its name, a post by being sent once.
        "silence" | "job" | "http_post" => None,
        _ => Some(target_name(primitive, target)),
    }
}
