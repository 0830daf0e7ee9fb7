//! Carries runs out, step by step: asks the runbook for its next call, journals the intent, calls the adapter, journals the result, asks again.
//! The one place that calls adapters for runs.

mod effect;
mod hold;
mod jobs;
mod permit;
mod programs;
mod read;
mod rehearsal;
mod single;
mod sleepers;
mod verify;
mod wait;
mod work;

use crate::app::board::{Ended, Start};
use crate::app::dispatcher::Input;
use crate::app::{Parts, Stops};
use crate::engine::plan;
use crate::model::duration::Duration;
use crate::model::incident::Reason;
use crate::model::run::{Run, RunId, RunState};
use crate::model::step::{EffectClass, Intent, Outcome, Step, StepError};
use crate::ports::{JournalError, Write};
use crate::runbook::evaluate::{Evaluation, Failure, FailureKind, Job, LogLine, Next, Observation};
use crate::runbook::primitives;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use work::{Resume, Seated, Signal, Work, World};

/// Runs that are at work, or wait for a short time, at once. The others queue, or sleep in the journal.
const RESIDENT_RUNS: usize = 512;
/// A run that was cut off by restarts more often than this is not tried again.
const RESUMES_AT_MOST: u32 = 3;
/// A run that the journal cannot be asked for now is asked for again after this.
const LOAD_AGAIN: Duration = Duration::from_secs(5);
/// Lines of log kept of a run, and characters of a line.
const LOG_LINES: usize = 200;
const LOG_CHARS: usize = 2_000;

pub struct Executor {
    parts: Arc<Parts>,
    inbox: mpsc::UnboundedSender<Input>,
    stops: watch::Receiver<Stops>,
    /// Wakes the runs that are held in the order in which they were: a channel's receivers are woken in any.
    stops_changed: Notify,
    stopping: watch::Sender<bool>,
    permits: Arc<Semaphore>,
    programs: programs::Programs,
    sleepers: sleepers::Sleepers,
    observations: read::Observations,
    verifications: verify::Verifications,
    /// Runs in memory.
    active: Mutex<BTreeMap<RunId, Arc<Signal>>>,
}

/// How a step leaves its run.
enum Flow {
    /// The step is answered: ask the runbook again.
    On,
    /// The run waits; it is left to the journal until then.
    Sleep(jiff::Timestamp),
    /// The run has ended.
    End(RunState, Option<Reason>),
    /// The process is stopping: the journal knows where the run stands.
    Leave,
}

impl Executor {
    pub fn new(parts: Arc<Parts>, inbox: mpsc::UnboundedSender<Input>, stops: watch::Receiver<Stops>) -> Arc<Self> {
        Arc::new(Executor {
            parts,
            inbox,
            stops,
            stops_changed: Notify::new(),
            stopping: watch::channel(false).0,
            permits: Arc::new(Semaphore::new(RESIDENT_RUNS)),
            programs: programs::Programs::default(),
            sleepers: sleepers::Sleepers::default(),
            observations: read::Observations::default(),
            verifications: verify::Verifications::default(),
            active: Mutex::new(BTreeMap::new()),
        })
    }

    /// Takes a run to work, or to sleep if its time has not come.
    pub fn start(self: &Arc<Self>, start: Start) {
        let Start { run, resumed, locked } = start;
        let resume = if resumed { Resume::First } else { Resume::No };
        match run.wake_at {
            Some(at) if resumed && run.state == RunState::Suspended && at > self.parts.clock.now() => {
                self.sleepers.add(at, run.id, resume);
            }
            _ => self.spawn(run.id, Some(run), resume, locked),
        }
    }

