//! What people read: builds messages from values, bounded and safe to show. No clock, no input, no output.
//!
//! Labels, annotations and reasons come from outside: control characters are made visible here; markup is escaped by each channel.

use crate::model::alert::Level;
use crate::model::duration::Duration;
use crate::model::incident::{Incident, Reason, State};
use crate::model::label::Labels;
use crate::model::message::{Kind, Message, Section};
use crate::model::payload::Malformed;
use crate::model::run::RunId;
use crate::model::text::{visible, visible_lines};
use jiff::Timestamp;

/// Characters of a title: Slack's limit for a header.
const TITLE_CHARS: usize = 150;
/// Characters of a paragraph: below Slack's 3,000 for a block, with room for escapes.
const TEXT_CHARS: usize = 2_000;
/// Characters of a label or annotation, and of one line of a list.
const FIELD_CHARS: usize = 500;
const LINE_CHARS: usize = 300;
/// Lines of a list, and labels or annotations of a message; what is left out is counted.
const MAX_LINES: usize = 10;
const MAX_FIELDS: usize = 20;
/// Longer links do not fit a button.
const URL_BYTES: usize = 2_500;

/// What is known when people are told.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub incident: &'a Incident,
    /// Its alerts as last known, the firing ones first.
    pub alerts: &'a [&'a Level],
    /// The rules that came closest, and what kept each from matching.
    pub near: &'a [(String, String)],
    /// What its runs did, a line a step with an effect.
    pub steps: &'a [String],
    /// How many alerts of its group Alertmanager cut off.
    pub truncated: u64,
    /// The rule's; `None` is the configured default.
    pub channel: Option<&'a str>,
    /// The rule's; `None` is what the alert's label `severity` says.
    pub severity: Option<&'a str>,
    /// How people reach this server.
    pub external_url: Option<&'a str>,
    pub now: Timestamp,
}

/// Hands an incident over: somebody must act, because of `reason`.
pub fn escalation(facts: &Facts, reason: &Reason) -> Message {
    let title = format!("{} needs a person", subject(facts));
    let mut body = vec![Section::Text(visible_lines(&reason.text, TEXT_CHARS))];
    body.extend(list("What runbookd did", facts.steps.iter().cloned()));
    body.extend(closest_rules(facts));
    body.extend(particulars(facts));
    message(facts, Kind::Escalation, title, body)
}

/// Says that an incident is held back by a guard that no time limit bounds (paused, frozen), so that somebody can act instead.
pub fn held(facts: &Facts, reason: &Reason) -> Message {
    let title = format!("{} is held back", subject(facts));
    let on = match &facts.incident.runbook {
        Some(runbook) => {
            format!("{runbook} runs when it is released, unless somebody acknowledges the incident first.")
        }
        None => "It goes on when it is released, unless somebody acknowledges it first.".to_string(),
    };
    let mut body = vec![Section::Text(visible_lines(&format!("{}\n{on}", reason.text), TEXT_CHARS))];
    body.extend(particulars(facts));
    message(facts, Kind::Escalation, title, body)
}

/// More about an incident that people were told of already.
pub fn follow_up(facts: &Facts, title: &str, text: &str) -> Message {
    let mut body = Vec::from_iter(paragraph(text));
    body.extend(list("What runbookd did", facts.steps.iter().cloned()));
    message(facts, Kind::FollowUp, title.to_string(), body)
}

/// The incident's state changed after people had been told: says how it stands now.
pub fn state_update(facts: &Facts) -> Message {
    let Incident { state, reason, acked_by, opened_at, closed_at, .. } = facts.incident;
    let lasted = Duration::between(*opened_at, closed_at.unwrap_or(facts.now));
    let (title, text) = match state {
        State::Resolved => {
            let hands = match (acked_by, facts.steps.is_empty()) {
                (Some(who), _) => format!(" {} had it.", visible(who, 100)),
                (None, false) => String::new(),
                (None, true) => " runbookd changed nothing.".to_string(),
            };
            (format!("resolved after {lasted}"), format!("{}{hands}", sentence(&reason.text)))
        }
        State::Escalated => match acked_by {
            Some(who) => (format!("{} has it", visible(who, 100)), reason.text.clone()),
            None => ("needs a person".to_string(), reason.text.clone()),
        },
        State::Open => ("fires again".to_string(), reason.text.clone()),
        State::Held => ("is held back".to_string(), reason.text.clone()),
        State::AwaitingApproval => ("waits for an approval".to_string(), reason.text.clone()),
        State::Running => ("is being worked on by a runbook".to_string(), reason.text.clone()),
        State::Verifying => ("is being verified".to_string(), reason.text.clone()),
        State::Recovered => ("has recovered, and still fires".to_string(), reason.text.clone()),
    };
    let mut body = Vec::from_iter(paragraph(&text));
    if *state == State::Resolved {
        body.extend(list("What runbookd did", facts.steps.iter().cloned()));
    }
    message(facts, Kind::Update(*state), format!("{} {title}", subject(facts)), body)
}

