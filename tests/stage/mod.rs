//! A stage for scenarios: the whole application on a journal in memory, a simulated cluster and a paused clock. It can be killed at any write.

#![allow(dead_code, reason = "each test uses a part of the stage")]

mod cores;
mod script;
mod trace;

pub use cores::on_all_cores;
pub use script::Scenario;
pub use trace::trace;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use runbookd::adapters::cluster::sim::{SimCluster, SimReload, World};
use runbookd::adapters::journal::memory::MemoryJournal;
use runbookd::adapters::posts::SimPosts;
use runbookd::app::metrics::Metrics;
use runbookd::app::{App, Parts};
use runbookd::clock::Clock;
use runbookd::config::{Config, ReloadTarget};
use runbookd::model::cluster::{Convergence, JobIntent, JobState, Node, NodeIntent, Service, ServiceIntent, Task};
use runbookd::model::join::{JoinRole, JoinToken};
use runbookd::model::message::{Message, ThreadRef};
use runbookd::model::node_group::{GroupIntent, NodeGroup};
use runbookd::model::silence::SilenceIntent;
use runbookd::model::{alert, label::Labels, payload};
use runbookd::ports::{
    Alerts, Cluster, DeliverError, ErrorReason, Humans, Journal, KnownAlert, NewIntake, NodeGroups, PortError,
    PostAnswer, Posts, Queries, Reload, Reloaded, Sample,
};
use runbookd::runbook::catalog::{Catalog, Offers};
use runbookd::runbook::evaluate::Evaluator;
use std::collections::BTreeMap;
use std::future::{Future, pending};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Reload targets of every scenario: `settled` has nothing to reload; those of the shipped rules render the shipped templates.
fn reload_targets() -> BTreeMap<String, ReloadTarget> {
    let plain = ["prometheus", "settled"].map(|name| format!("{name}: {{ http: 'http://{name}' }}"));
    let templates = [
        ("haproxy", "haproxy.cfg.j2"),
        ("prometheus_targets", "prometheus-targets.json.j2"),
        ("prometheus_alerts", "prometheus-alerts.yml.j2"),
        ("lb", "lb-nodes.cfg.j2"),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/templates");
    let templates = templates.map(|(name, template)| {
        format!("{name}: {{ template: '{}', output: {template} }}", folder.join(template).display())
    });
    let proxy = ["proxy: { docker_flow_proxy: 'http://proxy' }".to_string()];
    let yaml: Vec<String> = [&plain[..], &templates, &proxy].concat();
    serde_saphyr::from_str(&yaml.join("\n")).expect("reload targets")
}

/// What outlives a process: the cluster, the people, Alertmanager, the files.
pub struct Stage {
    pub clock: Clock,
    pub cluster: Arc<SimCluster>,
    pub people: Arc<Mutex<Vec<(jiff::Timestamp, Message)>>>,
    pub alertmanager: Arc<Mutex<Result<Vec<KnownAlert>, PortError>>>,
    pub reloads: Arc<Mutex<Vec<String>>>,
    pub reload: Arc<SimReload>,
    pub silences: Arc<Mutex<Vec<SilenceIntent>>>,
    pub posts: Arc<SimPosts>,
    pub posts_unreachable: Arc<AtomicBool>,
    /// How long each call to the cluster takes.
    pub cluster_takes: Arc<Mutex<Duration>>,
    /// What Prometheus answers to each expression; to any other it answers nothing.
    pub prometheus: Prometheus,
    pub files: tempfile::TempDir,
    pub config: Arc<Config>,
    pub with_api: bool,
    /// The trace shows what attempts came to.
    pub effectiveness: bool,
    /// The folder of the repository with the rules, when they are shipped; the runbooks are shipped too then.
    pub shipped: Option<&'static str>,
}

/// What Prometheus answers to each expression; `Err`: it cannot be asked.
pub type Prometheus = Arc<Mutex<Result<std::collections::BTreeMap<String, f64>, PortError>>>;

/// One life of the process.
pub struct Life {
    pub app: App,
    pub journal: Arc<MemoryJournal>,
    alive: Arc<AtomicBool>,
}

impl Stage {
    pub fn of(scenario: &Scenario) -> Self {
        let clock = Clock::simulated();
        let world = World::parse(&scenario.world).expect("the scenario's world is valid");
        let files = tempfile::tempdir().expect("a temporary directory");
        let mut config = match scenario.config.as_str() {
            "" => Config::default(),
            text => serde_saphyr::from_str(text).expect("the scenario's configuration is valid"),
        };
        config.incidents.stale_after = scenario.stale_after;
        config.bounds.replicas_max = 20;
        config.max_mode = scenario.max_mode;
        config.groups = scenario.groups.clone();
        let cluster = Arc::new(SimCluster::new(world, clock));
        if let Some(every) = scenario.watchdog {
            config.watchdog.matchers = vec!["alertname = \"Watchdog\"".to_string()];
            config.watchdog.every = every;
        }
        let stage = Stage {
            clock,
            reload: Arc::new(SimReload::new(&reload_targets(), cluster.clone())),
            cluster,
            people: Arc::default(),
            alertmanager: Arc::new(Mutex::new(Ok(Vec::new()))),
            reloads: Arc::default(),
            silences: Arc::default(),
            posts: Arc::new(SimPosts::new(["ticketing"])),
            posts_unreachable: Arc::default(),
            cluster_takes: Arc::default(),
            prometheus: Arc::new(Mutex::new(Ok(scenario.prometheus.clone()))),
            files,
            config: Arc::new(config),
            with_api: scenario.alertmanager_api,
            effectiveness: scenario.effectiveness,
            shipped: match scenario.rules.as_str() {
                "shipped" => Some("rules"),
                "optional" => Some("deploy/rules"),
                _ => None,
            },
        };
        stage.write(&scenario.rules, &scenario.runbooks);
        stage
    }

    /// Writes rules and runbooks, replacing what was there.
    pub fn write(&self, rules: &str, runbooks: &std::collections::BTreeMap<String, String>) {
        let root = self.files.path();
        for folder in ["rules", "runbooks"] {
            let folder = root.join(folder);
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).expect("a folder");
        }
        std::fs::write(root.join("rules/rules.yaml"), rules).expect("rules");
        for (name, text) in runbooks {
            std::fs::write(root.join("runbooks").join(format!("{name}.rhai")), text).expect("a runbook");
        }
    }

    pub fn catalog(&self) -> Catalog {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = if self.shipped.is_some() { own } else { self.files.path() };
        let offers = Offers { reload_targets: self.reload.targets(), prometheus: true };
        let rules = root.join(self.shipped.unwrap_or("rules"));
        Catalog::load(&rules, &root.join("runbooks"), &offers, None).unwrap_or_else(|findings| {
            let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
            panic!("the scenario's files are not valid:\n{}", all.join("\n"))
        })
    }

    /// Starts the process on what the journal holds.
    pub async fn start(&self, journal: MemoryJournal) -> Life {
        let alive = Arc::new(AtomicBool::new(true));
        let journal = Arc::new(journal);
        let outside = Arc::new(Outside {
            alive: alive.clone(),
            clock: self.clock,
            cluster: self.cluster.clone(),
            people: self.people.clone(),
            alertmanager: self.alertmanager.clone(),
            reloads: self.reloads.clone(),
            reload: self.reload.clone(),
            silences: self.silences.clone(),
            posts: self.posts.clone(),
            posts_unreachable: self.posts_unreachable.clone(),
            cluster_takes: self.cluster_takes.clone(),
            prometheus: self.prometheus.clone(),
        });
        let parts = Parts {
            config: self.config.clone(),
            clock: self.clock,
            journal: journal.clone(),
            cluster: outside.clone(),
            groups: outside.clone(),
            reload: outside.clone(),
            posts: outside.clone(),
            queries: Some(outside.clone()),
            alerts: self.with_api.then(|| outside.clone() as Arc<dyn Alerts>),
            humans: outside.clone(),
            fallback: outside,
            evaluator: Arc::new(Evaluator::inline()),
            catalog: Arc::new(ArcSwap::from_pointee(self.catalog())),
            metrics: Arc::new(Metrics::new()),
        };
        let app = App::start(parts).await.expect("a journal that can be read");
        tokio::spawn(flush(Arc::downgrade(&journal)));
        Life { app, journal, alive }
    }
}

