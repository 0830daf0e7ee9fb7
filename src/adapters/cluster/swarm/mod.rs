//! Docker Swarm. Reads through bollard where its types are whole, through plain JSON where they are not; every change is an update of the whole spec at
//! the version it was decided on.

mod connect;
mod convergence;
mod join;
mod spec;

use crate::config::DockerConfig;
use crate::model::cluster::{Convergence, Node, Service, ServiceChange, ServiceIntent, Task};
use crate::model::join::{JoinRole, JoinToken};
use crate::ports::{Cluster, ErrorReason, PortError};
use async_trait::async_trait;
use bollard::query_parameters::{ListNodesOptions, ListTasksOptionsBuilder};
use connect::Connection;
use serde_json::Value;
use spec::TaskCount;
use std::collections::HashMap;

/// One Swarm, by one of its managers.
pub struct SwarmCluster {
    connection: Connection,
}

impl SwarmCluster {
    /// Nothing is sent: a daemon that is away now may come. Errors (permanent): a wrong address, certificates that cannot be read.
    pub fn new(config: &DockerConfig) -> Result<Self, PortError> {
        Ok(SwarmCluster { connection: Connection::new(config)? })
    }

    /// One service as JSON. Swarm's own filter matches the beginnings of names.
    async fn find(&self, name: &str) -> Result<Value, PortError> {
        let path = format!("/services?filters={}", filters(&[("name", &[name])]));
        let found = self.connection.get(&format!("read service {name}"), &path).await?;
        let exact = array(found).into_iter().find(|service| service["Spec"]["Name"] == name);
        exact.ok_or_else(|| {
            PortError::permanent(ErrorReason::NotFound, format!("there is no service {name:?} in the Swarm"))
        })
    }

    /// Tasks as JSON, of one service (by its id) or of all; `live`: only those that are meant to run.
    async fn raw_tasks(&self, service: Option<&str>, live: bool) -> Result<Vec<Value>, PortError> {
        let service = service.as_slice();
        let mut wanted: Vec<(&str, &[&str])> = Vec::new();
        if !service.is_empty() {
            wanted.push(("service", service));
        }
        if live {
            wanted.push(("desired-state", &["running", "ready", "accepted"]));
        }
        let path = format!("/tasks?filters={}", filters(&wanted));
        self.connection.get("list tasks", &path).await.map(array)
    }
}

/// Docker's `filters` parameter, ready for a URL.
fn filters(wanted: &[(&str, &[&str])]) -> String {
    let json: HashMap<&str, &[&str]> = wanted.iter().copied().collect();
    let json = serde_json::to_string(&json).expect("maps of strings are always JSON");
    // Everything but unreserved characters is escaped.
    json.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

/// The elements of a list; Docker answers `null` for an empty one.
fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(all) => all,
        _ => Vec::new(),
    }
}

fn count<'a>(tasks: impl Iterator<Item = &'a Value>) -> TaskCount {
    tasks.filter(|task| convergence::wanted(task)).fold(TaskCount::default(), |count, task| TaskCount {
        wanted: count.wanted + 1,
        running: count.running + u64::from(convergence::state(task) == "running"),
    })
}

#[async_trait]
impl Cluster for SwarmCluster {
    async fn services(&self) -> Result<Vec<Service>, PortError> {
        let services = array(self.connection.get("list services", "/services").await?);
        let tasks = self.raw_tasks(None, true).await?;
        let mut by_service: HashMap<&str, Vec<&Value>> = HashMap::new();
        for task in &tasks {
            by_service.entry(task["ServiceID"].as_str().unwrap_or_default()).or_default().push(task);
        }
        let tasks_of =
            |raw: &Value| by_service.get(raw["ID"].as_str().unwrap_or_default()).map_or(&[][..], Vec::as_slice);
        Ok(services.iter().map(|raw| spec::read(raw, count(tasks_of(raw).iter().copied()))).collect())
    }

    async fn service(&self, name: &str) -> Result<Service, PortError> {
        let raw = self.find(name).await?;
        let tasks = self.raw_tasks(raw["ID"].as_str(), true).await?;
        Ok(spec::read(&raw, count(tasks.iter())))
    }

