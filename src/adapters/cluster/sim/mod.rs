//! A simulated Swarm: services converge over time, tasks fail, updates pause or roll back, versions conflict. Nothing leaves the process but one
//! file that remembers the world, so that it survives a `kill -9` of runbookd as a real cluster would.

mod groups;
mod job;
mod log;
mod node;
mod reload;
mod service;
mod world;

pub use groups::GroupApplied;
pub use log::{Applied, WorldError};
pub use reload::SimReload;
pub use world::{Behaviour, FailureAction, GroupSpec, ServiceSpec, World};

use crate::clock::Clock;
use crate::model::cluster::{
    Convergence, JobIntent, JobState, Node, NodeIntent, Service, ServiceChange, ServiceIntent, Task,
};
use crate::model::join::{JoinRole, JoinToken};
use crate::ports::{Cluster, ErrorReason, PortError};
use async_trait::async_trait;
use groups::SimGroup;
use jiff::Timestamp;
use job::{JobBehaviour, SimJob};
use log::{Accepted, WorldLog, WriteLine};
use service::SimService;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// How many of the newest accepted changes are remembered, in memory and in the file.
const APPLIED_KEPT: usize = 200_000;

/// A Swarm that is simulated in memory. Every accepted change is O(log n) in the number of services.
pub struct SimCluster {
    clock: Clock,
    state: Mutex<State>,
    /// Rings with every change.
    moved: Notify,
}

/// What goes wrong with the next `apply`, to a service or to a group.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The call times out and nothing was done.
    TimeoutBefore,
    /// The call times out, and yet it was done.
    TimeoutAfter,
    /// Another hand is faster: it makes this change (`None`: a new version with nothing changed), and the call conflicts.
    AnotherHand(Option<Box<ServiceChange>>),
    /// The cluster cannot be reached; nothing was done.
    Unreachable,
}

/// The whole simulated world.
#[derive(Default)]
struct State {
    services: Vec<SimService>,
    /// Name to place in `services`.
    places: HashMap<String, usize>,
    nodes: Vec<Node>,
    /// Names of the nodes that can run tasks.
    usable: Vec<String>,
    jobs: BTreeMap<String, SimJob>,
    job_behaviours: BTreeMap<String, JobBehaviour>,
    groups: BTreeMap<String, SimGroup>,
    applied: VecDeque<Applied>,
    group_applied: VecDeque<GroupApplied>,
    log: Option<WorldLog>,
    faults: VecDeque<Fault>,
    unreachable: bool,
}

impl SimCluster {
    /// A world in memory, forgotten when it is dropped.
    pub fn new(world: World, clock: Clock) -> Self {
        SimCluster { clock, state: Mutex::new(State::fresh(world)), moved: Notify::new() }
    }

    /// A world that is remembered in the file `log`. When that file exists it wins over `world_file`, the start state.
    ///
    /// Errors: a world file that cannot be read or is wrong, a log that is not one, or that another process holds.
    pub fn open(world_file: Option<&Path>, log: &Path, clock: Clock) -> Result<Self, WorldError> {
        let mut log = WorldLog::open(log)?;
        let mut state = match log.read()? {
            Some(lines) => State::remembered(lines),
            None => State::fresh(world_file.map(World::read).transpose()?.unwrap_or_default()),
        };
        let head = [
            WriteLine::Nodes(&state.nodes),
            WriteLine::NodeGroups(&state.groups),
            WriteLine::Jobs(&state.jobs),
            WriteLine::JobBehaviours(&state.job_behaviours),
        ];
        log.rewrite(head, &state.services, &state.applied, &state.group_applied)?;
        state.log = Some(log);
        Ok(SimCluster { clock, state: Mutex::new(state), moved: Notify::new() })
    }

    /// Is it another than this one was at its start? Changes count, too.
    pub fn differs_from(&self, start: World) -> bool {
        self.state().told() != State::fresh(start).told()
    }

    /// Puts a fault behind those that already wait; each `apply` takes one.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push_back(fault);
    }

    /// While `false`, every call fails as if the socket were gone.
    pub fn set_reachable(&self, reachable: bool) {
        self.state().unreachable = !reachable;
    }

    /// Another hand changes a service, at whatever version it has.
    pub fn another_hand(&self, service: &str, change: &ServiceChange) -> Result<(), PortError> {
        let now = self.clock.now();
        let mut state = self.state();
        state.settle_groups(now);
        let place = state.place(service)?;
        state.accept(place, change, "", now)?;
        self.moved.notify_waiters();
        Ok(())
    }

    /// A node's state becomes another, as when its power fails or is back.
    pub fn set_node_state(&self, node: &str, state: &str) -> Result<(), PortError> {
        self.state().set_node_state(node, state, self.clock.now())?;
        self.moved.notify_waiters();
        Ok(())
    }

    /// The machine of a node ends: the node is down, and its group starts another machine, as auto-scaling groups do.
    pub fn lose_machine(&self, node: &str) -> Result<(), PortError> {
        self.state().lose_machine(node, self.clock.now())?;
        self.moved.notify_waiters();
        Ok(())
    }

    /// The accepted changes, oldest first (the newest 200,000): who did what to which service.
    pub fn applied(&self) -> Vec<Applied> {
        self.state().applied.iter().cloned().collect()
    }

    /// The accepted changes of groups, oldest first (the newest 200,000).
    pub fn group_applied(&self) -> Vec<GroupApplied> {
        self.state().group_applied.iter().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the world as the log has it: every change is written before it is made.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The state as time has left it, unless the cluster is said to be out of reach.
    fn reach(&self) -> Result<MutexGuard<'_, State>, PortError> {
        let mut state = self.state();
        state.settle_groups(self.clock.now());
        if state.unreachable { Err(unreachable()) } else { Ok(state) }
    }
}

