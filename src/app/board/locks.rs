//! Who works on which target. A run locks its targets for its incident until verification ends (DESIGN §4).

use crate::model::incident::IncidentId;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

#[derive(Default)]
pub struct Locks {
    holders: HashMap<Arc<str>, IncidentId>,
    held: HashMap<IncidentId, Vec<Arc<str>>>,
    waiting: HashMap<String, VecDeque<IncidentId>>,
}

impl Locks {
    /// The first of `targets` that another incident holds.
    pub fn taken<'a>(&self, incident: IncidentId, targets: &'a [String]) -> Option<(&'a str, IncidentId)> {
        targets.iter().find_map(|target| {
            let holder = *self.holders.get(target.as_str())?;
            (holder != incident).then_some((target.as_str(), holder))
        })
    }

    /// Locks all of `targets`, which must not be taken.
    pub fn take(&mut self, incident: IncidentId, targets: &[String]) {
        for target in targets {
            let target: Arc<str> = target.as_str().into();
            let before = self.holders.insert(target.clone(), incident);
            debug_assert!(before.is_none_or(|holder| holder == incident), "{target} was locked by {before:?}");
            if before.is_none() {
                self.held.entry(incident).or_insert_with(|| Vec::with_capacity(1)).push(target);
            }
        }
    }

    /// `incident` is to be asked again when `target` is free.
    pub fn wait(&mut self, incident: IncidentId, target: &str) {
        let queue = self.waiting.entry(target.to_string()).or_default();
        if !queue.contains(&incident) {
            queue.push_back(incident);
        }
    }

    /// Frees everything that `incident` holds; returns who waited for any of it, first come first.
    pub fn release(&mut self, incident: IncidentId) -> Vec<IncidentId> {
        let mut woken = Vec::new();
        for target in self.held.remove(&incident).unwrap_or_default() {
            self.holders.remove(&target);
            woken.extend(self.waiting.remove(&*target).unwrap_or_default());
        }
        woken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_one_holder_and_frees_its_waiters_in_order() {
        let (one, two, three) = (IncidentId(1), IncidentId(2), IncidentId(3));
        let targets = ["service web".to_string(), "service api".to_string()];
        let mut locks = Locks::default();
        assert_eq!(locks.taken(one, &targets), None);
        locks.take(one, &targets);
        assert_eq!(locks.taken(one, &targets), None);
        assert_eq!(locks.taken(two, &targets[1..]), Some(("service api", one)));
        locks.wait(two, "service api");
        locks.wait(three, "service api");
        locks.wait(two, "service api");
        assert_eq!(locks.release(one), [two, three]);
        assert_eq!(locks.release(one), []);
        assert_eq!(locks.taken(two, &targets), None);
    }
}
