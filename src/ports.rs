//! The traits that adapters implement. Each has at least two implementations; everything that leaves the process goes through one of them.

use crate::model::alert::{Alert, Level};
use crate::model::cluster::{Convergence, JobIntent, JobState, Node, NodeIntent, Service, ServiceIntent, Task};
use crate::model::effect::Effect;
use crate::model::incident::{Incident, IncidentId, State, Transition};
use crate::model::join::{JoinRole, JoinToken};
use crate::model::label::Labels;
use crate::model::message::{Message, MessageId, ThreadRef};
use crate::model::node_group::{GroupIntent, NodeGroup};
use crate::model::payload::Group;
use crate::model::run::{ProgramHash, Run, RunId, Sources};
use crate::model::silence::SilenceIntent;
use crate::model::step::Step;
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// An error of something outside. Branch on `kind`; count by `reason`; show `message`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    pub kind: ErrorKind,
    pub reason: ErrorReason,
    /// A sentence: what was attempted, what came back, what to do. Never a secret or a body.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// It did not happen and may work later.
    Transient,
    /// It did not happen and will not.
    Permanent,
    /// It may have happened: a time-out or a broken connection after sending.
    Unknown,
}

/// A closed set: it is also a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorReason {
    NotFound,
    /// Another hand was faster: the version index has moved on.
    Conflict,
    Invalid,
    Unauthorized,
    Throttled,
    Unreachable,
    Timeout,
    Refused,
    Other,
}

impl ErrorReason {
    pub fn name(self) -> &'static str {
        match self {
            ErrorReason::NotFound => "not_found",
            ErrorReason::Conflict => "conflict",
            ErrorReason::Invalid => "invalid",
            ErrorReason::Unauthorized => "unauthorized",
            ErrorReason::Throttled => "throttled",
            ErrorReason::Unreachable => "unreachable",
            ErrorReason::Timeout => "timeout",
            ErrorReason::Refused => "refused",
            ErrorReason::Other => "other",
        }
    }
}

impl PortError {
    pub fn new(kind: ErrorKind, reason: ErrorReason, message: impl Into<String>) -> Self {
        PortError { kind, reason, message: message.into() }
    }
    pub fn transient(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Transient, reason, message)
    }
    pub fn permanent(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Permanent, reason, message)
    }
    pub fn unknown(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unknown, reason, message)
    }
}

/// The cluster: Docker Swarm, or the simulator.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// All services.
    async fn services(&self) -> Result<Vec<Service>, PortError>;
    /// One service by its name; `NotFound` (permanent) when there is none.
    async fn service(&self, name: &str) -> Result<Service, PortError>;
    /// The tasks of a service by its name, newest first, shut-down ones included.
    async fn tasks(&self, service: &str) -> Result<Vec<Task>, PortError>;
    /// The tasks of all services that are meant to run.
    async fn live_tasks(&self) -> Result<Vec<Task>, PortError> {
        let mut live = Vec::new();
        for service in self.services().await? {
            let tasks = self.tasks(&service.name).await?;
            live.extend(
                tasks.into_iter().filter(|task| matches!(&*task.desired_state, "running" | "ready" | "accepted")),
            );
        }
        Ok(live)
    }
    async fn nodes(&self) -> Result<Vec<Node>, PortError>;
    /// Applies one change at the version it was decided on, and labels the service `runbookd.step=<step>` in the same update (a rollback cannot).
    /// Returns when the cluster has accepted it. `Conflict` (transient) when the version has moved on.
    async fn apply(&self, intent: &ServiceIntent, step: &str) -> Result<(), PortError>;
    /// Changes one node at the version it was decided on; `Conflict` (transient) when the version has moved on, `NotFound` when it is gone.
    async fn apply_node(&self, intent: &NodeIntent) -> Result<(), PortError>;
    /// Starts a job, labelled with its step. One that is there already by that name is the same job: nothing more is done.
    async fn start_job(&self, job: &JobIntent, step: &str) -> Result<(), PortError>;
    /// How far a job has got; `NotFound` when there is none by that name.
    async fn job(&self, name: &str) -> Result<JobState, PortError>;
    /// The names of all jobs that there are of runbookd, at work or ended.
    async fn jobs(&self) -> Result<Vec<String>, PortError>;
    /// Removes a job, at work or not. One that is not there is removed.
    async fn remove_job(&self, name: &str) -> Result<(), PortError>;
    /// How far the last change of a service has got.
    async fn convergence(&self, service: &str) -> Result<Convergence, PortError>;
    /// Notifies `changed` whenever the cluster says that something happened, until it stops saying so. It may lose much: whoever listens compares.
    async fn listen(&self, changed: &tokio::sync::Notify) -> Result<(), PortError>;
    /// What a new machine needs to join as this role. It holds a secret: it goes into one answer and nowhere else.
    async fn join_token(&self, role: JoinRole) -> Result<JoinToken, PortError>;
    /// Can the cluster be reached and answer for a Swarm? What `/readyz` asks.
    async fn ping(&self) -> Result<(), PortError>;
}

