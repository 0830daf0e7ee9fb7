//! Builds the running application from its configuration, in a straight line; shut down last in, first out.

use crate::adapters;
use crate::adapters::cluster::sim::{SimCluster, SimReload, World, WorldError};
use crate::adapters::cluster::swarm::SwarmCluster;
use crate::adapters::humans::console::ConsoleHumans;
use crate::adapters::journal::path_of;
use crate::adapters::journal::sqlite::{OpenError, SqliteJournal};
use crate::adapters::metrics::alertmanager::Alertmanager;
use crate::adapters::metrics::api::Token;
use crate::adapters::metrics::prometheus::Prometheus;
use crate::adapters::nodes::ConfiguredGroups;
use crate::adapters::posts::{HttpPosts, SimPosts};
use crate::adapters::reload::Reloads;
use crate::app::heartbeat::{self, SecretUrl};
use crate::app::metrics::Metrics;
use crate::app::reloader::{self, Outcome, Reloader};
use crate::app::{App, Parts};
use crate::clock::Clock;
use crate::config::secret::{Secret, Secrets};
use crate::config::{ClusterKind, Config};
use crate::model::diagnostic::Diagnostic;
use crate::ports::{Alerts, Cluster, Humans, Journal, NodeGroups, PortError, Posts, Queries, Reload};
use crate::runbook::catalog::{Catalog, Offers};
use crate::runbook::evaluate::Evaluator;
use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Threads that evaluate runbooks: an evaluation takes microseconds, so two are plenty.
const EVALUATORS: usize = 2;
/// How often a journal in use by another process is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(250);

/// Why the application cannot be built. Each says how to mend it.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    #[error("the rules or runbooks are not valid, and there is no earlier set to keep in force")]
    Catalog(Vec<Diagnostic>),
    #[error("{0}")]
    Setting(String),
    #[error("{0}")]
    Journal(String),
}

/// What can be known before anything is opened or sent. A mistake in the configuration ends here.
pub struct Prepared {
    config: Arc<Config>,
    clock: Clock,
    metrics: Arc<Metrics>,
    catalog: Arc<ArcSwap<Catalog>>,
    journal: PathBuf,
    real: Option<Real>,
    posts: Arc<dyn Posts>,
    alerts: Option<Arc<dyn Alerts>>,
    queries: Option<Arc<dyn Queries>>,
    humans: Arc<dyn Humans>,
    heartbeat: Option<(reqwest::Client, SecretUrl)>,
}

/// What a simulated world takes the place of.
struct Real {
    cluster: Arc<dyn Cluster>,
    groups: Arc<dyn NodeGroups>,
    reload: Arc<dyn Reload>,
}

/// The running application and what runs beside it.
pub struct Running {
    pub app: App,
    reloader: Reloader,
    heartbeat: Option<JoinHandle<()>>,
    stopping: watch::Sender<bool>,
}

/// Checks the configuration and loads the catalog. Reads files; opens, sends and starts nothing.
pub fn prepare(
    config: Config,
    secrets: &Secrets,
    clock: Clock,
    metrics: Arc<Metrics>,
) -> Result<Prepared, WiringError> {
    let offers = Offers::of(&config);
    let catalog = Catalog::load(&config.rules, &config.runbooks, &offers, None)
        .and_then(|catalog| catalog.with_people(&config.groups))
        .map_err(WiringError::Catalog)?;
    metrics.reload_accepted(catalog.rules.len(), catalog.programs.len());
    for warning in catalog.warnings.iter().chain(&catalog.past_freezes(clock.now())) {
        tracing::warn!(%warning, "found in rules or runbooks");
    }
    config.watchdog.parsed().map_err(WiringError::Setting)?;
    for warning in config.idle_freezes(&catalog.rules, clock.now()) {
        tracing::warn!(warning = %warning.message, "found in the configuration");
    }
    let setting = |error: PortError| WiringError::Setting(error.message);
    let world = |error: WorldError| WiringError::Setting(error.to_string());
    let journal = path_of(&config.journal.url).map_err(|why| WiringError::Setting(format!("journal.url: {why}")))?;
    let real = match config.cluster {
        ClusterKind::Docker => {
            // First: what is rendered for a reload is what it shows.
            let swarm: Arc<dyn Cluster> = Arc::new(SwarmCluster::new(&config.docker).map_err(setting)?);
            let reload = Arc::new(Reloads::new(&config, &swarm).map_err(setting)?);
            let groups = Arc::new(ConfiguredGroups::new(&config.node_groups).map_err(setting)?);
            Some(Real { cluster: swarm, groups, reload })
        }
        ClusterKind::Sim => {
            // Read again behind the journal's lock; here, so that what is wrong with it is said before anybody is told where to post. Where a world
            // is remembered, it is not needed.
            if !beside(&journal).exists() {
                config.world.as_deref().map(World::read).transpose().map_err(world)?;
            }
            None
        }
    };
    Ok(Prepared {
        clock,
        metrics,
        catalog: Arc::new(ArcSwap::from_pointee(catalog)),
        journal,
        real,
        posts: posts(&config, secrets)?,
        alerts: alerts(&config, secrets)?,
        queries: queries(&config, secrets)?,
        humans: humans(&config, secrets)?,
        heartbeat: heartbeat(secrets)?,
        config: Arc::new(config),
    })
}

