//! A step in doubt: its intent is recorded, its outcome is not known. What the target looks like now tells (DESIGN §6).

use super::intent::fields_hold;
use super::machines;
use crate::model::cluster::{Node, NodeChange, NodeIntent, Service, ServiceChange, ServiceIntent, UpdateState};
use crate::model::node_group::{GroupChange, GroupIntent, InstanceState, NodeGroup};
use crate::model::step::StepError;
use crate::ports::STEP_LABEL;

#[derive(Clone, Debug, PartialEq)]
pub enum Settled {
    /// It took effect: record it, do not repeat it.
    Applied,
    /// It did not: apply it, under the same sequence number.
    NotApplied,
    /// The field is neither what it was nor what it was to become.
    Changed(StepError),
}

/// `step` is the label `<run>:<seq>` that the change would have written.
pub fn settle(intent: &ServiceIntent, step: &str, service: &Service) -> Settled {
    // Our own mark is there, so the change went in, whatever another hand did to the field afterwards.
    if service.labels.get(STEP_LABEL) == Some(step) {
        return Settled::Applied;
    }
    let name = &intent.service;
    let neither =
        |what: &str, from: &dyn std::fmt::Display, to: &dyn std::fmt::Display, now: &dyn std::fmt::Display| {
            Settled::Changed(StepError::new(
                "changed",
                format!("another hand changed {name} meanwhile: {what} was to go from {from} to {to}, now it is {now}"),
            ))
        };
    match &intent.change {
        ServiceChange::Scale { from, to } => match service.replicas {
            now if now == *to => Settled::Applied,
            now if now == *from => Settled::NotApplied,
            now => neither("the number of replicas", from, to, &now),
        },
        // Swarm has taken the update back by itself, and our mark with it: whoever waits for the service hears why. Sent again, what fails would only
        // fail again.
        ServiceChange::Restart { .. } | ServiceChange::Update { .. } if was_taken_back(intent, service) => {
            Settled::Applied
        }
        ServiceChange::Restart { from, to } => match service.force_update {
            now if now == *from => Settled::NotApplied,
            // Another restart has come after it, or ours without its label: replaced they are.
            now if now >= *to => Settled::Applied,
            now => neither("ForceUpdate", from, to, &now),
        },
        ServiceChange::Rollback { from, to } => {
            if service.template_hash == *to || was_taken_back(intent, service) {
                Settled::Applied
            } else if service.template_hash == *from {
                Settled::NotApplied
            } else {
                neither("the task template", from, to, &service.template_hash)
            }
        }
        ServiceChange::Update { from, to } => {
            if fields_hold(to, service) {
                Settled::Applied
            } else if fields_hold(from, service) {
                Settled::NotApplied
            } else {
                neither("its spec", &"what it was", &"what was asked", &"something else")
            }
        }
    }
}

/// Has a rollback begun since the intent? Whatever changes in the spec, the number of replicas or a label alone too, Swarm forgets the state of the update
/// before, so one from before would be gone with the version. (That state moves the version as well: no intent is decided on while a rollback is under way.)
fn was_taken_back(intent: &ServiceIntent, service: &Service) -> bool {
    use UpdateState::{RollbackCompleted, RollbackPaused, RollbackStarted};
    service.version > intent.version && matches!(service.update, RollbackStarted | RollbackCompleted | RollbackPaused)
}

/// As [`settle`], for a change of a node: what it looks like is all there is to go by. `None`: it is gone.
pub fn settle_node(intent: &NodeIntent, node: Option<&Node>) -> Settled {
    let (from, to, now) = match (&intent.change, node) {
        (NodeChange::Remove, None) => return Settled::Applied,
        // It may have come back meanwhile, and be at work.
        (NodeChange::Remove, Some(node)) => {
            return machines::removal(node).map_or_else(Settled::Changed, |_| Settled::NotApplied);
        }
        (_, None) => {
            let text = format!("node {} has left the Swarm meanwhile", intent.node);
            return Settled::Changed(StepError::new("not_found", text));
        }
        (NodeChange::Availability { from, to }, Some(node)) => (from, to, &node.availability),
        (NodeChange::Role { from, to }, Some(node)) => (from, to, &node.role),
    };
    if now == to {
        Settled::Applied
    } else if now == from {
        Settled::NotApplied
    } else {
        let text = format!(
            "another hand changed node {} meanwhile: it was to go from {from} to {to}, now it is {now}",
            intent.node
        );
        Settled::Changed(StepError::new("changed", text))
    }
}

