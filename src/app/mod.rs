//! The running application: a dispatcher that decides, executors that carry out, an outbox that tells people.

pub mod board;
pub mod dispatcher;
pub mod executor;
pub mod heartbeat;
pub mod metrics;
pub mod outbox;
mod reconciler;
pub mod reloader;
pub mod report;
mod scheduler;
pub mod stops;
pub mod undo;
pub mod watch;
mod watcher;
pub mod wiring;

use crate::clock::Clock;
use crate::config::Config;
use crate::model::duration::Duration;
use crate::model::effectiveness::Effectiveness;
use crate::model::freeze::{Freeze, FreezeId, Scope};
use crate::model::incident::{Incident, IncidentId};
use crate::model::run::RunId;
use crate::ports::{Alerts, Cluster, Humans, Journal, JournalError, NodeGroups, Posts, Queries, Reload};
use crate::runbook::catalog::Catalog;
use crate::runbook::evaluate::Evaluator;
use arc_swap::ArcSwap;
use board::Board;
use dispatcher::{Dispatcher, Input};
use executor::Executor;
use outbox::{Delivery, Outbox, OutboxParts};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
pub use stops::{Braked, Paused, Stops};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

/// How far back the journal is read at start at least: a rule that comes into force later may ask for what was before.
const LOOK_BACK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Everything the application is given.
pub struct Parts {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub journal: Arc<dyn Journal>,
    pub cluster: Arc<dyn Cluster>,
    pub groups: Arc<dyn NodeGroups>,
    pub reload: Arc<dyn Reload>,
    pub posts: Arc<dyn Posts>,
    pub alerts: Option<Arc<dyn Alerts>>,
    /// Prometheus, if there is one to ask.
    pub queries: Option<Arc<dyn Queries>>,
    pub humans: Arc<dyn Humans>,
    /// Where a message goes that `humans` refuses for good.
    pub fallback: Arc<dyn Humans>,
    pub evaluator: Arc<Evaluator>,
    pub catalog: Arc<ArcSwap<Catalog>>,
    pub metrics: Arc<metrics::Metrics>,
}

/// A handle to the running application: what HTTP handlers use.
#[derive(Clone)]
pub struct App {
    pub parts: Arc<Parts>,
    inbox: mpsc::UnboundedSender<Input>,
    stops: tokio::sync::watch::Receiver<Stops>,
    effectiveness: tokio::sync::watch::Receiver<Kept>,
    outbox: Arc<Outbox>,
    executor: Arc<Executor>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
    dispatcher: Arc<Mutex<Option<JoinHandle<()>>>>,
    /// When each unjournalled message was last sent.
    direct: Arc<Mutex<HashMap<String, jiff::Timestamp>>>,
}

/// What the attempts of each rule came to, by its name.
pub type Kept = Arc<BTreeMap<String, Arc<Effectiveness>>>;

/// Why a person's command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("there is no open incident {0}")]
    NotFound(IncidentId),
    #[error("there is no run {0}")]
    NoRun(RunId),
    #[error("{0}")]
    NoFreeze(String),
    #[error("{0}")]
    NoRule(String),
    #[error("{0}")]
    Conflict(String),
    /// What it needs to know could not be asked.
    #[error("{0}")]
    Unavailable(String),
    #[error("runbookd is shutting down")]
    Stopping,
}

impl App {
    /// Recovers from the journal and starts. Returns when the dispatcher is running.
    pub async fn start(parts: Parts) -> Result<App, JournalError> {
        let parts = Arc::new(parts);
        let now = parts.clock.now();
        let found = parts.journal.recover(now - look_back(&parts).signed()).await?;
        let left_behind = found.last_message;
        let catalog = parts.catalog.load_full();
        let mut board = Board::new(parts.config.clone(), catalog, parts.metrics.clone(), parts.alerts.is_some());
        if let Some(services) = watcher::at_start(&parts).await {
            board.saw_updating(services, now);
        }
        board.recover(found, now);
        // Before any run goes on: what of this still fires?
        catch_up(&parts, &mut board).await;

        let seen = board.seen().clone();
        let (inbox, inputs) = mpsc::unbounded_channel();
        let (stops_tx, stops) = tokio::sync::watch::channel(board.stops().clone());
        let (kept, effectiveness) = tokio::sync::watch::channel(Arc::new(board.effectiveness().clone()));
        let executor = Executor::new(parts.clone(), inbox.clone(), stops.clone());
        let outbox = Arc::new(outbox::spawn(outbox_parts(&parts, left_behind)));
        let reconcile = Arc::new(Notify::new());
        let mut tasks =
            vec![tokio::spawn(executor.clone().wake_sleepers()), tokio::spawn(executor.clone().sweep_jobs())];
        if let Some(alerts) = parts.alerts.clone() {
            tasks.push(tokio::spawn(reconciler::run(parts.clone(), alerts, inbox.clone(), reconcile.clone())));
        }
        tasks.push(tokio::spawn(watcher::run(parts.clone(), seen.clone(), inbox.clone())));
        tasks.push(tokio::spawn(scheduler::run(parts.clone(), seen)));
        tasks.push(tokio::spawn(prune(parts.clone())));
        if let Clock::System = parts.clock {
            // A simulation's half minute is over in no time.
        }
        let dispatcher = Dispatcher {
            parts: parts.clone(),
            board,
            inbox: inputs,
            executor: executor.clone(),
            outbox: outbox.clone(),
            reconcile,
            stops: stops_tx,
            effectiveness: kept,
            answers: Vec::new(),
        };
        let dispatcher = tokio::spawn(async move {
            if let Err(error) = tokio::spawn(dispatcher.run()).await
                && error.is_panic()
            {
                // Nobody else may change the board, and posts must not be taken that nothing will handle: whoever supervises the process starts
                // it again, and it goes on from the journal.
                tracing::error!(%error, "the dispatcher failed; the process ends");
                std::process::exit(70);
            }
        });
        Ok(App {
            parts,
            inbox,
            stops,
            effectiveness,
            outbox,
            executor,
            tasks: Arc::new(Mutex::new(tasks)),
            dispatcher: Arc::new(Mutex::new(Some(dispatcher))),
            direct: Arc::default(),
        })
    }

