//! What templates see: the services and nodes of one moment, in an order that does not change by itself.

use crate::model::cluster::{Mode, Node, Port, Service, Task};
use crate::model::text::{cut, visible};
use crate::ports::{Cluster, PortError};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

#[derive(Serialize)]
pub struct Live {
    /// By name.
    pub services: Vec<LiveService>,
    /// By name.
    pub nodes: Vec<LiveNode>,
}

#[derive(Serialize)]
pub struct LiveService {
    pub name: String,
    pub image: String,
    pub mode: Mode,
    pub replicas: u64,
    pub running: u64,
    /// Of the service, and of its container spec where the service has none by that name.
    pub labels: BTreeMap<String, String>,
    pub ports: Vec<Port>,
    /// Those that run. Without ids: a task that is replaced on its node by another changes nothing.
    pub tasks: Vec<LiveTask>,
}

#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct LiveTask {
    /// The name of its node.
    pub node: String,
    /// The address of its node.
    pub address: String,
    /// Its own, in the networks of the service.
    pub addresses: Vec<String>,
}

#[derive(Serialize)]
pub struct LiveNode {
    pub name: String,
    pub role: String,
    pub state: String,
    pub availability: String,
    pub address: String,
    pub labels: BTreeMap<String, String>,
}

impl Live {
    pub async fn look(cluster: &dyn Cluster) -> Result<Live, PortError> {
        let services = cluster.services().await?;
        let tasks = cluster.live_tasks().await?;
        Ok(Live::of(services, tasks, cluster.nodes().await?))
    }

    pub fn of(services: Vec<Service>, tasks: Vec<Task>, nodes: Vec<Node>) -> Live {
        let addresses: HashMap<&str, &str> =
            nodes.iter().map(|node| (node.name.as_str(), node.address.as_str())).collect();
        let mut by_service: HashMap<String, Vec<LiveTask>> = HashMap::new();
        for task in tasks.into_iter().filter(|task| task.state == "running" && task.desired_state == "running") {
            let Task { service, node, addresses: mut own, .. } = task;
            own.sort();
            let address = addresses.get(node.as_str()).copied().unwrap_or_default().to_string();
            by_service.entry(service).or_default().push(LiveTask { node, address, addresses: own });
        }
        let show = |service: Service| {
            let mut tasks = by_service.remove(&service.name).unwrap_or_default();
            tasks.sort();
            let labels = service.container_labels.iter().chain(service.labels.iter());
            LiveService {
                labels: labels.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
                name: service.name,
                image: service.image,
                mode: service.mode,
                replicas: service.replicas,
                running: service.running,
                ports: service.ports,
                tasks,
            }
        };
        let mut services: Vec<LiveService> = services.into_iter().map(show).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        let show = |node: Node| LiveNode {
            labels: node.labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            name: node.name,
            role: node.role,
            state: node.state,
            availability: node.availability,
            address: node.address,
        };
        let mut nodes: Vec<LiveNode> = nodes.into_iter().map(show).collect();
        nodes.sort_by(|a, b| (&a.name, &a.address).cmp(&(&b.name, &b.address)));
        Live { services, nodes }
    }

    pub fn service(&self, name: &str) -> Option<&LiveService> {
        self.services.iter().find(|service| service.name == name)
    }

    /// Where a value comes from, for people: every label that has it, or else holds it (a template may have cut it out).
    pub fn sources(&self, value: &str) -> Vec<String> {
        let services = self.services.iter().flat_map(|service| {
            service
                .labels
                .iter()
                .map(move |(label, found)| (found, format!("label {label} of service {}", service.name)))
        });
        let nodes = self.nodes.iter().flat_map(|node| {
            node.labels.iter().map(move |(label, found)| (found, format!("label {label} of node {}", node.name)))
        });
        let all: Vec<(&String, String)> = services.chain(nodes).collect();
        let places = |same: &dyn Fn(&str) -> bool| -> Vec<String> {
            all.iter().filter(|(found, _)| same(found)).map(|(_, place)| visible(place, 200)).take(3).collect()
        };
        let exact = places(&|found| found == value);
        match exact.is_empty() && !value.is_empty() {
            true => places(&|found| found.contains(value)),
            false => exact,
        }
    }
}

impl LiveService {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// An error about one of its labels.
    pub fn unfit(&self, label: &str, why: &str) -> String {
        let found = match self.label(label) {
            Some(value) => format!(": {:?}", cut(value, 100)),
            None => String::new(),
        };
        visible(&format!("label {label} of service {}{found} {why}", self.name), 600)
    }
}
