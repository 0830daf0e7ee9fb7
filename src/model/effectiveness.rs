//! Did it help? What became of the attempts of a rule, and its breaker: after too many in a row that did not help the rule hands over to people instead.

use super::duration::Duration;
use super::run::RunId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Attempts that a record remembers one by one: as many as the largest breaker can count.
pub const REMEMBERED: usize = 50;

/// What became of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// The alert resolved after it, or what was expected became true.
    Helped,
    /// It failed, or its time to verify ran out.
    DidNotHelp,
    /// It seemed to help, and the alert fired again within the flap window.
    Flapped,
}

impl Judgement {
    pub const ALL: [Judgement; 3] = [Judgement::Helped, Judgement::DidNotHelp, Judgement::Flapped];

    pub fn name(self) -> &'static str {
        match self {
            Judgement::Helped => "helped",
            Judgement::DidNotHelp => "did_not_help",
            Judgement::Flapped => "flapped",
        }
    }
}

/// How many attempts came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub helped: u64,
    pub did_not_help: u64,
    pub flapped: u64,
    /// From the start of each attempt that helped to the resolve, added up; those that flapped are left out.
    pub resolved_after: Duration,
}

impl Tally {
    /// From the start of an attempt that helped to the resolve, on average.
    pub fn time_to_resolve(&self) -> Option<Duration> {
        (self.helped > 0).then(|| Duration { millis: self.resolved_after.millis / self.helped })
    }

    pub fn add(&mut self, other: &Tally) {
        self.helped += other.helped;
        self.did_not_help += other.did_not_help;
        self.flapped += other.flapped;
        self.resolved_after.millis += other.resolved_after.millis;
    }
}

/// What a rule's attempts came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Effectiveness {
    /// By runbook: a rule may have had several.
    pub runbooks: BTreeMap<String, Tally>,
    /// The newest last. Closing the breaker forgets them: the count begins anew.
    pub recent: VecDeque<Attempt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// Who closed it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Closed>,
}

/// One attempt that was judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub run: RunId,
    pub judgement: Judgement,
    /// From its start to the resolve, if it helped.
    pub took: Duration,
}

/// An open breaker: the rule starts no run until a person closes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Breaker {
    pub opened_at: Timestamp,
    /// So many attempts in a row had not helped.
    pub after: u32,
}

/// A person closed a breaker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    pub by: String,
    pub reason: String,
    pub at: Timestamp,
}

impl Effectiveness {
    /// An attempt is judged, `took` after its start.
    pub fn judge(&mut self, run: RunId, runbook: &str, judgement: Judgement, took: Duration) {
        let tally = self.runbooks.entry(runbook.to_string()).or_default();
        match judgement {
            Judgement::Helped => {
                tally.helped += 1;
                tally.resolved_after.millis += took.millis;
            }
            Judgement::DidNotHelp => tally.did_not_help += 1,
            Judgement::Flapped => tally.flapped += 1,
        }
        self.recent.push_back(Attempt { run, judgement, took });
        while self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
    }

    /// Does this attempt count as one that helped?
    pub fn seems_to_have_helped(&self, run: RunId) -> bool {
        self.recent.iter().any(|one| one.run == run && one.judgement == Judgement::Helped)
    }

    /// The alert fires again after this attempt: if it counted as one that helped, it no longer does.
    pub fn flapped(&mut self, run: RunId, runbook: &str) {
        let helped = |one: &&mut Attempt| one.run == run && one.judgement == Judgement::Helped;
        let Some(attempt) = self.recent.iter_mut().find(helped) else { return };
        attempt.judgement = Judgement::Flapped;
        let tally = self.runbooks.entry(runbook.to_string()).or_default();
        tally.helped = tally.helped.saturating_sub(1);
        tally.resolved_after.millis = tally.resolved_after.millis.saturating_sub(attempt.took.millis);
        tally.flapped += 1;
    }

