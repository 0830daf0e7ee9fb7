//! The crash matrix: every scenario × every write boundary × killed before or after it. Whatever is killed goes on to the same end, and no
//! absolute step is applied twice.

mod stage;

use runbookd::model::incident::State;
use runbookd::ports::{Cluster, IncidentFilter, Journal, NodeGroups};
use stage::{Life, Scenario, Stage, on_all_cores, scenarios, trace};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// How a scenario ended: the states of its incidents, and what the cluster looks like.
#[derive(Debug, PartialEq)]
struct End {
    incidents: BTreeMap<(String, String), State>,
    replicas: BTreeMap<String, (u64, String)>,
    /// Each with its availability.
    nodes: BTreeMap<String, String>,
    /// Each with the number of machines it is to have.
    groups: BTreeMap<String, u64>,
    silences: usize,
    posts: usize,
    /// What is left of them.
    jobs: Vec<String>,
    /// What each rule's attempts came to (helped, did not help, flapped), where a scenario is about that.
    judged: BTreeMap<String, (u64, u64, u64)>,
}

async fn end_of(stage: &Stage, life: &Life) -> End {
    let filter = IncidentFilter { limit: 1_000, ..IncidentFilter::default() };
    let incidents = life.journal.incidents(&filter).await.expect("incidents");
    let services = stage.cluster.services().await;
    let nodes = stage.cluster.nodes().await;
    let jobs = stage.cluster.jobs().await.unwrap_or_default();
    let mut groups = BTreeMap::new();
    for name in stage.cluster.names() {
        groups.insert(name.clone(), stage.cluster.group(&name).await.map_or(0, |group| group.desired));
    }
    let kept = life.app.effectiveness();
    let judged = kept.iter().filter(|_| stage.effectiveness).map(|(rule, kept)| {
        let tally = kept.total();
        (rule.clone(), (tally.helped, tally.did_not_help, tally.flapped))
    });
    End {
        judged: judged.collect(),
        nodes: nodes.into_iter().flatten().map(|node| (node.name, node.availability)).collect(),
        groups,
        silences: stage.silences.lock().expect("unpoisoned").len(),
        posts: stage.posts.posted().len(),
        jobs,
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
    // What cannot be looked at is done once or not at all; what has a key is there once.
    if killed.posts > undisturbed.posts || killed.silences > undisturbed.silences {
        return Some(format!("{} posts and {} silences were made", killed.posts, killed.silences));
    }
    if !killed.jobs.is_empty() {
        return Some(format!("of jobs that have ended there is left: {}", killed.jobs.join(", ")));
    }
    // Each attempt is judged once, whatever the process was at.
    if killed.judged != undisturbed.judged && scenario.killed_may_end.is_empty() {
        return Some(format!("attempts came to {:?}, undisturbed to {:?}", killed.judged, undisturbed.judged));
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
    let cluster = |end: &End| format!("{:?} {:?} {:?}", end.replicas, end.nodes, end.groups);
    let same_cluster = cluster(killed) == cluster(undisturbed) || !scenario.killed_may_end.is_empty();
    (!same_cluster).then(|| format!("the cluster ended {}, undisturbed {}", cluster(killed), cluster(undisturbed)))
}

/// A scenario, and how it ends when nothing is killed.
struct Undisturbed {
    name: String,
    scenario: Scenario,
    end: End,
    boundaries: u64,
}

impl Undisturbed {
    fn play(name: &str, path: &Path) -> Self {
        let scenario = Scenario::read(path);
        let (end, boundaries) =
            scenario.on_stage(None, async |stage, life| (end_of(stage, life).await, life.journal.commits()));
        assert!(boundaries > 0, "{name} writes nothing");
        assert!(end.jobs.is_empty(), "{name} leaves jobs behind: {:?}", end.jobs);
        Undisturbed { name: name.to_string(), scenario, end, boundaries }
    }

    /// What is wrong when it is killed before or after that write, if anything.
    fn killed_at(&self, boundary: u64, before: bool) -> Option<String> {
        let played = catch_unwind(AssertUnwindSafe(|| {
            self.scenario.on_stage(Some((boundary, before)), async |stage, life| {
                let fault = judge(&self.scenario, &self.end, &end_of(stage, life).await, stage)?;
                Some(format!("{fault}\n{}", trace(stage, life).await))
            })
        }));
        let fault = played.unwrap_or_else(|_| Some("the play panicked, see above".to_string()))?;
        let when = if before { "before" } else { "after" };
        Some(format!("=== {}, killed {when} write {boundary}: {fault}", self.name))
    }
}

#[test]
fn whatever_is_killed_at_any_write_goes_on_to_the_same_end() {
    let undisturbed = on_all_cores(&scenarios(), |(name, path)| Undisturbed::play(name, path));
    let crashes: Vec<(&Undisturbed, u64, bool)> = undisturbed
        .iter()
        .flat_map(|one| (1..=one.boundaries).flat_map(move |at| [(one, at, true), (one, at, false)]))
        .collect();
    let played = crashes.len();
    let judged = on_all_cores(&crashes, |(one, boundary, before)| one.killed_at(*boundary, *before));
    let mut wrong: Vec<String> = judged.into_iter().flatten().collect();
    println!("{played} crashes played");
    for one in &wrong {
        println!("{}", one.lines().next().unwrap_or_default());
    }
    let all = wrong.len();
    wrong.truncate(3);
    assert!(wrong.is_empty(), "{all} of {played} went wrong\n{}", wrong.join("\n"));
}
