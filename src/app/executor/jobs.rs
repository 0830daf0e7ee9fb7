//! What is left of jobs in the cluster: removed when their end is known and durable, and swept where a crash came in between.

use super::Executor;
use crate::model::cluster::JobState;
use crate::model::run::RunId;
use crate::model::step::{Intent, Outcome};
use crate::ports::JournalError;
use std::sync::Arc;
use std::time::Duration;

/// What the name of every job begins with; its run and its step follow.
pub(super) const NAME: &str = "runbookd-job-";
/// How often jobs that were left behind are looked for, the first time at the start.
const SWEEP_EVERY: Duration = Duration::from_secs(600);

impl Executor {
    /// Removes a job whose step has been answered, once the answer is durable: a job that is gone cannot be asked again how it ended.
    pub(super) async fn forget_job(&self, name: &str) {
        if self.durable().await {
            self.remove_job(name).await;
        }
    }

    /// What is left of a job whose end is known is of no use; what cannot be removed is in nobody's way until the next sweep.
    async fn remove_job(&self, name: &str) {
        if let Err(error) = self.parts.cluster.remove_job(name).await {
            tracing::warn!(job = name, reason = %error.reason, %error, "a job that has ended cannot be removed");
        }
    }

    /// Removes jobs that were left behind, until the process stops.
    pub async fn sweep_jobs(self: Arc<Self>) {
        loop {
            match self.parts.cluster.jobs().await {
                Ok(names) => {
                    for name in names {
                        match self.left_behind(&name).await {
                            Ok(true) => self.remove_job(&name).await,
                            Ok(false) => {}
                            Err(error) => tracing::warn!(job = name, %error, "cannot read whose job this is"),
                        }
                    }
                }
                Err(error) => tracing::debug!(reason = %error.reason, %error, "jobs cannot be looked for now"),
            }
            tokio::time::sleep(SWEEP_EVERY).await;
        }
    }

    /// Does nobody wait for it any more, and has it ended, or had its time? A job that the journal does not know is somebody else's.
    async fn left_behind(&self, name: &str) -> Result<bool, JournalError> {
        let Some((run, seq)) = step_of(name) else { return Ok(false) };
        let Some(run) = self.parts.journal.run(run).await? else { return Ok(false) };
        let steps = self.parts.journal.steps(run.id).await?;
        let Some(step) = steps.into_iter().find(|step| step.seq == seq) else { return Ok(false) };
        let Some(Intent::Job(job)) = step.intent.filter(|_| step.primitive == "job") else { return Ok(false) };
        if matches!(step.outcome, Outcome::InDoubt | Outcome::Waiting) && !run.state.ended() {
            return Ok(false);
        }
        if job.deadline <= self.parts.clock.now() {
            return Ok(true);
        }
        Ok(matches!(self.parts.cluster.job(name).await, Ok(JobState::Ended { .. })))
    }
}

/// The run and the step that a job's name tells.
fn step_of(name: &str) -> Option<(RunId, u32)> {
    let (run, seq) = name.strip_prefix(NAME)?.rsplit_once('-')?;
    Some((run.parse().ok()?, seq.parse().ok()?))
}
