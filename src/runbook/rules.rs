//! The file format of rules: `rules/*.yaml` → [`Rule`]. Strict: what is unknown or out of bounds is an error with its place and how to mend it. What needs
//! the runbooks to judge is left to `catalog`.

mod events;
mod guards;
mod mode;
mod verify;

use super::document::{Node, Place, Value};
use super::primitives;
use crate::model::diagnostic::{Diagnostic, nearest};
use crate::model::duration::Duration;
use crate::model::event::On;
use crate::model::matcher::Matcher;
use crate::model::rule::{Grant, Rule};
use crate::model::template::Template;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Every code of a finding about a rule, with what it means.
pub const CODES: &[(&str, &str)] = &[
    ("rule_yaml", "the file is no valid YAML"),
    ("rule_unknown_key", "there is no such key"),
    ("rule_missing_key", "a key that must be there is not"),
    ("rule_type", "a value is of the wrong kind"),
    ("rule_value", "a value is malformed or out of bounds"),
    ("rule_duplicate_name", "two rules have one name"),
    ("rule_match_empty", "a rule that matches everything must say so"),
    ("rule_matcher", "a matcher cannot be read"),
    ("rule_duplicate", "a list names something twice"),
    ("rule_template", "a template is malformed"),
    ("rule_template_label", "a template uses a label that is not in `by`"),
    ("rule_promql", "an expression of PromQL is malformed, or a template stands where it must not"),
    ("rule_no_prometheus", "the rule asks Prometheus, and the configuration does not say where that is"),
    ("rule_unknown_primitive", "a grant names no primitive"),
    ("rule_no_grant", "a warning: the runbook calls what `allow` does not grant"),
    ("rule_approvers", "fewer people may approve than are wanted"),
    ("rule_past_freeze", "a warning: a freeze is over for good"),
    ("rule_needless_grant", "a grant names a primitive that needs none"),
    ("rule_without_runbook", "a key makes no sense without `runbook`"),
    ("rule_unknown_runbook", "there is no such runbook"),
    ("rule_no_handler", "the runbook has no handler for what the rule asks of it"),
    ("rule_unknown_param", "the runbook declares no such parameter"),
    ("rule_param_type", "a parameter is of another type than the runbook declares"),
    ("rule_unknown_target", "the configuration has no such reload target"),
    ("rule_unreachable", "an earlier rule takes every alert of this one"),
];

/// A rule with where its parts stand, for findings that need more than its file.
#[derive(Clone, Debug)]
pub struct Written {
    pub rule: Arc<Rule>,
    pub places: Places,
}

#[derive(Clone, Debug, Default)]
pub struct Places {
    pub name: Place,
    pub runbook: Place,
    /// Key and value of each parameter.
    pub params: BTreeMap<String, (Place, Place)>,
    /// The target of each grant, in order.
    pub allow: Vec<Place>,
    /// The key `allow`; where there is none, the runbook.
    pub grants: Place,
    /// `approve.people`; where it is not written, `approve`.
    pub approvers: Place,
    /// The windows of `guards.freeze`, in order.
    pub freeze: Vec<Place>,
    /// The expression of `verify.promql`.
    pub promql: Place,
    /// `verify.within`, where the runbook is to say what is expected.
    pub runbook_verifies: Option<Place>,
}

const RULE_KEYS: &[&str] = &[
    "name",
    "on",
    "schedule",
    "match",
    "by",
    "tags",
    "runbook",
    "params",
    "mode",
    "approve",
    "earned_after",
    "allow",
    "guards",
    "attempts",
    "retry_after",
    "verify",
    "escalate",
    "continue",
    "own",
];

const DAY: u64 = 24 * 3600;

/// Reads one file. Good rules are returned beside the findings of bad ones, so that one look finds everything.
pub fn read(file: &str, text: &str) -> (Vec<Written>, Vec<Diagnostic>) {
    let mut reader = Reader { file, text, found: Vec::new() };
    let rules = match Node::parse(file, text) {
        Ok(root) => reader.rules(&root),
        Err(finding) => {
            reader.found.push(*finding);
            Vec::new()
        }
    };
    (rules, reader.found)
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    found: Vec<Diagnostic>,
}

