//! Effects: observe, decide the intent, ask the guards, journal, apply, journal. What is in doubt is settled by looking at the target;
//! a conflict, a time-out and a crash all go that one way. What is particular to services and reloads is here, too; all else is in `single`.

use super::read::{Unanswered, step_error};
use super::{Executor, Flow, Input, Work};
use crate::app::board::{SERVICES, lock_name};
use crate::engine::guard::{self, Bounds, Company};
use crate::engine::intent::{self, Targets};
use crate::engine::settle::{Settled, settle};
use crate::engine::undo;
use crate::model::cluster::{Service, ServiceIntent};
use crate::model::duration::Duration;
use crate::model::incident::Reason;
use crate::model::label::Labels;
use crate::model::rule::Rule;
use crate::model::run::{Run, RunState};
use crate::model::step::{Intent, Outcome, Step, StepError};
use crate::ports::{ErrorKind, ErrorReason, Reloaded, Write};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Conflicts and doubts under one sequence number, per target.
pub(super) const TRIES: u32 = 5;
/// Between two tries under one sequence number: doubled from the first to the last.
pub(super) const LEAST_WAIT: std::time::Duration = std::time::Duration::from_millis(200);
pub(super) const MOST_WAIT: std::time::Duration = std::time::Duration::from_secs(15);
/// What was seen and what the guards said holds for so long: a journal that cannot be written may keep an intent for minutes, in which a person freezes
/// everything.
const DECIDED_FOR: Duration = Duration::from_secs(1);
/// How long a process that stops lets an intent that it has staged become durable. A commit takes milliseconds.
const LAST_COMMIT: std::time::Duration = std::time::Duration::from_secs(2);

/// What a call comes to before anything is done.
pub(super) struct Decided {
    pub(super) intent: Intent,
    /// What was there before, for people and for undo.
    pub(super) before: Option<Value>,
    /// It is so already.
    pub(super) unchanged: bool,
    /// What the targets belong to, where a cap on that is.
    pub(super) companies: Vec<Company>,
}

/// What became of a decision.
enum Intended {
    /// What is asked for is so already.
    AlreadySo,
    /// Its intent is durable.
    Now,
    /// It is, after having waited so long for the journal that the guards must be asked anew.
    LongAgo,
}

/// Why an effect does not happen (now).
pub(super) enum Stop {
    /// The script hears of it.
    Error(StepError),
    /// A guard said no: the run ends.
    Denied(StepError),
    End(RunState, Option<Reason>),
    /// People are asked; until then at most.
    Sleep(Timestamp),
    Leave,
}

impl From<Unanswered> for Stop {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Leave => Stop::Leave,
            Unanswered::Error(error) => Stop::Error(step_error(&error)),
        }
    }
}

impl Executor {
    /// A call that changes something, whatever it is: its intent is decided, asked about and journalled, and only then is it carried out.
    pub(super) async fn change(self: &Arc<Self>, work: &mut Work, primitive: &'static str, args: Vec<Value>) -> Flow {
        let mut step = self.new_step(work, primitive, args);
        match self.intend(work, &mut step).await {
            Ok(Intended::Now) => self.carry_out(work, step, false).await,
            Ok(Intended::LongAgo) => match self.ask_anew(work, &mut step).await {
                Ok(in_doubt) => self.carry_out(work, step, in_doubt).await,
                Err(stop) => self.stopped(work, step, stop),
            },
            Ok(Intended::AlreadySo) => self.answer(work, step, Outcome::Unchanged, Ok(Value::Null)),
            Err(stop) => self.stopped(work, step, stop),
        }
    }

