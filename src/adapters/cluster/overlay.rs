//! The live cluster with changes laid over it that were never made: what a rehearsal sees of its own effects. Nothing gets through to the cluster.

use crate::model::cluster::{
    Convergence, JobIntent, JobState, Node, NodeChange, NodeIntent, Service, ServiceChange, ServiceIntent, SpecFields,
    Task,
};
use crate::model::join::{JoinRole, JoinToken};
use crate::model::node_group::{GroupChange, GroupIntent, NodeGroup};
use crate::ports::{Cluster, ErrorReason, NodeGroups, PortError};
use async_trait::async_trait;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub struct Overlay {
    cluster: Arc<dyn Cluster>,
    groups: Arc<dyn NodeGroups>,
    changes: Mutex<Vec<Change>>,
}

enum Change {
    Service(ServiceIntent),
    Node(NodeIntent),
    Group(GroupIntent),
}

impl Overlay {
    pub fn new(cluster: Arc<dyn Cluster>, groups: Arc<dyn NodeGroups>) -> Self {
        Overlay { cluster, groups, changes: Mutex::default() }
    }

    fn changes(&self) -> MutexGuard<'_, Vec<Change>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self, mut service: Service) -> Service {
        for change in self.changes().iter() {
            if let Change::Service(intent) = change
                && intent.service == service.name
            {
                change_service(&mut service, &intent.change);
            }
        }
        service
    }
}

/// As if it had been made, and had converged.
fn change_service(service: &mut Service, change: &ServiceChange) {
    match change {
        ServiceChange::Scale { to, .. } => (service.replicas, service.running) = (*to, *to),
        ServiceChange::Restart { to, .. } => {
            service.force_update = *to;
            service.running = service.replicas;
        }
        ServiceChange::Rollback { from, to } => {
            service.template_hash = to.clone();
            service.previous_template_hash = Some(from.clone());
            service.running = service.replicas;
        }
        ServiceChange::Update { to, .. } => update(service, to),
    }
}

fn update(service: &mut Service, to: &SpecFields) {
    if let Some(image) = &to.image {
        service.image = image.clone();
    }
    for (name, value) in &to.env {
        match value {
            Some(value) => drop(service.env.insert(name.clone(), value.clone())),
            None => drop(service.env.remove(name)),
        }
    }
    if !to.labels.is_empty() {
        let others = service.labels.iter().filter(|(name, _)| !to.labels.contains_key(*name));
        let set = to.labels.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?)));
        service.labels = others.chain(set).collect();
    }
    if let Some(limits) = &to.limits {
        service.limits.nano_cpus = limits.nano_cpus.or(service.limits.nano_cpus);
        service.limits.memory_bytes = limits.memory_bytes.or(service.limits.memory_bytes);
    }
    service.force_update = to.force_update.unwrap_or(service.force_update);
    service.running = service.replicas;
}

#[async_trait]
impl Cluster for Overlay {
    async fn services(&self) -> Result<Vec<Service>, PortError> {
        Ok(self.cluster.services().await?.into_iter().map(|service| self.seen(service)).collect())
    }

    async fn service(&self, name: &str) -> Result<Service, PortError> {
        Ok(self.seen(self.cluster.service(name).await?))
    }

    /// The tasks that there are: which ones a change would bring cannot be known.
    async fn tasks(&self, service: &str) -> Result<Vec<Task>, PortError> {
        self.cluster.tasks(service).await
    }

    async fn nodes(&self) -> Result<Vec<Node>, PortError> {
        let mut nodes = self.cluster.nodes().await?;
        for change in self.changes().iter() {
            let Change::Node(intent) = change else { continue };
            match &intent.change {
                NodeChange::Remove => nodes.retain(|node| node.id != intent.id),
                NodeChange::Availability { to, .. } => {
                    for node in nodes.iter_mut().filter(|node| node.id == intent.id) {
                        node.availability = to.clone();
                        // Its tasks have moved.
                        node.running = if to == "drain" { 0 } else { node.running };
                    }
                }
                NodeChange::Role { to, .. } => {
                    nodes.iter_mut().filter(|node| node.id == intent.id).for_each(|node| node.role = to.clone());
                }
            }
        }
        Ok(nodes)
    }

    async fn apply(&self, intent: &ServiceIntent, _: &str) -> Result<(), PortError> {
        self.changes().push(Change::Service(intent.clone()));
        Ok(())
    }

    async fn apply_node(&self, intent: &NodeIntent) -> Result<(), PortError> {
        self.changes().push(Change::Node(intent.clone()));
        Ok(())
    }

    async fn start_job(&self, _: &JobIntent, _: &str) -> Result<(), PortError> {
        Ok(())
    }

    /// As if it had gone well, and said nothing.
    async fn job(&self, _: &str) -> Result<JobState, PortError> {
        Ok(JobState::Ended { exit_code: Some(0), error: String::new(), log: Vec::new() })
    }

    async fn jobs(&self) -> Result<Vec<String>, PortError> {
        self.cluster.jobs().await
    }

    async fn remove_job(&self, _: &str) -> Result<(), PortError> {
        Ok(())
    }

    async fn convergence(&self, service: &str) -> Result<Convergence, PortError> {
        self.cluster.service(service).await.map(|_| Convergence::Converged)
    }

    async fn listen(&self, changed: &tokio::sync::Notify) -> Result<(), PortError> {
        self.cluster.listen(changed).await
    }

    async fn join_token(&self, _: JoinRole) -> Result<JoinToken, PortError> {
        Err(PortError::permanent(ErrorReason::Invalid, "nothing joins in a rehearsal"))
    }

    async fn ping(&self) -> Result<(), PortError> {
        self.cluster.ping().await
    }
}

#[async_trait]
impl NodeGroups for Overlay {
    fn names(&self) -> Vec<String> {
        self.groups.names()
    }

    async fn group(&self, name: &str) -> Result<NodeGroup, PortError> {
        let mut group = self.groups.group(name).await?;
        for change in self.changes().iter() {
            let Change::Group(intent) = change else { continue };
            if intent.group != group.name {
                continue;
            }
            match &intent.change {
                GroupChange::Resize { to, .. } => group.desired = *to,
                GroupChange::Terminate { instance, .. } => {
                    group.instances.retain(|other| other.id != *instance);
                    group.desired = group.desired.saturating_sub(1);
                }
            }
        }
        Ok(group)
    }

    async fn apply(&self, intent: &GroupIntent) -> Result<(), PortError> {
        self.changes().push(Change::Group(intent.clone()));
        Ok(())
    }
}
