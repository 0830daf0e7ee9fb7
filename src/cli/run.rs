//! `runbookd run`: asks for a runbook to be run. The server needs a rule `on: manual` that takes it, and acts by that rule's grant and guards.

use crate::cli::client::{ByArgs, Client, ServerArgs, print_json};
use crate::cli::runs::timeline;
use crate::cli::table::name_of;
use crate::http::view::{IncidentDetail, IncidentPage, RunAccepted, RunDetail, RunRequest};
use crate::model::duration::Duration;
use crate::model::incident::State;
use crate::model::text::visible;
use anyhow::{Context, bail};
use serde_json::{Map, Value, json};
use std::process::ExitCode;
use std::time::Duration as StdDuration;
use tokio::time::Instant;

/// How often the server is asked how far it is.
const POLL: StdDuration = StdDuration::from_millis(300);
/// When the person is told what is waited for.
const PATIENCE: StdDuration = StdDuration::from_secs(5);

#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// The runbook, without .rhai
    #[arg(value_name = "RUNBOOK")]
    runbook: String,
    /// A label for the rule to match and the runbook to read; a parameter, where the runbook declares it
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Wait until it has ended, and show what it did
    #[arg(long)]
    wait: bool,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", default_value = "1h", requires = "wait", value_parser = Duration::parse)]
    timeout: Duration,
    #[command(flatten)]
    by: ByArgs,
    #[command(flatten)]
    server: ServerArgs,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_string(), value.to_string())),
        _ => Err("expected NAME=VALUE".to_string()),
    }
}

/// Exit code 0: taken, or with `--wait` done; 1: failed, escalated or not ended in time; 2: no rule takes it, or it is asked for wrongly.
pub async fn run(args: RunArgs, json: bool) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.server)?;
    let set: Map<String, Value> = args.set.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    if set.len() < args.set.len() {
        eprintln!("runbookd run: --set names something twice");
        return Ok(ExitCode::from(2));
    }
    let wish = RunRequest { runbook: args.runbook.clone(), set, by: args.by.name(), request: None };
    let accepted: RunAccepted = client.post("/api/v1/runs", &wish).await?;
    if !args.wait {
        if json {
            print_json(&serde_json::to_value(&accepted)?);
        } else {
            let (rules, request) = (accepted.rules.join(" and "), &accepted.request);
            println!("taken by the rule {rules}; follow it: runbookd incidents --label request={request}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let ended = tokio::time::timeout(args.timeout.std(), wait(&client, &accepted)).await;
    let ended = ended.with_context(|| {
        format!(
            "it has not ended within {}; it goes on, follow it: runbookd incidents --label request={}",
            args.timeout, accepted.request
        )
    })??;
    show(&client, &ended, json).await
}

/// The incidents that the event opened, one a rule, when all of them have ended.
async fn wait(client: &Client, accepted: &RunAccepted) -> anyhow::Result<Vec<IncidentDetail>> {
    let label = format!("request={}", accepted.request);
    let (since, mut told) = (Instant::now(), false);
    let mut known = Vec::new();
    loop {
        if known.len() < accepted.rules.len() {
            let page: IncidentPage = client.query("/api/v1/incidents", &[("label", label.clone())]).await?;
            for incident in page.incidents {
                if !known.contains(&incident.id) {
                    known.push(incident.id);
                }
            }
        }
        let mut ended = Vec::new();
        for id in &known {
            let detail: IncidentDetail = client.get(&format!("/api/v1/incidents/{id}")).await?;
            if detail.incident.labels.value("request") != accepted.request {
                bail!("incident {id}: a newer request took the place of this one, which did not run");
            }
            if matches!(detail.incident.state, State::Resolved | State::Escalated) {
                ended.push(detail);
            }
        }
        if ended.len() == accepted.rules.len() {
            return Ok(ended);
        }
        if !told && since.elapsed() > PATIENCE {
            told = true;
            match known.first() {
                Some(id) => eprintln!("incident {id} is at work; runbookd incidents show {id} tells more"),
                None => eprintln!("it waits for an earlier run of the same rule to end"),
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Prints what happened; the exit code says whether all of it is good.
async fn show(client: &Client, ended: &[IncidentDetail], json: bool) -> anyhow::Result<ExitCode> {
    let mut all = Vec::new();
    let mut good = true;
    for detail in ended {
        let incident = &detail.incident;
        good &= incident.state == State::Resolved && !incident.escalated;
        for run in &detail.run_summaries {
            let run: Value = client.get(&format!("/api/v1/runs/{}", run.id)).await?;
            if !json {
                timeline(&serde_json::from_value::<RunDetail>(run.clone())?);
                println!();
            }
            all.push(run);
        }
        if !json {
            let reason = visible(&incident.reason.to_string(), 1_000);
            println!("incident {}: {}, {reason}", incident.id, name_of(&incident.state));
        }
    }
    if json {
        print_json(&json!({ "incidents": ended, "runs": all }));
    }
    Ok(ExitCode::from(if good { 0 } else { 1 }))
}
