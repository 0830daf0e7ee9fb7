//! What the API shows, as structures of its own: the journal and the model may change without it. The command line reads the same ones.
//!
//! Fields are listed in `openapi.json`; a test compares the two. Values of environment variables are never shown: they may be secrets.

mod approvals;
mod catalog;
mod cluster;
mod events;
mod health;
mod incidents;
mod runs;
mod stops;
mod undo;

pub use approvals::{ApprovalCommand, ApprovalView};
pub use catalog::{BreakerView, EffectivenessView, RuleView, RunbookView, TrustView};
pub use cluster::{JoinView, ServiceView};
pub use events::{EventsView, RunAccepted, RunRequest};
pub use health::{Check, Readiness};
pub use incidents::{IncidentDetail, IncidentPage, IncidentView, LevelView, TransitionView};
pub use runs::{HIDDEN, IntentView, RunDetail, RunPage, RunView, StepView};
pub use stops::{BrakeView, FreezeList, FreezeRequest, FreezeView, PauseView};
pub use undo::{UndoRequest, UndoStarted, UndoStepView, UndoView};

use serde::{Deserialize, Serialize};

/// A person's command: who, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    pub by: String,
    #[serde(default)]
    pub reason: String,
}