fn alerts(config: &Config, secrets: &Secrets) -> Result<Option<Arc<dyn Alerts>>, WiringError> {
    let Some(url) = &config.alertmanager.url else { return Ok(None) };
    let token = secrets.alertmanager_token.as_ref().map(|token| Token::new(token.expose()));
    let alertmanager = Alertmanager::new(client()?, url, token).map_err(WiringError::Setting)?;
    Ok(Some(Arc::new(alertmanager)))
}

fn queries(config: &Config, secrets: &Secrets) -> Result<Option<Arc<dyn Queries>>, WiringError> {
    let Some(url) = &config.prometheus.url else { return Ok(None) };
    let token = secrets.prometheus_token.as_ref().map(|token| Token::new(token.expose()));
    let prometheus = Prometheus::new(client()?, url, token).map_err(WiringError::Setting)?;
    Ok(Some(Arc::new(prometheus)))
}

fn posts(config: &Config, secrets: &Secrets) -> Result<Arc<dyn Posts>, WiringError> {
    Ok(match config.cluster {
        ClusterKind::Docker => {
            Arc::new(HttpPosts::new(&config.http_targets, &secrets.target_tokens).map_err(WiringError::Setting)?)
        }
        // A simulated world has simulated effects only.
        ClusterKind::Sim => Arc::new(SimPosts::new(config.http_targets.keys())),
    })
}

/// Slack with a bot token, else with a webhook, else the console.
fn humans(config: &Config, secrets: &Secrets) -> Result<Arc<dyn Humans>, WiringError> {
    let token = secrets.slack_token.as_ref().map(Secret::expose);
    let webhook_url = secrets.slack_webhook_url.as_ref().map(Secret::expose);
    adapters::humans::connect(&config.slack, token, webhook_url).map_err(WiringError::Setting)
}

fn heartbeat(secrets: &Secrets) -> Result<Option<(reqwest::Client, SecretUrl)>, WiringError> {
    let Some(url) = &secrets.heartbeat_url else { return Ok(None) };
    Ok(Some((client()?, SecretUrl::parse(url.expose()).map_err(WiringError::Setting)?)))
}

