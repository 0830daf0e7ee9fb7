//! What a play is made of: a world, rules, and everything that happens, each at its time. A plan holds all that is random; playing it is not.

use crate::rules::{Part, RuleSpec};
use runbookd::model::freeze::Scope;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Plan {
    /// As a world file.
    pub world: String,
    pub rules: Vec<RuleSpec>,
    /// Alertmanager's API can be asked.
    pub api: bool,
    pub fleet: Fleet,
    /// The label sets that can fire.
    pub alerts: Vec<Vec<(&'static str, String)>>,
    /// Which of them is expected always, and every so many seconds.
    pub watchdog: Option<(usize, u64)>,
    /// What calls to the outside take, in milliseconds, one after the other and again from the first.
    pub latencies: Vec<u64>,
    /// Millisecond and what happens then, in order.
    pub acts: Vec<(u64, Act)>,
}

/// Limits over all rules: so many effects in ten minutes, and what else holds for all of them.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    pub brake_effects: Option<u32>,
    pub brake_targets: Option<u32>,
    /// On each target.
    pub target: Option<u32>,
    pub engine: Option<u32>,
    /// A service that another hand has changed is left alone for so long.
    pub hands_secs: Option<u64>,
    /// What one rule has scaled no other scales back for so long.
    pub opposite_secs: Option<u64>,
    /// How much of a stack may be changed at once, and how many nodes.
    pub services_at_once: Option<Part>,
    pub nodes_at_once: Option<u32>,
    /// When nothing is changed: from which minute of the day to which, and by which rules.
    pub freezes: Vec<((u64, u64), Scope)>,
}

/// What the process talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    Cluster,
    Groups,
    Alertmanager,
    Prometheus,
    Reload,
    Posts,
    People,
}

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// No answer, and nothing was done.
    TimeoutBefore,
    /// No answer, and yet it was done.
    TimeoutAfter,
    /// No answer, and it is done this many milliseconds later.
    TimeoutLate(u64),
    /// Not now.
    Throttled,
    /// Another hand is faster; it sets this many replicas, if any.
    Conflict(Option<u64>),
    /// Never.
    Refused,
}

#[derive(Clone, Debug)]
pub enum Act {
    Fire(usize),
    Resolve(usize),
    /// Alertmanager tells of the group of an alert, as it is then: one post for each of `delays`, so late. None: it is lost.
    Notify {
        alert: usize,
        delays: Vec<u64>,
        truncate: bool,
    },
    Suppress {
        alert: usize,
        on: bool,
    },
    Hand {
        service: usize,
        replicas: u64,
    },
    HandImage {
        service: usize,
        bad: bool,
    },
    /// Another hand sets the label that one of the runbooks sets, too.
    HandLabel {
        service: usize,
    },
    NodeState {
        node: usize,
        state: &'static str,
    },
    LoseMachine(usize),
    Fault {
        port: Port,
        fault: Fault,
        calls: u32,
    },
    Down {
        port: Port,
        secs: u64,
    },
    /// The process is killed at its so-many-th write from now, before or after it, and started again later.
    Crash {
        writes: u64,
        before: bool,
        down_secs: u64,
    },
    /// The process is killed now.
    Kill {
        down_secs: u64,
    },
    /// The process is told to end, and started again later.
    Restart {
        down_secs: u64,
    },
    JournalFails {
        secs: u64,
    },
    /// For a while each write takes this many milliseconds to become durable.
    JournalSlow {
        millis: u64,
        secs: u64,
    },
    Edit(Edit),
    Pause,
    Resume,
    /// A person freezes everything, a rule or the rules of a tag for a while.
    Freeze {
        scope: Scope,
        secs: u64,
    },
    /// A person ends the so-many-th freeze that a person made before its time.
    Unfreeze(usize),
    /// A person releases the fleet brake.
    Release,
    /// Of the incidents that are open, the so-many-th.
    Ack(usize),
    Close(usize),
    /// Of what people are asked, the so-many-th is answered: yes or no.
    Reply {
        nth: usize,
        yes: bool,
    },
    /// A person has the so-many-th run that changed something undone.
    Undo(usize),
    /// Somebody sets the wall clock.
    Jump(i64),
    Deploy {
        service: usize,
        tag: u64,
        bad: bool,
    },
    Run {
        service: usize,
        up: bool,
    },
    /// All faults end, whatever is held is released, and the files are valid.
    Calm,
}

/// What somebody writes into the files.
#[derive(Clone, Debug)]
pub enum Edit {
    Rules(Vec<RuleSpec>),
    /// A runbook says something else from now on: its rests and timeouts are the same, its text is not.
    Runbook(&'static str),
    /// Files that cannot be loaded, and why; until the next edit.
    Broken(Arc<str>),
}
