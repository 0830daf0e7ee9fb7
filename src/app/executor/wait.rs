//! Waits: a deadline in the journal and no thread. Short ones stay in memory, long ones are left to the sleepers.

use super::permit::answers;
use super::read::{Unanswered, step_error};
use super::{Executor, Flow, Input, Work};
use crate::engine::machines;
use crate::model::cluster::{Convergence, JobState};
use crate::model::duration::Duration;
use crate::model::incident::Reason;
use crate::model::run::{Handler, RunState};
use crate::model::step::{Intent, Outcome, Step, StepError};
use crate::ports::Write;
use crate::runbook::evaluate::{Next, Observation};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A wait that is looked at again within this time keeps its run in memory.
const RESIDENT: Duration = Duration::from_secs(5);
/// Reads within one poll of a closure.
pub(super) const READS_PER_POLL: usize = 100;

/// What one look at a waiting step said.
enum Look {
    Met(Value),
    /// Not yet; what is missing, in words.
    NotYet(String),
    Never(StepError),
    End(RunState, Option<Reason>),
    Leave,
}

impl Executor {
    pub(super) async fn begin_wait(
        self: &Arc<Self>,
        work: &mut Work,
        primitive: &'static str,
        args: Vec<Value>,
    ) -> Flow {
        let timeout = match primitive {
            "wait_healthy" | "ask" => args.get(1),
            "wait_nodes" => args.get(2),
            _ => args.first(),
        };
        let timeout = timeout.and_then(Value::as_str).unwrap_or_default();
        let timeout = match Duration::parse(timeout) {
            Ok(timeout) => timeout,
            Err(why) => {
                let step = self.new_step(work, primitive, args);
                return self.answer(work, step, Outcome::Failed, Err(StepError::new("invalid", why)));
            }
        };
        let mut step = self.new_step(work, primitive, args);
        step.intent = Some(Intent::Until { deadline: step.started_at + timeout.signed(), timeout });
        step.outcome = Outcome::Waiting;
        work.steps.push(step.clone());
        if primitive == "ask" && !work.run.shadow {
            return self.ask_people(work, step, timeout).await;
        }
        self.stage(&work.run, vec![Write::Step(Box::new(step))]);
        self.wait(work).await
    }

    /// The run stands at the wait that ends its history.
    pub(super) async fn wait(self: &Arc<Self>, work: &mut Work) -> Flow {
        loop {
            if work.signal.stopped() && work.run.handler == Handler::OnResolved {
                return Flow::End(RunState::Interrupted, Some(Reason::new("refired", "the alert fires again")));
            }
            let Some(step) = work.steps.last().cloned() else { return Flow::On };
            let Some((deadline, timeout)) = step.intent.as_ref().and_then(Intent::deadline) else { return Flow::On };
            if work.run.shadow {
                let value = met(&step);
                return self.end_wait(work, step, Ok(value)).await;
            }
            let missing = match self.look_at(work, &step).await {
                Look::Met(value) => return self.end_wait(work, step, Ok(value)).await,
                Look::Never(error) => return self.end_wait(work, step, Err(error)).await,
                Look::End(state, reason) => return Flow::End(state, reason),
                Look::Leave => return Flow::Leave,
                Look::NotYet(missing) => missing,
            };
            let now = self.parts.clock.now();
            if deadline <= now {
                let error = StepError::new("timeout", format!("{} waited {timeout}: {missing}", step.primitive));
                return self.end_wait(work, step, Err(error)).await;
            }
            if self.out_of_time(&work.run) {
                return self.time_is_up();
            }
            let next = self
                .next_look(&step, deadline, now)
                .min(work.run.started_at + self.parts.config.runs.time_limit.signed());
            self.suspend(work, next);
            if next.duration_since(now) > RESIDENT.signed() || self.permits.available_permits() == 0 {
                return Flow::Sleep(next);
            }
            if !self.rest(work, next).await {
                return Flow::Leave;
            }
        }
    }

