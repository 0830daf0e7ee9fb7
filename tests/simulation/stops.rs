//! The judge of what stops effects: freezes of people, of the configuration and of rules, and the fleet brake, from the moment on at which it is known
//! that they are durable.

use crate::plan::Plan;
use crate::rules::RuleSpec;
use crate::time::{millis, now};
use jiff::Timestamp;
use runbookd::model::freeze::{Freeze, FreezeId, Scope};
use runbookd::model::message::Message;
use std::collections::BTreeSet;

/// A stop keeps back what is new within this time.
const WITHIN: u64 = 1_000;
/// How the one message about the fleet brake begins.
const BRAKED: &str = "The fleet brake is on";

#[derive(Default)]
pub struct Stops {
    /// Of the configuration.
    windows: Vec<((u64, u64), Scope)>,
    frozen: Vec<(u64, Freeze)>,
    /// Somebody wanted these ended.
    unfrozen: BTreeSet<FreezeId>,
    /// When the wall clock was set last.
    clock_set: Option<u64>,
    braked_since: Option<u64>,
    /// By when they were written.
    pages: BTreeSet<Timestamp>,
    delivered: BTreeSet<Timestamp>,
    /// Of each wish to release the brake: when it was asked for, and when and what was answered.
    releases: Vec<Release>,
    /// Until then the brake was released, or may have been, as the wall clock said; and when the last release was asked for that was made.
    freed_until: Option<Timestamp>,
    released_at: Option<Timestamp>,
}

struct Release {
    asked: Timestamp,
    answered: Option<(u64, bool)>,
    /// The process has ended since: it will never be known.
    lost: Option<u64>,
}

impl Stops {
    pub fn new(plan: &Plan) -> Self {
        Stops { windows: plan.fleet.freezes.clone(), ..Stops::default() }
    }

    /// A person's freeze is durable. Before it is, it may be ended: the board knows it.
    pub fn frozen(&mut self, freeze: &Freeze) {
        if !self.unfrozen.contains(&freeze.id) {
            self.frozen.push((millis(), freeze.clone()));
        }
    }

    /// A person wants it ended.
    pub fn unfrozen(&mut self, id: FreezeId) {
        self.unfrozen.insert(id);
        self.frozen.retain(|(_, freeze)| freeze.id != id);
    }

    /// The wall clock is about to be set: what is over does not come back.
    pub fn clock_set(&mut self) {
        self.clock_set = Some(millis());
        self.frozen.retain(|(_, freeze)| freeze.until > now() + jiff::SignedDuration::from_secs(2));
    }

    /// What should keep an effect of this rule from leaving, if anything does. `None`: the rule is not there.
    pub fn stopped(&self, name: &str, rule: Option<&RuleSpec>) -> Option<String> {
        let covers = |scope: &Scope| match scope {
            Scope::All => true,
            Scope::Rule(pattern) => match pattern.strip_suffix('*') {
                Some(head) => rule.is_some() && name.starts_with(head),
                None => rule.is_some() && name == pattern,
            },
            Scope::Tag(tag) => rule.is_some_and(|rule| rule.tags.contains(&tag.as_str())),
        };
        let one_off = |(since, freeze): &&(u64, Freeze)| {
            millis() > since + WITHIN && now() < freeze.until && covers(&freeze.scope)
        };
        if let Some((_, freeze)) = self.frozen.iter().find(one_off) {
            return Some(format!("{} is in force, for {}", freeze.id, freeze.scope));
        }
        let lately = self.clock_set.is_some_and(|at| millis() <= at + WITHIN);
        let of_rule = rule.and_then(|rule| rule.freeze);
        let spans = self.windows.iter().filter(|(_, scope)| covers(scope)).map(|(span, _)| *span).chain(of_rule);
        let mut within = spans.filter(|(from, to)| (from * 60 + 1..to * 60).contains(&second_of_day()));
        if let Some(span) = within.next().filter(|_| !lately) {
            return Some(format!("it is within the freeze {}", crate::rules::window(span)));
        }
        let since = self.braked_since.filter(|since| millis() > since + WITHIN)?;
        Some(format!("the fleet brake has been on for {} ms", millis() - since))
    }

    /// A message to people is seen, on its way or delivered. Whether it is the one about the brake.
    pub fn seen(&mut self, message: &Message) -> bool {
        let page = message.title.starts_with(BRAKED);
        if page && self.pages.insert(message.at) && self.freed_until.is_none_or(|until| message.at > until) {
            self.braked_since = Some(millis());
        }
        page
    }

    /// People have got it, for the first time.
    pub fn told(&mut self, message: &Message) {
        if self.seen(message) {
            self.delivered.insert(message.at);
        }
    }

    /// Has anybody heard of the brake since it was released last?
    pub fn has_been_told(&self) -> bool {
        self.delivered.last().is_some_and(|at| self.released_at.is_none_or(|released| *at >= released))
    }

    /// A person wants the brake released; which wish it is.
    pub fn release_asked(&mut self) -> usize {
        self.releases.push(Release { asked: now(), answered: None, lost: None });
        self.freed();
        self.releases.len() - 1
    }

    pub fn release_answered(&mut self, which: usize, done: bool) {
        self.releases[which].answered = Some((millis(), done));
        if done {
            self.freed();
            // It may have been pulled again before the answer comes, and people told of that.
            self.released_at = Some(self.releases[which].asked);
        }
    }

    fn freed(&mut self) {
        self.braked_since = None;
        self.freed_until = Some(now());
    }

    /// What was before this moment does not pull the brake again: it was released, may have been, or may be about to be.
    pub fn released(&self) -> u64 {
        let last = |release: &Release| match (release.answered, release.lost) {
            (Some((_, false)), _) => 0,
            (Some((at, true)), _) | (None, Some(at)) => at,
            (None, None) => u64::MAX,
        };
        self.releases.iter().map(last).max().unwrap_or(0)
    }

    /// A process has ended: what it was asked and did not answer may have been done.
    pub fn life_ends(&mut self) {
        for release in &mut self.releases {
            release.lost.get_or_insert_with(millis);
        }
    }

    /// A process begins, and the journal says whether the brake is on.
    pub fn life_begins(&mut self, braked: bool) {
        self.braked_since = braked.then(millis);
    }

    pub fn pulled(&self) -> u64 {
        self.delivered.len() as u64
    }

    /// At the end: was there one message for each time that the brake was pulled?
    pub fn paged(&self, braked: bool) -> Option<String> {
        let done = self.releases.iter().filter(|release| release.answered.is_some_and(|(_, done)| done)).count();
        let unknown = self.releases.iter().filter(|release| release.answered.is_none()).count();
        let (least, pages) = (done + usize::from(braked), self.delivered.len());
        let text = || {
            format!("the fleet brake was pulled {least} times (or {unknown} more), and people were told {pages} times")
        };
        (pages < least || pages > least + unknown).then(text)
    }
}

fn second_of_day() -> u64 {
    u64::try_from(now().as_second().rem_euclid(86_400)).expect("not negative")
}
