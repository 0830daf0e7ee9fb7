//! A scenario file: a world, rules, runbooks, and what happens.

use super::{Life, Stage, payload_of};
use runbookd::adapters::cluster::sim::Fault;
use runbookd::adapters::journal::memory::MemoryJournal;
use runbookd::app::board::Reply;
use runbookd::model::alert::{Alert, Fingerprint, Status};
use runbookd::model::cluster::{ServiceChange, SpecFields};
use runbookd::model::duration::Duration;
use runbookd::model::event::{self, Event, On};
use runbookd::model::freeze::{FreezeId, Scope};
use runbookd::model::incident::IncidentId;
use runbookd::model::label::Labels;
use runbookd::model::mode::{Approval, Mode, Subject};
use runbookd::ports::{Cluster, ErrorReason, Journal, KnownAlert, PortError};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub about: String,
    pub world: String,
    /// "shipped": the rules and runbooks of the repository; "optional": the rules of deploy/rules, with those runbooks.
    pub rules: String,
    #[serde(default)]
    pub runbooks: BTreeMap<String, String>,
    /// Keys of the configuration, as in runbookd.yaml.
    #[serde(default)]
    pub config: String,
    #[serde(default = "half_a_day")]
    pub stale_after: Duration,
    /// Alertmanager's API can be asked: it tells what the script fired and did not resolve.
    #[serde(default)]
    pub alertmanager_api: bool,
    /// What Prometheus answers to an expression, as a number alone; without one it answers nothing.
    #[serde(default)]
    pub prometheus: BTreeMap<String, f64>,
    #[serde(default)]
    pub max_mode: Mode,
    /// Groups of people.
    #[serde(default)]
    pub groups: BTreeMap<String, Vec<String>>,
    /// What the attempts of the rules came to belongs to the trace.
    #[serde(default)]
    pub effectiveness: bool,
    /// Every so often an alert `Watchdog` is expected.
    #[serde(default)]
    pub watchdog: Option<Duration>,
    /// States that incidents may end in when the process is killed on the way, besides those of the undisturbed course.
    #[serde(default)]
    pub killed_may_end: Vec<String>,
    pub script: Vec<Action>,
}

fn half_a_day() -> Duration {
    Duration::from_secs(12 * 3600)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Fire(BTreeMap<String, String>),
    Resolve(BTreeMap<String, String>),
    /// A firing post of an alert that began this long ago.
    FireLate {
        labels: BTreeMap<String, String>,
        began: Duration,
    },
    /// A resolved post that comes this long after the end that it tells of.
    ResolveLate {
        labels: BTreeMap<String, String>,
        ended: Duration,
    },
    /// A firing post of a group that Alertmanager cut this many alerts off.
    FireTruncated {
        labels: BTreeMap<String, String>,
        truncated: u64,
    },
    /// Alertmanager knows it, but the post never came.
    FireUntold(BTreeMap<String, String>),
    /// It resolves, but the post never comes.
    ResolveUntold(BTreeMap<String, String>),
    Silence(BTreeMap<String, String>),
    Unsilence(BTreeMap<String, String>),
    AlertmanagerDown(bool),
    /// From now on Prometheus answers these, and to any other expression nothing.
    Prometheus(BTreeMap<String, f64>),
    PrometheusDown,
    Wait(Duration),
    Fault(FaultName),
    Reachable(bool),
    /// Every call to the cluster takes so long from now on.
    ClusterTakes(Duration),
    /// While true, whom `http_post` posts to cannot be reached.
    PostsUnreachable(bool),
    /// Another hand sets the replicas of a service.
    Hand {
        service: String,
        replicas: u64,
    },
    /// Another hand updates the image of a service.
    HandImage {
        service: String,
        image: String,
    },
    /// Something happens that is no alert, as a hook tells it. (What happens in the simulated Swarm is seen without this.)
    Event {
        on: On,
        labels: BTreeMap<String, String>,
    },
    /// A node's state becomes another, as when its power fails or is back.
    HandNode {
        node: String,
        state: String,
    },
    /// The machine of a node ends, and its group starts another in its place.
    LoseMachine(String),
    /// A person has a run undone, as the plan says at that moment.
    Undo(u64),
    /// A person closes the breaker of a rule.
    CloseBreaker(String),
    Pause(String),
    Resume(String),
    /// A person freezes a rule, those of a tag, or everything.
    Freeze {
        #[serde(rename = "for")]
        lasts: Duration,
        #[serde(default)]
        rule: Option<String>,
        #[serde(default)]
        tag: Option<String>,
        reason: String,
    },
    Unfreeze(u64),
    /// A person releases the fleet brake.
    Release(String),
    Ack(u64),
    Close(u64),
    /// A person looks at the plan that waits, and approves it.
    Approve {
        incident: u64,
        by: String,
    },
    Deny {
        incident: u64,
        by: String,
    },
    Answer {
        incident: u64,
        by: String,
        answer: String,
    },
    /// A person decides that a rule of `mode: earned` runs by itself, or does not.
    Trust {
        rule: String,
        trusted: bool,
    },
    /// New rules (and runbooks) are put in force.
    Reload {
        rules: String,
        #[serde(default)]
        runbooks: BTreeMap<String, String>,
    },
    /// The process is killed and comes back after this time.
    Kill(Duration),
    JournalFails(bool),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultName {
    TimeoutBefore,
    TimeoutAfter,
    Conflict,
    OtherScales,
    Unreachable,
}

impl Scenario {
    pub fn read(path: &Path) -> Scenario {
        let text = std::fs::read_to_string(path).expect("a readable scenario");
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Plays it on a stage and in a runtime of its own, so that nothing of a killed life is left when the next play begins; `look` sees how it ended.
    pub fn on_stage<T>(&self, dies_at: Option<(u64, bool)>, look: impl AsyncFnOnce(&Stage, &Life) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let stage = Stage::of(self);
            let life = self.play(&stage, dies_at).await;
            let seen = look(&stage, &life).await;
            life.app.stop().await;
            seen
        })
    }

    /// Plays the script. `dies_at`: the process is killed at that write boundary (before or after it), and started again at once.
    async fn play(&self, stage: &Stage, dies_at: Option<(u64, bool)>) -> Life {
        let journal = MemoryJournal::new();
        if let Some((boundary, before)) = dies_at {
            journal.crash_at(boundary, before);
        }
        let life = stage.start(journal).await;
        let mut play = Play { stage, life: Some(life), started: HashMap::new() };
        for action in &self.script {
            play.act(action).await;
        }
        play.life.take().expect("there is always a life between actions")
    }
}