    /// From the call to an intent that the guards allow and that is durable.
    async fn intend(self: &Arc<Self>, work: &mut Work, step: &mut Step) -> Result<Intended, Stop> {
        let mut since = None;
        loop {
            // What was decided before it had to wait is void.
            (step.intent, step.before) = (None, None);
            let decided = match &*step.primitive {
                "reload" => self.decide_reload(work, step).await?,
                // One call may be about several services.
                name if SERVICES.contains(&name) => self.decide_services(work, step).await?,
                _ => self.decide_one(work, step).await?,
            };
            (step.intent, step.before) = (Some(decided.intent), decided.before);
            if decided.unchanged {
                return Ok(Intended::AlreadySo);
            }
            match self.admit(work, step, decided.companies, &mut since).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(stop) => {
                    // It is not going to be: an intent is what is.
                    step.intent = None;
                    return Err(stop);
                }
            }
        }
        work.steps.push(step.clone());
        let late = self.record_intent(&work.run, step).await?;
        Ok(if late { Intended::LongAgo } else { Intended::Now })
    }

    /// Nothing was sent, and much may have changed since it was decided on. Returns whether it is looked at as what is in doubt, which asks the guards on the way.
    async fn ask_anew(self: &Arc<Self>, work: &mut Work, step: &mut Step) -> Result<bool, Stop> {
        match &step.intent {
            // Of a post it could never be found out whether it arrived.
            Some(post @ Intent::Post { .. }) => {
                let (post, mut told_to_wait) = (post.clone(), None);
                while !self.may_send_again(work, step, post.clone(), Vec::new(), &mut told_to_wait).await? {}
                Ok(false)
            }
            _ => Ok(true),
        }
    }

    /// A step whose intent is journalled and whose outcome is not: after a restart.
    pub(super) async fn settle(self: &Arc<Self>, work: &mut Work) -> Flow {
        let Some(step) = work.steps.last().cloned() else { return Flow::On };
        self.carry_out(work, step, true).await
    }

    /// Does what a step intends. `in_doubt`: it may have been done before, so its target is looked at first.
    async fn carry_out(self: &Arc<Self>, work: &mut Work, step: Step, in_doubt: bool) -> Flow {
        match step.intent.clone() {
            Some(Intent::Services(intents)) => self.apply_all(work, step, &intents, in_doubt).await,
            Some(Intent::Reload { target, service }) => {
                self.call_reload(work, step, &target, service.as_deref(), in_doubt).await
            }
            Some(intent) if intent.is_effect() => self.carry_out_one(work, step, intent, in_doubt).await,
            _ => {
                let text = format!("step {} is in doubt without an effect that could be", step.seq);
                Flow::End(RunState::Failed, Some(Reason::new("run_failed", text)))
            }
        }
    }

    async fn decide_services(self: &Arc<Self>, work: &mut Work, step: &Step) -> Result<Decided, Stop> {
        let (decided, companies) = self.decide_each(work, step).await?;
        let unchanged = all_so(&decided);
        let intents: Vec<ServiceIntent> = decided.into_iter().map(|(intent, _)| intent).collect();
        let before = match intents.as_slice() {
            [one] => intent::before(&one.change),
            all => all.iter().map(|one| (one.service.clone(), intent::before(&one.change))).collect(),
        };
        Ok(Decided { intent: Intent::Services(intents), before: Some(before), unchanged, companies })
    }

    /// From the call to intents that the guards allow, each with the service that it was decided on; and the stacks of these, where a cap on them is.
    async fn decide_each(
        self: &Arc<Self>,
        work: &mut Work,
        step: &Step,
    ) -> Result<(Vec<(ServiceIntent, Service)>, Vec<Company>), Stop> {
        self.may_begin(work).await?;
        let targets = intent::targets(&step.primitive, &step.args).map_err(Stop::Error)?;
        loop {
            let services = self.observe_settled(work, &targets, &step.primitive).await?;
            let mut decided = Vec::with_capacity(services.len());
            for service in services {
                let intent = intent::of_service(&step.primitive, &step.args, &service).map_err(Stop::Error)?;
                if let Some(changed) = intent::changed_since(&work.steps, &intent.change, &service) {
                    return Err(Stop::Error(changed));
                }
                decided.push((intent, service));
            }
            let unchanged = all_so(&decided);
            // That look takes as long as the cluster does: the rule is asked after it.
            let companies = if unchanged { Vec::new() } else { self.stacks_of(work, &decided).await? };
            self.ask_guards(work, &step.primitive, &decided)?;
            if !unchanged {
                let intents = decided.iter().map(|(intent, _)| intent.clone()).collect();
                self.permitted(work, step, Intent::Services(intents)).await?;
            }
            let names: Vec<String> =
                decided.iter().filter_map(|(intent, _)| lock_name(&step.primitive, &intent.service)).collect();
            let waited = self.lock(work, names).await?;
            if !waited && !self.is_stopped(work) {
                return Ok((decided, companies));
            }
            // Whoever held the lock was at work, or all was stopped meanwhile: what was seen before is stale.
            self.may_begin(work).await?;
        }
    }

    /// Stopped? Cut off by a restart, and no longer wanted? Waits while it is stopped.
    pub(super) async fn may_begin(&self, work: &mut Work) -> Result<(), Stop> {
        if work.run.shadow {
            return Ok(());
        }
        self.wait_for_release(work).await?;
        if !work.unproven {
            return Ok(());
        }
        let (answer, told) = oneshot::channel();
        let run = Box::new(work.run.clone());
        self.inbox.send(Input::MayGoOn { run, answer }).map_err(|_| Stop::Leave)?;
        match told.await.map_err(|_| Stop::Leave)? {
            Ok(()) => {
                work.unproven = false;
                Ok(())
            }
            Err(reason) => Err(Stop::End(RunState::Interrupted, Some(reason))),
        }
    }

    /// Observes the targets; a service in the middle of an update is waited for, except by a rollback, which is there to end one.
    async fn observe_settled(&self, work: &Work, targets: &Targets, primitive: &str) -> Result<Vec<Service>, Stop> {
        let since = self.parts.clock.now();
        let limit = self.rule(work).map_or(Rule::HOLD_AT_MOST, |rule| rule.hold_at_most);
        loop {
            let services = match targets {
                Targets::One(name) => vec![self.reach(&work.run, || work.world.cluster.service(name)).await?],
                Targets::Labelled(labels) => {
                    let all = self.reach(&work.run, || work.world.cluster.services()).await?;
                    intent::labelled(all, labels).map_err(Stop::Error)?
                }
            };
            let waits = primitive != "rollback" && !work.run.shadow;
            let busy = services.iter().find(|service| waits && service.update.in_progress());
            let Some(busy) = busy else { return Ok(services) };
            let waited = Duration::between(since, self.parts.clock.now());
            self.parts.metrics.verdict("updating", "hold");
            if waited >= limit {
                let text = format!(
                    "{} is still in the middle of an update after {waited}: {}",
                    busy.name, busy.update_message
                );
                return Err(Stop::Error(StepError::new("updating", text)));
            }
            if !self.pause_for(self.parts.config.runs.poll_every.std()).await {
                return Err(Stop::Leave);
            }
        }
    }

    /// The stacks that the targets belong to, where a cap on them is.
    async fn stacks_of(&self, work: &Work, decided: &[(ServiceIntent, Service)]) -> Result<Vec<Company>, Stop> {
        let rule = self.rule(work);
        let (rule, caps) = (rule.as_deref(), self.parts.config.bounds.at_once);
        let targets: Vec<&Service> = decided.iter().map(|(_, service)| service).collect();
        if !guard::caps_services(caps, rule, &targets) {
            return Ok(Vec::new());
        }
        let all = self.reach(&work.run, || self.parts.cluster.services()).await?;
        let stacks = guard::stacks(&all, &targets, caps, rule);
        stacks.map_err(|reason| Stop::Denied(StepError::denied(reason.to_string())))
    }

    pub(super) fn rule(&self, work: &Work) -> Option<Arc<Rule>> {
        undo::in_force(&work.run, self.parts.catalog.load().rule(&work.run.rule))
    }

    fn ask_guards(&self, work: &Work, primitive: &str, decided: &[(ServiceIntent, Service)]) -> Result<(), Stop> {
        let bounds = &self.parts.config.bounds;
        let bounds = Bounds { replicas_min: bounds.replicas_min, replicas_max: bounds.replicas_max };
        let labels = labels_of(work);
        let asked = guard::before_effect(self.rule(work).as_deref(), &labels, bounds, primitive, decided);
        self.verdict(asked)
    }

    pub(super) fn verdict(&self, asked: Result<(), (&'static str, Reason)>) -> Result<(), Stop> {
        match asked {
            Ok(()) => {
                self.parts.metrics.verdict("effect", "allow");
                Ok(())
            }
            Err((guard, reason)) => {
                self.parts.metrics.verdict(guard, "deny");
                Err(Stop::Denied(StepError::denied(reason.to_string())))
            }
        }
    }

    /// Locks what the run does not hold yet; waits for it, up to the rule's `hold_at_most`. Returns whether it had to wait.
    pub(super) async fn lock(&self, work: &mut Work, mut targets: Vec<String>) -> Result<bool, Stop> {
        targets.retain(|target| !work.locked.contains(target));
        if targets.is_empty() || work.run.shadow {
            return Ok(false);
        }
        let mut held_up = false;
        let since = self.parts.clock.now();
        let limit = self.rule(work).map_or(Rule::HOLD_AT_MOST, |rule| rule.hold_at_most);
        loop {
            let (answer, told) = oneshot::channel();
            let input = Input::Lock { run: Box::new(work.run.clone()), targets: targets.clone(), answer };
            self.inbox.send(input).map_err(|_| Stop::Leave)?;
            let reason = match told.await.map_err(|_| Stop::Leave)? {
                Ok(()) => {
                    work.locked.extend(targets);
                    return Ok(held_up);
                }
                Err(reason) => reason,
            };
            held_up = true;
            self.parts.metrics.verdict("lock", "hold");
            let waited = Duration::between(since, self.parts.clock.now());
            if waited >= limit {
                return Err(Stop::Denied(StepError::denied(format!("{reason}, for longer than {limit}"))));
            }
            if !self.pause_for(self.parts.config.runs.poll_every.std()).await {
                return Err(Stop::Leave);
            }
        }
    }

    /// Intent before effect: returns when it is durable, and whether that took so long that the guards must be asked anew.
    async fn record_intent(&self, run: &Run, step: &Step) -> Result<bool, Stop> {
        if run.shadow {
            return Ok(false);
        }
        let decided = self.parts.clock.now();
        self.parts.journal.stage(vec![Write::Step(Box::new(step.clone()))]);
        if !self.durable().await {
            return Err(Stop::Leave);
        }
        Ok(self.parts.clock.now() > decided + DECIDED_FOR.signed())
    }

    /// Waits until what was staged is durable; false when the process ends before that.
    pub(super) async fn durable(&self) -> bool {
        let mut stopping = self.stopping.subscribe();
        // What is staged will be durable: to leave before that would leave a step in doubt behind at every orderly end.
        let gives_up = async {
            let _ = stopping.wait_for(|stop| *stop).await;
            tokio::time::sleep(LAST_COMMIT).await;
        };
        // A journal that cannot write keeps the ticket open: no effect starts.
        tokio::select! {
            biased;
            committed = self.parts.journal.commit() => committed.is_ok(),
            () = gives_up => false,
        }
    }

    async fn apply_all(
        self: &Arc<Self>,
        work: &mut Work,
        mut step: Step,
        intents: &[ServiceIntent],
        in_doubt: bool,
    ) -> Flow {
        let mut applied: Vec<String> = Vec::new();
        for (at, intent) in intents.iter().enumerate() {
            // Those before took a while: everything may have been stopped, or the rule be another.
            let looks_first = in_doubt || at > 0 && !work.run.shadow;
            match self.apply_one(work, &mut step, at, looks_first).await {
                Ok(()) => applied.push(intent.service.clone()),
                Err(Stop::Error(mut error)) => {
                    if !applied.is_empty() {
                        error.message = format!("{} (done before: {})", error.message, applied.join(", "));
                        step.value = Some(json!({ "applied": applied }));
                    }
                    return self.answer(work, step, Outcome::Failed, Err(error));
                }
                Err(stop) => {
                    if !applied.is_empty() {
                        step.value = Some(json!({ "applied": applied }));
                    }
                    return self.stopped(work, step, stop);
                }
            }
        }
        self.answer(work, step, Outcome::Applied, Ok(Value::Null))
    }

    async fn apply_one(
        self: &Arc<Self>,
        work: &mut Work,
        step: &mut Step,
        at: usize,
        in_doubt: bool,
    ) -> Result<(), Stop> {
        let label = format!("{}:{}", step.run, step.seq);
        let mut doubt = in_doubt;
        let mut tries = 0;
        let mut wait = LEAST_WAIT;
        let since = step.started_at;
        loop {
            if doubt {
                match self.settle_one(work, step, at, &label).await? {
                    Settled::Applied => return Ok(()),
                    Settled::Changed(error) => return Err(Stop::Error(error)),
                    Settled::NotApplied => {}
                }
            }
            let Some(Intent::Services(intents)) = &step.intent else { return Ok(()) };
            let intent = &intents[at];
            let error = match work.world.cluster.apply(intent, &label).await {
                Ok(()) => return Ok(()),
                Err(error) if error.kind == ErrorKind::Permanent => return Err(Stop::Error(step_error(&error))),
                Err(error) => error,
            };
            tracing::warn!(run = %step.run, step = step.seq, reason = %error.reason, %error, "the outcome is in doubt; looking at the target");
            doubt = true;
            tries += 1;
            if tries >= TRIES && error.reason == ErrorReason::Conflict {
                let text = format!("{} was changed by others {TRIES} times in a row: {error}", intent.service);
                return Err(Stop::Error(StepError::new("changed", text)));
            }
            if tries >= TRIES {
                self.note_unreachable(&work.run, since, &error);
            }
            if error.reason != ErrorReason::Conflict && !self.pause_for(wait).await {
                return Err(Stop::Leave);
            }
            if self.out_of_time(&work.run) {
                let text =
                    format!("the change of {} could not be made within runs.time_limit: {error}", intent.service);
                return Err(Stop::End(RunState::Failed, Some(Reason::new("limit", text))));
            }
            wait = (wait * 2).min(MOST_WAIT);
        }
    }

    /// Looks at one target of a step in doubt. If the change did not go in, the guards are asked anew and the intent is journalled at the new version, and from
    /// when it counts.
    async fn settle_one(
        self: &Arc<Self>,
        work: &mut Work,
        step: &mut Step,
        at: usize,
        label: &str,
    ) -> Result<Settled, Stop> {
        let mut told_to_wait = None;
        loop {
            let Some(Intent::Services(intents)) = &step.intent else { return Ok(Settled::Applied) };
            let intent = intents[at].clone();
            let found = self.reach(&work.run, || work.world.cluster.service(&intent.service)).await?;
            let settled = settle(&intent, label, &found);
            if settled != Settled::NotApplied {
                return Ok(settled);
            }
            let seen = self.parts.clock.now();
            self.may_begin(work).await?;
            if self.is_stale(seen) {
                continue;
            }
            let asked = [(ServiceIntent { version: found.version, ..intent }, found)];
            let companies = self.stacks_of(work, &asked).await?;
            let seen = self.parts.clock.now();
            self.ask_guards(work, &step.primitive, &asked)?;
            self.still_permitted(work)?;
            let [(moved, _)] = asked;
            self.lock(work, lock_name(&step.primitive, &moved.service).into_iter().collect()).await?;
            if self.is_stale(seen) {
                continue;
            }
            let mut intents = intents.clone();
            intents[at] = moved;
            if self.admit_again(work, step, Intent::Services(intents), companies, &mut told_to_wait).await? {
                return Ok(Settled::NotApplied);
            }
        }
    }

    async fn decide_reload(self: &Arc<Self>, work: &mut Work, step: &Step) -> Result<Decided, Stop> {
        let text = |at: usize| step.args.get(at).and_then(Value::as_str).map(str::to_string);
        let target = text(0).unwrap_or_default();
        self.may_reload(work, &target).await?;
        let intent = Intent::Reload { target, service: text(1) };
        self.permitted(work, step, intent.clone()).await?;
        Ok(Decided { intent, before: None, unchanged: false, companies: Vec::new() })
    }

    async fn may_reload(self: &Arc<Self>, work: &mut Work, target: &str) -> Result<(), Stop> {
        self.may_begin(work).await?;
        self.verdict(guard::before_call(self.rule(work).as_deref(), &labels_of(work), "reload", target))?;
        self.lock(work, lock_name("reload", target).into_iter().collect()).await?;
        self.may_begin(work).await
    }

    async fn may_reload_again(
        self: &Arc<Self>,
        work: &mut Work,
        step: &mut Step,
        target: &str,
        service: Option<&str>,
    ) -> Result<(), Stop> {
        let mut told_to_wait = None;
        loop {
            self.may_reload(work, target).await?;
            self.still_permitted(work)?;
            let intent = Intent::Reload { target: target.to_string(), service: service.map(str::to_string) };
            if self.admit_again(work, step, intent, Vec::new(), &mut told_to_wait).await? {
                return Ok(());
            }
        }
    }

    /// Asks again for an effect that is sent again, and journals what it is by now and from when it counts. `false`: not now, or that took so long that
    /// everything must be looked at and asked anew.
    pub(super) async fn admit_again(
        &self,
        work: &mut Work,
        step: &mut Step,
        intent: Intent,
        companies: Vec<Company>,
        told_to_wait: &mut Option<Timestamp>,
    ) -> Result<bool, Stop> {
        let counted_since = step.started_at;
        if !self.admit(work, step, companies, told_to_wait).await? {
            return Ok(false);
        }
        if step.started_at == counted_since && step.intent.as_ref() == Some(&intent) {
            return Ok(true);
        }
        step.intent = Some(intent);
        if let Some(known) = work.steps.get_mut(step.seq as usize) {
            known.clone_from(step);
        }
        let late = self.record_intent(&work.run, step).await?;
        if late && self.out_of_time(&work.run) {
            let text = format!("step {} could not be made within runs.time_limit: the journal is too slow", step.seq);
            return Err(Stop::End(RunState::Failed, Some(Reason::new("limit", text))));
        }
        Ok(!late)
    }

    /// Was what was seen then seen too long ago to change anything on its account? What is decided on it may have had to wait.
    pub(super) fn is_stale(&self, seen: Timestamp) -> bool {
        self.parts.clock.now() > seen + DECIDED_FOR.signed()
    }

    /// A reload is idempotent: in doubt it is repeated, if it still may.
    async fn call_reload(
        self: &Arc<Self>,
        work: &mut Work,
        mut step: Step,
        target: &str,
        service: Option<&str>,
        in_doubt: bool,
    ) -> Flow {
        if work.run.shadow {
            return self.answer(work, step, Outcome::Applied, Ok(Value::Null));
        }
        let mut tries = 0;
        loop {
            // Asked anew: the rule may have changed, or the switch been pulled.
            if (in_doubt || tries > 0)
                && let Err(stop) = self.may_reload_again(work, &mut step, target, service).await
            {
                return self.stopped(work, step, stop);
            }
            let error = match self.parts.reload.reload(target, service).await {
                Ok(Reloaded::Done) => return self.answer(work, step, Outcome::Applied, Ok(Value::Null)),
                Ok(Reloaded::Unchanged) => return self.answer(work, step, Outcome::Unchanged, Ok(Value::Null)),
                Err(error) => error,
            };
            tries += 1;
            if error.kind == ErrorKind::Permanent || tries >= TRIES {
                return self.answer(work, step, Outcome::Failed, Err(step_error(&error)));
            }
            if !self.pause_for(std::time::Duration::from_secs(1 << tries.min(4))).await {
                return Flow::Leave;
            }
        }
    }

    pub(super) fn stopped(&self, work: &mut Work, step: Step, stop: Stop) -> Flow {
        match stop {
            Stop::Error(error) => self.answer(work, step, Outcome::Failed, Err(error)),
            Stop::Denied(error) => self.answer(work, step, Outcome::Denied, Err(error)),
            Stop::End(state, reason) => Flow::End(state, reason),
            Stop::Sleep(until) => self.sleep_for_approval(work, until),
            Stop::Leave => Flow::Leave,
        }
    }
}

/// Is everything that is asked for so already?
fn all_so(decided: &[(ServiceIntent, Service)]) -> bool {
    decided.iter().all(|(intent, service)| intent::already_so(&intent.change, service))
}

/// The labels that templates of the grant are filled with: those common to what fired when the attempt began.
pub(super) fn labels_of(work: &Work) -> Labels {
    serde_json::from_value(work.run.input.alert["labels"].clone()).unwrap_or_default()
}
