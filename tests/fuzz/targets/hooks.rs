//! What registries, GitHub and builds post: one body, read as each of them.

use jiff::Timestamp;
use runbookd::model::event::{Event, On};
use runbookd::model::hook::{MAX_EVENTS, MAX_LABEL_BYTES, deploy, github, registry};

pub fn run(body: &[u8]) {
    let at = Timestamp::UNIX_EPOCH;
    let kinds = ["registry_package", "package", "workflow_run"].map(|kind| github::decode(kind, body, at));
    for decoded in kinds.into_iter().chain([registry::decode(body, at)]) {
        let Ok(decoded) = decoded else { continue };
        assert!(decoded.events.len() + decoded.ignored + decoded.malformed.len() <= MAX_EVENTS);
        decoded.events.iter().for_each(check);
    }
    if let Ok(fields) = serde_json::from_slice(body) {
        match deploy::decode(&fields, at) {
            Ok(event) => check(&event),
            Err(why) => assert!(!why.is_empty()),
        }
    }
}

/// An event has plain, short, telling labels.
fn check(event: &Event) {
    assert_eq!(event.on, On::Deploy);
    assert!(event.labels.get("event").is_some() && event.labels.get("source").is_some(), "{}", event.labels);
    for (name, value) in event.labels.iter() {
        let short = (1..=MAX_LABEL_BYTES).contains(&value.len());
        assert!(short && !value.chars().any(char::is_control), "{name}: {value:?}");
    }
}
