//! Simulated nodes and jobs: their changes. Those of services are beside.

use super::job::SimJob;
use super::log::WriteLine;
use super::{Fault, State, timeout, unreachable, usable, write};
use crate::model::cluster::{JobIntent, Node, NodeChange, NodeIntent};
use crate::ports::{ErrorReason, PortError};
use jiff::Timestamp;
use std::collections::BTreeMap;

impl State {
    /// The nodes, with how many tasks run on each.
    pub(super) fn nodes_at(&mut self, now: Timestamp) -> Vec<Node> {
        for place in 0..self.services.len() {
            self.settled(place, now);
        }
        let mut running: BTreeMap<&String, u64> = BTreeMap::new();
        for node in self.services.iter().flat_map(|service| service.running_on(now, &self.usable)) {
            *running.entry(node).or_default() += 1;
        }
        let mut nodes = self.nodes.clone();
        for node in &mut nodes {
            node.running = running.get(&node.name).copied().unwrap_or(0);
        }
        nodes
    }

    pub(super) fn apply_node(&mut self, intent: &NodeIntent, now: Timestamp) -> Result<(), PortError> {
        let NodeIntent { node, id, version, change } = intent;
        let fault = self.fault(node)?;
        let at = self.nodes.iter().position(|known| known.id == *id);
        let (at, change) = match (at, change) {
            // Gone is gone.
            (None, NodeChange::Remove) => return Ok(()),
            (None, _) => {
                let message = format!("there is no node {node:?} in the simulated cluster");
                return Err(PortError::permanent(ErrorReason::NotFound, message));
            }
            (Some(at), change) => (at, change),
        };
        let found = &self.nodes[at];
        if found.version != *version && *change != NodeChange::Remove {
            let message =
                format!("node {node} has changed meanwhile: it is at version {}, not {version}", found.version);
            return Err(PortError::transient(ErrorReason::Conflict, message));
        }
        // As Swarm does, whatever is asked of it.
        let others = self.nodes.iter().any(|other| other.role == "manager" && other.id != *id);
        let refused = match change {
            NodeChange::Remove if found.role == "manager" => {
                Some("is a manager: it must be demoted before it is removed")
            }
            NodeChange::Role { to, .. } if to == "worker" && found.role == "manager" && !others => {
                Some("is the last manager: it cannot be demoted")
            }
            _ => None,
        };
        if let Some(why) = refused {
            return Err(PortError::permanent(
                ErrorReason::Invalid,
                format!("node {node} of the simulated cluster {why}"),
            ));
        }
        let mut nodes = self.nodes.clone();
        match change {
            NodeChange::Availability { to, .. } => nodes[at].availability.clone_from(to),
            NodeChange::Role { to, .. } => nodes[at].role.clone_from(to),
            NodeChange::Remove => drop(nodes.remove(at)),
        }
        if let Some(node) = nodes.get_mut(at).filter(|node| node.id == *id) {
            node.version += 1;
        }
        self.set_nodes(nodes, now)?;
        if fault == Some(Fault::TimeoutAfter) { Err(timeout(node)) } else { Ok(()) }
    }

    /// Another state of a node, as the Swarm would see it.
    pub(super) fn set_node_state(&mut self, name: &str, state: &str, now: Timestamp) -> Result<(), PortError> {
        self.settle_groups(now);
        let mut nodes = self.nodes.clone();
        let Some(node) = nodes.iter_mut().find(|node| node.name == name) else {
            let message = format!("there is no node {name:?} in the simulated cluster");
            return Err(PortError::permanent(ErrorReason::NotFound, message));
        };
        node.state = state.to_string();
        node.version += 1;
        self.set_nodes(nodes, now)
    }

    /// What goes wrong with this call before it does anything; the rest of the fault is given back.
    pub(super) fn fault(&mut self, target: &str) -> Result<Option<Fault>, PortError> {
        match self.faults.pop_front() {
            Some(Fault::Unreachable) => Err(unreachable()),
            Some(Fault::TimeoutBefore) => Err(timeout(target)),
            other => Ok(other),
        }
    }

    /// Other nodes from now on. Global services follow them as of this moment.
    pub(super) fn set_nodes(&mut self, nodes: Vec<Node>, now: Timestamp) -> Result<(), PortError> {
        write(&mut self.log, &WriteLine::Nodes(&nodes))?;
        // Who has joined by now stands among the nodes: the groups must not have them join again.
        write(&mut self.log, &WriteLine::NodeGroups(&self.groups))?;
        for place in 0..self.services.len() {
            self.settled(place, now);
        }
        self.usable = usable(&nodes);
        self.nodes = nodes;
        Ok(())
    }

    pub(super) fn start_job(&mut self, job: &JobIntent, step: &str, now: Timestamp) -> Result<(), PortError> {
        let fault = self.fault(&job.name)?;
        if !self.jobs.contains_key(&job.name) {
            let new = SimJob::new(job, step, &self.job_behaviours, now);
            self.change_jobs(|jobs| drop(jobs.insert(job.name.clone(), new)))?;
        }
        if fault == Some(Fault::TimeoutAfter) { Err(timeout(&job.name)) } else { Ok(()) }
    }

    pub(super) fn change_jobs(&mut self, change: impl FnOnce(&mut BTreeMap<String, SimJob>)) -> Result<(), PortError> {
        let mut jobs = self.jobs.clone();
        change(&mut jobs);
        write(&mut self.log, &WriteLine::Jobs(&jobs))?;
        self.jobs = jobs;
        Ok(())
    }
}