/// `notify(text)` of a run: informs, nobody must act.
pub fn notice(facts: &Facts, text: &str, run: RunId) -> Message {
    let title = visible(text, TITLE_CHARS);
    let from = match &facts.incident.runbook {
        Some(runbook) => format!("{runbook}, run {run}, for {}", subject(facts)),
        None => format!("run {run}, for {}", subject(facts)),
    };
    // A short text is the title already.
    let whole = if text.chars().count() > TITLE_CHARS || text.contains('\n') { paragraph(text) } else { None };
    let body = whole.into_iter().chain([Section::Text(from)]).collect();
    Message { severity: "info".to_string(), ..message(facts, Kind::Notice, title, body) }
}

/// News of runbookd itself, for those who run it: a bad file, a refused post, a journal that cannot write.
pub fn operators(title: &str, text: &str, at: Timestamp) -> Message {
    Message {
        kind: Kind::Escalation,
        incident: None,
        channel: None,
        severity: "warning".to_string(),
        title: visible(title, TITLE_CHARS),
        body: Vec::from_iter(paragraph(text)),
        at,
        repeated: false,
    }
}

/// Alerts that arrived and could not be read: somebody must look, for nothing will be done about them.
pub fn unreadable(receiver: &str, group_key: &str, alerts: &[Malformed], at: Timestamp) -> Message {
    let many = if alerts.len() == 1 { "An alert" } else { "Alerts" };
    let mut message = operators(
        &format!("{many} could not be read"),
        &format!(
            "In a post for receiver {receiver:?}, group {group_key}. The rest of the post was accepted; nothing is done about these."
        ),
        at,
    );
    message.severity = "critical".to_string();
    let lines = alerts.iter().map(|bad| format!("alert {}: {} in {}", bad.index + 1, bad.why, bad.excerpt));
    message.body.extend(list("What was wrong", lines));
    message
}

fn message(facts: &Facts, kind: Kind, title: String, body: Vec<Section>) -> Message {
    Message {
        kind,
        incident: Some(facts.incident.id),
        channel: facts.channel.map(str::to_string),
        severity: severity(facts).to_string(),
        title: visible(&title, TITLE_CHARS),
        body,
        at: facts.now,
        repeated: false,
    }
}

/// What it is about, in a few words: `HighLatency web`.
fn subject(facts: &Facts) -> String {
    let labels = &facts.incident.labels;
    let what = match labels.value("alertname") {
        "" => facts.incident.rule.as_deref().unwrap_or("An alert"),
        name => name,
    };
    let place = ["service", "node", "instance", "job"].iter().map(|name| labels.value(name)).find(|at| !at.is_empty());
    match place {
        Some(place) => format!("{} {}", visible(what, 60), visible(place, 50)),
        None => visible(what, 100),
    }
}

/// One of the three that decide the colour.
fn severity(facts: &Facts) -> &'static str {
    match facts.severity.unwrap_or(facts.incident.labels.value("severity")).to_ascii_lowercase().as_str() {
        "critical" | "crit" | "page" | "error" | "high" | "emergency" | "disaster" => "critical",
        "info" | "none" | "low" | "notice" | "debug" => "info",
        _ => "warning",
    }
}

fn closest_rules(facts: &Facts) -> Option<Section> {
    let lines = facts.near.iter().map(|(rule, why)| format!("{rule}: {why}"));
    list("Rules that came closest, and what kept them from matching", lines)
}

