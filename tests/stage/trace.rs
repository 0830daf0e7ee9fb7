//! The trace of a scenario: what the journal holds when it is over, as text that people can check.

use super::{Life, Stage};
use runbookd::model::run::RunId;
use runbookd::ports::{IncidentFilter, Journal, RunFilter};
use std::fmt::Write;

/// Incidents with their transitions, runs with their steps, what the cluster was changed to, and what people were told.
pub async fn trace(stage: &Stage, life: &Life) -> String {
    let mut text = String::new();
    let journal = &life.journal;
    let start = stage.clock_start();
    let at = |time: jiff::Timestamp| {
        let millis = time.duration_since(start).as_millis();
        format!("{:>4}.{:03}s", millis / 1_000, millis % 1_000)
    };
    let filter = IncidentFilter { limit: 1_000, ..IncidentFilter::default() };
    let mut incidents = journal.incidents(&filter).await.expect("incidents");
    incidents.sort_by_key(|incident| incident.id);
    for incident in incidents {
        let rule = incident.rule.as_deref().unwrap_or("no rule");
        let _ = writeln!(text, "incident {} {} [{}] of {rule}", incident.id, incident.state, incident.key);
        for one in journal.transitions(incident.id).await.expect("transitions") {
            let from = one.from.map_or("·", |state| state.name());
            let _ = writeln!(text, "  {} {from} → {}: {}", at(one.at), one.to, one.reason);
        }
        let filter = RunFilter { incident: Some(incident.id), before: None, limit: 1_000 };
        let mut runs: Vec<RunId> = journal.runs(&filter).await.expect("runs").iter().map(|run| run.id).collect();
        runs.sort();
        for id in runs {
            run(&mut text, life, id, &at).await;
        }
    }
    if stage.effectiveness {
        for (rule, kept) in life.app.effectiveness().iter() {
            let tally = kept.total();
            let time = tally.time_to_resolve().map_or("-".to_string(), |time| time.to_string());
            let open = if kept.breaker.is_some() { ", breaker open" } else { "" };
            let figures =
                format!("{} helped, {} did not help, {} flapped", tally.helped, tally.did_not_help, tally.flapped);
            let _ = writeln!(text, "rule {rule}: {figures}, time to resolve {time}{open}");
        }
    }
    let _ = writeln!(text, "cluster");
    for applied in stage.cluster.applied() {
        let who = if applied.step.is_empty() { "another hand" } else { &applied.step };
        let change = serde_json::to_string(&applied.change).expect("a change");
        let _ = writeln!(text, "  {} {} by {who}: {change}", at(applied.at), applied.service);
    }
    let _ = writeln!(text, "people");
    for (when, message) in stage.people.lock().expect("unpoisoned").iter() {
        let repeated = if message.repeated { " (repeated)" } else { "" };
        let kind = serde_json::to_string(&message.kind).expect("a kind");
        let _ = writeln!(text, "  {} {kind} {}{repeated}", at(*when), message.title);
    }
    for target in stage.reloads.lock().expect("unpoisoned").iter() {
        let _ = writeln!(text, "reloaded {target}");
    }
    text
}

async fn run(text: &mut String, life: &Life, id: RunId, at: &impl Fn(jiff::Timestamp) -> String) {
    let run = life.journal.run(id).await.expect("a read").expect("the run");
    let state = serde_json::to_string(&run.state).expect("a state");
    let why = run.reason.as_ref().map_or_else(String::new, |reason| format!(" – {reason}"));
    let shadow = if run.shadow { "rehearsal " } else { "" };
    let approved =
        if run.approved_by.is_empty() { String::new() } else { format!(" approved by {}", run.approved_by.join(", ")) };
    let handler = run.handler.name();
    let _ = writeln!(text, "  {shadow}run {id} {handler} attempt {}{approved} {state}{why}", run.attempt);
    for line in &run.log {
        let _ = writeln!(text, "    log: {line}");
    }
    for step in life.journal.steps(id).await.expect("steps") {
        let args = serde_json::to_string(&step.args).expect("arguments");
        let outcome = serde_json::to_string(&step.outcome).expect("an outcome");
        let intent = step.intent.as_ref().map_or_else(String::new, |intent| format!(" ⟨{intent}⟩"));
        let error = step.error.as_ref().map_or_else(String::new, |error| format!(" ! {error}"));
        let _ = writeln!(
            text,
            "    {} {} {}{args}{intent} {outcome}{error}",
            at(step.started_at),
            step.seq,
            step.primitive
        );
    }
}
