//! A step: one journalled call of a primitive within a run, its intent and its outcome.

use super::cluster::{JobIntent, NodeIntent, ServiceIntent};
use super::duration::Duration;
use super::node_group::GroupIntent;
use super::run::RunId;
use super::silence::SilenceIntent;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// What a primitive does to the world, and so what becomes of a step of it that is in doubt (DESIGN §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectClass {
    /// Looks; in doubt: looks again.
    Read,
    /// Sets an absolute target; in doubt: observed, and applied if it was not.
    Absolute,
    /// Asked for under a key of its own; in doubt: asked for again by that key.
    Keyed,
    /// Not to be repeated; in doubt: left to a person.
    Unsafe,
    /// Tells people; in doubt: sent again, marked as such.
    Notify,
    /// Reloads a target; in doubt: repeated (a reload is idempotent).
    Reload,
    /// Waits; in doubt: goes on to its original deadline.
    Wait,
    /// No step at all: `log`, `fail`.
    None,
}

impl EffectClass {
    /// Needs a grant, passes the guards, and counts as an effect of the run.
    pub fn mutates(self) -> bool {
        matches!(self, EffectClass::Absolute | EffectClass::Keyed | EffectClass::Unsafe | EffectClass::Reload)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub run: RunId,
    /// From 0, without gaps.
    pub seq: u32,
    pub primitive: Cow<'static, str>,
    /// Canonical: as JSON, maps in key order.
    pub args: Vec<Value>,
    /// What is to become true, committed before it is tried. `None` for reads.
    pub intent: Option<Intent>,
    /// What was there before, for people and for undo.
    pub before: Option<Value>,
    pub outcome: Outcome,
    /// What the script got, when it succeeded.
    pub value: Option<Value>,
    /// What the script was thrown, when it did not.
    pub error: Option<StepError>,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

impl Step {
    /// Something outside was changed by it, or may have been.
    pub fn had_effect(&self) -> bool {
        let sent = matches!(self.outcome, Outcome::Applied | Outcome::InDoubt | Outcome::Waiting);
        let intended = self.intent.as_ref().is_some_and(Intent::is_effect);
        intended && (sent || self.value.is_some()) && self.outcome != Outcome::Unchanged
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Intent recorded, outcome not known (yet).
    InDoubt,
    /// A wait that has neither been met nor run out.
    Waiting,
    Applied,
    /// A rehearsal's: it would have been applied.
    Planned,
    /// What was asked for was already so: nothing was sent.
    Unchanged,
    /// A read or a wait that has its value.
    Observed,
    Failed,
    /// A guard said no.
    Denied,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// One change for each target; never empty.
    Services(Vec<ServiceIntent>),
    Reload {
        target: String,
        /// The one that it is about, if the target takes one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
    Node(NodeIntent),
    Group(GroupIntent),
    Silence(SilenceIntent),
    Job(JobIntent),
    /// To a target that the configuration names.
    Post {
        target: String,
        body: Value,
    },
    /// Goes to people through the outbox, in the same transaction as the step.
    Message {
        text: String,
    },
    /// A wait, with its original deadline.
    Until {
        deadline: Timestamp,
        timeout: Duration,
    },
}

impl Intent {
    /// Something outside is to change by it: told to people, counted, given back.
    pub fn is_effect(&self) -> bool {
        !matches!(self, Intent::Message { .. } | Intent::Until { .. })
    }

    /// The same without what belongs to one moment: versions, keys, deadlines. Two that are alike have the same effect.
    pub fn timeless(&self) -> Intent {
        let mut intent = self.clone();
        match &mut intent {
            Intent::Services(all) => all.iter_mut().for_each(|one| one.version = 0),
            Intent::Node(node) => node.version = 0,
            Intent::Silence(silence) => {
                silence.key.clear();
                silence.starts_at = Timestamp::UNIX_EPOCH;
            }
            Intent::Job(job) => {
                job.name.clear();
                job.deadline = Timestamp::UNIX_EPOCH;
            }
            Intent::Reload { .. }
            | Intent::Group(_)
            | Intent::Post { .. }
            | Intent::Message { .. }
            | Intent::Until { .. } => {}
        }
        intent
    }

    /// When what it waits for is given up, and after how long that is.
    pub fn deadline(&self) -> Option<(Timestamp, Duration)> {
        match self {
            Intent::Until { deadline, timeout } => Some((*deadline, *timeout)),
            Intent::Job(job) => Some((job.deadline, job.timeout)),
            _ => None,
        }
    }
}

impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Intent::Services(all) => {
                for (at, one) in all.iter().enumerate() {
                    write!(f, "{}{one}", if at == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Intent::Reload { target, service: None } => write!(f, "reload {target}"),
            Intent::Reload { target, service: Some(service) } => write!(f, "reload {target} for {service}"),
            Intent::Node(intent) => write!(f, "{intent}"),
            Intent::Group(intent) => write!(f, "{intent}"),
            Intent::Silence(intent) => write!(f, "{intent}"),
            // What stands in its environment may be a secret.
            Intent::Job(job) if job.name.is_empty() => write!(f, "run {} once, up to {}", job.image, job.timeout),
            Intent::Job(job) => write!(f, "run {} once as {}, up to {}", job.image, job.name, job.timeout),
            Intent::Post { target, .. } => write!(f, "post to {target}"),
            Intent::Message { text } => write!(f, "tell people: {text}"),
            Intent::Until { deadline, timeout } => write!(f, "wait up to {timeout}, until {deadline:.0}"),
        }
    }
}

/// An error of a primitive, as a script catches it: a map with `kind`, `message`, `primitive`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepError {
    /// A closed set, see [`StepError::KINDS`].
    pub kind: Cow<'static, str>,
    pub message: String,
    /// An uncatchable error ends the run: a denied step, `escalate`, `fail`.
    #[serde(default)]
    pub uncatchable: bool,
}

impl StepError {
    /// Every kind there is, with what it means. Shown in the docs of primitives.
    pub const KINDS: [(&'static str, &'static str); 9] = [
        ("not_found", "the target does not exist"),
        ("invalid", "an argument has the wrong type or an impossible value"),
        ("empty", "nothing matches: an empty set of targets is an error, never \"all\""),
        ("changed", "another hand changed the target since the run last read it"),
        ("updating", "the service is in the middle of an update"),
        ("timeout", "a wait ran out"),
        ("refused", "the cluster or target refused it for good"),
        ("failed", "the change was accepted but did not converge: the tasks' own errors say why"),
        ("denied", "a guard said no; cannot be caught"),
    ];

    pub fn new(kind: &'static str, message: impl Into<String>) -> Self {
        debug_assert!(Self::KINDS.iter().any(|(known, _)| *known == kind), "unlisted kind {kind}");
        StepError { kind: kind.into(), message: message.into(), uncatchable: false }
    }

    pub fn denied(message: impl Into<String>) -> Self {
        StepError { kind: "denied".into(), message: message.into(), uncatchable: true }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}
