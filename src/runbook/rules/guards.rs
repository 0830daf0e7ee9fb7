//! The keys of `guards`, as people write them.

use super::{DAY, Reader};
use crate::model::duration::Duration;
use crate::model::freeze::Window;
use crate::model::rule::{Budget, Rule};
use crate::runbook::document::{Node, Value};

const KEYS: &[&str] = &["cooldown", "budget", "replicas", "hold_at_most", "freeze"];

const MINUTE: u64 = 60;

impl Reader<'_> {
    pub(super) fn guards(&mut self, node: &Node, rule: &mut Rule) {
        let Some(fields) = self.fields(node, "`guards`", KEYS) else { return };
        rule.freeze = fields.get("freeze").map(|node| self.freeze(node)).unwrap_or_default();
        rule.cooldown = fields.get("cooldown").and_then(|node| self.duration(node, "`cooldown`", 0, 30 * DAY));
        rule.budget = fields.get("budget").and_then(|node| self.budget(node));
        let hold = fields.get("hold_at_most").and_then(|node| self.duration(node, "`hold_at_most`", 1, DAY));
        rule.hold_at_most = hold.unwrap_or(rule.hold_at_most);
        rule.replicas = fields.get("replicas").and_then(|node| self.replicas(node));
    }

    /// One window, or a list of them.
    fn freeze(&mut self, node: &Node) -> Vec<Window> {
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
                Ok(window) => windows.push(window),
                Err(message) => {
                    self.error("rule_value", node.place, message);
                }
            }
        }
        windows
    }

    /// `3 per 1h`.
    fn budget(&mut self, node: &Node) -> Option<Budget> {
        let text = self.text(node, "`budget`")?;
        let parts: Vec<&str> = text.split_whitespace().collect();
        let budget = match parts[..] {
            [count, "per", per] => count.parse::<u32>().ok().zip(Duration::parse(per).ok()),
            _ => None,
        };
        match budget {
            Some((count @ 1..=1_000, per)) if (MINUTE * 1_000..=30 * DAY * 1_000).contains(&per.millis) => {
                Some(Budget { count, per })
            }
            Some(_) => {
                self.error("rule_value", node.place, format!("{text:?} is out of bounds for `budget`")).help =
                    Some("between 1 and 1000, per 1m to 30d".to_string());
                None
            }
            None => {
                self.error("rule_value", node.place, format!("{text:?} is no budget")).help =
                    Some("write for example `3 per 1h`".to_string());
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
