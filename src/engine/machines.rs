//! From a call to the intent of one node or of a group of machines, decided on what was just observed; and what of it was never to be done.

use crate::model::cluster::{Node, NodeChange, NodeIntent};
use crate::model::incident::Reason;
use crate::model::node_group::{GroupChange, GroupIntent, NodeGroup};
use crate::model::step::{Outcome, Step, StepError};

/// The node of this name. Names of nodes need not be unique: two of one name, of which one is gone, are what a machine leaves that joined again.
pub fn find<'a>(nodes: &'a [Node], name: &str) -> Result<&'a Node, StepError> {
    let mut found: Vec<&Node> = nodes.iter().filter(|node| node.name == name || node.id == name).collect();
    if found.len() > 1 {
        found.retain(|node| node.state == "ready");
    }
    match found[..] {
        [node] => Ok(node),
        [] => Err(StepError::new("not_found", format!("there is no node {name:?} in the Swarm"))),
        _ => Err(StepError::new("invalid", format!("several nodes are called {name:?}: name one by its id"))),
    }
}

/// The node to take out of the list: of several of one name, the one that is gone.
pub fn find_removable<'a>(nodes: &'a [Node], name: &str) -> Result<&'a Node, StepError> {
    let gone = nodes.iter().find(|node| node.name == name && node.state != "ready");
    gone.map_or_else(|| find(nodes, name), Ok)
}

/// The intent of one call on one observed node.
pub fn of_node(primitive: &str, node: &Node) -> Result<NodeIntent, StepError> {
    let availability = |to: &str| NodeChange::Availability { from: node.availability.clone(), to: to.to_string() };
    let role = |to: &str| NodeChange::Role { from: node.role.clone(), to: to.to_string() };
    let change = match primitive {
        "drain" => availability("drain"),
        "activate" => availability("active"),
        "promote" => role("manager"),
        "demote" => role("worker"),
        "remove_node" => removal(node)?,
        other => return Err(StepError::new("invalid", format!("{other} is no change of a node"))),
    };
    Ok(NodeIntent { node: node.name.clone(), id: node.id.clone(), version: node.version, change })
}

/// Takes a node out of the list, if nothing runs on it and nothing can.
pub fn removal(node: &Node) -> Result<NodeChange, StepError> {
    let Node { name, role, state, availability, running, .. } = node;
    if role == "manager" {
        let text = format!("node {name} is a manager: demote it before it is removed");
        return Err(StepError::new("refused", text));
    }
    still_at_work(node).map_or(Ok(NodeChange::Remove), |why| {
        let text = format!("node {name} is {state}, {availability} and runs {running} tasks: {why}");
        Err(StepError::new("refused", text))
    })
}

/// Why a node is not to go yet.
fn still_at_work(node: &Node) -> Option<&'static str> {
    match (node.state.as_str(), node.availability.as_str(), node.running) {
        ("ready", "drain", 0) => None,
        ("ready", "drain", _) => Some("wait until its tasks have moved"),
        ("ready", _, _) => Some("drain it first, and wait until its tasks have moved"),
        _ => None,
    }
}

/// Is what is asked for already so? Then nothing is sent.
pub fn node_already_so(change: &NodeChange, node: &Node) -> bool {
    match change {
        NodeChange::Availability { to, .. } => node.availability == *to,
        NodeChange::Role { to, .. } => node.role == *to,
        NodeChange::Remove => false,
    }
}

/// Has another hand changed what this is about since the run last looked at the nodes?
pub fn node_changed_since(steps: &[Step], change: &NodeChange, node: &Node) -> Option<StepError> {
    let field = match change {
        NodeChange::Availability { .. } => "availability",
        NodeChange::Role { .. } => "role",
        NodeChange::Remove => return None,
    };
    let now = if field == "role" { &node.role } else { &node.availability };
    for step in steps.iter().rev() {
        // What the run did itself since is no other hand.
        if let Some(crate::model::step::Intent::Node(done)) = &step.intent
            && done.id == node.id
        {
            return None;
        }
        if step.primitive == "nodes" && step.outcome == Outcome::Observed {
            let seen = step.value.as_ref()?.as_array()?.iter().find(|seen| seen["id"] == node.id.as_str())?;
            let was = seen[field].as_str()?;
            return (was != now).then(|| {
                let text = format!("the {field} of node {} was {was} when the run looked, now it is {now}", node.name);
                StepError::new("changed", text)
            });
        }
    }
    None
}

