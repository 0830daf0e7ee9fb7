//! The crash matrix: every scenario × every write boundary × killed before or after it. Whatever is killed goes on to the same end, and no
//! absolute step is applied twice.

mod stage;

use runbookd::model::incident::State;
use runbookd::ports::{Cluster, IncidentFilter, Journal};
use stage::{Life, Scenario, Stage, scenarios, trace};
use std::collections::BTreeMap;

/// How a scenario ended: the states of its incidents, and what the cluster looks like.
#[derive(Debug, PartialEq)]
struct End {
    incidents: BTreeMap<(String, String), State>,
    replicas: BTreeMap<String, (u64, String)>,
}

async fn end_of(stage: &Stage, life: &Life) -> End {
    let filter = IncidentFilter { limit: 1_000, ..IncidentFilter::default() };
    let incidents = life.journal.incidents(&filter).await.expect("incidents");
    let services = stage.cluster.services().await;
    End {
        // The newest of a rule and key stands for it.
        incidents: incidents.into_iter().rev().map(|it| ((it.rule.unwrap_or_default(), it.key), it.state)).collect(),
        replicas: services
            .into_iter()
            .flatten()
            .map(|service| (service.name, (service.replicas, service.image)))
            .collect(),
    }
}

/// What is wrong with how a killed process ended, if anything.
fn judge(scenario: &Scenario, undisturbed: &End, killed: &End, stage: &Stage) -> Option<String> {
    let mut steps = BTreeMap::new();
    for applied in stage.cluster.applied().into_iter().filter(|applied| !applied.step.is_empty()) {
        *steps.entry((applied.service, applied.step)).or_insert(0) += 1;
    }
    if let Some((step, times)) = steps.into_iter().find(|(_, times)| *times > 1) {
        return Some(format!("{step:?} was applied {times} times"));
    }
    if *killed == *undisturbed {
        return None;
    }
    let may_end = |state: &State| scenario.killed_may_end.iter().any(|name| name == state.name());
    for (incident, state) in &killed.incidents {
        match undisturbed.incidents.get(incident) {
            Some(expected) if expected == state || may_end(state) => {}
            expected => return Some(format!("{incident:?} ended {state}, undisturbed {expected:?}")),
        }
    }
    if undisturbed.incidents.keys().any(|incident| !killed.incidents.contains_key(incident)) {
        return Some(format!("an incident is missing: {:?}", killed.incidents));
    }
    // Where a killed process may end with a person, the cluster may stand where the person found it.
    let same_cluster = killed.replicas == undisturbed.replicas || !scenario.killed_may_end.is_empty();
    (!same_cluster).then(|| format!("the cluster ended {:?}, undisturbed {:?}", killed.replicas, undisturbed.replicas))
}

#[tokio::test(start_paused = true)]
async fn whatever_is_killed_at_any_write_goes_on_to_the_same_end() {
    let (mut wrong, mut played) = (Vec::new(), 0);
    let only = std::env::var("SCENARIO").ok();
    for (name, path) in scenarios() {
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let scenario = Scenario::read(&path);
        let stage = Stage::of(&scenario);
        let life = scenario.play(&stage, None).await;
        let undisturbed = end_of(&stage, &life).await;
        let boundaries = life.journal.commits();
        life.app.stop().await;
        assert!(boundaries > 0, "{name} writes nothing");
        for boundary in 1..=boundaries {
            for before in [true, false] {
                let stage = Stage::of(&scenario);
                let life = scenario.play(&stage, Some((boundary, before))).await;
                let killed = end_of(&stage, &life).await;
                played += 1;
                if let Some(fault) = judge(&scenario, &undisturbed, &killed, &stage) {
                    let when = if before { "before" } else { "after" };
                    let trace = trace(&stage, &life).await;
                    wrong.push(format!("=== {name}, killed {when} write {boundary}: {fault}\n{trace}"));
                }
                life.app.stop().await;
            }
        }
    }
    println!("{played} crashes played");
    let all = wrong.len();
    wrong.truncate(5);
    assert!(wrong.is_empty(), "{all} of {played} went wrong\n{}", wrong.join("\n"));
}
