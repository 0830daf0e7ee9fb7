//! Tells somebody else that runbookd is well, so that its own death is noticed.

use crate::adapters::innermost;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, interval_at};

/// A ping takes no longer than this.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A URL that is a secret: whoever knows it can keep the other side quiet.
#[derive(Clone)]
pub struct SecretUrl(reqwest::Url);

impl SecretUrl {
    /// The error does not show what was read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = reqwest::Url::parse(text.trim()).map_err(|error| format!("the heartbeat URL is no URL: {error}"))?;
        if matches!(url.scheme(), "http" | "https") {
            Ok(SecretUrl(url))
        } else {
            Err("the heartbeat URL must begin with http:// or https://".to_string())
        }
    }
}

impl std::fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretUrl(redacted)")
    }
}

/// Fetches `url` at once and then `every` so often, as long as `is_well` says so, until `stopped` turns true. A ping that fails is logged when it
/// begins to fail and when it works again.
pub async fn run(
    client: reqwest::Client,
    url: SecretUrl,
    every: Duration,
    is_well: impl Fn() -> bool + Send,
    mut stopped: watch::Receiver<bool>,
) {
    let mut ticks = interval_at(Instant::now(), every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last: Result<(), String> = Ok(());
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {}
        }
        let now = if is_well() { ping(&client, &url).await } else { Err("runbookd is not well".to_string()) };
        match (&last, &now) {
            (Ok(()), Err(error)) => tracing::warn!(error, "the heartbeat stops"),
            (Err(_), Ok(())) => tracing::info!("the heartbeat goes on"),
            (Err(before), Err(error)) if before != error => {
                tracing::warn!(error, "the heartbeat still does not go out")
            }
            _ => {}
        }
        last = now;
    }
}

async fn ping(client: &reqwest::Client, url: &SecretUrl) -> Result<(), String> {
    let answer = client.get(url.0.clone()).timeout(TIMEOUT).send().await;
    let answer = answer.map_err(|error| format!("the heartbeat URL cannot be reached: {}", innermost(&error)))?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("the heartbeat URL answered {}", answer.status())) }
}
