//! A machine joins the Swarm: what it asks, and what it is given.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The source under which every question is journalled.
pub const INTAKE: &str = "join";

/// As what a machine joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JoinRole {
    Worker,
    Manager,
}

impl JoinRole {
    pub const ALL: [JoinRole; 2] = [JoinRole::Worker, JoinRole::Manager];

    pub fn name(self) -> &'static str {
        match self {
            JoinRole::Worker => "worker",
            JoinRole::Manager => "manager",
        }
    }

    /// May whoever was given this role ask for the other? A manager can make itself anything.
    pub fn includes(self, asked: JoinRole) -> bool {
        self == JoinRole::Manager || asked == JoinRole::Worker
    }
}

impl fmt::Display for JoinRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// That a machine asked, as it is journalled: no secret is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JoinAsked {
    pub role: JoinRole,
    /// Whose connection it was: the machine's own address, or that of what stands between.
    pub address: String,
    pub at: Timestamp,
}

/// What a machine needs to join.
#[derive(Clone, PartialEq)]
pub struct JoinToken {
    /// `10.0.0.1:2377`; never empty.
    pub managers: Vec<String>,
    token: Box<str>,
}

impl JoinToken {
    pub fn new(managers: Vec<String>, token: impl Into<Box<str>>) -> Self {
        JoinToken { managers, token: token.into() }
    }

    /// The Swarm's secret, for the one answer that carries it.
    pub fn expose(&self) -> &str {
        &self.token
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("managers", &self.managers).field("token", &"(secret)").finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_token_is_not_printed() {
        let token = JoinToken::new(vec!["10.0.0.1:2377".into()], "SWMTKN-1-hunter2");
        let shown = format!("{token:?} {token:#?}");
        assert!(shown.contains("10.0.0.1:2377") && !shown.contains("hunter2"), "{shown}");
        assert_eq!(token.expose(), "SWMTKN-1-hunter2");
    }

    #[test]
    fn the_role_of_a_token_binds_what_may_be_asked() {
        use JoinRole::{Manager, Worker};
        for (given, asked, expect) in
            [(Worker, Worker, true), (Worker, Manager, false), (Manager, Worker, true), (Manager, Manager, true)]
        {
            assert_eq!(given.includes(asked), expect, "{given} {asked}");
        }
    }
}