fn client() -> Result<reqwest::Client, WiringError> {
    reqwest::Client::builder()
        .user_agent(concat!("runbookd/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| WiringError::Setting(format!("the HTTP client cannot be made: {error}")))
}

impl Prepared {
    pub fn catalog(&self) -> Arc<ArcSwap<Catalog>> {
        self.catalog.clone()
    }

    /// Opens the journal and starts the application on it. While another process has the journal it waits, and says so through `waiting`.
    pub async fn start(self, waiting: impl Fn(&str)) -> Result<Running, WiringError> {
        let journal: Arc<dyn Journal> = Arc::new(open(&self.journal, waiting).await?);
        let Real { cluster, groups, reload } = match self.real {
            Some(real) => real,
            None => {
                // Behind the journal's lock: one process at a time has the world, too.
                let log = beside(&self.journal);
                let world = SimCluster::open(self.config.world.as_deref(), &log, self.clock);
                let world = Arc::new(world.map_err(|error| WiringError::Setting(error.to_string()))?);
                if let Some(file) = self.config.world.as_deref() {
                    compare(&world, file, &log);
                }
                // A simulated world has simulated effects only.
                let reload = Arc::new(SimReload::new(&self.config.reload, world.clone()));
                Real { cluster: world.clone(), groups: world, reload }
            }
        };
        let config = self.config.clone();
        let app = App::start(Parts {
            config: self.config,
            clock: self.clock,
            journal: journal.clone(),
            cluster,
            groups,
            reload,
            posts: self.posts,
            alerts: self.alerts,
            queries: self.queries,
            humans: self.humans,
            fallback: Arc::new(ConsoleHumans::stdout()),
            evaluator: Arc::new(Evaluator::pool(EVALUATORS)),
            catalog: self.catalog.clone(),
            metrics: self.metrics.clone(),
        })
        .await
        .map_err(|error| WiringError::Journal(format!("the journal cannot be read back: {error}")))?;
        let (teller, metrics, refused) = (app.clone(), self.metrics, AtomicBool::new(false));
        let reloader = reloader::spawn(
            config.rules.clone(),
            config.runbooks.clone(),
            (Offers::of(&config), config.groups.clone()),
            self.catalog,
            move |outcome| reloaded(outcome, &refused, &teller, &metrics),
        );
        let (stopping, stopped) = watch::channel(false);
        let heartbeat = self.heartbeat.map(|(client, url)| {
            let well = move || journal.health().is_ok();
            tokio::spawn(heartbeat::run(client, url, config.heartbeat.every.std(), well, stopped))
        });
        Ok(Running { app, reloader, heartbeat, stopping })
    }
}

impl Running {
    /// Last in, first out: nothing starts any more, what is in flight ends and is journalled.
    pub async fn stop(self) {
        self.stopping.send_replace(true);
        if let Some(heartbeat) = self.heartbeat {
            let _ = heartbeat.await;
        }
        self.reloader.stop().await;
        self.app.stop().await;
    }
}

/// The journal, once no other process has it.
async fn open(path: &Path, waiting: impl Fn(&str)) -> Result<SqliteJournal, WiringError> {
    let mut told = false;
    loop {
        let path = path.to_path_buf();
        let opened = tokio::task::spawn_blocking(move || SqliteJournal::open(path)).await;
        match opened.map_err(|error| WiringError::Journal(format!("opening the journal failed: {error}")))? {
            Ok(journal) => return Ok(journal),
            Err(error @ OpenError::Locked { .. }) => {
                if !told {
                    waiting(&error.to_string());
                    told = true;
                }
                tokio::time::sleep(LOCK_RETRY).await;
            }
            Err(error) => return Err(WiringError::Journal(error.to_string())),
        }
    }
}

/// Says so when the world goes on from what is remembered, and that is not what its file says: an edit of the file changes nothing any more.
fn compare(world: &SimCluster, file: &Path, log: &Path) {
    let (file_name, log) = (file.display(), log.display());
    match World::read(file).map(|start| world.differs_from(start)) {
        Ok(false) => {}
        Ok(true) => tracing::warn!(
            "the simulated world goes on as {log} has it, which is not what {file_name} says; to begin with the file, stop runbookd and remove {log}"
        ),
        Err(error) => tracing::warn!(%error, "the simulated world goes on as {log} has it"),
    }
}

/// Where the simulated world is kept: `runbookd.db.world`.
fn beside(journal: &Path) -> PathBuf {
    let mut name = journal.as_os_str().to_os_string();
    name.push(".world");
    name.into()
}

/// What became of changed files: into the log, the metrics, and (a refusal, and its end) to people, once per content.
fn reloaded(outcome: Outcome, refused: &AtomicBool, app: &App, metrics: &Metrics) {
    let is_refused = matches!(outcome, Outcome::Refused(_));
    if refused.swap(is_refused, Ordering::Relaxed) && !is_refused {
        app.tell_good_news("Rules and runbooks are valid again", "What is in force is what the files say.");
    }
    match outcome {
        Outcome::Swapped { rules, programs } => {
            metrics.reload_accepted(rules, programs);
            tracing::info!(rules, runbooks = programs, "changed rules and runbooks are in force");
            for warning in &app.parts.catalog.load().warnings {
                tracing::warn!(%warning, "found in rules or runbooks");
            }
            app.catalog_swapped();
        }
        Outcome::Unchanged => metrics.reload_unchanged(),
        Outcome::Refused(findings) => {
            metrics.reload_refused();
            let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
            let text = lines.join("\n");
            tracing::error!(
                findings = findings.len(),
                "rules or runbooks are not valid; the earlier set stays in force:\n{text}"
            );
            let digest = Sha256::digest(text.as_bytes());
            let key = format!("reload:{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3]);
            app.tell_operators(&key, "Changed rules or runbooks are not valid: the earlier set stays in force", &text);
        }
    }
}
