//! Durations as Prometheus writes them: `90s`, `5m`, `1h30m`, `500ms`, `90d`.

use serde::{Deserialize, Serialize};
use std::fmt;

const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// A length of time in whole milliseconds, read and written in Prometheus' notation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Duration {
    pub millis: u64,
}

impl Duration {
    pub const fn from_secs(secs: u64) -> Self {
        Duration { millis: secs * 1_000 }
    }

    pub const fn from_millis(millis: u64) -> Self {
        Duration { millis }
    }

    pub const fn std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.millis)
    }

    pub fn signed(self) -> jiff::SignedDuration {
        jiff::SignedDuration::from_millis(i64::try_from(self.millis).unwrap_or(i64::MAX))
    }

    /// The time between two instants, rounded down to the second so that people can read it; zero when `to` is not after `from`.
    pub fn between(from: jiff::Timestamp, to: jiff::Timestamp) -> Self {
        let millis = u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0);
        Duration { millis: if millis >= 1_000 { millis / 1_000 * 1_000 } else { millis } }
    }

    /// Reads Prometheus' notation: units from large to small, each at most once.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no duration; expected for example 90s, 5m or 1h30m");
        if text == "0" {
            return Ok(Duration::default());
        }
        let mut rest = text;
        let mut millis: u64 = 0;
        let mut smallest: usize = 0;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let letters =
                rest[digits..].len() - rest[digits..].trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let count: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            let unit = &rest[digits..digits + letters];
            let rank = UNITS.iter().position(|(name, _)| *name == unit).ok_or_else(wrong)?;
            if rank < smallest {
                return Err(wrong());
            }
            smallest = rank + 1;
            millis = count
                .checked_mul(UNITS[rank].1)
                .and_then(|part| millis.checked_add(part))
                .ok_or_else(|| format!("{text:?} is too long a duration"))?;
            rest = &rest[digits + letters..];
        }
        // Beyond this no timestamp can be computed from it.
        if text.is_empty() {
            Err(wrong())
        } else if millis > 100 * UNITS[0].1 {
            Err(format!("{text:?} is too long a duration; the longest is 100y"))
        } else {
            Ok(Duration { millis })
        }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.millis == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.millis;
        // Weeks and years are read but not written: "90d" should stay "90d".
        for (name, size) in &UNITS[2..] {
            if rest >= *size {
                write!(f, "{}{name}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Duration::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_prometheus_does() {
        let good = [
            ("90s", "1m30s"),
            ("5m", "5m"),
            ("1h30m", "1h30m"),
            ("500ms", "500ms"),
            ("90d", "90d"),
            ("1w", "7d"),
            ("0", "0s"),
        ];
        for (text, shown) in good {
            assert_eq!(Duration::parse(text).expect(text).to_string(), shown);
        }
        for text in ["", "5", "m", "5x", "5m1h", "5m5m", "-5m", "5 m", "99999999999999999999s", "101y"] {
            assert!(Duration::parse(text).is_err(), "{text}");
        }
    }
}
