//! Whether a run under way may begin an effect now. While it is paused or frozen it may not: it is suspended, not ended, up to its time limit; its reads
//! and waits go on.

use super::effect::Stop;
use super::{Executor, Input, Work};
use crate::engine::guard::{self, Company, Page, Verdict};
use crate::model::duration::Duration;
use crate::model::effect::Effect;
use crate::model::incident::Reason;
use crate::model::rule::Rule;
use crate::model::run::RunState;
use crate::model::step::{Step, StepError};
use crate::ports::Write;
use jiff::Timestamp;
use tokio::sync::oneshot;

/// So often at least it is asked again: the rule may be another by now.
const ASK_AGAIN: Duration = Duration::from_secs(10);

impl Executor {
    /// What stops a run's effects now: the guard, until when as far as that is known, and why.
    fn stop_of(&self, work: &Work) -> Option<(&'static str, Option<Timestamp>, Reason)> {
        // A rehearsal changes nothing.
        if work.run.shadow {
            return None;
        }
        let stops = self.stops.borrow();
        let rule = self.rule(work);
        match guard::stopped(rule.as_deref(), &stops.view(&self.parts.config), self.parts.clock.now()) {
            (guard, Verdict::Hold { until, reason, .. }) => Some((guard, until, reason)),
            _ => None,
        }
    }

    pub(super) fn is_stopped(&self, work: &Work) -> bool {
        self.stop_of(work).is_some()
    }

    /// Asks for an effect whose intent is known, everything else considered, before it is sent: for the first time, or again. `false`: not now, and what it was
    /// decided on may be stale when it is. `since`: when it was first told to wait.
    pub(super) async fn admit(
        &self,
        work: &Work,
        step: &mut Step,
        companies: Vec<Company>,
        since: &mut Option<Timestamp>,
    ) -> Result<bool, Stop> {
        let effect = Effect::of(&work.run.rule, work.run.incident, step).filter(|_| !work.run.shadow);
        let Some(effect) = effect else { return Ok(true) };
        let (answer, told) = oneshot::channel();
        let run = Box::new(work.run.clone());
        self.inbox.send(Input::Admit { run, effect, companies, answer }).map_err(|_| Stop::Leave)?;
        match told.await.map_err(|_| Stop::Leave)? {
            Ok(counts_since) => {
                // So it does after a crash, when the journal knows no end of it.
                step.started_at = counts_since;
                Ok(true)
            }
            Err(Verdict::Deny(reason)) => Err(Stop::Denied(StepError::denied(reason.to_string()))),
            Err(Verdict::Hold { page: Page::Later, reason, .. }) => self.wait_its_turn(work, &reason, since).await,
            // What stops everything is waited for where a step begins.
            Err(_) => Ok(false),
        }
    }

    /// Waits a little for others to be done, up to the rule's `hold_at_most` in all.
    async fn wait_its_turn(&self, work: &Work, reason: &Reason, since: &mut Option<Timestamp>) -> Result<bool, Stop> {
        let now = self.parts.clock.now();
        let limit = self.rule(work).map_or(Rule::HOLD_AT_MOST, |rule| rule.hold_at_most);
        if Duration::between(*since.get_or_insert(now), now) >= limit {
            return Err(Stop::Denied(StepError::denied(format!("{reason}, for longer than {limit}"))));
        }
        if self.pause_for(self.parts.config.runs.poll_every.std()).await { Ok(false) } else { Err(Stop::Leave) }
    }

    pub(super) async fn wait_for_release(&self, work: &mut Work) -> Result<(), Stop> {
        let mut stopping = self.stopping.subscribe();
        let mut held: Option<Reason> = None;
        loop {
            if *stopping.borrow() {
                return Err(Stop::Leave);
            }
            // From here on no change is missed.
            let changed = self.stops_changed.notified();
            let Some((guard, until, reason)) = self.stop_of(work) else {
                if held.is_none() || work.signal.has_place() {
                    break;
                }
                // By the time that it has one again, it may be stopped again.
                if !self.seat(&work.signal).await {
                    return Err(Stop::Leave);
                }
                continue;
            };
            // A freeze may last for days: what it does not concern goes on.
            work.signal.leave_place();
            if held.as_ref().is_none_or(|known| known.code != reason.code) {
                self.parts.metrics.verdict(guard, "hold");
                self.suspend_by(work, &reason);
                held = Some(reason.clone());
            }
            if self.out_of_time(&work.run) {
                let text = format!("it was held until its runs.time_limit was over: {}", reason.text);
                return Err(Stop::End(RunState::Failed, Some(Reason::new("limit", text))));
            }
            let last = work.run.started_at + self.parts.config.runs.time_limit.signed();
            let again = self.parts.clock.now() + ASK_AGAIN.signed();
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => return Err(Stop::Leave),
                () = changed => {}
                () = self.parts.clock.sleep_until(until.map_or(again, |until| until.min(again)).min(last)) => {}
            }
        }
        if held.is_some() {
            self.go_on(work);
        }
        Ok(())
    }

    /// Says in the journal, and with the incident, what the run waits for.
    fn suspend_by(&self, work: &mut Work, reason: &Reason) {
        tracing::info!(run = %work.run.id, %reason, "the run waits before its next effect");
        (work.run.state, work.run.reason) = (RunState::Suspended, Some(reason.clone()));
        self.parts.journal.stage(vec![Write::Run(Box::new(work.run.clone()))]);
        let _ = self.inbox.send(Input::RunHeld { run: Box::new(work.run.clone()), reason: reason.clone() });
    }

    fn go_on(&self, work: &mut Work) {
        (work.run.state, work.run.reason) = (RunState::Running, None);
        self.parts.journal.stage(vec![Write::Run(Box::new(work.run.clone()))]);
        let _ = self.inbox.send(Input::RunReleased { run: Box::new(work.run.clone()) });
    }
}
