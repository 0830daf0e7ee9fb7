//! What registries, GitHub and builds post of what is to be deployed, decoded into events `on: deploy`. Hostile until it has passed here.

pub mod deploy;
pub mod github;
pub mod registry;

use super::event::Event;
use super::label::Labels;
use super::payload::Malformed;
use super::text;

/// Events that one post may bring.
pub const MAX_EVENTS: usize = 1_000;
/// Bytes that the value of a label may have here: names, tags, branches are short.
pub const MAX_LABEL_BYTES: usize = 1_024;
/// Characters of what is kept for people to read, such as a commit's message.
const TEXT_CHARS: usize = 2_000;

/// What a post was about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    pub events: Vec<Event>,
    /// What it told that is no deployment: pulls, layers, builds that failed.
    pub ignored: usize,
    /// What it told that could not be read, in a post that could.
    pub malformed: Vec<Malformed>,
}

/// The pairs that have a value, as labels. `Err` names one that is no plain, short text.
fn labels(pairs: &[(&str, &str)]) -> Result<Labels, String> {
    for (name, value) in pairs {
        if value.len() > MAX_LABEL_BYTES {
            return Err(format!("{name} is longer than {MAX_LABEL_BYTES} bytes"));
        }
        if value.chars().any(char::is_control) {
            return Err(format!("{name} holds a control character"));
        }
    }
    Ok(pairs.iter().copied().filter(|(_, value)| !value.is_empty()).collect())
}

/// The pairs that have a value, as annotations: made visible and cut.
fn annotations(pairs: &[(&str, &str)]) -> Labels {
    let kept = pairs.iter().filter(|(_, value)| !value.is_empty());
    kept.map(|(name, value)| (*name, text::visible_lines(value, TEXT_CHARS))).collect()
}

/// A text that may be absent, or `null`.
fn or_empty(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}
