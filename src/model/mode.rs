//! How far a rule may go by itself: what it runs is rehearsed, asked for, or done.

use super::duration::Duration;
use super::run::RunId;
use super::step::{Intent, Step};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// From the most careful to the most trusted. A ceiling is the smaller of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The runbook runs on what is really there, and none of its effects is performed: people are told what it would have done.
    Shadow,
    /// What it would do is shown first; a person approves exactly that.
    Approve,
    /// As `Approve`, until enough runs in a row have helped; then as `Auto`, until one does not.
    Earned,
    #[default]
    Auto,
}

impl Mode {
    pub const ALL: [Mode; 4] = [Mode::Shadow, Mode::Approve, Mode::Earned, Mode::Auto];

    pub fn name(self) -> &'static str {
        match self {
            Mode::Shadow => "shadow",
            Mode::Approve => "approve",
            Mode::Earned => "earned",
            Mode::Auto => "auto",
        }
    }

    /// What is done about an incident now: `Earned` is one of the others, by what the rule has earned.
    pub fn now(self, ceiling: Mode, trusted: bool) -> Mode {
        match self.min(ceiling) {
            Mode::Earned if trusted => Mode::Auto,
            Mode::Earned => Mode::Approve,
            mode => mode,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who approves what a rule would do, and until when.
#[derive(Clone, Debug, PartialEq)]
pub struct Approvers {
    /// Names of people, or of groups of the configuration. Empty: whoever may use the API.
    pub by: Vec<String>,
    /// How many of them, each for themselves. With more than one, who asked for the run does not count.
    pub people: u32,
    pub within: Duration,
    pub then: Then,
}

/// What becomes of an approval that nobody gave in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    #[default]
    Escalate,
    /// It counts as given: people had the time to say no.
    Run,
}

impl Default for Approvers {
    fn default() -> Self {
        Approvers { by: Vec::new(), people: 1, within: Duration::from_secs(1_800), then: Then::Escalate }
    }
}

/// One effect that a run is to have: exactly this, whatever the version of its target is by then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    pub primitive: String,
    pub args: Vec<Value>,
    pub intent: Intent,
}

/// What a run would do, in order, as a rehearsal found it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// SHA-256 over its effects, in hex: who approves names it.
    pub hash: String,
    /// How many effects the run had had when it was made.
    pub after: usize,
    pub effects: Vec<Planned>,
}

/// What people are asked, about one incident, at one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approval {
    pub subject: Subject,
    /// The run that waits for it. `None`: the run begins when it is given.
    pub run: Option<RunId>,
    pub by: Vec<String>,
    pub people: u32,
    pub then: Then,
    pub asked_at: Timestamp,
    pub until: Timestamp,
    /// Who has said yes so far, and when.
    pub given: Vec<(String, Timestamp)>,
    pub verdict: Option<Answer>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// To do what is planned.
    Plan(Plan),
    /// `ask` in a runbook: the step, the question, and what can be answered.
    Question { seq: u32, text: String, answers: Vec<String> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Approved,
    Denied { by: String, reason: String },
    Answered { by: String, answer: String },
    Expired,
}

impl Planned {
    /// The effect that a step has, or is to have. `None`: it has none.
    pub fn of(step: &Step) -> Option<Planned> {
        let intent = step.intent.as_ref().filter(|intent| intent.is_effect())?;
        Some(Planned { primitive: step.primitive.to_string(), args: step.args.clone(), intent: intent.timeless() })
    }
}
