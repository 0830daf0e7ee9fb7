//! What a journal in memory holds: one map a table, and the meaning of each write.

use super::{effect, listed, page};
use crate::model::alert::{Fingerprint, Level};
use crate::model::effect::Effect;
use crate::model::incident::{Incident, IncidentId, Transition};
use crate::model::message::{Message, MessageId, ThreadRef};
use crate::model::run::{ProgramHash, Run, RunId, Sources};
use crate::model::step::{Outcome, Step};
use crate::ports::{IncidentFilter, Intake, LastEffect, NewIntake, Pending, Recovered, RunFilter, Write};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

#[derive(Clone, Default)]
pub(super) struct Tables {
    intakes: BTreeMap<u64, NewIntake>,
    pub(super) last_intake: u64,
    handled: u64,
    levels: BTreeMap<Fingerprint, Level>,
    incidents: BTreeMap<IncidentId, Incident>,
    transitions: BTreeMap<IncidentId, Vec<Transition>>,
    runs: BTreeMap<RunId, Run>,
    steps: BTreeMap<RunId, BTreeMap<u32, Step>>,
    programs: BTreeMap<ProgramHash, Arc<Sources>>,
    messages: BTreeMap<MessageId, Letter>,
    threads: BTreeMap<IncidentId, ThreadRef>,
    settings: BTreeMap<String, String>,
    last_incident: u64,
    last_run: u64,
    last_message: u64,
}

#[derive(Clone)]
struct Letter {
    message: Message,
    /// When it was sent, or given up.
    done_at: Option<Timestamp>,
}

/// A write whose row has been through JSON, as it comes back from a journal on disk. What does not survive that must not survive here either.
pub(super) fn stored(write: Write) -> Write {
    match write {
        Write::Level(level) => Write::Level(read_back(&level)),
        Write::Incident(incident) => Write::Incident(read_back(&incident)),
        Write::Run(run) => Write::Run(read_back(&run)),
        Write::Step(step) => Write::Step(read_back(&step)),
        other => other,
    }
}

fn read_back<T: Serialize + DeserializeOwned>(row: &T) -> T {
    let text = serde_json::to_string(row).expect("a row serialises");
    serde_json::from_str(&text).expect("a row reads back")
}

impl Tables {
    pub(super) fn add(&mut self, post: NewIntake) -> u64 {
        self.last_intake += 1;
        self.intakes.insert(self.last_intake, post);
        self.last_intake
    }

    /// Takes a write that is [`stored`].
    pub(super) fn apply(&mut self, write: Write) {
        match write {
            Write::Handled(id) => self.handled = id,
            Write::Level(level) => {
                self.levels.insert(level.alert.fingerprint, *level);
            }
            Write::ForgetSteps(run) => {
                self.steps.remove(&run);
            }
            Write::ForgetLevel(fingerprint) => {
                self.levels.remove(&fingerprint);
            }
            Write::Incident(incident) => {
                self.last_incident = self.last_incident.max(incident.id.0);
                self.incidents.insert(incident.id, *incident);
            }
            Write::Transition(transition) => {
                self.transitions.entry(transition.incident).or_default().push(transition);
            }
            Write::Run(run) => {
                self.last_run = self.last_run.max(run.id.0);
                self.runs.insert(run.id, *run);
            }
            Write::Step(step) => {
                self.steps.entry(step.run).or_default().insert(step.seq, *step);
            }
            Write::Program(hash, sources) => {
                self.programs.entry(hash).or_insert(sources);
            }
            Write::Message(id, message) => {
                self.last_message = self.last_message.max(id);
                let done_at = self.messages.get(&id).and_then(|known| known.done_at);
                self.messages.insert(id, Letter { message: *message, done_at });
            }
            Write::Sent { id, at, thread } => {
                self.done(id, at);
                self.threads.extend(thread);
            }
            Write::Unsendable { id, at, why: _ } => self.done(id, at),
            Write::Setting(name, Some(value)) => {
                self.settings.insert(name.into_owned(), value);
            }
            Write::Setting(name, None) => {
                self.settings.remove(&*name);
            }
        }
    }

    fn done(&mut self, id: MessageId, at: Timestamp) {
        if let Some(letter) = self.messages.get_mut(&id) {
            letter.done_at = Some(at);
        }
    }

    pub(super) fn intake_after(&self, after: u64, limit: usize) -> Vec<Intake> {
        let later = self.intakes.range((Bound::Excluded(after), Bound::Unbounded));
        later.take(limit).map(|(id, post)| Intake { id: *id, post: post.clone() }).collect()
    }

    pub(super) fn recover(&self, since: Timestamp) -> Recovered {
        Recovered {
            handled: self.handled,
            levels: self.levels.values().cloned().collect(),
            incidents: self
                .incidents
                .values()
                .filter(|one| one.closed_at.is_none_or(|closed| closed > since))
                .cloned()
                .collect(),
            runs: self.runs.values().filter(|one| !one.state.ended() || one.started_at > since).cloned().collect(),
            last_effects: self.last_effects(since),
            effects: self.effects(since),
            settings: self.settings.clone().into_iter().collect(),
            last_incident: self.last_incident,
            last_run: self.last_run,
            last_message: self.last_message,
        }
    }

    fn effects(&self, since: Timestamp) -> Vec<Effect> {
        let of_run = |run: &Run| self.steps.get(&run.id).into_iter().flat_map(BTreeMap::values);
        let of_step = |run: &Run, step: &Step| Effect::of(&run.rule, run.incident, step);
        let all = self.runs.values().flat_map(|run| of_run(run).filter_map(move |step| of_step(run, step)));
        let mut all: Vec<Effect> = all.filter(|effect| effect.at > since).collect();
        all.sort_by_key(|effect| (effect.at, effect.run, effect.seq));
        all
    }

