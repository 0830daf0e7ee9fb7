//! Level, not edge: what one told alert does to the latest known state of its fingerprint (DESIGN §7, §9).

use crate::model::alert::{Alert, GroupRef, Level, Status};
use crate::model::duration::Duration;
use jiff::Timestamp;

/// A firing whose start is that of an alert resolved less than this ago may be an old post that came late.
pub const REORDER_WINDOW: Duration = Duration::from_secs(60);

/// What an observation changed. The level itself is updated in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It did not fire (as far as was known) and does now.
    Fired,
    /// It fired and no longer does.
    Resolved,
    /// As was known already; `last_seen` moved.
    Repeat,
    /// Older than what is known: ignored.
    Stale,
    /// It may fire again, or this is an old post: decided at `refire_at`.
    Doubtful,
    /// A resolved alert that was never known to fire: nothing to do, nothing to keep.
    Unknown,
}

impl Change {
    pub fn name(self) -> &'static str {
        match self {
            Change::Fired => "fired",
            Change::Resolved => "resolved",
            Change::Repeat => "repeat",
            Change::Stale => "stale",
            Change::Doubtful => "doubtful",
            Change::Unknown => "unknown",
        }
    }
}

/// The level of an alert told for the first time.
pub fn first(alert: &Alert, group: &GroupRef, now: Timestamp) -> (Change, Option<Level>) {
    if alert.status == Status::Resolved {
        return (Change::Unknown, None);
    }
    let level = Level {
        alert: alert.clone(),
        group: group.clone(),
        last_seen: now,
        resolved_at: None,
        unconfirmed: false,
        suppressed: false,
        refire_at: None,
        closed_at: None,
    };
    (Change::Fired, Some(level))
}

/// What `alert`, told at `now`, does to what was known. `acted_at`: when a run last had an effect on account of it.
///
/// | known | told | then |
/// |---|---|---|
/// | firing | firing | repeat |
/// | firing, its incident was closed by a person | firing, started after that | fired: its end was not told |
/// | firing | resolved, ended before the known start | stale |
/// | firing | resolved | resolved |
/// | resolved | resolved | repeat; a doubtful refire is off, unless it began after that end: then stale |
/// | resolved | firing, started before the known start | stale |
/// | resolved | firing, same start, within the reorder window | doubtful |
/// | resolved | firing, started before something was last done about it, within the reorder window | doubtful |
/// | resolved | firing | fired |
pub fn observe(
    level: &mut Level,
    alert: &Alert,
    group: &GroupRef,
    acted_at: Option<Timestamp>,
    now: Timestamp,
) -> Change {
    match (level.alert.status, alert.status) {
        (Status::Firing, Status::Firing) => {
            take(level, alert, group, now);
            let anew = level.closed_at.take_if(|closed| alert.starts_at > *closed).is_some();
            if anew { Change::Fired } else { Change::Repeat }
        }
        (Status::Firing, Status::Resolved) => {
            if alert.ends_at.is_some_and(|end| end < level.alert.starts_at) {
                return Change::Stale;
            }
            resolve(level, alert.ends_at.unwrap_or(now), now);
            Change::Resolved
        }
        (Status::Resolved, Status::Resolved) => {
            if level.refire_at.is_some() && alert.ends_at.is_some_and(|end| end < level.alert.starts_at) {
                return Change::Stale;
            }
            level.last_seen = now;
            level.refire_at = None;
            Change::Repeat
        }
        (Status::Resolved, Status::Firing) => {
            let known = level.alert.starts_at;
            let resolved_at = level.resolved_at.unwrap_or(Timestamp::MIN);
            if alert.starts_at < known {
                Change::Stale
            } else if (alert.starts_at == known || acted_at.is_some_and(|acted| alert.starts_at <= acted))
                && now.duration_since(resolved_at) < REORDER_WINDOW.signed()
            {
                level.refire_at = Some(resolved_at + REORDER_WINDOW.signed());
                level.alert.starts_at = alert.starts_at;
                level.last_seen = now;
                Change::Doubtful
            } else {
                take(level, alert, group, now);
                level.alert.status = Status::Firing;
                level.refire_at = None;
                Change::Fired
            }
        }
    }
}

/// The doubt is over: it does fire. Returns false when there was no doubt.
pub fn settle_doubt(level: &mut Level, now: Timestamp) -> bool {
    if level.refire_at.is_none_or(|at| at > now) {
        return false;
    }
    level.refire_at = None;
    level.alert.status = Status::Firing;
    level.alert.ends_at = None;
    true
}

/// Marks it resolved, as told by a post or found through Alertmanager's API.
pub fn resolve(level: &mut Level, ends_at: Timestamp, now: Timestamp) {
    level.alert.status = Status::Resolved;
    level.alert.ends_at = Some(ends_at);
    level.resolved_at = Some(now);
    level.closed_at = None;
    level.last_seen = now;
    level.refire_at = None;
    level.unconfirmed = false;
}

