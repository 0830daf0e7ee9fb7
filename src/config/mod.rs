//! `runbookd.yaml`: every key, its default, and its reading from file and environment. Secrets come from files or the environment only.

pub mod guards;
pub mod read;
pub mod reload;
pub mod secret;
pub mod show;

use crate::model::duration::Duration;
use crate::model::join::JoinRole;
use crate::model::matcher::Matcher;
use crate::model::mode::Mode;
use crate::model::rule::AtOnce;
pub use guards::{ArbitrationConfig, BrakeConfig, BudgetsConfig, FreezeConfig};
pub use reload::ReloadTarget;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The whole configuration, effective. Every key can be set by the environment: `RUNBOOKD_` and the path in capitals, `RUNBOOKD_SLACK_CHANNEL`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the HTTP server listens.
    pub listen: String,
    /// A file with the bearer token that every request to the API must carry. Required unless `listen` is a loopback address.
    pub token_file: Option<PathBuf>,
    /// Accept that anybody who reaches `listen` may post alerts.
    pub insecure: bool,
    /// How people reach this server, for links in messages.
    pub external_url: Option<String>,
    pub rules: PathBuf,
    pub runbooks: PathBuf,
    pub cluster: ClusterKind,
    /// The simulator's start state.
    pub world: Option<PathBuf>,
    pub journal: JournalConfig,
    pub docker: DockerConfig,
    pub alertmanager: AlertmanagerConfig,
    pub prometheus: PrometheusConfig,
    pub slack: SlackConfig,
    pub heartbeat: HeartbeatConfig,
    pub watchdog: WatchdogConfig,
    pub intake: IntakeConfig,
    pub hooks: HooksConfig,
    pub doors: DoorsConfig,
    pub incidents: IncidentsConfig,
    pub runs: RunsConfig,
    pub bounds: BoundsConfig,
    /// How far any rule may go by itself, whatever it says: `shadow`, `approve`, `earned` or `auto`.
    pub max_mode: Mode,
    /// Groups of people, for the rules' `approve.by`: the names that they give with `--by`.
    pub groups: BTreeMap<String, Vec<String>>,
    pub budgets: BudgetsConfig,
    pub brake: BrakeConfig,
    pub arbitration: ArbitrationConfig,
    pub freezes: BTreeMap<String, FreezeConfig>,
    pub reload: BTreeMap<String, ReloadTarget>,
    pub http_targets: BTreeMap<String, HttpTarget>,
    pub node_groups: BTreeMap<String, NodeGroupConfig>,
    pub join: JoinConfig,
    pub log: LogConfig,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterKind {
    Docker,
    Sim,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// `sqlite://PATH`.
    pub url: String,
    /// How long closed incidents and their runs are kept.
    pub keep: Duration,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DockerConfig {
    /// `unix:///var/run/docker.sock` or `tcp://host:2376`.
    pub host: String,
    /// For TCP with TLS: the directory with `ca.pem`, `cert.pem`, `key.pem`.
    pub tls_dir: Option<PathBuf>,
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertmanagerConfig {
    /// For reconciliation: `http://alertmanager:9093`.
    pub url: Option<String>,
    pub token_file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PrometheusConfig {
    /// For `promql`: `http://prometheus:9090`.
    pub url: Option<String>,
    pub token_file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlackConfig {
    /// A file with a bot token (`xoxb-…`), for `chat.postMessage`. Or the environment: `RUNBOOKD_SLACK_TOKEN`.
    pub token_file: Option<PathBuf>,
    /// A file with an incoming-webhook URL (no threads, no updates). Or the environment: `RUNBOOKD_SLACK_WEBHOOK_URL`.
    pub webhook_url_file: Option<PathBuf>,
    /// Where messages go when the rule names no channel.
    pub channel: String,
    pub api_url: String,
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeartbeatConfig {
    /// Fetched (GET) while everything is well, so that somebody else notices when it stops.
    pub url_file: Option<PathBuf>,
    pub every: Duration,
}

/// An alert that always fires, so that its silence tells that no alert arrives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchdogConfig {
    /// Matchers in Alertmanager's syntax, as a rule's. Without any, none is expected.
    #[serde(rename = "match")]
    pub matchers: Vec<String>,
    /// A post of it must come this often: longer than the `repeat_interval` of its route.
    pub every: Duration,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntakeConfig {
    pub body_limit_mib: u32,
    /// A request must be whole within this time.
    pub timeout: Duration,
}

/// Who may post what is to be deployed.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HooksConfig {
    /// A file with a bearer token that opens the hooks and nothing else. Or the environment: `RUNBOOKD_HOOKS_TOKEN`.
    pub token_file: Option<PathBuf>,
    /// A file with the secret that GitHub signs its deliveries with. Or the environment: `RUNBOOKD_GITHUB_SECRET`.
    pub github_secret_file: Option<PathBuf>,
}

/// The addresses of Docker Flow's programs and of the Jenkins jobs that ran beside them.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DoorsConfig {
    pub enabled: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IncidentsConfig {
    pub flap_window: Duration,
    /// Flaps after which an incident escalates instead of trying again.
    pub flaps: u32,
    /// So many attempts of a rule in a row that did not help open its breaker; 0: none do. A rule's own `guards.breaker` beats it.
    pub breaker: u32,
    /// Without `alertmanager.url`: an open incident unseen for this long escalates as stale.
    pub stale_after: Duration,
    pub reconcile_every: Duration,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunsConfig {
    /// How often a `wait_until` or `wait_healthy` looks.
    pub poll_every: Duration,
    /// After a longer downtime a run is not continued.
    pub resume_within: Duration,
    /// A run that takes longer in all is failed.
    pub time_limit: Duration,
    pub max_steps: u32,
}

/// Bounds for the whole engine; a rule and a service's own `com.df.scaleMin` / `com.df.scaleMax` can only make them narrower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BoundsConfig {
    pub replicas_min: u64,
    pub replicas_max: u64,
    pub at_once: AtOnce,
}

/// A target of `http_post`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTarget {
    pub url: String,
    /// A file with a bearer token for it.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    #[serde(default)]
    pub timeout: Option<Duration>,
}

/// A group of machines: who makes them. With `cluster: sim` the groups are the world's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeGroupConfig {
    Aws(AwsGroupConfig),
    Command(CommandGroupConfig),
}

/// An AWS auto-scaling group. The credentials are those of the environment or of the instance, never of this file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsGroupConfig {
    pub auto_scaling_group: String,
    /// Without it: `AWS_REGION`, the profile, or the instance's own.
    #[serde(default)]
    pub region: Option<String>,
    /// Somewhere else than AWS: for tests, and for what speaks its API.
    #[serde(default)]
    pub endpoint_url: Option<String>,
    /// Bounds narrower than the group's own MinSize and MaxSize.
    #[serde(default)]
    pub min: Option<u64>,
    #[serde(default)]
    pub max: Option<u64>,
}

/// Any other provider: a program and its arguments for each call, started without a shell. `{group} {desired} {instance} {node}` are put in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandGroupConfig {
    /// Prints the group as JSON.
    pub describe: Vec<String>,
    /// Sets the number of machines.
    pub resize: Vec<String>,
    /// Ends one machine, and lowers the number with it.
    pub terminate: Vec<String>,
    #[serde(default)]
    pub timeout: Option<Duration>,
    pub min: u64,
    pub max: u64,
}

