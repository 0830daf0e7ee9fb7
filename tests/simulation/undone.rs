//! The judge of undo: it may only take what its run set back to what was there before that run, and nothing that another hand has changed since.

use runbookd::model::cluster::{NodeChange, ServiceChange, SpecFields};
use runbookd::model::node_group::GroupChange;
use runbookd::model::step::{Intent, Step};

/// Does this change put back what one of these steps did, from exactly what that step left?
pub fn puts_back(intent: &Intent, steps: &[Step]) -> bool {
    let of_steps =
        || steps.iter().filter(|step| step.had_effect()).filter_map(|step| Some((step, step.intent.as_ref()?)));
    of_steps().any(|(step, did)| match (intent, did) {
        (Intent::Services(now), Intent::Services(then)) => now.iter().all(|now| {
            then.iter().any(|then| now.service == then.service && now.id == then.id && back(&now.change, &then.change))
        }),
        (Intent::Node(now), Intent::Node(then)) => now.id == then.id && node_back(&now.change, &then.change),
        // What a run added is drained and goes.
        (Intent::Node(now), Intent::Group(_)) => {
            matches!(&now.change, NodeChange::Availability { to, .. } if to == "drain")
                && added(step, &format!("i-{}", now.node))
        }
        (Intent::Group(now), Intent::Group(then)) => match (&now.change, &then.change) {
            (GroupChange::Terminate { instance, .. }, GroupChange::Resize { .. }) => {
                now.group == then.group && added(step, instance)
            }
            _ => false,
        },
        _ => false,
    })
}

fn back(now: &ServiceChange, then: &ServiceChange) -> bool {
    match (now, then) {
        (ServiceChange::Scale { from, to }, ServiceChange::Scale { from: was, to: set }) => (from, to) == (set, was),
        (ServiceChange::Rollback { from, to }, ServiceChange::Rollback { from: was, to: set }) => {
            (from, to) == (set, was)
        }
        (ServiceChange::Update { from, to }, ServiceChange::Update { from: was, to: set }) => {
            fields_back((from, to), (was, set))
        }
        _ => false,
    }
}

fn fields_back((from, to): (&SpecFields, &SpecFields), (was, set): (&SpecFields, &SpecFields)) -> bool {
    let image = to.image.is_none() || (to.image == was.image && from.image == set.image);
    let labels = to.labels.iter().all(|(name, value)| {
        let known = |fields: &SpecFields| fields.labels.get(name).cloned().flatten();
        set.labels.contains_key(name) && *value == known(was) && known(from) == known(set)
    });
    image && labels && to.env.is_empty() && to.force_update.is_none()
}

fn node_back(now: &NodeChange, then: &NodeChange) -> bool {
    match (now, then) {
        (NodeChange::Availability { from, to }, NodeChange::Availability { from: was, to: set })
        | (NodeChange::Role { from, to }, NodeChange::Role { from: was, to: set }) => (from, to) == (set, was),
        _ => false,
    }
}

/// Is it a machine that was not there before this step?
fn added(step: &Step, instance: &str) -> bool {
    let before = step.before.as_ref().and_then(|before| before["instances"].as_array());
    before.is_some_and(|before| !before.iter().any(|id| id.as_str() == Some(instance)))
}
