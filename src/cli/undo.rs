//! `runbookd undo`: shows what would put back what a run did, and does it when told to.

use crate::cli::approvals::HASH_LETTERS;
use crate::cli::client::{Client, CommandArgs, print_json};
use crate::cli::table::{cell, print, state, table};
use crate::http::view::{UndoRequest, UndoStarted, UndoView};
use crate::model::run::RunId;
use crate::model::text::visible;
use std::process::ExitCode;

#[derive(Clone, Debug, clap::Args)]
pub struct UndoArgs {
    /// r42, or 42
    run: RunId,
    /// Carry the plan out; without this it is only shown
    #[arg(long)]
    yes: bool,
    /// Carry out this plan and no other, as it was shown before: at least its first 8 letters
    #[arg(long, value_name = "HASH", requires = "yes")]
    plan: Option<String>,
    #[command(flatten)]
    command: CommandArgs,
}

/// Exit code 1 when the plan is refused.
pub async fn run(args: UndoArgs, json: bool) -> anyhow::Result<ExitCode> {
    let CommandArgs { reason, by, server } = args.command;
    let client = Client::new(&server)?;
    let path = format!("/api/v1/runs/{}/undo", args.run);
    let view: UndoView = client.get(&path).await?;
    let refused = ExitCode::from(u8::from(view.refused.is_some()));
    if !args.yes || view.refused.is_some() {
        if json {
            print_json(&serde_json::to_value(&view)?);
        } else {
            show(&view);
            if view.refused.is_none() {
                if let Some(why) = &view.stopped {
                    println!("effects are stopped now, so it would be refused: {}", visible(why, 2_000));
                }
                let then = if view.stopped.is_some() { " after that" } else { "" };
                let hash = &view.plan[..view.plan.len().min(HASH_LETTERS)];
                println!("to carry it out{then}: runbookd undo {} --yes --plan {hash}", view.run);
            }
        }
        return Ok(refused);
    }
    if !json {
        show(&view);
        println!();
    }
    let plan = args.plan.unwrap_or_else(|| view.plan.clone());
    let started: UndoStarted = client.post(&path, &UndoRequest { by: by.name(), reason, plan }).await?;
    if json {
        print_json(&serde_json::to_value(&started)?);
    } else {
        let run = started.run.map_or_else(String::new, |run| format!(", run {run}"));
        println!(
            "started: incident {}{run}; look at it with `runbookd incidents show {}`",
            started.incident, started.incident
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn show(view: &UndoView) {
    let mut rows = table(&["step", "did", "undo", "what"]);
    for step in &view.steps {
        rows.add_row([cell(step.seq.to_string()), cell(&step.did), state(&step.undo), cell(visible(&step.what, 500))]);
    }
    if view.steps.is_empty() {
        println!("run {} changed nothing", view.run);
    } else {
        print(&rows);
    }
    if let Some(why) = &view.refused {
        println!("refused: {}", visible(why, 2_000));
    }
}
