//! An event: what enters that is no alert. A change of the Swarm, an image that was pushed, the tick of a schedule, an operator's command. It has labels
//! too, and takes the same path; unlike an alert it has no episode: it happens, and is over.

use super::label::Labels;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// The source under which events are journalled, whatever they are about.
pub const INTAKE: &str = "event";

/// Where events come from: what `on:` of a rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// Services and nodes of the Swarm changed.
    Swarm,
    /// An image was pushed, or a build says that something is to be deployed.
    Deploy,
    /// The time of a rule's `schedule` has come.
    Schedule,
    /// A person, or another program on a person's behalf, asks for something.
    Manual,
}

impl On {
    pub const ALL: [On; 4] = [On::Swarm, On::Deploy, On::Schedule, On::Manual];

    pub fn name(self) -> &'static str {
        match self {
            On::Swarm => "swarm",
            On::Deploy => "deploy",
            On::Schedule => "schedule",
            On::Manual => "manual",
        }
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One event. A post that brings several is journalled as one row: a JSON array of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub on: On,
    /// What rules match: `event` says what happened, such as `service_created`, `image_pushed`, `scale_service`.
    pub labels: Labels,
    /// What people read and no rule matches.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub annotations: Labels,
    pub at: Timestamp,
    /// A step of ours brought it about: only rules that say `own: true` take it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
    /// Parameters that whoever asks sets, over those of the rule. The runbook's `defaults()` must declare them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Value>,
    /// What of the cluster it tells the state of: remembered when the event has been handled, so that the same change is not told twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
}

/// The state of one service or node, as it was last told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// `service web`, `node node1`.
    pub what: String,
    /// `None`: it is gone.
    pub state: Option<Value>,
}

impl Event {
    pub fn new(on: On, labels: Labels, at: Timestamp) -> Self {
        Event { on, labels, annotations: Labels::default(), at, own: false, params: BTreeMap::new(), seen: None }
    }

    /// What happened: its label `event`.
    pub fn name(&self) -> &str {
        self.labels.value("event")
    }
}
