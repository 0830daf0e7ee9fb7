//! What people are asked, and what they say to it.

use crate::model::mode::{Answer, Approval, Subject};
use crate::model::run::RunId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What people are asked about an incident, or were asked last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalView {
    /// The hash of the plan that waits; `None` for a question.
    pub plan: Option<String>,
    /// What is to be done, a line for each effect.
    pub effects: Vec<String>,
    /// `None` for a plan.
    pub question: Option<String>,
    /// What can be answered.
    pub answers: Vec<String>,
    /// The run that waits; `None`: one begins when it is approved.
    pub run: Option<RunId>,
    /// Who may answer: people and groups. Empty: whoever may use the API.
    pub by: Vec<String>,
    /// How many must approve, and who has.
    pub people: u32,
    pub given: Vec<String>,
    pub asked_at: Timestamp,
    pub until: Timestamp,
    /// In words; `None` while it waits.
    pub verdict: Option<String>,
}

impl From<Approval> for ApprovalView {
    fn from(approval: Approval) -> Self {
        let verdict = approval.verdict.map(|verdict| match verdict {
            Answer::Approved => "approved".to_string(),
            Answer::Denied { by, reason } if reason.is_empty() => format!("denied by {by}"),
            Answer::Denied { by, reason } => format!("denied by {by}: {reason}"),
            Answer::Answered { by, answer } => format!("{answer}, says {by}"),
            Answer::Expired => "nobody answered in time".to_string(),
        });
        let (plan, effects, question, answers) = match approval.subject {
            Subject::Plan(plan) => {
                let effects = plan.effects.iter().map(|one| one.intent.to_string()).collect();
                (Some(plan.hash), effects, None, Vec::new())
            }
            Subject::Question { text, answers, .. } => (None, Vec::new(), Some(text), answers),
        };
        ApprovalView {
            plan,
            effects,
            question,
            answers,
            run: approval.run,
            by: approval.by,
            people: approval.people,
            given: approval.given.into_iter().map(|(by, _)| by).collect(),
            asked_at: approval.asked_at,
            until: approval.until,
            verdict,
        }
    }
}

/// What a person says to an approval: of these the one that the path asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApprovalCommand {
    pub by: String,
    #[serde(default)]
    pub plan: String,
    #[serde(default)]
    pub reason: String,
    #[serde(default)]
    pub answer: String,
}
