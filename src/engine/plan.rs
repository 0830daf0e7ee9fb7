//! What a run would do, as its rehearsal found it; and whether what it is about to do is that.

use crate::model::mode::{Plan, Planned};
use crate::model::step::{Outcome, Step};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// How many effects these steps have had. What was so already changed nothing.
pub fn effects(steps: &[Step]) -> usize {
    done(steps).count()
}

fn done(steps: &[Step]) -> impl Iterator<Item = Planned> {
    steps.iter().filter(|step| step.outcome != Outcome::Unchanged).filter_map(Planned::of)
}

/// The plan of a rehearsal: its effects beyond the first `after`, which were made.
pub fn of(steps: &[Step], after: usize) -> Plan {
    let effects: Vec<Planned> = done(steps).skip(after).collect();
    let text = serde_json::to_string(&effects).expect("effects are plain data");
    let mut hash = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        write!(hash, "{byte:02x}").expect("a String takes everything");
    }
    Plan { hash, after, effects }
}

/// Is the next effect, after `steps`, the one that was planned?
pub fn covers(plan: &Plan, steps: &[Step], next: &Planned) -> bool {
    let at = effects(steps).checked_sub(plan.after);
    at.and_then(|at| plan.effects.get(at)) == Some(next)
}

/// A line for each effect, for people.
pub fn lines(plan: &Plan) -> Vec<String> {
    plan.effects.iter().map(|one| one.intent.to_string()).collect()
}