    fn last_effects(&self, since: Timestamp) -> Vec<LastEffect> {
        let mut newest: BTreeMap<(&str, &str), (Timestamp, String)> = BTreeMap::new();
        for step in self.steps.values().flat_map(BTreeMap::values) {
            let Some((at, what)) = effect(step).filter(|(at, _)| *at > since) else { continue };
            let Some(run) = self.runs.get(&step.run) else { continue };
            let Some(incident) = self.incidents.get(&run.incident) else { continue };
            let known = newest.entry((&run.rule, &incident.key)).or_insert((Timestamp::MIN, String::new()));
            if at >= known.0 {
                *known = (at, what);
            }
        }
        let named =
            |((rule, key), (at, what)): ((&str, &str), _)| LastEffect { rule: rule.into(), key: key.into(), at, what };
        newest.into_iter().map(named).collect()
    }

    pub(super) fn run(&self, id: RunId) -> Option<Run> {
        self.runs.get(&id).cloned()
    }

    pub(super) fn steps(&self, id: RunId) -> Vec<Step> {
        self.steps.get(&id).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Steps in doubt of runs that have not ended.
    pub(super) fn in_doubt(&self) -> Vec<(Run, Step)> {
        let unended = self.runs.values().filter(|run| !run.state.ended());
        let steps = unended.flat_map(|run| {
            self.steps.get(&run.id).into_iter().flat_map(BTreeMap::values).map(move |step| (run, step))
        });
        let doubtful = steps.filter(|(_, step)| step.outcome == Outcome::InDoubt);
        doubtful.map(|(run, step)| (run.clone(), step.clone())).collect()
    }

    pub(super) fn runs(&self, filter: &RunFilter) -> Vec<Run> {
        let newest_first = self.runs.values().rev();
        newest_first
            .filter(|run| filter.incident.is_none_or(|incident| run.incident == incident))
            .filter(|run| filter.before.is_none_or(|before| run.id < before))
            .take(page(filter.limit))
            .cloned()
            .collect()
    }

    pub(super) fn program(&self, hash: &ProgramHash) -> Option<Sources> {
        self.programs.get(hash).map(|sources| Sources::clone(sources))
    }

    pub(super) fn incident(&self, id: IncidentId) -> Option<Incident> {
        self.incidents.get(&id).cloned()
    }

    pub(super) fn transitions(&self, id: IncidentId) -> Vec<Transition> {
        self.transitions.get(&id).cloned().unwrap_or_default()
    }

    pub(super) fn incidents(&self, filter: &IncidentFilter) -> Vec<Incident> {
        let newest_first = self.incidents.values().rev();
        newest_first
            .filter(|incident| filter.before.is_none_or(|before| incident.id < before))
            .filter(|incident| listed(filter, incident))
            .take(page(filter.limit))
            .cloned()
            .collect()
    }

    pub(super) fn level(&self, fingerprint: Fingerprint) -> Option<Level> {
        self.levels.get(&fingerprint).cloned()
    }

    fn unsent(&self) -> impl Iterator<Item = (&MessageId, &Letter)> {
        self.messages.iter().filter(|(_, letter)| letter.done_at.is_none())
    }

    pub(super) fn outbox(&self, after: MessageId, limit: usize) -> Vec<Pending> {
        let later = self.unsent().filter(|(id, _)| **id > after);
        later.take(limit).map(|(id, letter)| Pending { id: *id, message: letter.message.clone() }).collect()
    }

    pub(super) fn outbox_depth(&self) -> u64 {
        self.unsent().count() as u64
    }

    pub(super) fn thread(&self, incident: IncidentId) -> Option<ThreadRef> {
        self.threads.get(&incident).cloned()
    }

    /// How many rows went. An incident that still has something to say or to do stays.
    pub(super) fn prune(&mut self, before: Timestamp) -> u64 {
        let old = |at: Option<Timestamp>| at.is_some_and(|at| at < before);
        let busy: BTreeSet<IncidentId> = self
            .unsent()
            .filter_map(|(_, letter)| letter.message.incident)
            .chain(self.runs.values().filter(|run| !run.state.ended()).map(|run| run.incident))
            .collect();
        let gone: BTreeSet<IncidentId> = self
            .incidents
            .values()
            .filter(|one| old(one.closed_at) && !busy.contains(&one.id))
            .map(|one| one.id)
            .collect();
        let rows = self.rows();
        self.incidents.retain(|id, _| !gone.contains(id));
        self.transitions.retain(|id, _| !gone.contains(id));
        self.threads.retain(|id, _| !gone.contains(id));
        self.runs.retain(|_, run| !gone.contains(&run.incident));
        self.steps.retain(|id, _| self.runs.contains_key(id));
        self.messages.retain(|_, letter| match letter.message.incident {
            Some(incident) => !gone.contains(&incident),
            None => !old(letter.done_at),
        });
        self.intakes.retain(|id, post| *id > self.handled || post.received_at >= before);
        let pinned: BTreeSet<&ProgramHash> = self.runs.values().map(|run| &run.program).collect();
        self.programs.retain(|hash, _| pinned.contains(hash));
        rows - self.rows()
    }

    fn rows(&self) -> u64 {
        let rows = self.intakes.len()
            + self.incidents.len()
            + self.transitions.values().map(Vec::len).sum::<usize>()
            + self.runs.len()
            + self.steps.values().map(BTreeMap::len).sum::<usize>()
            + self.programs.len()
            + self.messages.len()
            + self.threads.len();
        rows as u64
    }
}