    fn next_look(&self, step: &Step, deadline: Timestamp, now: Timestamp) -> Timestamp {
        match &*step.primitive {
            // Nothing to look at: time passes, or the dispatcher wakes it.
            "sleep" | "wait_resolved" | "ask" => deadline,
            _ => deadline.min(now + self.parts.config.runs.poll_every.signed()),
        }
    }

    /// The journal learns once that a run waits, and until when at most.
    fn suspend(&self, work: &mut Work, next: Timestamp) {
        let wake_at = match work.steps.last().map(|step| &*step.primitive) {
            Some("sleep") => Some(next),
            // These are looked at at once after a restart: what they wait for may have come.
            _ => None,
        };
        if work.run.state != RunState::Suspended || work.run.wake_at != wake_at {
            work.run.state = RunState::Suspended;
            work.run.wake_at = wake_at;
            self.parts.journal.stage(vec![Write::Run(Box::new(work.run.clone()))]);
            // The deadline must outlive a crash. Nothing waits for the ticket: no effect hangs on it.
            drop(self.parts.journal.commit());
        }
    }

    /// Rests in memory until `until` or a wake-up; false when the process stops.
    async fn rest(&self, work: &Work, until: Timestamp) -> bool {
        tokio::select! {
            biased;
            () = self.parts.clock.sleep_until(until) => {}
            () = work.signal.wait() => {}
        }
        work.signal.take_woken();
        !*self.stopping.borrow()
    }

    async fn end_wait(&self, work: &mut Work, step: Step, answer: Result<Value, StepError>) -> Flow {
        work.run.state = RunState::Running;
        work.run.wake_at = None;
        let effect = step.intent.as_ref().is_some_and(Intent::is_effect);
        let outcome = match (answer.is_ok(), effect) {
            (true, true) => Outcome::Applied,
            (true, false) => Outcome::Observed,
            (false, _) => Outcome::Failed,
        };
        let job = match &step.intent {
            Some(Intent::Job(job)) if !work.run.shadow => Some(job.name.clone()),
            _ => None,
        };
        let flow = self.answer(work, step, outcome, answer);
        if let Some(job) = job {
            self.forget_job(&job).await;
        }
        flow
    }

    async fn look_at(self: &Arc<Self>, work: &mut Work, step: &Step) -> Look {
        match &*step.primitive {
            "sleep" => match &step.intent {
                Some(Intent::Until { deadline, .. }) if *deadline <= self.parts.clock.now() => Look::Met(Value::Null),
                _ => Look::NotYet("time passes".into()),
            },
            "wait_resolved" => self.look_at_alert(work).await,
            "wait_healthy" => self.look_at_service(work, step).await,
            "wait_nodes" => self.look_at_group(work, step).await,
            "job" => self.look_at_job(work, step).await,
            "ask" => self.look_at_answer(work, step).await,
            _ => self.poll(work, step).await,
        }
    }

    async fn look_at_answer(&self, work: &Work, step: &Step) -> Look {
        match self.answered(work, step).await {
            Ok(Some(answer)) => Look::Met(answer.into()),
            Ok(None) => Look::NotYet("nobody has answered".into()),
            Err(_) => Look::Leave,
        }
    }

    async fn look_at_alert(&self, work: &Work) -> Look {
        let (answer, told) = oneshot::channel();
        if self.inbox.send(Input::Fires { run: Box::new(work.run.clone()), answer }).is_err() {
            return Look::Leave;
        }
        match told.await {
            Ok(false) => Look::Met(Value::Null),
            Ok(true) => Look::NotYet("the alert still fires".into()),
            Err(_) => Look::Leave,
        }
    }

