//! The port for groups of machines: AWS auto-scaling groups, and any other provider behind commands. Each group that the config names is of one kind.

pub mod aws;
pub mod command;

use crate::config::NodeGroupConfig;
use crate::model::diagnostic::nearest;
use crate::model::node_group::{GroupChange, GroupIntent, InstanceState, NodeGroup};
use crate::ports::{ErrorReason, NodeGroups, PortError};
use async_trait::async_trait;
use aws::AutoScalingGroup;
use command::CommandGroup;
use std::collections::BTreeMap;

/// The groups that the config names under `node_groups:`.
pub struct ConfiguredGroups {
    groups: BTreeMap<String, Group>,
}

enum Group {
    Aws(AutoScalingGroup),
    Command(CommandGroup),
}

impl ConfiguredGroups {
    /// Nothing is sent and no command started. Errors (permanent) name the key that is wrong.
    pub fn new(config: &BTreeMap<String, NodeGroupConfig>) -> Result<Self, PortError> {
        let group = |(name, config): (&String, &NodeGroupConfig)| {
            if !is_plain(name) {
                let message = format!("node_groups: {name:?} is no name of a group; {PLAIN}");
                return Err(PortError::permanent(ErrorReason::Invalid, message));
            }
            let group = match config {
                NodeGroupConfig::Aws(config) => Group::Aws(AutoScalingGroup::new(name, config)?),
                NodeGroupConfig::Command(config) => Group::Command(CommandGroup::new(name, config)?),
            };
            Ok((name.clone(), group))
        };
        Ok(ConfiguredGroups { groups: config.iter().map(group).collect::<Result<_, _>>()? })
    }

    fn find(&self, name: &str) -> Result<&Group, PortError> {
        self.groups.get(name).ok_or_else(|| unknown_group(name, &self.names()))
    }
}

#[async_trait]
impl NodeGroups for ConfiguredGroups {
    fn names(&self) -> Vec<String> {
        self.groups.keys().cloned().collect()
    }

    async fn group(&self, name: &str) -> Result<NodeGroup, PortError> {
        match self.find(name)? {
            Group::Aws(group) => group.describe().await,
            Group::Command(group) => group.describe().await,
        }
    }

    async fn apply(&self, intent: &GroupIntent) -> Result<(), PortError> {
        let group = self.find(&intent.group)?;
        let now = match group {
            Group::Aws(group) => group.describe().await?,
            Group::Command(group) => group.describe().await?,
        };
        match (judge(intent, &now)?, group) {
            (Judged::AlreadySo, _) => Ok(()),
            (Judged::ToDo, Group::Aws(group)) => group.change(&intent.change).await,
            (Judged::ToDo, Group::Command(group)) => group.change(&intent.change).await,
        }
    }
}

/// What is left to do of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    AlreadySo,
    ToDo,
}

/// May this change be made to the group as it is now? The same for every provider, whatever the provider itself would accept.
///
/// Errors (permanent, refused): beyond the bounds; fewer machines by their number alone, which would leave the provider to pick the one that goes.
pub fn judge(intent: &GroupIntent, now: &NodeGroup) -> Result<Judged, PortError> {
    let NodeGroup { name, desired, min, max, .. } = now;
    let refused = |message: String| Err(PortError::permanent(ErrorReason::Refused, message));
    match &intent.change {
        GroupChange::Resize { to, .. } if to == desired => Ok(Judged::AlreadySo),
        GroupChange::Resize { to, .. } if to > max => {
            refused(format!("{name} may have {max} machines at most, {to} were asked for (it has {desired}); {BOUNDS}"))
        }
        GroupChange::Resize { to, .. } if to < min => {
            refused(format!("{name} has to have {min} machines at least, {to} were asked for; {BOUNDS}"))
        }
        GroupChange::Resize { to, .. } if to < desired => refused(format!(
            "{name} has {desired} machines and cannot be made smaller by number, to {to}: remove_node picks the machine that goes"
        )),
        GroupChange::Resize { .. } => Ok(Judged::ToDo),
        GroupChange::Terminate { instance, .. } => match now.instance(instance).map(|found| found.state) {
            None | Some(InstanceState::Terminating) => Ok(Judged::AlreadySo),
            Some(_) if desired <= min => refused(format!(
                "{name} has {desired} machines and has to have {min} at least: {instance} is not terminated; {BOUNDS}"
            )),
            Some(_) => Ok(Judged::ToDo),
        },
    }
}

