//! What is posted that is no alert: events, and wishes to have a runbook run.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What became of a post of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventsView {
    /// The row of the journal that holds them; `None` when there were none to hold.
    pub intake: Option<u64>,
    pub events: usize,
    /// What it told that is no event here: pulls, layers, builds that failed, what could not be read.
    pub ignored: usize,
}

/// A person's wish to have a runbook run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    pub runbook: String,
    /// Labels of the event, for the rule's matchers and grant; those that the runbook declares are its parameters too.
    #[serde(default)]
    pub set: Map<String, Value>,
    pub by: String,
    /// What to find the incident by, as its label `request`; made up when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// A wish that is journalled and that a rule will take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunAccepted {
    /// The row of the journal that holds it.
    pub intake: u64,
    pub request: String,
    /// The rules that take it, each with an incident of its own.
    pub rules: Vec<String>,
}