    async fn look_at_service(&self, work: &Work, step: &Step) -> Look {
        let name = step.args.first().and_then(Value::as_str).unwrap_or_default();
        match self.reach(&work.run, || work.world.cluster.convergence(name)).await {
            Ok(Convergence::Converged) => Look::Met(Value::Null),
            Ok(Convergence::Progressing(missing)) => Look::NotYet(missing),
            Ok(Convergence::Failed(why)) => Look::Never(StepError::new("failed", why)),
            Err(Unanswered::Leave) => Look::Leave,
            Err(Unanswered::Error(error)) => Look::Never(step_error(&error)),
        }
    }

    async fn look_at_group(&self, work: &Work, step: &Step) -> Look {
        let name = step.args.first().and_then(Value::as_str).unwrap_or_default();
        let wanted = step.args.get(1).and_then(Value::as_u64).unwrap_or(u64::MAX);
        let seen = async {
            let group = self.reach(&work.run, || work.world.groups.group(name)).await?;
            let nodes = self.reach(&work.run, || work.world.cluster.nodes()).await?;
            Ok((machines::ready(&group, &nodes), group.instances.len()))
        };
        match seen.await {
            Ok((ready, _)) if ready >= wanted => Look::Met(Value::Null),
            Ok((ready, machines)) => Look::NotYet(format!(
                "{ready} of {wanted} nodes of {name} are ready; the group has {machines} machines"
            )),
            Err(Unanswered::Leave) => Look::Leave,
            Err(Unanswered::Error(error)) => Look::Never(step_error(&error)),
        }
    }

    async fn look_at_job(&self, work: &Work, step: &Step) -> Look {
        let Some(Intent::Job(job)) = &step.intent else { return Look::Leave };
        match self.reach(&work.run, || work.world.cluster.job(&job.name)).await {
            Ok(JobState::Running(missing)) => Look::NotYet(missing),
            Ok(JobState::Ended { exit_code, error, log }) => {
                Look::Met(json!({ "exit_code": exit_code, "error": error, "log": log }))
            }
            Err(Unanswered::Leave) => Look::Leave,
            Err(Unanswered::Error(error)) => Look::Never(step_error(&error)),
        }
    }

    /// Evaluates the closure of a `wait_until` on fresh reads. They are shared between runs and kept by none.
    async fn poll(&self, work: &mut Work, step: &Step) -> Look {
        let mut seen: Vec<Observation> = Vec::new();
        loop {
            let evaluation = self.evaluate(work, Some(seen.clone())).await;
            match evaluation.next {
                Next::Polled(Value::Null | Value::Bool(false)) => {
                    return Look::NotYet("the condition is not met".into());
                }
                Next::Polled(value) => return Look::Met(value),
                Next::Read { primitive, args } if seen.len() < READS_PER_POLL => {
                    let answer = match self.look_shared(&work.run, &work.world, primitive, &args, step.started_at).await
                    {
                        Ok(value) => Ok(value),
                        Err(Unanswered::Leave) => return Look::Leave,
                        Err(Unanswered::Error(error)) => Err(step_error(&error)),
                    };
                    seen.push(Observation { primitive: Cow::Borrowed(primitive), args, answer });
                }
                Next::Failed(failure) => {
                    return Look::End(RunState::Failed, Some(super::reason_of(&failure)));
                }
                Next::Diverged { seq, recorded, called } => {
                    let text = format!("step {seq} was {recorded} before, and now the runbook calls {called}");
                    return Look::End(RunState::Failed, Some(Reason::new("diverged", text)));
                }
                Next::Read { .. } => {
                    let text = format!("the condition of wait_until made more than {READS_PER_POLL} reads");
                    return Look::End(RunState::Failed, Some(Reason::new("limit", text)));
                }
                _ => return Look::End(RunState::Failed, Some(super::unexpected("a step", "wait_until"))),
            }
        }
    }
}

/// What a wait comes to when it is taken as met.
fn met(step: &Step) -> Value {
    match &*step.primitive {
        "wait_until" => Value::Bool(true),
        "job" => json!({ "exit_code": 0, "error": "", "log": [] }),
        "ask" => answers(&step.args).swap_remove(0).into(),
        _ => Value::Null,
    }
}