/// A journal makes what is staged durable soon by itself; the one in memory has no thread to do so.
async fn flush(journal: std::sync::Weak<MemoryJournal>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Some(journal) = journal.upgrade() else { return };
        drop(journal.commit());
    }
}

impl Life {
    /// `kill -9`: nothing of this process reaches the world any more. Returns what was durable.
    pub fn kill(self) -> MemoryJournal {
        self.alive.store(false, Ordering::Release);
        self.journal.crash()
    }

    /// Journals an event's post. Whether it was accepted.
    pub async fn intake(&self, source: &'static str, body: &Arc<[u8]>) -> bool {
        let received_at = self.app.parts.clock.now();
        let post = NewIntake { received_at, source: source.into(), body: body.as_ref().into(), group: None };
        self.journal.intake(post).await.is_ok()
    }

    /// Posts as Alertmanager does; resolves when it would be answered 2xx. Whether it was accepted.
    pub async fn post(&self, body: &str) -> bool {
        let group = payload::decode(body.as_bytes()).expect("a readable payload");
        let post = NewIntake {
            received_at: self.app.parts.clock.now(),
            source: "alertmanager".into(),
            body: body.as_bytes().into(),
            group: Some(Arc::new(group)),
        };
        self.journal.intake(post).await.is_ok()
    }
}