    fn spawn(self: &Arc<Self>, id: RunId, run: Option<Run>, resume: Resume, locked: Vec<String>) {
        let executor = self.clone();
        // Registered before it waits for its turn, so that no wake-up and no stop is lost.
        let signal = self.actives().entry(id).or_default().clone();
        tokio::spawn(async move {
            if executor.seat(&signal).await {
                let _seated = Seated(signal.clone());
                executor.work(id, run, resume, locked, signal.clone()).await;
            }
            let mut actives = executor.actives();
            // A run that went to sleep may have been woken, and be at work again, by now.
            if actives.get(&id).is_some_and(|known| Arc::ptr_eq(known, &signal)) {
                actives.remove(&id);
            }
        });
    }

    /// What stops effects is other than it was: runs that are held ask again.
    pub fn ask_again(&self) {
        self.stops_changed.notify_waiters();
    }

    /// Waits for a place among the runs at work; false when the process stops.
    async fn seat(&self, signal: &Signal) -> bool {
        let Ok(place) = self.permits.clone().acquire_owned().await else { return false };
        if *self.stopping.borrow() {
            return false;
        }
        signal.take_place(place);
        true
    }

    fn actives(&self) -> MutexGuard<'_, BTreeMap<RunId, Arc<Signal>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A condition that the run may wait for has come.
    pub fn wake(self: &Arc<Self>, id: RunId) {
        {
            // Under the lock: a run that goes to sleep looks for a wake-up under it.
            let actives = self.actives();
            if let Some(signal) = actives.get(&id) {
                return signal.wake();
            }
        }
        self.rouse(id);
    }

    /// The run is to end at its next wait.
    pub fn stop_run(self: &Arc<Self>, id: RunId) {
        let signal = self.actives().entry(id).or_default().clone();
        signal.stop();
        self.rouse(id);
        // A run that has just ended is neither at work nor asleep: nobody but this map knows the signal.
        let mut actives = self.actives();
        if Arc::strong_count(&signal) == 2 {
            actives.remove(&id);
        }
    }

    fn rouse(self: &Arc<Self>, id: RunId) {
        if let Some(resume) = self.sleepers.take(id) {
            self.spawn(id, None, resume, Vec::new());
        }
    }

    /// Wakes sleepers when their time comes, until the process stops.
    pub async fn wake_sleepers(self: Arc<Self>) {
        let mut stopping = self.stopping.subscribe();
        loop {
            let (at, changed) = self.sleepers.next();
            let due = async {
                match at {
                    Some(at) => self.parts.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => return,
                () = due => for (id, resume) in self.sleepers.due(self.parts.clock.now()) {
                    self.spawn(id, None, resume, Vec::new());
                },
                () = changed => {}
            }
        }
    }

    /// Lets calls in flight end and be journalled; begins nothing new.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        self.verifications.stop_all();
        for signal in self.actives().values() {
            signal.wake();
        }
        // Every run at work has its place until it has journalled what it did.
        let all = u32::try_from(RESIDENT_RUNS).expect("a small number");
        let _ = self.permits.acquire_many(all).await;
        self.permits.close();
    }

    async fn work(
        self: &Arc<Self>,
        id: RunId,
        run: Option<Run>,
        resume: Resume,
        locked: Vec<String>,
        signal: Arc<Signal>,
    ) {
        loop {
            match self.load(id, run.clone(), resume, locked.clone(), signal.clone()).await {
                Ok(Some(work)) => return self.drive(work).await,
                Ok(None) => return,
                // It keeps its place: nothing else could go on without the journal either.
                Err(error) => {
                    tracing::error!(run = %id, %error, "cannot read the run back from the journal; trying again")
                }
            }
            if !self.pause_for(LOAD_AGAIN.std()).await {
                return;
            }
        }
    }

