//! A rule: matchers → runbook, with parameters, guards and verification. Parsed and valid; the file format is in `runbook::rules`.

use super::duration::Duration;
use super::event::On;
use super::freeze::Window;
use super::label::Labels;
use super::matcher::Matcher;
use super::mode::{Approvers, Mode};
use super::promql::Query;
use super::schedule::Schedule;
use super::template::Template;
use serde::{Deserialize, Serialize};
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
    /// Of effects on each of its targets, of whatever rule.
    pub target_budget: Option<Budget>,
    pub hold_at_most: Duration,
    /// When its runs change nothing.
    pub freeze: Vec<Window>,
    /// Smallest and largest number of replicas this rule may set.
    pub replicas: Option<(u64, u64)>,
    /// How much of what belongs together may be changed at once.
    pub at_once: AtOnce,
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
            tags: Vec::new(),
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
            target_budget: None,
            hold_at_most: Self::HOLD_AT_MOST,
            freeze: Vec::new(),
            replicas: None,
            at_once: AtOnce::default(),
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

/// Caps on what is changed at once: of the services of a stack, of the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AtOnce {
    pub services: Option<Share>,
    pub nodes: Option<Share>,
}

/// `2`, or `25%` of a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    Count(u32),
    Percent(u32),
}

impl Share {
    /// How many of `total`: a percentage is rounded down, and is at least one, or nothing could ever be changed.
    pub fn of(self, total: usize) -> usize {
        match self {
            Share::Count(count) => count as usize,
            Share::Percent(percent) => (total * percent as usize / 100).max(1),
        }
    }
}

impl std::str::FromStr for Share {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let read = match text.trim().strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|percent| (1..=100).contains(percent)).map(Share::Percent),
            None => text.trim().parse().ok().filter(|count| *count >= 1).map(Share::Count),
        };
        read.ok_or_else(|| match text.trim().trim_end_matches('%').parse::<i64>() {
            Ok(_) => format!("{text:?} is out of bounds; from 1% to 100%, or a number from 1 on"),
            Err(_) => format!("{text:?} is no part of a whole; write for example 2, or 25%"),
        })
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Share::Count(count) => write!(f, "{count}"),
            Share::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for Share {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u32),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Budget {
    pub const MOST: u32 = 1_000;
    pub const SHORTEST: Duration = Duration::from_secs(60);
    pub const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
}

impl std::str::FromStr for Budget {
    type Err = String;
    /// The error says what is wrong, and what is right.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let read = match parts[..] {
            [count, "per", per] => count.parse::<u32>().ok().zip(Duration::parse(per).ok()),
            _ => None,
        };
        match read {
            Some((count @ 1..=Self::MOST, per)) if (Self::SHORTEST..=Self::LONGEST).contains(&per) => {
                Ok(Budget { count, per })
            }
            Some(_) => {
                let (most, shortest, longest) = (Self::MOST, Self::SHORTEST, Self::LONGEST);
                Err(format!("{text:?} is out of bounds; between 1 and {most}, per {shortest} to {longest}"))
            }
            None => Err(format!("{text:?} is no budget; write for example `3 per 1h`")),
        }
    }
}

impl Serialize for Budget {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Budget {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_number_or_a_part_and_never_nothing() {
        for (text, total, of) in [("2", 10, 2), ("25%", 10, 2), ("25%", 3, 1), ("100%", 3, 3), ("1%", 0, 1)] {
            let share: Share = text.parse().expect(text);
            assert_eq!((share.of(total), share.to_string().as_str()), (of, text), "of {total}");
        }
        let (no_share, too_much) = ("write for example 2, or 25%", "from 1% to 100%, or a number from 1 on");
        for (text, says) in [
            ("", no_share),
            ("0", too_much),
            ("0%", too_much),
            ("101%", too_much),
            ("-1", too_much),
            ("half", no_share),
            ("% 5", no_share),
        ] {
            let error = text.parse::<Share>().expect_err(text);
            assert!(error.ends_with(says), "{error}");
        }
        let read = |text: &str| serde_json::from_str::<AtOnce>(text).expect(text);
        let expect = AtOnce { services: Some(Share::Percent(25)), nodes: Some(Share::Count(1)) };
        assert_eq!(read(r#"{"services":"25%","nodes":1}"#), expect);
        assert_eq!(serde_json::to_string(&expect).ok().as_deref(), Some(r#"{"services":"25%","nodes":"1"}"#));
    }

    #[test]
    fn a_budget_is_a_number_in_a_time() {
        assert_eq!("3 per 1h".parse(), Ok(Budget { count: 3, per: Duration::from_secs(3600) }));
        for (text, says) in [
            ("3", "write for example"),
            ("3 in 1h", "write for example"),
            ("0 per 1h", "out of bounds"),
            ("1001 per 1h", "out of bounds"),
            ("3 per 59s", "out of bounds"),
            ("3 per 31d", "out of bounds"),
        ] {
            let error = text.parse::<Budget>().expect_err(text);
            assert!(error.contains(says), "{error}");
        }
    }
}
