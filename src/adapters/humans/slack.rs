//! Slack: a bot that posts, threads and updates, or an incoming webhook that only posts.

use super::blocks;
use crate::adapters::innermost;
use crate::config::SlackConfig;
use crate::model::incident::State;
use crate::model::message::{Kind, Message, MessageRoot, Section, ThreadRef};
use crate::model::text::visible;
use crate::ports::{DeliverError, ErrorKind, ErrorReason, Humans, PortError};
use async_trait::async_trait;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use serde::Deserialize;
use slack_morphism::api::{
    SlackApiChatPostMessageRequest, SlackApiChatUpdateRequest, SlackApiPostWebhookMessageRequest,
};
use slack_morphism::errors::SlackClientError;
use slack_morphism::prelude::SlackClientHyperConnector;
use slack_morphism::{SlackApiToken, SlackApiTokenValue, SlackChannelId, SlackClient, SlackMessageContent, SlackTs};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// What a 429 without a readable `Retry-After` means.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(30);

type Connector = SlackClientHyperConnector<HttpsConnector<HttpConnector>>;

/// Delivers to Slack.
pub struct SlackHumans {
    client: SlackClient<Connector>,
    way: Way,
    channel: String,
    timeout: Duration,
}

enum Way {
    Bot(SlackApiToken),
    /// The URL is the secret.
    Webhook(reqwest::Url),
}

