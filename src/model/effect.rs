//! An effect as it is counted: which step of which rule was to change which targets, and when.

use super::cluster::ServiceChange;
use super::incident::IncidentId;
use super::node_group::GroupChange;
use super::run::RunId;
use super::step::{Intent, Outcome, Step};
use jiff::Timestamp;

/// Counted from its intent on, whatever becomes of it: what may have been changed counts as changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    pub at: Timestamp,
    pub rule: String,
    pub incident: IncidentId,
    pub run: RunId,
    pub seq: u32,
    /// As locks name them: `service web`.
    pub targets: Vec<String>,
    /// Which way a number goes.
    pub way: Option<Way>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Up,
    Down,
}

impl Way {
    fn between(from: u64, to: u64) -> Option<Self> {
        match to.cmp(&from) {
            std::cmp::Ordering::Greater => Some(Way::Up),
            std::cmp::Ordering::Less => Some(Way::Down),
            std::cmp::Ordering::Equal => None,
        }
    }

    pub fn opposite(self) -> Self {
        match self {
            Way::Up => Way::Down,
            Way::Down => Way::Up,
        }
    }
}

impl Effect {
    /// `None`: the step changes nothing, or a guard kept it from doing so before any of it was done.
    pub fn of(rule: &str, incident: IncidentId, step: &Step) -> Option<Self> {
        let intent = step.intent.as_ref().filter(|intent| intent.is_effect())?;
        // What a rehearsal planned was not done.
        match step.outcome {
            Outcome::Unchanged | Outcome::Planned => return None,
            Outcome::Denied if !step.had_effect() => return None,
            _ => {}
        }
        let targets = targets(intent);
        // A step may have been held for long before it did anything.
        let at = step.finished_at.unwrap_or(step.started_at);
        let rule = rule.to_string();
        Some(Effect { at, rule, incident, run: step.run, seq: step.seq, targets, way: way(intent) })
    }
}

fn way(intent: &Intent) -> Option<Way> {
    match intent {
        Intent::Services(all) => all.iter().find_map(|one| match one.change {
            ServiceChange::Scale { from, to } => Way::between(from, to),
            _ => None,
        }),
        Intent::Group(group) => match group.change {
            GroupChange::Resize { from, to } => Way::between(from, to),
            GroupChange::Terminate { .. } => Some(Way::Down),
        },
        _ => None,
    }
}

fn targets(intent: &Intent) -> Vec<String> {
    match intent {
        Intent::Services(all) => all.iter().map(|one| target_name("scale", &one.service)).collect(),
        Intent::Reload { target, .. } => vec![target_name("reload", target)],
        Intent::Post { target, .. } => vec![target_name("http_post", target)],
        Intent::Node(node) => vec![target_name("drain", &node.node)],
        Intent::Group(group) => vec![target_name("add_node", &group.group)],
        Intent::Job(job) => vec![target_name("job", &job.image)],
        Intent::Silence(_) => vec![target_name("silence", "alerts")],
        Intent::Message { .. } | Intent::Until { .. } => Vec::new(),
    }
}

/// What a primitive's target is called where it is locked or counted.
pub fn target_name(primitive: &str, target: &str) -> String {
    match primitive {
        "reload" => format!("reload target {target}"),
        "drain" | "activate" | "promote" | "demote" | "add_node" | "remove_node" => format!("node or group {target}"),
        "silence" | "job" | "http_post" => format!("{primitive} {target}"),
        _ => format!("service {target}"),
    }
}
