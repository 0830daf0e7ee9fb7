//! What people are asked on the board: to approve a plan, or to answer a runbook's question; and what becomes of their word.

use super::Board;
use crate::app::report::Asking;
use crate::app::{CommandError, report};
use crate::engine::lifecycle::Event;
use crate::engine::plan;
use crate::model::duration::Duration;
use crate::model::incident::{Incident, IncidentId, Reason, State};
use crate::model::mode::{Answer, Approval, Mode, Plan, Subject, Then};
use crate::model::rule::Rule;
use crate::model::run::{Handler, Run, RunId, RunState};
use crate::model::step::Step;
use crate::ports::Write;
use jiff::Timestamp;
use std::sync::Arc;

/// Letters of a plan's hash that people must give at least.
const HASH_LETTERS: usize = 8;

/// The answer to a run whose next effect nobody has approved.
#[derive(Debug)]
pub enum Permit {
    /// Nobody has been asked yet.
    Unasked,
    /// People have been asked, and have until then.
    Waits(Timestamp),
    Granted {
        plan: Plan,
        by: Vec<String>,
    },
    Refused(Reason),
}

/// A person's word.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Of the plan whose hash begins so.
    Approve {
        plan: String,
    },
    Deny {
        reason: String,
    },
    Answer(String),
}

impl Board {
    /// How far the rule may go by itself now.
    pub(super) fn mode_of(&self, rule: &Rule) -> Mode {
        rule.mode.now(self.config.max_mode, self.trusts(&rule.name))
    }

    /// Has a person approved the run that is to begin?
    pub(super) fn is_approved(incident: &Incident) -> bool {
        incident.approval.as_ref().is_some_and(|it| it.run.is_none() && it.verdict == Some(Answer::Approved))
    }

    /// A rehearsal has ended: people are told of it, or asked.
    pub(super) fn rehearsed(&mut self, run: &Run, plan: Plan, now: Timestamp) {
        let id = run.incident;
        let Some(incident) = self.incidents.get(&id) else { return };
        let approved = Self::is_approved(incident);
        if !matches!(incident.state, State::Open | State::Held) && !approved {
            return;
        }
        let stale = incident.event.as_deref().is_some_and(|event| super::events::snapshot(event) != run.input.alert);
        let Some(rule) = self.rule_of(incident).filter(|_| !stale) else { return self.consider(id, now) };
        match self.mode_of(&rule) {
            Mode::Shadow => self.tell_rehearsal(id, &rule, run, &plan, now),
            Mode::Approve if !approved => self.ask_for(id, &rule, run, plan, now),
            // The rule has changed meanwhile.
            Mode::Approve | Mode::Earned | Mode::Auto => self.consider(id, now),
        }
    }

    /// In shadow mode the incident is for people, as if no rule had matched; what the runbook would have done is in the thread.
    fn tell_rehearsal(&mut self, id: IncidentId, rule: &Rule, run: &Run, plan: &Plan, now: Timestamp) {
        let reason = Reason::new("shadow", format!("rule {} is in shadow mode: nothing was done", rule.name));
        let event = self.incidents.get(&id).is_some_and(|incident| incident.event.is_some());
        if !event {
            self.step(id, Event::HandedOver, reason.clone(), now);
        }
        let end = end_of(run);
        self.report(id, now, |facts| report::rehearsal(facts, &plan::lines(plan), &end));
        // No person need act on an event for its own sake.
        if event {
            self.step(id, Event::Resolved, reason, now);
        }
    }