    /// Everything that a run needs to go on; `None` when it has ended already.
    async fn load(
        &self,
        id: RunId,
        run: Option<Run>,
        resume: Resume,
        locked: Vec<String>,
        signal: Arc<Signal>,
    ) -> Result<Option<Work>, JournalError> {
        // A run that just began has no history to read.
        let fresh = run.is_some() && resume == Resume::No;
        let run = match run {
            Some(run) => Some(run),
            None => self.parts.journal.run(id).await?,
        };
        let Some(mut run) = run.filter(|run| !run.state.ended()) else { return Ok(None) };
        // A rehearsal that was cut off begins anew: what it would have changed is not in the journal.
        if run.shadow && !fresh {
            self.parts.journal.stage(vec![Write::ForgetSteps(id)]);
        }
        let steps = if fresh || run.shadow { Vec::new() } else { self.parts.journal.steps(id).await? };
        let program = match self.programs.find(&self.parts, &run).await? {
            Ok(program) => program,
            Err(why) => {
                self.end(&mut run, RunState::Failed, Some(Reason::new("program", why)), &steps);
                return Ok(None);
            }
        };
        if resume == Resume::First {
            run.resumes += 1;
        }
        let logged = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        let history = Vec::with_capacity(steps.len() + 1);
        let world = self.world_of(&run);
        Ok(Some(Work { run, steps, history, program, world, signal, locked, unproven: resume != Resume::No, logged }))
    }

    async fn drive(self: &Arc<Self>, mut work: Work) {
        if work.run.resumes > RESUMES_AT_MOST && work.unproven {
            let text = format!("runbookd was restarted {} times in the middle of it", work.run.resumes);
            let reason = Some(Reason::new("resumed_too_often", text));
            return self.end(&mut work.run, RunState::Interrupted, reason, &work.steps);
        }
        if work.unproven {
            work.run.state = RunState::Running;
            work.run.reason = None;
            self.stage(&work.run, vec![Write::Run(Box::new(work.run.clone()))]);
        }
        loop {
            if *self.stopping.borrow() {
                return;
            }
            match self.advance(&mut work).await {
                Flow::On => {}
                Flow::Leave => return,
                Flow::End(state, reason) => return self.end(&mut work.run, state, reason, &work.steps),
                Flow::Sleep(at) => {
                    // Between here and the sleepers no wake-up may be lost: both sides hold this lock.
                    let mut actives = self.actives();
                    if !work.signal.take_woken() {
                        actives.remove(&work.run.id);
                        let resume = if work.unproven { Resume::Again } else { Resume::No };
                        return self.sleepers.add(at, work.run.id, resume);
                    }
                }
            }
        }
    }

    /// One step further: settles what is in doubt, asks the runbook, carries out its answer.
    async fn advance(self: &Arc<Self>, work: &mut Work) -> Flow {
        if self.out_of_time(&work.run) {
            return self.time_is_up();
        }
        if work.steps.last().is_some_and(|step| step.outcome == Outcome::InDoubt) {
            return self.settle(work).await;
        }
        let evaluation = self.evaluate(work, None).await;
        self.take_log(&mut work.run, &mut work.logged, evaluation.log, work.steps.len());
        match evaluation.next {
            Next::Call { primitive, args, .. } => self.call(work, primitive, args).await,
            Next::Waiting => self.wait(work).await,
            Next::Done(_) => Flow::End(RunState::Done, None),
            Next::Escalated(why) => Flow::End(RunState::Escalated, Some(Reason::new("escalated", why))),
            Next::Failed(failure) => Flow::End(RunState::Failed, Some(reason_of(&failure))),
            Next::Diverged { seq, recorded, called } => {
                let text = format!("step {seq} was {recorded} before, and now the runbook calls {called}");
                Flow::End(RunState::Failed, Some(Reason::new("diverged", text)))
            }
            Next::Read { primitive, .. } => Flow::End(RunState::Failed, Some(unexpected("a read", primitive))),
            Next::Polled(_) => Flow::End(RunState::Failed, Some(unexpected("an answer", "wait_until"))),
        }
    }

    fn out_of_time(&self, run: &Run) -> bool {
        self.parts.clock.now() >= run.started_at + self.parts.config.runs.time_limit.signed()
    }

    fn time_is_up(&self) -> Flow {
        let text = format!("it took longer than runs.time_limit, {}", self.parts.config.runs.time_limit);
        Flow::End(RunState::Failed, Some(Reason::new("limit", text)))
    }

