//! What became of each attempt, and the breakers: judged when the incident says it, journalled with what said it, and told to people once.

use super::Board;
use crate::app::{CommandError, report};
use crate::model::duration::Duration;
use crate::model::effectiveness::{Closed, Effectiveness, Judgement};
use crate::model::incident::IncidentId;
use crate::model::rule::Rule;
use crate::model::run::RunId;
use crate::ports::Write;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Under this and its name the journal remembers what the attempts of a rule came to.
pub(super) const EFFECTIVENESS: &str = "effectiveness ";

impl Board {
    /// What the last attempt of an incident came to. It is counted once.
    pub(super) fn judge(&mut self, id: IncidentId, judgement: Judgement, now: Timestamp) {
        let Some(rule) = self.incidents.get(&id).and_then(|incident| incident.rule.clone()) else { return };
        let Some(attempt) = self.attempts.get_mut(&id).filter(|attempt| !attempt.judged) else { return };
        attempt.judged = true;
        let took = Duration::between(attempt.started_at, now);
        let (run, runbook) = (attempt.run, attempt.runbook.clone());
        self.metrics.judged(&rule, &runbook, judgement);
        if judgement == Judgement::Helped {
            self.metrics.resolved_after(took.std().as_secs_f64());
        }
        self.record_effectiveness(&rule, now, |kept| kept.judge(run, &runbook, judgement, took));
        self.earn(id, judgement == Judgement::Helped, now);
    }

    /// It fires again within the flap window: the attempt that seemed to have helped did not.
    pub(super) fn judge_flap(&mut self, id: IncidentId, now: Timestamp) {
        let Some(rule) = self.incidents.get(&id).and_then(|incident| incident.rule.clone()) else { return };
        let Some(attempt) = self.attempts.get(&id).filter(|attempt| attempt.judged) else { return };
        let (run, runbook) = (attempt.run, attempt.runbook.clone());
        if self.effectiveness.get(&rule).is_some_and(|kept| kept.seems_to_have_helped(run)) {
            self.record_effectiveness(&rule, now, |kept| kept.flapped(run, &runbook));
            self.metrics.judged(&rule, &runbook, Judgement::Flapped);
            self.earn(id, false, now);
        }
    }

    /// Changes what is kept of a rule, opens its breaker if that is due, and has it journalled.
    fn record_effectiveness(&mut self, rule: &str, now: Timestamp, change: impl FnOnce(&mut Effectiveness)) {
        let limit = self.catalog.rule(rule).map_or(0, |rule| self.breaker_limit(rule));
        let kept = Arc::make_mut(self.effectiveness.entry(rule.to_string()).or_default());
        change(kept);
        let tripped = kept.trips(limit, now);
        let after = kept.in_vain();
        self.keep_effectiveness(rule);
        if tripped {
            let text = format!(
                "{after} attempts in a row did not help. Its incidents go to people at once, until somebody has looked at the runbook and closes the \
                 breaker: runbookd rules close-breaker {rule}"
            );
            self.send(report::operators(&format!("The breaker of rule {rule} has opened"), &text, now));
        }
    }

    fn breaker_limit(&self, rule: &Rule) -> u32 {
        rule.breaker.unwrap_or(self.config.incidents.breaker)
    }

    fn keep_effectiveness(&mut self, rule: &str) {
        let Some(kept) = self.effectiveness.get(rule) else { return };
        let stored = serde_json::to_string(&**kept).expect("figures and text serialise");
        self.out.writes.push(Write::Setting(format!("{EFFECTIVENESS}{rule}").into(), Some(stored)));
        self.out.effectiveness = true;
        self.count_breakers();
    }

    fn count_breakers(&self) {
        let open = self.effectiveness.values().filter(|kept| kept.breaker.is_some()).count();
        self.metrics.set_breakers_open(open);
    }

    pub(super) fn recall_effectiveness(&mut self, rule: &str, stored: &str) {
        match serde_json::from_str(stored) {
            Ok(kept) => drop(self.effectiveness.insert(rule.to_string(), Arc::new(kept))),
            Err(error) => tracing::error!(rule, %error, "what the journal kept of the rule's attempts cannot be read"),
        }
        self.count_breakers();
    }

    /// Why a rule starts no run, if its breaker is open.
    pub(super) fn open_breaker(&self, rule: &str) -> Option<String> {
        let breaker = self.effectiveness.get(rule)?.breaker.as_ref()?;
        Some(format!(
            "the breaker of rule {rule} is open since {:.0}: {} attempts in a row did not help; close it with `runbookd rules close-breaker {rule}`",
            breaker.opened_at, breaker.after
        ))
    }

    /// A person closes the breaker of a rule. One that is gone from the files may have an open one, too.
    pub fn close_breaker(&mut self, rule: &str, by: &str, reason: &str, now: Timestamp) -> Result<(), CommandError> {
        if self.catalog.rule(rule).is_none() && !self.effectiveness.contains_key(rule) {
            return Err(self.no_rule(rule));
        }
        let closed = Closed { by: by.to_string(), reason: reason.to_string(), at: now };
        let open = self.effectiveness.get_mut(rule).is_some_and(|kept| Arc::make_mut(kept).close(closed));
        if !open {
            return Err(CommandError::Conflict(format!("the breaker of rule {rule} is not open")));
        }
        self.keep_effectiveness(rule);
        self.send(report::good_news(&format!("The breaker of rule {rule} was closed by {by}"), reason, now));
        Ok(())
    }

    /// What the attempts of each rule came to.
    pub fn effectiveness(&self) -> &BTreeMap<String, Arc<Effectiveness>> {
        &self.effectiveness
    }

    /// Has been counted what this run came to?
    pub(super) fn is_judged(&self, rule: &str, run: RunId) -> bool {
        self.effectiveness.get(rule).is_some_and(|kept| kept.recent.iter().any(|one| one.run == run))
    }
}
