//! When a rule with `on: schedule` is due: cron's five fields and a time zone, `0 6 * * 1-5 Europe/Berlin`.

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt;
use std::str::FromStr;

/// Fields of a cron pattern: minute, hour, day of month, month, day of week.
const FIELDS: usize = 5;

#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
    /// As written.
    text: String,
}

impl Schedule {
    /// Reads five fields, or a word such as `@hourly`, and a time zone by its IANA name; without one it is UTC.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let fields = if words.first().is_some_and(|word| word.starts_with('@')) { 1 } else { FIELDS };
        let (pattern, zone) = match words.len() {
            count if count == fields => (words.join(" "), "UTC"),
            count if count == fields + 1 => (words[..fields].join(" "), words[fields]),
            count => {
                return Err(format!(
                    "{text:?} has {count} words; expected five fields and perhaps a time zone, as in 0 6 * * 1-5 Europe/Berlin"
                ));
            }
        };
        let cron = Cron::from_str(&pattern).map_err(|error| format!("{pattern:?} is no cron pattern: {error}"))?;
        let zone = TimeZone::get(zone)
            .map_err(|_| format!("{zone:?} is no time zone; expected an IANA name such as Europe/Berlin, or UTC"))?;
        let schedule = Schedule { cron, zone, text: words.join(" ") };
        // The 31st of February is a pattern, too.
        schedule
            .after(Timestamp::UNIX_EPOCH)
            .map(|_| schedule.clone())
            .ok_or_else(|| format!("{pattern:?} never comes"))
    }

    /// The first time after `at`. `None`: there is none.
    pub fn after(&self, at: Timestamp) -> Option<Timestamp> {
        let next = self.cron.find_next_occurrence(&at.to_zoned(self.zone.clone()), false).ok()?;
        Some(next.timestamp())
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, after: &str, expect: &str) {
        let schedule = Schedule::parse(text).expect(text);
        let next = schedule.after(after.parse().expect("a time")).map(|at| at.to_string());
        assert_eq!(next.as_deref(), Some(expect), "{text} after {after}");
    }

    #[test]
    fn a_schedule_follows_the_clock_of_its_time_zone() {
        check("*/5 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:05:00Z");
        check("*/5 * * * *", "2026-01-01T00:04:59Z", "2026-01-01T00:05:00Z");
        check("0 6 * * 1-5 Europe/Berlin", "2026-01-02T05:00:00Z", "2026-01-05T05:00:00Z");
        // Summer time: six in the morning is four in UTC.
        check("0 6 * * * Europe/Berlin", "2026-07-01T00:00:00Z", "2026-07-01T04:00:00Z");
        check("@hourly", "2026-01-01T00:30:00Z", "2026-01-01T01:00:00Z");
    }

    #[test]
    fn an_hour_that_the_clock_leaves_out_or_tells_twice_comes_once() {
        // On 29 March 2026 two o'clock is followed by three in Berlin.
        let schedule = Schedule::parse("30 2 * * * Europe/Berlin").expect("valid");
        let start: Timestamp = "2026-03-28T12:00:00Z".parse().expect("a time");
        let spring: Vec<Timestamp> =
            std::iter::successors(Some(start), |at| schedule.after(*at)).skip(1).take(2).collect();
        assert!(spring[1].duration_since(spring[0]) >= jiff::SignedDuration::from_hours(20), "{spring:?}");
        let start: Timestamp = "2026-10-24T12:00:00Z".parse().expect("a time");
        let autumn: Vec<Timestamp> =
            std::iter::successors(Some(start), |at| schedule.after(*at)).skip(1).take(2).collect();
        assert!(autumn[1].duration_since(autumn[0]) >= jiff::SignedDuration::from_hours(20), "{autumn:?}");
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_reason() {
        for (text, says) in [
            ("* * * *", "has 4 words"),
            ("61 * * * *", "is no cron pattern"),
            ("0 6 * * * Europe/Berln", "is no time zone"),
            ("0 0 31 2 *", "never comes"),
            ("", "has 0 words"),
        ] {
            let error = Schedule::parse(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
