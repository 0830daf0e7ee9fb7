//! The simulator's world file: read, built, looked at, and changed by another hand.

use futures_util::FutureExt;
use jiff::Timestamp;
use runbookd::adapters::cluster::sim::{SimCluster, World};
use runbookd::clock::Clock;
use runbookd::model::cluster::ServiceChange;
use runbookd::ports::{Cluster, NodeGroups};

pub fn run(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    let world = match World::parse(text) {
        Ok(world) => world,
        Err(error) => {
            assert!(!error.is_empty());
            return;
        }
    };
    let services: Vec<String> = world.services.keys().cloned().collect();
    let cluster = SimCluster::new(world, Clock::Driven(|| Timestamp::UNIX_EPOCH));
    look(&cluster, &services);
    for service in &services {
        // Refused for some, such as a global one.
        let _ = cluster.another_hand(service, &ServiceChange::Scale { from: 0, to: 3 });
        let _ = cluster.another_hand(service, &ServiceChange::Restart { from: 0, to: 1 });
    }
    for node in cluster.nodes().now_or_never().expect("it waits for nothing").expect("nodes") {
        let _ = cluster.lose_machine(&node.name);
    }
    look(&cluster, &services);
}

fn look(cluster: &SimCluster, services: &[String]) {
    let all = cluster.services().now_or_never().expect("it waits for nothing").expect("services");
    assert_eq!(all.len(), services.len());
    for service in services {
        let _ = cluster.tasks(service).now_or_never().expect("it waits for nothing").expect("tasks");
    }
    for group in cluster.names() {
        let _ = cluster.group(&group).now_or_never().expect("it waits for nothing").expect("a group");
    }
}
