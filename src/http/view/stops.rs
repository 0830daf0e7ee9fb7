//! What stops effects: the kill switch, the fleet brake, freezes.

use crate::app::{Braked, Paused};
use crate::config::FreezeConfig;
use crate::model::freeze::{Freeze, FreezeId};
use crate::model::rule::Rule;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Is the kill switch pulled, and by whom?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PauseView {
    pub paused: bool,
    pub by: Option<String>,
    pub reason: Option<String>,
    pub at: Option<Timestamp>,
}

impl From<Option<Paused>> for PauseView {
    fn from(paused: Option<Paused>) -> Self {
        match paused {
            None => PauseView { paused: false, by: None, reason: None, at: None },
            Some(paused) => {
                PauseView { paused: true, by: Some(paused.by), reason: Some(paused.reason), at: Some(paused.at) }
            }
        }
    }
}

/// Is the fleet brake on, and what pulled it?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BrakeView {
    pub braked: bool,
    pub reason: Option<String>,
    pub at: Option<Timestamp>,
}

impl From<Option<Braked>> for BrakeView {
    fn from(braked: Option<Braked>) -> Self {
        let (reason, at) = braked.map(|braked| (braked.reason, braked.at)).unzip();
        BrakeView { braked: at.is_some(), reason, at }
    }
}

/// Every freeze there is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FreezeList {
    pub freezes: Vec<FreezeView>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FreezeView {
    /// Of one that a person made; the others end with their window.
    pub id: Option<FreezeId>,
    /// `one_off`, `configuration` or `rule`.
    pub source: String,
    /// The key in the configuration, or the rule.
    pub name: Option<String>,
    /// What it is for, in words.
    pub scope: String,
    pub by: Option<String>,
    pub reason: Option<String>,
    /// Its windows; none of one that a person made.
    pub when: Vec<String>,
    pub at: Option<Timestamp>,
    pub in_force: bool,
    /// When it ends, if it is in force.
    pub until: Option<Timestamp>,
}

impl From<Freeze> for FreezeView {
    fn from(freeze: Freeze) -> Self {
        FreezeView {
            id: Some(freeze.id),
            source: "one_off".into(),
            name: None,
            scope: freeze.scope.to_string(),
            by: Some(freeze.by),
            reason: Some(freeze.reason),
            when: Vec::new(),
            at: Some(freeze.at),
            in_force: true,
            until: Some(freeze.until),
        }
    }
}

impl FreezeView {
    pub fn configured(name: &str, freeze: &FreezeConfig, now: Timestamp) -> Self {
        let parts = [("rules", &freeze.rules), ("tags", &freeze.tags)];
        let named = parts.into_iter().filter(|(_, names)| !names.is_empty());
        let scope: Vec<String> = named.map(|(what, names)| format!("{what} {}", names.join(", "))).collect();
        let until = freeze.end(now);
        FreezeView {
            id: None,
            source: "configuration".into(),
            name: Some(name.to_string()),
            scope: if scope.is_empty() { "everything".to_string() } else { scope.join(", ") },
            by: None,
            reason: Some(freeze.reason.clone()),
            when: freeze.when.iter().map(ToString::to_string).collect(),
            at: None,
            in_force: until.is_some(),
            until,
        }
    }

    pub fn of_rule(rule: &Rule, now: Timestamp) -> Self {
        let until = rule.freeze.iter().filter_map(|window| window.end(now)).max();
        FreezeView {
            id: None,
            source: "rule".into(),
            name: Some(rule.name.clone()),
            scope: format!("the rule {}", rule.name),
            by: None,
            reason: None,
            when: rule.freeze.iter().map(ToString::to_string).collect(),
            at: None,
            in_force: until.is_some(),
            until,
        }
    }
}

/// A freeze to make: for how long or until when; for one rule, those of one tag, or everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FreezeRequest {
    pub by: String,
    pub reason: String,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// A name, in which `*` stands for any characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}