    fn ask_for(&mut self, id: IncidentId, rule: &Rule, run: &Run, plan: Plan, now: Timestamp) {
        let good = matches!(run.state, RunState::Done | RunState::Escalated);
        if plan.effects.is_empty() && !good || run.state == RunState::Failed {
            let why = run.reason.as_ref().map_or_else(|| "it came to no end".to_string(), |why| why.text.clone());
            let text = format!("before anybody was asked, a rehearsal of {} failed: {why}", run.runbook);
            return self.step(id, Event::HandedOver, Reason::new("rehearsal", text), now);
        }
        let nothing = plan.effects.is_empty();
        let end = end_of(run);
        let mut approval = asked(rule, Subject::Plan(plan), None, rule.approve.within, now);
        if nothing {
            // There is nothing to approve; a run that finds something to do after all asks then.
            approval.verdict = Some(Answer::Approved);
            self.edit(id, |incident| incident.approval = Some(Box::new(approval)));
            return self.consider(id, now);
        }
        let until = approval.until;
        let text = format!("{} waits for {} to approve its plan, until {until:.0}", run.runbook, who(&approval));
        self.step(id, Event::Asked, Reason::new("approval", text), now);
        self.report(id, now, |facts| report::approval(facts, &approval, &end, Asking::First));
        self.wait_for(id, approval);
        self.edit(id, |incident| incident.until = Some(until));
    }

    /// A run comes to an effect that its plan does not have. With a plan: people are asked for it.
    pub fn permit(&mut self, run: &Run, plan: Option<Plan>, now: Timestamp) -> Permit {
        let id = run.incident;
        let Some(incident) = self.incidents.get(&id) else {
            return Permit::Refused(Reason::new("not_approved", "its incident is no longer there"));
        };
        let asked_now = incident.approval.as_deref().filter(|it| it.run == Some(run.id));
        if let Some(Approval { subject: Subject::Plan(asked), verdict, given, until, .. }) = asked_now {
            return match verdict {
                None if *until > now => Permit::Waits(*until),
                None => {
                    self.expire(id, now);
                    self.permit(run, None, now)
                }
                Some(Answer::Approved) => {
                    let by = given.iter().map(|(by, _)| by.clone()).collect();
                    let plan = asked.clone();
                    self.edit(id, |incident| incident.approval = None);
                    Permit::Granted { plan, by }
                }
                Some(Answer::Denied { by, reason }) => {
                    Permit::Refused(Reason::new("not_approved", denied_text(by, reason)))
                }
                Some(_) => Permit::Refused(Reason::new("not_approved", "nobody approved it in time")),
            };
        }
        let Some(plan) = plan else { return Permit::Unasked };
        let Some(rule) = self.rule_of(incident) else {
            return Permit::Refused(Reason::new(
                "not_approved",
                "its rule is no longer there, and says who may approve",
            ));
        };
        let approval = asked(&rule, Subject::Plan(plan), Some(run.id), rule.approve.within, now);
        let until = approval.until;
        let (asking, what) = match run.plan.is_some() {
            true => (Asking::Again, "the world has moved on, and what it would do now is another plan"),
            false => (Asking::Within, "it would do what nobody has approved"),
        };
        self.report(id, now, |facts| report::approval(facts, &approval, "", asking));
        let text = format!("{} waits for {}: {what}, until {until:.0}", run.runbook, who(&approval));
        self.say(id, Reason::new("approval", text), now);
        self.wait_for(id, approval);
        Permit::Waits(until)
    }

    /// `ask` in a run.
    pub fn ask(&mut self, run: &Run, step: Step, text: String, answers: Vec<String>, within: Duration, now: Timestamp) {
        let id = run.incident;
        let seq = step.seq;
        self.out.writes.push(Write::Step(Box::new(step)));
        let Some(rule) = self.incidents.get(&id).and_then(|incident| self.rule_of(incident)) else { return };
        let asks = format!("{} asks: {text}", run.runbook);
        let approval = asked(&rule, Subject::Question { seq, text, answers }, Some(run.id), within, now);
        self.report(id, now, |facts| report::approval(facts, &approval, "", Asking::Within));
        let text = format!("{asks} It waits for {}, until {:.0}", who(&approval), approval.until);
        self.say(id, Reason::new("question", text), now);
        self.wait_for(id, approval);
    }

    /// Says what has become of an incident without another state. While it is held, its reason is what it waits for, and stays.
    fn say(&mut self, id: IncidentId, reason: Reason, now: Timestamp) {
        let Some(state) = self.incidents.get(&id).map(|incident| incident.state) else { return };
        self.record(id, now, Some(state), state, reason.clone());
        if matches!(state, State::Running | State::AwaitingApproval) {
            self.edit(id, |incident| incident.reason = reason);
        }
    }

