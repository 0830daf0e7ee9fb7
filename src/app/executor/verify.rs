//! Asks what is expected of a run that helped: an expression of the rule, or the runbook's `verify`. Every poll, until it is met or nobody wants to know;
//! the time it has is kept by the board. Nothing of it is journalled: after a restart it is asked again.

use super::read::{Unanswered, step_error};
use super::{Executor, wait::READS_PER_POLL};
use crate::app::board::{Asked, Seen, Verification};
use crate::app::dispatcher::Input;
use crate::model::incident::IncidentId;
use crate::model::run::{Handler, Run};
use crate::runbook::evaluate::{Job, Next, Observation};
use crate::runbook::program::Program;
use jiff::Timestamp;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// A look that has no answer by then is void.
const LOOK_AT_MOST: Duration = Duration::from_secs(10);
/// A journal or program that cannot be read now is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Looks at once: the others wait for their turn, so that a storm of incidents is none of queries.
const LOOKS_AT_ONCE: usize = 16;

/// The verifications under way.
pub struct Verifications {
    tasks: Mutex<HashMap<IncidentId, AbortHandle>>,
    looks: Semaphore,
}

impl Default for Verifications {
    fn default() -> Self {
        Verifications { tasks: Mutex::default(), looks: Semaphore::new(LOOKS_AT_ONCE) }
    }
}

impl Verifications {
    fn all(&self) -> MutexGuard<'_, HashMap<IncidentId, AbortHandle>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, id: IncidentId, task: AbortHandle) {
        if let Some(before) = self.all().insert(id, task) {
            before.abort();
        }
    }

    pub(super) fn stop(&self, id: IncidentId) {
        if let Some(task) = self.all().remove(&id) {
            task.abort();
        }
    }

    pub(super) fn stop_all(&self) {
        self.all().drain().for_each(|(_, task)| task.abort());
    }
}

/// What a look needs.
enum Question {
    Promql(String),
    Runbook {
        run: Box<Run>,
        program: Arc<Program>,
    },
    /// It cannot be asked, and why.
    Never(String),
}

impl Executor {
    /// Begins to ask; what was asked of the incident before is asked no more.
    pub fn verify(self: &Arc<Self>, verification: Verification) {
        let id = verification.incident;
        let task = tokio::spawn(self.clone().keep_asking(verification));
        self.verifications.put(id, task.abort_handle());
    }

    /// The incident is no longer being verified.
    pub fn stop_verifying(&self, id: IncidentId) {
        self.verifications.stop(id);
    }

    async fn keep_asking(self: Arc<Self>, verification: Verification) {
        let Verification { incident, since, .. } = verification;
        let Some(question) = self.question(verification).await else { return };
        let mut told = None;
        loop {
            let Ok(turn) = self.verifications.looks.acquire().await else { return };
            let looked = tokio::time::timeout(LOOK_AT_MOST, self.ask(&question, since)).await;
            drop(turn);
            let seen = looked.unwrap_or_else(|_| {
                Seen::Unknown(format!("what is expected could not be asked within {}s", LOOK_AT_MOST.as_secs()))
            });
            self.parts.metrics.looked(seen.name());
            let met = matches!(seen, Seen::Met(_));
            if told.as_ref() != Some(&seen) {
                told = Some(seen.clone());
                if self.inbox.send(Input::Looked { incident, since, seen }).is_err() {
                    return;
                }
            }
            if met || !self.pause_for(self.parts.config.runs.poll_every.std()).await {
                return;
            }
        }
    }

    /// `None`: there is nothing to ask, the alert alone says whether it helped.
    async fn question(&self, verification: Verification) -> Option<Question> {
        let Asked::Runbook = verification.asked else {
            let Asked::Promql(expr) = verification.asked else { return None };
            return Some(Question::Promql(expr));
        };
        loop {
            match self.pinned(&verification).await {
                Ok(found) => return found,
                Err(error) => {
                    tracing::error!(run = %verification.run, error, "cannot read what verifies the run; trying again");
                }
            }
            if !self.pause_for(TRY_AGAIN).await {
                return None;
            }
        }
    }

    /// The run's own program, if it has a `verify`: an edit since changes nothing.
    async fn pinned(&self, verification: &Verification) -> Result<Option<Question>, String> {
        let run = self.parts.journal.run(verification.run).await.map_err(|error| error.to_string())?;
        let Some(run) = run else { return Ok(None) };
        let found = self.programs.find(&self.parts, &run).await.map_err(|error| error.to_string())?;
        let program = match found {
            Ok(program) => program,
            Err(why) => return Ok(Some(Question::Never(why))),
        };
        if !program.handlers.contains(&Handler::Verify) {
            return Ok(None);
        }
        Ok(Some(Question::Runbook { run: Box::new(run), program }))
    }

    async fn ask(&self, question: &Question, since: Timestamp) -> Seen {
        match question {
            Question::Promql(expr) => self.ask_prometheus(expr).await,
            Question::Runbook { run, program } => self.ask_runbook(run, program, since).await,
            Question::Never(why) => Seen::Unknown(why.clone()),
        }
    }

    async fn ask_prometheus(&self, expr: &str) -> Seen {
        let Some(prometheus) = &self.parts.queries else {
            return Seen::Unknown("what is expected cannot be asked: there is no prometheus.url".to_string());
        };
        match prometheus.query(expr).await {
            Ok(samples) if samples.is_empty() => Seen::NotMet(format!("{expr} has no result")),
            Ok(_) => Seen::Met(format!("{expr} is met")),
            Err(error) => Seen::Unknown(format!("{expr} could not be asked: {error}")),
        }
    }

    async fn ask_runbook(&self, run: &Run, program: &Arc<Program>, since: Timestamp) -> Seen {
        let name = &run.runbook;
        let mut seen: Vec<Observation> = Vec::new();
        loop {
            let job = Job {
                program: program.clone(),
                handler: Handler::Verify,
                input: run.input.clone(),
                history: Vec::new(),
                poll: Some(seen.clone()),
            };
            match self.parts.evaluator.evaluate(job).await.next {
                Next::Done(Value::Bool(true)) => return Seen::Met(format!("verify of {name} says that it helped")),
                Next::Done(Value::Bool(false)) => return Seen::NotMet(format!("verify of {name} returns false")),
                Next::Done(other) => {
                    return Seen::Unknown(format!("verify of {name} returns {other}, expected true or false"));
                }
                Next::Read { primitive, args } if seen.len() < READS_PER_POLL => {
                    let answer = match self.look_shared(run, &self.world_of(run), primitive, &args, since).await {
                        Ok(value) => Ok(value),
                        Err(Unanswered::Leave) => return Seen::Unknown("runbookd is stopping".to_string()),
                        Err(Unanswered::Error(error)) => Err(step_error(&error)),
                    };
                    seen.push(Observation { primitive: Cow::Borrowed(primitive), args, answer });
                }
                Next::Read { .. } => {
                    return Seen::Unknown(format!("verify of {name} makes more than {READS_PER_POLL} reads"));
                }
                Next::Failed(failure) => {
                    return Seen::Unknown(format!("verify of {name} fails: {}", super::reason_of(&failure).text));
                }
                _ => return Seen::Unknown(super::unexpected("a step", "verify").text),
            }
        }
    }
}
