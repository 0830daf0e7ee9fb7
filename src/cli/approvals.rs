//! `runbookd approvals`, `approve`, `deny`, `answer`: what waits for a person's word, and the word.

use crate::cli::client::{ByArgs, Client, CommandArgs, IncidentArgs, ServerArgs, print_json};
use crate::cli::table::time;
use crate::http::view::{ApprovalCommand, IncidentView};
use crate::model::incident::IncidentId;
use crate::model::text::visible;
use serde::Deserialize;
use serde_json::Value;
use std::process::ExitCode;

/// Letters of a plan's hash that are shown, and that the server wants at least.
pub(super) const HASH_LETTERS: usize = 8;

#[derive(Clone, Debug, clap::Args)]
pub struct ApprovalsArgs {
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub struct ApproveArgs {
    /// i42, or 42
    id: IncidentId,
    /// The plan, as its message or `runbookd approvals` names it: exactly this is approved
    #[arg(long, value_name = "HASH")]
    plan: String,
    #[command(flatten)]
    by: ByArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub struct AnswerArgs {
    /// i42, or 42
    id: IncidentId,
    /// One of the answers that the question names
    answer: String,
    #[command(flatten)]
    by: ByArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct Approvals {
    approvals: Vec<IncidentView>,
}

pub async fn list(args: ApprovalsArgs, json: bool) -> anyhow::Result<ExitCode> {
    let answer: Value = Client::new(&args.server)?.get("/api/v1/approvals").await?;
    if json {
        print_json(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let Approvals { approvals } = serde_json::from_value(answer)?;
    if approvals.is_empty() {
        println!("nothing waits for anybody's word");
    }
    for incident in &approvals {
        show(incident);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(incident: &IncidentView) {
    let Some(approval) = &incident.approval else { return };
    let rule = incident.rule.as_deref().unwrap_or_default();
    println!("incident {}: rule {rule}, key {}", incident.id, visible(&incident.key, 500));
    let who = if approval.by.is_empty() { "anybody".to_string() } else { approval.by.join(", ") };
    let given =
        if approval.given.is_empty() { String::new() } else { format!(", so far {}", approval.given.join(", ")) };
    println!("  until {}, by {who}, {} needed{given}", time(approval.until), approval.people);
    for effect in &approval.effects {
        println!("  • {}", visible(effect, 500));
    }
    match (&approval.plan, &approval.question) {
        (Some(plan), _) => {
            let hash = &plan[..plan.len().min(HASH_LETTERS)];
            println!("  runbookd approve {} --plan {hash}    or: runbookd deny {0}", incident.id);
        }
        (None, Some(question)) => {
            println!("  {}", visible(question, 2_000));
            let answers = approval.answers.iter().map(|one| format!("runbookd answer {} {}", incident.id, word(one)));
            println!("  {}", answers.collect::<Vec<_>>().join("    or: "));
        }
        (None, None) => {}
    }
}

/// As one word of a shell.
fn word(text: &str) -> String {
    let text = visible(text, 200);
    let plain = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-_./:".contains(c));
    if plain {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

pub async fn approve(args: ApproveArgs, json: bool) -> anyhow::Result<ExitCode> {
    let said = ApprovalCommand { by: args.by.name(), plan: args.plan, reason: String::new(), answer: String::new() };
    say(&args.server, args.id, ("approve", "approved"), &said, json).await
}

pub async fn deny(args: IncidentArgs, json: bool) -> anyhow::Result<ExitCode> {
    let CommandArgs { reason, by, server } = args.command;
    let said = ApprovalCommand { by: by.name(), plan: String::new(), reason, answer: String::new() };
    say(&server, args.id, ("deny", "denied"), &said, json).await
}

pub async fn answer(args: AnswerArgs, json: bool) -> anyhow::Result<ExitCode> {
    let said = ApprovalCommand { by: args.by.name(), plan: String::new(), reason: String::new(), answer: args.answer };
    say(&args.server, args.id, ("answer", "answered"), &said, json).await
}

async fn say(
    server: &ServerArgs,
    id: IncidentId,
    (verb, done): (&str, &str),
    said: &ApprovalCommand,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let answer: Value = Client::new(server)?.post(&format!("/api/v1/incidents/{id}/{verb}"), said).await?;
    if json {
        print_json(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let incident: IncidentView = serde_json::from_value(answer)?;
    let so_far = incident.approval.as_ref().filter(|approval| approval.verdict.is_none() && !approval.given.is_empty());
    if let Some(approval) = so_far {
        println!("{done}; that is {} of {} who must", approval.given.len(), approval.people);
    } else {
        println!("{done}");
    }
    println!("incident {}: {}, {}", incident.id, incident.state, visible(&incident.reason.to_string(), 500));
    Ok(ExitCode::SUCCESS)
}
