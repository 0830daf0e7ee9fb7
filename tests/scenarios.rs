//! Every scenario leaves the journal that it left before: alert + rules + runbooks + world → trace. `UPDATE=1` writes the traces anew; read them.

mod stage;

use stage::{Scenario, on_all_cores, scenarios, trace};

#[test]
fn every_scenario_leaves_its_trace() {
    let wrong = on_all_cores(&scenarios(), |(name, path)| {
        let scenario = Scenario::read(path);
        let trace = scenario.on_stage(None, async |stage, life| trace(stage, life).await);
        let found = format!("{}\n\n{trace}", scenario.about.trim());
        let golden = path.with_extension("trace");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&golden, &found).expect("a writable trace");
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        (found != expected).then(|| format!("=== {name}: the trace is now\n{found}\n--- it was\n{expected}"))
    });
    let wrong: Vec<String> = wrong.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
