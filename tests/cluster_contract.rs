//! What every cluster promises, on the simulator always and, with the feature `real-parts`, on a real Docker Swarm as well (its address in
//! `RUNBOOKD_TEST_DOCKER`; `scripts/test` starts one).

use runbookd::adapters::cluster::sim::{SimCluster, World};
use runbookd::clock::Clock;
use runbookd::model::cluster::{
    Convergence, JobIntent, JobState, Limits, Mode, Service, ServiceChange, ServiceIntent, SpecFields, Task,
    UpdateState,
};
use runbookd::ports::{Cluster, ErrorKind, ErrorReason, PortError, STEP_LABEL};
use std::collections::BTreeSet;
use std::time::Duration;

#[path = "cluster_contract/nodes.rs"]
mod nodes;
#[cfg(feature = "real-parts")]
#[path = "cluster_contract/swarm.rs"]
mod swarm;

/// Images that there are, and one that there is not.
const ONE: &str = "runbookd-test/shop:1";
const TWO: &str = "runbookd-test/shop:2";
const MISSING: &str = "runbookd-test/shop:missing";

/// How long a real Swarm may take for what takes it a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// The service that a case works on.
#[derive(Clone, Copy, PartialEq)]
enum Plan {
    /// Two replicas; a failed update pauses.
    Pausing,
    /// Two replicas; a failed update is rolled back.
    RollingBack,
    Global,
}

/// A cluster with one service.
struct Bench {
    cluster: Box<dyn Cluster>,
    name: String,
}

impl Bench {
    fn simulated(plan: Plan) -> Bench {
        let (name, more) = match plan {
            Plan::Pausing => ("pausing", ""),
            Plan::RollingBack => ("rolling-back", "on_failure: rollback, "),
            Plan::Global => ("global", ""),
        };
        let world = format!(
            "services: {{ {name}: {{ image: \"{ONE}\", replicas: 2, global: {}, labels: {{ team: shop }}, env: {{ A: \"1\", B: \"2\" }}, \
             behaviour: {{ {more}fail_image: {{ \"*:missing\": \"No such image: {MISSING}\" }} }} }} }}\n\
             jobs: {{ \"*:1\": {{ exit_code: 3, log: [hello] }} }}",
            plan == Plan::Global
        );
        let world = World::parse(&world).expect("a valid world");
        Bench { cluster: Box::new(SimCluster::new(world, Clock::simulated())), name: name.to_string() }
    }

    async fn seen(&self) -> Service {
        self.cluster.service(&self.name).await.expect("the service is there")
    }

    async fn tasks(&self) -> Vec<Task> {
        self.cluster.tasks(&self.name).await.expect("the service is there")
    }

    /// The ids of the tasks that run.
    async fn running(&self) -> BTreeSet<String> {
        let tasks = self.tasks().await.into_iter();
        tasks.filter(|task| task.state == "running" && task.desired_state == "running").map(|task| task.id).collect()
    }

    async fn intent(&self, change: ServiceChange) -> ServiceIntent {
        let Service { id, name, version, .. } = self.seen().await;
        ServiceIntent { service: name, id, version, change }
    }

    /// Applies a change at the version that is there now. Swarm itself raises it while an update goes on: another hand, as far as we can tell.
    async fn apply(&self, change: ServiceChange, step: &str) -> Result<(), PortError> {
        loop {
            match self.cluster.apply(&self.intent(change.clone()).await, step).await {
                Err(error) if error.reason == ErrorReason::Conflict => continue,
                other => return other,
            }
        }
    }

    /// Waits until nothing moves any more.
    async fn settled(&self) -> Convergence {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let told = self.cluster.convergence(&self.name).await.expect("the service is there");
            match told {
                Convergence::Progressing(_) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                told => return told,
            }
        }
    }

    async fn converged(&self) -> Service {
        assert_eq!(self.settled().await, Convergence::Converged, "{:#?}", self.tasks().await);
        self.seen().await
    }

    /// The change fails, and the tasks' own error is told.
    async fn failed(&self, expected: &str) {
        match self.settled().await {
            Convergence::Failed(told) => assert!(told.contains(expected), "{told}"),
            other => panic!("expected a failure, got {other:?}: {:#?}", self.tasks().await),
        }
        let tasks = self.tasks().await;
        assert!(tasks.iter().any(|task| task.error.contains(expected)), "{tasks:#?}");
    }
}

