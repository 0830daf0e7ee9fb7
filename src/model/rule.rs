//! A rule: matchers → runbook, with parameters, guards and verification. Parsed and valid; the file format is in `runbook::rules`.

use super::duration::Duration;
use super::event::On;
use super::label::Labels;
use super::matcher::Matcher;
use super::mode::{Approvers, Mode};
use super::promql::Query;
use super::schedule::Schedule;
use super::template::Template;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    /// `rules/web.yaml:12`, for people.
    pub place: String,
    /// The events that it takes; `None`: alerts.
    pub on: Option<On>,
    /// For `on: schedule`: when.
    pub schedule: Option<Schedule>,
    /// It takes events that steps of ours brought about, too.
    pub own: bool,
    /// All of them must match.
    pub matchers: Vec<Matcher>,
    /// One incident per combination of these labels; empty: one per alert.
    pub by: Vec<String>,
    /// `None`: the rule escalates at once (a route to people).
    pub runbook: Option<String>,
    pub params: BTreeMap<String, Value>,
    pub mode: Mode,
    pub approve: Approvers,
    /// For `mode: earned`: verified successes in a row until it goes by itself.
    pub earned_after: u32,
    /// Without any, no mutating step at all.
    pub allow: Vec<Grant>,
    pub cooldown: Option<Duration>,
    pub budget: Option<Budget>,
    /// So many attempts in a row that did not help open its breaker; 0: none do. `None`: as the configuration says.
    pub breaker: Option<u32>,
    pub hold_at_most: Duration,
    /// Smallest and largest number of replicas this rule may set.
    pub replicas: Option<(u64, u64)>,
    pub attempts: u32,
    pub retry_after: Duration,
    pub verify: Verify,
    pub channel: Option<String>,
    pub severity: Option<String>,
    /// The next rule is tried too.
    pub goes_on: bool,
}

impl Rule {
    pub const HOLD_AT_MOST: Duration = Duration::from_secs(300);
    pub const RETRY_AFTER: Duration = Duration::from_secs(30);
    pub const RESOLVED_WITHIN: Duration = Duration::from_secs(900);

    pub const EARNED_AFTER: u32 = 5;

    pub const SEVERITY: &str = "critical";

    /// A rule with these matchers, everything else as when its key is absent from the file.
    pub fn matching(name: &str, matchers: Vec<Matcher>) -> Self {
        Rule {
            name: name.to_string(),
            place: String::new(),
            on: None,
            schedule: None,
            own: false,
            matchers,
            by: Vec::new(),
            runbook: None,
            params: BTreeMap::new(),
            mode: Mode::Auto,
            approve: Approvers::default(),
            earned_after: Self::EARNED_AFTER,
            allow: Vec::new(),
            cooldown: None,
            budget: None,
            breaker: None,
            hold_at_most: Self::HOLD_AT_MOST,
            replicas: None,
            attempts: 1,
            retry_after: Self::RETRY_AFTER,
            verify: Verify::default(),
            channel: None,
            severity: Some(Self::SEVERITY.to_string()),
            goes_on: false,
        }
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches(labels))
    }
}

/// How it is found out whether a run helped, and by when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    pub expects: Expects,
    pub within: Duration,
}

/// What must become true after a run. That the alert resolves is enough in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expects {
    /// The rule leaves it to the runbook: its `verify`, if it has one.
    AsTheRunbookSays,
    /// Nothing but that the alert resolves.
    Resolved,
    /// The expression has a result.
    Promql(Query),
}

impl Default for Verify {
    fn default() -> Self {
        Verify { expects: Expects::AsTheRunbookSays, within: Rule::RESOLVED_WITHIN }
    }
}

impl Verify {
    /// The first label that its expression needs and an alert does not have.
    pub fn missing<'a>(&'a self, labels: &Labels) -> Option<&'a str> {
        match &self.expects {
            Expects::Promql(query) => query.labels().find(|name| labels.value(name).is_empty()),
            Expects::AsTheRunbookSays | Expects::Resolved => None,
        }
    }
}

impl std::fmt::Display for Verify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.expects {
            Expects::AsTheRunbookSays => write!(f, "resolved, or as the runbook verifies, within {}", self.within),
            Expects::Resolved => write!(f, "resolved within {}", self.within),
            Expects::Promql(query) => write!(f, "resolved, or {}, within {}", query.source, self.within),
        }
    }
}

/// `scale: "{{ service }}"`: this primitive, on targets that this pattern names.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    pub primitive: String,
    pub target: Template,
}

/// `3 per 1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub count: u32,
    pub per: Duration,
}

impl std::fmt::Display for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} per {}", self.count, self.per)
    }
}

impl Rule {
    /// The key of the incident that an alert with these labels belongs to, readable: `service="web"`.
    /// `Err` names the first `by` label that is missing. With no `by`, `None`: the fingerprint is the key.
    pub fn key(&self, labels: &Labels) -> Result<Option<String>, String> {
        use std::fmt::Write;
        if self.by.is_empty() {
            return Ok(None);
        }
        let mut key = String::new();
        for name in &self.by {
            // A label that is present but "" is missing in Prometheus' eyes.
            let value = labels.get(name).filter(|value| !value.is_empty()).ok_or_else(|| name.clone())?;
            let comma = if key.is_empty() { "" } else { ", " };
            let _ = write!(key, "{comma}{name}={value:?}");
        }
        Ok(Some(key))
    }
}