/// As [`settle`], for a change of a group of machines. A group carries no mark of ours: what it looks like is all there is to go by.
pub fn settle_group(intent: &GroupIntent, group: &NodeGroup) -> Settled {
    match &intent.change {
        GroupChange::Resize { from, to } => match group.desired {
            now if now == *to => Settled::Applied,
            now if now == *from => Settled::NotApplied,
            now => Settled::Changed(StepError::new(
                "changed",
                format!(
                    "another hand changed {} meanwhile: the desired number of machines was to go from {from} to {to}, now it is {now}",
                    intent.group
                ),
            )),
        },
        // Terminating one machine is absolute by its id: it is there, or it is not.
        GroupChange::Terminate { instance, .. } => match group.instance(instance).map(|found| found.state) {
            None | Some(InstanceState::Terminating) => Settled::Applied,
            Some(InstanceState::Pending | InstanceState::InService) => Settled::NotApplied,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::service;
    use crate::model::cluster::SpecFields;
    use crate::model::node_group::Instance;

    #[test]
    fn a_step_in_doubt_is_settled_by_what_the_target_looks_like() {
        let intent = |change| ServiceIntent { service: "web".into(), id: "web".into(), version: 7, change };
        let scale = || intent(ServiceChange::Scale { from: 2, to: 3 });
        let at = |replicas, step: Option<&str>| {
            let mut found = service("web", replicas);
            found.labels = step.map(|step| (STEP_LABEL, step)).into_iter().collect();
            found
        };
        assert_eq!(settle(&scale(), "r1:0", &at(3, None)), Settled::Applied);
        assert_eq!(settle(&scale(), "r1:0", &at(2, None)), Settled::NotApplied);
        assert_eq!(settle(&scale(), "r1:0", &at(2, Some("r0:9"))), Settled::NotApplied);
        assert_eq!(settle(&scale(), "r1:0", &at(5, Some("r1:0"))), Settled::Applied);
        assert!(matches!(settle(&scale(), "r1:0", &at(5, None)), Settled::Changed(_)));

        let restart = intent(ServiceChange::Restart { from: 4, to: 5 });
        for (counter, expect) in [(4, Settled::NotApplied), (5, Settled::Applied), (6, Settled::Applied)] {
            let mut found = at(2, None);
            found.force_update = counter;
            assert_eq!(settle(&restart, "r1:0", &found), expect, "{counter}");
        }

        let update = intent(ServiceChange::Update {
            from: SpecFields { image: Some("web:1".into()), ..SpecFields::default() },
            to: SpecFields { image: Some("web:bad".into()), ..SpecFields::default() },
        });
        for (version, state, expect) in [
            (7, UpdateState::None, Settled::NotApplied),
            (7, UpdateState::RollbackCompleted, Settled::NotApplied),
            (8, UpdateState::None, Settled::NotApplied),
            (9, UpdateState::RollbackStarted, Settled::Applied),
            (9, UpdateState::RollbackCompleted, Settled::Applied),
        ] {
            for change in [&update, &restart] {
                let found = Service { version, update: state, force_update: 4, image: "web:1".into(), ..at(2, None) };
                assert_eq!(settle(change, "r1:0", &found), expect, "{change} at {version}, {state:?}");
            }
        }

        let rollback = intent(ServiceChange::Rollback { from: "bad".into(), to: "good".into() });
        for (hash, expect) in [("bad", Settled::NotApplied), ("good", Settled::Applied)] {
            let mut found = at(2, None);
            found.template_hash = hash.into();
            assert_eq!(settle(&rollback, "r1:0", &found), expect, "{hash}");
        }
    }

    #[test]
    fn a_change_of_a_group_in_doubt_is_settled_by_what_the_group_looks_like() {
        use InstanceState::{InService, Pending, Terminating};
        let check = |change: GroupChange, desired: u64, state: Option<InstanceState>, expect: Option<Settled>| {
            let intent = GroupIntent { group: "workers".into(), change };
            let instances = state
                .map(|state| Instance { id: "i-2".into(), node: Some("node4".into()), state })
                .into_iter()
                .collect();
            let group = NodeGroup { name: "workers".into(), desired, min: 1, max: 5, instances };
            match (settle_group(&intent, &group), expect) {
                (Settled::Changed(error), None) => assert!(error.message.contains("workers"), "{error:?}"),
                (settled, expect) => assert_eq!(Some(settled), expect, "{intent}, at {desired} with {state:?}"),
            }
        };
        let resize = || GroupChange::Resize { from: 1, to: 3 };
        check(resize(), 3, None, Some(Settled::Applied));
        check(resize(), 1, None, Some(Settled::NotApplied));
        check(resize(), 2, None, None);
        let terminate = || GroupChange::Terminate { node: "node4".into(), instance: "i-2".into(), from: 3 };
        check(terminate(), 2, None, Some(Settled::Applied));
        check(terminate(), 3, Some(Terminating), Some(Settled::Applied));
        // The provider may have put another machine in its place: what was asked for is that this one goes.
        check(terminate(), 3, None, Some(Settled::Applied));
        check(terminate(), 3, Some(InService), Some(Settled::NotApplied));
        check(terminate(), 2, Some(Pending), Some(Settled::NotApplied));
    }

    #[test]
    fn a_change_of_a_node_in_doubt_is_settled_by_what_the_node_looks_like() {
        let node = |state: &str, availability: &str, running| Node {
            id: "n".into(),
            name: "node3".into(),
            role: "worker".into(),
            state: state.into(),
            availability: availability.into(),
            running,
            ..Node::default()
        };
        let check = |change: NodeChange, found: Option<Node>, expect: Option<Settled>| {
            let intent = NodeIntent { node: "node3".into(), id: "n".into(), version: 7, change };
            match (settle_node(&intent, found.as_ref()), expect) {
                (Settled::Changed(error), None) => assert!(error.message.contains("node3"), "{error:?}"),
                (settled, expect) => assert_eq!(Some(settled), expect, "{intent}, found {found:?}"),
            }
        };
        let drain = || NodeChange::Availability { from: "active".into(), to: "drain".into() };
        check(drain(), Some(node("ready", "drain", 2)), Some(Settled::Applied));
        check(drain(), Some(node("ready", "active", 2)), Some(Settled::NotApplied));
        check(drain(), Some(node("ready", "pause", 2)), None);
        check(drain(), None, None);
        check(NodeChange::Remove, None, Some(Settled::Applied));
        check(NodeChange::Remove, Some(node("down", "active", 0)), Some(Settled::NotApplied));
        check(NodeChange::Remove, Some(node("ready", "drain", 0)), Some(Settled::NotApplied));
        // It came back while nobody knew whether it was gone.
        check(NodeChange::Remove, Some(node("ready", "active", 3)), None);
    }
}
