//! May this very effect be had? Where a person must approve, exactly what was approved may; if the world has moved on since, it is asked again.

use super::effect::Stop;
use super::{Executor, Flow, Input, Work};
use crate::app::board::Permit;
use crate::engine::plan;
use crate::model::duration::Duration;
use crate::model::incident::Reason;
use crate::model::mode::{Mode, Plan, Planned};
use crate::model::run::RunState;
use crate::model::step::{Intent, Step};
use crate::ports::Write;
use jiff::Timestamp;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::oneshot;

impl Executor {
    /// Goes by the mode of the rule now in force, as every guard does.
    pub(super) async fn permitted(self: &Arc<Self>, work: &mut Work, step: &Step, intent: Intent) -> Result<(), Stop> {
        // An undo was shown to the person who asked for it. What a deleted rule does is the grant's to deny.
        let asked = !work.run.shadow && work.run.undoes.is_none();
        let Some(rule) = self.rule(work).filter(|_| asked) else { return Ok(()) };
        match rule.mode.min(self.parts.config.max_mode) {
            Mode::Auto => return Ok(()),
            // It began when the rule had earned that.
            Mode::Earned if work.run.plan.is_none() => return Ok(()),
            Mode::Earned | Mode::Approve => {}
            Mode::Shadow => {
                let text = format!("rule {} is in shadow mode now: it changes nothing", rule.name);
                return self.verdict(Err(("mode", Reason::new("mode", text))));
            }
        }
        let next =
            Planned { primitive: step.primitive.to_string(), args: step.args.clone(), intent: intent.timeless() };
        loop {
            if work.run.plan.as_ref().is_some_and(|plan| plan::covers(plan, &work.steps, &next)) {
                return Ok(());
            }
            let mut said = self.ask_permit(work, None).await?;
            if matches!(said, Permit::Unasked) {
                let plan = self.rest_of(work).await?;
                said = self.ask_permit(work, Some(plan)).await?;
            }
            match said {
                Permit::Granted { plan, by } => {
                    work.run.plan = Some(Arc::new(plan));
                    work.run.approved_by = by;
                    (work.run.state, work.run.wake_at) = (RunState::Running, None);
                    self.stage(&work.run, vec![Write::Run(Box::new(work.run.clone()))]);
                }
                Permit::Waits(until) => return Err(Stop::Sleep(until)),
                Permit::Refused(reason) => return Err(Stop::End(RunState::Failed, Some(reason))),
                Permit::Unasked => return Err(Stop::Leave),
            }
        }
    }

    /// May an effect that is in doubt, and was not had, be had after all? It was permitted when it was decided on; the rule may be another by now.
    pub(super) fn still_permitted(&self, work: &Work) -> Result<(), Stop> {
        let asked = !work.run.shadow && work.run.undoes.is_none();
        let Some(rule) = self.rule(work).filter(|_| asked) else { return Ok(()) };
        let text = match rule.mode.min(self.parts.config.max_mode) {
            Mode::Shadow => format!("rule {} is in shadow mode now: it changes nothing", rule.name),
            Mode::Approve if work.run.plan.is_none() => {
                format!("rule {} asks for approval now, and nobody has approved this", rule.name)
            }
            _ => return Ok(()),
        };
        self.verdict(Err(("mode", Reason::new("mode", text))))
    }

    async fn ask_permit(&self, work: &Work, plan: Option<Plan>) -> Result<Permit, Stop> {
        let (answer, told) = oneshot::channel();
        let input = Input::Permit { run: Box::new(work.run.clone()), plan, answer };
        self.inbox.send(input).map_err(|_| Stop::Leave)?;
        told.await.map_err(|_| Stop::Leave)
    }

    /// The run waits in the journal until people have answered. Its call is made anew then.
    pub(super) fn sleep_for_approval(&self, work: &mut Work, until: Timestamp) -> Flow {
        work.run.state = RunState::Suspended;
        work.run.wake_at = Some(until);
        self.stage(&work.run, vec![Write::Run(Box::new(work.run.clone()))]);
        drop(self.parts.journal.commit());
        Flow::Sleep(until)
    }

    /// `ask`: the question goes to people in one transaction with the step.
    pub(super) async fn ask_people(self: &Arc<Self>, work: &mut Work, step: Step, within: Duration) -> Flow {
        let (done, told) = oneshot::channel();
        let input = Input::Ask {
            run: Box::new(work.run.clone()),
            text: step.args.first().and_then(Value::as_str).unwrap_or_default().to_string(),
            answers: answers(&step.args),
            step: Box::new(step),
            within,
            done,
        };
        if self.inbox.send(input).is_err() {
            work.steps.pop();
            return Flow::Leave;
        }
        match told.await {
            Ok(()) => self.wait(work).await,
            Err(_) => Flow::Leave,
        }
    }

    /// What people have answered to the question of a step.
    pub(super) async fn answered(&self, work: &Work, step: &Step) -> Result<Option<String>, Stop> {
        let (answer, told) = oneshot::channel();
        let input = Input::Answered { run: Box::new(work.run.clone()), seq: step.seq, answer };
        self.inbox.send(input).map_err(|_| Stop::Leave)?;
        told.await.map_err(|_| Stop::Leave)
    }
}

/// What can be answered to an `ask`. Never empty: the arguments were checked.
pub(super) fn answers(args: &[Value]) -> Vec<String> {
    let given = args.get(2).and_then(Value::as_array).into_iter().flatten();
    given.filter_map(Value::as_str).map(str::to_string).collect()
}
