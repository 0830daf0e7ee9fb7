//! Plays simulated incidents by the million: see ARCHITECTURE.md, "Where the tests are".

mod files;
mod generate;
mod guards;
mod leaving;
mod oracle;
mod outside;
mod plan;
mod play;
mod replay;
mod rules;
mod runner;
mod sorts;
mod stops;
mod time;
mod undone;
mod watchdog;

use clap::Parser;
use std::process::ExitCode;

/// Plays the whole application on simulated time, cluster, Alertmanager and people, seed by seed, and checks the invariants of ARCHITECTURE.md. A seed
/// plays the same every time.
#[derive(Parser)]
#[command(name = "runbookd-sim")]
struct Args {
    /// How many seeds to play.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads to play on.
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// Plays this one seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints everything that happens in it.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// If it fails: leaves out what it fails without.
    #[arg(long, requires = "seed")]
    minimise: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(seed) = args.seed {
        return runner::on_deep_stack(|| one(seed, args.trace, args.minimise));
    }
    let outcome = runner::run(args.from..args.from + args.seeds, args.threads);
    println!("{outcome}");
    if outcome.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64, trace: bool, minimise: bool) -> ExitCode {
    if trace || minimise {
        let plan = generate::plan(seed);
        println!("{}\n{}", plan.world, rules::render(&plan.rules));
    }
    let played = if minimise { runner::minimise(seed) } else { runner::one(seed, trace) };
    for line in &played.trace {
        println!("{line}");
    }
    match played.violation {
        Some(violation) => {
            println!("seed {seed}: {violation}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