/// How new machines get what they need to join the Swarm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JoinConfig {
    /// A file with the bearer token of `/api/v1/nodes/join`, which is no other. Or the environment: `RUNBOOKD_JOIN_TOKEN`. Without it nobody joins that way.
    pub token_file: Option<PathBuf>,
    /// As what the token lets a machine join at most.
    pub role: JoinRole,
    /// How many answers there are in a minute.
    pub per_minute: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    pub format: LogFormat,
    /// As in `RUST_LOG`: `info`, `runbookd=debug` …
    pub level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: "127.0.0.1:9095".into(),
            token_file: None,
            insecure: false,
            external_url: None,
            rules: "rules".into(),
            runbooks: "runbooks".into(),
            cluster: ClusterKind::Docker,
            world: None,
            journal: JournalConfig::default(),
            docker: DockerConfig::default(),
            alertmanager: AlertmanagerConfig::default(),
            prometheus: PrometheusConfig::default(),
            slack: SlackConfig::default(),
            heartbeat: HeartbeatConfig::default(),
            watchdog: WatchdogConfig::default(),
            intake: IntakeConfig::default(),
            hooks: HooksConfig::default(),
            doors: DoorsConfig::default(),
            incidents: IncidentsConfig::default(),
            runs: RunsConfig::default(),
            bounds: BoundsConfig::default(),
            max_mode: Mode::Auto,
            groups: BTreeMap::new(),
            budgets: BudgetsConfig::default(),
            brake: BrakeConfig::default(),
            arbitration: ArbitrationConfig::default(),
            freezes: BTreeMap::new(),
            reload: BTreeMap::new(),
            http_targets: BTreeMap::new(),
            node_groups: BTreeMap::new(),
            join: JoinConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Default for JournalConfig {
    fn default() -> Self {
        JournalConfig { url: "sqlite://runbookd.db".into(), keep: Duration::from_secs(90 * 24 * 3600) }
    }
}

