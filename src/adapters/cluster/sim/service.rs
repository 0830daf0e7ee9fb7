//! One simulated service: what is seen of it is a function of its last change and the time that has passed since.
//!
//! With `start` the time that tasks take to run, a change accepted at 0 goes like this:
//!
//! | change | tasks fail? | until `start` | until 2 × `start` | then |
//! |---|---|---|---|---|
//! | scale, labels | no | old count | new count | |
//! | scale up | yes | old count | old count, errors | |
//! | template | no | one task less, updating | new tasks, completed | |
//! | template | yes | one task less, updating | the same, errors | paused, or the rollback below |
//! | rollback | no | one task less, rollback started | old tasks, rollback completed | |
//! | rollback | yes | one task less, rollback started | the same, errors | rollback paused |
//!
//! As in Swarm, every change makes the spec before it the previous one, a rollback that is asked for swaps the two, and a rollback that Swarm starts by
//! itself leaves no previous one.

use super::log::Applied;
use super::world::{Behaviour, FailureAction, ServiceSpec};
use crate::model::cluster::{
    Convergence, Limits, Mode, Service, ServiceChange, ServiceIntent, SpecFields, Task, UpdateState,
};
use crate::model::label::Labels;
use crate::ports::{ErrorReason, PortError, STEP_LABEL};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SimService {
    pub id: String,
    pub name: String,
    global: bool,
    pub version: u64,
    spec: Spec,
    previous: Option<Spec>,
    behaviour: Behaviour,
    /// `None` until the first change: all that is wanted runs.
    last: Option<Last>,
    /// The version that made the template in force: part of the tasks' ids.
    generation: u64,
    /// The tasks that the last change of template replaced.
    replaced: Option<Replaced>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Spec {
    /// For a global service: not looked at.
    replicas: u64,
    labels: Labels,
    template: Arc<Template>,
    /// Hash of `template`, so that reading a service costs none.
    hash: Arc<str>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Template {
    image: String,
    container_labels: Labels,
    env: BTreeMap<String, String>,
    limits: Limits,
    force_update: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Last {
    at: Timestamp,
    kind: Kind,
    /// Tasks that ran at `at`.
    running: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// No task is replaced.
    Plain,
    Template,
    /// A rollback that was asked for.
    Rollback,
    /// A rollback that Swarm started, after this task error.
    OwnRollback(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Replaced {
    generation: u64,
    image: String,
    tasks: u64,
    /// How the tasks of that generation ended, "" when they were just replaced.
    error: String,
}

/// The stages of the table above.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Starting,
    Started,
    /// Tasks have failed, Swarm has not yet given up.
    Failing,
    GaveUp,
}

impl Spec {
    fn new(replicas: u64, labels: Labels, template: Template) -> Self {
        let json = serde_json::to_vec(&template).expect("maps with string keys and plain values are always JSON");
        let hash: String = Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect();
        Spec { replicas, labels, template: Arc::new(template), hash: hash.into() }
    }

    /// This spec with one change made.
    fn with(&self, change: &ServiceChange) -> Spec {
        let mut template = (*self.template).clone();
        match change {
            ServiceChange::Scale { to, .. } => return Spec { replicas: *to, ..self.clone() },
            ServiceChange::Restart { to, .. } => template.force_update = *to,
            ServiceChange::Rollback { .. } => return self.clone(),
            ServiceChange::Update { to: SpecFields { image, env, labels, limits, force_update }, .. } => {
                let labels = patched(self.labels.iter(), labels).into_iter().collect();
                if image.is_none() && env.is_empty() && limits.is_none() && force_update.is_none() {
                    return Spec { labels, ..self.clone() };
                }
                template.image = image.clone().unwrap_or(template.image);
                template.env = patched(template.env.iter().map(|(name, value)| (name.as_str(), value.as_str())), env);
                let limits = limits.clone().unwrap_or_default();
                template.limits.nano_cpus = limits.nano_cpus.or(template.limits.nano_cpus);
                template.limits.memory_bytes = limits.memory_bytes.or(template.limits.memory_bytes);
                template.force_update = force_update.unwrap_or(template.force_update);
                return Spec::new(self.replicas, labels, template);
            }
        }
        Spec::new(self.replicas, self.labels.clone(), template)
    }

    fn stepped(mut self, step: &str) -> Spec {
        if !step.is_empty() {
            self.labels = self.labels.iter().chain([(STEP_LABEL, step)]).collect();
        }
        self
    }
}

/// `old` with the values of `change` put in, and those that are `None` taken out.
fn patched<'a>(
    old: impl Iterator<Item = (&'a str, &'a str)>,
    change: &BTreeMap<String, Option<String>>,
) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = old.map(|(name, value)| (name.to_string(), value.to_string())).collect();
    for (name, value) in change {
        match value {
            Some(value) => all.insert(name.clone(), value.clone()),
            None => all.remove(name),
        };
    }
    all
}

impl SimService {
    /// What a world file can say of it.
    pub fn told(&self) -> serde_json::Value {
        let Spec { replicas, labels, template, .. } = &self.spec;
        serde_json::json!({
            "name": self.name,
            "global": self.global,
            "replicas": replicas,
            "labels": labels,
            "template": template,
            "behaviour": self.behaviour,
        })
    }

    /// A service of the start state, the `at`-th of all.
    pub fn new(at: usize, name: String, spec: ServiceSpec, nodes: u64) -> Self {
        let ServiceSpec { image, replicas, global, labels, container_labels, env, limits, behaviour } = spec;
        let template = Template { image, container_labels, env, limits, force_update: 0 };
        SimService {
            id: format!("sim-service-{}", at + 1),
            name,
            global,
            version: 10,
            spec: Spec::new(if global { nodes } else { replicas }, labels, template),
            previous: None,
            behaviour,
            last: None,
            generation: 10,
            replaced: None,
        }
    }

    /// Would Swarm accept this change now?
    pub fn check(&self, intent: &ServiceIntent, nodes: u64) -> Result<(), PortError> {
        let name = &self.name;
        let invalid = |message: String| Err(PortError::permanent(ErrorReason::Invalid, message));
        if intent.id != self.id {
            let message =
                format!("service {name} is no longer the one that was read (id {}): it was made anew", intent.id);
            return Err(PortError::permanent(ErrorReason::NotFound, message));
        }
        if intent.version != self.version {
            let message =
                format!("another hand changed {name}: it is at version {}, not {}", self.version, intent.version);
            return Err(PortError::transient(ErrorReason::Conflict, message));
        }
        match intent.change {
            ServiceChange::Scale { .. } if self.global => {
                invalid(format!("{name} is a global service (one task on each of {nodes} nodes): it cannot be scaled"))
            }
            ServiceChange::Rollback { .. } if self.previous.is_none() => {
                invalid(format!("{name} has no previous spec to roll back to"))
            }
            _ => Ok(()),
        }
    }

    /// Makes an accepted change.
    pub fn change(&mut self, applied: &Applied, nodes: u64) {
        let Applied { at, step, change, .. } = applied;
        self.settle(*at);
        let running = self.running(*at, nodes);
        let unfinished = self.last.as_ref().is_some_and(|last| last.kind != Kind::Plain)
            && !matches!(self.stage(*at), Stage::Started);
        let (next, rollback) = match (change, self.previous.take()) {
            (ServiceChange::Rollback { .. }, Some(previous)) => (previous, true),
            (change, _) => (self.spec.with(change).stepped(step), false),
        };
        let replaces = next.hash != self.spec.hash;
        self.version += 1;
        if replaces {
            self.replace(String::new(), nodes);
        }
        let kind = match rollback {
            true => Kind::Rollback,
            false if replaces || unfinished => Kind::Template,
            false => Kind::Plain,
        };
        self.previous = Some(std::mem::replace(&mut self.spec, next));
        self.last = Some(Last { at: *at, kind, running });
    }

    /// Starts the rollback that Swarm starts by itself, if its time has come. What follows from the last change alone: it does not matter when this is called.
    pub fn settle(&mut self, now: Timestamp) {
        let Some(Last { at, kind: Kind::Template, running }) = &self.last else { return };
        let (at, running) = (*at, *running);
        let rolls_back = self.behaviour.on_failure == FailureAction::Rollback;
        let Some(error) = self.failure().map(str::to_string) else { return };
        if rolls_back && self.stage(now) == Stage::GaveUp {
            let Some(previous) = self.previous.take() else { return };
            self.version += 1;
            self.replace(error.clone(), 1);
            self.spec = previous;
            let at = at + (self.behaviour.start.signed() * 2);
            self.last = Some(Last { at, kind: Kind::OwnRollback(error), running });
        }
    }

    /// The tasks of the present template make way. `self.version` is already the next one.
    fn replace(&mut self, error: String, nodes: u64) {
        let tasks = if error.is_empty() { self.wanted(nodes) } else { 1 };
        let image = self.spec.template.image.clone();
        self.replaced = Some(Replaced { generation: self.generation, image, tasks, error });
        self.generation = self.version;
    }

    /// The error with which tasks of the template in force end, if they do.
    fn failure(&self) -> Option<&str> {
        self.behaviour.failure(&self.spec.template.image)
    }

    fn wanted(&self, nodes: u64) -> u64 {
        if self.global { nodes } else { self.spec.replicas }
    }

    fn stage(&self, now: Timestamp) -> Stage {
        let Some(last) = &self.last else { return Stage::Started };
        let (start, passed) = (self.behaviour.start.signed(), now.duration_since(last.at));
        // Nothing fails where nothing is started.
        let starts = match last.kind {
            Kind::Plain => self.global || self.spec.replicas > last.running,
            _ => self.global || self.spec.replicas > 0,
        };
        if passed < start && starts {
            Stage::Starting
        } else if self.failure().is_none() || !starts {
            Stage::Started
        } else if passed < start * 2 || last.kind == Kind::Plain {
            Stage::Failing
        } else {
            Stage::GaveUp
        }
    }

    fn running(&self, now: Timestamp, nodes: u64) -> u64 {
        let wanted = self.wanted(nodes);
        let running = match &self.last {
            _ if nodes == 0 => 0,
            None => wanted,
            Some(_) if self.stage(now) == Stage::Started => wanted,
            Some(Last { kind: Kind::Plain, running, .. }) => *running,
            Some(Last { running, .. }) => (*running).min(wanted).saturating_sub(1),
        };
        running.min(wanted)
    }

    fn update(&self, now: Timestamp) -> (UpdateState, String) {
        let stage = self.stage(now);
        let task = || format!("{} {}", self.task_id(self.generation, 1), self.failure().unwrap_or_default());
        let Some(last) = &self.last else { return (UpdateState::None, String::new()) };
        match (&last.kind, stage) {
            (Kind::Plain, _) => (UpdateState::None, String::new()),
            (Kind::Template, Stage::Started) => (UpdateState::Completed, "update completed".into()),
            (Kind::Template, Stage::GaveUp) => {
                (UpdateState::Paused, format!("update paused due to failure or early termination of task {}", task()))
            }
            (Kind::Template, _) => (UpdateState::Updating, "update in progress".into()),
            (_, Stage::Started) => (UpdateState::RollbackCompleted, "rollback completed".into()),
            (_, Stage::GaveUp) => (
                UpdateState::RollbackPaused,
                format!("rollback paused due to failure or early termination of task {}", task()),
            ),
            (Kind::Rollback, _) => (UpdateState::RollbackStarted, "manually requested rollback".into()),
            (Kind::OwnRollback(error), _) => (
                UpdateState::RollbackStarted,
                format!("update rolled back due to failure or early termination: {error}"),
            ),
        }
    }

    pub fn observe(&self, now: Timestamp, nodes: u64) -> Service {
        let (update, update_message) = self.update(now);
        let template = &self.spec.template;
        Service {
            id: self.id.clone(),
            name: self.name.clone(),
            version: self.version,
            image: template.image.clone(),
            mode: if self.global { Mode::Global } else { Mode::Replicated },
            replicas: self.wanted(nodes),
            running: self.running(now, nodes),
            labels: self.spec.labels.clone(),
            container_labels: template.container_labels.clone(),
            env: template.env.clone(),
            limits: template.limits.clone(),
            force_update: template.force_update,
            update,
            update_message,
            template_hash: self.spec.hash.to_string(),
            previous_template_hash: self.previous.as_ref().map(|previous| previous.hash.to_string()),
            ports: Vec::new(),
        }
    }

    pub fn convergence(&self, now: Timestamp, nodes: u64) -> Convergence {
        let (state, message) = self.update(now);
        let (running, wanted) = (self.running(now, nodes), self.wanted(nodes));
        let error = match &self.last {
            Some(Last { kind: Kind::OwnRollback(error), .. }) => error,
            _ => self.failure().unwrap_or_default(),
        };
        let own_rollback = matches!(&self.last, Some(Last { kind: Kind::OwnRollback(_), .. }));
        match (state, self.stage(now)) {
            (UpdateState::Paused | UpdateState::RollbackPaused, _) => Convergence::Failed(message),
            (UpdateState::RollbackCompleted, _) if own_rollback => {
                Convergence::Failed(format!("Swarm rolled the update back: {error}"))
            }
            (_, Stage::Started) if running == wanted => Convergence::Converged,
            (_, Stage::Failing) => {
                Convergence::Progressing(format!("{running} of {wanted} tasks run; last error: {error}"))
            }
            _ if nodes == 0 => Convergence::Progressing(format!("0 of {wanted} tasks run; no suitable node")),
            _ => Convergence::Progressing(format!("{running} of {wanted} tasks run")),
        }
    }

    fn task_id(&self, generation: u64, slot: u64) -> String {
        format!("{}-{generation}-{slot}", self.id)
    }

    /// Newest first, the tasks that the last update replaced included.
    pub fn tasks(&self, now: Timestamp, nodes: &[String]) -> Vec<Task> {
        let task = |Slot { generation, image, slot, state: (state, desired, error) }| Task {
            id: self.task_id(generation, slot),
            service: self.name.clone(),
            node: node_of(slot, nodes).cloned().unwrap_or_default(),
            state: state.to_string(),
            desired_state: desired.to_string(),
            error: error.to_string(),
            image: image.to_string(),
            addresses: Vec::new(),
            networks: BTreeMap::new(),
        };
        self.slots(now, nodes).into_iter().map(task).collect()
    }

    /// The node of each task that runs.
    pub fn running_on<'a>(&self, now: Timestamp, nodes: &'a [String]) -> impl Iterator<Item = &'a String> {
        let running = self.slots(now, nodes).into_iter().filter(|slot| slot.state.0 == "running");
        running.filter_map(|slot| node_of(slot.slot, nodes))
    }

    fn slots(&self, now: Timestamp, nodes: &[String]) -> Vec<Slot<'_>> {
        let count = nodes.len() as u64;
        let (wanted, running, stage) = (self.wanted(count), self.running(now, count), self.stage(now));
        let image = self.spec.template.image.as_str();
        // In the middle of an update the tasks that run are still the replaced ones, but for the first.
        let old = match (&self.last, &self.replaced) {
            (Some(Last { kind: Kind::Template | Kind::Rollback, .. }), Some(old)) if stage != Stage::Started => {
                Some(old)
            }
            _ => None,
        };
        let broken = self.failure().unwrap_or_default();
        let unplaced = ("pending", "running", "no suitable node");
        let state = |slot: u64| match stage {
            _ if nodes.is_empty() => unplaced,
            _ if old.is_none() && slot <= running => ("running", "running", ""),
            Stage::Failing | Stage::GaveUp => ("failed", "shutdown", broken),
            _ => ("preparing", "running", ""),
        };
        let fresh = if old.is_some() { wanted.min(1) } else { wanted };
        let of = |generation: u64, image, slot, state| Slot { generation, image, slot, state };
        let mut slots: Vec<Slot> = (1..=fresh).map(|slot| of(self.generation, image, slot, state(slot))).collect();
        if let Some(replaced) = &self.replaced {
            let Replaced { generation, image, tasks: were, error } = replaced;
            let ended =
                if error.is_empty() { ("shutdown", "shutdown", "") } else { ("failed", "shutdown", error.as_str()) };
            let runs = |slot: u64| old.is_some() && error.is_empty() && (2..running + 2).contains(&slot);
            let state = |slot| if runs(slot) { ("running", "running", "") } else { ended };
            slots.extend((1..=*were).map(|slot| of(*generation, image, slot, state(slot))));
        }
        slots
    }
}

/// A task, before it is written out.
struct Slot<'a> {
    generation: u64,
    image: &'a str,
    slot: u64,
    /// As it is, as it should be, and its error.
    state: (&'a str, &'a str, &'a str),
}

fn node_of(slot: u64, nodes: &[String]) -> Option<&String> {
    nodes.get((slot as usize - 1) % nodes.len().max(1))
}
