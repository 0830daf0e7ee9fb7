//! `http_post`: JSON to a target that the config names, and nowhere else.

use crate::adapters::innermost;
use crate::config::HttpTarget;
use crate::config::secret::Secret;
use crate::model::diagnostic::nearest;
use crate::model::text::cut;
use crate::ports::{ErrorReason, PortError, PostAnswer, Posts};
use async_trait::async_trait;
use reqwest::{Client, Url};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read, and characters of it that a script gets.
const ANSWER_BYTES: usize = 64 << 10;
const ANSWER_CHARS: usize = 4_000;

/// The targets that the config names under `http_targets:`.
pub struct HttpPosts {
    targets: BTreeMap<String, Target>,
    client: Client,
}

struct Target {
    url: Url,
    token: Option<Secret>,
    timeout: Duration,
}

impl HttpPosts {
    /// The error names the target whose URL is wrong; the URL itself may hold a secret and is never told.
    pub fn new(config: &BTreeMap<String, HttpTarget>, tokens: &BTreeMap<String, Secret>) -> Result<Self, String> {
        // The client needs one; in `main` it is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut targets = BTreeMap::new();
        for (name, target) in config {
            let url = Url::parse(&target.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            let url = url.ok_or_else(|| format!("http_targets.{name}.url is no http:// or https:// URL"))?;
            let timeout = target.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.std());
            targets.insert(name.clone(), Target { url, token: tokens.get(name).cloned(), timeout });
        }
        // A redirect would take the token and the body to somebody that the config does not name.
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| format!("http_targets: the HTTP client cannot be made: {error}"))?;
        Ok(HttpPosts { targets, client })
    }
}

#[async_trait]
impl Posts for HttpPosts {
    async fn post(&self, target: &str, body: &Value) -> Result<PostAnswer, PortError> {
        let Some(Target { url, token, timeout }) = self.targets.get(target) else {
            return Err(unknown(target, &self.targets()));
        };
        let mut request =
            self.client.post(url.clone()).header("content-type", "application/json").body(body.to_string());
        if let Some(token) = token {
            request = request.bearer_auth(token.expose());
        }
        let lost = |error: reqwest::Error| {
            let error = error.without_url();
            if error.is_connect() {
                let message = format!("{target} cannot be reached: {}", innermost(&error));
                return PortError::transient(ErrorReason::Unreachable, message);
            }
            let why = if error.is_timeout() { format!("no answer within {timeout:?}") } else { innermost(&error) };
            PortError::unknown(ErrorReason::Timeout, format!("{target}: {why}"))
        };
        let mut answer = request.timeout(*timeout).send().await.map_err(lost)?;
        let status = answer.status().as_u16();
        let mut said = Vec::new();
        // It has answered: what of its body does not come changes nothing of that.
        while let Ok(Some(chunk)) = answer.chunk().await {
            said.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES - said.len())]);
            if said.len() == ANSWER_BYTES {
                break;
            }
        }
        Ok(PostAnswer { status, body: cut(&String::from_utf8_lossy(&said), ANSWER_CHARS) })
    }

    fn targets(&self) -> Vec<String> {
        self.targets.keys().cloned().collect()
    }
}

/// Targets that only record what was posted to them, and answer 200.
#[derive(Default)]
pub struct SimPosts {
    targets: Vec<String>,
    posted: Mutex<Vec<(String, Value)>>,
}

impl SimPosts {
    pub fn new(targets: impl IntoIterator<Item = impl Into<String>>) -> Self {
        SimPosts { targets: targets.into_iter().map(Into::into).collect(), posted: Mutex::default() }
    }

    /// What was posted, in order.
    pub fn posted(&self) -> Vec<(String, Value)> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Posts for SimPosts {
    async fn post(&self, target: &str, body: &Value) -> Result<PostAnswer, PortError> {
        if !self.targets.iter().any(|known| known == target) {
            return Err(unknown(target, &self.targets));
        }
        self.posted.lock().unwrap_or_else(PoisonError::into_inner).push((target.to_string(), body.clone()));
        Ok(PostAnswer { status: 200, body: String::new() })
    }

    fn targets(&self) -> Vec<String> {
        self.targets.clone()
    }
}

fn unknown(target: &str, known: &[String]) -> PortError {
    let help = match nearest(target, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near:?}?"),
        None if known.is_empty() => "the config names none; add it under `http_targets:`".to_string(),
        None => format!("the config names: {}", known.join(", ")),
    };
    PortError::permanent(ErrorReason::NotFound, format!("there is no target {target:?} for http_post; {help}"))
}
