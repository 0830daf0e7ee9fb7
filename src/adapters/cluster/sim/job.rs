//! Simulated jobs: what a world file says of an image is what becomes of a job of it.

use super::world::glob;
use crate::model::cluster::{JobIntent, JobState};
use crate::model::duration::Duration;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How jobs of an image go; one of an image that nothing is said of ends well after a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobBehaviour {
    pub takes: Duration,
    pub exit_code: i64,
    pub log: Vec<String>,
}

impl Default for JobBehaviour {
    fn default() -> Self {
        JobBehaviour { takes: Duration::from_secs(1), exit_code: 0, log: Vec::new() }
    }
}

/// One job that was accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimJob {
    pub step: String,
    pub image: String,
    started_at: Timestamp,
    behaviour: JobBehaviour,
}

impl SimJob {
    pub fn new(job: &JobIntent, step: &str, jobs: &BTreeMap<String, JobBehaviour>, now: Timestamp) -> Self {
        let behaviour =
            jobs.iter().find(|(pattern, _)| glob(pattern, &job.image)).map(|(_, behaviour)| behaviour.clone());
        SimJob {
            step: step.to_string(),
            image: job.image.clone(),
            started_at: now,
            behaviour: behaviour.unwrap_or_default(),
        }
    }

    pub fn state(&self, now: Timestamp) -> JobState {
        let JobBehaviour { takes, exit_code, log } = &self.behaviour;
        if now.duration_since(self.started_at) < takes.signed() {
            return JobState::Running(format!("a job of {} is running", self.image));
        }
        let error = if *exit_code == 0 { String::new() } else { format!("task: non-zero exit ({exit_code})") };
        JobState::Ended { exit_code: Some(*exit_code), error, log: log.clone() }
    }
}
