//! Changes of nodes: on the simulator, and on a real Swarm of several nodes, as the lab has. There they need the feature `lab`, for they change the
//! nodes that are named in `RUNBOOKD_TEST_NODE`, a worker that is up, and `RUNBOOKD_TEST_NODE_DOWN`, one that is down and is removed;
//! `scripts/lib/lab/check` does.

use super::*;
use runbookd::model::cluster::{Node, NodeChange, NodeIntent};
use runbookd::model::join::JoinRole;

/// A cluster with one manager, and the nodes that a case may change.
pub struct Nodes {
    cluster: Box<dyn Cluster>,
    /// A worker that is up.
    worker: String,
    /// One that is down.
    down: String,
}

impl Nodes {
    fn simulated() -> Nodes {
        let world = "nodes: { node1: { role: manager }, node2: {}, node3: {}, node4: { state: down } }";
        let world = World::parse(world).expect("a valid world");
        let cluster = Box::new(SimCluster::new(world, Clock::simulated()));
        Nodes { cluster, worker: "node2".into(), down: "node4".into() }
    }

    async fn all(&self) -> Vec<Node> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            match self.cluster.nodes().await {
                Ok(nodes) => return nodes,
                // Two managers of which one goes may be without a leader for a while.
                Err(error) => assert!(tokio::time::Instant::now() < deadline, "they can be listed: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn seen(&self, name: &str) -> Node {
        self.all().await.into_iter().find(|node| node.name == name).unwrap_or_else(|| panic!("{name} is a node"))
    }

    async fn manager(&self) -> Node {
        self.all().await.into_iter().find(|node| node.role == "manager").expect("there is a manager")
    }

    /// Applies a change at the version that is there now. Swarm itself raises it at signs of life: another hand, as far as we can tell. A change that no
    /// answer came to may have been made: made once more it changes nothing more.
    async fn apply(&self, name: &str, change: &NodeChange) -> (NodeIntent, Result<(), PortError>) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let Node { id, name, version, .. } = self.seen(name).await;
            let intent = NodeIntent { node: name, id, version, change: change.clone() };
            match self.cluster.apply_node(&intent).await {
                Err(error) if error.reason == ErrorReason::Conflict => {}
                Err(error) if error.kind == ErrorKind::Unknown && tokio::time::Instant::now() < deadline => {}
                other => return (intent, other),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Makes a change twice; how the node is then. The very same intent is of a version that is gone; at the present one it changes nothing more.
    async fn twice(&self, name: &str, change: NodeChange) -> Node {
        let (intent, applied) = self.apply(name, &change).await;
        applied.expect("accepted");
        assert_eq!(kind(self.cluster.apply_node(&intent).await), (ErrorKind::Transient, ErrorReason::Conflict));
        let once = self.seen(name).await;
        self.apply(name, &change).await.1.expect("accepted");
        let twice = self.seen(name).await;
        let fields = |node: &Node| (node.availability.clone(), node.role.clone(), node.state.clone());
        assert_eq!(fields(&once), fields(&twice));
        twice
    }

    /// Waits until so many managers are there for a machine to join by.
    async fn managers_become(&self, count: usize) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let managers = self.cluster.join_token(JoinRole::Worker).await.expect("there is one").managers;
            if managers.len() == count {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{managers:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn availability(from: &str, to: &str) -> NodeChange {
    NodeChange::Availability { from: from.into(), to: to.into() }
}

fn role(from: &str, to: &str) -> NodeChange {
    NodeChange::Role { from: from.into(), to: to.into() }
}

async fn a_node_is_drained_and_put_back_to_work(bench: Nodes) {
    let before = bench.seen(&bench.worker).await;
    let drained = bench.twice(&bench.worker, availability("active", "drain")).await;
    assert!(drained.version > before.version);
    assert_eq!(drained, Node { availability: "drain".into(), version: drained.version, ..before.clone() });
    let active = bench.twice(&bench.worker, availability("drain", "active")).await;
    assert_eq!(active, Node { version: active.version, ..before });
}

async fn a_worker_is_made_a_manager_and_a_worker_again(bench: Nodes) {
    let promoted = bench.twice(&bench.worker, role("worker", "manager")).await;
    assert_eq!((promoted.role.as_str(), promoted.availability.as_str()), ("manager", "active"));
    bench.managers_become(2).await;
    let demoted = bench.twice(&bench.worker, role("manager", "worker")).await;
    assert_eq!((demoted.role.as_str(), demoted.availability.as_str()), ("worker", "active"));
    bench.managers_become(1).await;
}

async fn a_node_that_is_down_is_removed_and_no_other(bench: Nodes) {
    let mut expected = bench.all().await;
    let (intent, removed) = bench.apply(&bench.down, &NodeChange::Remove).await;
    removed.expect("accepted");
    bench.cluster.apply_node(&intent).await.expect("gone is gone");
    let names = |nodes: &[Node]| nodes.iter().map(|node| node.id.clone()).collect::<BTreeSet<_>>();
    expected.retain(|node| node.id != intent.id);
    assert_eq!(names(&bench.all().await), names(&expected));
    for change in [availability("active", "drain"), role("worker", "manager")] {
        let error = bench.cluster.apply_node(&NodeIntent { change, ..intent.clone() }).await;
        assert_eq!(kind(error), (ErrorKind::Permanent, ErrorReason::NotFound));
    }
}

async fn the_only_manager_stays_what_it_is(bench: Nodes) {
    let before = bench.manager().await;
    for change in [role("manager", "worker"), NodeChange::Remove] {
        let (intent, refused) = bench.apply(&before.name, &change).await;
        let message = refused.as_ref().map_err(|error| error.message.clone()).expect_err("it is refused");
        assert_eq!(kind(refused), (ErrorKind::Permanent, ErrorReason::Invalid), "{intent}: {message}");
    }
    let after = bench.manager().await;
    assert_eq!((after.id, after.role, after.state), (before.id, before.role, before.state));
}

#[cfg(feature = "lab")]
mod lab {
    use super::super::swarm::{cluster, docker};
    use tokio::sync::{Mutex, MutexGuard};

    /// The nodes are the same for all cases.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

    pub async fn nodes() -> (MutexGuard<'static, ()>, super::Nodes) {
        let cluster = cluster(&docker::Docker::of_the_tests());
        let (worker, down) = (docker::wanted("RUNBOOKD_TEST_NODE"), docker::wanted("RUNBOOKD_TEST_NODE_DOWN"));
        (ONE_AT_A_TIME.lock().await, super::Nodes { cluster, worker, down })
    }
}

/// Each case on each cluster.
macro_rules! suite {
    ($($case:ident,)*) => {
        mod on_the_simulator {
            $(#[tokio::test(start_paused = true)]
            async fn $case() {
                super::$case(super::Nodes::simulated()).await;
            })*
        }

        #[cfg(feature = "lab")]
        mod on_a_real_swarm_of_several_nodes {
            $(#[tokio::test]
            async fn $case() {
                let (_alone, nodes) = super::lab::nodes().await;
                super::$case(nodes).await;
            })*
        }
    };
}

suite! {
    a_node_is_drained_and_put_back_to_work,
    a_worker_is_made_a_manager_and_a_worker_again,
    a_node_that_is_down_is_removed_and_no_other,
    the_only_manager_stays_what_it_is,
}
