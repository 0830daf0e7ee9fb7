//! When nothing is to be changed: windows that come again, as a rule or the configuration writes them, and one-off freezes that a person made.

use super::incident::lettered_id;
use super::rule::Rule;
use super::template::Template;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Numbers count up in one journal; people see and type `f7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FreezeId(pub u64);
lettered_id!(FreezeId, "f");

/// A freeze that a person made, for once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Freeze {
    pub id: FreezeId,
    pub scope: Scope,
    pub by: String,
    pub reason: String,
    pub at: Timestamp,
    /// From here on it is over.
    pub until: Timestamp,
}

/// Which rules a freeze is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    All,
    /// By name; `*` stands for any characters.
    Rule(String),
    Tag(String),
}

impl Scope {
    /// `None`: the rule is not there any more. What is for everything is for its runs, too.
    pub fn covers(&self, rule: Option<&Rule>) -> bool {
        match (self, rule) {
            (Scope::All, _) => true,
            (Scope::Rule(name), Some(rule)) => names(name, &rule.name),
            (Scope::Tag(tag), Some(rule)) => rule.tags.contains(tag),
            (_, None) => false,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::All => f.write_str("everything"),
            Scope::Rule(name) if name.contains('*') => write!(f, "the rules {name}"),
            Scope::Rule(name) => write!(f, "the rule {name}"),
            Scope::Tag(tag) => write!(f, "the rules tagged {tag}"),
        }
    }
}

/// Does a rule's name fit one in which `*` stands for any characters?
pub fn names(pattern: &str, name: &str) -> bool {
    Template::parse(pattern).is_ok_and(|pattern| pattern.names(name, &Default::default()))
}

/// A time that comes again: `Fri 16:00 - Mon 08:00 Europe/Berlin`, `22:00 - 06:00 Europe/Berlin`; or one between two dates,
/// `2026-12-23 00:00 - 2027-01-02 08:00 Europe/Berlin`. Without a zone it is UTC. From the first instant on, up to and without the last.
#[derive(Clone, Debug)]
pub struct Window {
    span: Span,
    zone: TimeZone,
    /// As written.
    text: String,
}

#[derive(Clone, Debug)]
enum Span {
    Daily(Time, Time),
    Weekly((Weekday, Time), (Weekday, Time)),
    Once(DateTime, DateTime),
}

/// One end of a window, as written.
enum Edge {
    Time(Time),
    Week(Weekday, Time),
    Date(DateTime),
}

const EXAMPLE: &str = "Fri 16:00 - Mon 08:00 Europe/Berlin";
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

impl Window {
    /// The error says what is wrong with it, and shows how one is written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let shape =
            || format!("{text:?} is no window of time; write for example {EXAMPLE}, or 22:00 - 06:00 Europe/Berlin");
        let dash = words.iter().position(|word| *word == "-").ok_or_else(shape)?;
        let (from, rest) = (&words[..dash], &words[dash + 1..]);
        // A zone is the one word after the time that ends it.
        let (to, zone) = match rest.split_last() {
            Some((last, before)) if !before.is_empty() && time(last).is_none() => (before, *last),
            _ => (rest, "UTC"),
        };
        let zone = TimeZone::get(zone)
            .map_err(|_| format!("{zone:?} is no time zone; expected an IANA name such as Europe/Berlin, or UTC"))?;
        let (from, to) = edge(from).zip(edge(to)).ok_or_else(shape)?;
        let span = match (from, to) {
            (Edge::Time(from), Edge::Time(to)) if from != to => Span::Daily(from, to),
            (Edge::Week(day, at), Edge::Week(last, end)) if (day, at) != (last, end) => {
                Span::Weekly((day, at), (last, end))
            }
            (Edge::Date(from), Edge::Date(to)) if from < to => Span::Once(from, to),
            (Edge::Date(_), Edge::Date(_)) => return Err(format!("{text:?} ends before it begins")),
            (Edge::Time(_), Edge::Time(_)) | (Edge::Week(..), Edge::Week(..)) => {
                return Err(format!("{text:?} begins and ends at the same time: it would never be over"));
            }
            _ => return Err(format!("both ends of {text:?} must be of one kind: times, days of the week, or dates")),
        };
        Ok(Window { span, zone, text: words.join(" ") })
    }

    /// When it is over for good; `None`: it comes again, or is not over at `now`.
    pub fn past(&self, now: Timestamp) -> Option<Timestamp> {
        let Span::Once(_, to) = self.span else { return None };
        self.zone.to_ambiguous_timestamp(to).later().ok().filter(|end| *end <= now)
    }

    /// When the window that `now` stands in ends; `None`: it stands in none. An hour that the clock tells twice, or leaves out, never makes it shorter.
    pub fn end(&self, now: Timestamp) -> Option<Timestamp> {
        let today = now.to_zoned(self.zone.clone()).date();
        let around = |from: DateTime, to: DateTime| {
            let from = self.zone.to_ambiguous_timestamp(from).earlier().ok()?;
            let to = self.zone.to_ambiguous_timestamp(to).later().ok()?;
            (from <= now && now < to).then_some(to)
        };
        match self.span {
            Span::Once(from, to) => around(from, to),
            Span::Daily(from, to) => [-1, 0].into_iter().find_map(|day| {
                let date = days_after(today, day)?;
                around(date.to_datetime(from), days_after(date, i64::from(to <= from))?.to_datetime(to))
            }),
            Span::Weekly((first, from), (last, to)) => (-7..=0).find_map(|day| {
                let date = days_after(today, day).filter(|date| date.weekday() == first)?;
                let days = i64::from(first.until(last));
                let days = if days == 0 && to <= from { 7 } else { days };
                around(date.to_datetime(from), days_after(date, days)?.to_datetime(to))
            }),
        }
    }
}

fn days_after(date: Date, days: i64) -> Option<Date> {
    date.checked_add(jiff::Span::new().days(days)).ok()
}

fn edge(words: &[&str]) -> Option<Edge> {
    match *words {
        [at] => Some(Edge::Time(time(at)?)),
        [day, at] => {
            let at = time(at)?;
            let known = DAYS.iter().find(|(name, _)| day.to_ascii_lowercase() == *name);
            match known {
                Some((_, day)) => Some(Edge::Week(*day, at)),
                None => Some(Edge::Date(day.parse::<Date>().ok()?.to_datetime(at))),
            }
        }
        _ => None,
    }
}

/// `08:00`.
fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two = |digits: &str| (digits.len() == 2).then(|| digits.parse::<i8>().ok()).flatten();
    Time::new(two(hour)?, two(minute)?, 0, 0).ok()
}

impl PartialEq for Window {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Window {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Window::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(window: &str, now: &str, end: Option<&str>) {
        let found = Window::parse(window).expect(window).end(now.parse().expect("a time"));
        assert_eq!(found.map(|at| at.to_string()).as_deref(), end, "{window} at {now}");
    }

    #[test]
    fn a_window_follows_the_clock_of_its_time_zone() {
        // 2026-01-02 is a Friday.
        let weekend = "Fri 16:00 - Mon 08:00 Europe/Berlin";
        check(weekend, "2026-01-02T14:59:59Z", None);
        check(weekend, "2026-01-02T15:00:00Z", Some("2026-01-05T07:00:00Z"));
        check(weekend, "2026-01-05T06:59:59Z", Some("2026-01-05T07:00:00Z"));
        check(weekend, "2026-01-05T07:00:00Z", None);
        check("fri 16:00 - mon 08:00", "2026-01-04T00:00:00Z", Some("2026-01-05T08:00:00Z"));
        let night = "22:00 - 06:00 Europe/Berlin";
        check(night, "2026-07-01T19:59:59Z", None);
        check(night, "2026-07-01T20:00:00Z", Some("2026-07-02T04:00:00Z"));
        check(night, "2026-07-02T03:59:59Z", Some("2026-07-02T04:00:00Z"));
        check("09:00 - 17:00", "2026-01-01T12:00:00Z", Some("2026-01-01T17:00:00Z"));
        check("09:00 - 17:00", "2026-01-01T17:00:00Z", None);
        // Within one day of the week, and all of the week but an hour of it.
        check("Wed 01:00 - Wed 02:00", "2026-01-07T01:30:00Z", Some("2026-01-07T02:00:00Z"));
        check("Wed 02:00 - Wed 01:00", "2026-01-07T01:30:00Z", None);
        check("Wed 02:00 - Wed 01:00", "2026-01-07T00:59:00Z", Some("2026-01-07T01:00:00Z"));
        let feast = "2026-12-23 12:00 - 2027-01-02 08:00 Europe/Berlin";
        check(feast, "2026-12-23T10:59:59Z", None);
        check(feast, "2026-12-31T23:00:00Z", Some("2027-01-02T07:00:00Z"));
        check(feast, "2027-12-31T23:00:00Z", None);
    }

    #[test]
    fn a_window_between_two_dates_is_over_for_good_one_day() {
        let now = "2026-01-02T07:00:00Z".parse().expect("a time");
        for (window, past) in [
            ("2025-12-23 12:00 - 2026-01-02 08:00 Europe/Berlin", true),
            ("2025-12-23 12:00 - 2026-01-02 08:01 Europe/Berlin", false),
            ("Thu 08:00 - Fri 06:00", false),
            ("01:00 - 06:00", false),
        ] {
            assert_eq!(Window::parse(window).expect(window).past(now).is_some(), past, "{window}");
        }
    }

    #[test]
    fn an_hour_that_the_clock_leaves_out_or_tells_twice_makes_no_window_shorter() {
        // On 29 March 2026 two o'clock is followed by three in Berlin: half past two is not.
        check("Sat 20:00 - Sun 02:30 Europe/Berlin", "2026-03-29T01:15:00Z", Some("2026-03-29T01:30:00Z"));
        check("02:30 - 06:00 Europe/Berlin", "2026-03-29T00:30:00Z", Some("2026-03-29T04:00:00Z"));
        // On 25 October 2026 half past two comes twice, at half past midnight and at half past one in UTC.
        check("Sat 20:00 - Sun 02:30 Europe/Berlin", "2026-10-25T01:00:00Z", Some("2026-10-25T01:30:00Z"));
        check("02:30 - 06:00 Europe/Berlin", "2026-10-25T00:30:00Z", Some("2026-10-25T05:00:00Z"));
        check("02:30 - 06:00 Europe/Berlin", "2026-10-25T01:15:00Z", Some("2026-10-25T05:00:00Z"));
    }

    #[test]
    fn what_is_no_window_is_refused_with_the_reason() {
        for (text, says) in [
            ("", "is no window"),
            ("Fri 16:00", "is no window"),
            ("Fri 16 - Mon 8", "is no time zone"),
            ("Fri 16:00 - Mon 25:00", "is no time zone"),
            ("Frie 16:00 - Mon 08:00", "is no window"),
            ("Fri 16:00 - Mon 08:00 Europe/Berln", "\"Europe/Berln\" is no time zone"),
            ("Fri 16:00 - 08:00", "of one kind"),
            ("Fri 16:00 - Fri 16:00", "would never be over"),
            ("2026-12-23 00:00 - 2026-12-22 00:00", "ends before it begins"),
        ] {
            let error = Window::parse(text).expect_err(text);
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_freeze_is_for_the_rules_that_it_names() {
        let rule = Rule { tags: vec!["web".into()], ..Rule::matching("scale-out", Vec::new()) };
        for (scope, covers) in [
            (Scope::All, true),
            (Scope::Rule("scale-out".into()), true),
            (Scope::Rule("scale-*".into()), true),
            (Scope::Rule("scale".into()), false),
            (Scope::Tag("web".into()), true),
            (Scope::Tag("we*".into()), false),
        ] {
            assert_eq!(scope.covers(Some(&rule)), covers, "{scope}");
            assert_eq!(scope.covers(None), scope == Scope::All, "{scope}");
        }
    }
}
