//! Alertmanager's API: what really fires now, for reconciliation.

use crate::adapters::innermost;
use crate::model::alert::{Alert, Fingerprint, Status};
use crate::model::label::Labels;
use crate::model::text::visible;
use crate::ports::{Alerts, ErrorKind, ErrorReason, KnownAlert, PortError};
use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use std::time::Duration;

/// The whole answer must be there within this time.
pub const TIMEOUT: Duration = Duration::from_secs(20);
/// About 100,000 alerts.
const MAX_ANSWER_BYTES: usize = 128 << 20;

/// The API of one Alertmanager.
pub struct Alertmanager {
    client: reqwest::Client,
    url: Url,
    token: Option<Token>,
    timeout: Duration,
}

/// A bearer token that does not print.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    pub fn new(token: &str) -> Self {
        Token(token.trim().to_string())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(redacted)")
    }
}

impl Alertmanager {
    /// `base` is what `alertmanager.url` says, `http://alertmanager:9093`, a path prefix included. The error says how to mend it.
    pub fn new(client: reqwest::Client, base: &str, token: Option<Token>) -> Result<Self, String> {
        let wrong = |why: &dyn std::fmt::Display| {
            format!("alertmanager.url: {why}; expected for example http://alertmanager:9093")
        };
        let mut url = Url::parse(base).map_err(|error| wrong(&error))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(&format!("{:?} is neither http nor https", url.scheme())));
        }
        url.path_segments_mut().map_err(|()| wrong(&"it has no host"))?.pop_if_empty().extend(["api", "v2", "alerts"]);
        url.set_query(Some("active=true&silenced=true&inhibited=true"));
        Ok(Alertmanager { client, url, token, timeout: TIMEOUT })
    }

    /// Another time limit than [`TIMEOUT`].
    pub fn timeout(self, timeout: Duration) -> Self {
        Alertmanager { timeout, ..self }
    }

    async fn fetch(&self) -> Result<Vec<u8>, PortError> {
        let mut request = self.client.get(self.url.clone()).timeout(self.timeout);
        if let Some(token) = &self.token {
            request = request.bearer_auth(&token.0);
        }
        let mut answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(refusal(answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                let message = format!("Alertmanager's API sent more than {} MiB of alerts", MAX_ANSWER_BYTES >> 20);
                return Err(PortError::permanent(ErrorReason::Invalid, message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// A read that failed had no effect: it never is "unknown".
    fn unreachable(&self, error: &reqwest::Error) -> PortError {
        let host = self.url.host_str().unwrap_or("?");
        if error.is_timeout() {
            let message = format!("Alertmanager's API at {host} did not answer within {:?}", self.timeout);
            return PortError::transient(ErrorReason::Timeout, message);
        }
        let cause = innermost(error);
        PortError::transient(
            ErrorReason::Unreachable,
            format!("Alertmanager's API at {host} cannot be reached: {cause}"),
        )
    }
}

fn refusal(status: StatusCode) -> PortError {
    let (kind, reason, hint) = match status.as_u16() {
        401 | 403 => (ErrorKind::Permanent, ErrorReason::Unauthorized, "; see alertmanager.token_file"),
        404 | 410 => {
            (ErrorKind::Permanent, ErrorReason::NotFound, "; is alertmanager.url right, its path prefix included?")
        }
        429 => (ErrorKind::Transient, ErrorReason::Throttled, ""),
        500.. => (ErrorKind::Transient, ErrorReason::Unreachable, ""),
        _ => (ErrorKind::Permanent, ErrorReason::Refused, ""),
    };
    PortError::new(kind, reason, format!("Alertmanager's API answered {status}{hint}"))
}

#[async_trait]
impl Alerts for Alertmanager {
    /// All alerts that fire, silenced and inhibited ones included; Alertmanager leaves out what has resolved.
    async fn alerts(&self) -> Result<Vec<KnownAlert>, PortError> {
        decode(&self.fetch().await?)
    }
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
    let alerts: Vec<ApiAlert> = serde_json::from_slice(body).map_err(|error| {
        let message = format!("Alertmanager's API sent what cannot be read: {}", visible(&error.to_string(), 300));
        PortError::transient(ErrorReason::Invalid, message)
    })?;
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
