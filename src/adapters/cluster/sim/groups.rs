//! The groups of machines of a simulated world: a machine that was asked for joins as a node after a while, and one that is terminated leaves its node
//! behind, down, as in a real Swarm. What is seen of them is a function of the accepted changes and the time that has passed since.

use super::log::WriteLine;
use super::world::GroupSpec;
use super::{Fault, SimCluster, State, timeout, unreachable, usable, write};
use crate::adapters::nodes::{Judged, judge, unknown_group};
use crate::model::cluster::Node;
use crate::model::duration::Duration;
use crate::model::label::Labels;
use crate::model::node_group::{GroupChange, GroupIntent, Instance, InstanceState, NodeGroup};
use crate::ports::{ErrorReason, NodeGroups, PortError};
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// One accepted change of a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupApplied {
    pub at: Timestamp,
    pub intent: GroupIntent,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimGroup {
    desired: u64,
    min: u64,
    max: u64,
    // Worlds written down before there were machines have none of these.
    #[serde(default = "super::world::machine_start")]
    start: Duration,
    #[serde(default)]
    machines: Vec<Machine>,
    /// How many were ever made: part of their names, which are not given twice.
    #[serde(default)]
    made: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Machine {
    id: String,
    node: String,
    /// When it is to join, until it has.
    joins: Option<Timestamp>,
    /// When it is gone, once it was terminated.
    gone: Option<Timestamp>,
}

impl SimGroup {
    pub fn new(spec: GroupSpec) -> Self {
        let GroupSpec { desired, min, max, start } = spec;
        SimGroup { desired, min, max, start, machines: Vec::new(), made: 0 }
    }

    fn show(&self, name: &str) -> NodeGroup {
        let instances = self.machines.iter().map(|machine| Instance {
            id: machine.id.clone(),
            node: machine.joins.is_none().then(|| machine.node.clone()),
            state: match machine {
                Machine { gone: Some(_), .. } => InstanceState::Terminating,
                Machine { joins: Some(_), .. } => InstanceState::Pending,
                _ => InstanceState::InService,
            },
        });
        NodeGroup {
            name: name.to_string(),
            desired: self.desired,
            min: self.min,
            max: self.max,
            instances: instances.collect(),
        }
    }
}

impl State {
    /// Gives each group of the start state its machines: the workers that belong to no other group, in the order of their names, and new ones, joined
    /// already, for what is missing.
    pub(super) fn staff_groups(&mut self) {
        let names: Vec<String> = self.groups.keys().cloned().collect();
        let machines = self.groups.values().flat_map(|group| &group.machines);
        let taken: HashSet<&str> = machines.map(|machine| machine.node.as_str()).collect();
        let workers = self.nodes.iter().filter(|node| node.role == "worker" && !taken.contains(node.name.as_str()));
        let mut free = workers.map(|node| node.name.clone()).collect::<Vec<_>>().into_iter();
        for name in names {
            while self.groups[&name].machines.len() < self.groups[&name].desired as usize {
                let node = free.next().unwrap_or_else(|| {
                    let node = self.new_name(&name);
                    self.join(&node);
                    node
                });
                let machine = Machine { id: format!("i-{node}"), node, joins: None, gone: None };
                self.groups.get_mut(&name).expect("its name is a key").machines.push(machine);
            }
        }
    }

    fn new_name(&mut self, group: &str) -> String {
        loop {
            let of_group = self.groups.get_mut(group).expect("whoever asks has found it");
            of_group.made += 1;
            let name = format!("{group}-{}", of_group.made);
            if self.nodes.iter().all(|node| node.name != name) {
                return name;
            }
        }
    }

    fn join(&mut self, name: &str) {
        // It may have joined before the nodes were written down.
        if self.nodes.iter().any(|node| node.name == name) {
            return;
        }
        let count = self.nodes.len() + 1;
        self.nodes.push(Node {
            id: format!("sim-node-{name}"),
            name: name.to_string(),
            role: "worker".into(),
            availability: "active".into(),
            state: "ready".into(),
            address: format!("10.1.{}.{}", count / 256, count % 256),
            labels: Labels::default(),
            version: 10,
            running: 0,
            instance: Some(format!("i-{name}")),
        });
        self.usable = usable(&self.nodes);
    }

    /// Machines whose time has come join or are gone. What follows from the changes alone: it does not matter when, or how often, this is called.
    pub(super) fn settle_groups(&mut self, now: Timestamp) {
        let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
        let mut joining = Vec::new();
        for group in self.groups.values_mut() {
            for machine in group.machines.iter_mut().filter(|machine| due(machine.joins)) {
                // In the order of their times, so that looking late gives the same nodes as looking often.
                joining.extend(machine.joins.take().map(|at| (at, machine.node.clone())));
            }
            group.machines.retain(|machine| !due(machine.gone));
        }
        joining.sort();
        for (_, node) in joining {
            self.join(&node);
        }
    }

    fn group(&self, name: &str) -> Result<&SimGroup, PortError> {
        let known = || -> Vec<String> { self.groups.keys().cloned().collect() };
        self.groups.get(name).ok_or_else(|| unknown_group(name, &known()))
    }

    fn apply_group(&mut self, intent: &GroupIntent, now: Timestamp) -> Result<(), PortError> {
        let name = &intent.group;
        let fault = self.faults.pop_front();
        match fault {
            Some(Fault::Unreachable) => return Err(unreachable()),
            Some(Fault::TimeoutBefore) => return Err(timeout(name)),
            // A group has no version that could conflict: another hand asks for one machine more, and our change meets what it left.
            Some(Fault::AnotherHand(_)) => {
                let from = self.group(name)?.desired;
                let change = GroupChange::Resize { from, to: from + 1 };
                self.accept_group(GroupIntent { group: name.clone(), change }, now)?;
            }
            _ => {}
        }
        if judge(intent, &self.group(name)?.show(name))? == Judged::ToDo {
            self.accept_group(intent.clone(), now)?;
        }
        if fault == Some(Fault::TimeoutAfter) { Err(timeout(name)) } else { Ok(()) }
    }

    /// The machine of a node ends by itself: its group, which is to have as many as before, starts another.
    pub(super) fn lose_machine(&mut self, node: &str, now: Timestamp) -> Result<(), PortError> {
        self.settle_groups(now);
        let of_node = |group: &SimGroup| group.machines.iter().position(|machine| machine.node == node);
        let found = self.groups.iter().find_map(|(name, group)| Some((name.clone(), of_node(group)?)));
        let Some((name, at)) = found else {
            let message = format!("no group of the simulated cluster has a machine for node {node:?}");
            return Err(PortError::permanent(ErrorReason::NotFound, message));
        };
        let new = self.new_name(&name);
        let group = self.groups.get_mut(&name).expect("found above");
        group.machines.remove(at);
        let joins = Some(now + group.start.signed());
        group.machines.push(Machine { id: format!("i-{new}"), node: new, joins, gone: None });
        self.set_node_state(node, "down", now)
    }

    /// Writes a change to the log, then makes it.
    fn accept_group(&mut self, intent: GroupIntent, now: Timestamp) -> Result<(), PortError> {
        let applied = GroupApplied { at: now, intent };
        write(&mut self.log, &WriteLine::GroupApplied(&applied))?;
        self.make_group(applied);
        Ok(())
    }

    /// A change of a group that is not there cannot have been accepted; a log edited by hand may still say so.
    pub(super) fn make_group(&mut self, applied: GroupApplied) {
        self.settle_groups(applied.at);
        let GroupIntent { group: name, change } = &applied.intent;
        match (change, self.groups.get_mut(name)) {
            (_, None) => {}
            (GroupChange::Resize { to, .. }, Some(group)) => {
                let missing = to.saturating_sub(group.desired);
                group.desired = *to;
                let joins = Some(applied.at + group.start.signed());
                for _ in 0..missing {
                    let node = self.new_name(name);
                    let machine = Machine { id: format!("i-{node}"), node, joins, gone: None };
                    self.groups.get_mut(name).expect("found above").machines.push(machine);
                }
            }
            (GroupChange::Terminate { instance, .. }, Some(group)) => {
                let gone = applied.at + group.start.signed();
                if let Some(machine) = group.machines.iter_mut().find(|machine| machine.id == *instance) {
                    (machine.joins, machine.gone) = (None, Some(gone));
                    group.desired = group.desired.saturating_sub(1);
                    // The Swarm keeps what it knew of the node until somebody removes it.
                    if let Some(node) = self.nodes.iter_mut().find(|node| node.name == machine.node) {
                        node.state = "down".into();
                    }
                    self.usable = usable(&self.nodes);
                }
            }
        }
        self.remember_group(applied);
    }
}

#[async_trait]
impl NodeGroups for SimCluster {
    fn names(&self) -> Vec<String> {
        self.state().groups.keys().cloned().collect()
    }

    async fn group(&self, name: &str) -> Result<NodeGroup, PortError> {
        Ok(self.reach()?.group(name)?.show(name))
    }

    async fn apply(&self, intent: &GroupIntent) -> Result<(), PortError> {
        let now = self.clock.now();
        self.reach()?.apply_group(intent, now)
    }
}
