//! What was changed, as far back as a budget or the fleet brake can ask: what they are computed from. Filled from the journal at the start, and by every
//! effect that is admitted.

use crate::model::effect::{Effect, Way};
use crate::model::incident::IncidentId;
use crate::model::run::RunId;
use jiff::Timestamp;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The largest number that a budget can name: more need not be remembered, of everything and of one target.
const KEPT: usize = crate::model::rule::Budget::MOST as usize;
/// Of so many targets those are forgotten of which nothing is left to ask.
const TARGETS_KEPT: usize = 10_000;

#[derive(Debug, Default)]
pub struct Ledger {
    /// When everything was, in this order.
    all: VecDeque<Timestamp>,
    targets: HashMap<String, VecDeque<Mark>>,
    /// With more targets than this they are looked through for what can be forgotten: twice as many as were left the last time, so that a flood of
    /// targets does not have all of them looked at with each effect.
    sweep_above: usize,
}

/// One effect on one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub at: Timestamp,
    pub rule: Arc<str>,
    pub incident: IncidentId,
    pub run: RunId,
    pub seq: u32,
    pub way: Option<Way>,
}

impl Ledger {
    /// Counts an effect; one that is known already is not counted twice.
    pub fn note(&mut self, effect: &Effect) {
        if self.since(effect).is_some() {
            return;
        }
        push(&mut self.all, effect.at, |at| *at);
        if self.targets.len() > self.sweep_above.max(TARGETS_KEPT) {
            let oldest = effect.at - crate::model::rule::Budget::LONGEST.signed();
            self.targets.retain(|_, marks| marks.back().is_some_and(|mark| mark.at > oldest));
            self.sweep_above = 2 * self.targets.len();
        }
        let Effect { at, rule, incident, run, seq, targets, way } = effect;
        let rule: Arc<str> = rule.as_str().into();
        for target in targets {
            let mark = Mark { at: *at, rule: rule.clone(), incident: *incident, run: *run, seq: *seq, way: *way };
            push(self.targets.entry(target.clone()).or_default(), mark, |mark| mark.at);
        }
    }

    /// Since when this step counts, if it does: it goes on after a restart, or is sent again.
    pub fn since(&self, effect: &Effect) -> Option<Timestamp> {
        let marks = effect.targets.iter().filter_map(|target| self.targets.get(target)).flatten();
        marks.into_iter().find(|mark| mark.is_of(effect)).map(|mark| mark.at)
    }

    /// Counts a step no more.
    pub fn forget(&mut self, effect: &Effect) {
        let Some(at) = self.since(effect) else { return };
        if let Some(known) = self.all.iter().rposition(|known| *known == at) {
            self.all.remove(known);
        }
        for target in &effect.targets {
            if let Some(marks) = self.targets.get_mut(target) {
                marks.retain(|mark| !mark.is_of(effect));
            }
        }
    }

    /// How many effects there were after `since`.
    pub fn effects_after(&self, since: Timestamp) -> usize {
        self.all.iter().rev().take_while(|at| **at > since).count()
    }

    /// How many of them on one target.
    pub fn effects_on(&self, target: &str, since: Timestamp) -> usize {
        self.of(target).take_while(|mark| mark.at > since).count()
    }

    /// The targets on which there were any, each with the newest.
    pub fn targets_after(&self, since: Timestamp) -> impl Iterator<Item = (&str, &Mark)> {
        let newest = self.targets.iter().filter_map(|(target, marks)| Some((target.as_str(), marks.back()?)));
        newest.filter(move |(_, mark)| mark.at > since)
    }

    /// The effects on one target, the newest first.
    pub fn of(&self, target: &str) -> impl Iterator<Item = &Mark> {
        self.targets.get(target).into_iter().flat_map(|marks| marks.iter().rev())
    }
}

impl Mark {
    fn is_of(&self, effect: &Effect) -> bool {
        (self.run, self.seq) == (effect.run, effect.seq)
    }
}

/// Into the order of time: a clock may be set back, and what is put back was before others.
fn push<T>(queue: &mut VecDeque<T>, value: T, at: impl Fn(&T) -> Timestamp) {
    let after = queue.iter().rev().take_while(|known| at(known) > at(&value)).count();
    queue.insert(queue.len() - after, value);
    if queue.len() > KEPT {
        queue.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(second: i64, run: u64, targets: &[&str]) -> Effect {
        Effect {
            at: Timestamp::from_second(second).expect("an instant"),
            rule: "scale-out".into(),
            incident: IncidentId(run),
            run: RunId(run),
            seq: 0,
            targets: targets.iter().map(ToString::to_string).collect(),
            way: None,
        }
    }

    #[test]
    fn effects_are_counted_once_by_time_and_target() {
        let mut ledger = Ledger::default();
        for (second, run, targets) in [(10, 1, &["a"][..]), (20, 2, &["a", "b"]), (20, 2, &["a", "b"]), (30, 3, &["c"])]
        {
            ledger.note(&effect(second, run, targets));
        }
        let since = |second| Timestamp::from_second(second).expect("an instant");
        assert_eq!([0, 10, 20, 30].map(|second| ledger.effects_after(since(second))), [3, 2, 1, 0]);
        assert_eq!([0, 10, 20].map(|second| ledger.effects_on("a", since(second))), [2, 1, 0]);
        assert_eq!([0, 10, 20, 30].map(|second| ledger.targets_after(since(second)).count()), [3, 3, 1, 0]);
        assert_eq!([2, 4].map(|run| ledger.since(&effect(99, run, &["b"]))), [Some(since(20)), None]);
        // What is put back counts from when it was.
        ledger.forget(&effect(99, 2, &["b", "a"]));
        assert_eq!([0, 10, 20].map(|second| ledger.effects_after(since(second))), [2, 1, 1]);
        assert_eq!([0, 10, 20].map(|second| ledger.targets_after(since(second)).count()), [2, 1, 1]);
        ledger.note(&effect(20, 2, &["a", "b"]));
        assert_eq!([0, 10, 20, 30].map(|second| ledger.effects_after(since(second))), [3, 2, 1, 0]);
        assert_eq!([0, 10, 20, 30].map(|second| ledger.targets_after(since(second)).count()), [3, 3, 1, 0]);
    }

    #[test]
    fn targets_of_which_nothing_is_left_to_ask_are_forgotten() {
        let mut ledger = Ledger::default();
        let month = i64::try_from(crate::model::rule::Budget::LONGEST.millis / 1_000).expect("a month");
        for target in 0..=TARGETS_KEPT {
            ledger.note(&effect(0, target as u64, &[&target.to_string()]));
        }
        ledger.note(&effect(1, 100_000, &["new"]));
        // Nothing could be forgotten, so it is not looked at again before there are twice as many.
        assert_eq!((ledger.targets.len(), ledger.sweep_above), (TARGETS_KEPT + 2, 2 * (TARGETS_KEPT + 1)));
        ledger.sweep_above = 0;
        ledger.note(&effect(month + 1, 100_001, &["newer"]));
        assert_eq!(ledger.targets.keys().map(String::as_str).collect::<Vec<_>>(), ["newer"]);
    }

    #[test]
    fn more_than_a_budget_can_ask_for_is_not_kept() {
        let mut ledger = Ledger::default();
        for run in 0..5_000 {
            ledger.note(&effect(run, run as u64, &["a"]));
        }
        assert_eq!(ledger.effects_on("a", Timestamp::UNIX_EPOCH), KEPT);
        assert_eq!(ledger.effects_after(Timestamp::UNIX_EPOCH), KEPT);
    }
}
