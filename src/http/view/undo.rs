//! What would put back what a run did, and the wish to have that done.

use crate::app::undo::Planned;
use crate::engine::undo::{self, Undo};
use crate::model::incident::IncidentId;
use crate::model::run::RunId;
use serde::{Deserialize, Serialize};

/// What would put back what a run did, as the cluster stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UndoView {
    pub run: RunId,
    /// Stands for this plan: to be sent back by whoever wants it carried out.
    pub plan: String,
    /// Why it cannot be carried out; `None`: it can.
    pub refused: Option<String>,
    /// What keeps effects from happening now, and how to end that; `None`: nothing does.
    pub stopped: Option<String>,
    /// The steps that changed something, the last first.
    pub steps: Vec<UndoStepView>,
    /// The runbook that carries it out.
    pub source: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UndoStepView {
    pub seq: u32,
    /// What the step did.
    pub did: String,
    /// `does`, `as_before`, `cannot` or `changed`.
    pub undo: String,
    /// In words.
    pub what: String,
}

impl UndoView {
    pub fn of(run: RunId, planned: &Planned, stopped: Option<String>) -> Self {
        let step = |line: &undo::Line| {
            let (word, what) = match &line.undo {
                Undo::Does(what) => ("does", what),
                Undo::AsBefore(what) => ("as_before", what),
                Undo::Cannot(what) => ("cannot", what),
                Undo::Changed(what) => ("changed", what),
            };
            UndoStepView { seq: line.seq, did: line.did.clone(), undo: word.to_string(), what: what.clone() }
        };
        UndoView {
            run,
            plan: planned.program.hash.0.to_string(),
            refused: planned.plan.refused(),
            stopped,
            steps: planned.plan.lines.iter().map(step).collect(),
            source: planned.plan.source.clone(),
        }
    }
}

/// A plan that a person has seen and wants carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UndoRequest {
    pub by: String,
    #[serde(default)]
    pub reason: String,
    /// As the plan was shown, or at least its first 8 letters.
    pub plan: String,
}

/// It has begun: an incident of its own, with a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UndoStarted {
    pub incident: IncidentId,
    pub run: Option<RunId>,
}
