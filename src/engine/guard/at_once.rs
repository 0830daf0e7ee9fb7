//! How much of what belongs together is changed at once: the services of a stack, the nodes of the Swarm. The strictest cap holds, of the configuration, the
//! rule, and the label `runbookd.at_once` of the services themselves.

use super::{Page, Verdict};
use crate::engine::ledger::Ledger;
use crate::model::cluster::{Node, Service};
use crate::model::duration::Duration;
use crate::model::effect::target_name;
use crate::model::incident::Reason;
use crate::model::rule::{AtOnce, Rule, Share};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// A cap that a service brings along, for its stack.
pub const AT_ONCE_LABEL: &str = "runbookd.at_once";
const STACK_LABEL: &str = "com.docker.stack.namespace";
/// What we changed within this time and what is not whole counts as being changed.
const CHANGED_LATELY: Duration = Duration::from_secs(3600);

/// What belongs together.
#[derive(Clone, Debug, PartialEq)]
pub struct Company {
    /// `services of the stack shop`, `nodes`.
    pub what: String,
    pub members: Vec<Member>,
    /// Each with whose it is.
    pub caps: Vec<(Share, String)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub name: String,
    /// As locks name it.
    pub target: String,
    /// It is to be changed by the step that asks.
    pub asked: bool,
    /// Somebody is changing it, or it is out of work.
    pub busy: bool,
    /// All of it runs.
    pub whole: bool,
    /// Another incident has it locked.
    pub held: bool,
}

/// The caps of the configuration and of the rule, each with whose it is.
fn caps(config: AtOnce, rule: Option<&Rule>, of: fn(AtOnce) -> Option<Share>) -> Vec<(Share, String)> {
    let config = of(config).map(|share| (share, "the configuration (bounds.at_once)".to_string()));
    let rule = rule.and_then(|rule| Some((of(rule.at_once)?, format!("rule {}", rule.name))));
    config.into_iter().chain(rule).collect()
}

/// Whether anything caps changes of these services: if not, nobody need look at the others.
pub fn caps_services(config: AtOnce, rule: Option<&Rule>, targets: &[&Service]) -> bool {
    !caps(config, rule, |at_once| at_once.services).is_empty()
        || targets.iter().any(|service| service.label(AT_ONCE_LABEL).is_some())
}

/// The stacks of the targets, of all services there are.
pub fn stacks(
    all: &[Service],
    targets: &[&Service],
    config: AtOnce,
    rule: Option<&Rule>,
) -> Result<Vec<Company>, Reason> {
    let stack_of = |service: &Service| service.label(STACK_LABEL).unwrap_or_default().to_string();
    let mut found: BTreeMap<String, Company> = BTreeMap::new();
    for target in targets {
        let stack = stack_of(target);
        let company = found.entry(stack.clone()).or_insert_with(|| Company {
            what: if stack.is_empty() {
                "services of no stack".into()
            } else {
                format!("services of the stack {stack}")
            },
            members: all.iter().filter(|service| stack_of(service) == stack).map(member).collect(),
            caps: caps(config, rule, |at_once| at_once.services),
        });
        if let Some(member) = company.members.iter_mut().find(|member| member.name == target.name) {
            member.asked = true;
        }
        if let Some(value) = target.label(AT_ONCE_LABEL) {
            let whose = format!("the label {AT_ONCE_LABEL} of {}", target.name);
            let share = value.parse::<Share>().map_err(|why| Reason::new("bounds", format!("{whose}: {why}")))?;
            company.caps.push((share, whose));
        }
    }
    Ok(found.into_values().collect())
}

fn member(service: &Service) -> Member {
    Member {
        name: service.name.clone(),
        target: target_name("scale", &service.name),
        asked: false,
        busy: service.update.in_progress(),
        whole: service.running >= service.replicas,
        held: false,
    }
}

/// The nodes, when one of them is to go out of work. A manager that is drained is so on purpose, as many are; a worker is out of work.
pub fn nodes(all: &[Node], asked: &str, config: AtOnce, rule: Option<&Rule>) -> Option<Company> {
    let caps = caps(config, rule, |at_once| at_once.nodes);
    let member = |node: &Node| {
        let at_work = node.state == "ready" && (node.availability == "active" || node.role == "manager");
        Member {
            name: node.name.clone(),
            target: target_name("drain", &node.name),
            asked: node.id == asked,
            busy: !at_work,
            whole: node.state == "ready" && node.availability == "active",
            held: false,
        }
    };
    (!caps.is_empty()).then(|| Company { what: "nodes".into(), members: all.iter().map(member).collect(), caps })
}

/// Denied when the step alone is too much; held while others are being changed.
pub(super) fn at_once(company: &Company, ledger: &Ledger, now: Timestamp) -> Verdict {
    let Company { what, members, caps } = company;
    let (asked, others): (Vec<&Member>, Vec<&Member>) = members.iter().partition(|member| member.asked);
    let Some((most, share, whose)) =
        caps.iter().map(|(share, whose)| (share.of(members.len()), share, whose)).min_by_key(|(most, ..)| *most)
    else {
        return Verdict::Allow;
    };
    let cap = || format!("{most} of {} {what} at once are the most that {whose} allows ({share})", members.len());
    if asked.len() > most {
        let text = format!("{} are to be changed in one step; {}", asked.len(), cap());
        return Verdict::Deny(Reason::new("bounds", text));
    }
    let changing: Vec<&str> = others
        .into_iter()
        .filter(|member| {
            let lately = ledger.effects_on(&member.target, now - CHANGED_LATELY.signed()) > 0;
            // What another incident has locked and changed is not verified yet.
            let unverified = member.held && ledger.of(&member.target).next().is_some();
            member.busy || unverified || (lately && !member.whole)
        })
        .map(|member| member.name.as_str())
        .collect();
    if changing.len() + asked.len() <= most {
        return Verdict::Allow;
    }
    let text = format!("{} being changed; {}", listed(&changing), cap());
    Verdict::Hold { until: None, page: Page::Later, reason: Reason::new("at_once", text) }
}

fn listed(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let more = names.len().saturating_sub(SHOWN);
    let are = if names.len() == 1 { "is" } else { "are" };
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more {are}") } else { format!("{shown} {are}") }
}
