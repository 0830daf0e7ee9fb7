//! Every scenario leaves the journal that it left before: alert + rules + runbooks + world → trace. `UPDATE=1` writes the traces anew; read them.

mod stage;

use stage::{Scenario, Stage, scenarios, trace};

#[tokio::test(start_paused = true)]
async fn every_scenario_leaves_its_trace() {
    let mut wrong = Vec::new();
    for (name, path) in scenarios() {
        let scenario = Scenario::read(&path);
        let stage = Stage::of(&scenario);
        let life = scenario.play(&stage, None).await;
        let found = format!("{}\n\n{}", scenario.about.trim(), trace(&stage, &life).await);
        life.app.stop().await;
        let golden = path.with_extension("trace");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&golden, &found).expect("a writable trace");
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if found != expected {
            wrong.push(format!("=== {name}: the trace is now\n{found}\n--- it was\n{expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