impl Default for DockerConfig {
    fn default() -> Self {
        DockerConfig { host: "unix:///var/run/docker.sock".into(), tls_dir: None, timeout: Duration::from_secs(10) }
    }
}

impl Default for SlackConfig {
    fn default() -> Self {
        SlackConfig {
            token_file: None,
            webhook_url_file: None,
            channel: "#alerts".into(),
            api_url: "https://slack.com/api".into(),
            timeout: Duration::from_secs(10),
        }
    }
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        HeartbeatConfig { url_file: None, every: Duration::from_secs(60) }
    }
}

impl Default for WatchdogConfig {
    fn default() -> Self {
        WatchdogConfig { matchers: Vec::new(), every: Duration::from_secs(300) }
    }
}

impl WatchdogConfig {
    /// The matchers, or what is wrong with the first that cannot be read.
    pub fn parsed(&self) -> Result<Vec<Matcher>, String> {
        let read = |text: &String| Matcher::parse(text).map_err(|error| format!("watchdog.match: {text:?}: {error}"));
        self.matchers.iter().map(read).collect()
    }
}

impl Default for IntakeConfig {
    fn default() -> Self {
        IntakeConfig { body_limit_mib: 32, timeout: Duration::from_secs(10) }
    }
}

impl Default for IncidentsConfig {
    fn default() -> Self {
        IncidentsConfig {
            flap_window: Duration::from_secs(900),
            flaps: 3,
            breaker: 5,
            stale_after: Duration::from_secs(12 * 3600),
            reconcile_every: Duration::from_secs(60),
        }
    }
}

impl Default for RunsConfig {
    fn default() -> Self {
        RunsConfig {
            poll_every: Duration::from_secs(2),
            resume_within: Duration::from_secs(900),
            time_limit: Duration::from_secs(24 * 3600),
            max_steps: 1_000,
        }
    }
}

impl Default for BoundsConfig {
    fn default() -> Self {
        BoundsConfig { replicas_min: 1, replicas_max: 100, at_once: AtOnce::default() }
    }
}

impl Default for JoinConfig {
    fn default() -> Self {
        JoinConfig { token_file: None, role: JoinRole::Worker, per_minute: 10 }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { format: LogFormat::Text, level: "info".into() }
    }
}
