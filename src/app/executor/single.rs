//! Effects on one thing that is no service: a node, a group of machines, a silence, a job, a post. What is the same for all effects is in `effect`: here
//! is how the intent is decided, how it is sent, and how it is settled by looking when it is in doubt.

use super::effect::{Decided, LEAST_WAIT, MOST_WAIT, Stop, TRIES, labels_of};
use super::read::{Unanswered, step_error};
use super::{Executor, Flow, Work};
use crate::app::board::lock_name;
use crate::engine::guard::{self, Company};
use crate::engine::machines;
use crate::engine::settle::{Settled, settle_group, settle_node};
use crate::model::cluster::{JobIntent, Node};
use crate::model::duration::Duration;
use crate::model::incident::Reason;
use crate::model::node_group::{GroupChange, GroupIntent, NodeGroup};
use crate::model::run::RunState;
use crate::model::silence::SilenceIntent;
use crate::model::step::{Intent, Outcome, Step, StepError};
use crate::ports::{ErrorKind, ErrorReason, PortError};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Executor {
    /// From the call to an intent that the guards allow, on what is there once the locks are held.
    pub(super) async fn decide_one(self: &Arc<Self>, work: &mut Work, step: &mut Step) -> Result<Decided, Stop> {
        self.may_begin(work).await?;
        loop {
            // What has its time from here on (a job, a silence) loses none of it by having been held.
            step.started_at = self.parts.clock.now();
            let decided = self.intent_of(work, step).await?;
            self.verdict(self.granted(work, step))?;
            if !decided.unchanged {
                self.permitted(work, step, decided.intent.clone()).await?;
            }
            let names = lock_name(&step.primitive, &target_of(step)).into_iter().collect();
            let waited = self.lock(work, names).await?;
            if !waited && !self.is_stopped(work) {
                return Ok(decided);
            }
            self.may_begin(work).await?;
        }
    }

    async fn intent_of(&self, work: &Work, step: &Step) -> Result<Decided, Stop> {
        let plain = |intent| Ok(Decided { intent, before: None, unchanged: false, companies: Vec::new() });
        let text = |at: usize| step.args.get(at).and_then(Value::as_str).unwrap_or_default();
        match (&*step.primitive, step.args.get(1)) {
            ("drain" | "activate" | "promote" | "demote", _) | ("remove_node", Some(Value::Null)) => {
                self.node_intent(work, step, text(0)).await
            }
            ("add_node" | "remove_node", _) => self.group_intent(work, step, text(0)).await,
            ("silence", _) => plain(Intent::Silence(silence(step))),
            ("job", _) => plain(Intent::Job(job(step))),
            ("http_post", body) => {
                let body = body.cloned().unwrap_or_default();
                plain(Intent::Post { target: text(0).to_string(), body })
            }
            (other, _) => Err(Stop::Error(StepError::new("invalid", format!("{other} is no effect on one thing")))),
        }
    }

    async fn node_intent(&self, work: &Work, step: &Step, name: &str) -> Result<Decided, Stop> {
        let nodes = self.reach(&work.run, || work.world.cluster.nodes()).await?;
        let find = if step.primitive == "remove_node" { machines::find_removable } else { machines::find };
        let node = find(&nodes, name).map_err(Stop::Error)?;
        let intent = machines::of_node(&step.primitive, node).map_err(Stop::Error)?;
        if let Some(changed) = machines::node_changed_since(&work.steps, &intent.change, node) {
            return Err(Stop::Error(changed));
        }
        self.verdict(machines::leaves_something(&intent, &nodes).map_err(|reason| ("bounds", reason)))?;
        let unchanged = machines::node_already_so(&intent.change, node);
        let before = Some(json!({ "availability": node.availability, "role": node.role, "state": node.state }));
        let companies = if takes_out(step) { self.nodes_beside(work, &nodes, &intent.id) } else { Vec::new() };
        Ok(Decided { intent: Intent::Node(intent), before, unchanged, companies })
    }

    async fn group_intent(&self, work: &Work, step: &Step, name: &str) -> Result<Decided, Stop> {
        let group = self.reach(&work.run, || work.world.groups.group(name)).await?;
        let mut companies = Vec::new();
        let intent = match step.args.get(1).and_then(Value::as_u64) {
            Some(more) => machines::grown(&group, more).map_err(Stop::Error)?,
            None => {
                let nodes = self.reach(&work.run, || work.world.cluster.nodes()).await?;
                let name = step.args.get(1).and_then(Value::as_str).unwrap_or_default();
                let node = machines::find(&nodes, name).map_err(Stop::Error)?;
                companies = self.nodes_beside(work, &nodes, &node.id);
                machines::shrunk(&group, node).map_err(Stop::Error)?
            }
        };
        self.verdict(machines::within_group(&intent, &group).map_err(|reason| ("bounds", reason)))?;
        let instances: Vec<&str> = group.instances.iter().map(|instance| instance.id.as_str()).collect();
        let before = Some(json!({ "desired": group.desired, "instances": instances }));
        Ok(Decided { intent: Intent::Group(intent), before, unchanged: false, companies })
    }

    fn nodes_beside(&self, work: &Work, nodes: &[Node], id: &str) -> Vec<Company> {
        Vec::from_iter(guard::nodes(nodes, id, self.parts.config.bounds.at_once, self.rule(work).as_deref()))
    }

    pub(super) async fn carry_out_one(
        self: &Arc<Self>,
        work: &mut Work,
        mut step: Step,
        intent: Intent,
        in_doubt: bool,
    ) -> Flow {
        let is_job = matches!(intent, Intent::Job(_));
        match self.send(work, &mut step, intent, in_doubt).await {
            Ok(_) if is_job => self.await_job(work, step).await,
            Ok(value) => self.answer(work, step, Outcome::Applied, Ok(value)),
            Err(Stop::Error(error)) => self.answer(work, step, Outcome::Failed, Err(error)),
            Err(stop) => self.stopped(work, step, stop),
        }
    }

    async fn send(&self, work: &mut Work, step: &mut Step, mut intent: Intent, in_doubt: bool) -> Result<Value, Stop> {
        let (label, since) = (format!("{}:{}", step.run, step.seq), step.started_at);
        let (mut doubt, mut tries, mut wait) = (in_doubt, 0, LEAST_WAIT);
        let mut told_to_wait = None;
        loop {
            let mut companies = Vec::new();
            if doubt {
                match self.settle_other(work, step, &mut intent).await? {
                    (Settled::Applied, _) => return Ok(value_of(&intent)),
                    (Settled::Changed(error), _) => return Err(Stop::Error(error)),
                    (Settled::NotApplied, beside) => companies = beside,
                }
            }
            self.has_time(&intent)?;
            // Asked anew: the rule may have changed, or the switch been pulled.
            if (doubt || tries > 0)
                && !self.may_send_again(work, step, intent.clone(), companies, &mut told_to_wait).await?
            {
                continue;
            }
            told_to_wait = None;
            self.has_time(&intent)?;
            let error = match self.call_for(work, &intent, &label).await {
                Ok(value) => return Ok(value),
                Err(error) if error.kind == ErrorKind::Permanent => return Err(Stop::Error(step_error(&error))),
                Err(error) => error,
            };
            tracing::warn!(run = %step.run, step = step.seq, reason = %error.reason, %error, "the outcome is in doubt; looking at the target");
            doubt = true;
            tries += 1;
            if tries >= TRIES && error.reason == ErrorReason::Conflict {
                return Err(Stop::Error(StepError::new("changed", format!("{intent}: {error}"))));
            }
            if tries >= TRIES {
                self.note_unreachable(&work.run, since, &error);
            }
            // What was refused for a moment did not happen: only this can be sent again without a look.
            if matches!(intent, Intent::Post { .. }) && error.kind == ErrorKind::Transient {
                doubt = false;
            }
            if !self.pause_for(wait).await {
                return Err(Stop::Leave);
            }
            if self.out_of_time(&work.run) {
                let text = format!("{intent}: it could not be done within runs.time_limit: {error}");
                return Err(Stop::End(RunState::Failed, Some(Reason::new("limit", text))));
            }
            wait = (wait * 2).min(MOST_WAIT);
        }
    }

    /// What has its time from when it was decided on may have none left.
    fn has_time(&self, intent: &Intent) -> Result<(), Stop> {
        let over = ends_at(intent).filter(|ends| *ends <= self.parts.clock.now());
        over.map_or(Ok(()), |ends| {
            let text = format!("{intent}: its time was over at {ends:.0}, before it could begin");
            Err(Stop::Error(StepError::new("timeout", text)))
        })
    }

    /// Does the rule now in force allow this call?
    fn granted(&self, work: &Work, step: &Step) -> Result<(), (&'static str, Reason)> {
        guard::before_call(self.rule(work).as_deref(), &labels_of(work), &step.primitive, &target_of(step))
    }

    /// `false`: not now, or it took so long that everything must be looked at and asked anew.
    pub(super) async fn may_send_again(
        &self,
        work: &mut Work,
        step: &mut Step,
        intent: Intent,
        companies: Vec<Company>,
        told_to_wait: &mut Option<Timestamp>,
    ) -> Result<bool, Stop> {
        let seen = self.parts.clock.now();
        self.may_begin(work).await?;
        self.verdict(self.granted(work, step))?;
        self.still_permitted(work)?;
        let names = lock_name(&step.primitive, &target_of(step)).into_iter().collect();
        self.lock(work, names).await?;
        if self.is_stale(seen) {
            return Ok(false);
        }
        self.admit_again(work, step, intent, companies, told_to_wait).await
    }

    /// What became of an effect in doubt, whose intent is brought up to date; and what its target belongs to, where a cap on that is.
    async fn settle_other(
        &self,
        work: &Work,
        step: &Step,
        intent: &mut Intent,
    ) -> Result<(Settled, Vec<Company>), Stop> {
        let mut beside = Vec::new();
        let settled = match intent {
            Intent::Node(intent) => {
                let nodes = self.reach(&work.run, || work.world.cluster.nodes()).await?;
                let found = nodes.iter().find(|node| node.id == intent.id);
                let settled = settle_node(intent, found);
                if settled == Settled::NotApplied {
                    // The version of a node moves with its state: only the field that the intent is about must be as it was.
                    intent.version = found.map_or(intent.version, |node| node.version);
                    self.verdict(machines::leaves_something(intent, &nodes).map_err(|reason| ("bounds", reason)))?;
                    if takes_out(step) {
                        beside = self.nodes_beside(work, &nodes, &intent.id);
                    }
                }
                settled
            }
            Intent::Group(intent) => {
                let group = self.reach(&work.run, || work.world.groups.group(&intent.group)).await?;
                let settled = settle_group(intent, &group);
                if settled == Settled::NotApplied {
                    self.verdict(machines::within_group(intent, &group).map_err(|reason| ("bounds", reason)))?;
                    beside = self.still_shrinks(work, intent, &group).await?;
                }
                settled
            }
            Intent::Silence(intent) => {
                let alerts = self.alertmanager()?;
                if self.reach(&work.run, || alerts.silenced(&intent.key)).await? {
                    Settled::Applied
                } else {
                    Settled::NotApplied
                }
            }
            Intent::Job(job) => match self.reach(&work.run, || work.world.cluster.job(&job.name)).await {
                Ok(_) => Settled::Applied,
                Err(Unanswered::Error(error)) if error.reason == ErrorReason::NotFound => Settled::NotApplied,
                Err(unanswered) => return Err(unanswered.into()),
            },
            _ => {
                let text = format!(
                    "{intent}: it is not known whether it arrived, and it is not sent twice; look, and do what is missing"
                );
                return Err(Stop::End(RunState::Escalated, Some(Reason::new("in_doubt", text))));
            }
        };
        Ok((settled, beside))
    }

    /// A machine that was to go because nothing ran on it may have been put back to work meanwhile.
    async fn still_shrinks(&self, work: &Work, intent: &GroupIntent, group: &NodeGroup) -> Result<Vec<Company>, Stop> {
        let GroupChange::Terminate { node, .. } = &intent.change else { return Ok(Vec::new()) };
        let nodes = self.reach(&work.run, || work.world.cluster.nodes()).await?;
        // One that has left the Swarm runs nothing.
        let Ok(node) = machines::find(&nodes, node) else { return Ok(Vec::new()) };
        machines::shrunk(group, node).map_err(Stop::Error)?;
        Ok(self.nodes_beside(work, &nodes, &node.id))
    }

    async fn call_for(&self, work: &Work, intent: &Intent, label: &str) -> Result<Value, PortError> {
        match intent {
            Intent::Silence(_) | Intent::Post { .. } if work.run.shadow => {}
            Intent::Node(node) => work.world.cluster.apply_node(node).await?,
            Intent::Group(group) => work.world.groups.apply(group).await?,
            Intent::Silence(silence) => match &self.parts.alerts {
                Some(alerts) => alerts.silence(silence).await?,
                None => return Err(no_alertmanager()),
            },
            Intent::Job(job) => work.world.cluster.start_job(job, label).await?,
            Intent::Post { target, body } => {
                let answer = self.parts.posts.post(target, body).await?;
                return Ok(json!({ "status": answer.status, "body": answer.body }));
            }
            other => {
                let message = format!("{other} is no effect on one thing: this is a fault of runbookd");
                return Err(PortError::permanent(ErrorReason::Invalid, message));
            }
        }
        Ok(value_of(intent))
    }

    pub(super) fn alertmanager(&self) -> Result<&Arc<dyn crate::ports::Alerts>, Stop> {
        self.parts.alerts.as_ref().ok_or_else(|| Stop::Error(step_error(&no_alertmanager())))
    }

    /// The job has been accepted: the step waits for its end.
    async fn await_job(self: &Arc<Self>, work: &mut Work, mut step: Step) -> Flow {
        step.outcome = Outcome::Waiting;
        self.stage(&work.run, vec![crate::ports::Write::Step(Box::new(step.clone()))]);
        match work.steps.get_mut(step.seq as usize) {
            Some(known) => *known = step,
            None => work.steps.push(step),
        }
        self.wait(work).await
    }
}