/// The service label that says whose change the last one was.
pub const STEP_LABEL: &str = "runbookd.step";

/// Groups of machines, named in the config: AWS auto-scaling groups, a provider behind commands, or the simulator.
#[async_trait]
pub trait NodeGroups: Send + Sync {
    /// The names there are, for `check` and for errors.
    fn names(&self) -> Vec<String>;
    /// One group as it is now; `NotFound` (permanent) names the known ones, with the nearest.
    async fn group(&self, name: &str) -> Result<NodeGroup, PortError>;
    /// Makes one change. Returns when the provider has accepted it. Applying the same intent twice changes nothing more.
    async fn apply(&self, intent: &GroupIntent) -> Result<(), PortError>;
}

/// What a reload came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    Done,
    /// All was as it should be: nothing was sent.
    Unchanged,
}

/// Reload targets, named in the config.
#[async_trait]
pub trait Reload: Send + Sync {
    /// Safe to repeat. `service`: the one that it is about, for a target that takes one; `Invalid` (permanent) when the target does not.
    async fn reload(&self, target: &str, service: Option<&str>) -> Result<Reloaded, PortError>;
    /// The names there are, for `check` and for errors.
    fn targets(&self) -> Vec<String>;
}

/// Alertmanager's API: what really fires now.
#[async_trait]
pub trait Alerts: Send + Sync {
    async fn alerts(&self) -> Result<Vec<KnownAlert>, PortError>;
    /// Makes a silence. Asked for twice, it makes two: ask [`Alerts::silenced`] first.
    async fn silence(&self, intent: &SilenceIntent) -> Result<(), PortError>;
    /// Is there a silence, ended or not, whose comment has this key?
    async fn silenced(&self, key: &str) -> Result<bool, PortError>;
}

/// Prometheus' query API.
#[async_trait]
pub trait Queries: Send + Sync {
    /// An instant query. A number alone is one sample without labels.
    async fn query(&self, expr: &str) -> Result<Vec<Sample>, PortError>;
}

/// One element of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: Labels,
    /// May be infinite or no number at all, as Prometheus' may.
    pub value: f64,
}

/// Targets of `http_post`, named in the config.
#[async_trait]
pub trait Posts: Send + Sync {
    /// Posts JSON. Any answer is an answer, whatever its status; an error says that none came.
    async fn post(&self, target: &str, body: &serde_json::Value) -> Result<PostAnswer, PortError>;
    fn targets(&self) -> Vec<String>;
}

/// What a target of `http_post` answered.
#[derive(Clone, Debug, PartialEq)]
pub struct PostAnswer {
    pub status: u16,
    /// Bounded; text.
    pub body: String,
}

/// One alert as Alertmanager's API tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownAlert {
    pub alert: Alert,
    /// Silenced or inhibited.
    pub suppressed: bool,
    /// Plain names, not escaped.
    pub receivers: Vec<String>,
}

