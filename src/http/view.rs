//! What the API shows, as structures of its own: the journal and the model may change without it. The command line reads the same ones.
//!
//! Fields are listed in `openapi.json`; a test compares the two. Values of environment variables are never shown: they may be secrets.

use crate::app::board::Trust;
use crate::app::undo::Planned;
use crate::config::FreezeConfig;
use crate::engine::undo::{self, Undo};
use crate::model::alert::{Fingerprint, Level, Status};
use crate::model::cluster;
use crate::model::effectiveness::{Effectiveness, Tally};
use crate::model::freeze::{Freeze, FreezeId};
use crate::model::incident::{Incident, IncidentId, Reason, State, Transition};
use crate::model::label::Labels;
use crate::model::mode::{Answer, Approval, Mode, Subject};
use crate::model::rule::{AtOnce, Rule};
use crate::model::run::{Handler, Run, RunId, RunState};
use crate::model::step::{Outcome, Step, StepError};
use crate::runbook::program::Program;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One answer of many.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IncidentPage {
    pub incidents: Vec<IncidentView>,
    /// The value of `before` for the next page; `None` on the last.
    pub next: Option<IncidentId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentView {
    pub id: IncidentId,
    pub state: State,
    pub reason: Reason,
    pub rule: Option<String>,
    pub runbook: Option<String>,
    pub key: String,
    pub labels: Labels,
    pub alerts: Vec<Fingerprint>,
    pub runs: Vec<RunId>,
    pub attempt: u32,
    pub flaps: u32,
    pub had_effect: bool,
    /// What its runs changed, in words.
    pub effects: Vec<String>,
    pub escalated: bool,
    pub approval: Option<ApprovalView>,
    pub acked_by: Option<String>,
    pub opened_at: Timestamp,
    pub since: Timestamp,
    pub until: Option<Timestamp>,
    pub closed_at: Option<Timestamp>,
}

impl From<Incident> for IncidentView {
    fn from(incident: Incident) -> Self {
        IncidentView {
            id: incident.id,
            state: incident.state,
            reason: incident.reason,
            rule: incident.rule,
            runbook: incident.runbook,
            key: incident.key,
            labels: incident.labels,
            alerts: incident.alerts,
            runs: incident.runs,
            attempt: incident.attempt,
            flaps: incident.flaps,
            had_effect: incident.had_effect,
            effects: incident.effects,
            escalated: incident.escalated,
            approval: incident.approval.map(|approval| ApprovalView::from(*approval)),
            acked_by: incident.acked_by,
            opened_at: incident.opened_at,
            since: incident.since,
            until: incident.until,
            closed_at: incident.closed_at,
        }
    }
}

/// What people are asked about an incident, or were asked last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalView {
    /// The hash of the plan that waits; `None` for a question.
    pub plan: Option<String>,
    /// What is to be done, a line for each effect.
    pub effects: Vec<String>,
    /// `None` for a plan.
    pub question: Option<String>,
    /// What can be answered.
    pub answers: Vec<String>,
    /// The run that waits; `None`: one begins when it is approved.
    pub run: Option<RunId>,
    /// Who may answer: people and groups. Empty: whoever may use the API.
    pub by: Vec<String>,
    /// How many must approve, and who has.
    pub people: u32,
    pub given: Vec<String>,
    pub asked_at: Timestamp,
    pub until: Timestamp,
    /// In words; `None` while it waits.
    pub verdict: Option<String>,
}