/// The adapters of one life: when it has died, its calls never return, and so change nothing.
struct Outside {
    alive: Arc<AtomicBool>,
    clock: Clock,
    cluster: Arc<SimCluster>,
    people: Arc<Mutex<Vec<(jiff::Timestamp, Message)>>>,
    alertmanager: Arc<Mutex<Result<Vec<KnownAlert>, PortError>>>,
    reloads: Arc<Mutex<Vec<String>>>,
    reload: Arc<SimReload>,
    silences: Arc<Mutex<Vec<SilenceIntent>>>,
    posts: Arc<SimPosts>,
    posts_unreachable: Arc<AtomicBool>,
    cluster_takes: Arc<Mutex<Duration>>,
    prometheus: Prometheus,
}

impl Outside {
    async fn living<T>(&self, call: impl Future<Output = T>) -> T {
        if !self.alive.load(Ordering::Acquire) {
            pending::<()>().await;
        }
        call.await
    }

    /// A call to the cluster: what it says is so at its end.
    async fn cluster<T>(&self, call: impl Future<Output = T>) -> T {
        let takes = *self.cluster_takes.lock().expect("unpoisoned");
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        self.living(call).await
    }
}

#[async_trait]
impl Cluster for Outside {
    async fn services(&self) -> Result<Vec<Service>, PortError> {
        self.cluster(self.cluster.services()).await
    }
    async fn service(&self, name: &str) -> Result<Service, PortError> {
        self.cluster(self.cluster.service(name)).await
    }
    async fn tasks(&self, service: &str) -> Result<Vec<Task>, PortError> {
        self.cluster(self.cluster.tasks(service)).await
    }
    async fn nodes(&self) -> Result<Vec<Node>, PortError> {
        self.cluster(self.cluster.nodes()).await
    }
    async fn apply(&self, intent: &ServiceIntent, step: &str) -> Result<(), PortError> {
        self.cluster(Cluster::apply(&*self.cluster, intent, step)).await
    }
    async fn convergence(&self, service: &str) -> Result<Convergence, PortError> {
        self.cluster(self.cluster.convergence(service)).await
    }
    async fn apply_node(&self, intent: &NodeIntent) -> Result<(), PortError> {
        self.cluster(self.cluster.apply_node(intent)).await
    }
    async fn start_job(&self, job: &JobIntent, step: &str) -> Result<(), PortError> {
        self.cluster(self.cluster.start_job(job, step)).await
    }
    async fn job(&self, name: &str) -> Result<JobState, PortError> {
        self.cluster(self.cluster.job(name)).await
    }
    async fn jobs(&self) -> Result<Vec<String>, PortError> {
        self.cluster(self.cluster.jobs()).await
    }
    async fn remove_job(&self, name: &str) -> Result<(), PortError> {
        self.cluster(self.cluster.remove_job(name)).await
    }
    async fn listen(&self, changed: &tokio::sync::Notify) -> Result<(), PortError> {
        self.living(self.cluster.listen(changed)).await
    }
    async fn join_token(&self, role: JoinRole) -> Result<JoinToken, PortError> {
        self.cluster(self.cluster.join_token(role)).await
    }
    async fn ping(&self) -> Result<(), PortError> {
        self.cluster(self.cluster.ping()).await
    }
}

#[async_trait]
impl NodeGroups for Outside {
    fn names(&self) -> Vec<String> {
        self.cluster.names()
    }
    async fn group(&self, name: &str) -> Result<NodeGroup, PortError> {
        self.living(self.cluster.group(name)).await
    }
    async fn apply(&self, intent: &GroupIntent) -> Result<(), PortError> {
        self.living(NodeGroups::apply(&*self.cluster, intent)).await
    }
}

