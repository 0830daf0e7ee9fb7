//! Evaluates a program against its history: a runbook is a pure function from history to the next step (DESIGN §6).

use super::program::Program;
use crate::model::run::{Handler, Input};
use crate::model::step::StepError;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// One evaluation to make.
#[derive(Clone)]
pub struct Job {
    pub program: Arc<Program>,
    pub handler: Handler,
    pub input: Arc<Input>,
    /// The steps recorded so far, in order of `seq` from 0.
    pub history: Vec<Recorded>,
    /// `Some`: poll the `wait_until` at the end of the history, whose reads so far these are. `None`: find the next step.
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
    /// Poll only: the closure wants to read this, and no observation holds it.
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
    threads: usize,
}

impl Evaluator {
    /// A pool of `threads` threads. The value is cheap to share behind an `Arc`.
    pub fn pool(threads: usize) -> Self {
        Evaluator { threads }
    }

    /// For tests on a paused clock: evaluates while the caller's thread waits, so that no other work, and no time, passes.
    pub fn inline() -> Self {
        Evaluator { threads: 0 }
    }

    pub async fn evaluate(&self, job: Job) -> Evaluation {
        let _ = (self.threads, job);
        todo!()
    }
}