    /// Stops starting anything, lets calls in flight end and be journalled, commits, and returns.
    pub async fn stop(&self) {
        self.executor.stop().await;
        // Behind whatever the executors told it last.
        let _ = self.inbox.send(Input::Stop);
        let dispatcher = self.dispatcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(dispatcher) = dispatcher {
            let _ = dispatcher.await;
        }
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        self.outbox.stop().await;
        // A journal that cannot write must not keep the process from ending: what is not durable is done again.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(5), self.parts.journal.commit()).await;
    }

    pub async fn ack(&self, id: IncidentId, by: &str) -> Result<Incident, CommandError> {
        let by = by.to_string();
        self.ask(|answer| Input::Ack { id, by, answer }).await?
    }

    pub async fn close(&self, id: IncidentId, by: &str, reason: &str) -> Result<Incident, CommandError> {
        let (by, reason) = (by.to_string(), reason.to_string());
        self.ask(|answer| Input::Close { id, by, reason, answer }).await?
    }

    /// A person's word on what is asked about an incident.
    pub async fn reply(&self, id: IncidentId, by: &str, reply: board::Reply) -> Result<Incident, CommandError> {
        let by = by.to_string();
        self.ask(|answer| Input::Reply { id, by, reply, answer }).await?
    }

    /// A person decides whether a rule of `mode: earned` runs by itself.
    pub async fn set_trust(
        &self,
        rule: &str,
        trusted: bool,
        by: &str,
        why: &str,
    ) -> Result<board::Trust, CommandError> {
        let (rule, by, why) = (rule.to_string(), by.to_string(), why.to_string());
        self.ask(|answer| Input::SetTrust { rule, trusted, by, why, answer }).await?
    }

    /// What the rules of `mode: earned` have earned so far.
    pub async fn trust(&self) -> Result<std::collections::BTreeMap<String, board::Trust>, CommandError> {
        let (answer, told) = oneshot::channel();
        self.inbox.send(Input::Trust { answer }).map_err(|_| CommandError::Stopping)?;
        told.await.map_err(|_| CommandError::Stopping)
    }

    /// Pulls the kill switch. When it returns, the switch is durable.
    pub async fn pause(&self, by: &str, reason: &str) -> Result<Paused, CommandError> {
        let (by, reason) = (by.to_string(), reason.to_string());
        self.ask(|answer| Input::Pause { by, reason, answer }).await
    }

    pub async fn resume(&self, by: &str) -> Result<(), CommandError> {
        let by = by.to_string();
        self.ask(|answer| Input::Resume { by, answer }).await?
    }

    /// Releases the fleet brake. When it returns, that is durable.
    pub async fn release(&self, by: &str) -> Result<(), CommandError> {
        let by = by.to_string();
        self.ask(|answer| Input::Release { by, answer }).await?
    }

    /// Makes a freeze for once. When it returns, the freeze is durable.
    pub async fn freeze(
        &self,
        scope: Scope,
        until: jiff::Timestamp,
        by: &str,
        reason: &str,
    ) -> Result<Freeze, CommandError> {
        let (by, reason) = (by.to_string(), reason.to_string());
        self.ask(|answer| Input::Freeze { scope, until, by, reason, answer }).await?
    }

    pub async fn unfreeze(&self, id: FreezeId, by: &str) -> Result<Freeze, CommandError> {
        let by = by.to_string();
        self.ask(|answer| Input::Unfreeze { id, by, answer }).await?
    }

    /// Sends a command and waits until it is decided and durable.
    async fn ask<T>(&self, input: impl FnOnce(oneshot::Sender<T>) -> Input) -> Result<T, CommandError> {
        let (answer, told) = oneshot::channel();
        self.inbox.send(input(answer)).map_err(|_| CommandError::Stopping)?;
        let said = told.await.map_err(|_| CommandError::Stopping)?;
        // The dispatcher answers when it has staged: durable is what remains.
        self.parts.journal.commit().await.map_err(|error| CommandError::Conflict(error.to_string()))?;
        Ok(said)
    }

