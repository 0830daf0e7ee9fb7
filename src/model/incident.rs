//! An incident: one firing episode under one rule and one key, open until nothing of it fires.

use super::alert::Fingerprint;
use super::event::Event;
use super::label::Labels;
use super::mode::Approval;
use super::run::RunId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Numbers count up in one journal; people see and type `i42`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IncidentId(pub u64);

/// Implements `Display`, parsing and serde for a number that people see behind one letter.
macro_rules! lettered_id {
    ($name:ident, $letter:literal) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }
        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                let digits = text.strip_prefix($letter).unwrap_or(text);
                digits
                    .parse()
                    .map($name)
                    .map_err(|_| format!(concat!("{:?} is no id; expected for example ", $letter, "42"), text))
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use lettered_id;
lettered_id!(IncidentId, "i");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Open,
    Held,
    AwaitingApproval,
    Running,
    Verifying,
    Recovered,
    Escalated,
    Resolved,
}

impl State {
    pub const ALL: [State; 8] = [
        State::Open,
        State::Held,
        State::AwaitingApproval,
        State::Running,
        State::Verifying,
        State::Recovered,
        State::Escalated,
        State::Resolved,
    ];

    pub fn name(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Held => "held",
            State::AwaitingApproval => "awaiting_approval",
            State::Running => "running",
            State::Verifying => "verifying",
            State::Recovered => "recovered",
            State::Escalated => "escalated",
            State::Resolved => "resolved",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for State {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        State::ALL.into_iter().find(|state| state.name() == text).ok_or_else(|| {
            let known = State::ALL.map(State::name).join(", ");
            format!("{text:?} is no state of an incident; expected one of {known}")
        })
    }
}

/// Why something is as it is: a word to count by and a sentence to read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reason {
    /// A closed set, fit for a metric label: `cooldown`, `no_rule`, `run_failed` …
    pub code: std::borrow::Cow<'static, str>,
    pub text: String,
}

impl Reason {
    pub fn new(code: &'static str, text: impl Into<String>) -> Self {
        Reason { code: code.into(), text: text.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    pub id: IncidentId,
    pub state: State,
    /// Why it is in this state.
    pub reason: Reason,
    /// `None` when no rule matched.
    pub rule: Option<String>,
    pub runbook: Option<String>,
    /// What makes it one episode, readable: `service="web"`, a fingerprint, or a group key.
    pub key: String,
    /// The labels that all its alerts had in common when it opened.
    pub labels: Labels,
    /// Every alert that ever belonged to it.
    pub alerts: Vec<Fingerprint>,
    pub runs: Vec<RunId>,
    /// Attempts made so far.
    pub attempt: u32,
    /// How often it resolved and fired again within the flap window.
    pub flaps: u32,
    /// An `on_firing` run of it had an effect.
    pub had_effect: bool,
    /// What its runs changed, in words, the newest last; bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<String>,
    /// `on_resolved` was started: it runs once.
    pub gave_back: bool,
    /// Targets that it has locked, until verification ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locks: Vec<String>,
    /// The event that it is about. An alert's incident has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Box<Event>>,
    /// A newer event of its key, which waits for the run that is at work to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_event: Option<Box<Event>>,
    /// What people are asked about it, or were asked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Box<Approval>>,
    /// Who has it.
    pub acked_by: Option<String>,
    /// People have been told (there is a thread).
    pub escalated: bool,
    pub opened_at: Timestamp,
    /// When it entered this state.
    pub since: Timestamp,
    /// When this state ends by itself, if it does (hold, verification, retry, flap window).
    pub until: Option<Timestamp>,
    /// When it was first held since it last ran; bounds the whole wait.
    pub held_since: Option<Timestamp>,
    pub closed_at: Option<Timestamp>,
}

/// One line of an incident's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    pub incident: IncidentId,
    pub at: Timestamp,
    pub from: Option<State>,
    pub to: State,
    pub reason: Reason,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_with_and_without_their_letter() {
        assert_eq!("i7".parse(), Ok(IncidentId(7)));
        assert_eq!("7".parse(), Ok(IncidentId(7)));
        assert!("r7".parse::<IncidentId>().is_err());
        assert_eq!(serde_json::to_string(&IncidentId(7)).expect("json"), "\"i7\"");
    }

    #[test]
    fn names_of_states_are_those_of_serde() {
        for state in State::ALL {
            assert_eq!(serde_json::to_string(&state).expect("json"), format!("{:?}", state.name()));
            assert_eq!(state.name().parse(), Ok(state));
        }
    }
}
