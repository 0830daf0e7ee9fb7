//! Alertmanager's webhook payload, version 4, decoded. Hostile until it has passed here.

use super::alert::Alert;
use super::label::Labels;

/// One post: a group of alerts, and those of it that could not be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub key: String,
    /// As Alertmanager sends it: regex-escaped text.
    pub receiver: String,
    pub external_url: String,
    /// How many alerts Alertmanager cut off (`max_alerts`).
    pub truncated: u64,
    pub group_labels: Labels,
    pub common_labels: Labels,
    pub common_annotations: Labels,
    pub alerts: Vec<Alert>,
    pub malformed: Vec<Malformed>,
}

/// An alert in a readable envelope that could not be read itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Malformed {
    /// Its index in `alerts`, from 0.
    pub index: usize,
    pub why: String,
    /// The beginning of what was sent.
    pub excerpt: String,
}

/// Why a post can never be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message} at line {line}, column {column}")]
pub struct DecodeError {
    pub message: String,
    pub line: usize,
    pub column: usize,
}