    async fn tasks(&self, service: &str) -> Result<Vec<Task>, PortError> {
        let raw = self.find(service).await?;
        let id = raw["ID"].as_str().unwrap_or_default();
        let options = ListTasksOptionsBuilder::new().filters(&HashMap::from([("service", vec![id])])).build();
        let mut tasks =
            self.connection.read("list tasks", |docker| async move { docker.list_tasks(Some(options)).await }).await?;
        let nodes = self.nodes().await?;
        let names: HashMap<&str, &str> = nodes.iter().map(|node| (node.id.as_str(), node.name.as_str())).collect();
        let made = |task: &bollard::models::Task| task.created_at.as_ref()?.parse::<jiff::Timestamp>().ok();
        tasks.sort_by_key(|task| std::cmp::Reverse(made(task)));
        let show = |task: bollard::models::Task| {
            let status = task.status.unwrap_or_default();
            let node = task.node_id.unwrap_or_default();
            let image = task.spec.and_then(|spec| spec.container_spec).and_then(|container| container.image);
            Task {
                id: task.id.unwrap_or_default(),
                service: service.to_string(),
                node: names.get(node.as_str()).map_or(node.clone(), |name| name.to_string()),
                state: status.state.map(|state| state.to_string()).unwrap_or_default(),
                desired_state: task.desired_state.map(|state| state.to_string()).unwrap_or_default(),
                error: status.err.unwrap_or_default(),
                image: image.unwrap_or_default(),
            }
        };
        Ok(tasks.into_iter().map(show).collect())
    }

    async fn nodes(&self) -> Result<Vec<Node>, PortError> {
        let nodes = self
            .connection
            .read("list nodes", |docker| async move { docker.list_nodes(None::<ListNodesOptions>).await })
            .await?;
        let show = |node: bollard::models::Node| {
            let (spec, status) = (node.spec.unwrap_or_default(), node.status.unwrap_or_default());
            Node {
                id: node.id.unwrap_or_default(),
                name: node.description.and_then(|description| description.hostname).unwrap_or_default(),
                role: spec.role.map(|role| role.to_string()).unwrap_or_default(),
                availability: spec.availability.map(|availability| availability.to_string()).unwrap_or_default(),
                state: status.state.map(|state| state.to_string()).unwrap_or_default(),
                address: status.addr.unwrap_or_default(),
                labels: spec.labels.unwrap_or_default().into_iter().collect(),
            }
        };
        Ok(nodes.into_iter().map(show).collect())
    }

    async fn apply(&self, intent: &ServiceIntent, step: &str) -> Result<(), PortError> {
        let ServiceIntent { service, id, version, change } = intent;
        let raw = self.connection.get(&format!("read service {service}"), &format!("/services/{id}")).await?;
        if spec::version(&raw) != *version {
            let now = spec::version(&raw);
            let message = format!("another hand changed {service}: it is at version {now}, not {version}");
            return Err(PortError::transient(ErrorReason::Conflict, message));
        }
        let rolls_back = matches!(change, ServiceChange::Rollback { .. });
        if rolls_back && spec::previous(&raw).is_none() {
            let message = format!("{service} has no previous spec to roll back to");
            return Err(PortError::permanent(ErrorReason::Invalid, message));
        }
        let mut body = raw["Spec"].clone();
        spec::change(&mut body, change, step)?;
        let rollback = if rolls_back { "&rollback=previous" } else { "" };
        let path = format!("/services/{id}/update?version={version}{rollback}");
        self.connection.post(&format!("update service {service}"), &path, &body).await.map(drop)
    }

    async fn convergence(&self, service: &str) -> Result<Convergence, PortError> {
        let raw = self.find(service).await?;
        // A change between the two reads shows as tasks of another template: not converged, which is true.
        let tasks = self.raw_tasks(raw["ID"].as_str(), false).await?;
        Ok(convergence::judge(&raw, &tasks))
    }

    async fn join_token(&self, role: JoinRole) -> Result<JoinToken, PortError> {
        let swarm = self.connection.read("read the join tokens", |docker| async move { docker.inspect_swarm().await });
        let nodes = self
            .connection
            .read("list nodes", |docker| async move { docker.list_nodes(None::<ListNodesOptions>).await });
        join::answer(role, swarm.await?, &nodes.await?)
    }

    async fn ping(&self) -> Result<(), PortError> {
        self.connection.read("ask for the Swarm", |docker| async move { docker.inspect_swarm().await }).await.map(drop)
    }
}