    fn wait_for(&mut self, id: IncidentId, approval: Approval) {
        self.edit(id, |incident| {
            incident.escalated = true;
            incident.approval = Some(Box::new(approval));
        });
    }

    /// What was answered to the question of a step, if anybody has.
    pub fn answered(&self, run: &Run, seq: u32) -> Option<String> {
        let approval = self.incidents.get(&run.incident)?.approval.as_deref()?;
        match (&approval.subject, &approval.verdict) {
            (Subject::Question { seq: asked, .. }, Some(Answer::Answered { answer, .. }))
                if approval.run == Some(run.id) && *asked == seq =>
            {
                Some(answer.clone())
            }
            _ => None,
        }
    }

    /// A person's word on what is asked about an incident.
    pub fn reply(&mut self, id: IncidentId, by: &str, reply: Reply, now: Timestamp) -> Result<Incident, CommandError> {
        let incident = self.incidents.get(&id).ok_or(CommandError::NotFound(id))?;
        let conflict = |text: String| Err(CommandError::Conflict(text));
        let Some(approval) = incident.approval.as_deref().filter(|it| it.verdict.is_none() && it.until > now) else {
            return conflict(format!("{id} asks nothing of anybody now"));
        };
        if !self.is_among(&approval.by, by) {
            return conflict(format!("{by} may not answer for {id}; {} may", who(approval)));
        }
        let mut approval = approval.clone();
        let said = match (reply, &approval.subject) {
            (Reply::Approve { plan }, Subject::Plan(asked)) => {
                if plan.len() < HASH_LETTERS || !asked.hash.starts_with(&plan) {
                    let text = format!(
                        "what waits for approval in {id} is the plan {}, not {plan:?}: look at it first",
                        &asked.hash[..HASH_LETTERS]
                    );
                    return conflict(text);
                }
                if approval.given.iter().any(|(given, _)| given == by) {
                    return conflict(format!("{by} has approved it already, and {} people must", approval.people));
                }
                if approval.people > 1 && Self::asked_by(incident) == Some(by) {
                    return conflict(format!("{by} asked for it, so others must approve it"));
                }
                approval.given.push((by.to_string(), now));
                let enough = approval.given.len() >= approval.people as usize;
                approval.verdict = enough.then_some(Answer::Approved);
                let count = format!("{} of {}", approval.given.len(), approval.people);
                format!("{by} approved the plan {} ({count})", &asked.hash[..HASH_LETTERS])
            }
            (Reply::Deny { reason }, Subject::Plan(_)) => {
                let text = denied_text(by, &reason);
                approval.verdict = Some(Answer::Denied { by: by.to_string(), reason });
                text
            }
            (Reply::Answer(answer), Subject::Question { answers, .. }) => {
                if !answers.contains(&answer) {
                    return conflict(format!("{answer:?} is no answer; there are: {}", answers.join(", ")));
                }
                approval.verdict = Some(Answer::Answered { by: by.to_string(), answer: answer.clone() });
                format!("{by} answered: {answer}")
            }
            (Reply::Approve { .. } | Reply::Deny { .. }, Subject::Question { answers, .. }) => {
                return conflict(format!("{id} asks a question; answer one of: {}", answers.join(", ")));
            }
            (Reply::Answer(_), Subject::Plan(_)) => {
                return conflict(format!("{id} waits for a plan to be approved or denied"));
            }
        };
        self.say(id, Reason::new("reply", said.clone()), now);
        self.edit(id, |incident| incident.approval = Some(Box::new(approval)));
        self.report(id, now, |facts| report::follow_up(facts, &said, ""));
        self.replied(id, said, now);
        self.incidents.get(&id).map(|incident| (**incident).clone()).ok_or(CommandError::NotFound(id))
    }

