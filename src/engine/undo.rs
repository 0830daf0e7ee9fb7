//! Undo: from what a run did to the runbook that puts it back. In reverse order, each step from what it set to what was there before; refused where the
//! target is no longer as the step left it. The plan is a runbook like any other, so it is carried out, journalled, guarded and settled like any other.

use super::intent::fields_hold;
use crate::model::cluster::{Limits, Node, NodeChange, NodeIntent, Service, ServiceChange, ServiceIntent, SpecFields};
use crate::model::node_group::{GroupChange, GroupIntent, NodeGroup};
use crate::model::rule::{Grant, Rule};
use crate::model::run::{Run, RunId};
use crate::model::step::{Intent, Step};
use crate::model::template::Template;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// How long the tasks of a machine that goes may take to leave it.
const MOVED_WITHIN: &str = "10m";

/// What a step of a run comes to when it is undone.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub seq: u32,
    /// What the step did.
    pub did: String,
    pub undo: Undo,
}

/// In words, each.
#[derive(Clone, Debug, PartialEq)]
pub enum Undo {
    /// It is put back.
    Does(String),
    /// It is as it was before already.
    AsBefore(String),
    /// It has no inverse: whoever undoes must know.
    Cannot(String),
    /// Another hand was there since: the whole undo is refused.
    Changed(String),
}

/// The undo of a run, as the cluster stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The last step first.
    pub lines: Vec<Line>,
    /// The runbook that carries it out.
    pub source: String,
    /// What it may do, and to what: what the run did, turned round.
    pub allow: Vec<(String, String)>,
}

impl Plan {
    /// Why it cannot be carried out.
    pub fn refused(&self) -> Option<String> {
        let changed: Vec<&str> = self.lines.iter().filter_map(|line| line.undo.changed()).collect();
        if !changed.is_empty() {
            return Some(format!("the cluster was changed since: {}", changed.join("; ")));
        }
        self.allow.is_empty().then(|| "there is nothing that could be put back".to_string())
    }
}

impl Undo {
    fn changed(&self) -> Option<&str> {
        match self {
            Undo::Changed(why) => Some(why),
            _ => None,
        }
    }
}

/// The cluster as it is now; what the plan does is done to it as the plan is made.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub services: Vec<Service>,
    pub nodes: Vec<Node>,
    pub groups: BTreeMap<String, NodeGroup>,
}

/// The undo of a run with these steps.
pub fn plan(run: RunId, steps: &[Step], cluster: Cluster) -> Plan {
    let mut writer = Writer { cluster, first: Vec::new(), body: String::new(), allow: Vec::new() };
    writer.first = steps.iter().filter(|step| step.had_effect()).filter_map(|step| step.intent.as_ref()).collect();
    let mut lines = Vec::new();
    for step in steps.iter().rev().filter(|step| step.had_effect()) {
        let Some(intent) = &step.intent else { continue };
        let did = intent.to_string();
        let _ = writeln!(writer.body, "\n    // Step {} of {run}: {}", step.seq, one_line(&did));
        let undo = writer.undo(step, intent);
        lines.push(Line { seq: step.seq, did, undo });
    }
    let source = format!("//! Puts back what run {run} did.\n\nfn on_event(event, params) {{{}}}\n", writer.body);
    Plan { lines, source, allow: writer.allow }
}

/// The rule that a run goes by: the one in force by its name; for an undo, what its plan says.
pub fn in_force(run: &Run, found: Option<&Arc<Rule>>) -> Option<Arc<Rule>> {
    match run.undoes {
        Some(_) => Some(Arc::new(rule(run, found.map(|rule| &**rule)))),
        None => found.cloned(),
    }
}

/// What the run of an undo may do: what the run that it undoes did, turned round, on those targets only. The bounds are those of the rule in force, and what
/// freezes that rule freezes its undo.
fn rule(run: &Run, in_force: Option<&Rule>) -> Rule {
    let allow: Vec<(String, String)> = serde_json::from_value(run.input.params["allow"].clone()).unwrap_or_default();
    let grants = allow
        .into_iter()
        .filter_map(|(primitive, target)| Some(Grant { primitive, target: Template::exact(&target)? }));
    Rule {
        allow: grants.collect(),
        replicas: in_force.and_then(|rule| rule.replicas),
        at_once: in_force.map(|rule| rule.at_once).unwrap_or_default(),
        tags: in_force.map(|rule| rule.tags.clone()).unwrap_or_default(),
        freeze: in_force.map(|rule| rule.freeze.clone()).unwrap_or_default(),
        ..Rule::matching(&run.rule, Vec::new())
    }
}

