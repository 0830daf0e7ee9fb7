//! The board: everything that is open, and what becomes of it. Given what happened and the time, it decides by `engine` and collects what is to be
//! journalled and started. It calls nothing and waits for nothing: the dispatcher does, after it has staged what the board wrote.

mod approvals;
mod commands;
mod effectiveness;
mod events;
mod intake;
mod life;
mod locks;
mod news;
mod recover;
mod runs;
mod stops;
mod trust;
mod undo;
mod verify;
mod watchdog;

pub use approvals::{Permit, Reply};
pub use runs::{Ended, SERVICES, lock_name};
pub use trust::Trust;
pub use verify::{Asked, Seen, Verification};

use crate::app::metrics::Metrics;
use crate::app::stops::Stops;
use crate::config::Config;
use crate::engine::guard::{Firing, Fleet, Hand};
use crate::engine::ledger::Ledger;
use crate::model::alert::{Fingerprint, Level};
use crate::model::duration::Duration;
use crate::model::effectiveness::Effectiveness;
use crate::model::incident::{Incident, IncidentId, Reason, State, Transition};
use crate::model::message::Message;
use crate::model::rule::Rule;
use crate::model::run::{Run, RunId};
use crate::ports::Write;
use crate::runbook::catalog::Catalog;
use jiff::Timestamp;
use locks::Locks;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// A repeat moves `last_seen` in the journal only after this long: it decides about staleness of half a day.
const SEEN_EVERY: Duration = Duration::from_secs(600);
/// The rule name under which incidents without a rule are keyed. No rule can have it: names are not empty.
const NO_RULE: &str = "";

pub struct Board {
    config: Arc<Config>,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    /// Open incidents are reconciled against Alertmanager's API.
    reconciles: bool,
    levels: HashMap<Fingerprint, Box<Known>>,
    /// The fingerprints of each group key.
    groups: HashMap<Arc<str>, HashSet<Fingerprint>>,
    /// Everything open, and what closed within the flap window.
    incidents: HashMap<IncidentId, Box<Incident>>,
    /// One per (rule, key).
    by_key: HashMap<Key, IncidentId>,
    /// Incidents that the post at hand opened or reopened: decided about when all its alerts have joined.
    fresh: Vec<(IncidentId, Result<(), Reason>)>,
    counts: HashMap<State, i64>,
    counts_changed: bool,
    /// Incidents that changed since the last [`Board::take_out`]: each is written once, however often it changed.
    dirty: BTreeSet<IncidentId>,
    /// When each incident's `until` comes.
    timers: BTreeSet<(Timestamp, IncidentId)>,
    /// When each doubtful refire counts.
    doubts: BTreeSet<(Timestamp, Fingerprint)>,
    locks: Locks,
    /// Runs that have not ended, by their incident.
    live: HashMap<IncidentId, RunId>,
    /// When attempts of each rule were made, as far back as a budget can ask.
    budgets: HashMap<String, VecDeque<Timestamp>>,
    /// Every effect, as far back as a budget can ask.
    ledger: Ledger,
    /// The last effect of each (rule, key).
    effects: HashMap<Key, (Timestamp, String)>,
    /// What the attempts of each rule came to.
    effectiveness: BTreeMap<String, Arc<Effectiveness>>,
    /// The last attempt of each incident.
    attempts: HashMap<IncidentId, verify::Attempt>,
    /// Why what is expected of an incident that is verified is not met, as far as it was asked.
    unmet: HashMap<IncidentId, String>,
    /// Groups that Alertmanager cut off, to be completed from its API.
    cut_off: BTreeMap<Arc<str>, intake::CutOff>,
    /// What of the cluster was told last, and when each schedule ticked last.
    seen: BTreeMap<String, serde_json::Value>,
    /// The alert that is always expected.
    watchdog: Option<watchdog::Watchdog>,
    /// By rule.
    trust: BTreeMap<String, Trust>,
    /// The undo that is about to start.
    undoing: Option<crate::app::undo::Wish>,
    /// What other hands did to services lately.
    hands: HashMap<String, Hand>,
    /// Services in the middle of an update; `None` before the cluster has answered for the first time.
    updating: Option<BTreeSet<String>>,
    stops: Stops,
    stops_changed: bool,
    last_freeze: u64,
    /// When a person last released the fleet brake.
    released_at: Timestamp,
    news: HashMap<String, Timestamp>,
    handled: u64,
    last_incident: u64,
    last_run: u64,
    last_message: u64,
    /// A downtime longer than `resume_within` ends now: runs are not continued.
    down_for: Option<Duration>,
    /// When the sign of life was last written.
    noted_alive: Option<Timestamp>,
    pub out: Out,
}