impl fmt::Debug for SlackHumans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.way {
            Way::Bot(_) => "bot token (redacted)",
            Way::Webhook(_) => "webhook URL (redacted)",
        };
        f.debug_struct("SlackHumans").field("way", &way).field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl SlackHumans {
    /// With a bot token (`xoxb-…`): threads, and roots that are updated. Errors name the key, never the token.
    pub fn bot(config: &SlackConfig, token: &str) -> Result<Self, String> {
        let token = token.trim();
        if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
            return Err("the Slack token (slack.token_file or RUNBOOKD_SLACK_TOKEN) is empty or holds characters that no token has".into());
        }
        let way = Way::Bot(SlackApiToken::new(SlackApiTokenValue(token.to_string())));
        Self::new(config, way, &config.api_url, "slack.api_url")
    }

    /// With an incoming-webhook URL: every message stands alone, in the webhook's own channel. Errors name the key, never the URL.
    pub fn webhook(config: &SlackConfig, url: &str) -> Result<Self, String> {
        let key = "slack.webhook_url_file or RUNBOOKD_SLACK_WEBHOOK_URL";
        let url = reqwest::Url::parse(url.trim()).map_err(|error| format!("{key}: no URL: {error}"))?;
        let base = url.to_string();
        Self::new(config, Way::Webhook(url), &base, key)
    }

    fn new(config: &SlackConfig, way: Way, base: &str, key: &str) -> Result<Self, String> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        // A connection that was never made is no message that may have been sent: its limit must be the one that strikes first.
        tcp.set_connect_timeout(Some(config.timeout.std() / 2));
        let provider = rustls::crypto::ring::default_provider();
        let builder = HttpsConnectorBuilder::new();
        let builder = if base.starts_with("https://") {
            builder.with_provider_and_native_roots(provider).map_err(|error| {
                format!("no certificates of this machine to check Slack's with: {error}; install ca-certificates")
            })?
        } else if base.starts_with("http://") {
            let tls = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
                .with_safe_default_protocol_versions()
                .map_err(|error| format!("TLS: {error}"))?;
            builder.with_tls_config(tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
        } else {
            return Err(format!("{key}: must begin with https:// (or http://)"));
        };
        let connector = builder.https_or_http().enable_http1().wrap_connector(tcp);
        let connector = SlackClientHyperConnector::with_connector(connector)
            .with_slack_api_url(config.api_url.trim_end_matches('/'));
        let client = SlackClient::new(connector);
        Ok(SlackHumans { client, way, channel: config.channel.clone(), timeout: config.timeout.std() })
    }

    /// One call, within the time limit. Only its absence of an answer makes it unknown whether it happened.
    async fn call<T>(&self, call: impl Future<Output = Result<T, SlackClientError>>) -> Result<T, Refusal> {
        match timeout(self.timeout, call).await {
            Ok(answer) => answer.map_err(refusal),
            Err(_) => Err(Refusal::new(
                ErrorKind::Unknown,
                ErrorReason::Timeout,
                format!("Slack did not answer within {:?}", self.timeout),
            )),
        }
    }

    async fn post(
        &self,
        token: &SlackApiToken,
        channel: &str,
        thread: Option<(&ThreadRef, Broadcast)>,
        content: SlackMessageContent,
    ) -> Result<Posted, Refusal> {
        let mut request = SlackApiChatPostMessageRequest::new(SlackChannelId(channel.to_string()), content)
            .with_unfurl_links(false)
            .with_unfurl_media(false);
        if let Some((thread, broadcast)) = thread {
            request = request.with_thread_ts(SlackTs(thread.ts.clone()));
            request = request.opt_reply_broadcast((broadcast == Broadcast::Yes).then_some(true));
        }
        // Not the typed call: it fails on any part of the answer that it does not know, after the message was posted.
        let session = self.client.open_session(token);
        let posted: Posted = self.call(session.http_session_api.http_post("chat.postMessage", &request, None)).await?;
        if posted.ts.is_empty() {
            let what = "what answered does not speak as Slack does: no \"ts\"; see slack.api_url";
            return Err(Refusal::new(ErrorKind::Unknown, ErrorReason::Other, what.to_string()));
        }
        Ok(posted)
    }

    /// Renders the root again, under its incident's new state. A root that is gone or frozen is no reason not to post what follows.
    async fn update(
        &self,
        token: &SlackApiToken,
        thread: &ThreadRef,
        state: State,
        news: &Message,
    ) -> Result<(), Refusal> {
        let Ok(root) = serde_json::from_str::<Message>(&thread.root.message) else {
            tracing::warn!(incident = ?news.incident, "the root of the thread cannot be rendered again");
            return Ok(());
        };
        let content = blocks::updated(&root, state, news);
        let request =
            SlackApiChatUpdateRequest::new(SlackChannelId(thread.channel.clone()), content, SlackTs(thread.ts.clone()));
        let session = self.client.open_session(token);
        let answer: Result<Posted, Refusal> =
            self.call(session.http_session_api.http_post("chat.update", &request, None)).await;
        match answer {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.kind == ErrorKind::Permanent && refusal.reason != ErrorReason::Unauthorized => {
                tracing::warn!(incident = ?news.incident, error = refusal.text, "the root of the thread cannot be updated");
                Ok(())
            }
            Err(refusal) => Err(refusal),
        }
    }

    async fn deliver_as_bot(
        &self,
        token: &SlackApiToken,
        message: &Message,
        thread: Option<&ThreadRef>,
    ) -> Result<Option<ThreadRef>, Refusal> {
        if let Some(thread) = thread {
            if let Kind::Update(state) = message.kind {
                self.update(token, thread, state, message).await?;
            }
            let broadcast = if message.kind == Kind::Escalation { Broadcast::Yes } else { Broadcast::No };
            let content = blocks::content(message);
            match self.post(token, &thread.channel, Some((thread, broadcast)), content).await {
                Ok(_) => return Ok(None),
                Err(refusal) if refusal.is_any(&THREAD_GONE) => {
                    tracing::warn!(incident = ?message.incident, error = refusal.text, "the thread is gone: posting to the channel");
                }
                Err(refusal) => return Err(refusal),
            }
        }
        let posted = self.post_to_channel(token, message).await?;
        let is_root = message.kind == Kind::Escalation && message.incident.is_some();
        Ok(is_root.then(|| ThreadRef {
            channel: posted.channel,
            ts: posted.ts,
            root: Box::new(MessageRoot { message: serde_json::to_string(message).expect("a message is plain data") }),
        }))
    }

    /// To the message's channel; if Slack does not let us in there, to the default one, so that it reaches somebody.
    async fn post_to_channel(&self, token: &SlackApiToken, message: &Message) -> Result<Posted, Refusal> {
        let channel = message.channel.as_deref().unwrap_or(&self.channel);
        let refusal = match self.post(token, channel, None, blocks::content(message)).await {
            Err(refusal) if channel != self.channel && refusal.is_any(&CHANNEL_CLOSED) => refusal,
            answer => return answer,
        };
        tracing::warn!(channel, error = refusal.text, "posting to the default channel instead");
        let note = format!("This was meant for {}, but {}.", visible(channel, 80), refusal.text);
        let mut message = message.clone();
        message.body.insert(0, Section::Text(note));
        self.post(token, &self.channel, None, blocks::content(&message)).await
    }
}

