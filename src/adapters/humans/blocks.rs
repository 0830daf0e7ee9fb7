//! A message as Slack's Block Kit: bounded, and escaped so that no label can mention anybody, format anything or end a link.

use crate::model::incident::State;
use crate::model::message::{Kind, Message, Section};
use crate::model::text::cut;
use slack_morphism::prelude::*;

/// Slack's limits, in characters and counts: <https://docs.slack.dev/reference/block-kit/blocks>.
const HEADER_CHARS: usize = 150;
const TEXT_CHARS: usize = 3_000;
const FIELD_CHARS: usize = 2_000;
const FIELDS_PER_BLOCK: usize = 10;
const MAX_BLOCKS: usize = 50;
/// The notification on a phone: no limit of Slack's, but nobody reads more.
const SUMMARY_CHARS: usize = 300;

/// The message as it is first posted.
pub fn content(message: &Message) -> SlackMessageContent {
    let prefix = match message.kind {
        Kind::Update(state) => prefix(state),
        _ => "",
    };
    render(message, prefix, colour(message), None)
}

/// A root as it stands after an update: its own content under the new state.
pub fn updated(root: &Message, state: State, update: &Message) -> SlackMessageContent {
    let colour = if state == State::Resolved { GREEN } else { colour(root) };
    render(root, prefix(state), colour, Some(update))
}

const GREEN: &str = "#2eb67d";

fn colour(message: &Message) -> &'static str {
    match (message.kind, message.severity.as_str()) {
        (Kind::Update(State::Resolved), _) => GREEN,
        (_, "critical") => "#d0021b",
        (_, "info") => "#439fe0",
        _ => "#f2a900",
    }
}

/// How an incident's state reads before a title.
fn prefix(state: State) -> &'static str {
    match state {
        State::Open => "Firing again · ",
        State::Held => "Held · ",
        State::AwaitingApproval => "Waits for approval · ",
        State::Running => "Runbook running · ",
        State::Verifying => "Verifying · ",
        State::Recovered => "Recovered · ",
        State::Escalated => "",
        State::Resolved => "✔ Resolved · ",
    }
}

fn render(message: &Message, prefix: &str, colour: &str, update: Option<&Message>) -> SlackMessageContent {
    let title = format!("{prefix}{}", if message.title.is_empty() { "runbookd" } else { &message.title });
    let header = SlackHeaderBlock::new(plain(&title, HEADER_CHARS).into());
    let mut blocks: Vec<SlackBlock> = Vec::new();
    if let Some(update) = update {
        let news = format!("*{}* ({:.0})", escape(&update.title, SUMMARY_CHARS), update.at);
        blocks.push(text_block(news));
    }
    message.body.iter().for_each(|section| push(&mut blocks, section));
    blocks.truncate(MAX_BLOCKS - 1);
    blocks.push(SlackContextBlock::new(vec![mrkdwn(footer(message)).into()]).into());
    // Blocks within an attachment carry the colour; the header stays above it. The text is what a notification shows.
    SlackMessageContent::new()
        .with_text(escape(&title, SUMMARY_CHARS))
        .with_blocks(vec![header.into()])
        .with_attachments(vec![SlackMessageAttachment::new().with_color(colour.to_string()).with_blocks(blocks)])
}

/// Which incident, how grave, when; and what must be known about this copy.
fn footer(message: &Message) -> String {
    let mut parts = vec![match message.incident {
        Some(incident) => format!("runbookd · incident {incident}"),
        None => "runbookd".to_string(),
    }];
    parts.push(escape(&message.severity, 20));
    parts.push(format!("{:.0}", message.at));
    if let Some(channel) = &message.channel {
        parts.push(format!("for {}", escape(channel, 80)));
    }
    if message.repeated {
        parts.push("may have been sent before".to_string());
    }
    parts.join(" · ")
}

fn push(blocks: &mut Vec<SlackBlock>, section: &Section) {
    match section {
        Section::Text(text) if text.trim().is_empty() => {}
        Section::Text(text) => blocks.push(text_block(escape(text, TEXT_CHARS))),
        Section::Fields { title, fields } => {
            for (at, chunk) in fields.chunks(FIELDS_PER_BLOCK).enumerate() {
                let fields = chunk.iter().map(|(name, value)| mrkdwn(field(name, value)).into()).collect();
                let block = SlackSectionBlock::new().with_fields(fields);
                let title = (at == 0).then(|| mrkdwn(format!("*{}*", escape(title, HEADER_CHARS))).into());
                blocks.push(block.opt_text(title).into());
            }
        }
        Section::Links(links) => {
            // Links, no buttons: a button without a handler behind it shows a warning in Slack.
            let links: Vec<String> =
                links.iter().map(|(text, url)| format!("<{}|{}>", escape_url(url), escape(text, 100))).collect();
            joined(blocks, String::new(), &links, " · ");
        }
        Section::List { title, items } => {
            let items: Vec<String> = items.iter().map(|item| format!("• {}", escape(item, TEXT_CHARS / 2))).collect();
            joined(blocks, format!("*{}*", escape(title, HEADER_CHARS)), &items, "\n");
        }
    }
}

