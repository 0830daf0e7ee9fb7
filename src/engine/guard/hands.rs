//! Between hands: a deployment in flight, what another hand has just changed, and a step that is the opposite of another rule's.

use super::{Page, Verdict};
use crate::config::ArbitrationConfig;
use crate::engine::ledger::Ledger;
use crate::model::duration::Duration;
use crate::model::effect::{Effect, Way};
use crate::model::incident::Reason;
use jiff::Timestamp;

/// What another hand did to a service, as the cluster's changes tell it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Hand {
    pub service: String,
    pub at: Timestamp,
    /// `image`, `replicas` …
    pub changed: String,
}

/// What is known of updates of the services that a run is to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updating<'a> {
    None,
    /// This one is in the middle of one.
    Service(&'a str),
    /// The cluster could not be asked about this one since the start.
    Unknown(&'a str),
}

/// The service is in the middle of an update: what a run would find is neither what was nor what is to be.
pub(super) fn updating(updating: Updating) -> Verdict {
    let text = match updating {
        Updating::None => return Verdict::Allow,
        Updating::Service(name) => format!("{name} is in the middle of an update that somebody began"),
        Updating::Unknown(name) => {
            format!("the cluster has not answered yet, so it is not known whether {name} is in the middle of an update")
        }
    };
    Verdict::Hold { until: None, page: Page::Later, reason: Reason::new("updating", text) }
}

/// A person who has just changed a service knows more than the alert does.
pub(super) fn hand(hand: Option<&Hand>, arbitration: &ArbitrationConfig, now: Timestamp) -> Verdict {
    let (Some(hand), Some(window)) = (hand, arbitration.hands) else { return Verdict::Allow };
    let until = hand.at + window.signed();
    if until <= now {
        return Verdict::Allow;
    }
    let (ago, left) = (Duration::between(hand.at, now), Duration::between(now, until));
    let text = format!(
        "another hand changed {} {ago} ago ({}); arbitration.hands leaves it {window}, {left} to go",
        hand.service, hand.changed
    );
    Verdict::Hold { until: Some(until), page: Page::Later, reason: Reason::new("another_hand", text) }
}

/// What one rule has just raised no other lowers, and the other way round: two rules that disagree would go on for ever.
pub(super) fn opposite(effect: &Effect, ledger: &Ledger, arbitration: &ArbitrationConfig, now: Timestamp) -> Verdict {
    let (Some(way), Some(window)) = (effect.way, arbitration.opposite) else { return Verdict::Allow };
    let since = now - window.signed();
    let against = effect.targets.iter().find_map(|target| {
        let mut marks = ledger.of(target).take_while(|mark| mark.at > since);
        let mark = marks.find(|mark| *mark.rule != *effect.rule && mark.way == Some(way.opposite()))?;
        Some((target, mark))
    });
    let Some((target, mark)) = against else { return Verdict::Allow };
    let did = match way.opposite() {
        Way::Up => "raised",
        Way::Down => "lowered",
    };
    let text = format!(
        "rule {} {did} {target} {} ago ({}), and rule {} is about to do the opposite; arbitration.opposite is {window}",
        mark.rule,
        Duration::between(mark.at, now),
        mark.run,
        effect.rule
    );
    Verdict::Hold { until: Some(mark.at + window.signed()), page: Page::Later, reason: Reason::new("opposite", text) }
}
