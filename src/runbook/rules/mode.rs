//! The part of a rule about how far it may go by itself: `mode`, `approve`, `earned_after`.

use super::{DAY, Fields, Places, Reader};
use crate::model::diagnostic::nearest;
use crate::model::mode::{Mode, Then};
use crate::model::rule::Rule;

const APPROVE_KEYS: &[&str] = &["by", "people", "within", "then"];

impl Reader<'_> {
    pub(super) fn mode(&mut self, fields: &Fields, rule: &mut Rule, places: &mut Places) {
        if let Some(node) = fields.get("mode")
            && let Some(text) = self.text(node, "`mode`")
        {
            let known = || Mode::ALL.into_iter().map(Mode::name);
            match Mode::ALL.into_iter().find(|mode| mode.name() == text) {
                Some(mode) => rule.mode = mode,
                None => {
                    let help = match nearest(&text, known()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("there are: {}", known().collect::<Vec<_>>().join(", ")),
                    };
                    self.error("rule_value", node.place, format!("{text:?} is no value of `mode`")).help = Some(help);
                }
            }
        }
        if let Some(node) = fields.get("approve")
            && let Some(fields) = self.fields(node, "`approve`", APPROVE_KEYS)
        {
            places.approvers = fields.get("people").map_or(node.place, |people| people.place);
            self.approvers(&fields, rule);
        }
        if let Some(node) = fields.get("earned_after") {
            let runs = self.whole(node, "`earned_after`", 1..=1_000);
            rule.earned_after = runs.map_or(rule.earned_after, |runs| runs as u32);
            if rule.mode != Mode::Earned {
                self.error("rule_value", node.place, "`earned_after` is for rules that say `mode: earned`").help =
                    Some("add `mode: earned`, or remove it".to_string());
            }
        }
    }

    fn approvers(&mut self, fields: &Fields, rule: &mut Rule) {
        if let Some(node) = fields.get("by") {
            for node in self.list(node, "`by`").unwrap_or_default() {
                let Some(name) = self.text(node, "a name in `by`") else { continue };
                if name.trim().is_empty() {
                    self.error("rule_value", node.place, "the name of a person or group cannot be empty");
                } else if rule.approve.by.contains(&name) {
                    self.error("rule_duplicate", node.place, format!("`by` names {name:?} twice"));
                } else {
                    rule.approve.by.push(name);
                }
            }
        }
        let people = fields.get("people").and_then(|node| self.whole(node, "`people`", 1..=10));
        rule.approve.people = people.map_or(rule.approve.people, |people| people as u32);
        let within = fields.get("within").and_then(|node| self.duration(node, "`within`", 1, 7 * DAY));
        rule.approve.within = within.unwrap_or(rule.approve.within);
        if let Some(node) = fields.get("then")
            && let Some(text) = self.text(node, "`then`")
        {
            match &*text {
                "escalate" => rule.approve.then = Then::Escalate,
                "run" => rule.approve.then = Then::Run,
                _ => {
                    let message = format!("{text:?} is not what becomes of an approval that nobody gave");
                    self.error("rule_value", node.place, message).help = Some(
                        "write `escalate` (a person takes over, the default), or `run` (people had the time to say no)"
                            .to_string(),
                    );
                }
            }
        }
    }
}