fn scale(from: u64, to: u64) -> ServiceChange {
    ServiceChange::Scale { from, to }
}

fn update(to: SpecFields) -> ServiceChange {
    ServiceChange::Update { from: SpecFields::default(), to }
}

fn image(image: &str) -> ServiceChange {
    update(SpecFields { image: Some(image.into()), ..SpecFields::default() })
}

async fn rollback(bench: &Bench) -> ServiceChange {
    let Service { template_hash, previous_template_hash, .. } = bench.seen().await;
    ServiceChange::Rollback { from: template_hash, to: previous_template_hash.unwrap_or_default() }
}

fn kind(result: Result<(), PortError>) -> (ErrorKind, ErrorReason) {
    let error = result.expect_err("it is refused");
    assert!(!error.message.is_empty());
    (error.kind, error.reason)
}

async fn a_scale_converges_and_cannot_be_made_twice(bench: Bench) {
    let intent = bench.intent(scale(2, 3)).await;
    bench.cluster.apply(&intent, "9:1").await.expect("accepted");
    let again = bench.cluster.apply(&intent, "9:1").await;
    assert_eq!(kind(again), (ErrorKind::Transient, ErrorReason::Conflict));
    let service = bench.converged().await;
    assert_eq!((service.replicas, service.running), (3, 3));
    assert!(service.version > intent.version);
    assert_eq!(service.labels.get(STEP_LABEL), Some("9:1"));
    assert_eq!(service.labels.get("team"), Some("shop"));
    assert_eq!((bench.running().await.len(), service.update), (3, UpdateState::None));
    // Back down, to nothing at all.
    bench.apply(scale(3, 0), "9:2").await.expect("accepted");
    assert_eq!((bench.converged().await.running, bench.running().await.len()), (0, 0));
}

async fn a_restart_replaces_every_task(bench: Bench) {
    let before = (bench.seen().await, bench.running().await);
    bench.apply(ServiceChange::Restart { from: 0, to: 1 }, "9:1").await.expect("accepted");
    let service = bench.converged().await;
    assert!(before.1.is_disjoint(&bench.running().await));
    assert_eq!((service.force_update, service.running, service.update), (1, 2, UpdateState::Completed));
    assert_eq!(service.labels.get(STEP_LABEL), Some("9:1"));
    assert_ne!(service.template_hash, before.0.template_hash);
    assert_eq!(service.previous_template_hash, Some(before.0.template_hash));
}

async fn an_update_sets_what_it_names_and_nothing_else(bench: Bench) {
    let before = bench.seen().await;
    let to = SpecFields {
        image: Some(TWO.into()),
        env: [("A".to_string(), None), ("B".to_string(), Some("3".into())), ("C".to_string(), Some("x=y".into()))]
            .into(),
        labels: [("team".to_string(), None), ("tier".to_string(), Some("front".into()))].into(),
        limits: Some(Limits { nano_cpus: None, memory_bytes: Some(64 << 20) }),
        force_update: None,
    };
    bench.apply(update(to), "9:1").await.expect("accepted");
    let after = bench.converged().await;
    let expected = Service {
        version: after.version,
        image: TWO.into(),
        env: [("B", "3"), ("C", "x=y")].map(|(name, value)| (name.to_string(), value.to_string())).into(),
        labels: [("tier", "front"), (STEP_LABEL, "9:1")].into_iter().collect(),
        limits: Limits { nano_cpus: None, memory_bytes: Some(64 << 20) },
        update: UpdateState::Completed,
        update_message: after.update_message.clone(),
        template_hash: after.template_hash.clone(),
        previous_template_hash: Some(before.template_hash.clone()),
        ..before
    };
    assert_eq!(after, expected);
    let tasks = bench.tasks().await;
    assert!(tasks.iter().filter(|task| task.state == "running").all(|task| task.image == TWO), "{tasks:#?}");
    assert_eq!(tasks[0].image, TWO, "newest first: {tasks:#?}");
}

