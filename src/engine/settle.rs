//! A step in doubt: its intent is recorded, its outcome is not known. What the target looks like now tells (DESIGN §6).

use super::intent::fields_hold;
use crate::model::cluster::{Service, ServiceChange, ServiceIntent, UpdateState};
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
        ServiceChange::Restart { from, to } => match service.force_update {
            now if now == *from => Settled::NotApplied,
            // Another restart has come after it, or ours without its label: replaced they are.
            now if now >= *to => Settled::Applied,
            now => neither("ForceUpdate", from, to, &now),
        },
        ServiceChange::Rollback { from, to } => {
            let under_way = matches!(
                service.update,
                UpdateState::RollbackStarted | UpdateState::RollbackCompleted | UpdateState::RollbackPaused
            );
            if service.template_hash == *to || (under_way && service.version > intent.version) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::service;

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

        let rollback = intent(ServiceChange::Rollback { from: "bad".into(), to: "good".into() });
        for (hash, expect) in [("bad", Settled::NotApplied), ("good", Settled::Applied)] {
            let mut found = at(2, None);
            found.template_hash = hash.into();
            assert_eq!(settle(&rollback, "r1:0", &found), expect, "{hash}");
        }
    }
}
