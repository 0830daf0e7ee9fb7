//! What a cluster looks like: services, tasks, nodes, and the changes that can be asked of a service.

use super::label::Labels;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A Swarm service as observed at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub id: String,
    pub name: String,
    /// Swarm's version index: a change is refused when another hand was faster.
    pub version: u64,
    pub image: String,
    pub mode: Mode,
    /// Replicas asked for. For a global service, the number of tasks that Swarm wants.
    pub replicas: u64,
    /// Tasks in state running (with a health check: healthy).
    pub running: u64,
    pub labels: Labels,
    /// Labels of the container spec.
    pub container_labels: Labels,
    pub env: BTreeMap<String, String>,
    pub limits: Limits,
    /// Swarm's ForceUpdate counter: raising it replaces every task.
    pub force_update: u64,
    pub update: UpdateState,
    /// Swarm's own words about the update.
    pub update_message: String,
    /// Hash of the task template in force, and of the one a rollback would go to.
    pub template_hash: String,
    pub previous_template_hash: Option<String>,
    #[serde(default)]
    pub ports: Vec<Port>,
}

impl Service {
    /// A label of the service or, failing that, of its container spec.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).or_else(|| self.container_labels.get(name))
    }

    /// Where its tasks run, as Docker Flow tells of it: JSON pairs of a node's name and the task's address in the network that the service's label
    /// `com.df.scrapeNetwork` names. Nothing without the label, or while none of its tasks has such an address.
    pub fn node_info(&self, tasks: &[Task]) -> Option<String> {
        let network = self.labels.get("com.df.scrapeNetwork")?;
        let own = tasks.iter().filter(|task| task.service == self.name && task.state == "running");
        let pairs = own.filter_map(|task| Some((task.node.as_str(), task.networks.get(network)?.as_str())));
        let pairs: BTreeSet<(&str, &str)> = pairs.collect();
        if pairs.is_empty() { None } else { serde_json::to_string(&pairs).ok() }
    }
}

/// A port that a service publishes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Within the container.
    pub target: u16,
    /// On the nodes; 0 when Swarm has not chosen one yet.
    pub published: u16,
    /// `host`: on the nodes that run a task; `ingress`: on every node.
    pub mode: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Replicated,
    Global,
    /// Jobs and modes this build does not know: never scaled.
    Other,
}

/// `UpdateStatus.State` of Docker's API; `None` when there never was an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    #[default]
    None,
    Updating,
    Paused,
    Completed,
    RollbackStarted,
    RollbackPaused,
    RollbackCompleted,
}

impl UpdateState {
    /// Swarm is replacing tasks right now. A paused update is not: it waits for somebody.
    pub fn in_progress(self) -> bool {
        matches!(self, UpdateState::Updating | UpdateState::RollbackStarted)
    }
}

/// Resource limits of each task; `None` leaves what is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nano_cpus: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub id: String,
    pub service: String,
    pub node: String,
    /// Swarm's task state: `running`, `failed`, `pending` …
    pub state: String,
    pub desired_state: String,
    /// The task's own error, "" when it has none.
    pub error: String,
    pub image: String,
    /// In the networks of the service, without the prefix's length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The first of them in each network, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Node {
    pub id: String,
    pub name: String,
    pub role: String,
    pub availability: String,
    /// `ready`, `down`, `disconnected` or `unknown`.
    pub state: String,
    pub address: String,
    pub labels: Labels,
    /// Swarm's version index, as of a service.
    #[serde(default)]
    pub version: u64,
    /// Tasks that run on it, of all services.
    #[serde(default)]
    pub running: u64,
    /// Which machine of a node group it is: the engine's label `runbookd.instance`.
    #[serde(default)]
    pub instance: Option<String>,
}

/// The engine label (`dockerd --label`) by which a node says which machine of a group it is.
pub const INSTANCE_LABEL: &str = "runbookd.instance";

