//! What people read: builds messages from values, bounded and safe to show. No clock, no input, no output.
//!
//! Labels, annotations and reasons come from outside: control characters are made visible here; markup is escaped by each channel.

use crate::model::alert::Level;
use crate::model::duration::Duration;
use crate::model::incident::{Incident, Reason, State};
use crate::model::label::Labels;
use crate::model::message::{Kind, Message, Section};
use crate::model::mode::{Approval, Subject, Then};
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
    let title = match &facts.incident.acked_by {
        Some(who) if reason.code == "acknowledged" => format!("{} has {}", visible(who, 100), subject(facts)),
        _ => format!("{} needs a person", subject(facts)),
    };
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
        Some(runbook) if facts.incident.state != State::Held => {
            format!("The run of {runbook} that is under way goes on when it is released.")
        }
        Some(runbook) => {
            format!("{runbook} runs when it is released, unless somebody acknowledges the incident first.")
        }
        None => "It goes on when it is released, unless somebody acknowledges it first.".to_string(),
    };
    let mut body = vec![Section::Text(visible_lines(&format!("{}\n{on}", reason.text), TEXT_CHARS))];
    body.extend(particulars(facts));
    message(facts, Kind::Escalation, title, body)
}

/// What a runbook would have done, whose rule is in shadow mode.
pub fn rehearsal(facts: &Facts, effects: &[String], end: &str) -> Message {
    let runbook = facts.incident.runbook.as_deref().unwrap_or_default();
    let title = match effects.len() {
        0 => format!("{runbook} would have changed nothing"),
        _ => format!("What {runbook} would have done"),
    };
    let mut body = Vec::from_iter(list("Would have done", effects.iter().cloned()));
    body.extend(paragraph(end));
    let message = message(facts, Kind::FollowUp, title, body);
    if facts.incident.escalated {
        message
    } else {
        Message { severity: "info".to_string(), kind: Kind::Notice, ..message }
    }
}

/// When people are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// Before a run.
    First,
    /// Within one.
    Within,
    /// Within one, about a plan that had been approved and is no longer what would be done.
    Again,
}

