//! `runbookd freeze`, `freezes` and `unfreeze`: nothing is changed for a while.

use crate::cli::client::{ByArgs, Client, ServerArgs, path_of, print_json};
use crate::cli::table::{cell, print, table, time};
use crate::http::view::{FreezeList, FreezeRequest, FreezeView};
use crate::model::text::visible;
use std::process::ExitCode;

#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("time").required(true))]
pub struct FreezeArgs {
    /// For how long: 2h, 1h30m
    #[arg(long = "for", value_name = "TIME", group = "time")]
    lasts: Option<String>,
    /// Until when: 2026-12-24T08:00:00Z, or 2026-12-24T08:00[Europe/Berlin]
    #[arg(long, value_name = "INSTANT", group = "time")]
    until: Option<String>,
    /// Only this rule; * stands for any characters [default: everything]
    #[arg(long, value_name = "NAME", conflicts_with = "tag")]
    rule: Option<String>,
    /// Only rules with this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// What people will read in every incident that it holds
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    by: ByArgs,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub struct FreezesArgs {
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Debug, clap::Args)]
pub struct UnfreezeArgs {
    /// f7, or 7, as `runbookd freezes` lists it
    id: String,
    #[command(flatten)]
    by: ByArgs,
    #[command(flatten)]
    server: ServerArgs,
}

pub async fn freeze(args: FreezeArgs, json: bool) -> anyhow::Result<ExitCode> {
    let FreezeArgs { lasts, until, rule, tag, reason, by, server } = args;
    let request = FreezeRequest { by: by.name(), reason, lasts, until, rule, tag };
    let view: FreezeView = Client::new(&server)?.post("/api/v1/freezes", &request).await?;
    if json {
        print_json(&serde_json::to_value(&view)?);
    } else {
        let id = view.id.map(|id| id.to_string()).unwrap_or_default();
        println!("{id}: frozen until {}: {}", view.until.map(time).unwrap_or_default(), view.scope);
    }
    Ok(ExitCode::SUCCESS)
}

pub async fn list(args: FreezesArgs, json: bool) -> anyhow::Result<ExitCode> {
    let list: FreezeList = Client::new(&args.server)?.get("/api/v1/freezes").await?;
    if json {
        print_json(&serde_json::to_value(&list)?);
        return Ok(ExitCode::SUCCESS);
    }
    if list.freezes.is_empty() {
        println!("no freezes");
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = table(&["id", "from", "for", "in force", "until", "by", "when", "reason"]);
    for freeze in &list.freezes {
        rows.add_row([
            cell(freeze.id.map_or_else(|| "-".to_string(), |id| id.to_string())),
            cell(whose(freeze)),
            cell(&freeze.scope),
            cell(if freeze.in_force { "yes" } else { "no" }),
            cell(freeze.until.map(time).unwrap_or_default()),
            cell(freeze.by.as_deref().unwrap_or("-")),
            cell(freeze.when.join("; ")),
            cell(freeze.reason.as_deref().unwrap_or("-")),
        ]);
    }
    print(&rows);
    Ok(ExitCode::SUCCESS)
}

/// Where it was made, and so how it is ended.
fn whose(freeze: &FreezeView) -> String {
    let name = freeze.name.as_deref().unwrap_or_default();
    match &*freeze.source {
        "one_off" => "a person".to_string(),
        "configuration" => format!("configuration: {name}"),
        "rule" => format!("rule: {name}"),
        other => other.to_string(),
    }
}

pub async fn unfreeze(args: UnfreezeArgs, json: bool) -> anyhow::Result<ExitCode> {
    let path = path_of(&["api", "v1", "freezes", &args.id, "end"]);
    let view: FreezeView = Client::new(&args.server)?.command(&path, &args.by.name(), "").await?;
    if json {
        print_json(&serde_json::to_value(&view)?);
    } else {
        let id = view.id.map_or(args.id, |id| id.to_string());
        println!("{id} has ended; it was for {}", visible(&view.scope, 200));
    }
    Ok(ExitCode::SUCCESS)
}