async fn a_change_of_labels_replaces_no_task(bench: Bench) {
    let before = (bench.seen().await.template_hash, bench.running().await);
    let labels = [("tier".to_string(), Some("front".to_string()))].into();
    bench.apply(update(SpecFields { labels, ..SpecFields::default() }), "9:1").await.expect("accepted");
    let after = bench.converged().await;
    assert_eq!((after.template_hash, bench.running().await), before);
    assert_eq!(after.labels.get("tier"), Some("front"));
}

async fn a_rollback_swaps_the_spec_with_the_previous_one(bench: Bench) {
    assert_eq!(
        kind(bench.apply(rollback(&bench).await, "9:1").await),
        (ErrorKind::Permanent, ErrorReason::Invalid),
        "there is no previous spec yet"
    );
    let one = bench.seen().await.template_hash;
    bench.apply(image(TWO), "9:1").await.expect("accepted");
    let two = bench.converged().await.template_hash;
    for (image, to, from) in [(ONE, &one, &two), (TWO, &two, &one)] {
        bench.apply(rollback(&bench).await, "9:2").await.expect("accepted");
        let service = bench.converged().await;
        assert_eq!((service.image.as_str(), service.update), (image, UpdateState::RollbackCompleted));
        assert_eq!((&service.template_hash, service.previous_template_hash.as_ref()), (to, Some(from)));
    }
    // A scale counts as a spec: a rollback after it takes the replicas back.
    bench.apply(scale(2, 3), "9:3").await.expect("accepted");
    assert_eq!(bench.converged().await.update, UpdateState::None, "what was rolled back before is forgotten");
    bench.apply(rollback(&bench).await, "9:4").await.expect("accepted");
    assert_eq!(bench.converged().await.running, 2);
}

async fn an_update_whose_tasks_fail_pauses_and_can_be_rolled_back(bench: Bench) {
    bench.apply(image(MISSING), "9:1").await.expect("accepted");
    bench.failed("No such image").await;
    assert_eq!(bench.seen().await.update, UpdateState::Paused);
    bench.apply(rollback(&bench).await, "9:2").await.expect("accepted");
    let service = bench.converged().await;
    assert_eq!((service.image.as_str(), service.running), (ONE, 2));
}

async fn an_update_whose_tasks_fail_may_be_rolled_back_by_swarm(bench: Bench) {
    bench.apply(image(MISSING), "9:1").await.expect("accepted");
    bench.failed("No such image").await;
    let service = bench.seen().await;
    assert_eq!((service.image.as_str(), service.update, service.running), (ONE, UpdateState::RollbackCompleted, 2));
    assert_eq!(service.previous_template_hash, None, "the bad spec is gone");
    // The next change makes it whole again.
    bench.apply(image(TWO), "9:2").await.expect("accepted");
    assert_eq!(bench.converged().await.image, TWO);
}

async fn a_global_service_is_restarted_but_not_scaled(bench: Bench) {
    let service = bench.converged().await;
    let nodes = bench.cluster.nodes().await.expect("there are nodes").len() as u64;
    assert_eq!((service.mode, service.replicas, service.running), (Mode::Global, nodes, nodes));
    let error = bench.apply(scale(1, 2), "9:1").await.expect_err("refused");
    assert_eq!((error.kind, error.reason), (ErrorKind::Permanent, ErrorReason::Invalid));
    assert!(error.message.contains("global") && error.message.contains(&bench.name), "{error}");
    bench.apply(ServiceChange::Restart { from: 0, to: 1 }, "9:2").await.expect("accepted");
    assert_eq!(bench.converged().await.force_update, 1);
}

