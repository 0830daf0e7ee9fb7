//! A run at work: what is known of it while it is in memory, and how it is reached there.

use crate::model::run::Run;
use crate::model::step::{Outcome, Step};
use crate::ports::{Cluster, NodeGroups};
use crate::runbook::evaluate::{Answer, Recorded};
use crate::runbook::program::Program;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// How the dispatcher reaches a run at work.
#[derive(Default)]
pub(super) struct Signal {
    notify: Notify,
    woken: AtomicBool,
    stop: AtomicBool,
    /// One of the places for runs at work, while it has one.
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Signal {
    pub fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// It is to end at its next wait.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    pub async fn wait(&self) {
        self.notify.notified().await;
    }

    /// Was it woken since it was last asked?
    pub fn take_woken(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub fn take_place(&self, place: OwnedSemaphorePermit) {
        self.set_place(Some(place));
    }

    /// Others may work meanwhile.
    pub fn leave_place(&self) {
        self.set_place(None);
    }

    pub fn has_place(&self) -> bool {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn set_place(&self, place: Option<OwnedSemaphorePermit>) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }
}

/// Leaves the place of a run when its work is over, by a panic too.
pub(super) struct Seated(pub Arc<Signal>);

impl Drop for Seated {
    fn drop(&mut self) {
        self.0.leave_place();
    }
}

/// What a restart did to a run that is taken to work.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Resume {
    /// Nothing; or it was allowed a new effect since then.
    No,
    /// It was cut off and has not been at work since.
    First,
    /// It was cut off, has been at work, and slept again before it was allowed a new effect: the same resume, not one more.
    Again,
}

/// One run at work.
pub(super) struct Work {
    pub run: Run,
    pub steps: Vec<Step>,
    /// The steps as replay needs them, as far as they were needed.
    pub history: Vec<Arc<Recorded>>,
    pub program: Arc<Program>,
    /// What the run sees and changes.
    pub world: World,
    pub signal: Arc<Signal>,
    pub locked: Vec<String>,
    /// It was cut off by a restart and has not been allowed to begin a new effect yet.
    pub unproven: bool,
    /// Lines of log taken over from evaluations so far are those up to this many steps.
    pub logged: u32,
}

/// The cluster, or (for a rehearsal) an overlay that lets nothing through.
#[derive(Clone)]
pub(super) struct World {
    pub cluster: Arc<dyn Cluster>,
    pub groups: Arc<dyn NodeGroups>,
}

impl Work {
    /// Brings the history up to the steps: an answered step never changes, the one at the end may have waited when it was last recorded.
    pub fn record(&mut self) {
        self.history.pop();
        self.history.truncate(self.steps.len());
        self.history.extend(self.steps[self.history.len()..].iter().map(|step| Arc::new(recorded(step))));
    }
}

fn recorded(step: &Step) -> Recorded {
    let answer = match (&step.error, step.outcome) {
        (Some(error), _) => Answer::Error(error.clone()),
        (None, Outcome::InDoubt | Outcome::Waiting) => Answer::Waiting,
        // JSON does not tell a value that is null from no value.
        (None, _) => Answer::Value(step.value.clone().unwrap_or(Value::Null)),
    };
    Recorded { primitive: step.primitive.clone(), args: step.args.clone(), answer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::run::RunId;

    #[test]
    fn a_step_read_back_from_the_journal_replays_as_it_was() {
        let step = |outcome, value| Step {
            run: RunId(1),
            seq: 0,
            primitive: "restart".into(),
            args: Vec::new(),
            intent: None,
            before: None,
            outcome,
            value,
            error: None,
            started_at: jiff::Timestamp::UNIX_EPOCH,
            finished_at: None,
        };
        for (outcome, value, expect) in [
            (Outcome::Applied, Some(Value::Null), Answer::Value(Value::Null)),
            (Outcome::Observed, Some(Value::from(3)), Answer::Value(Value::from(3))),
            (Outcome::Waiting, None, Answer::Waiting),
        ] {
            let written = serde_json::to_string(&step(outcome, value)).expect("a step is plain data");
            let read: Step = serde_json::from_str(&written).expect("it was just written");
            assert_eq!(recorded(&read).answer, expect, "{written}");
        }
    }
}
