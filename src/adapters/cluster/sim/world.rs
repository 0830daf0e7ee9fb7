//! The world file: the state that a simulated cluster starts from.

use super::WorldError;
use super::job::JobBehaviour;
use crate::model::cluster::{Limits, Node};
use crate::model::duration::Duration;
use crate::model::label::Labels;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Replicas that one service of a world file may have: each is a task that is shown.
const MAX_REPLICAS: u64 = 100_000;
/// Machines that all groups of a world file together may start with: each is a node.
const MAX_MACHINES: u64 = 1_000;

/// A whole world file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct World {
    pub services: BTreeMap<String, ServiceSpec>,
    /// Without any there is one manager, `node1`.
    nodes: BTreeMap<String, NodeSpec>,
    pub node_groups: BTreeMap<String, GroupSpec>,
    /// By image (`*` stands for anything).
    pub jobs: BTreeMap<String, JobBehaviour>,
}

/// One service as it is at the start: everything it wants is running.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    pub image: String,
    #[serde(default = "one")]
    pub replicas: u64,
    /// One task on each usable node; `replicas` says nothing then.
    #[serde(default)]
    pub global: bool,
    #[serde(default)]
    pub labels: Labels,
    #[serde(default)]
    pub container_labels: Labels,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub behaviour: Behaviour,
}

/// How the tasks of a service behave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Behaviour {
    /// From the acceptance of a change until its tasks run, all of them at once.
    pub start: Duration,
    /// Every task started from now on ends with this error.
    pub fail: Option<String>,
    /// Tasks of an image that matches (`*` stands for anything) end with this error.
    pub fail_image: BTreeMap<String, String>,
    /// What Swarm does with an update whose tasks fail.
    pub on_failure: FailureAction,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureAction {
    #[default]
    Pause,
    Rollback,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NodeSpec {
    role: Role,
    availability: Availability,
    state: NodeState,
    labels: Labels,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Manager,
    #[default]
    Worker,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Availability {
    #[default]
    Active,
    Pause,
    Drain,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum NodeState {
    #[default]
    Ready,
    Down,
    Disconnected,
    Unknown,
}

/// A group of machines that can grow and shrink, as it is at the start. Its machines are the workers that belong to no group before it, in the order of
/// their names; what is missing of them is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    pub desired: u64,
    pub min: u64,
    pub max: u64,
    /// From the acceptance of a change until a new machine is a node, or a terminated one is gone.
    #[serde(default = "machine_start")]
    pub start: Duration,
}

fn one() -> u64 {
    1
}

pub fn machine_start() -> Duration {
    Duration::from_secs(5)
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour {
            start: Duration::from_millis(500),
            fail: None,
            fail_image: BTreeMap::new(),
            on_failure: FailureAction::Pause,
        }
    }
}

impl Default for NodeSpec {
    fn default() -> Self {
        NodeSpec {
            role: Role::Worker,
            availability: Availability::Active,
            state: NodeState::Ready,
            labels: Labels::default(),
        }
    }
}

impl Behaviour {
    /// The error with which a task of this image ends, if it does.
    pub fn failure(&self, image: &str) -> Option<&str> {
        let of_image = self.fail_image.iter().find(|(pattern, _)| glob(pattern, image)).map(|(_, error)| error);
        self.fail.as_ref().or(of_image).map(String::as_str)
    }
}

/// `*` stands for anything, all else for itself.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|text| {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| glob(rest, &text[at..]))
        }),
    }
}

impl World {
    /// Reads a world file; errors name line and column.
    pub fn read(path: &Path) -> Result<World, WorldError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| WorldError::new(path, format!("the world file cannot be read: {error}")))?;
        World::parse(&text).map_err(|error| WorldError::new(path, error))
    }

    /// The world that `text` (YAML) describes; the error names line and column.
    pub fn parse(text: &str) -> Result<World, String> {
        // A file with nothing but comments is an empty world.
        let world: World =
            serde_saphyr::from_str::<Option<World>>(text).map_err(|error| error.to_string())?.unwrap_or_default();
        for (name, ServiceSpec { replicas, .. }) in &world.services {
            if *replicas > MAX_REPLICAS {
                return Err(format!("services.{name}: replicas is {replicas}, expected at most {MAX_REPLICAS}"));
            }
        }
        let mut machines: u64 = 0;
        for (name, group) in &world.node_groups {
            let GroupSpec { desired, min, max, .. } = group;
            if !(min..=max).contains(&desired) {
                return Err(format!(
                    "node_groups.{name}: desired is {desired}, expected between min {min} and max {max}"
                ));
            }
            machines = machines.saturating_add(*desired);
            if machines > MAX_MACHINES {
                let more = format!("expected at most {MAX_MACHINES} in all groups together");
                return Err(format!(
                    "node_groups.{name}: desired is {desired}, which makes {machines} machines; {more}"
                ));
            }
        }
        Ok(world)
    }

    /// The nodes as the cluster port shows them.
    pub fn nodes(&self) -> Vec<Node> {
        let alone = BTreeMap::from([("node1".to_string(), NodeSpec { role: Role::Manager, ..NodeSpec::default() })]);
        let nodes = if self.nodes.is_empty() { &alone } else { &self.nodes };
        let show = |(at, (name, spec)): (usize, (&String, &NodeSpec))| Node {
            id: format!("sim-node-{}", at + 1),
            name: name.clone(),
            role: word(spec.role),
            availability: word(spec.availability),
            state: word(spec.state),
            address: format!("10.0.{}.{}", (at + 1) / 256, (at + 1) % 256),
            labels: spec.labels.clone(),
            version: 10,
            running: 0,
            instance: None,
        };
        nodes.iter().enumerate().map(show).collect()
    }
}

/// A variant as Docker spells it.
fn word(variant: impl std::fmt::Debug) -> String {
    format!("{variant:?}").to_lowercase()
}