struct Writer<'a> {
    cluster: Cluster,
    /// What the run did, in order: what it found is what its first step on a target found.
    first: Vec<&'a Intent>,
    body: String,
    allow: Vec<(String, String)>,
}

impl Writer<'_> {
    fn undo(&mut self, step: &Step, intent: &Intent) -> Undo {
        match intent {
            Intent::Services(all) => match all.as_slice() {
                [one] => self.service(one),
                // Only `reschedule` is about several.
                _ => Undo::Cannot("tasks that were replaced do not come back".to_string()),
            },
            Intent::Node(node) => self.node(node),
            Intent::Group(group) => self.group(step, group),
            Intent::Reload { .. } => Undo::Cannot("a reload has no inverse".to_string()),
            Intent::Silence(_) => Undo::Cannot("a silence ends by itself, or is expired in Alertmanager".to_string()),
            Intent::Job(_) => Undo::Cannot("what a job did is not known here".to_string()),
            Intent::Post { .. } => Undo::Cannot("what was sent cannot be taken back".to_string()),
            Intent::Message { .. } | Intent::Until { .. } => Undo::AsBefore("it changed nothing".to_string()),
        }
    }

    fn service(&mut self, intent: &ServiceIntent) -> Undo {
        let name = &intent.service;
        let Some(at) = self.cluster.services.iter().position(|service| service.name == *name) else {
            return Undo::Changed(format!("the service {name} is no longer there"));
        };
        let service = self.cluster.services[at].clone();
        if service.id != intent.id {
            return Undo::Changed(format!("the service {name} was removed and made anew"));
        }
        match &intent.change {
            ServiceChange::Scale { from, to } => self.scale(at, &service, *from, *to),
            ServiceChange::Update { from, to } => self.update(at, &service, from, to),
            ServiceChange::Rollback { from, to } => self.rollback(at, &service, from, to),
            ServiceChange::Restart { .. } => Undo::Cannot("tasks that were replaced do not come back".to_string()),
        }
    }

    fn scale(&mut self, at: usize, service: &Service, from: u64, to: u64) -> Undo {
        let name = &service.name;
        let found = self.first.iter().find_map(|intent| match intent {
            Intent::Services(all) => all.iter().find_map(|one| match one.change {
                ServiceChange::Scale { from, .. } if one.id == service.id => Some(from),
                _ => None,
            }),
            _ => None,
        });
        if service.replicas == from || found == Some(service.replicas) {
            return Undo::AsBefore(format!("{name} has {} replicas", service.replicas));
        }
        if service.replicas != to {
            let now = service.replicas;
            return Undo::Changed(format!("{name} has {now} replicas, not the {to} that the run set"));
        }
        self.cluster.services[at].replicas = from;
        self.read_service(name);
        self.demand(&format!("found.replicas == {to}"), &format!("{name} no longer has {to} replicas"));
        let _ = writeln!(self.body, "    scale({}, {from});", quoted(name));
        self.allow("scale", name);
        Undo::Does(format!("{name}: {to} → {from} replicas"))
    }

    fn update(&mut self, at: usize, service: &Service, from: &SpecFields, to: &SpecFields) -> Undo {
        let name = &service.name;
        if !to.env.is_empty() {
            let names: Vec<&str> = to.env.keys().map(String::as_str).collect();
            let names = names.join(", ");
            return Undo::Cannot(format!(
                "it set {names} of {name}, whose values before are not recorded: they may be secrets"
            ));
        }
        // The counter only goes up, and tasks that were replaced do not come back; the fields beside it can.
        let (from, to) =
            (SpecFields { force_update: None, ..from.clone() }, SpecFields { force_update: None, ..to.clone() });
        if to == SpecFields::default() {
            return Undo::Cannot("tasks that were replaced do not come back".to_string());
        }
        let back = back(&from, &to);
        let seen = without_absent_limits(service);
        if fields_hold(&back, &seen) {
            return Undo::AsBefore(format!("{name} is as it was before the update"));
        }
        if !fields_hold(&to, &seen) {
            return Undo::Changed(format!("{name} is no longer as the run's update left it"));
        }
        self.read_service(name);
        let mut said = Vec::new();
        if let Some(image) = &back.image {
            let now = service.image.clone();
            self.demand(&format!("found.image == {}", quoted(&now)), &format!("{name} no longer runs the image {now}"));
            said.push(format!("image {now} → {image}"));
            self.cluster.services[at].image.clone_from(image);
        }
        for (label, value) in &back.labels {
            let now = to.labels.get(label).cloned().flatten();
            let is = now.as_deref().map_or("()".to_string(), quoted);
            self.demand(
                &format!("found.labels.get({}) == {is}", quoted(label)),
                &format!("the label {label} of {name} is no longer as the run set it"),
            );
            said.push(match value {
                Some(value) => format!("label {label}={value}"),
                None => format!("without the label {label}"),
            });
            let labels = &mut self.cluster.services[at].labels;
            *labels = labels
                .iter()
                .filter(|(known, _)| *known != label.as_str())
                .chain(value.iter().map(|value| (label.as_str(), value.as_str())))
                .collect();
        }
        if let Some(limits) = &back.limits {
            said.push("the limits of before".to_string());
            let known = &mut self.cluster.services[at].limits;
            known.nano_cpus = limits.nano_cpus.or(known.nano_cpus);
            known.memory_bytes = limits.memory_bytes.or(known.memory_bytes);
        }
        let _ = writeln!(self.body, "    update({}, {});", quoted(name), fields(&back));
        self.allow("update", name);
        Undo::Does(format!("{name}: {}", said.join(", ")))
    }

    fn rollback(&mut self, at: usize, service: &Service, from: &str, to: &str) -> Undo {
        let name = &service.name;
        if service.template_hash == from {
            return Undo::AsBefore(format!("{name} runs the task template of before"));
        }
        if service.template_hash != to || service.previous_template_hash.as_deref() != Some(from) {
            return Undo::Changed(format!(
                "{name} was changed after the rollback, so that another would not lead back"
            ));
        }
        let changed = &mut self.cluster.services[at];
        changed.template_hash = from.to_string();
        changed.previous_template_hash = Some(to.to_string());
        self.read_service(name);
        let condition =
            format!("found.template_hash == {} && found.previous_template_hash == {}", quoted(to), quoted(from));
        self.demand(&condition, &format!("{name} was changed after the rollback"));
        let _ = writeln!(self.body, "    rollback({});", quoted(name));
        self.allow("rollback", name);
        Undo::Does(format!("{name}: back to the task template {}", &from[..from.len().min(8)]))
    }

    fn node(&mut self, intent: &NodeIntent) -> Undo {
        let name = &intent.node;
        let Some(at) = self.cluster.nodes.iter().position(|node| node.id == intent.id) else {
            return Undo::Changed(format!("the node {name} is no longer in the Swarm"));
        };
        let node = &mut self.cluster.nodes[at];
        let (field, from, to, now) = match &intent.change {
            NodeChange::Availability { from, to } => ("availability", from, to, &mut node.availability),
            NodeChange::Role { from, to } => ("role", from, to, &mut node.role),
            NodeChange::Remove => return Undo::Cannot("a node that was removed joins anew, or not at all".to_string()),
        };
        let found = self.first.iter().find_map(|known| match known {
            Intent::Node(first) if first.id == intent.id => match &first.change {
                NodeChange::Availability { from, .. } if field == "availability" => Some(from),
                NodeChange::Role { from, .. } if field == "role" => Some(from),
                _ => None,
            },
            _ => None,
        });
        if now == from || found == Some(&*now) {
            return Undo::AsBefore(format!("the {field} of node {name} is {now}"));
        }
        if now != to {
            return Undo::Changed(format!("the {field} of node {name} is {now}, not {to} as the run set it"));
        }
        let primitive = match from.as_str() {
            "active" => "activate",
            "drain" => "drain",
            "manager" => "promote",
            "worker" => "demote",
            other => return Undo::Cannot(format!("no primitive makes the {field} of a node {other}")),
        };
        now.clone_from(from);
        let (id, value) = (quoted(&intent.id), quoted(to));
        self.demand(
            &format!("nodes().some(|node| node.id == {id} && node.{field} == {value})"),
            &format!("the {field} of node {name} is no longer {to}"),
        );
        let _ = writeln!(self.body, "    {primitive}({});", quoted(name));
        self.allow(primitive, name);
        Undo::Does(format!("node {name}: {field} {to} → {from}"))
    }

    /// Machines that were added are drained and end, if it is known which they are.
    fn group(&mut self, step: &Step, intent: &GroupIntent) -> Undo {
        let name = &intent.group;
        let GroupChange::Resize { from, to } = intent.change else {
            return Undo::Cannot("a machine that ended does not come back; add_node starts another".to_string());
        };
        let Some(group) = self.cluster.groups.get(name).cloned() else {
            return Undo::Changed(format!("the group {name} is no longer there"));
        };
        if group.desired == from {
            return Undo::AsBefore(format!("{name} has {from} machines"));
        }
        if group.desired != to {
            let now = group.desired;
            return Undo::Changed(format!("{name} has {now} machines, not the {to} that the run asked for"));
        }
        let before = step.before.as_ref().and_then(|before| before["instances"].as_array());
        let Some(before) = before else {
            return Undo::Cannot(format!("it is not recorded which machines {name} had before"));
        };
        let added: Vec<_> = group.instances.iter().filter(|one| !before.iter().any(|id| *id == *one.id)).collect();
        let nodes: Option<Vec<String>> = added.iter().map(|instance| instance.node.clone()).collect();
        let Some(nodes) = nodes.filter(|nodes| nodes.len() as u64 == to.saturating_sub(from)) else {
            return Undo::Cannot(format!("not all machines that {name} was given are nodes of the Swarm yet"));
        };
        let name_literal = quoted(name);
        for node in &nodes {
            let node_literal = quoted(node);
            let _ = writeln!(self.body, "    drain({node_literal});");
            let _ = writeln!(
                self.body,
                "    wait_until(\"{MOVED_WITHIN}\", || nodes().some(|node| node.name == {node_literal} && node.running == 0));"
            );
            let _ = writeln!(self.body, "    remove_node({name_literal}, {node_literal});");
            self.allow("drain", node);
        }
        self.allow("remove_node", name);
        if let Some(group) = self.cluster.groups.get_mut(name) {
            group.desired = from;
        }
        Undo::Does(format!("{name}: {to} → {from} machines; {} drained and removed", nodes.join(", ")))
    }

    fn read_service(&mut self, name: &str) {
        let _ = writeln!(self.body, "    let found = service({});", quoted(name));
    }

    /// The last look before the change: the plan may have been made a while ago.
    fn demand(&mut self, condition: &str, otherwise: &str) {
        let _ = writeln!(
            self.body,
            "    if !({condition}) {{ fail({}); }}",
            quoted(&format!("{otherwise}: it was changed since"))
        );
    }

    fn allow(&mut self, primitive: &str, target: &str) {
        let grant = (primitive.to_string(), target.to_string());
        if !self.allow.contains(&grant) {
            self.allow.push(grant);
        }
    }
}