impl From<Approval> for ApprovalView {
    fn from(approval: Approval) -> Self {
        let verdict = approval.verdict.map(|verdict| match verdict {
            Answer::Approved => "approved".to_string(),
            Answer::Denied { by, reason } if reason.is_empty() => format!("denied by {by}"),
            Answer::Denied { by, reason } => format!("denied by {by}: {reason}"),
            Answer::Answered { by, answer } => format!("{answer}, says {by}"),
            Answer::Expired => "nobody answered in time".to_string(),
        });
        let (plan, effects, question, answers) = match approval.subject {
            Subject::Plan(plan) => {
                let effects = plan.effects.iter().map(|one| one.intent.to_string()).collect();
                (Some(plan.hash), effects, None, Vec::new())
            }
            Subject::Question { text, answers, .. } => (None, Vec::new(), Some(text), answers),
        };
        ApprovalView {
            plan,
            effects,
            question,
            answers,
            run: approval.run,
            by: approval.by,
            people: approval.people,
            given: approval.given.into_iter().map(|(by, _)| by).collect(),
            asked_at: approval.asked_at,
            until: approval.until,
            verdict,
        }
    }
}

/// What a person says to an approval: of these the one that the path asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApprovalCommand {
    pub by: String,
    #[serde(default)]
    pub plan: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub answer: String,
}

/// What a rule of `mode: earned` has earned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrustView {
    pub rule: String,
    /// It runs by itself.
    pub trusted: bool,
    /// Verified successes since the last failure.
    pub streak: u32,
    /// What made it so, in words.
    pub why: String,
    pub since: Option<Timestamp>,
}

impl TrustView {
    pub fn new(rule: &str, Trust { streak, trusted, why, since }: Trust) -> Self {
        TrustView { rule: rule.to_string(), trusted, streak, why, since }
    }
}

/// One incident with everything that belongs to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IncidentDetail {
    #[serde(flatten)]
    pub incident: IncidentView,
    pub transitions: Vec<TransitionView>,
    /// Its runs, oldest first, without their steps.
    pub run_summaries: Vec<RunView>,
    /// What is known now of its alerts.
    pub levels: Vec<LevelView>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransitionView {
    pub at: Timestamp,
    pub from: Option<State>,
    pub to: State,
    pub reason: Reason,
}

