//! Incidents, and what belongs to them.

use super::approvals::ApprovalView;
use super::runs::RunView;
use crate::model::alert::{Fingerprint, Level, Status};
use crate::model::incident::{Incident, IncidentId, Reason, State, Transition};
use crate::model::label::Labels;
use crate::model::run::RunId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One answer of many.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IncidentPage {
    pub incidents: Vec<IncidentView>,
    /// The value of `before` for the next page; `None` on the last.
    pub next: Option<IncidentId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentView {
    pub id: IncidentId,
    pub state: State,
    pub reason: Reason,
    pub rule: Option<String>,
    pub runbook: Option<String>,
    pub key: String,
    pub labels: Labels,
    pub alerts: Vec<Fingerprint>,
    pub runs: Vec<RunId>,
    pub attempt: u32,
    pub flaps: u32,
    pub had_effect: bool,
    /// What its runs changed, in words.
    pub effects: Vec<String>,
    pub escalated: bool,
    pub approval: Option<ApprovalView>,
    pub acked_by: Option<String>,
    pub opened_at: Timestamp,
    pub since: Timestamp,
    pub until: Option<Timestamp>,
    pub closed_at: Option<Timestamp>,
}

impl From<Incident> for IncidentView {
    fn from(incident: Incident) -> Self {
        IncidentView {
            id: incident.id,
            state: incident.state,
            reason: incident.reason,
            rule: incident.rule,
            runbook: incident.runbook,
            key: incident.key,
            labels: incident.labels,
            alerts: incident.alerts,
            runs: incident.runs,
            attempt: incident.attempt,
            flaps: incident.flaps,
            had_effect: incident.had_effect,
            effects: incident.effects,
            escalated: incident.escalated,
            approval: incident.approval.map(|approval| ApprovalView::from(*approval)),
            acked_by: incident.acked_by,
            opened_at: incident.opened_at,
            since: incident.since,
            until: incident.until,
            closed_at: incident.closed_at,
        }
    }
}

/// One incident with everything that belongs to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IncidentDetail {
    #[serde(flatten)]
    pub incident: IncidentView,
    pub transitions: Vec<TransitionView>,
    /// Its runs, oldest first, without their steps.
    pub run_summaries: Vec<RunView>,
    /// What is known now of its alerts.
    pub levels: Vec<LevelView>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransitionView {
    pub at: Timestamp,
    pub from: Option<State>,
    pub to: State,
    pub reason: Reason,
}

impl From<Transition> for TransitionView {
    fn from(Transition { incident: _, at, from, to, reason }: Transition) -> Self {
        TransitionView { at, from, to, reason }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LevelView {
    pub fingerprint: Fingerprint,
    pub status: Status,
    pub labels: Labels,
    pub annotations: Labels,
    pub starts_at: Timestamp,
    pub ends_at: Option<Timestamp>,
    pub generator_url: String,
    pub group_key: String,
    pub last_seen: Timestamp,
    pub unconfirmed: bool,
    pub suppressed: bool,
}

impl From<Level> for LevelView {
    fn from(level: Level) -> Self {
        let alert = level.alert;
        LevelView {
            fingerprint: alert.fingerprint,
            status: alert.status,
            labels: alert.labels,
            annotations: alert.annotations,
            starts_at: alert.starts_at,
            ends_at: alert.ends_at,
            generator_url: alert.generator_url.into(),
            group_key: level.group.key.to_string(),
            last_seen: level.last_seen,
            unconfirmed: level.unconfirmed,
            suppressed: level.suppressed,
        }
    }
}
