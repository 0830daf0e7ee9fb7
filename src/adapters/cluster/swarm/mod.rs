//! Docker Swarm. Reads through bollard where its types are whole, through plain JSON where they are not; every change is an update of the whole spec at
//! the version it was decided on.

mod connect;
mod convergence;
mod job;
mod join;
mod node;
mod spec;

use crate::config::DockerConfig;
use crate::model::cluster::{
    Convergence, JobIntent, JobState, Node, NodeIntent, Service, ServiceChange, ServiceIntent, Task,
};
use crate::model::join::{JoinRole, JoinToken};
use crate::ports::{Cluster, ErrorReason, PortError};
use async_trait::async_trait;
use bollard::query_parameters::{EventsOptionsBuilder, ListNodesOptions};
pub use connect::Connection;
use futures_util::StreamExt;
use serde_json::Value;
use spec::TaskCount;
use std::collections::HashMap;
use tokio::sync::Notify;

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
        let mut tasks = self.raw_tasks(Some(id), false).await?;
        let nodes = self.nodes().await?;
        let nodes = nodes.iter().map(|node| (node.id.as_str(), node.name.as_str())).collect();
        let made = |task: &Value| task["CreatedAt"].as_str()?.parse::<jiff::Timestamp>().ok();
        tasks.sort_by_key(|task| std::cmp::Reverse(made(task)));
        Ok(tasks.iter().map(|task| spec::task(task, service, &nodes)).collect())
    }

    async fn live_tasks(&self) -> Result<Vec<Task>, PortError> {
        let services = array(self.connection.get("list services", "/services").await?);
        let nodes = self.nodes().await?;
        let names = services.iter().filter_map(|raw| Some((raw["ID"].as_str()?, raw["Spec"]["Name"].as_str()?)));
        let names: HashMap<&str, &str> = names.collect();
        let nodes = nodes.iter().map(|node| (node.id.as_str(), node.name.as_str())).collect();
        let tasks = self.raw_tasks(None, true).await?;
        // A task whose service came or went between the two reads is the next look's.
        let named = tasks.iter().filter_map(|task| Some((task, *names.get(task["ServiceID"].as_str()?)?)));
        Ok(named.map(|(task, service)| spec::task(task, service, &nodes)).collect())
    }

    async fn nodes(&self) -> Result<Vec<Node>, PortError> {
        let mut running: HashMap<String, u64> = HashMap::new();
        for task in self.raw_tasks(None, false).await? {
            if convergence::state(&task) == "running"
                && let Some(node) = task["NodeID"].as_str()
            {
                *running.entry(node.to_string()).or_default() += 1;
            }
        }
        node::list(&self.connection, &running).await
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

    async fn apply_node(&self, intent: &NodeIntent) -> Result<(), PortError> {
        node::apply(&self.connection, intent).await
    }

    async fn start_job(&self, job: &JobIntent, step: &str) -> Result<(), PortError> {
        job::start(&self.connection, job, step).await
    }

    async fn job(&self, name: &str) -> Result<JobState, PortError> {
        let raw = self.find(name).await?;
        let tasks = self.raw_tasks(raw["ID"].as_str(), false).await?;
        Ok(job::look(&self.connection, &raw, &tasks).await)
    }

    async fn jobs(&self) -> Result<Vec<String>, PortError> {
        job::names(&self.connection).await
    }

    async fn remove_job(&self, name: &str) -> Result<(), PortError> {
        job::remove(&self.connection, name).await
    }

    async fn listen(&self, changed: &Notify) -> Result<(), PortError> {
        let wanted = HashMap::from([("type", vec!["service", "node"])]);
        let options = EventsOptionsBuilder::new().filters(&wanted).build();
        let docker = self.connection.docker("listen to the Swarm's events")?;
        let mut events = Box::pin(docker.events(Some(options)));
        while let Some(event) = events.next().await {
            event.map_err(|error| PortError::transient(ErrorReason::Unreachable, error.to_string()))?;
            changed.notify_one();
        }
        Ok(())
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
