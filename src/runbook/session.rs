//! One evaluation under way: where it stands in its history, what it has written to its log, and why it stopped.

use super::arguments::{Arguments, canonical};
use super::evaluate::{Answer, Failure, FailureKind, LogLine, Next, Observation, Recorded};
use super::primitives::Primitive;
use super::value::to_dynamic;
use crate::model::step::{EffectClass, StepError};
use rhai::{Dynamic, EvalAltResult, FnPtr, Map, NativeCallContext, Position};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Lines that one evaluation may write to its log, and the length of each in bytes.
pub const MAX_LOG_LINES: usize = 500;
pub const MAX_LOG_LINE_BYTES: usize = 2_000;
/// How much of a call is shown in a message, in bytes.
const MAX_SHOWN_CALL_BYTES: usize = 300;

type Thrown = Box<EvalAltResult>;

/// What the primitives of one evaluation share. The engine carries it as its tag; everything happens on one thread.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    /// Set together with `State::stop`, and read at every operation.
    stopped: AtomicBool,
    state: Mutex<State>,
}

struct State {
    history: Vec<Arc<Recorded>>,
    poll: Option<Vec<Observation>>,
    /// How many steps of the history have been passed.
    passed: usize,
    log: Vec<LogLine>,
    stop: Option<Next>,
    mode: Mode,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// `defaults()`, and the top of a module: no primitive may be called.
    Declaring,
    Running,
    /// Within what is asked again and again and may only read: the closure that a poll runs, or `verify`.
    Polling(&'static str),
}

impl Session {
    /// For evaluating a handler against its history.
    pub fn running(history: Vec<Arc<Recorded>>, poll: Option<Vec<Observation>>) -> Self {
        Session::new(history, poll, Mode::Running)
    }

    /// For evaluating `verify`, whose reads so far these are.
    pub fn verifying(seen: Vec<Observation>) -> Self {
        Session::new(Vec::new(), Some(seen), Mode::Polling("verify"))
    }

    /// For what declares and does nothing: every primitive throws.
    pub fn declaring() -> Self {
        Session::new(Vec::new(), None, Mode::Declaring)
    }

    fn new(history: Vec<Arc<Recorded>>, poll: Option<Vec<Observation>>, mode: Mode) -> Self {
        let state = State { history, poll, passed: 0, log: Vec::new(), stop: None, mode };
        Session(Arc::new(Inner { stopped: AtomicBool::new(false), state: Mutex::new(state) }))
    }

