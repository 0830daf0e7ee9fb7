//! What people are told. Written into the journal's outbox as a structure; each channel renders it in its own way.

use super::incident::{IncidentId, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Counts up in one journal: the order of sending within a thread.
pub type MessageId = u64;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub kind: Kind,
    /// Messages of one incident form one thread; those without (operators' news) stand alone.
    pub incident: Option<IncidentId>,
    /// `#ops`; `None` is the configured default channel.
    pub channel: Option<String>,
    /// `critical`, `warning`, `info`: decides the colour, nothing else.
    pub severity: String,
    pub title: String,
    pub body: Vec<Section>,
    pub at: Timestamp,
    /// It may have been sent before (a crash fell between sending and recording).
    #[serde(default)]
    pub repeated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A person must act. The first of an incident is the root of its thread; later ones are posted in the thread and to the channel.
    Escalation,
    /// Goes into the thread (or stands alone, if the incident has none).
    FollowUp,
    /// `notify(text)`: informs; goes into the thread if there is one.
    Notice,
    /// The incident's state changed after it had escalated: the root is updated in place and a follow-up says why.
    Update(State),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    Text(String),
    /// Name and value, as labels and annotations.
    Fields {
        title: String,
        fields: Vec<(String, String)>,
    },
    /// Text and URL.
    Links(Vec<(String, String)>),
    List {
        title: String,
        items: Vec<String>,
    },
}

/// Where a thread's root stands, as the channel's own ids say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadRef {
    pub channel: String,
    pub ts: String,
    /// The root as it was posted, so that it can be updated in place.
    pub root: Box<MessageRoot>,
}

/// What of a root message must be kept to render it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRoot {
    /// The root `Message` as JSON.
    pub message: String,
}
