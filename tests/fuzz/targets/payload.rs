//! The body of Alertmanager's webhook.

use runbookd::model::payload::{MAX_LABELS, MAX_MALFORMED, MAX_TEXT_BYTES, decode};
use serde_json::{Value, json};

pub fn run(body: &[u8]) {
    let group = match decode(body) {
        Ok(group) => group,
        Err(error) => {
            assert!(error.line >= 1, "{error}");
            assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
            return;
        }
    };
    assert_eq!(decode(body).as_ref(), Ok(&group), "decoded twice");
    assert!(group.malformed.len() <= MAX_MALFORMED);
    for alert in &group.alerts {
        for labels in [&alert.labels, &alert.annotations] {
            assert!(labels.iter().count() <= MAX_LABELS, "{labels}");
            assert!(labels.iter().all(|(name, value)| name.len().max(value.len()) <= MAX_TEXT_BYTES), "{labels}");
        }
    }
    // No alert is lost: it is read, or told.
    let Ok(mut sent) = serde_json::from_slice::<Value>(body) else { return };
    let alerts = sent["alerts"].as_array_mut().expect("what was decoded");
    if group.malformed.len() < MAX_MALFORMED {
        assert_eq!(group.alerts.len() + group.malformed.len(), alerts.len());
    }
    // A bad one costs no other.
    if group.malformed.is_empty() {
        alerts.insert(alerts.len() / 2, json!({ "status": "firing" }));
        let again = decode(sent.to_string().as_bytes()).expect("the same envelope");
        assert_eq!((again.alerts, again.malformed.len()), (group.alerts, 1));
    }
}