    /// There may be a verdict: what waited for it goes on, or ends.
    fn replied(&mut self, id: IncidentId, said: String, now: Timestamp) {
        let Some(approval) = self.incidents.get(&id).and_then(|incident| incident.approval.as_deref()) else { return };
        match (approval.run, &approval.verdict) {
            (_, None) => {}
            (Some(run), Some(_)) => self.out.wakes.push(run),
            (None, Some(Answer::Approved)) => self.consider(id, now),
            (None, Some(_)) => self.step(id, Event::Denied, Reason::new("not_approved", said), now),
        }
    }

    /// The time to answer is over.
    pub(super) fn expire(&mut self, id: IncidentId, now: Timestamp) {
        let Some(approval) = self.incidents.get(&id).and_then(|incident| incident.approval.as_deref()) else { return };
        if approval.verdict.is_some() || approval.until > now {
            return;
        }
        let runs = approval.then == Then::Run && matches!(approval.subject, Subject::Plan(_));
        let verdict = if runs { Answer::Approved } else { Answer::Expired };
        self.edit(id, |incident| {
            if let Some(approval) = &mut incident.approval {
                approval.verdict = Some(verdict);
            }
        });
        let text = match runs {
            true => "nobody said no in time: it counts as approved",
            false => "nobody approved it in time",
        };
        self.replied(id, text.to_string(), now);
    }

    /// After a restart: runs whose answer came just before it are woken once more.
    pub(super) fn wake_answered(&mut self) {
        let answered = |incident: &Incident| {
            let approval = incident.approval.as_deref()?;
            approval.verdict.as_ref().and(approval.run)
        };
        let mut runs: Vec<RunId> = self.incidents.values().filter_map(|incident| answered(incident)).collect();
        runs.sort();
        self.out.wakes.extend(runs);
    }

    /// Is `by` one of these people, or in one of these groups? Nobody named is everybody.
    pub(super) fn is_among(&self, named: &[String], by: &str) -> bool {
        let in_group = |group: &String| {
            self.config.groups.get(group).is_some_and(|members| members.iter().any(|member| member == by))
        };
        named.is_empty() || named.iter().any(|named| named == by || in_group(named))
    }

    /// Who asked for a run by hand.
    fn asked_by(incident: &Incident) -> Option<&str> {
        incident.event.as_deref().and_then(|event| event.labels.get("by"))
    }

    /// What the run that begins now may do: what was approved.
    pub(super) fn approved_plan(incident: &Incident) -> (Option<Arc<Plan>>, Vec<String>) {
        match incident.approval.as_deref() {
            Some(Approval {
                subject: Subject::Plan(plan), run: None, verdict: Some(Answer::Approved), given, ..
            }) => (Some(Arc::new(plan.clone())), given.iter().map(|(by, _)| by.clone()).collect()),
            _ => (None, Vec::new()),
        }
    }
}

fn asked(rule: &Rule, subject: Subject, run: Option<RunId>, within: Duration, now: Timestamp) -> Approval {
    let people = if matches!(subject, Subject::Plan(_)) { rule.approve.people } else { 1 };
    Approval {
        subject,
        run,
        by: rule.approve.by.clone(),
        people,
        then: rule.approve.then,
        asked_at: now,
        until: now + within.signed(),
        given: Vec::new(),
        verdict: None,
    }
}

/// Who may answer, in words.
pub fn who(approval: &Approval) -> String {
    match (approval.people, approval.by.is_empty()) {
        (1, true) => "somebody".to_string(),
        (1, false) => approval.by.join(" or "),
        (people, true) => format!("{people} people"),
        (people, false) => format!("{people} of {}", approval.by.join(", ")),
    }
}

fn denied_text(by: &str, reason: &str) -> String {
    if reason.is_empty() { format!("{by} said no") } else { format!("{by} said no: {reason}") }
}

/// How a rehearsal ended, in words.
fn end_of(run: &Run) -> String {
    match (&run.reason, run.handler) {
        (None, Handler::OnResolved) => "Then it would have given everything back.".to_string(),
        (None, _) => "That would have been all.".to_string(),
        (Some(why), _) => format!("Then it would have ended: {}", why.text),
    }
}
