//! Runs and their steps. Values of environment variables are hidden here.

use crate::model::incident::{IncidentId, Reason};
use crate::model::run::{Handler, Run, RunId, RunState};
use crate::model::step::{Outcome, Step, StepError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
    /// Of a suspended run: what it waits for, in words.
    pub waits_for: Option<String>,
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
            waits_for: None,
            resumes: run.resumes,
            wake_at: run.wake_at,
            started_at: run.started_at,
            finished_at: run.finished_at,
        }
    }
}

impl RunView {
    /// With what it waits for, which its last step says.
    pub fn waiting(mut self, steps: &[Step]) -> Self {
        if self.state == RunState::Suspended {
            self.waits_for = steps.last().filter(|step| step.finished_at.is_none()).map(waits_for);
        }
        self
    }
}

/// `wait_healthy web: wait up to 5m, until …`; of a question the question.
fn waits_for(step: &Step) -> String {
    let first = step.args.first().and_then(Value::as_str).unwrap_or_default();
    let intent = step.intent.as_ref().map(ToString::to_string).unwrap_or_default();
    match &*step.primitive {
        "ask" => format!("ask: {first} ({intent})"),
        name @ ("wait_healthy" | "wait_nodes") => format!("{name} {first}: {intent}"),
        name => format!("{name}: {intent}"),
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
            run: RunView::from(run).waiting(&steps),
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