/// The entries of a map whose keys are known.
#[derive(Default)]
struct Fields<'n> {
    known: BTreeMap<&'n str, (Place, &'n Node)>,
    /// The keys that misspelt ones were taken for: they are not missing as well.
    meant: Vec<String>,
}

impl<'n> Fields<'n> {
    /// The value of a key; an explicit nothing counts as absent.
    fn get(&self, key: &str) -> Option<&'n Node> {
        self.known.get(key).map(|(_, node)| *node).filter(|node| !matches!(node.value, Value::Null))
    }

    fn place(&self, key: &str) -> Option<Place> {
        self.known.get(key).map(|(place, _)| *place)
    }
}

impl Reader<'_> {
    fn error(&mut self, code: &str, place: Place, message: impl Into<String>) -> &mut Diagnostic {
        debug_assert!(CODES.iter().any(|(known, _)| *known == code), "unlisted code {code}");
        let finding = Diagnostic::error(code, self.file, message);
        self.found.push(finding.at(self.text, place.line, place.column, place.length));
        self.found.last_mut().expect("just pushed")
    }

    fn rules(&mut self, root: &Node) -> Vec<Written> {
        if matches!(root.value, Value::Null) {
            self.error("rule_missing_key", root.place, "the file has no `rules`").help =
                Some("write `rules: []` for a file without rules".to_string());
            return Vec::new();
        }
        let Some(fields) = self.fields(root, "a file of rules", &["rules"]) else { return Vec::new() };
        let help = "write `rules: []` for a file without rules";
        let Some(list) = self.required(&fields, root.place, "the file", "rules", help) else { return Vec::new() };
        let Some(list) = self.list(list, "`rules`") else { return Vec::new() };
        list.iter().filter_map(|node| self.rule(node)).collect()
    }

    /// One rule. `None` when anything in it is wrong: a rule is never taken in part.
    fn rule(&mut self, node: &Node) -> Option<Written> {
        let before = self.found.len();
        let fields = self.fields(node, "a rule", RULE_KEYS)?;
        let mut places = Places { name: node.place, ..Places::default() };
        let help = "incidents, budgets and messages go by it";
        let name = self.required(&fields, node.place, "the rule", "name", help).and_then(|name| {
            places.name = name.place;
            self.name(name)
        });
        let mut rule = Rule::matching(name.as_deref().unwrap_or_default(), Vec::new());
        rule.place = format!("{}:{}", self.file, node.place.line);
        self.on(&fields, node.place, &mut rule);
        rule.matchers.extend(self.matchers(&fields, node.place, rule.on));
        rule.by = fields.get("by").map(|by| self.by(by)).unwrap_or_default();
        rule.tags = fields.get("tags").map(|tags| self.tags(tags)).unwrap_or_default();
        self.runbook(&fields, &mut rule, &mut places);
        self.mode(&fields, &mut rule, &mut places);
        if let Some(guards) = fields.get("guards") {
            self.guards(guards, &mut rule, &mut places);
        }
        let retry_after = fields.get("retry_after").and_then(|node| self.duration(node, "`retry_after`", 0, DAY));
        rule.retry_after = retry_after.unwrap_or(rule.retry_after);
        match fields.get("verify") {
            Some(verify) if rule.on.is_some() => {
                self.error(
                    "rule_value",
                    verify.place,
                    "an event has nothing that could resolve: `verify` is for alerts",
                )
                .help = Some("wait for what must become true within the runbook, as with wait_healthy".to_string());
            }
            Some(verify) => self.verify(verify, &mut rule, &mut places),
            None => {}
        }
        if let Some(escalate) = fields.get("escalate") {
            self.escalate(escalate, &mut rule);
        }
        rule.goes_on = fields.get("continue").and_then(|node| self.bool(node, "`continue`")).unwrap_or(false);
        (self.found.len() == before).then(|| Written { rule: Arc::new(rule), places })
    }

    fn name(&mut self, node: &Node) -> Option<String> {
        let name = self.text(node, "`name`")?;
        self.plain(node, name, "name of a rule")
    }

    /// What people type on a command line.
    fn plain(&mut self, node: &Node, name: String, what: &str) -> Option<String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if name.chars().all(plain) && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= 100 {
            return Some(name);
        }
        self.error("rule_value", node.place, format!("{name:?} is no {what}")).help = Some(
            "use at most 100 ASCII letters, digits, `-`, `_` and `.`, beginning with a letter or digit".to_string(),
        );
        None
    }

    fn matchers(&mut self, fields: &Fields, at: Place, on: Option<On>) -> Vec<Matcher> {
        if on == Some(On::Schedule) && fields.get("match").is_none() {
            return Vec::new();
        }
        let empty = match on {
            None => "write at least one matcher; one for every alert is 'alertname =~ \".+\"'",
            Some(_) => "write at least one matcher; one for every event is 'event =~ \".+\"'",
        };
        let Some(node) = self.required(fields, at, "the rule", "match", empty) else { return Vec::new() };
        let Some(list) = self.list(node, "`match`") else { return Vec::new() };
        if list.is_empty() {
            let what = if on.is_some() { "event" } else { "alert" };
            self.error("rule_match_empty", node.place, format!("a rule without matchers would take every {what}"))
                .help = Some(empty.to_string());
        }
        list.iter().filter_map(|node| self.matcher(node)).collect()
    }

    fn matcher(&mut self, node: &Node) -> Option<Matcher> {
        let text = self.text(node, "a matcher")?;
        Matcher::parse(&text)
            .map_err(|error| {
                let place = node.place.within(self.text, &text, error.at, error.length);
                self.error("rule_matcher", place, error.message);
            })
            .ok()
    }

    fn by(&mut self, node: &Node) -> Vec<String> {
        let mut labels: Vec<String> = Vec::new();
        for node in self.list(node, "`by`").unwrap_or_default() {
            let Some(label) = self.text(node, "a label in `by`") else { continue };
            if label.is_empty() {
                self.error("rule_value", node.place, "a label name cannot be empty");
            } else if labels.contains(&label) {
                self.error("rule_duplicate", node.place, format!("`by` names {label:?} twice"));
            } else {
                labels.push(label);
            }
        }
        labels
    }

    fn tags(&mut self, node: &Node) -> Vec<String> {
        let mut tags: Vec<String> = Vec::new();
        for node in self.list(node, "`tags`").unwrap_or_default() {
            let Some(tag) = self.text(node, "a tag").and_then(|tag| self.plain(node, tag, "tag")) else { continue };
            if tags.contains(&tag) {
                self.error("rule_duplicate", node.place, format!("`tags` names {tag:?} twice"));
            } else {
                tags.push(tag);
            }
        }
        tags
    }

    fn runbook(&mut self, fields: &Fields, rule: &mut Rule, places: &mut Places) {
        let Some(node) = fields.get("runbook") else {
            for key in ["params", "approve", "earned_after", "allow", "attempts", "retry_after"] {
                if let Some(place) = fields.place(key) {
                    self.error(
                        "rule_without_runbook",
                        place,
                        format!("`{key}` makes no sense in a rule without a runbook"),
                    )
                    .help = Some(
                        "a rule without `runbook` hands over to people at once; name a runbook, or remove the key"
                            .to_string(),
                    );
                }
            }
            return;
        };
        places.runbook = node.place;
        places.grants = fields.place("allow").unwrap_or(node.place);
        rule.runbook = self.text(node, "`runbook`").and_then(|name| match name.strip_suffix(".rhai") {
            None => Some(name),
            Some(stem) => {
                let help = format!("write `runbook: {stem}`");
                self.error("rule_value", node.place, "a runbook is named without its `.rhai`").help = Some(help);
                None
            }
        });
        if let Some(params) = fields.get("params") {
            for (key, value) in self.map(params, "`params`").unwrap_or_default() {
                rule.params.insert(key.name.clone(), value.json());
                places.params.insert(key.name.clone(), (key.place, value.place));
            }
        }
        if let Some(allow) = fields.get("allow") {
            for node in self.list(allow, "`allow`").unwrap_or_default() {
                let Some(grant) = self.grant(node, &rule.by, places) else { continue };
                if rule.allow.contains(&grant) {
                    self.error("rule_duplicate", node.place, "`allow` grants this twice");
                }
                rule.allow.push(grant);
            }
        }
        rule.attempts =
            fields.get("attempts").and_then(|node| self.whole(node, "`attempts`", 1..=10)).unwrap_or(1) as u32;
    }

    /// `scale: "{{ service }}"`.
    fn grant(&mut self, node: &Node, by: &[String], places: &mut Places) -> Option<Grant> {
        let entries = self.map(node, "a grant")?;
        let [(key, target)] = entries else {
            let message = format!("a grant is one primitive and its target, found {} keys", entries.len());
            self.error("rule_value", node.place, message).help =
                Some("write each as an entry of its own: - scale: \"web\"".to_string());
            return None;
        };
        let mutating = || primitives::PRIMITIVES.iter().filter(|one| one.class.mutates()).map(|one| one.name);
        match primitives::find(&key.name) {
            Some(primitive) if primitive.class.mutates() => {}
            Some(_) => {
                self.error(
                    "rule_needless_grant",
                    key.place,
                    format!("`{}` changes nothing and needs no grant", key.name),
                )
                .help = Some("remove this entry".to_string());
                return None;
            }
            None => {
                let help = match nearest(&key.name, mutating()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("what can be granted: {}", mutating().collect::<Vec<_>>().join(", ")),
                };
                self.error("rule_unknown_primitive", key.place, format!("there is no primitive `{}`", key.name)).help =
                    Some(help);
                return None;
            }
        }
        let text = self.text(target, &format!("the target of `{}`", key.name))?;
        let template = match Template::parse(&text) {
            Ok(template) => template,
            Err(message) => {
                self.error("rule_template", target.place, message);
                return None;
            }
        };
        if let Some(label) = self.foreign(template.labels(), by) {
            self.not_in_by(target.place, &label);
            return None;
        }
        places.allow.push(target.place);
        Some(Grant { primitive: key.name.clone(), target: template })
    }

    /// The first label that is not in `by`, where there is one.
    fn foreign<'l>(&self, mut labels: impl Iterator<Item = &'l str>, by: &[String]) -> Option<String> {
        labels.find(|label| !by.is_empty() && !by.iter().any(|known| known == label)).map(str::to_string)
    }

    fn not_in_by(&mut self, place: Place, label: &str) {
        let message = format!("the template uses the label {label:?}, which is not in `by`");
        let help = "the alerts of one incident share only their `by` labels: add it there, or use one of them";
        self.error("rule_template_label", place, message).help = Some(help.to_string());
    }

    fn escalate(&mut self, node: &Node, rule: &mut Rule) {
        let Some(fields) = self.fields(node, "`escalate`", &["channel", "severity"]) else { return };
        let mut text = |key: &str| {
            let node = fields.get(key)?;
            let text = self.text(node, &format!("`{key}`"))?;
            if text.trim().is_empty() {
                self.error("rule_value", node.place, format!("`{key}` is empty"));
            }
            Some(text)
        };
        rule.channel = text("channel");
        rule.severity = text("severity").or(rule.severity.take());
    }
}