/// Is its node to go out of work?
fn takes_out(step: &Step) -> bool {
    ["drain", "remove_node"].contains(&&*step.primitive)
}

pub(super) fn no_alertmanager() -> PortError {
    PortError::permanent(ErrorReason::Invalid, "there is no alertmanager.url in the configuration: it says whom to ask")
}

/// When it is over, for what has its time from when it was decided on.
fn ends_at(intent: &Intent) -> Option<Timestamp> {
    match intent {
        Intent::Job(job) => Some(job.deadline),
        Intent::Silence(silence) => Some(silence.ends_at()),
        _ => None,
    }
}

/// What the script gets when the effect has been accepted.
fn value_of(intent: &Intent) -> Value {
    match intent {
        // Of a post only a rehearsal does not know the answer.
        Intent::Post { .. } => json!({ "status": 200, "body": "" }),
        Intent::Group(GroupIntent { change: GroupChange::Resize { to, .. }, .. }) => json!(to),
        _ => Value::Null,
    }
}

/// What a grant must name for this call.
fn target_of(step: &Step) -> String {
    match (&*step.primitive, step.args.first()) {
        ("silence", Some(Value::Array(matchers))) => {
            matchers.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        (_, Some(Value::String(target))) => target.clone(),
        _ => String::new(),
    }
}

fn silence(step: &Step) -> SilenceIntent {
    let text = |at: usize| step.args.get(at).and_then(Value::as_str).unwrap_or_default();
    let matchers = step.args.first().and_then(Value::as_array).into_iter().flatten();
    SilenceIntent {
        key: format!("{}:{}", step.run, step.seq),
        matchers: matchers.filter_map(Value::as_str).map(str::to_string).collect(),
        starts_at: step.started_at,
        duration: Duration::parse(text(1)).unwrap_or_default(),
        comment: text(2).to_string(),
    }
}

fn job(step: &Step) -> JobIntent {
    let fields = step.args.get(1).cloned().unwrap_or_default();
    let timeout = fields["timeout"].as_str().and_then(|text| Duration::parse(text).ok());
    let timeout = timeout.unwrap_or(Duration::from_secs(300));
    let args = fields["args"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect();
    let env: BTreeMap<String, String> = fields["env"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_string())))
        .collect();
    JobIntent {
        name: format!("{}{}-{}", super::jobs::NAME, step.run, step.seq),
        image: step.args.first().and_then(Value::as_str).unwrap_or_default().to_string(),
        args,
        env,
        deadline: step.started_at + timeout.signed(),
        timeout,
    }
}
