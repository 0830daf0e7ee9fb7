//! The clock of rules with `on: schedule`: journals an event when the time of one has come. A tick that was missed while nobody was there is made up for
//! once, if it is not older than `runs.resume_within`.

use super::{Parts, watcher};
use crate::model::event::{Event, On, Seen};
use crate::model::rule::Rule;
use crate::model::schedule::Schedule;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A changed catalog is noticed this late at most: no schedule is finer than a minute.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
const TICKED: &str = "schedule ";

/// `seen`: when each schedule ticked last, as the journal has it.
pub async fn run(parts: Arc<Parts>, seen: BTreeMap<String, Value>) {
    let mut ticked: HashMap<String, Timestamp> = seen
        .iter()
        .filter_map(|(what, at)| Some((what.strip_prefix(TICKED)?.to_string(), at.as_str()?.parse().ok()?)))
        .collect();
    loop {
        let now = parts.clock.now();
        let mut next = now + LOOK_AGAIN;
        let rules: Vec<Arc<Rule>> =
            parts.catalog.load().rules.iter().filter(|rule| rule.schedule.is_some()).cloned().collect();
        for rule in rules {
            let Some(schedule) = &rule.schedule else { continue };
            let last = *ticked.entry(rule.name.clone()).or_insert(now);
            let since = last.max(now - parts.config.runs.resume_within.signed());
            if let Some(at) = due(schedule, since, now) {
                if !watcher::journal(&parts, &[tick(&rule, at)]).await {
                    continue;
                }
                ticked.insert(rule.name.clone(), at);
            }
            next = schedule.after(now).map_or(next, |at| next.min(at));
        }
        parts.clock.sleep_until(next).await;
    }
}

/// The last time after `since` that has come.
fn due(schedule: &Schedule, since: Timestamp, now: Timestamp) -> Option<Timestamp> {
    std::iter::successors(schedule.after(since), |at| schedule.after(*at)).take_while(|at| *at <= now).last()
}

fn tick(rule: &Rule, at: Timestamp) -> Event {
    let labels = [("event", "tick"), ("rule", &rule.name)].into_iter().collect();
    let seen = Seen { what: format!("{TICKED}{}", rule.name), state: Some(at.to_string().into()) };
    Event { seen: Some(seen), ..Event::new(On::Schedule, labels, at) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_missed_ticks_the_last_is_made_up_for() {
        let schedule = Schedule::parse("*/5 * * * *").expect("valid");
        let at = |text: &str| format!("2026-01-01T{text}Z").parse::<Timestamp>().expect("a time");
        for (since, now, expect) in [
            ("00:00:00", "00:04:59", None),
            ("00:00:00", "00:05:00", Some("00:05:00")),
            ("00:05:00", "00:05:00", None),
            ("00:00:00", "00:17:00", Some("00:15:00")),
        ] {
            assert_eq!(due(&schedule, at(since), at(now)), expect.map(at), "{since} {now}");
        }
    }
}