/// Values of each kind, with the finding when they are of another.
impl Reader<'_> {
    fn wrong_type(&mut self, node: &Node, what: &str, expected: &str) -> &mut Diagnostic {
        self.error("rule_type", node.place, format!("{what} must be {expected}, found {}", node.kind()))
    }

    fn fields<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Option<Fields<'n>> {
        let mut fields = Fields::default();
        for (key, value) in self.map(node, what)? {
            if known.contains(&key.name.as_str()) {
                fields.known.insert(key.name.as_str(), (key.place, value));
                continue;
            }
            let near = nearest(&key.name, known.iter().copied());
            fields.meant.extend(near.map(str::to_string));
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", known.join(", ")),
            };
            self.error("rule_unknown_key", key.place, format!("{what} has no key `{}`", key.name)).help = Some(help);
        }
        Some(fields)
    }

    fn required<'n>(&mut self, fields: &Fields<'n>, at: Place, what: &str, key: &str, help: &str) -> Option<&'n Node> {
        let node = fields.get(key);
        if node.is_none() && !fields.meant.iter().any(|meant| meant == key) {
            let place = fields.place(key).unwrap_or(Place { length: 1, ..at });
            self.error("rule_missing_key", place, format!("{what} has no `{key}`")).help = Some(help.to_string());
        }
        node
    }

    fn map<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [(super::document::Key, Node)]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            _ => {
                self.wrong_type(node, what, "a map of keys and values");
                None
            }
        }
    }

    fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        match &node.value {
            Value::List(all) => Some(all),
            Value::Text(text) => {
                let quoted = if text.contains(['"', '\'']) { "…" } else { text };
                self.wrong_type(node, what, "a list").help = Some(format!("write [{quoted}]"));
                None
            }
            _ => {
                self.wrong_type(node, what, "a list");
                None
            }
        }
    }

    fn text(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                self.wrong_type(node, what, "text").help = Some("put it in quotes".to_string());
                None
            }
            _ => {
                self.wrong_type(node, what, "text");
                None
            }
        }
    }

    fn bool(&mut self, node: &Node, what: &str) -> Option<bool> {
        match node.value {
            Value::Bool(value) => Some(value),
            _ => {
                self.wrong_type(node, what, "true or false");
                None
            }
        }
    }

    fn whole(&mut self, node: &Node, what: &str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let Value::Int(value) = node.value else {
            let digits = matches!(&node.value, Value::Text(text) if text.parse::<u64>().is_ok());
            self.wrong_type(node, what, "a whole number").help = digits.then(|| "remove the quotes".to_string());
            return None;
        };
        let value = u64::try_from(value).ok().filter(|value| bounds.contains(value));
        if value.is_none() {
            self.error("rule_value", node.place, format!("{what} is out of bounds")).help =
                Some(format!("between {} and {}", bounds.start(), bounds.end()));
        }
        value
    }

    /// Bounds in seconds.
    fn duration(&mut self, node: &Node, what: &str, least: u64, most: u64) -> Option<Duration> {
        let text = match &node.value {
            Value::Int(0) => "0".to_string(),
            Value::Int(number) => {
                let help = format!("write {number}s for seconds, {number}m for minutes");
                self.error("rule_value", node.place, format!("{what} needs a unit")).help = Some(help);
                return None;
            }
            _ => self.text(node, what)?,
        };
        match Duration::parse(&text) {
            Ok(value) if (least * 1_000..=most * 1_000).contains(&value.millis) => Some(value),
            Ok(_) => {
                let help = format!("between {} and {}", Duration::from_secs(least), Duration::from_secs(most));
                self.error("rule_value", node.place, format!("{what} is out of bounds")).help = Some(help);
                None
            }
            Err(message) => {
                self.error("rule_value", node.place, message);
                None
            }
        }
    }
}