    /// How many attempts in a row, up to now, did not help.
    pub fn in_vain(&self) -> u32 {
        let vain = self.recent.iter().rev().take_while(|one| one.judgement != Judgement::Helped).count();
        u32::try_from(vain).unwrap_or(u32::MAX)
    }

    /// Opens the breaker if that is due. Returns whether it opened just now; `limit` 0 never opens it.
    pub fn trips(&mut self, limit: u32, now: Timestamp) -> bool {
        let after = self.in_vain();
        let due = limit > 0 && after >= limit && self.breaker.is_none();
        if due {
            self.breaker = Some(Breaker { opened_at: now, after });
        }
        due
    }

    /// A person closes the breaker. Returns whether it was open.
    pub fn close(&mut self, closed: Closed) -> bool {
        let open = self.breaker.take().is_some();
        if open {
            self.recent.clear();
            self.closed = Some(closed);
        }
        open
    }

    /// Over all runbooks.
    pub fn total(&self) -> Tally {
        self.runbooks.values().fold(Tally::default(), |mut total, tally| {
            total.add(tally);
            total
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attempts as letters: `h` helped, `d` did not, `f3` the third (from 1) flapped, `c` the breaker is closed. Then the figures.
    fn check(course: &str, limit: u32, expect: &str) {
        let (mut kept, mut runs) = (Effectiveness::default(), 0);
        let mut tripped = 0;
        for word in course.split_whitespace() {
            match word.split_at(1) {
                ("c", _) => {
                    let at = Timestamp::UNIX_EPOCH;
                    assert!(kept.close(Closed { by: "ann".into(), reason: "mended".into(), at }));
                }
                ("f", run) => kept.flapped(RunId(run.parse().expect("a number")), "x"),
                (letter, _) => {
                    runs += 1;
                    let judgement = if letter == "h" { Judgement::Helped } else { Judgement::DidNotHelp };
                    kept.judge(RunId(runs), "x", judgement, Duration::from_secs(10 * runs));
                }
            }
            tripped += u32::from(kept.trips(limit, Timestamp::UNIX_EPOCH));
        }
        let Tally { helped, did_not_help, flapped, .. } = kept.total();
        let mean = kept.total().time_to_resolve().map_or("-".to_string(), |time| time.to_string());
        let open = if kept.breaker.is_some() { "open" } else { "closed" };
        let vain = kept.in_vain();
        let found = format!("{helped} {did_not_help} {flapped} {mean}, {vain} in vain, {open}, tripped {tripped}");
        assert_eq!(found, expect, "{course}");
        let written = serde_json::to_string(&kept).expect("plain data");
        assert_eq!(serde_json::from_str::<Effectiveness>(&written).expect("it can be read back"), kept);
    }

    #[test]
    fn a_breaker_opens_once_after_so_many_in_a_row_and_only_a_person_closes_it() {
        check("", 3, "0 0 0 -, 0 in vain, closed, tripped 0");
        check("h h d d h d d", 3, "3 4 0 26s666ms, 2 in vain, closed, tripped 0");
        check("h d d d", 3, "1 3 0 10s, 3 in vain, open, tripped 1");
        check("d d d d d", 3, "0 5 0 -, 5 in vain, open, tripped 1");
        // What was under way when it opened may still help: it stays open.
        check("d d d h", 3, "1 3 0 40s, 0 in vain, open, tripped 1");
        check("d d d c d d", 3, "0 5 0 -, 2 in vain, closed, tripped 1");
        check("d d d c d d d", 3, "0 6 0 -, 3 in vain, open, tripped 2");
        check("d d d", 0, "0 3 0 -, 3 in vain, closed, tripped 0");
        // To flap is not to help.
        check("h h f2", 3, "1 0 1 10s, 1 in vain, closed, tripped 0");
        check("d h f2 d", 3, "0 2 1 -, 3 in vain, open, tripped 1");
        check("h f1 f1", 3, "0 0 1 -, 1 in vain, closed, tripped 0");
        check("h h f1", 3, "1 0 1 20s, 0 in vain, closed, tripped 0");
    }
}
