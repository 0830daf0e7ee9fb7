//! Channels to people: Slack, or the console.

mod blocks;
pub mod console;
pub mod slack;

use crate::config::SlackConfig;
use crate::ports::Humans;
use std::sync::Arc;

/// The channel that is configured: Slack by bot token, else Slack by webhook, else the console. The secrets are those of `config`, read.
pub fn connect(
    config: &SlackConfig,
    token: Option<&str>,
    webhook_url: Option<&str>,
) -> Result<Arc<dyn Humans>, String> {
    Ok(match (token, webhook_url) {
        (Some(token), _) => Arc::new(slack::SlackHumans::bot(config, token)?),
        (None, Some(url)) => Arc::new(slack::SlackHumans::webhook(config, url)?),
        (None, None) => Arc::new(console::ConsoleHumans::stdout()),
    })
}
