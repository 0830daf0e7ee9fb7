//! Groups of machines: what one looks like, and the changes that can be asked of it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A group of machines as observed at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeGroup {
    pub name: String,
    /// How many machines the provider keeps.
    pub desired: u64,
    /// The narrowest bounds there are: the provider's own, and those of the config.
    pub min: u64,
    pub max: u64,
    pub instances: Vec<Instance>,
}

impl NodeGroup {
    pub fn instance(&self, id: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.id == id)
    }
}

/// One machine of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// As its provider names it.
    pub id: String,
    /// How the node of this machine is called in the cluster, if known.
    pub node: Option<String>,
    pub state: InstanceState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Asked for; not in the provider's words up and running.
    Pending,
    InService,
    /// It goes, or is gone.
    Terminating,
}

/// An absolute change of a group, recorded before it is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupIntent {
    pub group: String,
    pub change: GroupChange,
}

/// The target, never a difference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupChange {
    /// The desired capacity.
    Resize { from: u64, to: u64 },
    /// One machine leaves, and the desired capacity goes down with it.
    Terminate { node: String, instance: String, from: u64 },
}

impl fmt::Display for GroupIntent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = &self.group;
        match &self.change {
            GroupChange::Resize { from, to } => write!(f, "{group}: {from} → {to} machines"),
            GroupChange::Terminate { node, instance, from } => {
                let to = from.saturating_sub(1);
                write!(f, "{group}: terminate {instance} (node {node}), {from} → {to} machines")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_what_it_leads_to() {
        let check = |change: GroupChange, expect: &str| {
            let intent = GroupIntent { group: "workers".into(), change };
            assert_eq!(intent.to_string(), expect);
            let json = serde_json::to_string(&intent).expect("plain data");
            assert_eq!(serde_json::from_str::<GroupIntent>(&json).expect("it can be read back"), intent);
        };
        check(GroupChange::Resize { from: 1, to: 2 }, "workers: 1 → 2 machines");
        check(
            GroupChange::Terminate { node: "node4".into(), instance: "i-123".into(), from: 2 },
            "workers: terminate i-123 (node node4), 2 → 1 machines",
        );
    }
}
