//! What every group of machines promises, whoever provides it: the simulator, in memory and with a log that is opened anew behind every change as after a
//! `kill -9`; programs of the config; and, with the feature `real-parts`, the AWS SDK against moto (its address in `RUNBOOKD_TEST_MOTO`).

use runbookd::adapters::cluster::sim::{SimCluster, World};
use runbookd::adapters::nodes::ConfiguredGroups;
use runbookd::clock::Clock;
use runbookd::config::{CommandGroupConfig, NodeGroupConfig};
use runbookd::model::node_group::{GroupChange, GroupIntent, InstanceState, NodeGroup};
use runbookd::ports::{ErrorKind, ErrorReason, NodeGroups, PortError};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

#[cfg(feature = "real-parts")]
#[path = "node_groups/moto.rs"]
mod moto;

const WORLD: &str = "node_groups: { workers: { desired: 2, min: 1, max: 4 } }\n";
const PROVIDER: &str = include_str!("node_groups/provider.sh");

/// A provider with the group `workers`: two machines, one at least, four at most.
struct Bench {
    open: Box<dyn Fn() -> Arc<dyn NodeGroups>>,
    groups: Option<Arc<dyn NodeGroups>>,
    /// Where it keeps what it has to remember.
    _dir: Option<TempDir>,
}

impl Bench {
    fn new(open: impl Fn() -> Arc<dyn NodeGroups> + 'static, dir: Option<TempDir>) -> Bench {
        Bench { groups: Some(open()), open: Box::new(open), _dir: dir }
    }

    fn simulated() -> Bench {
        let world = World::parse(WORLD).expect("a valid world");
        let cluster: Arc<dyn NodeGroups> = Arc::new(SimCluster::new(world, Clock::simulated()));
        Bench::new(move || cluster.clone(), None)
    }

    fn remembered() -> Bench {
        let dir = tempfile::tempdir().expect("a directory");
        let (world, log) = (dir.path().join("world.yaml"), dir.path().join("log"));
        std::fs::write(&world, WORLD).expect("written");
        let clock = Clock::simulated();
        let open = move || -> Arc<dyn NodeGroups> {
            if log.exists() {
                torn(&log);
            }
            // A program that another test starts holds a copy of every open file, locks included, for the moment between its fork and its exec.
            let patience = std::time::Instant::now() + std::time::Duration::from_secs(20);
            loop {
                match SimCluster::open(Some(&world), &log, clock) {
                    Ok(cluster) => return Arc::new(cluster),
                    Err(error)
                        if error.message.contains("another runbookd") && std::time::Instant::now() < patience =>
                    {
                        std::thread::yield_now();
                    }
                    Err(error) => panic!("it can be opened again: {error}"),
                }
            }
        };
        Bench::new(open, Some(dir))
    }

    fn of_commands() -> Bench {
        let dir = tempfile::tempdir().expect("a directory");
        let (script, state) = (dir.path().join("provider.sh"), dir.path().join("state"));
        std::fs::write(&script, PROVIDER).expect("written");
        std::fs::write(&state, "2 2 m-1 m-2\n").expect("written");
        let argv = |call: &str, more: &[&str]| -> Vec<String> {
            let path = |path: &Path| path.to_str().expect("plain").to_string();
            let words = ["sh".to_string(), path(&script), path(&state), call.to_string(), "{group}".to_string()];
            words.into_iter().chain(more.iter().map(ToString::to_string)).collect()
        };
        let config = CommandGroupConfig {
            describe: argv("describe", &[]),
            resize: argv("resize", &["{desired}"]),
            terminate: argv("terminate", &["{instance}"]),
            timeout: None,
            min: 1,
            max: 4,
        };
        let config = BTreeMap::from([("workers".to_string(), NodeGroupConfig::Command(config))]);
        Bench::new(move || Arc::new(ConfiguredGroups::new(&config).expect("a valid config")), Some(dir))
    }

    fn groups(&self) -> &dyn NodeGroups {
        self.groups.as_deref().expect("there is one but while it is opened anew")
    }

    async fn seen(&self) -> NodeGroup {
        self.groups().group("workers").await.expect("the group is there")
    }

    /// The machines that are there to stay, in whatever state.
    async fn kept(&self) -> BTreeSet<String> {
        let instances = self.seen().await.instances.into_iter();
        instances.filter(|it| it.state != InstanceState::Terminating).map(|it| it.id).collect()
    }

    /// Whoever asked is gone without a farewell behind every change, and another one goes on.
    async fn apply(&mut self, change: GroupChange) -> Result<(), PortError> {
        let intent = GroupIntent { group: "workers".into(), change };
        let outcome = self.groups().apply(&intent).await;
        drop(self.groups.take());
        self.groups = Some((self.open)());
        outcome
    }

    /// It is refused for good, with these words, and nothing is done.
    async fn refused(&mut self, change: GroupChange, words: &str) {
        let before = self.seen().await;
        let error = self.apply(change).await.expect_err("refused");
        assert_eq!((error.kind, error.reason), (ErrorKind::Permanent, ErrorReason::Refused), "{error}");
        assert!(error.message.contains("workers") && error.message.contains(words), "{error}");
        assert_eq!(self.seen().await, before);
    }
}