/// An absolute change of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeChange {
    /// `active`, `pause` or `drain`.
    Availability { from: String, to: String },
    /// `worker` or `manager`.
    Role { from: String, to: String },
    /// Out of the Swarm's list.
    Remove,
}

/// What a step is about to do to one node, recorded before it is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeIntent {
    pub node: String,
    pub id: String,
    /// The version index it was decided on.
    pub version: u64,
    pub change: NodeChange,
}

impl fmt::Display for NodeIntent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NodeIntent { node, version, change, .. } = self;
        match change {
            NodeChange::Availability { from, to } => write!(f, "node {node}: availability {from} → {to}")?,
            NodeChange::Role { from, to } => write!(f, "node {node}: role {from} → {to}")?,
            NodeChange::Remove => return write!(f, "node {node}: remove from the Swarm"),
        }
        at_version(f, *version)
    }
}

/// What was only planned has no version yet.
fn at_version(f: &mut fmt::Formatter<'_>, version: u64) -> fmt::Result {
    if version == 0 { Ok(()) } else { write!(f, " at version {version}") }
}

/// A one-off job: a container that runs once, to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobIntent {
    /// Unique to its step: `runbookd-job-<run>-<seq>`. Asked for twice it is the same job.
    pub name: String,
    pub image: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    pub deadline: jiff::Timestamp,
    pub timeout: super::duration::Duration,
}

/// How far a job has got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Not yet at its end; what it waits for, in words.
    Running(String),
    Ended {
        /// `None`: it never ran.
        exit_code: Option<i64>,
        /// The task's own error, "" when it has none.
        error: String,
        /// The last lines of its output.
        log: Vec<String>,
    },
}

/// How far the last change of a service has got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Convergence {
    /// Every task wanted runs the template in force, and no update is under way.
    Converged,
    /// Not there yet; what is missing, in words.
    Progressing(String),
    /// It will not get there by itself (paused or rolled back): the state, and the tasks' own errors.
    Failed(String),
}

/// An absolute change of one service: the target, never a difference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceChange {
    Scale {
        from: u64,
        to: u64,
    },
    Update {
        from: SpecFields,
        to: SpecFields,
    },
    /// The ForceUpdate counter: raising it replaces every task (`restart`, `reschedule`).
    Restart {
        from: u64,
        to: u64,
    },
    /// Hashes of the task templates that a rollback leaves and goes to.
    Rollback {
        from: String,
        to: String,
    },
}

/// The fields of a spec that `update` can set. `None` leaves a field alone; an env or label set to `None` is removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SpecFields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Option<String>>,
    /// Service labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_update: Option<u64>,
}

/// What a step is about to do to one service, recorded before it is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceIntent {
    pub service: String,
    pub id: String,
    /// The version index it was decided on.
    pub version: u64,
    pub change: ServiceChange,
}

impl fmt::Display for ServiceIntent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ServiceIntent { service, version, .. } = self;
        match &self.change {
            ServiceChange::Scale { from, to } => write!(f, "{service}: {from} → {to} replicas")?,
            ServiceChange::Restart { from, to } => {
                write!(f, "{service}: replace every task (ForceUpdate {from} → {to})")?
            }
            ServiceChange::Rollback { from, to } => write!(
                f,
                "{service}: roll back from task template {} to {}",
                &from[..from.len().min(8)],
                &to[..to.len().min(8)]
            )?,
            ServiceChange::Update { from, to } => {
                write!(f, "{service}:")?;
                if let Some(image) = &to.image {
                    write!(f, " image {} → {image}", from.image.as_deref().unwrap_or("?"))?;
                }
                // Values of env may be secrets: the names say enough.
                for (word, names) in [("env", &to.env), ("label", &to.labels)] {
                    for (name, value) in names {
                        write!(f, " {word} {}{name}", if value.is_some() { "" } else { "-" })?;
                    }
                }
                if to.limits.is_some() {
                    write!(f, " limits")?;
                }
                if to.force_update.is_some() {
                    write!(f, " force")?;
                }
            }
        }
        at_version(f, *version)
    }
}
