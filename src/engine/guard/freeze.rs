//! Windows and one-off freezes: nothing is changed while one is in force, and a person hears at once of what it keeps from running.

use super::{Page, Verdict};
use crate::config::FreezeConfig;
use crate::model::duration::Duration;
use crate::model::freeze::Freeze;
use crate::model::incident::Reason;
use crate::model::rule::Rule;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Every freeze there is, besides the rule's own windows.
#[derive(Clone, Copy, Debug)]
pub struct Freezes<'a> {
    /// The configuration's, by name.
    pub configured: &'a BTreeMap<String, FreezeConfig>,
    pub one_off: &'a [Freeze],
}

/// Of the freezes that are in force for a rule the one that ends last: when, and what it is, in words.
pub fn in_force(rule: Option<&Rule>, freezes: Freezes, now: Timestamp) -> Option<(Timestamp, String)> {
    let own = rule.into_iter().flat_map(|rule| {
        rule.freeze.iter().filter_map(move |window| Some((window.end(now)?, format!("rule {}: {window}", rule.name))))
    });
    let configured =
        freezes.configured.iter().filter(|(_, freeze)| freeze.covers(rule)).filter_map(|(name, freeze)| {
            let end = freeze.end(now)?;
            Some((end, format!("{name} of the configuration: {}", freeze.reason)))
        });
    let one_off =
        freezes.one_off.iter().filter(|freeze| now < freeze.until && freeze.scope.covers(rule)).map(|freeze| {
            let Freeze { id, scope, by, reason, until, .. } = freeze;
            (*until, format!("{id} by {by}, for {scope}: {reason}"))
        });
    own.chain(configured).chain(one_off).max_by_key(|(end, _)| *end)
}

pub(super) fn freeze(rule: Option<&Rule>, freezes: Freezes, now: Timestamp) -> Verdict {
    match in_force(rule, freezes, now) {
        None => Verdict::Allow,
        Some((end, what)) => {
            let left = Duration::between(now, end);
            let text = format!("frozen ({what}); {left} to go, until {end:.0}");
            Verdict::Hold { until: Some(end), page: Page::Now, reason: Reason::new("freeze", text) }
        }
    }
}
