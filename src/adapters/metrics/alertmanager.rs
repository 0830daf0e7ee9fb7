//! Alertmanager's API: what really fires now, and silences.

use super::api::{Api, Token};
use crate::model::alert::{Alert, Fingerprint, Status};
use crate::model::label::Labels;
use crate::model::matcher::{Matcher, Op};
use crate::model::silence::SilenceIntent;
use crate::model::text::visible;
use crate::ports::{Alerts, ErrorReason, KnownAlert, PortError};
use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// About 100,000 alerts.
const MAX_ANSWER_BYTES: usize = 128 << 20;

/// The API of one Alertmanager.
pub struct Alertmanager(Api);

impl Alertmanager {
    /// `base` is what `alertmanager.url` says, `http://alertmanager:9093`, a path prefix included. The error says how to mend it.
    pub fn new(client: reqwest::Client, base: &str, token: Option<Token>) -> Result<Self, String> {
        Api::new(client, "Alertmanager", "alertmanager", base, token).map(Alertmanager)
    }

    /// Another time limit than that of all APIs.
    pub fn timeout(self, timeout: Duration) -> Self {
        Alertmanager(self.0.timeout(timeout))
    }
}

#[async_trait]
impl Alerts for Alertmanager {
    /// All alerts that fire, silenced and inhibited ones included; Alertmanager leaves out what has resolved.
    async fn alerts(&self) -> Result<Vec<KnownAlert>, PortError> {
        let query = [("active", "true"), ("silenced", "true"), ("inhibited", "true")];
        decode(&self.0.get("api/v2/alerts", &query, MAX_ANSWER_BYTES).await?)
    }

    async fn silence(&self, intent: &SilenceIntent) -> Result<(), PortError> {
        let matchers: Vec<Value> = intent.parsed().iter().map(api_matcher).collect();
        let body = json!({
            "matchers": matchers,
            "startsAt": intent.starts_at,
            "endsAt": intent.ends_at(),
            "createdBy": "runbookd",
            "comment": intent.full_comment(),
        });
        self.0.post("api/v2/silences", &body).await
    }

    async fn silenced(&self, key: &str) -> Result<bool, PortError> {
        let body = self.0.get("api/v2/silences", &[], MAX_ANSWER_BYTES).await?;
        let silences: Vec<ApiSilence> = serde_json::from_slice(&body).map_err(|error| unreadable(&error))?;
        let mark = format!("[runbookd {key}]");
        Ok(silences.iter().any(|silence| silence.comment.ends_with(&mark)))
    }
}

#[derive(Deserialize)]
struct ApiSilence {
    #[serde(default)]
    comment: String,
}

fn api_matcher(matcher: &Matcher) -> Value {
    let (is_regex, is_equal) = match matcher.op {
        Op::Equal => (false, true),
        Op::NotEqual => (false, false),
        Op::Matches => (true, true),
        Op::NotMatches => (true, false),
    };
    json!({ "name": matcher.name, "value": matcher.value, "isRegex": is_regex, "isEqual": is_equal })
}

fn unreadable(error: &serde_json::Error) -> PortError {
    let message = format!("Alertmanager's API sent what cannot be read: {}", visible(&error.to_string(), 300));
    PortError::transient(ErrorReason::Invalid, message)
}

/// An alert as the API writes it; unknown fields are accepted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiAlert {
    labels: Labels,
    #[serde(default)]
    annotations: Option<Labels>,
    starts_at: Timestamp,
    #[serde(default, rename = "generatorURL")]
    generator_url: Option<Box<str>>,
    #[serde(default)]
    fingerprint: Option<String>,
    status: ApiStatus,
    #[serde(default)]
    receivers: Vec<ApiReceiver>,
}

#[derive(Deserialize)]
struct ApiStatus {
    /// `active`, `suppressed` or, for the first moment, `unprocessed`.
    state: String,
}

#[derive(Deserialize)]
struct ApiReceiver {
    name: String,
}

/// Reads a whole answer. One unreadable alert fails it all: to leave it out would mean that it has resolved.
fn decode(body: &[u8]) -> Result<Vec<KnownAlert>, PortError> {
    let alerts: Vec<ApiAlert> = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    Ok(alerts.into_iter().map(known).collect())
}

fn known(told: ApiAlert) -> KnownAlert {
    let fingerprint = told.fingerprint.as_deref().and_then(Fingerprint::parse);
    KnownAlert {
        alert: Alert {
            fingerprint: fingerprint.unwrap_or_else(|| Fingerprint::of(&told.labels)),
            status: Status::Firing,
            labels: told.labels,
            annotations: told.annotations.unwrap_or_default(),
            starts_at: told.starts_at,
            // While it fires, the API tells when it would end if nobody spoke of it again.
            ends_at: None,
            generator_url: told.generator_url.unwrap_or_default(),
        },
        suppressed: told.status.state == "suppressed",
        receivers: told.receivers.into_iter().map(|receiver| receiver.name).collect(),
    }
}
