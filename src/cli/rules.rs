//! `runbookd rules`: the rules in force, with what their attempts came to; their breakers, which a person closes; and how far those of `mode: earned` may go,
//! which a person can decide, too.

use crate::cli::client::{Client, CommandArgs, ServerArgs, path_of, print_json};
use crate::cli::table::{cell, print, table, time};
use crate::http::view::{BreakerView, RuleView};
use crate::model::duration::Duration;
use crate::model::mode::Mode;
use crate::model::text::visible;
use serde_json::Value;
use std::process::ExitCode;

#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RulesArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// List the rules in force, and whether their runs helped
    List(ListArgs),
    /// Let a rule start runs again whose breaker has opened
    CloseBreaker(OneArgs),
    /// Let a rule of `mode: earned` run by itself
    Promote(OneArgs),
    /// Have a rule of `mode: earned` ask again before it runs
    Demote(OneArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Debug, clap::Args)]
struct OneArgs {
    /// The rule
    name: String,
    #[command(flatten)]
    command: CommandArgs,
}

pub async fn run(args: RulesArgs, json: bool) -> anyhow::Result<ExitCode> {
    match args.action.unwrap_or(Action::List(args.list)) {
        Action::List(args) => list(args, json).await?,
        Action::CloseBreaker(args) => {
            let said = format!("the breaker of rule {} is closed: it starts runs again", args.name);
            command(args, "close_breaker", &said, json).await?;
        }
        Action::Promote(args) => {
            let said = format!("rule {} runs by itself", args.name);
            command(args, "promote", &said, json).await?;
        }
        Action::Demote(args) => {
            let said = format!("rule {} asks before it runs", args.name);
            command(args, "demote", &said, json).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: ListArgs, json: bool) -> anyhow::Result<()> {
    let answer: Value = Client::new(&args.server)?.get("/api/v1/rules").await?;
    if json {
        print_json(&answer);
        return Ok(());
    }
    let rules: Vec<RuleView> = serde_json::from_value(answer["rules"].clone())?;
    if rules.is_empty() {
        println!("no rules");
        return Ok(());
    }
    let mut rows =
        table(&["rule", "runbook", "mode", "breaker", "helped", "did not", "flapped", "time to resolve", "verify"]);
    for rule in &rules {
        let kept = &rule.effectiveness;
        let took = kept.time_to_resolve_seconds.map(|secs| Duration::from_secs(secs.round() as u64).to_string());
        rows.add_row([
            cell(&rule.name),
            cell(rule.runbook.as_deref().unwrap_or("-")),
            cell(mode(rule)),
            cell(if rule.breaker.is_some() { "open" } else { "closed" }),
            cell(kept.helped.to_string()),
            cell(kept.did_not_help.to_string()),
            cell(kept.flapped.to_string()),
            cell(took.unwrap_or_else(|| "-".to_string())),
            cell(if rule.runbook.is_some() { &rule.verify } else { "-" }),
        ]);
    }
    print(&rows);
    for rule in &rules {
        if let Some(BreakerView { opened_at, after }) = &rule.breaker {
            let (name, since, s) = (visible(&rule.name, 200), time(*opened_at), if *after == 1 { "" } else { "s" });
            println!(
                "{name} starts no run since {since}: {after} attempt{s} in a row did not help; when that is mended: runbookd rules close-breaker {name}"
            );
        }
    }
    Ok(())
}

async fn command(args: OneArgs, verb: &str, said: &str, json: bool) -> anyhow::Result<()> {
    let answer: Value = args.command.send(&path_of(&["api", "v1", "rules", &args.name, verb])).await?;
    if json {
        print_json(&answer);
    } else if verb == "promote" && answer["in_force"] != Mode::Auto.name() {
        let held = &answer["in_force"].as_str().unwrap_or_default();
        println!("{said} as far as its trust goes; max_mode of the configuration makes it {held}");
    } else {
        println!("{said}");
    }
    Ok(())
}

/// How far it may go by itself; of a rule that earns its trust, where it stands; and what the configuration's ceiling makes of that.
fn mode(rule: &RuleView) -> String {
    let (says, alone) = match &rule.trust {
        _ if rule.runbook.is_none() => return "-".to_string(),
        Some(trust) if trust.trusted => ("earned: runs".to_string(), Mode::Auto),
        Some(trust) => (format!("earned: asks, {} in a row", trust.streak), Mode::Approve),
        None => (rule.mode.to_string(), rule.mode),
    };
    if rule.in_force == alone { says } else { format!("{says}; {} by max_mode", rule.in_force) }
}
