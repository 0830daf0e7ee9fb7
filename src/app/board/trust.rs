//! What a rule of `mode: earned` has earned: enough verified successes in a row let it run by itself, one failure takes that back. People can set either.

use super::Board;
use crate::app::{CommandError, report};
use crate::model::incident::IncidentId;
use crate::model::mode::Mode;
use crate::ports::Write;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings of the journal, followed by the rule's name.
pub(super) const TRUST: &str = "trust/";

/// How a rule stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trust {
    /// Verified successes since the last failure.
    pub streak: u32,
    /// It runs by itself.
    pub trusted: bool,
    /// Who or what made it so, in words.
    pub why: String,
    pub since: Option<Timestamp>,
}

impl Board {
    pub(super) fn trusts(&self, rule: &str) -> bool {
        self.trust.get(rule).is_some_and(|trust| trust.trusted)
    }

    pub fn trust(&self) -> &BTreeMap<String, Trust> {
        &self.trust
    }

    pub(super) fn recall_trust(&mut self, rule: &str, value: &str) {
        // What cannot be read was not earned.
        if let Ok(trust) = serde_json::from_str(value) {
            self.trust.insert(rule.to_string(), trust);
        }
    }

    /// A run of the incident's rule has helped, or has not.
    pub(super) fn earn(&mut self, id: IncidentId, helped: bool, now: Timestamp) {
        let Some(rule) = self.incidents.get(&id).and_then(|incident| self.rule_of(incident)) else { return };
        if rule.mode != Mode::Earned {
            return;
        }
        let mut trust = self.trust.get(&rule.name).cloned().unwrap_or_default();
        let before = trust.trusted;
        if helped {
            trust.streak += 1;
            trust.trusted |= trust.streak >= rule.earned_after;
        } else {
            (trust.streak, trust.trusted) = (0, false);
        }
        if trust.trusted != before {
            trust.since = Some(now);
            trust.why = if helped {
                format!("{} verified successes in a row, the last in {id}", trust.streak)
            } else {
                format!("its run in {id} did not help")
            };
        }
        self.set_trust(&rule.name, trust, before, now);
    }

    /// A person decides whether a rule of `mode: earned` runs by itself.
    pub fn trust_by_hand(
        &mut self,
        rule: &str,
        trusted: bool,
        by: &str,
        why: &str,
        now: Timestamp,
    ) -> Result<Trust, CommandError> {
        let Some(found) = self.catalog.rule(rule) else {
            return Err(self.no_rule(rule));
        };
        if found.mode != Mode::Earned {
            let text =
                format!("rule {rule} says `mode: {}`; only `mode: earned` can be promoted or demoted", found.mode);
            return Err(CommandError::Conflict(text));
        }
        let before = self.trusts(rule);
        let why = if why.is_empty() { format!("by {by}") } else { format!("by {by}: {why}") };
        let trust = Trust { streak: 0, trusted, why, since: Some(now) };
        self.set_trust(rule, trust.clone(), before, now);
        Ok(trust)
    }

    fn set_trust(&mut self, rule: &str, trust: Trust, before: bool, now: Timestamp) {
        let stored = serde_json::to_string(&trust).expect("plain data");
        self.out.writes.push(Write::Setting(format!("{TRUST}{rule}").into(), Some(stored)));
        if trust.trusted != before {
            let title = match trust.trusted {
                true => format!("Rule {rule} runs by itself from now on"),
                false => format!("Rule {rule} asks before it runs from now on"),
            };
            let ceiling = self.config.max_mode;
            let text = match trust.trusted && Mode::Earned.now(ceiling, true) != Mode::Auto {
                true => format!(
                    "{}\nThat is its trust: as long as max_mode of the configuration is {ceiling}, it does not.",
                    trust.why
                ),
                false => trust.why.clone(),
            };
            self.send(match trust.trusted {
                true => report::good_news(&title, &text, now),
                false => report::operators(&title, &text, now),
            });
        }
        self.trust.insert(rule.to_string(), trust);
    }
}