const BOUNDS: &str = "the bounds are the narrower of the provider's and those under `node_groups:`";

/// The error for a group that there is none of.
pub fn unknown_group(name: &str, known: &[String]) -> PortError {
    let help = match (nearest(name, known.iter().map(String::as_str)), known) {
        (Some(near), _) => format!("did you mean {near:?}? There are: {}", known.join(", ")),
        (None, []) => "there are none; add it under `node_groups:`".to_string(),
        (None, _) => format!("there are: {}", known.join(", ")),
    };
    PortError::permanent(ErrorReason::NotFound, format!("there is no node group {name:?}; {help}"))
}

/// Fit to stand in the arguments of a command: it cannot be read as an option, a path upwards, or two words.
fn is_plain(value: &str) -> bool {
    let mut bytes = value.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && value.len() <= 200
}

const PLAIN: &str =
    "expected letters, digits, dots, dashes and underscores, beginning with a letter or a digit, at most 200";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::node_group::Instance;

    #[test]
    fn a_change_is_judged_by_the_group_and_its_bounds() {
        let group = |desired| NodeGroup {
            name: "workers".into(),
            desired,
            min: 2,
            max: 4,
            instances: [("i-1", InstanceState::InService), ("i-2", InstanceState::Terminating)]
                .map(|(id, state)| Instance { id: id.into(), node: None, state })
                .into(),
        };
        let check = |desired: u64, change: GroupChange, expect: Result<Judged, &str>| {
            let intent = GroupIntent { group: "workers".into(), change };
            match (judge(&intent, &group(desired)), expect) {
                (Ok(judged), Ok(expect)) => assert_eq!(judged, expect, "{intent}"),
                (Err(error), Err(words)) => {
                    assert_eq!(error.reason, ErrorReason::Refused, "{intent}");
                    assert!(error.message.contains(words) && error.message.contains("workers"), "{intent}: {error}");
                }
                (judged, expect) => panic!("{intent} at {desired}: {judged:?}, expected {expect:?}"),
            }
        };
        let resize = |to| GroupChange::Resize { from: 0, to };
        check(2, resize(3), Ok(Judged::ToDo));
        check(3, resize(3), Ok(Judged::AlreadySo));
        check(3, resize(5), Err("4 machines at most"));
        check(3, resize(1), Err("2 machines at least"));
        check(4, resize(3), Err("remove_node picks"));
        // Another hand has put it outside its bounds: what is so already is not refused.
        check(9, resize(9), Ok(Judged::AlreadySo));
        let terminate = |id: &str| GroupChange::Terminate { node: "n".into(), instance: id.into(), from: 3 };
        check(3, terminate("i-1"), Ok(Judged::ToDo));
        check(2, terminate("i-1"), Err("i-1 is not terminated"));
        check(2, terminate("i-2"), Ok(Judged::AlreadySo));
        check(2, terminate("i-9"), Ok(Judged::AlreadySo));
    }

    #[test]
    fn an_unknown_group_is_named_with_the_nearest() {
        let known = ["workers".to_string(), "builders".to_string()];
        for (name, known, words) in [
            ("worker", &known[..], "did you mean \"workers\"? There are: workers, builders"),
            ("zzz", &known, "there are: workers, builders"),
            ("workers", &[], "add it under `node_groups:`"),
        ] {
            let error = unknown_group(name, known);
            assert!(error.reason == ErrorReason::NotFound && error.message.contains(words), "{error}");
        }
    }

    #[test]
    fn what_could_be_read_as_an_option_or_as_two_words_is_not_plain() {
        for good in ["i-0123456789abcdef0", "node4", "ip-10-0-0-1.ec2.internal", "a", "4_b"] {
            assert!(is_plain(good), "{good}");
        }
        let long = "x".repeat(201);
        for bad in ["", "-rf", "--force", ".hidden", "../x", "a b", "a;b", "a\nb", "$(x)", "ä", "a/b", &long] {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }
}