/// What a process that is killed while it writes leaves behind.
fn torn(log: &Path) {
    let mut log = std::fs::OpenOptions::new().append(true).open(log).expect("it is there");
    log.write_all(b"{\"group_applied\":{\"at\":\"2026").expect("written");
}

fn resize(from: u64, to: u64) -> GroupChange {
    GroupChange::Resize { from, to }
}

fn terminate(instance: &str, from: u64) -> GroupChange {
    GroupChange::Terminate { node: "node1".into(), instance: instance.into(), from }
}

async fn a_group_is_described_as_it_is(bench: Bench) {
    assert_eq!(bench.groups().names(), ["workers"]);
    let seen = bench.seen().await;
    assert_eq!((seen.name.as_str(), seen.desired, seen.min, seen.max), ("workers", 2, 1, 4));
    assert_eq!(bench.kept().await.len(), 2, "{seen:?}");
    assert_eq!(bench.seen().await, seen, "looking changes nothing");
}

async fn a_group_grows_to_the_number_and_no_further_when_told_twice(mut bench: Bench) {
    let before = bench.kept().await;
    for _ in 0..2 {
        bench.apply(resize(2, 3)).await.expect("within its bounds");
        let (seen, after) = (bench.seen().await, bench.kept().await);
        assert_eq!((seen.desired, after.len()), (3, 3), "{seen:?}");
        assert!(before.is_subset(&after), "{before:?} {after:?}");
    }
    let third = bench.kept().await;
    bench.apply(resize(3, 4)).await.expect("its maximum is within its bounds");
    assert!(third.is_subset(&bench.kept().await));
    assert_eq!(bench.seen().await.desired, 4);
}

async fn beyond_its_bounds_nothing_is_done(mut bench: Bench) {
    bench.refused(resize(2, 5), "4 machines at most").await;
    bench.refused(resize(2, 0), "1 machines at least").await;
    let one = bench.kept().await.pop_first().expect("there are two");
    bench.apply(terminate(&one, 2)).await.expect("one is left");
    let last = bench.kept().await.pop_first().expect("there is one");
    bench.refused(terminate(&last, 1), "is not terminated").await;
}

async fn fewer_by_their_number_alone_is_refused(mut bench: Bench) {
    bench.refused(resize(2, 1), "remove_node picks").await;
}

async fn the_very_machine_goes_and_is_not_replaced_also_when_told_twice(mut bench: Bench) {
    bench.apply(resize(2, 3)).await.expect("within its bounds");
    let mut left = bench.kept().await;
    // Neither the first nor the last, which a provider might pick by itself.
    let gone = left.iter().nth(1).cloned().expect("there are three");
    left.remove(&gone);
    for _ in 0..2 {
        bench.apply(terminate(&gone, 3)).await.expect("it goes, or is gone");
        assert_eq!((bench.seen().await.desired, bench.kept().await), (2, left.clone()));
    }
    // A machine that was never there is gone as well.
    bench.apply(terminate("i-0123456789abcdef0", 2)).await.expect("it is gone");
    assert_eq!((bench.seen().await.desired, bench.kept().await), (2, left));
}

async fn what_grows_behind_a_termination_has_a_name_of_its_own(mut bench: Bench) {
    let gone = bench.kept().await.pop_last().expect("there are two");
    bench.apply(terminate(&gone, 2)).await.expect("it goes");
    bench.apply(resize(1, 3)).await.expect("within its bounds");
    let kept = bench.kept().await;
    assert!(kept.len() == 3 && !kept.contains(&gone), "{gone}: {kept:?}");
}

async fn an_unknown_group_is_told_with_the_nearest(bench: Bench) {
    let intent = GroupIntent { group: "wokers".into(), change: resize(1, 2) };
    for error in [
        bench.groups().group("wokers").await.expect_err("there is none"),
        bench.groups().apply(&intent).await.expect_err("there is none"),
    ] {
        assert_eq!((error.kind, error.reason), (ErrorKind::Permanent, ErrorReason::NotFound));
        assert!(error.message.contains("did you mean \"workers\"?"), "{error}");
    }
}

/// Each case with each provider.
macro_rules! suite {
    ($($case:ident,)*) => {
        mod of_the_simulator {
            $(#[tokio::test(start_paused = true)]
            async fn $case() {
                super::$case(super::Bench::simulated()).await;
            })*
        }

        mod of_the_simulator_killed_behind_every_change {
            $(#[tokio::test(start_paused = true)]
            async fn $case() {
                super::$case(super::Bench::remembered()).await;
            })*
        }

        mod of_commands {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Bench::of_commands()).await;
            })*
        }

        #[cfg(feature = "real-parts")]
        mod of_aws {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::moto::bench().await).await;
            })*
        }
    };
}

suite! {
    a_group_is_described_as_it_is,
    a_group_grows_to_the_number_and_no_further_when_told_twice,
    beyond_its_bounds_nothing_is_done,
    fewer_by_their_number_alone_is_refused,
    the_very_machine_goes_and_is_not_replaced_also_when_told_twice,
    what_grows_behind_a_termination_has_a_name_of_its_own,
    an_unknown_group_is_told_with_the_nearest,
}