/// A channel to people: Slack, or the console.
#[async_trait]
pub trait Humans: Send + Sync {
    /// Delivers one message. `thread` is the root of the incident's thread, if one was posted.
    /// Returns the new root when this message became one.
    async fn deliver(&self, message: &Message, thread: Option<&ThreadRef>) -> Result<Option<ThreadRef>, DeliverError>;
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{error}")]
pub struct DeliverError {
    pub error: PortError,
    /// `Retry-After` of the answer.
    pub retry_after: Option<std::time::Duration>,
}

/// A journal could not write or read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct JournalError(pub Arc<str>);

/// Resolves when what it stands for is durable.
pub type Ticket<T> = BoxFuture<'static, Result<T, JournalError>>;

/// One post, on its way into the journal.
#[derive(Clone, Debug)]
pub struct NewIntake {
    pub received_at: Timestamp,
    /// `alertmanager`, `rejected` (a 400, 401 or 413, to be escalated), `join` (a machine asked to join).
    pub source: Cow<'static, str>,
    /// What was posted, to the byte.
    pub body: Arc<[u8]>,
    /// `body`, decoded, so that it need not be decoded twice; not stored. `None` for sources that carry no group.
    pub group: Option<Arc<Group>>,
}

/// One post, journalled.
#[derive(Clone, Debug)]
pub struct Intake {
    /// Counts up in commit order, without gaps that matter.
    pub id: u64,
    pub post: NewIntake,
}

/// One change of state, written in order. Several staged together are one transaction.
#[derive(Clone, Debug)]
pub enum Write {
    /// Every intake up to and including this one is reflected in what was written up to here.
    Handled(u64),
    Level(Box<Level>),
    /// Nothing needs this fingerprint's level any more.
    ForgetLevel(crate::model::alert::Fingerprint),
    /// What a rehearsal saw before it was cut off: it begins anew.
    ForgetSteps(RunId),
    Incident(Box<Incident>),
    Transition(Transition),
    Run(Box<Run>),
    Step(Box<Step>),
    /// Pins a program; known hashes are ignored.
    Program(ProgramHash, Arc<Sources>),
    /// Into the outbox.
    Message(MessageId, Box<Message>),
    /// Out of the outbox: sent, with the new root of its incident's thread if it became one.
    Sent {
        id: MessageId,
        at: Timestamp,
        thread: Option<(IncidentId, ThreadRef)>,
    },
    /// Out of the outbox: will never be sent, with the reason. Logged and counted by the caller.
    Unsendable {
        id: MessageId,
        at: Timestamp,
        why: String,
    },
    /// A named value that outlives the process: `paused` …; `None` deletes.
    Setting(Cow<'static, str>, Option<String>),
}

/// What a journal holds when it is opened: all that is not finished.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Intakes up to this id are reflected in the rest; later ones are to be handled.
    pub handled: u64,
    pub levels: Vec<Level>,
    /// Incidents that are not closed, and those closed after `since` (flap window, cooldowns).
    pub incidents: Vec<Incident>,
    /// Runs that have not ended, and those started after `since` (budgets, cooldowns).
    pub runs: Vec<Run>,
    /// For each (rule, incident key): when a step of one of its runs last had an effect, after `since`.
    pub last_effects: Vec<LastEffect>,
    /// Every effect after `since`, in order of time (budgets, the fleet brake).
    pub effects: Vec<Effect>,
    pub settings: Vec<(String, String)>,
    /// The highest ids given so far.
    pub last_incident: u64,
    pub last_run: u64,
    pub last_message: u64,
}

/// A step with an effect (applied, absolute or reload), the newest of its rule and key.
#[derive(Clone, Debug, PartialEq)]
pub struct LastEffect {
    pub rule: String,
    pub key: String,
    pub at: Timestamp,
    pub what: String,
}

/// A message in the outbox.
#[derive(Clone, Debug)]
pub struct Pending {
    pub id: MessageId,
    pub message: Message,
}

/// What to list of incidents.
#[derive(Clone, Debug, Default)]
pub struct IncidentFilter {
    pub states: Vec<State>,
    /// `name=value` pairs that the incident's labels must have.
    pub labels: Vec<(String, String)>,
    pub opened_after: Option<Timestamp>,
    pub opened_before: Option<Timestamp>,
    /// Only ids below this one (newest first): the cursor of the next page.
    pub before: Option<IncidentId>,
    pub limit: usize,
}

/// What to list of runs; newest first.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    pub incident: Option<IncidentId>,
    pub before: Option<RunId>,
    pub limit: usize,
}

/// The journal: everything that happened. One writer; what is staged is written in order, and `commit` waits until it is durable.
///
/// `stage` never fails: a journal that cannot write keeps what is staged and tries again, `intake` is refused meanwhile, `health` says why, and no
/// ticket of `commit` resolves (so no effect starts) until it can.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Journals a post. Resolves with its id once it is durable; an error means that it is not stored.
    fn intake(&self, post: NewIntake) -> Ticket<u64>;
    /// Posts with an id above `after`, in order, at most `limit`; empty when there are none yet.
    async fn intake_after(&self, after: u64, limit: usize) -> Result<Vec<Intake>, JournalError>;
    /// The highest committed intake id; changes wake whoever watches.
    fn intakes(&self) -> tokio::sync::watch::Receiver<u64>;

    /// Queues writes behind all earlier ones, as one transaction with their neighbours. Durable after the next `commit`, or soon by itself.
    fn stage(&self, writes: Vec<Write>);
    /// Resolves when everything staged before is durable.
    fn commit(&self) -> Ticket<()>;
    /// `Err` with the reason while the journal cannot write.
    fn health(&self) -> Result<(), JournalError>;

    /// Reads back what is unfinished. Called once, before anything is staged.
    async fn recover(&self, since: Timestamp) -> Result<Recovered, JournalError>;
    // Every read below sees what was staged before it.
    async fn run(&self, id: RunId) -> Result<Option<Run>, JournalError>;
    /// Steps of a run in order of `seq`.
    async fn steps(&self, id: RunId) -> Result<Vec<Step>, JournalError>;
    async fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>, JournalError>;
    async fn program(&self, hash: &ProgramHash) -> Result<Option<Sources>, JournalError>;
    async fn incident(&self, id: IncidentId) -> Result<Option<Incident>, JournalError>;
    async fn transitions(&self, id: IncidentId) -> Result<Vec<Transition>, JournalError>;
    async fn incidents(&self, filter: &IncidentFilter) -> Result<Vec<Incident>, JournalError>;
    async fn level(&self, fingerprint: crate::model::alert::Fingerprint) -> Result<Option<Level>, JournalError>;
    /// Unsent messages with an id above `after`, in order.
    async fn outbox(&self, after: MessageId, limit: usize) -> Result<Vec<Pending>, JournalError>;
    /// How many messages are unsent.
    async fn outbox_depth(&self) -> Result<u64, JournalError>;
    async fn thread(&self, incident: IncidentId) -> Result<Option<ThreadRef>, JournalError>;
    /// Deletes what closed before `before`, in small transactions; returns how many rows went.
    async fn prune(&self, before: Timestamp) -> Result<u64, JournalError>;
}

impl fmt::Display for ErrorReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
