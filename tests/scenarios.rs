//! Every scenario leaves the journal that it left before: alert + rules + runbooks + world → trace. `UPDATE=1` writes the traces anew; read them.

mod stage;

use runbookd::model::run::Run;
use runbookd::ports::{Cluster, Journal, RunFilter};
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

#[test]
fn runs_that_are_held_leave_their_places_to_others() {
    // More than may be at work at once.
    let held = 0..520;
    let services: Vec<String> =
        held.clone().map(|at| format!("held{at}: {{ image: 'shop/held:1', replicas: 2 }}")).collect();
    let fires: Vec<String> = held.map(|at| format!("  - fire: {{ alertname: Held, service: held{at} }}\n")).collect();
    let yaml = format!(
        r#"about: runs that a freeze holds for hours
world: "services: {{ free: {{ image: 'shop/free:1', replicas: 2 }}, {} }}"
rules: |
  rules:
    - {{ name: held, match: ['alertname = "Held"'], by: [service], runbook: later, allow: [{{ scale: "{{{{ service }}}}" }}], guards: {{ freeze: ["00:01 - 09:00"] }} }}
    - {{ name: free, match: ['alertname = "Free"'], by: [service], runbook: now, allow: [{{ scale: "{{{{ service }}}}" }}] }}
runbooks:
  later: 'fn on_firing(alert, params) {{ sleep("1m"); scale(alert.labels.service, 3); }}'
  now: 'fn on_firing(alert, params) {{ scale(alert.labels.service, 3); }}'
script:
{}  - wait: 2m
  - fire: {{ alertname: Free, service: free }}
  - wait: 10s
"#,
        services.join(", "),
        fires.concat()
    );
    let scenario: Scenario = serde_saphyr::from_str(&yaml).expect("a scenario");
    let (waiting, replicas) = scenario.on_stage(None, async |stage, life| {
        let filter = RunFilter { limit: 1_000, ..RunFilter::default() };
        let runs = life.journal.runs(&filter).await.expect("the journal can be read");
        let frozen = |run: &&Run| run.reason.as_ref().is_some_and(|reason| reason.code == "freeze");
        let of = async |name: &str| stage.cluster.service(name).await.expect("a service").replicas;
        (runs.iter().filter(frozen).count(), (of("free").await, of("held519").await))
    });
    assert_eq!((waiting, replicas), (520, (3, 2)));
}
