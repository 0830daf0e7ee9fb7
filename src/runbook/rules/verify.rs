//! The key `verify`: how it is found out whether a run helped.

use super::{DAY, Places, Reader};
use crate::model::promql::Query;
use crate::model::rule::{Expects, Rule};
use crate::runbook::document::Node;

impl Reader<'_> {
    /// `resolved_within`, or `promql` and `within`, or `within` alone: as the runbook verifies.
    pub(super) fn verify(&mut self, node: &Node, rule: &mut Rule, places: &mut Places) {
        let Some(fields) = self.fields(node, "`verify`", &["resolved_within", "promql", "within"]) else { return };
        if let Some(resolved) = fields.get("resolved_within") {
            if let Some(place) = ["promql", "within"].into_iter().find_map(|key| fields.place(key)) {
                let message = "`resolved_within` waits for the alert alone, beside it nothing else can be expected";
                self.error("rule_value", place, message).help =
                    Some("write either `resolved_within`, or `promql` and `within`".to_string());
            }
            rule.verify.expects = Expects::Resolved;
            rule.verify.within =
                self.duration(resolved, "`resolved_within`", 1, 7 * DAY).unwrap_or(Rule::RESOLVED_WITHIN);
            return;
        }
        let within = fields.get("within");
        rule.verify.within =
            within.and_then(|node| self.duration(node, "`within`", 1, 7 * DAY)).unwrap_or(Rule::RESOLVED_WITHIN);
        match (fields.get("promql"), within) {
            (Some(promql), _) => self.promql(promql, rule, places),
            (None, Some(within)) => places.runbook_verifies = Some(within.place),
            (None, None) => {}
        }
    }

    fn promql(&mut self, node: &Node, rule: &mut Rule, places: &mut Places) {
        let Some(text) = self.text(node, "`promql`") else { return };
        let query = match Query::parse(&text) {
            Ok(query) => query,
            Err(wrong) => {
                let place = node.place.within(self.text, &text, wrong.at, wrong.length);
                self.error("rule_promql", place, wrong.message);
                return;
            }
        };
        if let Some(label) = self.foreign(query.labels(), &rule.by) {
            self.not_in_by(node.place, &label);
        }
        places.promql = node.place;
        rule.verify.expects = Expects::Promql(query);
    }
}