#[async_trait]
impl Queries for Outside {
    async fn query(&self, expr: &str) -> Result<Vec<Sample>, PortError> {
        let value =
            self.living(async { self.prometheus.lock().expect("unpoisoned").clone() }).await?.get(expr).copied();
        Ok(value.into_iter().map(|value| Sample { labels: Labels::default(), value }).collect())
    }
}

#[async_trait]
impl Posts for Outside {
    async fn post(&self, target: &str, body: &serde_json::Value) -> Result<PostAnswer, PortError> {
        self.living(async {
            if self.posts_unreachable.load(Ordering::Acquire) {
                return Err(PortError::transient(ErrorReason::Unreachable, format!("{target} cannot be reached")));
            }
            self.posts.post(target, body).await
        })
        .await
    }
    fn targets(&self) -> Vec<String> {
        self.posts.targets()
    }
}

#[async_trait]
impl Reload for Outside {
    async fn reload(&self, target: &str, service: Option<&str>) -> Result<Reloaded, PortError> {
        let shown = service.map_or(target.to_string(), |service| format!("{target} for {service}"));
        self.living(async {
            // As a template whose file is as it should be.
            if target == "settled" {
                return Ok(Reloaded::Unchanged);
            }
            let answer = self.reload.reload(target, service).await?;
            if answer == Reloaded::Done {
                self.reloads.lock().expect("unpoisoned").push(shown);
            }
            Ok(answer)
        })
        .await
    }
    fn targets(&self) -> Vec<String> {
        self.reload.targets()
    }
}

#[async_trait]
impl Alerts for Outside {
    async fn alerts(&self) -> Result<Vec<KnownAlert>, PortError> {
        self.living(async { self.alertmanager.lock().expect("unpoisoned").clone() }).await
    }
    async fn silence(&self, intent: &SilenceIntent) -> Result<(), PortError> {
        self.living(async { self.silences.lock().expect("unpoisoned").push(intent.clone()) }).await;
        Ok(())
    }
    async fn silenced(&self, key: &str) -> Result<bool, PortError> {
        self.living(async { Ok(self.silences.lock().expect("unpoisoned").iter().any(|silence| silence.key == key)) })
            .await
    }
}

#[async_trait]
impl Humans for Outside {
    async fn deliver(&self, message: &Message, _: Option<&ThreadRef>) -> Result<Option<ThreadRef>, DeliverError> {
        let now = self.clock.now();
        self.living(async { self.people.lock().expect("unpoisoned").push((now, message.clone())) }).await;
        Ok(None)
    }
}

/// A webhook payload with one alert, as Alertmanager groups by `alertname` and `service`.
pub fn payload_of(
    labels: &Labels,
    firing: bool,
    starts_at: jiff::Timestamp,
    now: jiff::Timestamp,
    truncated: u64,
) -> String {
    let status = if firing { "firing" } else { "resolved" };
    let ends_at = if firing { "0001-01-01T00:00:00Z".to_string() } else { now.to_string() };
    let group: Labels =
        ["alertname", "service"].into_iter().filter_map(|name| Some((name, labels.get(name)?))).collect();
    serde_json::json!({
        "version": "4",
        "groupKey": format!("{{}}:{group}"),
        "receiver": "runbookd",
        "status": status,
        "truncatedAlerts": truncated,
        "groupLabels": group,
        "commonLabels": labels,
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "alerts": [{
            "status": status,
            "labels": labels,
            "annotations": { "summary": "something is wrong" },
            "startsAt": starts_at,
            "endsAt": ends_at,
            "generatorURL": "http://prometheus:9090/graph",
            "fingerprint": alert::Fingerprint::of(labels).to_string(),
        }],
    })
    .to_string()
}

pub fn scenarios() -> Vec<(String, std::path::PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut all: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of scenarios")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.file_stem().expect("a name").to_string_lossy().into_owned(), path))
        .collect();
    all.sort();
    assert!(!all.is_empty(), "no scenarios in {}", folder.display());
    all
}

impl Stage {
    pub fn clock_start(&self) -> jiff::Timestamp {
        match self.clock {
            Clock::Simulated { base, .. } => base,
            Clock::System | Clock::Driven(_) => unreachable!("a stage has a simulated clock"),
        }
    }
}
