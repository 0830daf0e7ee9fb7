//! The body of Alertmanager's webhook.

use runbookd::model::payload::{MAX_LABELS, MAX_MALFORMED, MAX_TEXT_BYTES, decode};
use serde_json::Value;

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
    let sent = serde_json::from_slice(body).ok().and_then(|sent: Value| Some(sent.get("alerts")?.as_array()?.len()));
    if let Some(sent) = sent.filter(|_| group.malformed.len() < MAX_MALFORMED) {
        assert_eq!(group.alerts.len() + group.malformed.len(), sent);
    }
}
