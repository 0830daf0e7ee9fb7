//! How much is changed, over all rules: budgets of a target and of the whole engine, and the fleet brake.

use super::{Page, Verdict};
use crate::config::BrakeConfig;
use crate::engine::ledger::Ledger;
use crate::model::incident::Reason;
use crate::model::rule::{Budget, Rule};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

/// What was changed, what may be, and what is to be changed next.
#[derive(Clone, Copy, Debug)]
pub struct Fleet<'a> {
    pub ledger: &'a Ledger,
    /// The configuration's budgets: of each target, and of everything.
    pub target: Option<Budget>,
    pub engine: Option<Budget>,
    pub brake: &'a BrakeConfig,
    /// What was before a person released the brake does not pull it again.
    pub released_at: Timestamp,
    /// What is to be changed, as locks name it.
    pub targets: &'a [String],
}

fn s(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Whether what is to be changed is within every budget.
pub(super) fn budgets(rule: &Rule, fleet: &Fleet, now: Timestamp) -> Verdict {
    let of_target = [
        (rule.target_budget, format!("of rule {}", rule.name)),
        (fleet.target, "of the configuration (budgets.target)".to_string()),
    ];
    for target in fleet.targets {
        for (budget, whose) in &of_target {
            let Some(budget) = budget else { continue };
            let made = fleet.ledger.effects_on(target, now - budget.per.signed());
            if made >= budget.count as usize {
                let text = format!(
                    "{made} effect{} on {target} in the last {}, the budget {whose} is {budget}",
                    s(made),
                    budget.per
                );
                return Verdict::Deny(Reason::new("budget", text));
            }
        }
    }
    if let Some(budget) = fleet.engine {
        let made = fleet.ledger.effects_after(now - budget.per.signed());
        if made >= budget.count as usize {
            let text = format!(
                "{made} effect{} of all rules in the last {}, the budget of the configuration (budgets.engine) is {budget}",
                s(made),
                budget.per
            );
            return Verdict::Deny(Reason::new("budget", text));
        }
    }
    Verdict::Allow
}

/// Once it is pulled, everything holds.
pub(super) fn braked(why: Option<&str>) -> Verdict {
    match why {
        None => Verdict::Allow,
        Some(why) => hold(format!("the fleet brake is on ({why}); it goes on with `runbookd release`")),
    }
}

fn hold(text: String) -> Verdict {
    Verdict::Hold { until: None, page: Page::Never, reason: Reason::new("brake", text) }
}

/// Is so much changed at once that something must be wrong with what says so? `all`: every target is to be changed; otherwise at least one of them.
pub(super) fn brake(fleet: &Fleet, all: bool, now: Timestamp) -> Verdict {
    // Nothing is admitted while it is on: what was admitted at the very moment of the release came after it.
    let released = fleet.released_at - SignedDuration::from_nanos(1);
    if let Some(limit) = fleet.brake.effects {
        let made = fleet.ledger.effects_after((now - limit.per.signed()).max(released));
        if made >= limit.count as usize {
            return hold(format!("{made} effect{} in the last {}; brake.effects is {limit}", s(made), limit.per));
        }
    }
    if let Some(limit) = fleet.brake.targets {
        let asked = fleet.targets.len();
        if all && asked > limit.count as usize {
            // It could never pass: each release would pull the brake anew.
            let text = format!("one step would change {asked} targets; brake.targets is {limit}");
            return Verdict::Deny(Reason::new("brake", text));
        }
        let since = (now - limit.per.signed()).max(released);
        let changed: BTreeSet<&str> = fleet.ledger.targets_after(since).map(|(target, _)| target).collect();
        let new = fleet.targets.iter().filter(|target| !changed.contains(target.as_str())).count();
        let new = if all { new } else { usize::from(new > 0 && new == fleet.targets.len()) };
        // What is changed again is no more than there was, and counts: a longer window must never allow more.
        if changed.len() + new > limit.count as usize {
            let (was, next) = (changed.len(), fleet.targets.join(", "));
            let (s, per) = (s(was), limit.per);
            return hold(format!(
                "{was} target{s} changed in the last {per}, and next {next}; brake.targets is {limit}"
            ));
        }
    }
    Verdict::Allow
}