impl From<Transition> for TransitionView {
    fn from(Transition { incident: _, at, from, to, reason }: Transition) -> Self {
        TransitionView { at, from, to, reason }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LevelView {
    pub fingerprint: Fingerprint,
    pub status: Status,
    pub labels: Labels,
    pub annotations: Labels,
    pub starts_at: Timestamp,
    pub ends_at: Option<Timestamp>,
    pub generator_url: String,
    pub group_key: String,
    pub last_seen: Timestamp,
    pub unconfirmed: bool,
    pub suppressed: bool,
}

impl From<Level> for LevelView {
    fn from(level: Level) -> Self {
        let alert = level.alert;
        LevelView {
            fingerprint: alert.fingerprint,
            status: alert.status,
            labels: alert.labels,
            annotations: alert.annotations,
            starts_at: alert.starts_at,
            ends_at: alert.ends_at,
            generator_url: alert.generator_url.into(),
            group_key: level.group.key.to_string(),
            last_seen: level.last_seen,
            unconfirmed: level.unconfirmed,
            suppressed: level.suppressed,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunPage {
    pub runs: Vec<RunView>,
    /// The value of `before` for the next page; `None` on the last.
    pub next: Option<RunId>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunView {
    pub id: RunId,
    pub incident: IncidentId,
    pub rule: String,
    pub runbook: String,
    pub program: String,
    pub handler: Handler,
    /// A rehearsal: none of its effects was made.
    pub shadow: bool,
    /// The hash of the plan that it may carry out and nothing else, and who approved it.
    pub plan: Option<String>,
    pub approved_by: Vec<String>,
    /// It puts back what this run did.
    pub undoes: Option<RunId>,
    pub attempt: u32,
    pub state: RunState,
    pub reason: Option<Reason>,
    pub resumes: u32,
    pub wake_at: Option<Timestamp>,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

impl From<&Run> for RunView {
    fn from(run: &Run) -> Self {
        RunView {
            id: run.id,
            incident: run.incident,
            rule: run.rule.clone(),
            runbook: run.runbook.clone(),
            program: run.program.0.to_string(),
            handler: run.handler,
            shadow: run.shadow,
            plan: run.plan.as_ref().map(|plan| plan.hash.clone()),
            approved_by: run.approved_by.clone(),
            undoes: run.undoes,
            attempt: run.attempt,
            state: run.state,
            reason: run.reason.clone(),
            resumes: run.resumes,
            wake_at: run.wake_at,
            started_at: run.started_at,
            finished_at: run.finished_at,
        }
    }
}

/// One run with what it was given and what it did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunDetail {
    #[serde(flatten)]
    pub run: RunView,
    pub alert: Value,
    pub params: Value,
    pub log: Vec<String>,
    pub steps: Vec<StepView>,
}

impl RunDetail {
    pub fn new(run: &Run, steps: Vec<Step>) -> Self {
        RunDetail {
            run: run.into(),
            alert: run.input.alert.clone(),
            params: run.input.params.clone(),
            log: run.log.clone(),
            steps: steps.into_iter().map(StepView::from).collect(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepView {
    pub seq: u32,
    pub primitive: String,
    pub args: Vec<Value>,
    pub intent: Option<IntentView>,
    pub before: Option<Value>,
    pub outcome: Outcome,
    pub value: Option<Value>,
    pub error: Option<StepError>,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

/// An intent as a sentence and as a structure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IntentView {
    pub text: String,
    /// `services`, `reload`, `message` or `until`.
    #[serde(flatten)]
    pub what: Map<String, Value>,
}

impl From<Step> for StepView {
    fn from(step: Step) -> Self {
        let intent = step.intent.map(|intent| {
            let what = match serde_json::to_value(&intent) {
                Ok(Value::Object(fields)) => fields,
                _ => Map::new(),
            };
            let mut what = Value::Object(what);
            hide_env(&mut what);
            let Value::Object(what) = what else { unreachable!("hiding values keeps the object") };
            IntentView { text: intent.to_string(), what }
        });
        let hidden = |mut value: Value| {
            hide_env(&mut value);
            value
        };
        StepView {
            seq: step.seq,
            primitive: step.primitive.into_owned(),
            args: step.args.into_iter().map(hidden).collect(),
            intent,
            before: step.before.map(hidden),
            outcome: step.outcome,
            value: step.value.map(hidden),
            error: step.error,
            started_at: step.started_at,
            finished_at: step.finished_at,
        }
    }
}

/// What stands for the value of an environment variable of a service.
pub const HIDDEN: &str = "(hidden)";

/// Replaces every value below a key `env`, however deep: names say enough.
fn hide_env(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::Object(env) if name == "env" => {
                        env.values_mut().filter(|value| !value.is_null()).for_each(|value| *value = HIDDEN.into());
                    }
                    Value::Array(env) if name == "env" => env.iter_mut().for_each(|value| {
                        let name = value.as_str().and_then(|pair| pair.split('=').next()).unwrap_or_default();
                        *value = format!("{name}={HIDDEN}").into();
                    }),
                    other => hide_env(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_env),
        _ => {}
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RuleView {
    pub name: String,
    pub place: String,
    /// As written in Alertmanager's syntax.
    #[serde(rename = "match")]
    pub matchers: Vec<String>,
    pub by: Vec<String>,
    pub tags: Vec<String>,
    pub runbook: Option<String>,
    pub params: BTreeMap<String, Value>,
    pub mode: Mode,
    /// `scale: {{ service }}`.
    pub allow: Vec<String>,
    pub cooldown: Option<String>,
    pub budget: Option<String>,
    pub target_budget: Option<String>,
    pub hold_at_most: String,
    /// Windows, as written.
    pub freeze: Vec<String>,
    pub replicas: Option<(u64, u64)>,
    pub at_once: AtOnce,
    pub attempts: u32,
    pub retry_after: String,
    /// What must become true after a run, and by when, in words.
    pub verify: String,
    pub channel: Option<String>,
    pub severity: Option<String>,
    #[serde(rename = "continue")]
    pub goes_on: bool,
    /// What its attempts came to.
    pub effectiveness: EffectivenessView,
    /// `None`: closed.
    pub breaker: Option<BreakerView>,
    /// Of `mode: earned` only.
    pub trust: Option<TrustView>,
}

/// What attempts came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EffectivenessView {
    pub helped: u64,
    pub did_not_help: u64,
    pub flapped: u64,
    /// From the start of an attempt that helped to the resolve, on average, in seconds.
    pub time_to_resolve_seconds: Option<f64>,
}

impl From<Tally> for EffectivenessView {
    fn from(tally: Tally) -> Self {
        let Tally { helped, did_not_help, flapped, .. } = tally;
        let time_to_resolve_seconds = tally.time_to_resolve().map(|time| time.std().as_secs_f64());
        EffectivenessView { helped, did_not_help, flapped, time_to_resolve_seconds }
    }
}

/// An open breaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakerView {
    pub opened_at: Timestamp,
    /// So many attempts in a row had not helped.
    pub after: u32,
}

impl RuleView {
    /// With what its attempts came to.
    pub fn with(mut self, kept: Option<&Effectiveness>) -> Self {
        let breaker = kept.and_then(|kept| kept.breaker.clone());
        self.breaker = breaker.map(|breaker| BreakerView { opened_at: breaker.opened_at, after: breaker.after });
        self.effectiveness = kept.map(Effectiveness::total).unwrap_or_default().into();
        self
    }
}

impl From<&Rule> for RuleView {
    fn from(rule: &Rule) -> Self {
        RuleView {
            name: rule.name.clone(),
            place: rule.place.clone(),
            matchers: rule.matchers.iter().map(ToString::to_string).collect(),
            by: rule.by.clone(),
            tags: rule.tags.clone(),
            runbook: rule.runbook.clone(),
            params: rule.params.clone(),
            mode: rule.mode,
            allow: rule.allow.iter().map(|grant| format!("{}: {}", grant.primitive, grant.target.source)).collect(),
            cooldown: rule.cooldown.map(|time| time.to_string()),
            budget: rule.budget.map(|budget| budget.to_string()),
            target_budget: rule.target_budget.map(|budget| budget.to_string()),
            hold_at_most: rule.hold_at_most.to_string(),
            freeze: rule.freeze.iter().map(ToString::to_string).collect(),
            replicas: rule.replicas,
            at_once: rule.at_once,
            attempts: rule.attempts,
            retry_after: rule.retry_after.to_string(),
            verify: rule.verify.to_string(),
            channel: rule.channel.clone(),
            severity: rule.severity.clone(),
            goes_on: rule.goes_on,
            effectiveness: EffectivenessView::default(),
            breaker: None,
            trust: None,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunbookView {
    pub name: String,
    /// Content hash of its source and of what it imports.
    pub program: String,
    pub doc: String,
    pub defaults: BTreeMap<String, Value>,
    pub handlers: Vec<Handler>,
    /// What its runs came to, over all rules.
    pub effectiveness: EffectivenessView,
}

impl From<&Program> for RunbookView {
    fn from(program: &Program) -> Self {
        RunbookView {
            name: program.name.clone(),
            program: program.hash.0.to_string(),
            doc: program.doc.clone(),
            defaults: program.defaults.clone(),
            handlers: program.handlers.clone(),
            effectiveness: EffectivenessView::default(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceView {
    pub id: String,
    pub name: String,
    pub version: u64,
    pub image: String,
    pub mode: cluster::Mode,
    pub replicas: u64,
    pub running: u64,
    pub labels: Labels,
    pub container_labels: Labels,
    /// Names only.
    pub env: Vec<String>,
    pub limits: cluster::Limits,
    pub update: cluster::UpdateState,
    pub update_message: String,
}

impl From<cluster::Service> for ServiceView {
    fn from(service: cluster::Service) -> Self {
        ServiceView {
            id: service.id,
            name: service.name,
            version: service.version,
            image: service.image,
            mode: service.mode,
            replicas: service.replicas,
            running: service.running,
            labels: service.labels,
            container_labels: service.container_labels,
            env: service.env.into_keys().collect(),
            limits: service.limits,
            update: service.update,
            update_message: service.update_message,
        }
    }
}

/// What became of a post of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventsView {
    /// The row of the journal that holds them; `None` when there were none to hold.
    pub intake: Option<u64>,
    pub events: usize,
    /// What it told that is no event here: pulls, layers, builds that failed, what could not be read.
    pub ignored: usize,
}

/// A person's wish to have a runbook run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    pub runbook: String,
    /// Labels of the event, for the rule's matchers and grant; those that the runbook declares are its parameters too.
    #[serde(default)]
    pub set: Map<String, Value>,
    pub by: String,
    /// What to find the incident by, as its label `request`; made up when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// A wish that is journalled and that a rule will take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunAccepted {
    /// The row of the journal that holds it.
    pub intake: u64,
    pub request: String,
    /// The rules that take it, each with an incident of its own.
    pub rules: Vec<String>,
}

/// What would put back what a run did, as the cluster stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UndoView {
    pub run: RunId,
    /// Stands for this plan: to be sent back by whoever wants it carried out.
    pub plan: String,
    /// Why it cannot be carried out; `None`: it can.
    pub refused: Option<String>,
    /// The steps that changed something, the last first.
    pub steps: Vec<UndoStepView>,
    /// The runbook that carries it out.
    pub source: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UndoStepView {
    pub seq: u32,
    /// What the step did.
    pub did: String,
    /// `does`, `as_before`, `cannot` or `changed`.
    pub undo: String,
    /// In words.
    pub what: String,
}

impl UndoView {
    pub fn of(run: RunId, planned: &Planned) -> Self {
        let step = |line: &undo::Line| {
            let (word, what) = match &line.undo {
                Undo::Does(what) => ("does", what),
                Undo::AsBefore(what) => ("as_before", what),
                Undo::Cannot(what) => ("cannot", what),
                Undo::Changed(what) => ("changed", what),
            };
            UndoStepView { seq: line.seq, did: line.did.clone(), undo: word.to_string(), what: what.clone() }
        };
        UndoView {
            run,
            plan: planned.program.hash.0.to_string(),
            refused: planned.plan.refused(),
            steps: planned.plan.lines.iter().map(step).collect(),
            source: planned.plan.source.clone(),
        }
    }
}

/// A plan that a person has seen and wants carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoRequest {
    pub by: String,
    #[serde(default)]
    pub reason: String,
    /// As the plan was shown.
    pub plan: String,
}

/// It has begun: an incident of its own, with a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UndoStarted {
    pub incident: IncidentId,
    pub run: Option<RunId>,
}

/// Is the kill switch pulled, and by whom?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PauseView {
    pub paused: bool,
    pub by: Option<String>,
    pub reason: Option<String>,
    pub at: Option<Timestamp>,
}

impl From<Option<crate::app::Paused>> for PauseView {
    fn from(paused: Option<crate::app::Paused>) -> Self {
        match paused {
            None => PauseView { paused: false, by: None, reason: None, at: None },
            Some(paused) => {
                PauseView { paused: true, by: Some(paused.by), reason: Some(paused.reason), at: Some(paused.at) }
            }
        }
    }
}

/// Is the fleet brake on, and what pulled it?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BrakeView {
    pub braked: bool,
    pub reason: Option<String>,
    pub at: Option<Timestamp>,
}

impl From<Option<crate::app::Braked>> for BrakeView {
    fn from(braked: Option<crate::app::Braked>) -> Self {
        let (reason, at) = braked.map(|braked| (braked.reason, braked.at)).unzip();
        BrakeView { braked: at.is_some(), reason, at }
    }
}

/// Every freeze there is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FreezeList {
    pub freezes: Vec<FreezeView>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FreezeView {
    /// Of one that a person made; the others end with their window.
    pub id: Option<FreezeId>,
    /// `one_off`, `configuration` or `rule`.
    pub source: String,
    /// The key in the configuration, or the rule.
    pub name: Option<String>,
    /// What it is for, in words.
    pub scope: String,
    pub by: Option<String>,
    pub reason: Option<String>,
    /// Its windows; none of one that a person made.
    pub when: Vec<String>,
    pub at: Option<Timestamp>,
    pub in_force: bool,
    /// When it ends, if it is in force.
    pub until: Option<Timestamp>,
}

impl From<Freeze> for FreezeView {
    fn from(freeze: Freeze) -> Self {
        FreezeView {
            id: Some(freeze.id),
            source: "one_off".into(),
            name: None,
            scope: freeze.scope.to_string(),
            by: Some(freeze.by),
            reason: Some(freeze.reason),
            when: Vec::new(),
            at: Some(freeze.at),
            in_force: true,
            until: Some(freeze.until),
        }
    }
}

impl FreezeView {
    pub fn configured(name: &str, freeze: &FreezeConfig, now: Timestamp) -> Self {
        let parts = [("rules", &freeze.rules), ("tags", &freeze.tags)];
        let named = parts.into_iter().filter(|(_, names)| !names.is_empty());
        let scope: Vec<String> = named.map(|(what, names)| format!("{what} {}", names.join(", "))).collect();
        let until = freeze.end(now);
        FreezeView {
            id: None,
            source: "configuration".into(),
            name: Some(name.to_string()),
            scope: if scope.is_empty() { "everything".to_string() } else { scope.join(", ") },
            by: None,
            reason: Some(freeze.reason.clone()),
            when: freeze.when.iter().map(ToString::to_string).collect(),
            at: None,
            in_force: until.is_some(),
            until,
        }
    }

    pub fn of_rule(rule: &Rule, now: Timestamp) -> Self {
        let until = rule.freeze.iter().filter_map(|window| window.end(now)).max();
        FreezeView {
            id: None,
            source: "rule".into(),
            name: Some(rule.name.clone()),
            scope: format!("the rule {}", rule.name),
            by: None,
            reason: None,
            when: rule.freeze.iter().map(ToString::to_string).collect(),
            at: None,
            in_force: until.is_some(),
            until,
        }
    }
}

/// A freeze to make: for how long or until when; for one rule, those of one tag, or everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FreezeRequest {
    pub by: String,
    pub reason: String,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// A name, in which `*` stands for any characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// A person's command: who, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    pub by: String,
    #[serde(default)]
    pub reason: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Readiness {
    pub ready: bool,
    pub checks: Vec<Check>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub ok: bool,
    pub detail: String,
}

/// What a machine needs to join the Swarm. Not printable: the token is the Swarm's secret.
#[derive(Serialize)]
pub struct JoinView {
    /// Addresses of managers, as in `10.0.0.1:2377`.
    pub managers: Vec<String>,
    pub token: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_of_environment_variables_are_hidden_wherever_they_stand() {
        let mut value = json!([
            "web",
            { "image": "shop/web:2", "env": { "DB": "postgres://u:secret@db", "GONE": null } },
            { "services": [{ "change": { "update": { "to": { "env": { "KEY": "secret" } } } } }] },
            { "env": ["KEY=secret", "PLAIN"] },
        ]);
        hide_env(&mut value);
        assert_eq!(
            value,
            json!([
                "web",
                { "image": "shop/web:2", "env": { "DB": HIDDEN, "GONE": null } },
                { "services": [{ "change": { "update": { "to": { "env": { "KEY": HIDDEN } } } } }] },
                { "env": ["KEY=(hidden)", "PLAIN=(hidden)"] },
            ])
        );
    }
}