/// How many, which labels and annotations, where to look.
fn particulars(facts: &Facts) -> Vec<Section> {
    let mut body = vec![Section::Text(extent(facts))];
    body.extend(fields("Labels", &facts.incident.labels));
    let common = common(facts.alerts.iter().map(|level| &level.alert.annotations));
    body.extend(fields("Annotations", &without(&common, "runbook_url")));
    if facts.alerts.len() > 1 {
        let lines = facts.alerts.iter().map(|level| {
            let own = without_all(&level.alert.labels, &facts.incident.labels);
            match level.alert.annotations.value("summary") {
                "" => own.to_string(),
                summary => format!("{own} {summary}"),
            }
        });
        body.extend(list("Alerts", lines));
    }
    body.extend(links(facts));
    body
}

/// `3 alerts, firing for 5m; 5 more were cut off …`
fn extent(facts: &Facts) -> String {
    let many = match facts.alerts.len() {
        0 => "No alert known any more".to_string(),
        1 => "1 alert".to_string(),
        many => format!("{many} alerts"),
    };
    let since = facts.alerts.iter().map(|level| level.alert.starts_at).min();
    let mut text = match since {
        Some(since) => format!("{many}, firing for {} (since {since:.0})", Duration::between(since, facts.now)),
        None => many,
    };
    if facts.truncated > 0 {
        let cut = facts.truncated;
        text += &format!(
            "; {cut} more of the group were cut off by Alertmanager (max_alerts of its webhook) and are not known here"
        );
    }
    text + "."
}

fn links(facts: &Facts) -> Option<Section> {
    let alerts = || facts.alerts.iter();
    let first = |url: fn(&Level) -> &str| alerts().map(|level| url(level)).find(|url| is_link(url));
    let runbook = first(|level| level.alert.annotations.value("runbook_url"));
    let source = first(|level| &level.alert.generator_url);
    let alertmanager = first(|level| &level.group.external_url);
    let own =
        facts.external_url.map(|url| format!("{}/api/v1/incidents/{}", url.trim_end_matches('/'), facts.incident.id));
    let links: Vec<(String, String)> = [
        ("Runbook", runbook.map(str::to_string)),
        ("Source", source.map(str::to_string)),
        ("Alertmanager", alertmanager.map(|url| format!("{}/#/alerts", url.trim_end_matches('/')))),
        ("Incident", own.filter(|url| is_link(url))),
    ]
    .into_iter()
    .filter_map(|(text, url)| Some((text.to_string(), url?)))
    .collect();
    (!links.is_empty()).then_some(Section::Links(links))
}

/// Fit to be clicked: nothing but http and https, and nothing that could end the link early.
fn is_link(url: &str) -> bool {
    let web = url.starts_with("http://") || url.starts_with("https://");
    web && url.len() <= URL_BYTES && !url.chars().any(|c| c.is_control() || c.is_whitespace() || "<>|\"".contains(c))
}

fn paragraph(text: &str) -> Option<Section> {
    let text = visible_lines(text.trim(), TEXT_CHARS);
    (!text.is_empty()).then_some(Section::Text(text))
}

fn sentence(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() || text.ends_with(['.', '!', '?']) { text.to_string() } else { format!("{text}.") }
}

fn list(title: &str, lines: impl ExactSizeIterator<Item = String>) -> Option<Section> {
    let more = lines.len().saturating_sub(MAX_LINES);
    let mut items: Vec<String> = lines.take(MAX_LINES).map(|line| visible(&line, LINE_CHARS)).collect();
    if more > 0 {
        items.push(format!("… and {more} more"));
    }
    (!items.is_empty()).then(|| Section::List { title: title.to_string(), items })
}

fn fields(title: &str, labels: &Labels) -> Option<Section> {
    let mut fields: Vec<(String, String)> = labels
        .iter()
        .take(MAX_FIELDS)
        .map(|(name, value)| (visible(name, 100), visible_lines(value, FIELD_CHARS)))
        .collect();
    if labels.len() > MAX_FIELDS {
        fields.push(("…".to_string(), format!("and {} more", labels.len() - MAX_FIELDS)));
    }
    (!fields.is_empty()).then(|| Section::Fields { title: title.to_string(), fields })
}

fn common<'a>(mut all: impl Iterator<Item = &'a Labels>) -> Labels {
    let first = all.next().cloned().unwrap_or_default();
    all.fold(first, |common, labels| common.common(labels))
}

fn without(labels: &Labels, name: &str) -> Labels {
    labels.iter().filter(|(known, _)| *known != name).collect()
}

fn without_all(labels: &Labels, other: &Labels) -> Labels {
    labels.iter().filter(|(name, value)| other.get(name) != Some(value)).collect()
}
