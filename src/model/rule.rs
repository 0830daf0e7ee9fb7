//! A rule: matchers → runbook, with parameters, guards and verification. Parsed and valid; the file format is in `runbook::rules`.

use super::duration::Duration;
use super::event::On;
use super::freeze::Window;
use super::label::Labels;
use super::matcher::Matcher;
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
    /// By which freezes name it together with others.
    pub tags: Vec<String>,
    /// All of them must match.
    pub matchers: Vec<Matcher>,
    /// One incident per combination of these labels; empty: one per alert.
    pub by: Vec<String>,
    /// `None`: the rule escalates at once (a route to people).
    pub runbook: Option<String>,
    pub params: BTreeMap<String, Value>,
    /// Without any, no mutating step at all.
    pub allow: Vec<Grant>,
    pub cooldown: Option<Duration>,
    pub budget: Option<Budget>,
    pub hold_at_most: Duration,
    /// When its runs change nothing.
    pub freeze: Vec<Window>,
    /// Smallest and largest number of replicas this rule may set.
    pub replicas: Option<(u64, u64)>,
    pub attempts: u32,
    pub retry_after: Duration,
    pub resolved_within: Duration,
    pub channel: Option<String>,
    pub severity: Option<String>,
    /// The next rule is tried too.
    pub goes_on: bool,
}

impl Rule {
    pub const HOLD_AT_MOST: Duration = Duration::from_secs(300);
    pub const RETRY_AFTER: Duration = Duration::from_secs(30);
    pub const RESOLVED_WITHIN: Duration = Duration::from_secs(900);

    pub const SEVERITY: &str = "critical";

    /// A rule with these matchers, everything else as when its key is absent from the file.
    pub fn matching(name: &str, matchers: Vec<Matcher>) -> Self {
        Rule {
            name: name.to_string(),
            place: String::new(),
            on: None,
            schedule: None,
            own: false,
            tags: Vec::new(),
            matchers,
            by: Vec::new(),
            runbook: None,
            params: BTreeMap::new(),
            allow: Vec::new(),
            cooldown: None,
            budget: None,
            hold_at_most: Self::HOLD_AT_MOST,
            freeze: Vec::new(),
            replicas: None,
            attempts: 1,
            retry_after: Self::RETRY_AFTER,
            resolved_within: Self::RESOLVED_WITHIN,
            channel: None,
            severity: Some(Self::SEVERITY.to_string()),
            goes_on: false,
        }
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches(labels))
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
