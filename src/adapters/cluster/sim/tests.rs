use super::*;
use crate::model::cluster::{Limits, SpecFields, UpdateState};
use crate::ports::{ErrorKind, NodeGroups, STEP_LABEL};
use std::time::Duration;

const WORLD: &str = r#"
services:
  web: { image: "shop/web:1", replicas: 2, labels: { com.df.scaleMax: "6" }, env: { A: "1" },
         behaviour: { fail_image: { "*:bad": "No such image: shop/web:bad" } } }
  api: { image: "shop/api:1", replicas: 3,
         behaviour: { start: 2s, fail_image: { "*:bad": "exit 1" }, on_failure: rollback } }
  logs: { image: "logs:1", global: true }
  weak: { image: "weak:1", replicas: 2, behaviour: { fail: "unhealthy container" } }
nodes: { node1: { role: manager }, node2: {}, node3: { availability: drain } }
node_groups: { workers: { desired: 1, min: 1, max: 5 } }
"#;

fn cluster() -> SimCluster {
    SimCluster::new(World::parse(WORLD).expect("a valid world"), Clock::simulated())
}

async fn seen(cluster: &SimCluster, service: &str) -> Service {
    cluster.service(service).await.expect("the service is there")
}

async fn apply(cluster: &SimCluster, service: &str, change: ServiceChange, step: &str) -> Result<(), PortError> {
    let Service { id, version, .. } = seen(cluster, service).await;
    Cluster::apply(cluster, &ServiceIntent { service: service.into(), id, version, change }, step).await
}

fn scale(to: u64) -> ServiceChange {
    ServiceChange::Scale { from: 0, to }
}

fn restart(to: u64) -> ServiceChange {
    ServiceChange::Restart { from: 0, to }
}

fn image(image: &str) -> ServiceChange {
    let to = SpecFields { image: Some(image.into()), ..SpecFields::default() };
    ServiceChange::Update { from: SpecFields::default(), to }
}

fn rollback() -> ServiceChange {
    ServiceChange::Rollback { from: String::new(), to: String::new() }
}

fn word(convergence: &Convergence) -> &'static str {
    match convergence {
        Convergence::Converged => "converged",
        Convergence::Progressing(_) => "progressing",
        Convergence::Failed(_) => "failed",
    }
}