struct Play<'a> {
    stage: &'a Stage,
    life: Option<Life>,
    /// When each alert began to fire.
    started: HashMap<Labels, jiff::Timestamp>,
}

impl Play<'_> {
    fn life(&self) -> &Life {
        self.life.as_ref().expect("there is always a life between actions")
    }

    /// Does something that needs a living process; if it dies meanwhile, starts the next and does it again, as Alertmanager and people do.
    async fn insist<T, F: AsyncFn(&Life) -> Option<T>>(&mut self, what: F) -> T {
        loop {
            let dead = self.life().journal.dead();
            let done = tokio::select! {
                biased;
                () = dead => None,
                done = what(self.life()) => done,
            };
            match done {
                Some(done) => return done,
                None => self.revive(std::time::Duration::ZERO).await,
            }
        }
    }

    async fn revive(&mut self, after: std::time::Duration) {
        let left = self.life.take().expect("a life to end").kill();
        tokio::time::sleep(after).await;
        self.life = Some(self.stage.start(left).await);
    }

    async fn act(&mut self, action: &Action) {
        let now = self.stage.clock.now();
        match action {
            Action::Fire(labels) => self.post(labels, true, 0).await,
            Action::Resolve(labels) => self.post(labels, false, 0).await,
            Action::FireLate { labels, began } => {
                self.started.insert(labels_of(labels), now - began.signed());
                self.post(labels, true, 0).await;
            }
            Action::ResolveLate { labels, ended } => {
                let ended = now - ended.signed();
                let body = payload_of(&labels_of(labels), false, ended, ended, 0);
                self.send(&body).await;
            }
            Action::FireTruncated { labels, truncated } => self.post(labels, true, *truncated).await,
            Action::FireUntold(labels) => {
                let labels = labels_of(labels);
                self.started.insert(labels.clone(), now);
                self.known(&labels, true);
            }
            Action::ResolveUntold(labels) => self.known(&labels_of(labels), false),
            Action::Silence(labels) => self.suppress(&labels_of(labels), true),
            Action::Unsilence(labels) => self.suppress(&labels_of(labels), false),
            Action::AlertmanagerDown(down) => {
                let error = PortError::transient(ErrorReason::Unreachable, "connection refused");
                *self.stage.alertmanager.lock().expect("unpoisoned") = if *down { Err(error) } else { Ok(Vec::new()) };
            }
            Action::Prometheus(answers) => {
                *self.stage.prometheus.lock().expect("unpoisoned") = Ok(answers.clone());
            }
            Action::PrometheusDown => {
                let error = PortError::transient(ErrorReason::Unreachable, "connection refused");
                *self.stage.prometheus.lock().expect("unpoisoned") = Err(error);
            }
            Action::Wait(time) => self.wait(time.std()).await,
            Action::Fault(name) => self.stage.cluster.inject(self.fault(*name).await),
            Action::Reachable(reachable) => self.stage.cluster.set_reachable(*reachable),
            Action::ClusterTakes(time) => *self.stage.cluster_takes.lock().expect("unpoisoned") = time.std(),
            Action::PostsUnreachable(so) => self.stage.posts_unreachable.store(*so, Ordering::Release),
            Action::Hand { service, replicas } => self.hand(service, *replicas).await,
            Action::HandImage { service, image } => {
                let to = SpecFields { image: Some(image.clone()), ..SpecFields::default() };
                let change = ServiceChange::Update { from: SpecFields::default(), to };
                self.stage.cluster.another_hand(service, &change).expect("a change");
            }
            Action::Event { on, labels } => self.event(*on, labels).await,
            Action::HandNode { node, state } => self.stage.cluster.set_node_state(node, state).expect("the node"),
            Action::LoseMachine(node) => self.stage.cluster.lose_machine(node).expect("the machine"),
            Action::Undo(id) => {
                let id = runbookd::model::run::RunId(*id);
                self.insist(async |life| {
                    let planned = match life.app.plan_undo(id).await {
                        Ok(planned) => planned,
                        Err(_) => return Some(false),
                    };
                    Some(life.app.undo(id, &planned.program.hash.0, "ann", "it made things worse").await.is_ok())
                })
                .await;
            }
            Action::CloseBreaker(rule) => {
                self.insist(async |life| Some(life.app.close_breaker(rule, "ann", "mended").await.is_ok())).await;
            }
            Action::Pause(why) => {
                self.insist(async |life| life.app.pause("ann", why).await.ok()).await;
            }
            Action::Resume(by) => {
                self.insist(async |life| Some(life.app.resume(by).await.is_ok())).await;
            }
            Action::Freeze { lasts, rule, tag, reason } => {
                let scope = match (rule, tag) {
                    (Some(rule), _) => Scope::Rule(rule.clone()),
                    (None, Some(tag)) => Scope::Tag(tag.clone()),
                    (None, None) => Scope::All,
                };
                let until = now + lasts.signed();
                self.insist(async |life| {
                    // A person who got no answer looks before it is said again.
                    let made = life.app.stops().freezes.iter().any(|freeze| freeze.until == until);
                    (made || life.app.freeze(scope.clone(), until, "ann", reason).await.is_ok()).then_some(())
                })
                .await;
            }
            Action::Release(by) => {
                self.insist(async |life| Some(life.app.release(by).await.is_ok())).await;
            }
            Action::Unfreeze(id) => {
                let id = FreezeId(*id);
                self.insist(async |life| Some(life.app.unfreeze(id, "ann").await.is_ok())).await;
            }
            Action::Ack(id) => {
                let id = runbookd::model::incident::IncidentId(*id);
                self.insist(async |life| Some(life.app.ack(id, "ann").await.is_ok())).await;
            }
            Action::Close(id) => {
                let id = runbookd::model::incident::IncidentId(*id);
                self.insist(async |life| Some(life.app.close(id, "ann", "done by hand").await.is_ok())).await;
            }
            Action::Approve { incident, by } => {
                let reply = |approval: &Approval| match &approval.subject {
                    Subject::Plan(plan) => Reply::Approve { plan: plan.hash.clone() },
                    Subject::Question { .. } => panic!("a question is answered"),
                };
                self.reply(*incident, by, reply).await;
            }
            Action::Deny { incident, by } => {
                self.reply(*incident, by, |_| Reply::Deny { reason: "not now".into() }).await;
            }
            Action::Answer { incident, by, answer } => {
                self.reply(*incident, by, |_| Reply::Answer(answer.clone())).await;
            }
            Action::Trust { rule, trusted } => {
                self.insist(async |life| Some(life.app.set_trust(rule, *trusted, "ann", "").await.is_ok())).await;
            }
            Action::Reload { rules, runbooks } => {
                self.stage.write(rules, runbooks);
                let life = self.life();
                life.app.parts.catalog.store(Arc::new(self.stage.catalog()));
                life.app.catalog_swapped();
            }
            Action::Kill(downtime) => self.revive(downtime.std()).await,
            Action::JournalFails(fails) => self.life().journal.fail(fails.then_some("disk full")),
        }
        // Whatever that set off and needs no time happens now.
        self.wait(std::time::Duration::from_millis(1)).await;
    }

    async fn wait(&mut self, time: std::time::Duration) {
        let until = tokio::time::Instant::now() + time;
        self.insist(async |_| {
            tokio::time::sleep_until(until).await;
            Some(())
        })
        .await;
    }

    /// A person's word, once something is asked of them. One whose word was journalled does not say it twice.
    async fn reply(&mut self, incident: u64, by: &str, reply: impl Fn(&Approval) -> Reply) {
        let id = IncidentId(incident);
        self.insist(async |life| {
            for _ in 0..100 {
                let known = life.journal.incident(id).await.ok().flatten();
                match known.and_then(|incident| incident.approval) {
                    Some(asked) if asked.verdict.is_some() || asked.given.iter().any(|(given, _)| given == by) => break,
                    Some(asked) => return Some(life.app.reply(id, by, reply(&asked)).await.is_ok()),
                    None => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
                }
            }
            Some(false)
        })
        .await;
    }

    async fn post(&mut self, labels: &BTreeMap<String, String>, firing: bool, truncated: u64) {
        let labels = labels_of(labels);
        let now = self.stage.clock.now();
        let starts_at = if firing {
            *self.started.entry(labels.clone()).or_insert(now)
        } else {
            self.started.remove(&labels).unwrap_or(now)
        };
        self.known(&labels, firing);
        let body = payload_of(&labels, firing, starts_at, now, truncated);
        self.send(&body).await;
    }

    async fn send(&mut self, body: &str) {
        self.insist(async |life| {
            // Alertmanager tries again what is answered 5xx.
            while !life.post(body).await {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            Some(())
        })
        .await;
    }

    /// Journals an event as the hooks do. Whoever tells of it tries again until it is accepted.
    async fn event(&mut self, on: On, labels: &BTreeMap<String, String>) {
        let happened = Event::new(on, labels_of(labels), self.stage.clock.now());
        let body: Arc<[u8]> = serde_json::to_vec(&[happened]).expect("events are plain data").into();
        self.insist(async |life| {
            while !life.intake(event::INTAKE, &body).await {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            Some(())
        })
        .await;
    }

    /// What Alertmanager's API tells from now on.
    fn known(&self, labels: &Labels, firing: bool) {
        let mut api = self.stage.alertmanager.lock().expect("unpoisoned");
        let Ok(all) = api.as_mut() else { return };
        all.retain(|known| known.alert.labels != *labels);
        if firing {
            let starts_at = self.started.get(labels).copied().unwrap_or_else(|| self.stage.clock.now());
            let alert = Alert {
                fingerprint: Fingerprint::of(labels),
                status: Status::Firing,
                labels: labels.clone(),
                annotations: Labels::default(),
                starts_at,
                ends_at: None,
                generator_url: "".into(),
            };
            all.push(KnownAlert { alert, suppressed: false, receivers: vec!["runbookd".into()] });
        }
    }

    fn suppress(&self, labels: &Labels, suppressed: bool) {
        let mut api = self.stage.alertmanager.lock().expect("unpoisoned");
        for known in api.iter_mut().flatten().filter(|known| known.alert.labels == *labels) {
            known.suppressed = suppressed;
        }
    }

    async fn fault(&self, name: FaultName) -> Fault {
        match name {
            FaultName::TimeoutBefore => Fault::TimeoutBefore,
            FaultName::TimeoutAfter => Fault::TimeoutAfter,
            FaultName::Conflict => Fault::AnotherHand(None),
            FaultName::OtherScales => Fault::AnotherHand(Some(Box::new(ServiceChange::Scale { from: 0, to: 7 }))),
            FaultName::Unreachable => Fault::Unreachable,
        }
    }

    async fn hand(&self, service: &str, replicas: u64) {
        let from = self.stage.cluster.service(service).await.expect("the service").replicas;
        self.stage.cluster.another_hand(service, &ServiceChange::Scale { from, to: replicas }).expect("a change");
    }
}

fn labels_of(labels: &BTreeMap<String, String>) -> Labels {
    labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}
