//! A run: one execution of a runbook for an incident.

use super::incident::{IncidentId, Reason, lettered_id};
use super::mode::Plan;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub u64);
lettered_id!(RunId, "r");

/// The function of a runbook that a run calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handler {
    OnFiring,
    OnEvent,
    OnResolved,
    /// Says whether a run helped. It only reads, and no run calls it.
    Verify,
}

impl Handler {
    pub const ALL: [Handler; 4] = [Handler::OnFiring, Handler::OnEvent, Handler::OnResolved, Handler::Verify];

    pub fn name(self) -> &'static str {
        match self {
            Handler::OnFiring => "on_firing",
            Handler::OnEvent => "on_event",
            Handler::OnResolved => "on_resolved",
            Handler::Verify => "verify",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Being executed, or about to be.
    Running,
    /// Waiting for time or a condition, holding no thread.
    Suspended,
    Done,
    /// Failed, denied, diverged: the reason says which.
    Failed,
    /// `escalate(reason)` handed over.
    Escalated,
    /// Cut off before its end (downtime too long, resumed too often, refire during `on_resolved`).
    Interrupted,
}

impl RunState {
    pub fn ended(self) -> bool {
        !matches!(self, RunState::Running | RunState::Suspended)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub id: RunId,
    pub incident: IncidentId,
    pub rule: String,
    pub runbook: String,
    /// Content hash of the pinned program.
    pub program: ProgramHash,
    pub handler: Handler,
    /// A rehearsal: its effects are laid over what it sees, and none is made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
    /// What it may do, and nothing else. `None`: whatever its rule allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Arc<Plan>>,
    /// Who approved that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_by: Vec<String>,
    /// It puts back what this run did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<RunId>,
    pub attempt: u32,
    pub state: RunState,
    /// Why it ended as it did; `None` while it goes on and when it is simply done.
    pub reason: Option<Reason>,
    /// What the handler was called with, fixed when the attempt started.
    pub input: Arc<Input>,
    /// When a suspended run is looked at again.
    pub wake_at: Option<Timestamp>,
    /// How often it went on after a restart.
    pub resumes: u32,
    /// Lines of `log` and `print`, bounded.
    pub log: Vec<String>,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

/// The arguments of a handler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// DESIGN's `alert`: `alerts`, `labels`, `annotations`, `starts_at`, `generator_url`.
    pub alert: Value,
    /// `defaults()` with the rule's `params` on top.
    pub params: Value,
}

/// SHA-256 over a program's sources, in hex.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProgramHash(pub Arc<str>);

/// The sources of a program: `scale_out.rhai` itself and every module it imports, by path below `runbooks/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    pub name: String,
    pub main: Arc<str>,
    pub modules: BTreeMap<String, Arc<str>>,
}