/// Never the last one: a Swarm without an active node runs nothing, one without a manager is none.
pub fn leaves_something(intent: &NodeIntent, nodes: &[Node]) -> Result<(), Reason> {
    let others =
        |fits: fn(&Node) -> bool| nodes.iter().any(|node| node.id != intent.id && node.state == "ready" && fits(node));
    let (left, what) = match &intent.change {
        NodeChange::Availability { to, .. } if to != "active" => {
            (others(|node| node.availability == "active"), "active node")
        }
        NodeChange::Role { to, .. } if to == "worker" => (others(|node| node.role == "manager"), "manager"),
        _ => return Ok(()),
    };
    let text = || format!("{} is the last {what} that is ready: without it nothing would run", intent.node);
    if left { Ok(()) } else { Err(Reason::new("bounds", text())) }
}

/// `n` more machines, as the number to have.
pub fn grown(group: &NodeGroup, n: u64) -> Result<GroupIntent, StepError> {
    if n == 0 {
        return Err(StepError::new("empty", format!("add_node was asked for 0 machines of {}", group.name)));
    }
    let change = GroupChange::Resize { from: group.desired, to: group.desired.saturating_add(n) };
    Ok(GroupIntent { group: group.name.clone(), change })
}

/// The machine of a node goes.
pub fn shrunk(group: &NodeGroup, node: &Node) -> Result<GroupIntent, StepError> {
    let of_node = |instance: &&crate::model::node_group::Instance| {
        instance.node.as_deref() == Some(&*node.name)
            || node.instance.as_ref() == Some(&instance.id)
            || instance.id == node.name
    };
    let Some(instance) = group.instances.iter().find(of_node) else {
        let text = format!(
            "no machine of the group {} is node {}; a machine says which it is by its engine's label runbookd.instance",
            group.name, node.name
        );
        return Err(StepError::new("not_found", text));
    };
    if let Some(why) = still_at_work(node) {
        let text = format!("node {} is {} and runs {} tasks: {why}", node.name, node.availability, node.running);
        return Err(StepError::new("refused", text));
    }
    let change = GroupChange::Terminate { node: node.name.clone(), instance: instance.id.clone(), from: group.desired };
    Ok(GroupIntent { group: group.name.clone(), change })
}

/// The bounds of the group: the provider's and the configuration's, the narrower of each.
pub fn within_group(intent: &GroupIntent, group: &NodeGroup) -> Result<(), Reason> {
    let NodeGroup { name, min, max, .. } = group;
    match intent.change {
        GroupChange::Resize { from, to } if to > *max && to > from => Err(Reason::new(
            "bounds",
            format!("{name}: {to} machines are more than {max}, the most that the group allows"),
        )),
        GroupChange::Terminate { from, .. } if from <= *min => Err(Reason::new(
            "bounds",
            format!("{name}: it has {from} machines, and {min} are the least that the group allows"),
        )),
        _ => Ok(()),
    }
}

/// Says of each machine which node it is, as far as the nodes themselves say.
pub fn name_nodes(group: &mut NodeGroup, nodes: &[Node]) {
    for instance in &mut group.instances {
        let is = |node: &&Node| node.instance.as_ref() == Some(&instance.id) || node.name == instance.id;
        if instance.node.is_none() {
            instance.node = nodes.iter().find(is).map(|node| node.name.clone());
        }
    }
}