    /// The session of the engine that makes this call.
    pub fn of(context: &NativeCallContext) -> Option<Session> {
        context.tag().and_then(|tag| tag.read_lock::<Session>().map(|session| session.clone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere in the evaluation leaves the state whole: it is changed in single assignments.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the evaluation its result? Whatever the script still does then is void.
    pub fn stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Relaxed)
    }

    /// Fixes the result of the evaluation, unless it has one. The error ends the script: `try` does not catch it.
    pub fn stop(&self, next: Next) -> Thrown {
        let mut state = self.state();
        state.stop.get_or_insert(next);
        self.0.stopped.store(true, Ordering::Relaxed);
        EvalAltResult::ErrorTerminated(Dynamic::UNIT, Position::NONE).into()
    }

    /// Ends the evaluation for a limit of time or memory.
    pub fn exhausted(&self, message: String) -> Thrown {
        let (file, line, column) = (String::new(), 0, 0);
        self.stop(Next::Failed(Failure { kind: FailureKind::Resources, message, file, line, column }))
    }

    /// The failure that stopped the evaluation, if one did.
    pub fn failure(&self) -> Option<Failure> {
        match &self.state().stop {
            Some(Next::Failed(failure)) => Some(failure.clone()),
            _ => None,
        }
    }

    /// Writes a line to the log; lines too many or too long are cut, and say so.
    pub fn log(&self, text: &str) {
        let mut state = self.state();
        if state.mode != Mode::Running || state.log.len() > MAX_LOG_LINES {
            return;
        }
        let after = u32::try_from(state.passed).unwrap_or(u32::MAX);
        let text = match state.log.len() {
            MAX_LOG_LINES => format!("(more than {MAX_LOG_LINES} lines: the rest is left out)"),
            _ => shortened(text, MAX_LOG_LINE_BYTES),
        };
        state.log.push(LogLine { after, text });
    }

    /// The evaluation's result: what stopped it, or else what the handler came to; and its log.
    pub fn finish(&self, end: Next) -> (Next, Vec<LogLine>) {
        let mut state = self.state();
        let next = state.stop.take().unwrap_or(end);
        let ended = match &next {
            Next::Failed(failure) => failure.kind != FailureKind::Resources,
            Next::Done(_) | Next::Escalated(_) => true,
            _ => false,
        };
        let next = match state.history.get(state.passed) {
            Some(left) if ended => Next::Diverged {
                seq: u32::try_from(state.passed).unwrap_or(u32::MAX),
                recorded: shown_call(&left.primitive, &left.args),
                called: format!("the end of the handler ({})", end_of(&next)),
            },
            _ => next,
        };
        (next, std::mem::take(&mut state.log))
    }

    /// A call of a primitive: answered from the history, or the evaluation's result.
    pub fn call(
        &self,
        primitive: &'static Primitive,
        context: &NativeCallContext,
        args: &[&mut Dynamic],
    ) -> Result<Dynamic, Thrown> {
        if self.stopped() {
            return Err(EvalAltResult::ErrorTerminated(Dynamic::UNIT, Position::NONE).into());
        }
        let throw = |error: &StepError| thrown(primitive.name, error, context.call_position());
        let Arguments { values, closure } = canonical(primitive, args).map_err(|error| throw(&error))?;
        let mode = self.state().mode;
        match mode {
            Mode::Declaring => {
                let message = format!("{} cannot be called here: what declares a runbook does nothing", primitive.name);
                Err(throw(&StepError::new("invalid", message)))
            }
            Mode::Polling(what) if primitive.class != EffectClass::Read => {
                let message = format!("{}: {what} may only read, for it is run again and again", primitive.name);
                Err(throw(&StepError::new("invalid", message)))
            }
            Mode::Polling(_) => {
                self.observe(primitive, values).and_then(|answer| answer.map_err(|error| throw(&error)))
            }
            Mode::Running if primitive.class == EffectClass::None => self.act_at_once(primitive, &values, context),
            Mode::Running => self.step(primitive, values, closure, context),
        }
    }

    /// `log` and `fail`: no steps.
    fn act_at_once(
        &self,
        primitive: &Primitive,
        values: &[Value],
        context: &NativeCallContext,
    ) -> Result<Dynamic, Thrown> {
        let text = values.first().and_then(Value::as_str).unwrap_or_default();
        if primitive.name == "fail" {
            return Err(self.stop(Next::Failed(failure(FailureKind::Fail, text.to_string(), context))));
        }
        self.log(text);
        Ok(Dynamic::UNIT)
    }

    /// A read within a polled closure.
    fn observe(&self, primitive: &'static Primitive, args: Vec<Value>) -> Result<Result<Dynamic, StepError>, Thrown> {
        let state = self.state();
        let seen = state.poll.iter().flatten().find(|seen| seen.primitive == primitive.name && seen.args == args);
        match seen {
            Some(seen) => Ok(seen.answer.as_ref().map(to_dynamic).map_err(StepError::clone)),
            None => {
                drop(state);
                Err(self.stop(Next::Read { primitive: primitive.name, args }))
            }
        }
    }

    /// The next step: the history's, if it has one.
    fn step(
        &self,
        primitive: &'static Primitive,
        args: Vec<Value>,
        closure: Option<FnPtr>,
        context: &NativeCallContext,
    ) -> Result<Dynamic, Thrown> {
        let mut state = self.state();
        let position = context.call_position();
        let Some(recorded) = state.history.get(state.passed) else {
            drop(state);
            let (line, column) = (position.line().unwrap_or(0), position.position().unwrap_or(0));
            return Err(self.stop(Next::Call { primitive: primitive.name, args, line, column }));
        };
        if recorded.primitive != primitive.name || !same(&recorded.args, &args) {
            let diverged = Next::Diverged {
                seq: u32::try_from(state.passed).unwrap_or(u32::MAX),
                recorded: shown_call(&recorded.primitive, &recorded.args),
                called: shown_call(primitive.name, &args),
            };
            drop(state);
            return Err(self.stop(diverged));
        }
        match &recorded.answer {
            Answer::Value(_) if primitive.name == "escalate" => {
                state.passed += 1;
                drop(state);
                let reason = args.first().and_then(Value::as_str).unwrap_or_default();
                Err(self.stop(Next::Escalated(reason.to_string())))
            }
            Answer::Value(value) => {
                let value = to_dynamic(value);
                state.passed += 1;
                Ok(value)
            }
            Answer::Error(error) => {
                let error = error.clone();
                state.passed += 1;
                drop(state);
                if !error.uncatchable {
                    return Err(thrown(primitive.name, &error, position));
                }
                let (kind, message) = match &*error.kind {
                    "denied" => (FailureKind::Denied, error.message),
                    _ => (FailureKind::Script, error.to_string()),
                };
                Err(self.stop(Next::Failed(failure(kind, message, context))))
            }
            Answer::Waiting => match closure {
                Some(closure) if state.poll.is_some() => {
                    state.mode = Mode::Polling("a wait_until closure");
                    drop(state);
                    self.poll(&closure, context)
                }
                _ => {
                    drop(state);
                    Err(self.stop(Next::Waiting))
                }
            },
        }
    }

    /// Runs the closure once. It is the end of this evaluation, whatever it comes to.
    fn poll(&self, closure: &FnPtr, context: &NativeCallContext) -> Result<Dynamic, Thrown> {
        let result = closure.call_within_context::<Dynamic>(context, ());
        // The waiting step counts as passed: an error of the closure is the script's, no divergence.
        self.state().passed += 1;
        match result.map(|value| super::value::to_json(&value)) {
            Ok(Ok(value)) => Err(self.stop(Next::Polled(value))),
            Ok(Err(what)) => {
                let message =
                    format!("wait_until: the closure returned {what}; expected a value such as true or false");
                Err(self.stop(Next::Failed(failure(FailureKind::Script, message, context))))
            }
            // Not to be caught around the wait: during a replay the closure does not run and could not throw.
            Err(error) => {
                let failed = super::failure::of(&error, context.call_source().unwrap_or_default());
                Err(self.stop(Next::Failed(failed)))
            }
        }
    }
}

/// Is it the recorded call? One that was recorded before its primitive got another optional argument did not have it.
fn same(recorded: &[Value], called: &[Value]) -> bool {
    called.strip_prefix(recorded).is_some_and(|more| more.iter().all(Value::is_null))
}

/// An error of a primitive as a script catches it.
fn thrown(primitive: &str, error: &StepError, position: Position) -> Thrown {
    let mut map = Map::new();
    map.insert("kind".into(), (&*error.kind).into());
    map.insert("message".into(), error.message.as_str().into());
    map.insert("primitive".into(), primitive.into());
    EvalAltResult::ErrorRuntime(map.into(), position).into()
}

fn failure(kind: FailureKind, message: String, context: &NativeCallContext) -> Failure {
    let position = context.call_position();
    Failure {
        kind,
        message,
        file: context.call_source().unwrap_or_default().to_string(),
        line: position.line().unwrap_or(0),
        column: position.position().unwrap_or(0),
    }
}

fn end_of(next: &Next) -> String {
    match next {
        Next::Failed(failure) => format!("it failed: {}", failure.message),
        Next::Escalated(reason) => format!("it escalated: {reason}"),
        _ => "it returned".to_string(),
    }
}

/// A call as people would write it, cut to a readable length.
fn shown_call(primitive: &str, args: &[Value]) -> String {
    let args: Vec<String> = args.iter().map(Value::to_string).collect();
    shortened(&format!("{primitive}({})", args.join(", ")), MAX_SHOWN_CALL_BYTES)
}

pub fn shortened(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_string();
    }
    format!("{}…", &text[..text.floor_char_boundary(limit)])
}
