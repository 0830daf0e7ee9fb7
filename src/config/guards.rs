//! The keys that hold for all rules: budgets, the fleet brake, arbitration, freezes. A rule's own can only make them stricter.

use super::Config;
use crate::model::duration::Duration;
use crate::model::freeze::{self, Window};
use crate::model::rule::{Budget, Rule};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How many effects there may be, over all rules. A rule's own can only make it less.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetsConfig {
    /// On each target.
    #[serde(deserialize_with = "budget_or_none")]
    pub target: Option<Budget>,
    /// In all.
    #[serde(deserialize_with = "budget_or_none")]
    pub engine: Option<Budget>,
}

/// The fleet brake: when so much is changed, over all rules, everything holds until a person releases it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrakeConfig {
    /// Distinct targets.
    #[serde(deserialize_with = "budget_or_none")]
    pub targets: Option<Budget>,
    #[serde(deserialize_with = "budget_or_none")]
    pub effects: Option<Budget>,
}

impl Default for BrakeConfig {
    fn default() -> Self {
        let per = |count| Some(Budget { count, per: Duration::from_secs(600) });
        BrakeConfig { targets: per(20), effects: per(100) }
    }
}

/// Between hands that change the same thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArbitrationConfig {
    /// A service that another hand has changed is left alone for so long.
    #[serde(deserialize_with = "duration_or_none")]
    pub hands: Option<Duration>,
    /// No rule scales back for so long what another rule has scaled.
    #[serde(deserialize_with = "duration_or_none")]
    pub opposite: Option<Duration>,
}

impl Default for ArbitrationConfig {
    fn default() -> Self {
        ArbitrationConfig { hands: None, opposite: Some(Duration::from_secs(60)) }
    }
}

fn duration_or_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => Duration::parse(text).map(Some).map_err(serde::de::Error::custom),
    }
}

/// "" takes a default away, which the environment cannot say otherwise.
fn budget_or_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Budget>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// When nothing is to be changed, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeConfig {
    /// One window or several.
    #[serde(deserialize_with = "one_or_many")]
    pub when: Vec<Window>,
    /// People read it in every incident that it holds.
    pub reason: String,
    /// The rules that it is for, by name; `*` stands for any characters. With neither these nor tags it is for all.
    #[serde(default)]
    pub rules: Vec<String>,
    #[serde(default)]
    pub tags: Vec<String>,
}

impl FreezeConfig {
    /// `None`: the rule is not there any more.
    pub fn covers(&self, rule: Option<&Rule>) -> bool {
        if self.rules.is_empty() && self.tags.is_empty() {
            return true;
        }
        rule.is_some_and(|rule| {
            self.rules.iter().any(|pattern| freeze::names(pattern, &rule.name))
                || self.tags.iter().any(|tag| rule.tags.contains(tag))
        })
    }

    /// The names and tags that no rule has: there it is for nothing, and nobody would notice.
    pub fn names_nothing<'a>(&'a self, rules: &[Arc<Rule>]) -> Vec<&'a str> {
        let no_rule = |pattern: &&String| !rules.iter().any(|rule| freeze::names(pattern, &rule.name));
        let no_tag = |tag: &&String| !rules.iter().any(|rule| rule.tags.contains(tag));
        let names = self.rules.iter().filter(no_rule).chain(self.tags.iter().filter(no_tag));
        names.map(String::as_str).collect()
    }

    /// When it ends, if it is in force; of several windows the last end counts.
    pub fn end(&self, now: Timestamp) -> Option<Timestamp> {
        self.when.iter().filter_map(|window| window.end(now)).max()
    }
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Window>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a window of time, or a list of them")]
    enum Written {
        One(String),
        Many(Vec<String>),
    }
    let written = match Written::deserialize(deserializer)? {
        Written::One(text) => vec![text],
        Written::Many(all) => all,
    };
    if written.is_empty() {
        return Err(serde::de::Error::custom("`when` names no window: the freeze would never be in force"));
    }
    written.iter().map(|text| Window::parse(text).map_err(serde::de::Error::custom)).collect()
}

impl Config {
    /// The freezes that are for no rule there is, or over for good.
    pub fn idle_freezes(&self, rules: &[Arc<Rule>], now: Timestamp) -> Vec<IdleFreeze> {
        let mut found = Vec::new();
        for (name, freeze) in &self.freezes {
            let nothing = freeze.names_nothing(rules).join(", ");
            if !nothing.is_empty() {
                found.push(IdleFreeze {
                    name: name.clone(),
                    window: None,
                    message: format!("freezes.{name} names what no rule is called or tagged: {nothing}"),
                    help: "name the rule, or give it the tag: as it stands, the freeze does not hold it",
                });
            }
            for (at, window) in freeze.when.iter().enumerate() {
                let Some(end) = window.past(now) else { continue };
                let end = end.strftime("%Y-%m-%d %H:%MZ");
                found.push(IdleFreeze {
                    name: name.clone(),
                    window: Some(at),
                    message: format!("freezes.{name} is over since {end}: it holds nothing any more"),
                    help: "remove it, or write the dates that are meant",
                });
            }
        }
        found
    }
}

/// A freeze that holds nothing: nobody would notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleFreeze {
    pub name: String,
    /// Which of its windows is meant; `None`: what it names.
    pub window: Option<usize>,
    pub message: String,
    pub help: &'static str,
}