/// How many machines of a group are nodes that are ready.
pub fn ready(group: &NodeGroup, nodes: &[Node]) -> u64 {
    let is_ready = |id: &str, name: Option<&str>| {
        nodes.iter().any(|node| {
            node.state == "ready"
                && (node.instance.as_deref() == Some(id) || node.name == id || Some(node.name.as_str()) == name)
        })
    };
    let ready = group.instances.iter().filter(|instance| is_ready(&instance.id, instance.node.as_deref()));
    ready.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::node_group::{Instance, InstanceState};

    fn node(name: &str, state: &str, availability: &str, role: &str, running: u64) -> Node {
        Node {
            id: format!("id-{name}"),
            name: name.into(),
            role: role.into(),
            availability: availability.into(),
            state: state.into(),
            version: 7,
            running,
            ..Node::default()
        }
    }

    fn worker(name: &str) -> Node {
        node(name, "ready", "active", "worker", 2)
    }

    #[test]
    fn a_node_that_works_is_not_removed() {
        let check = |node: Node, expect: Result<(), &str>| {
            let said = of_node("remove_node", &node).map(drop).map_err(|error| error.message);
            match expect {
                Ok(()) => assert_eq!(said, Ok(()), "{node:?}"),
                Err(says) => assert!(said.as_ref().is_err_and(|message| message.contains(says)), "{node:?}: {said:?}"),
            }
        };
        check(worker("a"), Err("drain it first"));
        check(node("a", "ready", "drain", "worker", 1), Err("wait until its tasks have moved"));
        check(node("a", "ready", "drain", "worker", 0), Ok(()));
        check(node("a", "down", "active", "worker", 3), Ok(()));
        check(node("a", "down", "active", "manager", 0), Err("demote it"));
    }

    #[test]
    fn the_last_active_node_and_the_last_manager_stay() {
        let all = [node("m", "ready", "active", "manager", 0), worker("a"), node("b", "down", "active", "manager", 0)];
        let check = |primitive: &str, which: usize, nodes: &[Node], allowed: bool| {
            let intent = of_node(primitive, &nodes[which]).expect("an intent");
            assert_eq!(leaves_something(&intent, nodes).is_ok(), allowed, "{intent}");
        };
        check("drain", 1, &all, true);
        check("drain", 0, &all[..1], false);
        check("demote", 0, &all, false);
        check("activate", 0, &all[..1], true);
        check("promote", 1, &all, true);
    }

    #[test]
    fn of_two_nodes_of_one_name_the_living_one_is_meant_and_the_dead_one_removed() {
        let all = [node("a", "down", "active", "worker", 0), Node { id: "new".into(), ..worker("a") }];
        assert_eq!(find(&all, "a").map(|node| node.id.as_str()), Ok("new"));
        assert_eq!(find_removable(&all, "a").map(|node| node.id.as_str()), Ok("id-a"));
        assert_eq!(find(&all, "b").expect_err("none").kind, "not_found");
    }

    #[test]
    fn a_group_grows_to_a_number_and_shrinks_by_a_machine_within_its_bounds() {
        let instance = |id: &str| Instance { id: id.into(), node: None, state: InstanceState::InService };
        let group = NodeGroup {
            name: "workers".into(),
            desired: 2,
            min: 1,
            max: 3,
            instances: vec![instance("i-1"), instance("i-2")],
        };
        let grow = |n| grown(&group, n).expect("an intent");
        assert_eq!(grow(1).to_string(), "workers: 2 → 3 machines");
        assert!(within_group(&grow(1), &group).is_ok() && within_group(&grow(2), &group).is_err());
        assert_eq!(grown(&group, 0).expect_err("nothing").kind, "empty");
        let empty = Node { instance: Some("i-2".into()), ..node("a", "ready", "drain", "worker", 0) };
        let shrink = shrunk(&group, &empty).expect("an intent");
        assert_eq!(shrink.to_string(), "workers: terminate i-2 (node a), 2 → 1 machines");
        assert!(within_group(&shrink, &group).is_ok());
        let least = NodeGroup { desired: 1, ..group.clone() };
        assert!(within_group(&shrunk(&least, &empty).expect("an intent"), &least).is_err());
        assert_eq!(
            shrunk(&group, &Node { availability: "active".into(), ..empty.clone() }).expect_err("busy").kind,
            "refused"
        );
        assert_eq!(shrunk(&group, &worker("b")).expect_err("a stranger").kind, "not_found");
        assert_eq!(ready(&group, &[empty, worker("i-1"), worker("c")]), 2);
    }
}