    /// Evaluates the runbook; once more if it ran out of time or memory, which may be the machine's fault.
    async fn evaluate(&self, work: &mut Work, poll: Option<Vec<Observation>>) -> Evaluation {
        work.record();
        let job = || Job {
            program: work.program.clone(),
            handler: work.run.handler,
            input: work.run.input.clone(),
            history: work.history.clone(),
            poll: poll.clone(),
        };
        let evaluation = self.parts.evaluator.evaluate(job()).await;
        match &evaluation.next {
            Next::Failed(Failure { kind: FailureKind::Resources, .. }) => self.parts.evaluator.evaluate(job()).await,
            _ => evaluation,
        }
    }

    fn take_log(&self, run: &mut Run, logged: &mut u32, lines: Vec<LogLine>, steps: usize) {
        let passed = u32::try_from(steps).unwrap_or(u32::MAX);
        // Lines written before the last step that is known were taken when that step was asked for.
        let fresh = lines.into_iter().filter(|line| line.after >= *logged);
        for line in fresh {
            if run.log.len() < LOG_LINES {
                run.log.push(line.text.chars().take(LOG_CHARS).collect());
            }
        }
        *logged = passed + 1;
    }

    async fn call(self: &Arc<Self>, work: &mut Work, primitive: &'static str, args: Vec<Value>) -> Flow {
        let limit = self.parts.config.runs.max_steps;
        if work.steps.len() >= limit as usize {
            let text = format!("it made more than {limit} steps (runs.max_steps)");
            return Flow::End(RunState::Failed, Some(Reason::new("limit", text)));
        }
        let Some(found) = primitives::find(primitive) else {
            return Flow::End(RunState::Failed, Some(unexpected("a call", primitive)));
        };
        match found.class {
            EffectClass::Read => self.read(work, primitive, args).await,
            EffectClass::Absolute | EffectClass::Keyed | EffectClass::Unsafe | EffectClass::Reload => {
                self.change(work, primitive, args).await
            }
            EffectClass::Notify => self.notify(work, primitive, args).await,
            EffectClass::Wait => self.begin_wait(work, primitive, args).await,
            EffectClass::None => Flow::End(RunState::Failed, Some(unexpected("a call", primitive))),
        }
    }

    async fn notify(&self, work: &mut Work, primitive: &'static str, args: Vec<Value>) -> Flow {
        let text = args.first().and_then(Value::as_str).unwrap_or_default().to_string();
        let mut step = self.new_step(work, primitive, args);
        step.intent = Some(Intent::Message { text: text.clone() });
        step.outcome = if work.run.shadow { Outcome::Planned } else { Outcome::Applied };
        step.value = Some(Value::Null);
        step.finished_at = Some(self.parts.clock.now());
        self.count(&work.run, &step);
        work.steps.push(step.clone());
        if primitive == "escalate" {
            // The message is written when the run's end is: one page, with all that the run did.
            self.stage(&work.run, vec![Write::Step(Box::new(step))]);
            return Flow::End(RunState::Escalated, Some(Reason::new("escalated", text)));
        }
        if work.run.shadow {
            return Flow::On;
        }
        let (done, told) = oneshot::channel();
        let run = Box::new(work.run.clone());
        if self.inbox.send(Input::Notify { run, step: Box::new(step), text, done }).is_err() {
            work.steps.pop();
            return Flow::Leave;
        }
        match told.await {
            Ok(()) => Flow::On,
            Err(_) => Flow::Leave,
        }
    }

    fn new_step(&self, work: &Work, primitive: &'static str, args: Vec<Value>) -> Step {
        Step {
            run: work.run.id,
            seq: u32::try_from(work.steps.len()).expect("bounded by max_steps"),
            primitive: Cow::Borrowed(primitive),
            args,
            intent: None,
            before: None,
            outcome: Outcome::InDoubt,
            value: None,
            error: None,
            started_at: self.parts.clock.now(),
            finished_at: None,
        }
    }

