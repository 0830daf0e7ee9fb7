//! Alertmanager's label matchers: `=`, `!=`, `=~`, `!~`, a missing label reads as "", expressions are anchored.

use super::label::Labels;
use regex::Regex;
use std::fmt;

#[derive(Clone, Debug)]
pub struct Matcher {
    pub name: String,
    pub op: Op,
    pub value: String,
    /// For `=~` and `!~`: the expression, anchored at both ends.
    regex: Option<Regex>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Equal,
    NotEqual,
    Matches,
    NotMatches,
}

impl Op {
    pub fn sign(self) -> &'static str {
        match self {
            Op::Equal => "=",
            Op::NotEqual => "!=",
            Op::Matches => "=~",
            Op::NotMatches => "!~",
        }
    }
}

impl Matcher {
    /// Builds a matcher. The error says what is wrong with the expression.
    pub fn new(name: &str, op: Op, value: &str) -> Result<Self, String> {
        let regex = match op {
            Op::Equal | Op::NotEqual => None,
            Op::Matches | Op::NotMatches => Some(
                regex::RegexBuilder::new(&format!("^(?:{value})$"))
                    // Alertmanager's RE2: "." stops at line ends, so "$" must mean the very end; both hold by default.
                    .size_limit(1 << 20)
                    .build()
                    .map_err(|error| {
                        format!("{value:?} is no regular expression: {}", last_line(&error.to_string()))
                    })?,
            ),
        };
        Ok(Matcher { name: name.to_string(), op, value: value.to_string(), regex })
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_value(labels.value(&self.name))
    }

    pub fn matches_value(&self, value: &str) -> bool {
        let regex = || self.regex.as_ref().expect("built with an expression").is_match(value);
        match self.op {
            Op::Equal => value == self.value,
            Op::NotEqual => value != self.value,
            Op::Matches => regex(),
            Op::NotMatches => !regex(),
        }
    }
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or(text).trim_start_matches("error: ")
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.sign(), self.value)
    }
}
