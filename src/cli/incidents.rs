//! `runbookd incidents`: listed, shown, acknowledged, closed.

use crate::cli::client::{Client, IncidentArgs, ServerArgs, print_json};
use crate::cli::runs::{name_rehearsals, run_state, why};
use crate::cli::stops;
use crate::cli::table::{cell, name_of, print, span, state, table, time};
use crate::http::view::{IncidentDetail, IncidentPage, IncidentView};
use crate::model::incident::{IncidentId, State};
use crate::model::text::visible;
use jiff::Timestamp;
use serde_json::Value;
use std::process::ExitCode;

#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct IncidentsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// List incidents, newest first
    List(ListArgs),
    /// Show one with its history, runs and alerts
    Show(OneArgs),
    /// Say that you have it
    Ack(IncidentArgs),
    /// Close it, whatever fires
    Close(IncidentArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct ListArgs {
    /// Only these states: open, held, running, verifying, escalated, resolved …
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    state: Vec<State>,
    /// Only with these labels
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Only opened after this instant, or this long ago: 1h30m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only opened before
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only older than this one: the next page
    #[arg(long, value_name = "ID")]
    before: Option<IncidentId>,
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Debug, clap::Args)]
struct OneArgs {
    /// i42, or 42
    id: IncidentId,
    #[command(flatten)]
    server: ServerArgs,
}

pub async fn run(args: IncidentsArgs, json: bool) -> anyhow::Result<ExitCode> {
    match args.action.unwrap_or(Action::List(args.list)) {
        Action::List(args) => list(args, json).await?,
        Action::Show(args) => show(args, json).await?,
        Action::Ack(args) => command(args, "ack", json).await?,
        Action::Close(args) => command(args, "close", json).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: ListArgs, json: bool) -> anyhow::Result<()> {
    let mut pairs = vec![("limit", args.limit.to_string())];
    if !args.state.is_empty() {
        let names: Vec<&str> = args.state.iter().map(|state| state.name()).collect();
        pairs.push(("state", names.join(",")));
    }
    pairs.extend(args.label.into_iter().map(|label| ("label", label)));
    pairs.extend(args.since.map(|at| ("since", at)));
    pairs.extend(args.until.map(|at| ("until", at)));
    pairs.extend(args.before.map(|id| ("before", id.to_string())));
    let client = Client::new(&args.server)?;
    let answer: Value = client.query("/api/v1/incidents", &pairs).await?;
    if json {
        print_json(&answer);
        return Ok(());
    }
    stops::warn(&client).await?;
    let page: IncidentPage = serde_json::from_value(answer)?;
    if page.incidents.is_empty() {
        println!("no incidents");
        return Ok(());
    }
    let mut rows = table(&["id", "state", "rule", "key", "opened", "lasted", "acked by", "reason"]);
    for incident in &page.incidents {
        rows.add_row([
            cell(incident.id.to_string()),
            state(incident.state.name()),
            cell(incident.rule.as_deref().unwrap_or("-")),
            cell(&incident.key),
            cell(time(incident.opened_at)),
            cell(span(incident.opened_at, incident.closed_at.unwrap_or_else(Timestamp::now))),
            cell(incident.acked_by.as_deref().unwrap_or("-")),
            cell(incident.reason.to_string()),
        ]);
    }
    print(&rows);
    if let Some(next) = page.next {
        println!("there are more: runbookd incidents --before {next}");
    }
    Ok(())
}

async fn show(args: OneArgs, json: bool) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let answer: Value = client.get(&format!("/api/v1/incidents/{}", args.id)).await?;
    if json {
        print_json(&answer);
        return Ok(());
    }
    stops::warn(&client).await?;
    let detail: IncidentDetail = serde_json::from_value(answer)?;
    head(&detail.incident);
    println!();
    let mut rows = table(&["time", "state", "reason"]);
    for transition in &detail.transitions {
        rows.add_row([cell(time(transition.at)), state(transition.to.name()), cell(transition.reason.to_string())]);
    }
    print(&rows);
    if !detail.run_summaries.is_empty() {
        println!();
        let mut rows = table(&["run", "state", "runbook", "handler", "attempt", "took", "reason"]);
        for run in &detail.run_summaries {
            rows.add_row([
                cell(run.id.to_string()),
                run_state(run),
                cell(&run.runbook),
                cell(run.handler.name()),
                cell(run.attempt.to_string()),
                cell(span(run.started_at, run.finished_at.unwrap_or_else(Timestamp::now))),
                cell(why(run)),
            ]);
        }
        print(&rows);
        name_rehearsals(&detail.run_summaries);
    }
    if !detail.levels.is_empty() {
        println!();
        let mut rows = table(&["alert", "status", "since", "labels"]);
        for level in &detail.levels {
            rows.add_row([
                cell(level.fingerprint.to_string()),
                state(&name_of(&level.status)),
                cell(time(level.starts_at)),
                cell(level.labels.to_string()),
            ]);
        }
        print(&rows);
    }
    Ok(())
}

fn head(incident: &IncidentView) {
    println!("incident {}: {}, {}", incident.id, incident.state, visible(&incident.reason.to_string(), 500));
    let rule = incident.rule.as_deref().unwrap_or("none matched");
    println!(
        "  rule {rule}, runbook {}, key {}",
        incident.runbook.as_deref().unwrap_or("none"),
        visible(&incident.key, 500)
    );
    println!("  labels {}", visible(&incident.labels.to_string(), 2_000));
    if let Some(by) = &incident.acked_by {
        println!("  {} has it", visible(by, 100));
    }
}

async fn command(args: IncidentArgs, verb: &str, json: bool) -> anyhow::Result<()> {
    let answer: Value = args.command.send(&format!("/api/v1/incidents/{}/{verb}", args.id)).await?;
    if json {
        print_json(&answer);
    } else {
        head(&serde_json::from_value(answer)?);
    }
    Ok(())
}
