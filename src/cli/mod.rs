//! The commands, one file each. Those that talk to a server use its public API only.
//!
//! Exit codes: 0 good, 1 findings or failed, 2 wrong usage or configuration.

#[macro_use]
pub mod out;

pub mod approvals;
pub mod check;
pub mod client;
pub mod config;
pub mod demo;
pub mod explain;
pub mod freeze;
pub mod incidents;
pub mod pause;
pub mod render;
pub mod rules;
pub mod run;
pub mod runs;
pub mod serve;
pub mod stops;
pub mod table;
pub mod undo;

use crate::config::Config;
use crate::config::read::{ConfigError, Loaded};
use clap::{Parser, Subcommand};
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

/// The first time an alert fires, a human solves it. The second time, runbookd does.
#[derive(Debug, Parser)]
#[command(name = "runbookd", version, about, max_term_width = 120)]
pub struct Cli {
    /// The configuration [default: runbookd.yaml, if there is one]
    #[arg(long, global = true, value_name = "FILE", env = "RUNBOOKD_CONFIG")]
    pub config: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receive alerts and act on them
    Serve(serve::ServeArgs),
    /// Show what runbookd does, on a simulated cluster: nothing needed, nothing left behind
    Demo(demo::DemoArgs),
    /// Check rules and runbooks
    Check(check::CheckArgs),
    /// Say which rule takes an alert, why, and why not the others
    Explain(explain::ExplainArgs),
    /// List incidents; show, acknowledge or close one
    Incidents(incidents::IncidentsArgs),
    /// List what waits for a person's word
    Approvals(approvals::ApprovalsArgs),
    /// Approve a plan: exactly what it shows is done
    Approve(approvals::ApproveArgs),
    /// Say no to a plan
    Deny(client::IncidentArgs),
    /// Answer a runbook's question
    Answer(approvals::AnswerArgs),
    /// Run a runbook, if a rule `on: manual` allows it
    Run(run::RunArgs),
    /// List runs; show one as a timeline
    Runs(runs::RunsArgs),
    /// Show what would put back what a run did; do it
    Undo(undo::UndoArgs),
    /// List the rules with what their runs came to; close a breaker, promote or demote a rule
    Rules(rules::RulesArgs),
    /// Pull the kill switch: no run starts, no effect happens
    Pause(pause::PauseArgs),
    /// Release the kill switch
    Resume(pause::ResumeArgs),
    /// Release the fleet brake
    Release(pause::ResumeArgs),
    /// Change nothing for a while: everything, one rule, or the rules of a tag
    Freeze(freeze::FreezeArgs),
    /// List freezes: made by people, of the configuration, of rules
    Freezes(freeze::FreezesArgs),
    /// End a freeze that a person made
    Unfreeze(freeze::UnfreezeArgs),
    /// Print the effective configuration, without secrets
    Config,
}

/// Carries a command line out.
pub fn run(cli: Cli) -> ExitCode {
    let Cli { config, json, command } = cli;
    let load = || match Config::load(config.as_deref(), std::env::vars()) {
        Ok(loaded) => Ok(loaded),
        Err(error) => Err(complain(&error)),
    };
    let outcome = match command {
        Command::Serve(args) => match load() {
            Ok(loaded) => serve::run(args, loaded),
            Err(code) => return code,
        },
        Command::Check(args) => match load() {
            Ok(loaded) => check::run(args, json, &loaded),
            Err(code) => return code,
        },
        Command::Explain(args) => match load() {
            Ok(Loaded { config, .. }) => explain::run(args, json, &config),
            Err(code) => return code,
        },
        Command::Config => match load() {
            Ok(loaded) => config::run(json, &loaded),
            Err(code) => return code,
        },
        Command::Demo(args) => one_thread(demo::run(args)),
        Command::Incidents(args) => one_thread(incidents::run(args, json)),
        Command::Approvals(args) => one_thread(approvals::list(args, json)),
        Command::Approve(args) => one_thread(approvals::approve(args, json)),
        Command::Deny(args) => one_thread(approvals::deny(args, json)),
        Command::Answer(args) => one_thread(approvals::answer(args, json)),
        Command::Run(args) => one_thread(run::run(args, json)),
        Command::Runs(args) => one_thread(runs::run(args, json)),
        Command::Undo(args) => one_thread(undo::run(args, json)),
        Command::Rules(args) => one_thread(rules::run(args, json)),
        Command::Pause(args) => one_thread(pause::pause(args, json)),
        Command::Resume(args) => one_thread(pause::resume(args, json)),
        Command::Release(args) => one_thread(pause::release(args, json)),
        Command::Freeze(args) => one_thread(freeze::freeze(args, json)),
        Command::Freezes(args) => one_thread(freeze::list(args, json)),
        Command::Unfreeze(args) => one_thread(freeze::unfreeze(args, json)),
    };
    let code = outcome.unwrap_or_else(|error| {
        if out::taken(&error) {
            return ExitCode::SUCCESS;
        }
        eprintln!("runbookd: {error:#}");
        // What the server could not read was asked for wrongly.
        let wrong =
            error.downcast_ref::<client::Refused>().is_some_and(|refused| [400, 422].contains(&refused.0.status));
        ExitCode::from(if wrong { 2 } else { 1 })
    });
    out::end(code)
}

/// Runs a client command, for which one thread is plenty.
fn one_thread(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// A configuration that cannot be read is wrong usage.
fn complain(error: &ConfigError) -> ExitCode {
    match error {
        ConfigError::File(diagnostic) => eprintln!("{}", render::diagnostic(diagnostic, table::colours_on_stderr())),
        other => eprintln!("runbookd: {other}"),
    }
    ExitCode::from(2)
}