/// A rule's name (or [`NO_RULE`]) and an incident's key.
type Key = (Arc<str>, Arc<str>);

struct Known {
    level: Level,
    incidents: Vec<IncidentId>,
    /// `last_seen` as the journal has it.
    seen_in_journal: Timestamp,
    /// Since when Alertmanager's API does not list it, though it fires.
    absent_since: Option<Timestamp>,
}

/// What the board wants done, in this order: stage the writes, then the rest.
#[derive(Default)]
pub struct Out {
    pub writes: Vec<Write>,
    pub starts: Vec<Start>,
    /// Suspended runs whose condition may have come.
    pub wakes: Vec<RunId>,
    /// Runs to be stopped at their next wait.
    pub stops: Vec<RunId>,
    /// Incidents that are no longer verified; done before `verify`.
    pub verified: Vec<IncidentId>,
    /// What is to be asked of incidents that are being verified.
    pub verify: Vec<Verification>,
    /// What the attempts of some rule came to has changed.
    pub effectiveness: bool,
    /// There is something to send.
    pub messages: bool,
    /// A group was cut off: ask Alertmanager now.
    pub reconcile: bool,
}

/// A run to execute.
pub struct Start {
    pub run: Run,
    /// It was interrupted by the end of an earlier process.
    pub resumed: bool,
    /// The targets that it holds already.
    pub locked: Vec<String>,
}

impl Board {
    pub fn new(config: Arc<Config>, catalog: Arc<Catalog>, metrics: Arc<Metrics>, reconciles: bool) -> Self {
        Board {
            watchdog: watchdog::Watchdog::of(&config.watchdog),
            config,
            catalog,
            metrics,
            reconciles,
            levels: HashMap::new(),
            groups: HashMap::new(),
            incidents: HashMap::new(),
            by_key: HashMap::new(),
            fresh: Vec::new(),
            counts: HashMap::new(),
            counts_changed: true,
            dirty: BTreeSet::new(),
            timers: BTreeSet::new(),
            doubts: BTreeSet::new(),
            locks: Locks::default(),
            live: HashMap::new(),
            budgets: HashMap::new(),
            ledger: Ledger::default(),
            effects: HashMap::new(),
            effectiveness: BTreeMap::new(),
            attempts: HashMap::new(),
            unmet: HashMap::new(),
            cut_off: BTreeMap::new(),
            seen: BTreeMap::new(),
            trust: BTreeMap::new(),
            undoing: None,
            hands: HashMap::new(),
            updating: None,
            stops: Stops::default(),
            stops_changed: true,
            last_freeze: 0,
            released_at: Timestamp::UNIX_EPOCH,
            news: HashMap::new(),
            handled: 0,
            last_incident: 0,
            last_run: 0,
            last_message: 0,
            down_for: None,
            noted_alive: None,
            out: Out::default(),
        }
    }

    pub fn handled(&self) -> u64 {
        self.handled
    }

    /// What is to be staged now. The rest of what the board wants done stays until [`Board::take_out`].
    pub fn take_writes(&mut self) -> Vec<Write> {
        for id in std::mem::take(&mut self.dirty) {
            if let Some(incident) = self.incidents.get(&id) {
                self.out.writes.push(Write::Incident(incident.clone()));
            }
        }
        std::mem::take(&mut self.out.writes)
    }