fn take(level: &mut Level, alert: &Alert, group: &GroupRef, now: Timestamp) {
    // Labels are the identity: they cannot differ. Everything else may.
    if level.alert.annotations != alert.annotations {
        level.alert.annotations = alert.annotations.clone();
    }
    if level.alert.generator_url != alert.generator_url {
        level.alert.generator_url = alert.generator_url.clone();
    }
    if level.group != *group {
        level.group = group.clone();
    }
    // A post that comes late tells of an older start: with it, a late *resolved* of that episode would count for this one.
    level.alert.starts_at = level.alert.starts_at.max(alert.starts_at);
    level.alert.ends_at = alert.ends_at;
    level.last_seen = now;
    level.unconfirmed = false;
    // Alertmanager posts no silenced alerts.
    level.suppressed = false;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::alert::Fingerprint;
    use crate::model::label::Labels;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).expect("a valid instant")
    }

    fn told(status: Status, starts: i64, ends: Option<i64>) -> Alert {
        let labels: Labels = [("alertname", "A")].into_iter().collect();
        Alert {
            fingerprint: Fingerprint::of(&labels),
            status,
            labels,
            annotations: Labels::default(),
            starts_at: at(starts),
            ends_at: ends.map(at),
            generator_url: "".into(),
        }
    }

    /// Tells (status, startsAt, endsAt) at given seconds; the changes in order.
    fn check(told_at: &[(i64, Status, i64, Option<i64>)], expect: &[Change]) {
        check_acted(None, told_at, expect);
    }

    /// The same, when something was done about it at that second.
    fn check_acted(acted: Option<i64>, told_at: &[(i64, Status, i64, Option<i64>)], expect: &[Change]) {
        let group = GroupRef::default();
        let mut level: Option<Level> = None;
        let mut changes = Vec::new();
        for (now, status, starts, ends) in told_at {
            let alert = told(*status, *starts, *ends);
            match &mut level {
                None => {
                    let (change, first) = first(&alert, &group, at(*now));
                    changes.push(change);
                    level = first;
                }
                Some(level) => changes.push(observe(level, &alert, &group, acted.map(at), at(*now))),
            }
        }
        assert_eq!(changes, expect, "{told_at:?}");
    }

    #[test]
    fn what_counts_is_the_latest_level_not_how_often_it_was_told() {
        use Change::*;
        use Status::{Firing as F, Resolved as R};
        check(&[(0, F, 0, None), (1, F, 0, None)], &[Fired, Repeat]);
        check(&[(0, R, 0, Some(0))], &[Unknown]);
        check(&[(0, F, 0, None), (9, R, 0, Some(8)), (10, R, 0, Some(8))], &[Fired, Resolved, Repeat]);
        // A late copy of the old firing: doubtful, and the resolved that follows ends the doubt.
        check(
            &[(0, F, 0, None), (9, R, 0, Some(8)), (12, F, 0, None), (13, R, 0, Some(8))],
            &[Fired, Resolved, Doubtful, Repeat],
        );
        // A real refire has a new start, or comes later.
        check(&[(0, F, 0, None), (9, R, 0, Some(8)), (12, F, 11, None)], &[Fired, Resolved, Fired]);
        check(&[(0, F, 0, None), (9, R, 0, Some(8)), (80, F, 0, None)], &[Fired, Resolved, Fired]);
        // A resolved of an earlier episode that comes after the refire.
        check(
            &[(0, F, 0, None), (9, R, 0, Some(8)), (12, F, 11, None), (13, R, 0, Some(8))],
            &[Fired, Resolved, Fired, Stale],
        );
        check(&[(0, F, 5, None), (9, R, 5, Some(8)), (80, F, 1, None)], &[Fired, Resolved, Stale]);
        // Both posts of an earlier episode come after the first of the next.
        check(
            &[(0, F, 20, None), (1, F, 0, None), (2, R, 0, Some(9)), (3, R, 20, Some(30))],
            &[Fired, Repeat, Stale, Resolved],
        );
    }

    #[test]
    fn what_began_before_something_was_done_about_it_is_doubtful() {
        use Change::*;
        use Status::{Firing as F, Resolved as R};
        let told = |starts| [(0, F, 0, None), (9, R, 0, Some(8)), (12, F, starts, None), (80, F, starts, None)];
        check_acted(Some(5), &told(4), &[Fired, Resolved, Doubtful, Fired]);
        check_acted(Some(5), &told(5), &[Fired, Resolved, Doubtful, Fired]);
        check_acted(Some(5), &told(6), &[Fired, Resolved, Fired, Repeat]);
        check_acted(None, &told(4), &[Fired, Resolved, Fired, Repeat]);
        // What resolved before it began says nothing of it.
        let then = |ended| [(0, F, 0, None), (30, R, 0, Some(8)), (32, F, 15, None), (33, R, 0, Some(ended))];
        check_acted(Some(20), &then(8), &[Fired, Resolved, Doubtful, Stale]);
        check_acted(Some(20), &then(16), &[Fired, Resolved, Doubtful, Repeat]);
    }

    #[test]
    fn what_began_after_a_person_closed_it_is_another_episode() {
        let group = GroupRef::default();
        let (_, level) = first(&told(Status::Firing, 0, None), &group, at(0));
        let mut level = level.expect("it fires");
        level.closed_at = Some(at(10));
        let changes = [0, 10, 11, 11, 12]
            .map(|starts| observe(&mut level, &told(Status::Firing, starts, None), &group, None, at(20)));
        assert_eq!(changes, [Change::Repeat, Change::Repeat, Change::Fired, Change::Repeat, Change::Repeat]);
    }

    #[test]
    fn a_doubtful_refire_counts_when_nothing_denied_it() {
        let group = GroupRef::default();
        let (_, level) = first(&told(Status::Firing, 0, None), &group, at(0));
        let mut level = level.expect("it fires");
        observe(&mut level, &told(Status::Resolved, 0, Some(8)), &group, None, at(9));
        observe(&mut level, &told(Status::Firing, 0, None), &group, None, at(12));
        assert!(!settle_doubt(&mut level, at(68)));
        assert!(settle_doubt(&mut level, at(69)));
        assert!(level.firing());
    }
}
