//! Everything outside of the process: the cluster, Alertmanager, Prometheus, what is reloaded and posted to, and people. It outlives the process, goes
//! wrong as the plan says, and shows whatever reaches it to the oracle first.

use crate::guards::Around;
use crate::leaving::Leaving;
use crate::oracle::Oracle;
use crate::plan::{Fault, Plan, Port};
use crate::time::{CLOCK, millis, now};
use async_trait::async_trait;
use futures_util::FutureExt;
use jiff::Timestamp;
use runbookd::adapters::cluster::sim::{SimCluster, World};
use runbookd::adapters::journal::memory::MemoryJournal;
use runbookd::model::alert::{Alert, Fingerprint, Status};
use runbookd::model::cluster::{
    Convergence, JobIntent, JobState, Node, NodeIntent, Service, ServiceChange, ServiceIntent, Task,
};
use runbookd::model::join::{JoinRole, JoinToken};
use runbookd::model::label::Labels;
use runbookd::model::message::{Kind, Message, MessageId, MessageRoot, ThreadRef};
use runbookd::model::node_group::{GroupChange, GroupIntent, NodeGroup};
use runbookd::model::silence::SilenceIntent;
use runbookd::model::step::{Intent, Step};
use runbookd::ports::{
    Alerts, Cluster, DeliverError, ErrorReason, Humans, Journal, KnownAlert, NodeGroups, PortError, PostAnswer, Posts,
    Queries, Reload, Reloaded, Sample,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Reload targets, with whether they take a service.
pub const TARGETS: [&str; 2] = ["prometheus", "proxy"];
/// How long a client waits for an answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

pub struct Outside {
    pub cluster: SimCluster,
    pub state: Mutex<State>,
    pub oracle: Mutex<Oracle>,
    /// Which alert is expected always.
    pub watched: Option<usize>,
    /// That of the process that lives.
    pub journal: Mutex<Arc<MemoryJournal>>,
}

/// What is not the cluster's own.
pub struct State {
    latencies: Vec<u64>,
    calls: usize,
    faults: BTreeMap<Port, VecDeque<Fault>>,
    /// Until when each cannot be reached.
    down: BTreeMap<Port, u64>,
    pub alerts: Vec<AlertState>,
    silences: Vec<SilenceIntent>,
    /// Changes that are on their way, and when they arrive.
    late: Vec<(u64, ServiceIntent, String)>,
    /// Calls within one millisecond: a loop in which no time passes never ends.
    burst: (u64, u64),
}

/// One label set, as Alertmanager knows it.
pub struct AlertState {
    pub labels: Labels,
    pub firing: bool,
    pub since: Timestamp,
    pub ended: Option<Timestamp>,
    pub suppressed: bool,
    /// When a post was taken that says that it fires, since it began to.
    pub told: Option<u64>,
}

impl Outside {
    pub fn new(plan: &Plan, oracle: Oracle) -> Arc<Self> {
        let world =
            World::parse(&plan.world).unwrap_or_else(|error| panic!("the generated world: {error}\n{}", plan.world));
        let alerts = plan.alerts.iter().map(|pairs| AlertState {
            labels: pairs.iter().map(|(name, value)| (*name, value.as_str())).collect(),
            firing: false,
            since: Timestamp::UNIX_EPOCH,
            ended: None,
            suppressed: false,
            told: None,
        });
        let state = State {
            latencies: plan.latencies.clone(),
            calls: 0,
            faults: BTreeMap::new(),
            down: BTreeMap::new(),
            alerts: alerts.collect(),
            silences: Vec::new(),
            late: Vec::new(),
            burst: (0, 0),
        };
        Arc::new(Outside {
            cluster: SimCluster::new(world, CLOCK),
            state: Mutex::new(state),
            oracle: Mutex::new(oracle),
            watched: plan.watchdog.map(|(alert, _)| alert),
            journal: Mutex::new(Arc::new(MemoryJournal::new())),
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("one thread")
    }

    pub fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().expect("one thread")
    }

    /// `calls` calls of a port go wrong so.
    pub fn break_calls(&self, port: Port, fault: Fault, calls: u32) {
        let mut state = self.state();
        state.faults.entry(port).or_default().extend((0..calls).map(|_| fault));
    }

    pub fn take_down(&self, port: Port, secs: u64) {
        let until = millis() + secs * 1_000;
        let mut state = self.state();
        let known = state.down.entry(port).or_default();
        *known = until.max(*known);
        drop(state);
        if port == Port::Cluster {
            self.oracle().outages.push((millis(), until));
        }
    }

    /// Nothing goes wrong any more.
    pub fn calm(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.down.clear();
        for alert in &mut state.alerts {
            alert.suppressed = false;
        }
    }

    /// When the next change that is on its way arrives.
    pub fn next_late(&self) -> Option<u64> {
        self.state().late.iter().map(|(at, ..)| *at).min()
    }

    /// What was on its way arrives.
    pub fn arrive(&self) {
        let due: Vec<_> = self.state().late.extract_if(.., |(at, ..)| *at <= millis()).collect();
        for (_, intent, step) in due {
            let done = Cluster::apply(&self.cluster, &intent, &step).now_or_never();
            let mut oracle = self.oracle();
            oracle.guards.moved(format!("service {}", intent.service));
            oracle.note(|| format!("late: {step} {intent}: {done:?}"));
        }
    }

    pub fn another_hand(&self, service: &str, change: &ServiceChange) {
        // It may be one that is not there, or a global one.
        let look = || at_once(self.cluster.service(service)).ok().map(|service| (service.replicas, service.image));
        let before = look();
        let done = self.cluster.another_hand(service, change).is_ok();
        let mut oracle = self.oracle();
        oracle.guards.moved(format!("service {service}"));
        // What the Swarm rolls back at once may be over before it is noticed.
        if look().is_some_and(|now| Some(&now) != before.as_ref() && !now.1.ends_with(":bad")) {
            oracle.guards.hand(service);
        }
        oracle.note(|| format!("another hand at {service}: {change:?} ({done})"));
    }

    /// One call: it takes its time, goes wrong as planned, and `does` it when it arrives. `mutates`: it may be a fault that is about a change.
    async fn call<T>(
        &self,
        port: Port,
        mutates: bool,
        does: impl FnOnce() -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        let (before, after) = (self.latency(), self.latency());
        tokio::time::sleep(before).await;
        let (fault, down) = self.fault(port, mutates);
        if down {
            return Err(PortError::transient(ErrorReason::Unreachable, "connection refused"));
        }
        match fault {
            None | Some(Fault::Conflict(_) | Fault::TimeoutLate(_)) => {
                let done = does();
                tokio::time::sleep(after).await;
                done
            }
            Some(Fault::TimeoutBefore) => {
                tokio::time::sleep(CLIENT_TIMEOUT).await;
                Err(timed_out(mutates))
            }
            Some(Fault::TimeoutAfter) => {
                let _ = does();
                tokio::time::sleep(CLIENT_TIMEOUT).await;
                Err(timed_out(mutates))
            }
            Some(Fault::Throttled) => Err(PortError::transient(ErrorReason::Throttled, "too many requests")),
            Some(Fault::Refused) => Err(PortError::permanent(ErrorReason::Refused, "not allowed")),
        }
    }

    fn latency(&self) -> Duration {
        let mut state = self.state();
        let at = millis();
        state.burst = if state.burst.0 == at { (at, state.burst.1 + 1) } else { (at, 0) };
        assert!(state.burst.1 < 20_000, "calls without end, in which no time passes");
        state.calls += 1;
        Duration::from_millis(state.latencies[state.calls % state.latencies.len()])
    }

    fn fault(&self, port: Port, mutates: bool) -> (Option<Fault>, bool) {
        let mut state = self.state();
        let down = state.down.get(&port).is_some_and(|until| millis() < *until);
        // Reads go wrong by outages; what is planned for calls waits for one that changes something.
        let fault = if mutates && !down { state.faults.get_mut(&port).and_then(VecDeque::pop_front) } else { None };
        drop(state);
        if down || fault.is_some() {
            self.oracle().counts.faults += 1;
        }
        (fault, down)
    }

    /// Which message of the outbox this is, if it is one: the first that says the same.
    fn number_of(&self, message: &Message) -> Option<MessageId> {
        let journal = self.journal.lock().expect("one thread").clone();
        let queued = journal.outbox(0, 1_000).now_or_never()?.ok()?;
        let same = |known: &Message| Message { repeated: message.repeated, ..known.clone() } == *message;
        queued.iter().find(|pending| same(&pending.message)).map(|pending| pending.id)
    }

    fn leaves(&self, leaving: &Leaving, is: impl Fn(&str, &Step) -> bool) {
        let journal = self.journal.lock().expect("one thread").clone();
        let around = || self.around();
        self.oracle().leaves(leaving, &journal, around, |step| is(&format!("{}:{}", step.run, step.seq), step));
    }

    /// What is in the cluster now.
    pub fn around(&self) -> Around {
        Around {
            services: at_once(self.cluster.services()).unwrap_or_default(),
            nodes: at_once(self.cluster.nodes()).unwrap_or_default(),
        }
    }
}

fn timed_out(mutates: bool) -> PortError {
    if mutates {
        PortError::unknown(ErrorReason::Timeout, "no answer came in time")
    } else {
        PortError::transient(ErrorReason::Timeout, "no answer came in time")
    }
}

/// The simulator answers at once.
fn at_once<T>(answer: impl Future<Output = T>) -> T {
    answer.now_or_never().expect("the simulator never waits")
}

#[async_trait]
impl Cluster for Outside {
    async fn services(&self) -> Result<Vec<Service>, PortError> {
        self.call(Port::Cluster, false, || at_once(self.cluster.services())).await
    }
    async fn service(&self, name: &str) -> Result<Service, PortError> {
        self.call(Port::Cluster, false, || at_once(self.cluster.service(name))).await
    }
    async fn tasks(&self, service: &str) -> Result<Vec<Task>, PortError> {
        self.call(Port::Cluster, false, || at_once(self.cluster.tasks(service))).await
    }
    async fn nodes(&self) -> Result<Vec<Node>, PortError> {
        self.call(Port::Cluster, false, || at_once(self.cluster.nodes())).await
    }
    async fn convergence(&self, service: &str) -> Result<Convergence, PortError> {
        self.call(Port::Cluster, false, || at_once(self.cluster.convergence(service))).await
    }
    async fn job(&self, name: &str) -> Result<JobState, PortError> {
        self.call(Port::Cluster, false, || at_once(self.cluster.job(name))).await
    }

    async fn apply(&self, intent: &ServiceIntent, step: &str) -> Result<(), PortError> {
        let seen = at_once(self.cluster.service(&intent.service)).ok();
        let leaving = Leaving::service(intent, seen.as_ref());
        self.leaves(&leaving, |label, known| {
            label == step && matches!(&known.intent, Some(Intent::Services(all)) if all.contains(intent))
        });
        let planned = self.state().faults.get(&Port::Cluster).and_then(|faults| faults.front().copied());
        if let Some(Fault::Conflict(replicas)) = planned {
            let change = match replicas {
                Some(to) => ServiceChange::Scale { from: 0, to },
                None => ServiceChange::Update { from: Default::default(), to: Default::default() },
            };
            self.another_hand(&intent.service, &change);
        }
        if let Some(Fault::TimeoutLate(later)) = planned {
            let at = millis() + later;
            self.state().late.push((at, intent.clone(), step.to_string()));
            self.fault(Port::Cluster, true);
            tokio::time::sleep(CLIENT_TIMEOUT).await;
            return Err(timed_out(true));
        }
        self.call(Port::Cluster, true, || {
            let done = at_once(Cluster::apply(&self.cluster, intent, step));
            self.oracle().guards.moved(format!("service {}", intent.service));
            self.oracle().applied(|| format!("{step} {intent}"), &done);
            done
        })
        .await
    }

    async fn apply_node(&self, intent: &NodeIntent) -> Result<(), PortError> {
        self.leaves(
            &Leaving::node(intent),
            |_, known| matches!(&known.intent, Some(Intent::Node(node)) if node == intent),
        );
        self.call(Port::Cluster, true, || {
            let done = at_once(self.cluster.apply_node(intent));
            self.oracle().guards.moved(format!("node {}", intent.node));
            self.oracle().applied(|| format!("node {intent}"), &done);
            done
        })
        .await
    }

    async fn start_job(&self, job: &JobIntent, step: &str) -> Result<(), PortError> {
        self.leaves(&Leaving::job(job), |label, known| {
            label == step && matches!(&known.intent, Some(Intent::Job(intent)) if intent == job)
        });
        // How long it is on its way nobody knows.
        self.oracle().in_time(&job.name, job.deadline);
        self.call(Port::Cluster, true, || {
            let done = at_once(self.cluster.start_job(job, step));
            self.oracle().applied(|| format!("{step} job {}", job.name), &done);
            done
        })
        .await
    }

    async fn jobs(&self) -> Result<Vec<String>, PortError> {
        self.call(Port::Cluster, false, || at_once(self.cluster.jobs())).await
    }
    async fn remove_job(&self, name: &str) -> Result<(), PortError> {
        self.call(Port::Cluster, false, || at_once(self.cluster.remove_job(name))).await
    }
    async fn listen(&self, changed: &tokio::sync::Notify) -> Result<(), PortError> {
        self.cluster.listen(changed).await
    }
    async fn join_token(&self, role: JoinRole) -> Result<JoinToken, PortError> {
        self.call(Port::Cluster, false, || at_once(self.cluster.join_token(role))).await
    }
    async fn ping(&self) -> Result<(), PortError> {
        self.call(Port::Cluster, false, || at_once(self.cluster.ping())).await
    }
}

#[async_trait]
impl NodeGroups for Outside {
    fn names(&self) -> Vec<String> {
        self.cluster.names()
    }
    async fn group(&self, name: &str) -> Result<NodeGroup, PortError> {
        self.call(Port::Groups, false, || at_once(self.cluster.group(name))).await
    }
    async fn apply(&self, intent: &GroupIntent) -> Result<(), PortError> {
        self.leaves(
            &Leaving::group(intent),
            |_, known| matches!(&known.intent, Some(Intent::Group(group)) if group == intent),
        );
        self.call(Port::Groups, true, || {
            let done = at_once(NodeGroups::apply(&self.cluster, intent));
            if let GroupChange::Terminate { node, .. } = &intent.change {
                self.oracle().guards.moved(format!("node {node}"));
            }
            self.oracle().applied(|| format!("group {intent}"), &done);
            done
        })
        .await
    }
}

#[async_trait]
impl Queries for Outside {
    async fn query(&self, _: &str) -> Result<Vec<Sample>, PortError> {
        // Every other three minutes.
        let met = (millis() / 180_000).is_multiple_of(2);
        let answer = || Ok(met.then(|| Sample { labels: Labels::default(), value: 0.5 }).into_iter().collect());
        self.call(Port::Prometheus, false, answer).await
    }
}

#[async_trait]
impl Posts for Outside {
    async fn post(&self, target: &str, body: &Value) -> Result<PostAnswer, PortError> {
        self.leaves(&Leaving::post(target), |_, known| {
            matches!(&known.intent, Some(Intent::Post { target: to, body: what }) if to == target && what == body)
        });
        self.call(Port::Posts, true, || {
            self.oracle().once("a post", &format!("{target} {body}"));
            self.oracle().applied(|| format!("post to {target}"), &Ok(()));
            Ok(PostAnswer { status: 201, body: String::new() })
        })
        .await
    }
    fn targets(&self) -> Vec<String> {
        vec!["tickets".into()]
    }
}

#[async_trait]
impl Reload for Outside {
    async fn reload(&self, target: &str, service: Option<&str>) -> Result<Reloaded, PortError> {
        self.leaves(&Leaving::reload(target), |_, known| {
            matches!(&known.intent, Some(Intent::Reload { target: to, service: of }) if to == target && of.as_deref() == service)
        });
        self.call(Port::Reload, true, || {
            self.oracle().applied(|| format!("reload {target} {service:?}"), &Ok(()));
            Ok(if millis().is_multiple_of(3) { Reloaded::Unchanged } else { Reloaded::Done })
        })
        .await
    }
    fn targets(&self) -> Vec<String> {
        TARGETS.map(String::from).to_vec()
    }
}

#[async_trait]
impl Alerts for Outside {
    async fn alerts(&self) -> Result<Vec<KnownAlert>, PortError> {
        self.call(Port::Alertmanager, false, || {
            let state = self.state();
            let told = state.alerts.iter().enumerate().filter(|(_, alert)| alert.firing);
            let told: Vec<_> = told.map(|(at, alert)| (at, state.suppressed(alert))).collect();
            self.oracle().note(|| format!("Alertmanager is asked: {told:?}"));
            let firing = state.alerts.iter().filter(|alert| alert.firing);
            Ok(firing
                .map(|alert| KnownAlert {
                    alert: alert.told(),
                    suppressed: state.suppressed(alert),
                    receivers: vec!["runbookd".into()],
                })
                .collect())
        })
        .await
    }

    async fn silence(&self, intent: &SilenceIntent) -> Result<(), PortError> {
        self.leaves(
            &Leaving::silence(),
            |_, known| matches!(&known.intent, Some(Intent::Silence(known)) if known == intent),
        );
        self.oracle().in_time(&intent.key, intent.ends_at());
        self.call(Port::Alertmanager, true, || {
            self.oracle().once("a silence", &intent.key);
            self.oracle().applied(|| format!("{} {intent}", intent.key), &Ok(()));
            self.state().silences.push(intent.clone());
            Ok(())
        })
        .await
    }

    async fn silenced(&self, key: &str) -> Result<bool, PortError> {
        self.call(Port::Alertmanager, false, || Ok(self.state().silences.iter().any(|silence| silence.key == key)))
            .await
    }
}

#[async_trait]
impl Humans for Outside {
    async fn deliver(&self, message: &Message, thread: Option<&ThreadRef>) -> Result<Option<ThreadRef>, DeliverError> {
        let told = self.call(Port::People, true, || {
            self.oracle().told(message, self.number_of(message), false);
            Ok(())
        });
        match told.await {
            Ok(()) if thread.is_none() && message.kind == Kind::Escalation => {
                let root = Box::new(MessageRoot { message: json!(message).to_string() });
                Ok(Some(ThreadRef { channel: "#ops".into(), ts: millis().to_string(), root }))
            }
            Ok(()) => Ok(None),
            Err(error) => {
                let retry_after = (error.reason == ErrorReason::Throttled).then_some(Duration::from_secs(20));
                Err(DeliverError { error, retry_after })
            }
        }
    }
}

/// The console: what the channel to people refuses is shown there.
pub struct Console(pub Arc<Outside>);

#[async_trait]
impl Humans for Console {
    async fn deliver(&self, message: &Message, _: Option<&ThreadRef>) -> Result<Option<ThreadRef>, DeliverError> {
        let id = self.0.number_of(message);
        self.0.oracle().told(message, id, true);
        Ok(None)
    }
}

impl AlertState {
    fn told(&self) -> Alert {
        Alert {
            fingerprint: Fingerprint::of(&self.labels),
            status: if self.firing { Status::Firing } else { Status::Resolved },
            labels: self.labels.clone(),
            annotations: Labels::default(),
            starts_at: self.since,
            ends_at: self.ended.filter(|_| !self.firing),
            generator_url: "".into(),
        }
    }
}

impl State {
    fn suppressed(&self, alert: &AlertState) -> bool {
        let silenced = |silence: &SilenceIntent| {
            now() < silence.ends_at() && silence.parsed().iter().all(|matcher| matcher.matches(&alert.labels))
        };
        alert.suppressed || self.silences.iter().any(silenced)
    }

    /// What Alertmanager posts now of the group that an alert is in; `None` when there is nothing to tell. `marker` makes the post one that is known again.
    pub fn payload(&self, alert: usize, truncate: bool, marker: &str) -> Option<(String, Vec<(usize, Timestamp)>)> {
        let group = group_of(&self.alerts[alert].labels);
        let recent = |alert: &&AlertState| {
            alert.firing || alert.ended.is_some_and(|at| now().duration_since(at) < jiff::SignedDuration::from_mins(10))
        };
        let of_group = self.alerts.iter().filter(|known| group_of(&known.labels) == group && !self.suppressed(known));
        let mut told: Vec<Alert> = of_group.filter(recent).map(AlertState::told).collect();
        let cut = if truncate && told.len() > 1 { told.len() - 1 } else { 0 };
        told.truncate(told.len() - cut);
        let first = told.first()?.labels.clone();
        let common = told.iter().fold(first, |common, alert| common.common(&alert.labels));
        let firing = told.iter().any(|alert| alert.status == Status::Firing);
        let show = |alert: &Alert| {
            json!({
                "status": alert.status,
                "labels": alert.labels,
                "annotations": {},
                "startsAt": alert.starts_at,
                "endsAt": alert.ends_at.map_or("0001-01-01T00:00:00Z".to_string(), |at| at.to_string()),
                "generatorURL": "",
                "fingerprint": alert.fingerprint,
            })
        };
        let alerts: Vec<Value> = told.iter().map(show).collect();
        let body = json!({
            "version": "4",
            "groupKey": format!("{{}}:{group}"),
            "receiver": "runbookd",
            "status": if firing { "firing" } else { "resolved" },
            "truncatedAlerts": cut,
            "groupLabels": group,
            "commonLabels": common,
            "commonAnnotations": {},
            "externalURL": format!("http://alertmanager/{marker}"),
            "alerts": alerts,
        });
        let fires = |known: &AlertState| told.iter().any(|alert| alert.labels == known.labels && known.firing);
        let firing = self.alerts.iter().enumerate().filter(|(_, known)| fires(known));
        Some((body.to_string(), firing.map(|(at, known)| (at, known.since)).collect()))
    }

    /// A post was taken that says that these fire.
    pub fn were_told(&mut self, firing: &[(usize, Timestamp)]) {
        for (at, since) in firing {
            let alert = &mut self.alerts[*at];
            if alert.firing && alert.since == *since {
                alert.told.get_or_insert_with(millis);
            }
        }
    }
}

/// As a route with `group_by: [alertname, service, node]` does.
fn group_of(labels: &Labels) -> Labels {
    ["alertname", "service", "node"].into_iter().filter_map(|name| Some((name, labels.get(name)?))).collect()
}