    /// What stops effects now.
    pub fn stops(&self) -> Stops {
        self.stops.borrow().clone()
    }

    /// A person closes the breaker of a rule, having looked at why it opened.
    pub async fn close_breaker(&self, rule: &str, by: &str, reason: &str) -> Result<(), CommandError> {
        let (rule, by, reason) = (rule.to_string(), by.to_string(), reason.to_string());
        self.ask(|answer| Input::CloseBreaker { rule, by, reason, answer }).await?
    }

    /// What the attempts of each rule came to.
    pub fn effectiveness(&self) -> Kept {
        self.effectiveness.borrow().clone()
    }

    /// A new catalog is in force: unmatched incidents are routed again.
    pub fn catalog_swapped(&self) {
        let _ = self.inbox.send(Input::CatalogSwapped);
    }

    /// News for the operators, once per `key` and hour: a bad file, a refused post. Goes through the outbox.
    pub fn tell_operators(&self, key: &str, title: &str, text: &str) {
        let _ = self.inbox.send(Input::TellOperators { key: key.into(), title: title.into(), text: text.into() });
    }

    /// What the operators were told of is over.
    pub fn tell_good_news(&self, title: &str, text: &str) {
        let _ = self.inbox.send(Input::GoodNews { title: title.into(), text: text.into() });
    }

    /// For when the journal itself cannot be written: one message straight to people, past the outbox and without a record, once per `key` and
    /// hour. Called for every refused post, so it returns at once and sends beside the caller.
    pub fn tell_operators_directly(&self, key: &str, title: &str, text: &str) {
        let now = self.parts.clock.now();
        let mut sent = self.direct.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.get(key).is_some_and(|at| now.duration_since(*at) < jiff::SignedDuration::from_hours(1)) {
            return;
        }
        sent.insert(key.to_string(), now);
        let message = report::operators(title, text, now);
        let outbox = self.outbox.clone();
        tokio::spawn(async move {
            if let Err(error) = outbox.direct(&message).await {
                tracing::error!(%error, "people could not be told that the journal cannot be written");
            }
        });
    }
}

/// How far back a cooldown or budget in force asks.
fn look_back(parts: &Parts) -> Duration {
    let budgets = &parts.config.budgets;
    let catalog = parts.catalog.load();
    let of_rules = catalog.rules.iter().flat_map(|rule| {
        let budgets = [rule.budget, rule.target_budget].map(|budget| budget.map(|budget| budget.per));
        budgets.into_iter().chain([rule.cooldown]).flatten()
    });
    let brake = &parts.config.brake;
    let of_config =
        [budgets.target, budgets.engine, brake.targets, brake.effects].into_iter().flatten().map(|budget| budget.per);
    of_rules.chain(of_config).fold(LOOK_BACK, Duration::max)
}

/// Handles what was journalled before the last end and not reflected, then asks Alertmanager (if it can be asked) what still fires.
async fn catch_up(parts: &Parts, board: &mut Board) {
    while let Ok(posts) = parts.journal.intake_after(board.handled(), 256).await {
        if posts.is_empty() {
            break;
        }
        for post in posts {
            board.take_post(&post, parts.clock.now());
        }
        // A long backlog is not held in memory; runs start when the dispatcher does.
        parts.journal.stage(board.take_writes());
    }
    if let Some(alerts) = &parts.alerts {
        let asked = parts.clock.now();
        match tokio::time::timeout(reconciler::AT_START, alerts.alerts()).await {
            Ok(Ok(known)) => board.reconciled(asked, &known, parts.clock.now()),
            Ok(Err(error)) => board.not_reconciled(&error.message, parts.clock.now()),
            Err(_) => board.not_reconciled("it did not answer in time", parts.clock.now()),
        }
    }
}

fn outbox_parts(parts: &Arc<Parts>, left_behind: u64) -> OutboxParts {
    let metrics = parts.metrics.clone();
    OutboxParts {
        journal: parts.journal.clone(),
        humans: parts.humans.clone(),
        fallback: parts.fallback.clone(),
        clock: parts.clock,
        left_behind,
        observe: Box::new(move |delivery| {
            metrics.message(match delivery {
                Delivery::Sent => "sent",
                Delivery::Failed(_) => "retried",
                Delivery::Unsendable(_) => "unsendable",
            });
        }),
    }
}

/// Retention: once an hour what closed longer ago than `journal.keep` is deleted.
async fn prune(parts: Arc<Parts>) {
    let mut hourly = tokio::time::interval(std::time::Duration::from_secs(3600));
    loop {
        hourly.tick().await;
        let before = parts.clock.now() - parts.config.journal.keep.signed();
        match parts.journal.prune(before).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, %before, "deleted from the journal what was older than journal.keep"),
            Err(error) => tracing::warn!(%error, "cannot prune the journal; trying again in an hour"),
        }
    }
}