/// Makes `changes` one after the other, each converging before the next, then looks at the service at the given milliseconds after the last:
/// replicas running, update state, convergence.
async fn check(service: &str, changes: &[ServiceChange], expected: &[(u64, u64, UpdateState, &str)]) {
    let cluster = cluster();
    let (last, earlier) = changes.split_last().expect("at least one change");
    for change in earlier {
        apply(&cluster, service, change.clone(), "1:1").await.expect("accepted");
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    apply(&cluster, service, last.clone(), "1:2").await.expect("accepted");
    let mut passed = 0;
    for (millis, running, update, convergence) in expected {
        tokio::time::advance(Duration::from_millis(millis - passed)).await;
        passed = *millis;
        let now = seen(&cluster, service).await;
        let told = cluster.convergence(service).await.expect("it is there");
        let got = (now.running, now.update, word(&told));
        assert_eq!(got, (*running, *update, *convergence), "{service} {millis} ms after {last:?}: {told:?}");
        let tasks = cluster.tasks(service).await.expect("it is there");
        let up = tasks.iter().filter(|task| task.state == "running" && task.desired_state == "running").count() as u64;
        assert_eq!(up, now.running, "{service} {millis} ms after {last:?}: {tasks:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_converges_over_time() {
    use UpdateState::*;
    check(
        "web",
        &[scale(5)],
        &[(0, 2, None, "progressing"), (499, 2, None, "progressing"), (500, 5, None, "converged")],
    )
    .await;
    check("web", &[scale(5), scale(1)], &[(0, 1, None, "converged")]).await;
    check("web", &[image("shop/web:2")], &[(0, 1, Updating, "progressing"), (500, 2, Completed, "converged")]).await;
    check("web", &[restart(1)], &[(0, 1, Updating, "progressing"), (500, 2, Completed, "converged")]).await;
    check("logs", &[restart(1)], &[(0, 1, Updating, "progressing"), (500, 2, Completed, "converged")]).await;
    check("api", &[image("shop/api:2")], &[(500, 2, Updating, "progressing"), (2000, 3, Completed, "converged")]).await;
    check("web", &[scale(0), restart(1)], &[(0, 0, Completed, "converged")]).await;
}

#[tokio::test(start_paused = true)]
async fn tasks_that_fail_pause_the_update_or_roll_it_back() {
    use UpdateState::*;
    let bad = image("shop/web:bad");
    check("web", std::slice::from_ref(&bad), &[(999, 1, Updating, "progressing"), (1000, 1, Paused, "failed")]).await;
    check("web", &[bad.clone(), scale(4)], &[(0, 0, Updating, "progressing"), (1000, 0, Paused, "failed")]).await;
    let bad = image("shop/api:bad");
    let course = [
        (3999, 2, Updating, "progressing"),
        (4000, 2, RollbackStarted, "progressing"),
        (6000, 3, RollbackCompleted, "failed"),
    ];
    check("api", std::slice::from_ref(&bad), &course).await;
    check("api", &[bad, image("shop/api:2")], &[(2000, 3, Completed, "converged")]).await;
    // Tasks that can no longer start: a scale never gets there, and Swarm never says so.
    check("weak", &[scale(3)], &[(0, 2, None, "progressing"), (60_000, 2, None, "progressing")]).await;
    check("weak", &[restart(1)], &[(0, 1, Updating, "progressing"), (1000, 1, Paused, "failed")]).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollback_swaps_the_specs_and_a_scale_counts_as_a_spec() {
    use UpdateState::*;
    let course = [(0, 1, RollbackStarted, "progressing"), (500, 2, RollbackCompleted, "converged")];
    check("web", &[image("shop/web:2"), rollback()], &course).await;
    check("web", &[image("shop/web:bad"), rollback()], &[(500, 2, RollbackCompleted, "converged")]).await;
    check("web", &[scale(4), rollback()], &[(500, 2, RollbackCompleted, "converged")]).await;

    let cluster = cluster();
    let before = seen(&cluster, "web").await;
    apply(&cluster, "web", image("shop/web:2"), "1:1").await.expect("accepted");
    let after = seen(&cluster, "web").await;
    assert_eq!(after.previous_template_hash.as_ref(), Some(&before.template_hash));
    assert_ne!(after.template_hash, before.template_hash);
    for expected in ["shop/web:1", "shop/web:2", "shop/web:1"] {
        apply(&cluster, "web", rollback(), "1:2").await.expect("accepted");
        assert_eq!(seen(&cluster, "web").await.image, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_sets_what_it_names_and_leaves_the_rest() {
    let cluster = cluster();
    let to = SpecFields {
        image: None,
        env: [("A".into(), None), ("B".into(), Some("2".into()))].into(),
        labels: [("com.df.scaleMax".into(), None), ("team".into(), Some("shop".into()))].into(),
        limits: Some(Limits { memory_bytes: Some(1 << 20), nano_cpus: None }),
        force_update: Some(3),
    };
    let before = seen(&cluster, "web").await;
    apply(&cluster, "web", ServiceChange::Update { from: SpecFields::default(), to }, "7:3").await.expect("accepted");
    let after = seen(&cluster, "web").await;
    assert_eq!(after.env, [("B".to_string(), "2".to_string())].into());
    assert_eq!(after.labels, [("team", "shop"), (STEP_LABEL, "7:3")].into_iter().collect());
    assert_eq!(after.limits, Limits { memory_bytes: Some(1 << 20), nano_cpus: None });
    assert_eq!((after.force_update, after.image.as_str()), (3, "shop/web:1"));
    assert_eq!(after.version, before.version + 1);
}

#[tokio::test(start_paused = true)]
async fn what_swarm_refuses_is_refused() {
    let cluster = cluster();
    let check =
        async |service: &str, id: &str, version: u64, change: ServiceChange, expected: (ErrorKind, ErrorReason)| {
            let intent = ServiceIntent { service: service.into(), id: id.into(), version, change };
            let error = Cluster::apply(&cluster, &intent, "1:1").await.expect_err("refused");
            assert_eq!((error.kind, error.reason), expected, "{error}");
        };
    let (web, logs) = (seen(&cluster, "web").await, seen(&cluster, "logs").await);
    check("web", &web.id, web.version - 1, scale(3), (ErrorKind::Transient, ErrorReason::Conflict)).await;
    check("web", "another", web.version, scale(3), (ErrorKind::Permanent, ErrorReason::NotFound)).await;
    check("nobody", &web.id, web.version, scale(3), (ErrorKind::Permanent, ErrorReason::NotFound)).await;
    check("logs", &logs.id, logs.version, scale(3), (ErrorKind::Permanent, ErrorReason::Invalid)).await;
    check("web", &web.id, web.version, rollback(), (ErrorKind::Permanent, ErrorReason::Invalid)).await;
    assert_eq!(cluster.applied(), []);
    assert_eq!(seen(&cluster, "web").await, web);
}

#[tokio::test(start_paused = true)]
async fn injected_faults_strike_once_each_and_in_order() {
    let cluster = cluster();
    let check = async |fault: Fault, expected: (ErrorKind, ErrorReason), replicas: u64| {
        cluster.inject(fault.clone());
        let error = apply(&cluster, "web", scale(4), "1:1").await.expect_err("it strikes");
        assert_eq!((error.kind, error.reason), expected, "{fault:?}");
        assert_eq!(seen(&cluster, "web").await.replicas, replicas, "{fault:?}");
    };
    check(Fault::Unreachable, (ErrorKind::Transient, ErrorReason::Unreachable), 2).await;
    check(Fault::TimeoutBefore, (ErrorKind::Unknown, ErrorReason::Timeout), 2).await;
    check(Fault::AnotherHand(None), (ErrorKind::Transient, ErrorReason::Conflict), 2).await;
    check(Fault::AnotherHand(Some(Box::new(scale(7)))), (ErrorKind::Transient, ErrorReason::Conflict), 7).await;
    check(Fault::TimeoutAfter, (ErrorKind::Unknown, ErrorReason::Timeout), 4).await;
    apply(&cluster, "web", scale(5), "1:2").await.expect("no fault is left");
    let steps: Vec<String> = cluster.applied().into_iter().map(|applied| applied.step).collect();
    assert_eq!(steps, ["", "", "1:1", "1:2"]);
    cluster.set_reachable(false);
    assert_eq!(cluster.ping().await.expect_err("gone").reason, ErrorReason::Unreachable);
}

#[tokio::test(start_paused = true)]
async fn the_world_is_remembered_and_wins_over_the_world_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let (file, log) = (dir.path().join("world.yaml"), dir.path().join("runbookd.db.world"));
    std::fs::write(&file, WORLD).expect("written");
    let clock = Clock::simulated();
    let open = |file| SimCluster::open(file, &log, clock);
    let cluster = open(Some(&file)).expect("opened");
    let differs = |cluster: &SimCluster, text: &str| cluster.differs_from(World::parse(text).expect("a valid world"));
    assert!(!differs(&cluster, WORLD) && differs(&cluster, &WORLD.replace("shop/api:1", "shop/api:2")));
    apply(&cluster, "web", scale(5), "1:1").await.expect("accepted");
    apply(&cluster, "api", image("shop/api:bad"), "2:1").await.expect("accepted");
    tokio::time::advance(Duration::from_secs(5)).await;
    apply(&cluster, "api", scale(1), "2:2").await.expect("accepted");
    assert!(differs(&cluster, WORLD), "it has been changed");
    let held = open(None).err().expect("the first still holds it").to_string();
    assert!(held.contains("another runbookd holds"), "{held}");

    let mut before = (cluster.services().await, cluster.tasks("api").await, cluster.nodes().await, cluster.applied());
    // Twice, since the first opening rewrites the file; and with no world file, since it must not be needed.
    let mut cluster = cluster;
    for round in 0..3 {
        drop(cluster);
        if round == 1 {
            use std::io::Write;
            let mut file = std::fs::OpenOptions::new().append(true).open(&log).expect("there");
            file.write_all(br#"{"applied":{"at":"2026-01-01T"#).expect("a torn line");
        }
        cluster = open(None).expect("opened again");
        let after = (cluster.services().await, cluster.tasks("api").await, cluster.nodes().await, cluster.applied());
        assert_eq!(after, before, "round {round}");
        apply(&cluster, "web", scale(6 + round), "3:1").await.expect("accepted");
        before = (cluster.services().await, cluster.tasks("api").await, cluster.nodes().await, cluster.applied());
    }
    let text = std::fs::read_to_string(&log).expect("there");
    let changes = |key: &str| text.lines().filter(|line| line.starts_with(key)).count();
    assert_eq!((changes(r#"{"history":"#), changes(r#"{"applied":"#)), (5, 1), "{text}");
    assert_eq!(NodeGroups::group(&cluster, "workers").await.expect("it is there").max, 5);
}

#[test]
fn a_wrong_world_file_says_where_and_what() {
    let check = |text: &str, expected: &[&str]| {
        let error = World::parse(text).expect_err(text);
        for part in expected {
            assert!(error.contains(part), "{text:?}: {error}");
        }
    };
    check("services:\n  web: { imag: x }", &["line 2", "imag", "image"]);
    check("services:\n  web: { replicas: 1 }", &["line 2", "image"]);
    check("services:\n  web: { image: x, behaviour: { start: soon } }", &["line 2", "soon", "90s"]);
    check("services:\n  web: { image: x }\n  web: { image: y }", &["line 3", "web"]);
    check("nodes: { a: { role: king } }", &["line 1", "king", "manager"]);
    check("node_groups: { workers: { desired: 9, min: 1, max: 5 } }", &["node_groups.workers", "9"]);
    check("services: { web: { image: x, replicas: 100001 } }", &["services.web", "at most 100000"]);
    let many = "node_groups: { a: { desired: 600, min: 1, max: 999 }, b: { desired: 600, min: 1, max: 999 } }";
    check(many, &["node_groups.b", "1200 machines", "at most 1000"]);
    assert_eq!(World::parse("# nothing yet\n").expect("an empty world").nodes().len(), 1);
}

#[test]
fn a_log_that_is_none_is_named_with_its_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("world");
    let check = |text: &str, expected: &str| {
        std::fs::write(&log, text).expect("written");
        let error = SimCluster::open(None, &log, Clock::System).err().expect(text).to_string();
        assert!(error.contains(expected) && error.contains("delete the file"), "{text:?}: {error}");
        assert_eq!(std::fs::read_to_string(&log).expect("there"), text, "a file that is not understood is left alone");
    };
    check("{\"world\":2}\n", "line 1: this build reads format 1");
    check("{\"nodes\":[]}\n", "line 1: no simulated world");
    check("{\"world\":1}\nnonsense\n", "line 2:");
}
