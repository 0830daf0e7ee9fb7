//! The keys of `guards`, as people write them.

use super::{DAY, Places, Reader};
use crate::model::effectiveness::REMEMBERED;
use crate::model::freeze::Window;
use crate::model::rule::{AtOnce, Budget, Rule, Share};
use crate::runbook::document::{Node, Value};

const KEYS: &[&str] =
    &["cooldown", "budget", "target_budget", "breaker", "replicas", "at_once", "hold_at_most", "freeze"];

impl Reader<'_> {
    pub(super) fn guards(&mut self, node: &Node, rule: &mut Rule, places: &mut Places) {
        let Some(fields) = self.fields(node, "`guards`", KEYS) else { return };
        rule.freeze = fields.get("freeze").map(|node| self.freeze(node, places)).unwrap_or_default();
        rule.cooldown = fields.get("cooldown").and_then(|node| self.duration(node, "`cooldown`", 0, 30 * DAY));
        rule.budget = fields.get("budget").and_then(|node| self.budget(node, "`budget`"));
        rule.target_budget = fields.get("target_budget").and_then(|node| self.budget(node, "`target_budget`"));
        let most = REMEMBERED as u64;
        let breaker = fields.get("breaker").and_then(|node| self.whole(node, "`breaker`", 0..=most));
        rule.breaker = breaker.and_then(|count| u32::try_from(count).ok());
        let hold = fields.get("hold_at_most").and_then(|node| self.duration(node, "`hold_at_most`", 1, DAY));
        rule.hold_at_most = hold.unwrap_or(rule.hold_at_most);
        rule.at_once = fields.get("at_once").map(|node| self.at_once(node)).unwrap_or_default();
        rule.replicas = fields.get("replicas").and_then(|node| self.replicas(node));
    }

    /// One window, or a list of them.
    fn freeze(&mut self, node: &Node, places: &mut Places) -> Vec<Window> {
        let nodes = match &node.value {
            Value::List(all) => all.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut windows: Vec<Window> = Vec::new();
        for node in nodes {
            let Some(text) = self.text(node, "a window of `freeze`") else { continue };
            match Window::parse(&text) {
                Ok(window) if windows.contains(&window) => {
                    self.error("rule_duplicate", node.place, format!("`freeze` names {text:?} twice"));
                }
                Ok(window) => {
                    windows.push(window);
                    places.freeze.push(node.place);
                }
                Err(message) => {
                    self.error("rule_value", node.place, message);
                }
            }
        }
        windows
    }

    /// `3 per 1h`.
    fn budget(&mut self, node: &Node, key: &str) -> Option<Budget> {
        if let Value::Int(number) = node.value {
            let help = format!("say how many within which time: {key}: {number} per 1h", key = key.trim_matches('`'));
            self.wrong_type(node, key, "a number per time").help = Some(help);
            return None;
        }
        let text = self.text(node, key)?;
        match text.parse::<Budget>() {
            Ok(budget) => Some(budget),
            Err(why) => {
                self.error("rule_value", node.place, format!("{key}: {why}"));
                None
            }
        }
    }

    /// `{ services: 25%, nodes: 1 }`.
    fn at_once(&mut self, node: &Node) -> AtOnce {
        let Some(fields) = self.fields(node, "`at_once`", &["services", "nodes"]) else { return AtOnce::default() };
        let mut share = |key: &str| fields.get(key).and_then(|node| self.share(node, key));
        AtOnce { services: share("services"), nodes: share("nodes") }
    }

    fn share(&mut self, node: &Node, key: &str) -> Option<Share> {
        let text = match node.value {
            Value::Int(number) => number.to_string(),
            _ => self.text(node, &format!("`{key}`"))?,
        };
        match text.parse::<Share>() {
            Ok(share) => Some(share),
            Err(why) => {
                self.error("rule_value", node.place, format!("`{key}`: {why}"));
                None
            }
        }
    }

    fn replicas(&mut self, node: &Node) -> Option<(u64, u64)> {
        const MOST: u64 = 100_000;
        let fields = self.fields(node, "`replicas`", &["min", "max"])?;
        let min = fields.get("min").map_or(Some(0), |node| self.whole(node, "`min`", 0..=MOST));
        let max = fields.get("max").map_or(Some(MOST), |node| self.whole(node, "`max`", 0..=MOST));
        let (min, max) = (min?, max?);
        if min > max {
            self.error("rule_value", node.place, format!("`min` {min} is above `max` {max}"));
            return None;
        }
        Some((min, max))
    }
}