/// Puts whole pieces into as few blocks as Slack's limit allows.
fn joined(blocks: &mut Vec<SlackBlock>, head: String, pieces: &[String], between: &str) {
    let mut text = head;
    for piece in pieces {
        if !text.is_empty() && text.chars().count() + between.len() + piece.chars().count() > TEXT_CHARS {
            blocks.push(text_block(std::mem::take(&mut text)));
        }
        if !text.is_empty() {
            text.push_str(between);
        }
        text.push_str(piece);
    }
    if !text.is_empty() {
        blocks.push(text_block(text));
    }
}

fn field(name: &str, value: &str) -> String {
    let value = if value.trim().is_empty() { "(empty)" } else { value };
    format!("*{}*\n{}", escape(name, HEADER_CHARS), escape(value, FIELD_CHARS - HEADER_CHARS - 3))
}

fn text_block(text: String) -> SlackBlock {
    SlackSectionBlock::new().with_text(mrkdwn(text).into()).into()
}

/// `verbatim`: Slack finds no mentions, channels or links of its own in it.
fn mrkdwn(text: String) -> SlackBlockMarkDownText {
    SlackBlockMarkDownText::new(text).with_verbatim(true)
}

/// Plain text knows no escapes, so that what could be read as markup is replaced by look-alikes.
fn plain(text: &str, max: usize) -> SlackBlockPlainText {
    let text: String = text
        .chars()
        .map(|c| {
            if c == '<' {
                '‹'
            } else if c == '>' {
                '›'
            } else {
                c
            }
        })
        .collect();
    SlackBlockPlainText::new(cut(&text, max)).with_emoji(false)
}

/// Escapes for mrkdwn, as Slack asks for: `&`, `<` and `>`. At most `max` characters after escaping, never cut within an escape.
fn escape(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut length = 0;
    for c in text.chars() {
        let escaped = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => "",
        };
        length += escaped.len().max(1);
        if length >= max {
            out.push('…');
            break;
        }
        if escaped.is_empty() { out.push(c) } else { out.push_str(escaped) }
    }
    out
}

/// A URL within `<…|…>`: what could end it is percent-encoded.
fn escape_url(url: &str) -> String {
    let encoded = url.replace('<', "%3C").replace('>', "%3E").replace('|', "%7C").replace('&', "&amp;");
    cut(&encoded, TEXT_CHARS - 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_is_markup() {
        let table = [
            ("<!here> & <@U1|x>", 100, "&lt;!here&gt; &amp; &lt;@U1|x&gt;"),
            ("plain", 6, "plain"),
            ("plainer", 6, "plain…"),
            ("abc<", 6, "abc…"),
            ("", 10, ""),
        ];
        for (text, max, expect) in table {
            assert_eq!(escape(text, max), expect, "{text:?}");
            assert!(escape(text, max).chars().count() <= max);
        }
        assert_eq!(plain("<!channel>", 50).text, "‹!channel›");
        assert_eq!(escape_url("http://h/?a=1&b=<x|y>"), "http://h/?a=1&amp;b=%3Cx%7Cy%3E");
    }

    #[test]
    fn every_limit_of_slacks_holds_whatever_the_message() {
        let long = "<&>".repeat(3_000);
        let section = [
            Section::Text(long.clone()),
            Section::Text(String::new()),
            Section::Fields { title: long.clone(), fields: vec![(long.clone(), long.clone()); 33] },
            Section::Links(vec![(long.clone(), format!("http://h/{long}")); 9]),
            Section::List { title: long.clone(), items: vec![long.clone(); 33] },
        ];
        let message = Message {
            kind: Kind::Update(State::Resolved),
            incident: None,
            channel: Some(long.clone()),
            severity: long.clone(),
            title: long,
            body: section.iter().cycle().take(50).cloned().collect(),
            at: jiff::Timestamp::UNIX_EPOCH,
            repeated: true,
        };
        let rendered = serde_json::to_value(content(&message)).expect("serialises");
        let blocks = rendered["attachments"][0]["blocks"].as_array().expect("blocks");
        assert_eq!(blocks.len(), MAX_BLOCKS);
        let header = rendered["blocks"][0]["text"]["text"].as_str().expect("a header");
        assert!(header.chars().count() <= HEADER_CHARS && header.starts_with("✔ Resolved · "), "{header}");
        for block in blocks {
            let length = |text: &serde_json::Value| text["text"].as_str().map_or(0, |text| text.chars().count());
            assert!(length(&block["text"]) <= TEXT_CHARS);
            let fields = block["fields"].as_array().map_or(&[][..], Vec::as_slice);
            assert!(fields.len() <= FIELDS_PER_BLOCK);
            assert!(fields.iter().all(|field| (1..=FIELD_CHARS).contains(&length(field))));
            assert!(!block["text"]["text"].as_str().unwrap_or("").contains("<&"));
        }
    }
}