/// What people are asked about an incident.
pub fn approval(facts: &Facts, approval: &Approval, end: &str, asking: Asking) -> Message {
    let id = facts.incident.id;
    let mut body = Vec::new();
    let (title, how) = match &approval.subject {
        Subject::Plan(plan) => {
            let title = match asking {
                Asking::Again => {
                    format!("{}: the world has moved on, and the plan needs a new approval", subject(facts))
                }
                Asking::First | Asking::Within => format!("{} waits for an approval", subject(facts)),
            };
            let effects = plan.effects.iter().map(|one| one.intent.to_string());
            body.extend(list("To be done, exactly this", effects));
            let hash = &plan.hash[..plan.hash.len().min(8)];
            (title, format!("runbookd approve {id} --plan {hash}\nrunbookd deny {id} --reason TEXT"))
        }
        Subject::Question { text, answers, .. } => {
            body.extend(list("Answers", answers.iter().cloned()));
            (format!("{}: {}", subject(facts), visible(text, TITLE_CHARS)), format!("runbookd answer {id} ANSWER"))
        }
    };
    body.extend(paragraph(end));
    let then = match (approval.then, &approval.subject) {
        (Then::Run, Subject::Plan(_)) => "it is done then",
        _ => "a person takes over then",
    };
    let who = match (approval.by.is_empty(), approval.people) {
        (true, 1) => "Anybody may answer".to_string(),
        (true, people) => format!("{people} people must approve"),
        (false, 1) => format!("{} may answer", approval.by.join(", ")),
        (false, people) => format!("{people} of {} must approve", approval.by.join(", ")),
    };
    body.extend(paragraph(&format!("{who}, until {:.0}; {then}.\n{how}", approval.until)));
    if asking == Asking::First {
        body.extend(particulars(facts));
    }
    let told = asking != Asking::First && facts.incident.escalated;
    message(facts, if told { Kind::FollowUp } else { Kind::Escalation }, title, body)
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
            let ended = if reason.code == "closed" { "closed" } else { "resolved" };
            (format!("{ended} after {lasted}"), format!("{}{hands}", sentence(&reason.text)))
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
    let title = text.trim().lines().next().unwrap_or_default().to_string();
    let from = match &facts.incident.runbook {
        Some(runbook) => format!("{runbook}, run {run}, for {}", subject(facts)),
        None => format!("run {run}, for {}", subject(facts)),
    };
    // A short text is the title already.
    let whole = if text.chars().count() > TITLE_CHARS || text.trim().contains('\n') { paragraph(text) } else { None };
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

/// The same, when nobody must act: something is over, was released, or has earned its trust.
pub fn good_news(title: &str, text: &str, at: Timestamp) -> Message {
    Message { kind: Kind::Notice, severity: "info".to_string(), ..operators(title, text, at) }
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
        "" => match (&facts.incident.rule, &facts.incident.event) {
            (Some(rule), _) => rule,
            (None, Some(event)) => event.name(),
            (None, None) => "An alert",
        },
        name => name,
    };
    let place =
        ["service", "node", "instance", "job", "run"].iter().map(|name| labels.value(name)).find(|at| !at.is_empty());
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
    if let Some(event) = &facts.incident.event {
        return format!("A {} event, {} ago", event.on, Duration::between(event.at, facts.now));
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::humans::console;
    use crate::model::alert::{Alert, Fingerprint, GroupRef, Status};
    use crate::model::incident::IncidentId;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + 60 * minute).expect("a valid instant")
    }

    fn incident(state: State, text: &str) -> Incident {
        Incident {
            id: IncidentId(7),
            state,
            reason: Reason::new("run_failed", text),
            rule: Some("scale-out".into()),
            runbook: Some("scale_out".into()),
            key: "service=\"web\"".into(),
            labels: labels(&[("alertname", "HighLatency"), ("service", "web"), ("severity", "page")]),
            alerts: vec![],
            runs: vec![],
            attempt: 1,
            flaps: 0,
            had_effect: false,
            effects: Vec::new(),
            locks: Vec::new(),
            event: None,
            next_event: None,
            approval: None,
            gave_back: false,
            acked_by: None,
            escalated: true,
            opened_at: at(0),
            since: at(5),
            until: None,
            held_since: None,
            closed_at: None,
        }
    }

    fn level(instance: &str) -> Level {
        Level {
            alert: Alert {
                fingerprint: Fingerprint(1),
                status: Status::Firing,
                labels: labels(&[("alertname", "HighLatency"), ("service", "web"), ("instance", instance)]),
                annotations: labels(&[("summary", "slow"), ("runbook_url", "https://wiki/slow")]),
                starts_at: at(2),
                ends_at: None,
                generator_url: "http://prometheus/graph".into(),
            },
            group: GroupRef { key: "k".into(), external_url: "http://alertmanager/".into() },
            last_seen: at(3),
            resolved_at: None,
            unconfirmed: false,
            suppressed: false,
            refire_at: None,
            closed_at: None,
        }
    }

    fn facts<'a>(incident: &'a Incident, alerts: &'a [&'a Level], steps: &'a [String]) -> Facts<'a> {
        Facts {
            incident,
            alerts,
            near: &[],
            steps,
            truncated: 0,
            channel: Some("#ops"),
            severity: None,
            external_url: Some("http://runbookd:9095/"),
            now: at(12),
        }
    }

    /// Compares with what the console shows: the whole message, readable.
    fn check(message: &Message, expect: &str) {
        assert_eq!(console::render(message), format!("{expect}\n\n"));
    }

    #[test]
    fn an_escalation_says_why_what_was_done_and_where_to_look() {
        let incident = incident(State::Escalated, "");
        let (one, two) = (level("a:80"), level("b:80"));
        let steps = ["web: 2 → 3 replicas at version 114".to_string()];
        let reason = Reason::new("run_failed", "scale_out.rhai:9:5: still slow\nafter 2m");
        check(
            &escalation(&facts(&incident, &[&one, &two], &steps), &reason),
            "── ESCALATION i7 · HighLatency web needs a person · critical · 2026-01-01T00:12:00Z · for #ops
   scale_out.rhai:9:5: still slow
   after 2m
   What runbookd did:
     - web: 2 → 3 replicas at version 114
   2 alerts, firing for 10m (since 2026-01-01T00:02:00Z).
   Labels: alertname=\"HighLatency\" service=\"web\" severity=\"page\"
   Annotations: summary=\"slow\"
   Alerts:
     - {instance=\"a:80\"} slow
     - {instance=\"b:80\"} slow
   Runbook: https://wiki/slow
   Source: http://prometheus/graph
   Alertmanager: http://alertmanager/#/alerts
   Incident: http://runbookd:9095/api/v1/incidents/i7",
        );
    }

    #[test]
    fn a_hold_says_what_it_waits_for() {
        let incident = incident(State::Held, "");
        let reason = Reason::new("paused", "paused by ann: maintenance");
        let message = held(&facts(&incident, &[], &[]), &reason);
        assert_eq!((message.kind, message.title.as_str()), (Kind::Escalation, "HighLatency web is held back"));
        let expect = "paused by ann: maintenance\nscale_out runs when it is released, unless somebody acknowledges the incident first.";
        assert_eq!(message.body[0], Section::Text(expect.to_string()));
    }

    #[test]
    fn an_update_says_how_it_stands() {
        let steps = ["web: 2 → 3 replicas".to_string()];
        // State, who has it, steps, title, first paragraph.
        type Row<'a> = (State, Option<&'a str>, &'a [String], &'a str, &'a str);
        let table: [Row; 6] = [
            (State::Resolved, None, &steps, "HighLatency web resolved after 12m", "it is over."),
            (State::Resolved, None, &[], "HighLatency web resolved after 12m", "it is over. runbookd changed nothing."),
            (State::Resolved, Some("ann"), &[], "HighLatency web resolved after 12m", "it is over. ann had it."),
            (State::Escalated, Some("ann"), &[], "HighLatency web ann has it", "it is over"),
            (State::Open, None, &[], "HighLatency web fires again", "it is over"),
            (State::Recovered, None, &[], "HighLatency web has recovered, and still fires", "it is over"),
        ];
        for (state, acked_by, steps, title, text) in table {
            let incident = Incident { acked_by: acked_by.map(str::to_string), ..incident(state, "it is over") };
            let message = state_update(&facts(&incident, &[], steps));
            assert_eq!((message.kind, message.title.as_str()), (Kind::Update(state), title));
            assert_eq!(message.body[0], Section::Text(text.to_string()), "{title}");
            assert_eq!(message.body.len(), 1 + usize::from(!steps.is_empty()), "{title}");
        }
    }

    #[test]
    fn a_notice_is_short_and_names_its_run() {
        let incident = incident(State::Running, "");
        check(
            &notice(&facts(&incident, &[], &[]), "web scaled out", RunId(3)),
            "── NOTICE i7 · web scaled out · info · 2026-01-01T00:12:00Z · for #ops
   scale_out, run r3, for HighLatency web",
        );
        let lines = notice(&facts(&incident, &[], &[]), "web scaled out\nto 3\n", RunId(3));
        assert_eq!(
            (lines.title.as_str(), &lines.body[0]),
            ("web scaled out", &Section::Text("web scaled out\nto 3".into()))
        );
        let long = notice(&facts(&incident, &[], &[]), &"x".repeat(500), RunId(3));
        assert_eq!((long.title.chars().count(), &long.body[0]), (150, &Section::Text("x".repeat(500))));
    }

    #[test]
    fn whatever_arrives_the_message_stays_small_and_visible() {
        let huge = "\u{7}\u{202e}x".repeat(2_000);
        let many: Labels =
            (0..256).map(|n| (format!("l{n}"), huge.clone())).chain([("alertname".into(), huge.clone())]).collect();
        let incident =
            Incident { labels: many.clone(), acked_by: Some(huge.clone()), ..incident(State::Resolved, &huge) };
        let mut level = level(&huge);
        (level.alert.annotations, level.alert.generator_url) = (many, format!("http://h/{huge}").into());
        let alerts = vec![&level; 100];
        let (steps, near) = (vec![huge.clone(); 1_000], vec![(huge.clone(), huge.clone()); 50]);
        let facts = Facts { near: &near, truncated: u64::MAX, ..facts(&incident, &alerts, &steps) };
        let messages = [
            escalation(&facts, &incident.reason),
            held(&facts, &incident.reason),
            follow_up(&facts, &huge, &huge),
            state_update(&facts),
            notice(&facts, &huge, RunId(1)),
            operators(&huge, &huge, at(0)),
        ];
        for message in messages {
            let json = serde_json::to_string(&message).expect("plain data");
            assert!(json.len() < 100_000, "{} bytes of {}", json.len(), message.title);
            assert!(message.title.chars().count() <= TITLE_CHARS);
            assert!(!json.contains("\\u0007") && !json.contains('\u{202e}'), "{}", message.title);
        }
    }

    #[test]
    fn only_what_can_be_clicked_safely_is_a_link() {
        let table = [
            ("https://wiki/x?a=b#c", true),
            ("http://h", true),
            ("javascript:alert(1)", false),
            ("https://h/a b", false),
            ("https://h/a|b", false),
            ("https://h/>x", false),
            ("HTTPS", false),
            ("", false),
        ];
        for (url, expect) in table {
            assert_eq!(is_link(url), expect, "{url}");
        }
    }
}
