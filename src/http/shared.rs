//! What handlers share: the parts they read, and the application they hand commands to, once it runs.

use crate::app::App;
use crate::app::metrics::Metrics;
use crate::clock::Clock;
use crate::config::Config;
use crate::http::auth::Keys;
use crate::http::join::Gate;
use crate::http::problem::Problem;
use crate::model::mode::Mode;
use crate::ports::{Cluster, Journal};
use crate::runbook::catalog::Catalog;
use arc_swap::{ArcSwap, ArcSwapOption};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long an answer of the cluster to "are you there?" holds.
const PING_HOLDS: Duration = Duration::from_secs(5);
/// How long `/readyz` waits for one.
const PING_LIMIT: Duration = Duration::from_secs(2);

/// One value for all handlers. The server answers from the start; what needs the journal is refused until [`Shared::go_live`].
pub struct Shared {
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    pub body_limit: usize,
    /// A request must be whole, and a query answered, within this time.
    pub time_limit: Duration,
    pub keys: Keys,
    /// The ceiling for every rule.
    pub max_mode: Mode,
    /// Are the doors for Docker Flow stacks open?
    pub doors: bool,
    pub join: Gate,
    live: ArcSwapOption<Live>,
    /// While it is not live: what it waits for, in words.
    waiting: ArcSwap<String>,
    ping: Mutex<Option<(Instant, Result<(), String>)>>,
}

/// What there is once the journal is open.
pub struct Live {
    pub journal: Arc<dyn Journal>,
    pub cluster: Arc<dyn Cluster>,
    pub catalog: Arc<ArcSwap<Catalog>>,
    /// `None` where there is nobody to command: commands answer 503.
    pub app: Option<App>,
}

impl Shared {
    pub fn new(metrics: Arc<Metrics>, clock: Clock, config: &Config, keys: Keys) -> Self {
        let limits = &config.intake;
        Shared {
            metrics,
            clock,
            body_limit: usize::try_from(limits.body_limit_mib).unwrap_or(usize::MAX).saturating_mul(1 << 20),
            time_limit: limits.timeout.std(),
            keys,
            max_mode: config.max_mode,
            doors: config.doors.enabled,
            join: Gate::new(&config.join),
            live: ArcSwapOption::empty(),
            waiting: ArcSwap::from_pointee("starting".to_string()),
            ping: Mutex::new(None),
        }
    }

    /// From now on everything is answered.
    pub fn go_live(&self, live: Live) {
        self.live.store(Some(Arc::new(live)));
    }

    /// Not (any more) able to answer, for the reason given.
    pub fn wait_for(&self, what: impl Into<String>) {
        self.waiting.store(Arc::new(what.into()));
        self.live.store(None);
    }

    pub fn waiting_for(&self) -> Arc<String> {
        self.waiting.load_full()
    }

    pub fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    /// What a handler works with, or the 503 that says what is waited for.
    pub fn need_live(&self) -> Result<Arc<Live>, Problem> {
        self.live().ok_or_else(|| Problem::unavailable(format!("runbookd is not ready: {}", self.waiting_for())))
    }

    /// Tells the operators, once per key and hour. Nobody hears it while the application does not run: the metrics still count.
    pub fn tell_operators(&self, key: &str, title: &str, text: &str) {
        if let Some(app) = self.live().as_deref().and_then(|live| live.app.as_ref()) {
            app.tell_operators(key, title, text);
        }
    }

    /// The one message that does not go through the journal, because it cannot be written.
    pub fn tell_operators_directly(&self, text: &str) {
        if let Some(app) = self.live().as_deref().and_then(|live| live.app.as_ref()) {
            app.tell_operators_directly("journal", "runbookd cannot write its journal", text);
        }
    }

    /// Does the cluster answer? Asked at most every five seconds, however often `/readyz` is.
    pub async fn cluster_answers(&self, live: &Live) -> Result<(), String> {
        let mut last = self.ping.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < PING_HOLDS
        {
            return answer.clone();
        }
        let answer = match tokio::time::timeout(PING_LIMIT, live.cluster.ping()).await {
            Ok(answer) => answer.map_err(|error| error.message),
            Err(_) => Err(format!("no answer within {} s", PING_LIMIT.as_secs())),
        };
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

impl Live {
    /// The application, or the 503 of a server that has none.
    pub fn need_app(&self) -> Result<&App, Problem> {
        self.app.as_ref().ok_or_else(|| Problem::unavailable("this server carries no commands out"))
    }
}
