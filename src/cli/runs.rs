//! `runbookd runs`: listed, and shown as a timeline.

use crate::cli::client::{Client, ServerArgs, print_json};
use crate::cli::stops;
use crate::cli::table::{cell, name_of, print, span, state, state_of, table, time};
use crate::http::view::{RunDetail, RunPage, RunView, StepView};
use crate::model::incident::IncidentId;
use crate::model::run::RunId;
use crate::model::text::visible;
use comfy_table::Cell;
use jiff::Timestamp;
use serde_json::Value;
use std::process::ExitCode;

#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RunsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// List runs, newest first
    List(ListArgs),
    /// Show one as a timeline of its steps
    Show(OneArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct ListArgs {
    /// Only those of this incident
    #[arg(long, value_name = "ID")]
    incident: Option<IncidentId>,
    /// Only older than this one: the next page
    #[arg(long, value_name = "ID")]
    before: Option<RunId>,
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Debug, clap::Args)]
struct OneArgs {
    /// r42, or 42
    id: RunId,
    #[command(flatten)]
    server: ServerArgs,
}

pub async fn run(args: RunsArgs, json: bool) -> anyhow::Result<ExitCode> {
    match args.action.unwrap_or(Action::List(args.list)) {
        Action::List(args) => list(args, json).await?,
        Action::Show(args) => show(args, json).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(args: ListArgs, json: bool) -> anyhow::Result<()> {
    let mut pairs = vec![("limit", args.limit.to_string())];
    pairs.extend(args.incident.map(|id| ("incident", id.to_string())));
    pairs.extend(args.before.map(|id| ("before", id.to_string())));
    let client = Client::new(&args.server)?;
    let answer: Value = client.query("/api/v1/runs", &pairs).await?;
    if json {
        print_json(&answer);
        return Ok(());
    }
    stops::warn(&client).await?;
    let page: RunPage = serde_json::from_value(answer)?;
    if page.runs.is_empty() {
        println!("no runs");
        return Ok(());
    }
    let mut rows = table(&["id", "incident", "state", "runbook", "handler", "attempt", "started", "took", "reason"]);
    for run in &page.runs {
        rows.add_row([
            cell(run.id.to_string()),
            cell(run.incident.to_string()),
            run_state(run),
            cell(&run.runbook),
            cell(run.handler.name()),
            cell(run.attempt.to_string()),
            cell(time(run.started_at)),
            cell(span(run.started_at, run.finished_at.unwrap_or_else(Timestamp::now))),
            cell(why(run)),
        ]);
    }
    print(&rows);
    name_rehearsals(&page.runs);
    if let Some(next) = page.next {
        println!("there are more: runbookd runs --before {next}");
    }
    Ok(())
}

async fn show(args: OneArgs, json: bool) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let answer: Value = client.get(&format!("/api/v1/runs/{}", args.id)).await?;
    if json {
        print_json(&answer);
        return Ok(());
    }
    stops::warn(&client).await?;
    timeline(&serde_json::from_value(answer)?);
    Ok(())
}

/// The state of a run, and that it is a rehearsal: nothing else in a table tells it from a run that did something.
pub fn run_state(run: &RunView) -> Cell {
    let name = name_of(&run.state);
    if run.shadow { state_of(&name, format!("{name} (rehearsal)")) } else { state(&name) }
}

/// Why it is in its state; of a run that waits, what for.
pub fn why(run: &RunView) -> String {
    let reason = run.reason.as_ref().map(ToString::to_string);
    reason.or_else(|| run.waits_for.clone()).unwrap_or_default()
}

/// Says below a table which of its runs changed nothing.
pub fn name_rehearsals(runs: &[RunView]) {
    let shadows: Vec<String> = runs.iter().filter(|run| run.shadow).map(|run| run.id.to_string()).collect();
    match shadows.as_slice() {
        [] => {}
        [one] => println!("{one} is a rehearsal: it changed nothing"),
        all => println!("{} are rehearsals: they changed nothing", all.join(", ")),
    }
}

/// One run, step by step.
pub fn timeline(detail: &RunDetail) {
    let run = &detail.run;
    println!(
        "run {} of incident {}: {}{}.{}, attempt {}, {} after {}",
        run.id,
        run.incident,
        if run.shadow { "a rehearsal of " } else { "" },
        run.runbook,
        run.handler.name(),
        run.attempt,
        name_of(&run.state),
        span(run.started_at, run.finished_at.unwrap_or_else(Timestamp::now)),
    );
    if run.shadow {
        println!("  it changed nothing: `planned` is what a run would have done");
    }
    let why = why(run);
    if !why.is_empty() {
        println!("  {}", visible(&why, 1_000));
    }
    if let Some(undoes) = run.undoes {
        println!("  it undoes run {undoes}");
    }
    let resumed = if run.resumes > 0 { format!(", resumed {} times", run.resumes) } else { String::new() };
    println!(
        "  rule {}, program {}, started {}{resumed}",
        run.rule,
        run.program.get(..12).unwrap_or(&run.program),
        time(run.started_at)
    );
    println!();
    let mut rows = table(&["at", "seq", "step", "outcome", "took", "what"]);
    for step in &detail.steps {
        rows.add_row([
            cell(format!("+{}", span(run.started_at, step.started_at))),
            cell(step.seq.to_string()),
            cell(call(step)),
            state(&name_of(&step.outcome)),
            cell(step.finished_at.map(|end| span(step.started_at, end)).unwrap_or_default()),
            cell(what(step)),
        ]);
    }
    print(&rows);
    for line in &detail.log {
        println!("  log: {}", visible(line, 500));
    }
}

/// `scale("web", 3)`.
pub fn call(step: &StepView) -> String {
    let args: Vec<String> = step.args.iter().map(ToString::to_string).collect();
    format!("{}({})", step.primitive, args.join(", "))
}

/// The intent, and what went wrong.
pub fn what(step: &StepView) -> String {
    match (&step.intent, &step.error) {
        (Some(intent), Some(error)) => format!("{}; {error}", intent.text),
        (Some(intent), None) => intent.text.clone(),
        (None, Some(error)) => error.to_string(),
        (None, None) => String::new(),
    }
}
