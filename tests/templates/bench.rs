//! A cluster that stands still, and reload targets on it.

#![allow(dead_code, reason = "each test uses a part of it")]

use async_trait::async_trait;
use runbookd::adapters::reload::Reloads;
use runbookd::config::Config;
use runbookd::model::cluster::{
    Convergence, JobIntent, JobState, Limits, Mode, Node, NodeIntent, Port, Service, ServiceIntent, Task, UpdateState,
};
use runbookd::model::join::{JoinRole, JoinToken};
use runbookd::model::label::Labels;
use runbookd::ports::{Cluster, ErrorReason, PortError, Reload, Reloaded};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct World {
    nodes: Vec<Node>,
    services: Vec<Spec>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    name: String,
    replicas: u64,
    #[serde(default)]
    global: bool,
    #[serde(default)]
    labels: Labels,
    #[serde(default)]
    container_labels: Labels,
    #[serde(default)]
    ports: Vec<Port>,
    tasks: Vec<Place>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    node: String,
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    networks: BTreeMap<String, String>,
}

impl World {
    pub fn parse(text: &str) -> World {
        serde_saphyr::from_str(text).expect("a world")
    }

    /// That of `world.yaml`.
    pub fn shipped() -> World {
        World::parse(include_str!("world.yaml"))
    }
}

/// A cluster of which nothing changes but by hand.
#[derive(Default)]
pub struct Still(Mutex<World>);

impl Still {
    pub fn of(world: World) -> Arc<Self> {
        Arc::new(Still(Mutex::new(world)))
    }

    pub fn becomes(&self, world: World) {
        *self.world() = world;
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("unpoisoned")
    }
}

fn service(spec: &Spec) -> Service {
    Service {
        id: format!("id-{}", spec.name),
        name: spec.name.clone(),
        version: 1,
        image: "shop/web:1".into(),
        mode: if spec.global { Mode::Global } else { Mode::Replicated },
        replicas: spec.replicas,
        running: spec.tasks.len() as u64,
        labels: spec.labels.clone(),
        container_labels: spec.container_labels.clone(),
        env: Default::default(),
        limits: Limits::default(),
        force_update: 0,
        update: UpdateState::None,
        update_message: String::new(),
        template_hash: String::new(),
        previous_template_hash: None,
        ports: spec.ports.clone(),
    }
}

#[async_trait]
impl Cluster for Still {
    async fn services(&self) -> Result<Vec<Service>, PortError> {
        Ok(self.world().services.iter().map(service).collect())
    }
    async fn service(&self, name: &str) -> Result<Service, PortError> {
        let found = self.world().services.iter().find(|spec| spec.name == name).map(service);
        found.ok_or_else(|| PortError::permanent(ErrorReason::NotFound, format!("there is no service {name}")))
    }
    async fn tasks(&self, name: &str) -> Result<Vec<Task>, PortError> {
        let world = self.world();
        let spec = world.services.iter().find(|spec| spec.name == name).expect("the service is there");
        let task = |(at, place): (usize, &Place)| Task {
            id: format!("{name}-{at}"),
            service: name.to_string(),
            node: place.node.clone(),
            state: "running".into(),
            desired_state: "running".into(),
            error: String::new(),
            image: "shop/web:1".into(),
            addresses: place.addresses.clone(),
            networks: place.networks.clone(),
        };
        Ok(spec.tasks.iter().enumerate().map(task).collect())
    }
    async fn nodes(&self) -> Result<Vec<Node>, PortError> {
        Ok(self.world().nodes.clone())
    }
    async fn apply(&self, _: &ServiceIntent, _: &str) -> Result<(), PortError> {
        unreachable!("a reload changes no service")
    }
    async fn apply_node(&self, _: &NodeIntent) -> Result<(), PortError> {
        unreachable!("a reload changes no node")
    }
    async fn start_job(&self, _: &JobIntent, _: &str) -> Result<(), PortError> {
        unreachable!("a reload starts no job")
    }
    async fn job(&self, _: &str) -> Result<JobState, PortError> {
        unreachable!("a reload starts no job")
    }
    async fn jobs(&self) -> Result<Vec<String>, PortError> {
        Ok(Vec::new())
    }
    async fn remove_job(&self, _: &str) -> Result<(), PortError> {
        unreachable!("a reload starts no job")
    }
    async fn listen(&self, _: &tokio::sync::Notify) -> Result<(), PortError> {
        unreachable!("a reload listens to nothing")
    }
    async fn join_token(&self, _: JoinRole) -> Result<JoinToken, PortError> {
        unreachable!("a reload lets nobody join")
    }
    async fn convergence(&self, _: &str) -> Result<Convergence, PortError> {
        unreachable!("a reload waits for no service")
    }
    async fn ping(&self) -> Result<(), PortError> {
        Ok(())
    }
}

/// The targets of a `reload:` in YAML.
pub fn targets(yaml: &str, cluster: &Arc<Still>) -> Result<Reloads, PortError> {
    let config = Config { reload: serde_saphyr::from_str(yaml).expect("targets"), ..Config::default() };
    Reloads::new(&config, &(cluster.clone() as Arc<dyn Cluster>))
}

pub fn shipped_template(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/templates").join(name)
}

/// A shipped template, rendered; `check` and `then` as in the config.
pub async fn rendered(template: &str, cluster: &Arc<Still>, check: &str) -> Result<String, PortError> {
    let dir = tempfile::tempdir().expect("a directory");
    let output = dir.path().join("output");
    let (from, to) = (shipped_template(template), output.display());
    let yaml = format!("file: {{ template: '{}', output: '{to}'{check} }}", from.display());
    let told = targets(&yaml, cluster)?.reload("file", None).await?;
    assert_eq!(told, Reloaded::Done);
    Ok(std::fs::read_to_string(output).expect("rendered"))
}
