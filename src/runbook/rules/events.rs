//! What a rule listens to: `on`, `own` and `schedule`.

use super::{Fields, Reader};
use crate::model::diagnostic::nearest;
use crate::model::event::On;
use crate::model::matcher::{Matcher, Op};
use crate::model::rule::Rule;
use crate::model::schedule::Schedule;
use crate::runbook::document::Place;

impl Reader<'_> {
    /// What a rule listens to: alerts, unless it says otherwise.
    pub(super) fn on(&mut self, fields: &Fields, at: Place, rule: &mut Rule) {
        let known = || On::ALL.into_iter().map(On::name).chain(["alert"]);
        if let Some(node) = fields.get("on")
            && let Some(text) = self.text(node, "`on`")
        {
            rule.on = On::ALL.into_iter().find(|on| on.name() == text);
            if rule.on.is_none() && text != "alert" {
                let help = match nearest(&text, known()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are: {}", known().collect::<Vec<_>>().join(", ")),
                };
                self.error("rule_value", node.place, format!("{text:?} is no value of `on`")).help = Some(help);
            }
        }
        if let Some(node) = fields.get("own") {
            rule.own = self.bool(node, "`own`").unwrap_or(false);
            if rule.on.is_none() {
                self.error("rule_value", node.place, "`own` is for rules on events: alerts are nobody's own").help =
                    Some("remove it".to_string());
            }
        }
        self.schedule(fields, at, rule);
    }

    fn schedule(&mut self, fields: &Fields, at: Place, rule: &mut Rule) {
        let scheduled = rule.on == Some(On::Schedule);
        let node = match (fields.get("schedule"), scheduled) {
            (None, false) => return,
            (Some(node), false) => {
                self.error("rule_value", node.place, "`schedule` is for rules that say `on: schedule`").help =
                    Some("add `on: schedule`, or remove it".to_string());
                return;
            }
            (_, true) => {
                let help = "write for example schedule: \"0 6 * * 1-5 Europe/Berlin\"";
                let Some(node) = self.required(fields, at, "the rule", "schedule", help) else { return };
                node
            }
        };
        let Some(text) = self.text(node, "`schedule`") else { return };
        match Schedule::parse(&text) {
            Ok(schedule) => rule.schedule = Some(schedule),
            Err(message) => {
                self.error("rule_value", node.place, message);
            }
        }
        // A tick is for its own rule, which need not say so.
        let own = Matcher::new("rule", Op::Equal, &rule.name).expect("a literal value is no expression");
        rule.matchers.push(own);
    }
}