/// Rules that no alert can reach, because an earlier one without `continue` asks for the same or for less, in the same words.
/// Each with the one that is in its way; both as positions.
pub fn unreachable(rules: &[&Rule]) -> Vec<(usize, usize)> {
    let words: Vec<BTreeSet<String>> = rules
        .iter()
        .map(|rule| {
            // What it listens to says as much as a matcher.
            let on = rule.on.map(|on| format!("on {on}"));
            rule.matchers.iter().map(ToString::to_string).chain(on).collect()
        })
        .collect();
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for word in words.iter().flatten() {
        *uses.entry(word).or_default() += 1;
    }
    // Filed under its rarest matcher, an earlier rule is met only by rules that share that one: no quadratic work for a thousand rules on one alert.
    let mut earlier: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut found = Vec::new();
    for (at, mine) in words.iter().enumerate() {
        let in_the_way = mine
            .iter()
            .filter_map(|word| earlier.get(word.as_str()))
            .flatten()
            .copied()
            .filter(|other| words[*other].is_subset(mine) && rules[*other].on == rules[at].on)
            .filter(|other| rules[*other].own || !rules[at].own)
            .min();
        if let Some(other) = in_the_way {
            found.push((at, other));
        } else if !rules[at].goes_on
            && let Some(rarest) = mine.iter().min_by_key(|word| uses[word.as_str()])
        {
            earlier.entry(rarest).or_default().push(at);
        }
    }
    found
}