    /// Stages a step that is answered and goes on. It is durable before anything next leaves the process.
    fn answer(&self, work: &mut Work, mut step: Step, outcome: Outcome, answer: Result<Value, StepError>) -> Flow {
        step.outcome = if work.run.shadow && outcome == Outcome::Applied { Outcome::Planned } else { outcome };
        step.finished_at = Some(self.parts.clock.now());
        match answer {
            Ok(value) => step.value = Some(value),
            Err(error) => step.error = Some(error),
        }
        self.count(&work.run, &step);
        self.stage(&work.run, vec![Write::Step(Box::new(step.clone()))]);
        match work.steps.get_mut(step.seq as usize) {
            Some(known) => *known = step,
            None => work.steps.push(step),
        }
        Flow::On
    }

    /// What a run writes on its way. A rehearsal is written down at its end, as a whole.
    fn stage(&self, run: &Run, writes: Vec<Write>) {
        if !run.shadow {
            self.parts.journal.stage(writes);
        }
    }

    fn count(&self, run: &Run, step: &Step) {
        if run.shadow {
            return;
        }
        let secs = step.finished_at.map_or(0.0, |at| at.duration_since(step.started_at).as_secs_f64());
        self.parts.metrics.step(step.primitive.to_string(), step.outcome, secs);
    }

    /// Tells the dispatcher that a run has ended; it writes the end together with what it brings.
    fn end(&self, run: &mut Run, state: RunState, reason: Option<Reason>, steps: &[Step]) {
        let now = self.parts.clock.now();
        run.state = state;
        run.reason = reason;
        run.wake_at = None;
        run.finished_at = Some(now);
        let took = Duration::between(run.started_at, now);
        match &run.reason {
            None => tracing::info!(run = %run.id, incident = %run.incident, runbook = %run.runbook, %took, "run done"),
            Some(why) => {
                tracing::warn!(run = %run.id, incident = %run.incident, runbook = %run.runbook, ?state, %why, "run ended");
            }
        }
        let acted_at = acting(steps).last().map(|step| step.finished_at.unwrap_or(step.started_at));
        let ended = if run.shadow {
            self.parts.journal.stage(steps.iter().map(|step| Write::Step(Box::new(step.clone()))).collect());
            Ended { run: run.clone(), effects: Vec::new(), plan: Some(plan::of(steps, 0)), acted_at: None }
        } else {
            Ended { run: run.clone(), effects: effects_of(steps), plan: None, acted_at }
        };
        // A dispatcher that is gone means that the process stops: the run ends anew at the next start.
        let _ = self.inbox.send(Input::Ended(Box::new(ended)));
    }
}

/// The steps that changed something.
fn acting(steps: &[Step]) -> impl DoubleEndedIterator<Item = &Step> {
    steps.iter().filter(|step| step.had_effect())
}

/// What a run changed, in words.
fn effects_of(steps: &[Step]) -> Vec<String> {
    acting(steps)
        .filter_map(|step| {
            let doubt = if step.outcome == Outcome::InDoubt { " (outcome not known)" } else { "" };
            Some(format!("{}{doubt}", step.intent.as_ref()?))
        })
        .collect()
}

fn reason_of(failure: &Failure) -> Reason {
    let code = match failure.kind {
        FailureKind::Script => "run_failed",
        FailureKind::Fail => "failed",
        FailureKind::Denied => "denied",
        FailureKind::Limit => "limit",
        FailureKind::Resources => "resources",
    };
    let place = if failure.line > 0 {
        format!(" ({}:{}:{})", failure.file, failure.line, failure.column)
    } else {
        String::new()
    };
    Reason::new(code, format!("{}{place}", failure.message))
}

fn unexpected(what: &str, primitive: &str) -> Reason {
    Reason::new(
        "run_failed",
        format!("the runbook came to {what} of {primitive} where there can be none; this is a fault of runbookd"),
    )
}
