//! A silence in Alertmanager: what matches it is not told to anybody until it ends.

use super::duration::Duration;
use super::matcher::Matcher;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a step is about to ask of Alertmanager, recorded before it is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SilenceIntent {
    /// Unique to its step, and part of the comment: asked for twice it is the same silence.
    pub key: String,
    /// In Alertmanager's syntax; never empty.
    pub matchers: Vec<String>,
    pub starts_at: Timestamp,
    pub duration: Duration,
    pub comment: String,
}

impl SilenceIntent {
    pub fn ends_at(&self) -> Timestamp {
        self.starts_at + self.duration.signed()
    }

    /// The matchers, read. They were checked when the step was called.
    pub fn parsed(&self) -> Vec<Matcher> {
        self.matchers.iter().filter_map(|text| Matcher::parse(text).ok()).collect()
    }

    /// The comment that Alertmanager keeps: it names the step.
    pub fn full_comment(&self) -> String {
        format!("{} [runbookd {}]", self.comment, self.key)
    }
}

impl fmt::Display for SilenceIntent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "silence {{{}}} for {}, until {:.0}", self.matchers.join(", "), self.duration, self.ends_at())
    }
}
