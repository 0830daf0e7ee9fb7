//! What stops effects now, as the board has it and the executors follow it.

use crate::config::Config;
use crate::engine::guard;
use crate::model::freeze::Freeze;
use serde::{Deserialize, Serialize};

/// The kill switch, as it was pulled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paused {
    pub by: String,
    pub reason: String,
    pub at: jiff::Timestamp,
}

/// The fleet brake, as it was pulled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Braked {
    pub reason: String,
    pub at: jiff::Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stops {
    pub paused: Option<Paused>,
    /// Those that a person made and that are not over.
    pub freezes: Vec<Freeze>,
    pub braked: Option<Braked>,
}

impl Stops {
    /// As the guards are given it.
    pub fn view<'a>(&'a self, config: &'a Config) -> guard::Stops<'a> {
        let paused = self.paused.as_ref().map(|paused| format!("by {}: {}", paused.by, paused.reason));
        let freezes = guard::Freezes { configured: &config.freezes, one_off: &self.freezes };
        guard::Stops { paused, freezes, braked: self.braked.as_ref().map(|braked| braked.reason.as_str()) }
    }
}
