//! Evaluates a program against its history: a runbook is a pure function from history to the next step (DESIGN §6).

use super::budget::Meter;
use super::program::Program;
use super::sandbox::{self, Pinned};
use super::session::Session;
use super::{failure, value};
use crate::model::run::{Handler, Input};
use crate::model::step::StepError;
use rhai::{Dynamic, Scope};
use serde_json::Value;
use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use tokio::sync::oneshot;

/// One evaluation to make.
#[derive(Clone)]
pub struct Job {
    pub program: Arc<Program>,
    pub handler: Handler,
    pub input: Arc<Input>,
    /// The steps recorded so far, in order of `seq` from 0. Shared with the next evaluations of the same run.
    pub history: Vec<Arc<Recorded>>,
    /// `Some`: poll the `wait_until` at the end of the history, or `verify`, whose reads so far these are. `None`: find the next step.
    pub poll: Option<Vec<Observation>>,
}

/// A step as replay needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    pub primitive: Cow<'static, str>,
    pub args: Vec<Value>,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Value(Value),
    /// Thrown again: catchable, unless its `uncatchable` is set.
    Error(StepError),
    /// Recorded but without an answer: the wait at the end of the history.
    Waiting,
}

/// A read that a poll made, and what it saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub primitive: Cow<'static, str>,
    pub args: Vec<Value>,
    pub answer: Result<Value, StepError>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    pub next: Next,
    /// Lines of `log`, `print` and `debug`, from the top.
    pub log: Vec<LogLine>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// How many steps had been passed when it was written: lines at or below the length of an earlier history are old.
    pub after: u32,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The first call that the history does not hold. Its `seq` is the history's length.
    Call {
        primitive: &'static str,
        args: Vec<Value>,
        line: usize,
        column: usize,
    },
    /// The history ends in a wait without an answer, and the script stands there.
    Waiting,
    /// Poll only: the closure, or `verify`, wants to read this, and no observation holds it.
    Read {
        primitive: &'static str,
        args: Vec<Value>,
    },
    /// Poll only: what the closure returned.
    Polled(Value),
    /// The handler returned.
    Done(Value),
    /// A recorded `escalate` was reached: the run handed over.
    Escalated(String),
    Failed(Failure),
    /// The script called something else than what the history holds.
    Diverged {
        seq: u32,
        recorded: String,
        called: String,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub kind: FailureKind,
    /// A sentence for people, without the place.
    pub message: String,
    /// `scale_out.rhai` or `lib/x.rhai`; lines and columns from 1, 0 when unknown.
    pub file: String,
    pub line: usize,
    pub column: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// An error nobody caught, the script's or a primitive's. Deterministic.
    Script,
    /// `fail(reason)`.
    Fail,
    /// A denied step (uncatchable).
    Denied,
    /// Operations, call depth, sizes: deterministic.
    Limit,
    /// Wall-clock or memory: not history. Evaluate once more, then escalate.
    Resources,
}

impl Evaluation {
    pub fn new(next: Next) -> Self {
        Evaluation { next, log: Vec::new() }
    }
}

/// Evaluates jobs on threads with stacks deep enough for hostile scripts.
pub struct Evaluator {
    /// `None`: each evaluation on a thread of its own, while the caller's thread waits.
    queue: Option<mpsc::Sender<Task>>,
}

struct Task {
    job: Job,
    answer: oneshot::Sender<Evaluation>,
}

impl Evaluator {
    /// A pool of `threads` threads. The value is cheap to share behind an `Arc`; the threads end when it is dropped.
    pub fn pool(threads: usize) -> Self {
        let (queue, tasks) = mpsc::channel::<Task>();
        let tasks = Arc::new(Mutex::new(tasks));
        for _ in 0..threads.max(1) {
            let tasks = tasks.clone();
            std::thread::Builder::new()
                .name("runbook".to_string())
                .stack_size(sandbox::STACK_BYTES)
                .spawn(move || sandbox::as_deep_thread(|| work(&tasks)))
                .expect("the system has a thread to give");
        }
        Evaluator { queue: Some(queue) }
    }

    /// For tests on a paused clock: evaluates while the caller's thread waits, so that no other work, and no time, passes.
    pub fn inline() -> Self {
        Evaluator { queue: None }
    }

    pub async fn evaluate(&self, job: Job) -> Evaluation {
        let Some(queue) = &self.queue else {
            return sandbox::on_deep_stack(|| guarded(job));
        };
        let (answer, evaluation) = oneshot::channel();
        queue.send(Task { job, answer }).expect("the threads wait for tasks as long as the queue exists");
        evaluation.await.unwrap_or_else(|_| resources("the evaluation was lost"))
    }
}

fn work(tasks: &Mutex<mpsc::Receiver<Task>>) {
    loop {
        // Held while waiting, not while working: one idle thread waits for the task, the others for the lock.
        let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Task { job, answer }) = task else { return };
        if !answer.is_closed() {
            // Nobody may be waiting any more; the result is void then.
            let _ = answer.send(guarded(job));
        }
    }
}

/// A bug in the language or in a binding must cost one evaluation, not the process.
fn guarded(job: Job) -> Evaluation {
    std::panic::catch_unwind(AssertUnwindSafe(|| run(job)))
        .unwrap_or_else(|_| resources("the evaluation panicked: this is a bug of runbookd or of its script language"))
}

fn resources(message: &str) -> Evaluation {
    Evaluation::new(Next::Failed(Failure {
        kind: FailureKind::Resources,
        message: message.to_string(),
        file: String::new(),
        line: 0,
        column: 0,
    }))
}

fn run(job: Job) -> Evaluation {
    let Job { program, handler, input, history, poll } = job;
    let session = match handler {
        // It has no history: whatever it reads is fresh at each look, and kept by nobody.
        Handler::Verify => Session::verifying(poll.unwrap_or_default()),
        _ => Session::running(history, poll),
    };
    // It outlives this evaluation, which does not pay for it.
    let ast = program.ast();
    let _meter = Meter::start();
    let engine = sandbox::engine(&session, Pinned(program.modules().clone()));
    let end = {
        let args = (value::to_dynamic(&input.alert), value::to_dynamic(&input.params));
        match engine.call_fn::<Dynamic>(&mut Scope::new(), ast, handler.name(), args) {
            // What cannot be written as JSON is of no use to anybody outside the script.
            Ok(value) => Next::Done(value::to_json(&value).unwrap_or(Value::Null)),
            Err(error) => Next::Failed(failure::of(&error, &program.file())),
        }
    };
    let (mut next, log) = session.finish(end);
    if let Next::Failed(failure) = &mut next
        && failure.line == 0
    {
        // Broken limits lose their place on the way out of the functions they broke: name at least the handler.
        failure.file = program.file();
        (failure.line, failure.column) = program.place_of(handler.name());
    }
    Evaluation { next, log }
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod shipped;
#[cfg(test)]
mod tests;