impl State {
    fn fresh(world: World) -> Self {
        let nodes = world.nodes();
        let usable = usable(&nodes);
        let groups = world.node_groups.into_iter().map(|(name, spec)| (name, SimGroup::new(spec))).collect();
        let mut state = State { nodes, usable, groups, job_behaviours: world.jobs, ..State::default() };
        state.staff_groups();
        let usable = state.usable.len() as u64;
        let services = world.services.into_iter().enumerate();
        let services = services.map(|(at, (name, spec))| SimService::new(at, name, spec, usable)).collect();
        state.with(services)
    }

    /// What a world file can say of it.
    fn told(&self) -> serde_json::Value {
        let services: Vec<_> = self.services.iter().map(SimService::told).collect();
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|node| (&node.name, &node.role, &node.availability, &node.state, &node.labels))
            .collect();
        serde_json::json!({ "services": services, "nodes": nodes, "groups": self.groups, "jobs": self.job_behaviours })
    }

    /// The world as its log has it.
    fn remembered(lines: log::Lines) -> Self {
        let usable = usable(&lines.nodes);
        let mut state = State {
            nodes: lines.nodes,
            usable,
            groups: lines.groups,
            jobs: lines.jobs,
            job_behaviours: lines.job_behaviours,
            ..State::default()
        }
        .with(lines.services);
        // Worlds written down before groups had machines get them now.
        state.staff_groups();
        for (change, already_made) in lines.accepted {
            match change {
                Accepted::Group(change) if already_made => state.remember_group(change),
                Accepted::Group(change) => state.make_group(change),
                // A change of a service that is not there cannot have been accepted; a log edited by hand may still say so.
                Accepted::Service(change) => match state.places.get(&change.service) {
                    Some(&place) if !already_made => state.make(place, *change),
                    _ => state.remember(*change),
                },
            }
        }
        state
    }

    fn with(mut self, services: Vec<SimService>) -> Self {
        self.places = services.iter().enumerate().map(|(place, service)| (service.name.clone(), place)).collect();
        self.services = services;
        self
    }

    fn place(&self, name: &str) -> Result<usize, PortError> {
        self.places.get(name).copied().ok_or_else(|| {
            PortError::permanent(
                ErrorReason::NotFound,
                format!("there is no service {name:?} in the simulated cluster"),
            )
        })
    }

    /// The service as time has left it: a failed update may have rolled itself back.
    fn settled(&mut self, place: usize, now: Timestamp) -> &SimService {
        self.services[place].settle(now);
        &self.services[place]
    }

    fn apply(&mut self, intent: &ServiceIntent, step: &str, now: Timestamp) -> Result<(), PortError> {
        let fault = self.faults.pop_front();
        match &fault {
            Some(Fault::Unreachable) => return Err(unreachable()),
            Some(Fault::TimeoutBefore) => return Err(timeout(&intent.service)),
            _ => {}
        }
        let place = self.place(&intent.service)?;
        if let Some(Fault::AnotherHand(change)) = &fault {
            match change {
                Some(change) => self.accept(place, change, "", now)?,
                None => {
                    let nothing = ServiceChange::Update { from: Default::default(), to: Default::default() };
                    self.accept(place, &nothing, "", now)?;
                }
            }
        }
        let usable = self.usable.len() as u64;
        let service = self.settled(place, now);
        service.check(intent, usable)?;
        self.accept(place, &intent.change, step, now)?;
        if fault == Some(Fault::TimeoutAfter) { Err(timeout(&intent.service)) } else { Ok(()) }
    }

    /// Writes a change to the log, then makes it. `step` is "" for another hand.
    fn accept(&mut self, place: usize, change: &ServiceChange, step: &str, now: Timestamp) -> Result<(), PortError> {
        let service = self.settled(place, now);
        let version = service.version + 1;
        let (service, step) = (service.name.clone(), step.to_string());
        let applied = Applied { at: now, service, step, version, change: change.clone() };
        write(&mut self.log, &WriteLine::Applied(&applied))?;
        self.make(place, applied);
        Ok(())
    }

    fn make(&mut self, place: usize, applied: Applied) {
        self.settle_groups(applied.at);
        let usable = self.usable.len() as u64;
        self.services[place].change(&applied, usable);
        self.remember(applied);
    }

    fn remember(&mut self, applied: Applied) {
        if self.applied.len() == APPLIED_KEPT {
            self.applied.pop_front();
        }
        self.applied.push_back(applied);
    }

    fn remember_group(&mut self, applied: GroupApplied) {
        if self.group_applied.len() == APPLIED_KEPT {
            self.group_applied.pop_front();
        }
        self.group_applied.push_back(applied);
    }
}