    pub fn take_out(&mut self) -> Out {
        let writes = self.take_writes();
        // One that ended in the batch that began it is not asked about.
        let mut verify = std::mem::take(&mut self.out.verify);
        verify.retain(|asked| self.is_verified(asked.incident, asked.since));
        if std::mem::take(&mut self.counts_changed) {
            self.count_states();
        }
        Out { writes, verify, ..std::mem::take(&mut self.out) }
    }

    /// When something is due by itself.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let incident = self.timers.first().map(|(at, _)| *at);
        let doubt = self.doubts.first().map(|(at, _)| *at);
        incident.into_iter().chain(doubt).chain(self.watchdog_due()).chain(self.next_thaw()).min()
    }

    /// Everything whose time has come.
    pub fn tick(&mut self, now: Timestamp) {
        self.thaw_due(now);
        while let Some(&(at, fingerprint)) = self.doubts.first().filter(|(at, _)| *at <= now) {
            self.doubts.remove(&(at, fingerprint));
            self.settle_doubt(fingerprint, now);
        }
        if self.watchdog_due().is_some_and(|at| at <= now) {
            self.watchdog_silent(now);
        }
        while let Some(&(at, id)) = self.timers.first().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, id));
            self.due(id, now);
        }
    }

    /// How many incidents stand in each state.
    fn count_states(&self) {
        let counts: Vec<(State, i64)> = self.counts.iter().map(|(state, count)| (*state, *count)).collect();
        self.metrics.set_incidents(&counts);
    }

    fn fleet<'a>(&'a self, targets: &'a [String]) -> Fleet<'a> {
        let budgets = &self.config.budgets;
        Fleet {
            ledger: &self.ledger,
            target: budgets.target,
            engine: budgets.engine,
            brake: &self.config.brake,
            released_at: self.released_at,
            targets,
        }
    }

    fn rule_of(&self, incident: &Incident) -> Option<Arc<Rule>> {
        self.catalog.rule(incident.rule.as_deref()?).cloned()
    }

    fn key_of(incident: &Incident) -> Key {
        (incident.rule.as_deref().unwrap_or(NO_RULE).into(), incident.key.as_str().into())
    }

    /// What of an incident fires now.
    pub fn firing(&self, incident: &Incident) -> Firing {
        // An event has happened, and that does not pass.
        let mut firing = Firing { confirmed: usize::from(incident.event.is_some()), ..Firing::default() };
        for level in self.levels_of(incident).filter(|level| level.firing()) {
            match (level.suppressed, level.unconfirmed) {
                (true, _) => firing.suppressed += 1,
                (false, true) => firing.unconfirmed += 1,
                (false, false) => firing.confirmed += 1,
            }
        }
        firing
    }

    /// Does anything of an incident fire?
    pub fn fires(&self, incident: &Incident) -> bool {
        self.levels_of(incident).any(Level::firing)
    }

    fn levels_of<'a>(&'a self, incident: &'a Incident) -> impl Iterator<Item = &'a Level> {
        incident.alerts.iter().filter_map(|fingerprint| Some(&self.levels.get(fingerprint)?.level))
    }

    /// Changes an incident by `change`, and keeps timers and counts in step. It is written with the rest of what is taken out next.
    fn edit(&mut self, id: IncidentId, change: impl FnOnce(&mut Incident)) {
        let Some(incident) = self.incidents.get_mut(&id) else { return };
        let (state, until) = (incident.state, incident.until);
        change(incident);
        if incident.until != until {
            if let Some(at) = until {
                self.timers.remove(&(at, id));
            }
            if let Some(at) = incident.until {
                self.timers.insert((at, id));
            }
        }
        if incident.state != state {
            *self.counts.entry(state).or_default() -= 1;
            *self.counts.entry(incident.state).or_default() += 1;
            self.counts_changed = true;
        }
        self.dirty.insert(id);
    }

    fn record(&mut self, id: IncidentId, at: Timestamp, from: Option<State>, to: State, reason: Reason) {
        self.out.writes.push(Write::Transition(Transition { incident: id, at, from, to, reason }));
    }

    fn send(&mut self, message: Message) {
        self.last_message += 1;
        self.out.writes.push(Write::Message(self.last_message, Box::new(message)));
        self.out.messages = true;
    }
}
