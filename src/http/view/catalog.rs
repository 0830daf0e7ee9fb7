//! The rules and runbooks in force, and what their runs came to.

use crate::app::board::Trust;
use crate::model::effectiveness::{Effectiveness, Tally};
use crate::model::mode::Mode;
use crate::model::rule::{AtOnce, Rule};
use crate::model::run::Handler;
use crate::runbook::program::Program;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RuleView {
    pub name: String,
    pub place: String,
    /// As written in Alertmanager's syntax.
    #[serde(rename = "match")]
    pub matchers: Vec<String>,
    pub by: Vec<String>,
    pub tags: Vec<String>,
    pub runbook: Option<String>,
    pub params: BTreeMap<String, Value>,
    pub mode: Mode,
    /// What is done about an incident now: `mode` under the ceiling of the configuration, and by what a rule of `mode: earned` has earned.
    pub in_force: Mode,
    /// `scale: {{ service }}`.
    pub allow: Vec<String>,
    pub cooldown: Option<String>,
    pub budget: Option<String>,
    pub target_budget: Option<String>,
    pub hold_at_most: String,
    /// Windows, as written.
    pub freeze: Vec<String>,
    pub replicas: Option<(u64, u64)>,
    pub at_once: AtOnce,
    pub attempts: u32,
    pub retry_after: String,
    /// What must become true after a run, and by when, in words.
    pub verify: String,
    pub channel: Option<String>,
    pub severity: Option<String>,
    #[serde(rename = "continue")]
    pub goes_on: bool,
    /// What its attempts came to.
    pub effectiveness: EffectivenessView,
    /// `None`: closed.
    pub breaker: Option<BreakerView>,
    /// Of `mode: earned` only.
    pub trust: Option<TrustView>,
}

/// What attempts came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EffectivenessView {
    pub helped: u64,
    pub did_not_help: u64,
    pub flapped: u64,
    /// From the start of an attempt that helped to the resolve, on average, in seconds.
    pub time_to_resolve_seconds: Option<f64>,
}

impl From<Tally> for EffectivenessView {
    fn from(tally: Tally) -> Self {
        let Tally { helped, did_not_help, flapped, .. } = tally;
        let time_to_resolve_seconds = tally.time_to_resolve().map(|time| time.std().as_secs_f64());
        EffectivenessView { helped, did_not_help, flapped, time_to_resolve_seconds }
    }
}

/// An open breaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakerView {
    pub opened_at: Timestamp,
    /// So many attempts in a row had not helped.
    pub after: u32,
}

impl RuleView {
    /// With what its attempts came to.
    pub fn with(mut self, kept: Option<&Effectiveness>) -> Self {
        let breaker = kept.and_then(|kept| kept.breaker.clone());
        self.breaker = breaker.map(|breaker| BreakerView { opened_at: breaker.opened_at, after: breaker.after });
        self.effectiveness = kept.map(Effectiveness::total).unwrap_or_default().into();
        self
    }
}

impl From<&Rule> for RuleView {
    fn from(rule: &Rule) -> Self {
        RuleView {
            name: rule.name.clone(),
            place: rule.place.clone(),
            matchers: rule.matchers.iter().map(ToString::to_string).collect(),
            by: rule.by.clone(),
            tags: rule.tags.clone(),
            runbook: rule.runbook.clone(),
            params: rule.params.clone(),
            mode: rule.mode,
            in_force: rule.mode,
            allow: rule.allow.iter().map(|grant| format!("{}: {}", grant.primitive, grant.target.source)).collect(),
            cooldown: rule.cooldown.map(|time| time.to_string()),
            budget: rule.budget.map(|budget| budget.to_string()),
            target_budget: rule.target_budget.map(|budget| budget.to_string()),
            hold_at_most: rule.hold_at_most.to_string(),
            freeze: rule.freeze.iter().map(ToString::to_string).collect(),
            replicas: rule.replicas,
            at_once: rule.at_once,
            attempts: rule.attempts,
            retry_after: rule.retry_after.to_string(),
            verify: rule.verify.to_string(),
            channel: rule.channel.clone(),
            severity: rule.severity.clone(),
            goes_on: rule.goes_on,
            effectiveness: EffectivenessView::default(),
            breaker: None,
            trust: None,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunbookView {
    pub name: String,
    /// Content hash of its source and of what it imports.
    pub program: String,
    pub doc: String,
    pub defaults: BTreeMap<String, Value>,
    pub handlers: Vec<Handler>,
    /// What its runs came to, over all rules.
    pub effectiveness: EffectivenessView,
}

impl From<&Program> for RunbookView {
    fn from(program: &Program) -> Self {
        RunbookView {
            name: program.name.clone(),
            program: program.hash.0.to_string(),
            doc: program.doc.clone(),
            defaults: program.defaults.clone(),
            handlers: program.handlers.clone(),
            effectiveness: EffectivenessView::default(),
        }
    }
}

/// What a rule of `mode: earned` has earned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrustView {
    pub rule: String,
    /// It runs by itself.
    pub trusted: bool,
    /// Verified successes since the last failure.
    pub streak: u32,
    /// What made it so, in words.
    pub why: String,
    pub since: Option<Timestamp>,
    /// What is done about an incident now, under the ceiling of the configuration.
    pub in_force: Mode,
}

impl TrustView {
    pub fn new(rule: &str, Trust { streak, trusted, why, since }: Trust, max_mode: Mode) -> Self {
        let in_force = Mode::Earned.now(max_mode, trusted);
        TrustView { rule: rule.to_string(), trusted, streak, why, since, in_force }
    }
}