/// Into the log, before the change is made.
fn write(log: &mut Option<WorldLog>, line: &WriteLine) -> Result<(), PortError> {
    let Some(log) = log else { return Ok(()) };
    log.append(line).map_err(|error| {
        let message = format!("the simulated world cannot be written: {error}; free space or mend its directory");
        PortError::transient(ErrorReason::Other, message)
    })
}

fn usable(nodes: &[Node]) -> Vec<String> {
    let usable = nodes.iter().filter(|node| node.state == "ready" && node.availability == "active");
    usable.map(|node| node.name.clone()).collect()
}

fn unreachable() -> PortError {
    PortError::transient(ErrorReason::Unreachable, "the simulated cluster is out of reach")
}

fn timeout(target: &str) -> PortError {
    let message = format!("the change of {target} was sent to the simulated cluster and no answer came in time");
    PortError::unknown(ErrorReason::Timeout, message)
}

#[async_trait]
impl Cluster for SimCluster {
    async fn services(&self) -> Result<Vec<Service>, PortError> {
        let now = self.clock.now();
        let mut state = self.reach()?;
        let usable = state.usable.len() as u64;
        Ok((0..state.services.len()).map(|place| state.settled(place, now).observe(now, usable)).collect())
    }

    async fn service(&self, name: &str) -> Result<Service, PortError> {
        let now = self.clock.now();
        let mut state = self.reach()?;
        let (place, usable) = (state.place(name)?, state.usable.len() as u64);
        Ok(state.settled(place, now).observe(now, usable))
    }

    async fn tasks(&self, service: &str) -> Result<Vec<Task>, PortError> {
        let now = self.clock.now();
        let mut state = self.reach()?;
        let place = state.place(service)?;
        state.settled(place, now);
        Ok(state.services[place].tasks(now, &state.usable))
    }

    async fn nodes(&self) -> Result<Vec<Node>, PortError> {
        let now = self.clock.now();
        Ok(self.reach()?.nodes_at(now))
    }

    async fn apply(&self, intent: &ServiceIntent, step: &str) -> Result<(), PortError> {
        let now = self.clock.now();
        let applied = self.reach()?.apply(intent, step, now);
        self.moved.notify_waiters();
        applied
    }

    async fn apply_node(&self, intent: &NodeIntent) -> Result<(), PortError> {
        let now = self.clock.now();
        let applied = self.reach()?.apply_node(intent, now);
        self.moved.notify_waiters();
        applied
    }

    async fn start_job(&self, job: &JobIntent, step: &str) -> Result<(), PortError> {
        let now = self.clock.now();
        self.reach()?.start_job(job, step, now)
    }

    async fn job(&self, name: &str) -> Result<JobState, PortError> {
        let now = self.clock.now();
        let state = self.reach()?;
        let job = state.jobs.get(name).ok_or_else(|| {
            PortError::permanent(ErrorReason::NotFound, format!("there is no job {name:?} in the simulated cluster"))
        })?;
        Ok(job.state(now))
    }

    async fn jobs(&self) -> Result<Vec<String>, PortError> {
        Ok(self.reach()?.jobs.keys().cloned().collect())
    }

    async fn remove_job(&self, name: &str) -> Result<(), PortError> {
        self.reach()?.change_jobs(|jobs| drop(jobs.remove(name)))
    }

    async fn listen(&self, changed: &Notify) -> Result<(), PortError> {
        loop {
            self.moved.notified().await;
            changed.notify_one();
        }
    }

    async fn convergence(&self, service: &str) -> Result<Convergence, PortError> {
        let now = self.clock.now();
        let mut state = self.reach()?;
        let (place, usable) = (state.place(service)?, state.usable.len() as u64);
        Ok(state.settled(place, now).convergence(now, usable))
    }

    async fn join_token(&self, role: JoinRole) -> Result<JoinToken, PortError> {
        let state = self.reach()?;
        let managers = state.nodes.iter().filter(|node| node.role == "manager" && node.state == "ready");
        let managers = managers.map(|node| format!("{}:2377", node.address)).collect();
        // Of the form that Docker's have; nothing accepts it.
        Ok(JoinToken::new(managers, format!("SWMTKN-1-simulated-{role}")))
    }

    async fn ping(&self) -> Result<(), PortError> {
        self.reach().map(drop)
    }
}

#[cfg(test)]
mod tests;