async fn a_job_runs_once_and_tells_how_it_ended(bench: Bench) {
    let name = format!("runbookd-job-{}", bench.name);
    let job = JobIntent {
        name: name.clone(),
        image: ONE.into(),
        args: ["sh", "-c", "echo hello; exit 3"].map(String::from).to_vec(),
        env: [("A".to_string(), "1".to_string())].into(),
        deadline: jiff::Timestamp::MAX,
        timeout: runbookd::model::duration::Duration::from_secs(60),
    };
    // Asked for twice it is the same job.
    for _ in 0..2 {
        bench.cluster.start_job(&job, "9:1").await.expect("accepted");
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let ended = loop {
        match bench.cluster.job(&name).await.expect("it is there") {
            JobState::Running(_) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            state => break state,
        }
    };
    let JobState::Ended { exit_code, error, log } = ended else { panic!("still {ended:?}") };
    assert_eq!((exit_code, log), (Some(3), vec!["hello".to_string()]), "{error}");
    assert!(!error.is_empty(), "an exit code that is not 0 has its error");
    let known = async || bench.cluster.jobs().await.expect("they can be listed").contains(&name);
    assert!(known().await, "one that has ended is there until it is removed");
    for _ in 0..2 {
        bench.cluster.remove_job(&name).await.expect("removed");
    }
    assert!(!known().await);
    assert_eq!(kind(bench.cluster.job(&name).await.map(drop)), (ErrorKind::Permanent, ErrorReason::NotFound));
}

async fn what_is_not_there_is_not_found(bench: Bench) {
    let missing = (ErrorKind::Permanent, ErrorReason::NotFound);
    // A beginning of a name is not a name; a shorter one than any other test gives.
    for name in ["nobody", &bench.name[..3]] {
        assert_eq!(kind(bench.cluster.service(name).await.map(drop)), missing);
        assert_eq!(kind(bench.cluster.tasks(name).await.map(drop)), missing);
        assert_eq!(kind(bench.cluster.convergence(name).await.map(drop)), missing);
    }
    let intent = ServiceIntent { id: "aaaaaaaaaaaaaaaaaaaaaaaaa".into(), ..bench.intent(scale(2, 3)).await };
    assert_eq!(kind(bench.cluster.apply(&intent, "9:1").await), missing, "made anew under the same name");
}

async fn lists_and_single_reads_agree(bench: Bench) {
    bench.converged().await;
    bench.cluster.ping().await.expect("a Swarm answers");
    let all = bench.cluster.services().await.expect("they can be listed");
    let listed = all.into_iter().find(|service| service.name == bench.name);
    assert_eq!(listed, Some(bench.seen().await));
    let nodes = bench.cluster.nodes().await.expect("they can be listed");
    let ready = |role: &str| {
        nodes.iter().any(|node| (&*node.role, &*node.state, &*node.availability) == (role, "ready", "active"))
    };
    assert!(ready("manager"), "{nodes:#?}");
    let tasks = bench.tasks().await;
    assert!(tasks.iter().all(|task| task.node == nodes[0].name && task.service == bench.name), "{tasks:#?}");
    let mut live = bench.cluster.live_tasks().await.expect("they can be listed");
    live.retain(|task| task.service == bench.name);
    let mut meant: Vec<Task> = tasks.into_iter().filter(|task| task.desired_state == "running").collect();
    for all in [&mut live, &mut meant] {
        all.sort_by(|a, b| a.id.cmp(&b.id));
    }
    assert_eq!(live, meant);
}

/// Each case on each cluster.
macro_rules! suite {
    ($($case:ident: $plan:ident,)*) => {
        mod on_the_simulator {
            $(#[tokio::test(start_paused = true)]
            async fn $case() {
                super::$case(super::Bench::simulated(super::Plan::$plan)).await;
            })*
        }

        #[cfg(feature = "real-parts")]
        mod on_a_real_swarm {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::swarm::bench(super::Plan::$plan).await).await;
            })*
        }
    };
}

suite! {
    a_scale_converges_and_cannot_be_made_twice: Pausing,
    a_restart_replaces_every_task: Pausing,
    an_update_sets_what_it_names_and_nothing_else: Pausing,
    a_change_of_labels_replaces_no_task: Pausing,
    a_rollback_swaps_the_spec_with_the_previous_one: Pausing,
    an_update_whose_tasks_fail_pauses_and_can_be_rolled_back: Pausing,
    an_update_whose_tasks_fail_may_be_rolled_back_by_swarm: RollingBack,
    a_global_service_is_restarted_but_not_scaled: Global,
    a_job_runs_once_and_tells_how_it_ended: Pausing,
    what_is_not_there_is_not_found: Pausing,
    lists_and_single_reads_agree: Pausing,
}