/// A limit that is not there is none, which `update` writes as 0.
fn without_absent_limits(service: &Service) -> Service {
    let Limits { nano_cpus, memory_bytes } = service.limits;
    let limits = Limits { nano_cpus: nano_cpus.or(Some(0)), memory_bytes: memory_bytes.or(Some(0)) };
    Service { limits, ..service.clone() }
}

/// What sets the fields of `to` back to what `from` recorded.
fn back(from: &SpecFields, to: &SpecFields) -> SpecFields {
    let limit = |set: Option<i64>, before: Option<i64>| set.map(|_| before.unwrap_or(0));
    let before = from.limits.clone().unwrap_or_default();
    SpecFields {
        image: to.image.as_ref().and(from.image.clone()),
        labels: to.labels.keys().map(|name| (name.clone(), from.labels.get(name).cloned().flatten())).collect(),
        limits: to.limits.as_ref().map(|set| Limits {
            nano_cpus: limit(set.nano_cpus, before.nano_cpus),
            memory_bytes: limit(set.memory_bytes, before.memory_bytes),
        }),
        ..SpecFields::default()
    }
}

/// The second argument of `update`.
fn fields(back: &SpecFields) -> String {
    let mut parts = Vec::new();
    parts.extend(back.image.as_ref().map(|image| format!("image: {}", quoted(image))));
    if !back.labels.is_empty() {
        let labels = back
            .labels
            .iter()
            .map(|(name, value)| format!("{}: {}", quoted(name), value.as_deref().map_or("()".to_string(), quoted)));
        parts.push(format!("labels: #{{ {} }}", labels.collect::<Vec<_>>().join(", ")));
    }
    if let Some(limits) = &back.limits {
        let named = [("nano_cpus", limits.nano_cpus), ("memory_bytes", limits.memory_bytes)];
        let limits = named.into_iter().filter_map(|(name, value)| Some(format!("{name}: {}", value?)));
        parts.push(format!("limits: #{{ {} }}", limits.collect::<Vec<_>>().join(", ")));
    }
    format!("#{{ {} }}", parts.join(", "))
}

/// A literal of the script language.
fn quoted(text: &str) -> String {
    let mut literal = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => literal.extend(['\\', c]),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            '\t' => literal.push_str("\\t"),
            c if c.is_control() => drop(write!(literal, "\\u{:04x}", u32::from(c))),
            c => literal.push(c),
        }
    }
    literal + "\""
}

/// A comment ends with its line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
