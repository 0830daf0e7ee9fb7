//! Deterministic simulation: the whole application on simulated time, cluster, Prometheus, Alertmanager and people, from one seed, with everything that can
//! go wrong. `cargo run --example runbookd-sim -- --help` plays more of it.

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

/// How many seeds `cargo test` plays. A failing one is printed with the command that plays it again.
const SEEDS: u64 = 2_000;

#[test]
fn no_invariant_is_broken_whatever_happens() {
    let outcome = runner::run(0..SEEDS, 2);
    println!("{outcome}");
    if let Some(seed) = outcome.failed.first() {
        let least = runner::on_deep_stack(|| runner::minimise(*seed));
        panic!("{}\nwhat is left of seed {seed}:\n{}", outcome.failures.join("\n"), least.trace.join("\n"));
    }
}

#[test]
fn the_same_seed_plays_the_same_to_the_letter() {
    runner::on_deep_stack(|| {
        for seed in 0..40 {
            let plan = generate::plan(seed);
            let (once, again) = (play::play(&plan, true).trace, play::play(&plan, true).trace);
            for (at, (one, other)) in once.iter().zip(&again).enumerate() {
                assert_eq!(one, other, "seed {seed} differs at line {at}");
            }
            assert_eq!(once.len(), again.len(), "seed {seed}");
        }
    });
}
