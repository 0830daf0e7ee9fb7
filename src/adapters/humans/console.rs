//! The console: prints what would go to Slack as readable text, so that everything works with no account.

use crate::model::message::{Kind, Message, Section, ThreadRef};
use crate::model::text::{visible, visible_lines};
use crate::ports::{DeliverError, ErrorReason, Humans, PortError};
use async_trait::async_trait;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::Mutex;

/// Characters of one line of text.
const LINE_CHARS: usize = 2_000;

/// Prints each message as one compact block.
pub struct ConsoleHumans {
    out: Mutex<Box<dyn Write + Send>>,
}

impl ConsoleHumans {
    pub fn new(out: impl Write + Send + 'static) -> Self {
        ConsoleHumans { out: Mutex::new(Box::new(out)) }
    }

    pub fn stdout() -> Self {
        Self::new(std::io::stdout())
    }
}

#[async_trait]
impl Humans for ConsoleHumans {
    /// Never becomes the root of a thread: every block names its incident.
    async fn deliver(&self, message: &Message, _: Option<&ThreadRef>) -> Result<Option<ThreadRef>, DeliverError> {
        let text = render(message);
        let mut out = self.out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| DeliverError {
            error: PortError::transient(ErrorReason::Other, format!("cannot print a message: {error}")),
            retry_after: None,
        })?;
        Ok(None)
    }
}

/// The message as text, a blank line at its end.
pub fn render(message: &Message) -> String {
    let kind = match message.kind {
        Kind::Escalation => "ESCALATION".to_string(),
        Kind::FollowUp => "FOLLOW-UP".to_string(),
        Kind::Notice => "NOTICE".to_string(),
        Kind::Update(state) => state.name().replace('_', " ").to_uppercase(),
    };
    let mut text = format!("── {kind}");
    if let Some(incident) = message.incident {
        let _ = write!(text, " {incident}");
    }
    let _ = write!(text, " · {}", visible(&message.title, LINE_CHARS));
    let _ = write!(text, " · {} · {:.0}", visible(&message.severity, 20), message.at);
    if let Some(channel) = &message.channel {
        let _ = write!(text, " · for {}", visible(channel, 80));
    }
    if message.repeated {
        text += " · may have been shown before";
    }
    text.push('\n');
    for section in &message.body {
        match section {
            Section::Text(paragraph) => {
                for line in visible_lines(paragraph, LINE_CHARS).lines() {
                    let _ = writeln!(text, "   {line}");
                }
            }
            Section::Fields { title, fields } => {
                let all: Vec<String> =
                    fields.iter().map(|(name, value)| format!("{}={:?}", visible(name, 100), value)).collect();
                let _ = writeln!(text, "   {}: {}", visible(title, LINE_CHARS), visible(&all.join(" "), LINE_CHARS));
            }
            Section::Links(links) => {
                for (name, url) in links {
                    let _ = writeln!(text, "   {}: {}", visible(name, 100), visible(url, 3_000));
                }
            }
            Section::List { title, items } => {
                let _ = writeln!(text, "   {}:", visible(title, LINE_CHARS));
                for item in items {
                    let _ = writeln!(text, "     - {}", visible(item, LINE_CHARS));
                }
            }
        }
    }
    text.push('\n');
    text
}
