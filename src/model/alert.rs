//! One alert as Alertmanager tells it, and the level runbookd keeps of it.

use super::label::Labels;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Alertmanager's identity of an alert: a 64-bit hash of its labels, written as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// The hash Prometheus uses (`model.LabelSet.Fingerprint`): FNV-1a over the sorted names and values, each followed by 0xff.
    pub fn of(labels: &Labels) -> Self {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let mut hash = OFFSET;
        let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        for (name, value) in labels.iter() {
            name.bytes().chain([0xff]).chain(value.bytes()).chain([0xff]).for_each(&mut add);
        }
        Fingerprint(hash)
    }

    /// Reads 16 hex digits; anything else is no fingerprint of Alertmanager's.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        hex.then(|| u64::from_str_radix(text, 16).ok()).flatten().map(Fingerprint)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Fingerprint::parse(&text).ok_or_else(|| serde::de::Error::custom("a fingerprint is 16 hex digits"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Firing,
    Resolved,
}

/// One alert of a payload, decoded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub fingerprint: Fingerprint,
    pub status: Status,
    pub labels: Labels,
    #[serde(default)]
    pub annotations: Labels,
    pub starts_at: Timestamp,
    /// `None` while firing (Alertmanager writes `0001-01-01T00:00:00Z`).
    #[serde(default)]
    pub ends_at: Option<Timestamp>,
    #[serde(default)]
    pub generator_url: Box<str>,
}

impl Alert {
    pub fn name(&self) -> &str {
        self.labels.value("alertname")
    }
}

/// What is known of one fingerprint now: its level, not how often it was told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    pub alert: Alert,
    /// Alertmanager's group key and receiver of the payload that told it last.
    pub group: GroupRef,
    /// When a payload (or Alertmanager's API) last spoke of it.
    pub last_seen: Timestamp,
    /// When it was last seen to resolve; kept over a refire so that late, reordered posts can be told apart.
    pub resolved_at: Option<Timestamp>,
    /// Absent from an untruncated firing payload of its group: no new attempt starts for it.
    pub unconfirmed: bool,
    /// Silenced or inhibited, as Alertmanager's API says: not acted on.
    pub suppressed: bool,
    /// It was told to fire again just after it resolved, with the same start: perhaps an old post that came late.
    /// It counts from this moment on, unless it is told resolved (or Alertmanager's API denies it) before.
    #[serde(default)]
    pub refire_at: Option<Timestamp>,
    /// A person closed its incident then, though it fires: what began later is another episode, even if the end of this one is never told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
}

impl Level {
    pub fn firing(&self) -> bool {
        self.alert.status == Status::Firing
    }
}

/// The group that an alert arrived in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GroupRef {
    pub key: std::sync::Arc<str>,
    pub external_url: std::sync::Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_alertmanagers_own() {
        // Labels and fingerprints as captured from Alertmanager 0.25.
        let captured = [
            (
                r#"{"alertname":"HighLatency","instance":"10.0.0.4:8080","service":"web","severity":"critical"}"#,
                "7adfef4bbe670a09",
            ),
            (r#"{"alertname":"NodeDown","node":"node-3","severity":"page","zone":"eu-west-1a"}"#, "257f5b973e1a6cbb"),
        ];
        for (labels, fingerprint) in captured {
            let labels: Labels = serde_json::from_str(labels).expect("labels");
            assert_eq!(Fingerprint::of(&labels).to_string(), fingerprint);
        }
    }
}