#[async_trait]
impl Humans for SlackHumans {
    async fn deliver(&self, message: &Message, thread: Option<&ThreadRef>) -> Result<Option<ThreadRef>, DeliverError> {
        let delivered = match &self.way {
            Way::Bot(token) => self.deliver_as_bot(token, message, thread).await,
            Way::Webhook(url) => {
                let request = SlackApiPostWebhookMessageRequest::new(blocks::content(message));
                self.call(self.client.post_webhook_message(url, &request)).await.map(|_| None)
            }
        };
        delivered.map_err(DeliverError::from)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Broadcast {
    /// In the thread, and in the channel too.
    Yes,
    No,
}

/// What we need of the answer to a post.
#[derive(Deserialize)]
struct Posted {
    /// The channel's id, whatever name it was posted to: only the id will do for an update.
    #[serde(default)]
    channel: String,
    #[serde(default)]
    ts: String,
}

/// Slack's words for a thread whose root was deleted.
const THREAD_GONE: [&str; 3] = ["thread_not_found", "message_not_found", "cannot_reply_to_message"];
const CHANNEL_CLOSED: [&str; 5] =
    ["channel_not_found", "not_in_channel", "is_archived", "restricted_action", "restricted_action_read_only_channel"];

/// Why a call did not succeed. Holds no answer's body and no URL: either can be or repeat a secret.
struct Refusal {
    kind: ErrorKind,
    reason: ErrorReason,
    /// Slack's own word, if it said one.
    code: String,
    text: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(kind: ErrorKind, reason: ErrorReason, text: String) -> Self {
        Refusal { kind, reason, code: String::new(), text, retry_after: None }
    }

    fn is_any(&self, codes: &[&str]) -> bool {
        codes.contains(&self.code.as_str())
    }
}

impl From<Refusal> for DeliverError {
    fn from(Refusal { kind, reason, text, retry_after, .. }: Refusal) -> Self {
        DeliverError { error: PortError::new(kind, reason, text), retry_after }
    }
}

fn refusal(error: SlackClientError) -> Refusal {
    use ErrorKind::{Transient, Unknown};
    match error {
        SlackClientError::ApiError(error) => by_code(&error.code),
        SlackClientError::RateLimitError(error) => {
            let wait = error.retry_after.unwrap_or(DEFAULT_RETRY_AFTER);
            let text = format!("Slack asks to wait {wait:?} before the next message");
            Refusal { retry_after: Some(wait), ..Refusal::new(Transient, ErrorReason::Throttled, text) }
        }
        SlackClientError::HttpError(error) => by_status(error.status_code.as_u16()),
        SlackClientError::HttpProtocolError(error) => {
            let cause = error.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static));
            let unconnected =
                cause.and_then(|cause| cause.downcast_ref::<legacy::Error>()).is_some_and(legacy::Error::is_connect);
            let kind = if unconnected { Transient } else { Unknown };
            Refusal::new(
                kind,
                ErrorReason::Unreachable,
                format!("Slack cannot be reached: {}", cause.map_or_else(|| "no cause given".to_string(), innermost)),
            )
        }
        SlackClientError::ProtocolError(_) => {
            Refusal::new(Unknown, ErrorReason::Other, "Slack's answer cannot be read; see slack.api_url".to_string())
        }
        _ => Refusal::new(Unknown, ErrorReason::Other, "the connection to Slack broke".to_string()),
    }
}

/// Slack's error codes: <https://docs.slack.dev/reference/methods/chat.postMessage#errors>.
fn by_code(code: &str) -> Refusal {
    use ErrorKind::{Permanent, Transient, Unknown};
    let (kind, reason, hint) = match code {
        "ratelimited" | "rate_limited" => (Transient, ErrorReason::Throttled, ""),
        "service_unavailable" | "team_added_to_org" => (Transient, ErrorReason::Unreachable, ""),
        // Slack: "It's possible some aspect of the operation succeeded before the error was raised."
        "internal_error" | "fatal_error" | "request_timeout" => (Unknown, ErrorReason::Other, ""),
        "invalid_auth" | "not_authed" | "account_inactive" | "token_revoked" | "token_expired" => {
            (Permanent, ErrorReason::Unauthorized, "; put a valid bot token into slack.token_file")
        }
        "missing_scope" | "no_permission" | "not_allowed_token_type" | "ekm_access_denied" | "access_denied" => {
            (Permanent, ErrorReason::Unauthorized, "; the bot needs the scope chat:write (and chat:write.public)")
        }
        "channel_not_found" | "not_in_channel" | "is_archived" => {
            (Permanent, ErrorReason::NotFound, "; check the channel's name and invite the bot to it")
        }
        _ => (Permanent, ErrorReason::Invalid, ""),
    };
    let text = format!("Slack said {}{hint}", visible(code, 60));
    Refusal { code: code.to_string(), ..Refusal::new(kind, reason, text) }
}

fn by_status(status: u16) -> Refusal {
    use ErrorKind::{Permanent, Transient, Unknown};
    let (kind, reason) = match status {
        401 | 403 => (Permanent, ErrorReason::Unauthorized),
        404 | 410 => (Permanent, ErrorReason::NotFound),
        408 | 504 => (Unknown, ErrorReason::Timeout),
        503 => (Transient, ErrorReason::Unreachable),
        500.. => (Unknown, ErrorReason::Other),
        _ => (Permanent, ErrorReason::Invalid),
    };
    Refusal::new(kind, reason, format!("Slack answered {status}"))
}
