//! A change that leaves the process, as the oracle is shown it.

use runbookd::model::cluster::{JobIntent, NodeIntent, Service, ServiceChange, ServiceIntent};
use runbookd::model::node_group::GroupIntent;

/// A change that is about to leave the process.
pub struct Leaving {
    pub what: String,
    /// What a grant must name; `None`: any.
    pub target: Option<String>,
    /// What no two live runs may work on.
    pub lock: Option<String>,
    pub scale: Option<Scale>,
}

pub struct Scale {
    pub from: u64,
    pub to: u64,
    /// The service's own bounds.
    pub min: Option<u64>,
    pub max: Option<u64>,
}

impl Leaving {
    pub fn service(intent: &ServiceIntent, seen: Option<&Service>) -> Self {
        let scale = match (&intent.change, seen) {
            // At another version it will conflict: its bounds may be others by now.
            (ServiceChange::Scale { from, to }, Some(seen)) if seen.version == intent.version => {
                let bound = |label: &str| seen.labels.get(label).and_then(|value| value.parse().ok());
                Some(Scale { from: *from, to: *to, min: bound("com.df.scaleMin"), max: bound("com.df.scaleMax") })
            }
            _ => None,
        };
        Leaving { lock: Some(format!("service {}", intent.service)), scale, ..Self::to(&intent.service, intent) }
    }

    pub fn node(intent: &NodeIntent) -> Self {
        Leaving { lock: Some(format!("node {}", intent.node)), ..Self::to(&intent.node, intent) }
    }

    pub fn group(intent: &GroupIntent) -> Self {
        Leaving { lock: Some(format!("group {}", intent.group)), ..Self::to(&intent.group, intent) }
    }

    pub fn reload(target: &str) -> Self {
        Leaving { lock: Some(format!("reload {target}")), ..Self::to(target, format!("reload {target}")) }
    }

    pub fn job(job: &JobIntent) -> Self {
        Self::to(&job.image, format!("job {}", job.name))
    }

    pub fn post(target: &str) -> Self {
        Self::to(target, format!("post to {target}"))
    }

    pub fn silence() -> Self {
        Leaving { target: None, ..Self::to("", "silence") }
    }

    fn to(target: &str, what: impl ToString) -> Self {
        Leaving { what: what.to_string(), target: Some(target.to_string()), lock: None, scale: None }
    }
}
