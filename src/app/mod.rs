//! The running application: a dispatcher that decides, executors that carry out, an outbox that tells people.

pub mod heartbeat;
pub mod metrics;
pub mod outbox;
pub mod reloader;
pub mod report;
pub mod watch;
pub mod wiring;

use crate::clock::Clock;
use crate::config::Config;
use crate::model::incident::{Incident, IncidentId};
use crate::ports::{Alerts, Cluster, Humans, Journal, Reload};
use crate::runbook::catalog::Catalog;
use crate::runbook::evaluate::Evaluator;
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Everything the application is given.
pub struct Parts {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub journal: Arc<dyn Journal>,
    pub cluster: Arc<dyn Cluster>,
    pub reload: Arc<dyn Reload>,
    pub alerts: Option<Arc<dyn Alerts>>,
    pub humans: Arc<dyn Humans>,
    pub evaluator: Arc<Evaluator>,
    pub catalog: Arc<ArcSwap<Catalog>>,
    pub metrics: Arc<metrics::Metrics>,
}

/// A handle to the running application: what HTTP handlers use.
#[derive(Clone)]
pub struct App {
    pub parts: Arc<Parts>,
}

/// Why a person's command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("there is no incident {0}")]
    NotFound(IncidentId),
    #[error("{0}")]
    Conflict(String),
    #[error("runbookd is shutting down")]
    Stopping,
}

/// The kill switch, as it was pulled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paused {
    pub by: String,
    pub reason: String,
    pub at: jiff::Timestamp,
}

impl App {
    /// Recovers from the journal and starts. Returns when the dispatcher is running.
    pub async fn start(parts: Parts) -> Result<App, crate::ports::JournalError> {
        let _ = parts;
        todo!()
    }
    /// Stops starting anything, lets calls in flight end and be journalled, commits, and returns.
    pub async fn stop(&self) {
        todo!()
    }
    pub async fn ack(&self, id: IncidentId, by: &str) -> Result<Incident, CommandError> {
        let _ = (id, by);
        todo!()
    }
    pub async fn close(&self, id: IncidentId, by: &str, reason: &str) -> Result<Incident, CommandError> {
        let _ = (id, by, reason);
        todo!()
    }
    pub async fn pause(&self, by: &str, reason: &str) -> Result<Paused, CommandError> {
        let _ = (by, reason);
        todo!()
    }
    pub async fn resume(&self, by: &str) -> Result<(), CommandError> {
        let _ = by;
        todo!()
    }
    pub fn paused(&self) -> Option<Paused> {
        todo!()
    }
    /// A new catalog is in force: unmatched incidents are routed again.
    pub fn catalog_swapped(&self) {
        todo!()
    }
    /// News for the operators, once per `key` and hour: a bad file, a refused post. Goes through the outbox.
    pub fn tell_operators(&self, key: &str, title: &str, text: &str) {
        let _ = (key, title, text);
        todo!()
    }
    /// For when the journal itself cannot be written: one message straight to people, past the outbox and without a record, once per `key` and
    /// hour. Called for every refused post, so it returns at once and sends beside the caller.
    pub fn tell_operators_directly(&self, key: &str, title: &str, text: &str) {
        let _ = (key, title, text);
        todo!()
    }
}
