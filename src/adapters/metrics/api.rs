//! One HTTP API of the monitoring: Alertmanager's or Prometheus'. Answers bounded in time and size, errors in words.

use crate::adapters::innermost;
use crate::model::text::visible;
use crate::ports::{ErrorKind, ErrorReason, PortError};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;
use std::time::Duration;

/// The whole answer must be there within this time.
pub const TIMEOUT: Duration = Duration::from_secs(20);
/// Characters of an answer that are shown when it is an error.
const TOLD_CHARS: usize = 300;

pub struct Api {
    client: reqwest::Client,
    base: Url,
    token: Option<Token>,
    timeout: Duration,
    /// `Alertmanager`, for people.
    who: &'static str,
    /// `alertmanager`: the section of the configuration.
    section: &'static str,
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

impl Api {
    /// `base` is what the key `url` of the section says, a path prefix included. The error says how to mend it.
    pub fn new(
        client: reqwest::Client,
        who: &'static str,
        section: &'static str,
        base: &str,
        token: Option<Token>,
    ) -> Result<Self, String> {
        let wrong = |why: &dyn std::fmt::Display| {
            let port = if section == "alertmanager" { 9093 } else { 9090 };
            format!("{section}.url: {why}; expected for example http://{section}:{port}")
        };
        let base = Url::parse(base).map_err(|error| wrong(&error))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(wrong(&format!("{:?} is neither http nor https", base.scheme())));
        }
        if base.cannot_be_a_base() {
            return Err(wrong(&"it has no host"));
        }
        Ok(Api { client, base, token, timeout: TIMEOUT, who, section })
    }

    /// Another time limit than [`TIMEOUT`].
    pub fn timeout(self, timeout: Duration) -> Self {
        Api { timeout, ..self }
    }

    /// GET of at most `limit` bytes. A read that failed had no effect: it never is "unknown".
    pub async fn get(&self, path: &str, query: &[(&str, &str)], limit: usize) -> Result<Vec<u8>, PortError> {
        let mut url = self.at(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let answer = self.sent(self.client.get(url), ErrorKind::Transient).await?;
        self.body(answer, limit).await
    }

    /// POST of a form that reads, for expressions too long for a URL.
    pub async fn ask(&self, path: &str, form: &[(&str, &str)], limit: usize) -> Result<Vec<u8>, PortError> {
        let mut body = Url::parse("form:").expect("a URL");
        body.query_pairs_mut().extend_pairs(form);
        let request = self.client.post(self.at(path)).header("content-type", "application/x-www-form-urlencoded");
        let request = request.body(body.query().unwrap_or_default().to_string());
        let answer = self.sent(request, ErrorKind::Transient).await?;
        self.body(answer, limit).await
    }

    /// POST of JSON that changes something: without an answer it is not known whether it did.
    pub async fn post(&self, path: &str, body: &Value) -> Result<(), PortError> {
        let request = self.client.post(self.at(path)).header("content-type", "application/json").body(body.to_string());
        self.sent(request, ErrorKind::Unknown).await.map(drop)
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        url
    }

    /// `lost`: what it means when no answer comes.
    async fn sent(&self, mut request: RequestBuilder, lost: ErrorKind) -> Result<Response, PortError> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(&token.0);
        }
        let answer = request.timeout(self.timeout).send().await.map_err(|error| self.unreachable(&error, lost))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        // Prometheus says in the body of a 400 what is wrong with the expression.
        let said = match self.body(answer, 64 << 10).await {
            Ok(body) => String::from_utf8_lossy(&body).into_owned(),
            Err(_) => String::new(),
        };
        Err(self.refusal(status, &said, lost))
    }

    async fn body(&self, mut answer: Response, limit: usize) -> Result<Vec<u8>, PortError> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unreachable(&error, ErrorKind::Transient))? {
            if body.len() + chunk.len() > limit {
                let message = format!("{}'s API sent more than {} MiB", self.who, limit >> 20);
                return Err(PortError::permanent(ErrorReason::Invalid, message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unreachable(&self, error: &reqwest::Error, lost: ErrorKind) -> PortError {
        let (who, host) = (self.who, self.base.host_str().unwrap_or("?"));
        if error.is_timeout() {
            let message = format!("{who}'s API at {host} did not answer within {:?}", self.timeout);
            return PortError::new(lost, ErrorReason::Timeout, message);
        }
        let kind = if error.is_connect() { ErrorKind::Transient } else { lost };
        let message = format!("{who}'s API at {host} cannot be reached: {}", innermost(error));
        PortError::new(kind, ErrorReason::Unreachable, message)
    }

    fn refusal(&self, status: StatusCode, said: &str, lost: ErrorKind) -> PortError {
        let (who, section) = (self.who, self.section);
        let (kind, reason, hint) = match status.as_u16() {
            401 | 403 => (ErrorKind::Permanent, ErrorReason::Unauthorized, format!("; see {section}.token_file")),
            404 | 410 => {
                let hint = format!("; is {section}.url right, its path prefix included?");
                (ErrorKind::Permanent, ErrorReason::NotFound, hint)
            }
            429 => (ErrorKind::Transient, ErrorReason::Throttled, String::new()),
            500.. => (lost, ErrorReason::Unreachable, String::new()),
            400 | 422 => (ErrorKind::Permanent, ErrorReason::Invalid, told(said)),
            _ => (ErrorKind::Permanent, ErrorReason::Refused, told(said)),
        };
        PortError::new(kind, reason, format!("{who}'s API answered {status}{hint}"))
    }
}

/// What an error's answer says: its field `error`, or the text itself.
fn told(said: &str) -> String {
    let error = serde_json::from_str::<Value>(said).ok().and_then(|body| match body {
        Value::String(text) => Some(text),
        body => body["error"].as_str().map(str::to_string),
    });
    match error.as_deref().unwrap_or(said).trim() {
        "" => String::new(),
        text => format!(": {}", visible(text, TOLD_CHARS)),
    }
}
