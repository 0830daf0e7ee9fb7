//! Rules as the generator makes them: written out as YAML for the application, and as plain values for the oracle.

use runbookd::model::label::Labels;
use std::fmt::Write;

#[derive(Clone, Debug, PartialEq)]
pub struct RuleSpec {
    pub name: String,
    /// `None`: on alerts.
    pub on: Option<&'static str>,
    pub schedule: Option<&'static str>,
    pub matchers: Vec<String>,
    pub by: Vec<&'static str>,
    pub runbook: Option<&'static str>,
    /// In YAML's flow style.
    pub params: String,
    /// Primitive and pattern.
    pub allow: Vec<(&'static str, String)>,
    pub cooldown_secs: Option<u64>,
    /// So many attempts in so many seconds.
    pub budget: Option<(u32, u64)>,
    pub replicas: Option<(u64, u64)>,
    pub hold_secs: u64,
    pub attempts: u32,
    pub retry_secs: u64,
    pub resolved_secs: u64,
    pub verify: Verify,
    pub mode: Mode,
    /// How long people have to approve, and whether it runs when nobody has.
    pub approve_secs: u64,
    pub then_run: bool,
    pub goes_on: bool,
    pub own: bool,
    pub tags: Vec<&'static str>,
    /// So many effects on each target in so many seconds.
    pub target_budget: Option<(u32, u64)>,
    pub services_at_once: Option<Part>,
    pub nodes_at_once: Option<u32>,
    /// From which minute of the day to which it changes nothing.
    pub freeze: Option<(u64, u64)>,
}

/// How much of what belongs together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    Count(u32),
    Percent(u32),
}

impl Part {
    pub fn of(self, total: usize) -> usize {
        match self {
            Part::Count(count) => count as usize,
            Part::Percent(percent) => (total * percent as usize / 100).max(1),
        }
    }

    fn render(self) -> String {
        match self {
            Part::Count(count) => count.to_string(),
            Part::Percent(percent) => format!("{percent}%"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Shadow,
    Approve,
    Earned,
    Auto,
}

/// How a run is verified.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verify {
    Resolved,
    Promql,
}

impl RuleSpec {
    /// Does a grant name this call? Patterns are one label, plain text, or text that ends in `*`.
    pub fn grants(&self, primitive: &str, target: &str, labels: &Labels) -> bool {
        self.allow.iter().filter(|(known, _)| *known == primitive).any(|(_, pattern)| {
            match (pattern.strip_prefix("{{ "), pattern.strip_suffix('*')) {
                (Some(rest), _) => labels.get(rest.trim_end_matches(" }}")) == Some(target),
                (None, Some(head)) => target.starts_with(head),
                (None, None) => pattern == target,
            }
        })
    }

    /// Does a grant to change services name this one without a glob?
    pub fn names_service(&self, service: &str, labels: &Labels) -> bool {
        const OF_SERVICES: [&str; 5] = ["scale", "update", "restart", "rollback", "reschedule"];
        let literal =
            self.allow.iter().filter(|(known, pattern)| OF_SERVICES.contains(known) && !pattern.ends_with('*'));
        let mut names = literal.map(|(_, pattern)| match pattern.strip_prefix("{{ ") {
            Some(rest) => labels.get(rest.trim_end_matches(" }}")),
            None => Some(pattern.as_str()),
        });
        names.any(|name| name == Some(service))
    }

    fn render(&self, yaml: &mut String) {
        let _ = writeln!(yaml, "  - name: {}", self.name);
        if let Some(on) = self.on {
            let _ = writeln!(yaml, "    on: {on}");
        }
        if let Some(schedule) = self.schedule {
            let _ = writeln!(yaml, "    schedule: {schedule:?}");
        }
        if !self.matchers.is_empty() {
            let matchers: Vec<String> = self.matchers.iter().map(|one| format!("'{one}'")).collect();
            let _ = writeln!(yaml, "    match: [{}]", matchers.join(", "));
        }
        if !self.by.is_empty() {
            let _ = writeln!(yaml, "    by: [{}]", self.by.join(", "));
        }
        if let Some(runbook) = self.runbook {
            let _ = writeln!(yaml, "    runbook: {runbook}");
            if !self.params.is_empty() {
                let _ = writeln!(yaml, "    params: {{ {} }}", self.params);
            }
            self.render_mode(yaml);
            self.render_limits(yaml);
        }
        let _ = writeln!(yaml, "    escalate: {{ severity: critical }}");
        if !self.tags.is_empty() {
            let _ = writeln!(yaml, "    tags: [{}]", self.tags.join(", "));
        }
        for (key, value) in [("continue", self.goes_on), ("own", self.own)] {
            if value {
                let _ = writeln!(yaml, "    {key}: true");
            }
        }
    }

    fn render_mode(&self, yaml: &mut String) {
        let _ = match self.mode {
            Mode::Shadow => writeln!(yaml, "    mode: shadow"),
            Mode::Approve => writeln!(yaml, "    mode: approve"),
            Mode::Earned => writeln!(yaml, "    mode: earned\n    earned_after: 1"),
            Mode::Auto => Ok(()),
        };
        let then = if self.then_run { "run" } else { "escalate" };
        let _ = writeln!(yaml, "    approve: {{ within: {}s, then: {then} }}", self.approve_secs);
    }

    fn render_limits(&self, yaml: &mut String) {
        if !self.allow.is_empty() {
            let grants: Vec<String> =
                self.allow.iter().map(|(name, target)| format!("{{ {name}: {target:?} }}")).collect();
            let _ = writeln!(yaml, "    allow: [{}]", grants.join(", "));
        }
        let mut guards = vec![format!("hold_at_most: {}s", self.hold_secs)];
        guards.extend(self.cooldown_secs.map(|secs| format!("cooldown: {secs}s")));
        guards.extend(self.budget.map(|(count, secs)| format!("budget: {count} per {secs}s")));
        guards.extend(self.replicas.map(|(min, max)| format!("replicas: {{ min: {min}, max: {max} }}")));
        guards.extend(self.target_budget.map(|(count, secs)| format!("target_budget: {count} per {secs}s")));
        guards.extend(self.freeze.map(|span| format!("freeze: [\"{}\"]", window(span))));
        let parts = [
            ("services", self.services_at_once.map(Part::render)),
            ("nodes", self.nodes_at_once.map(|nodes| nodes.to_string())),
        ];
        let parts: Vec<String> = parts.into_iter().filter_map(|(of, part)| Some(format!("{of}: {}", part?))).collect();
        if !parts.is_empty() {
            guards.push(format!("at_once: {{ {} }}", parts.join(", ")));
        }
        let _ = writeln!(yaml, "    guards: {{ {} }}", guards.join(", "));
        let _ = writeln!(yaml, "    attempts: {}", self.attempts);
        let _ = writeln!(yaml, "    retry_after: {}s", self.retry_secs);
        if self.on.is_none() {
            let within = self.resolved_secs;
            let _ = match self.verify {
                Verify::Resolved => writeln!(yaml, "    verify: {{ resolved_within: {within}s }}"),
                Verify::Promql => writeln!(yaml, "    verify: {{ promql: 'load < 1', within: {within}s }}"),
            };
        }
    }
}

/// From one minute of the day to another, as people write it.
pub fn window((from, to): (u64, u64)) -> String {
    let clock = |minute: u64| format!("{:02}:{:02}", minute / 60, minute % 60);
    format!("{} - {}", clock(from), clock(to))
}

/// A file of rules.
pub fn render(rules: &[RuleSpec]) -> String {
    let mut yaml = String::from("rules:\n");
    if rules.is_empty() {
        yaml.push_str("  []\n");
    }
    rules.iter().for_each(|rule| rule.render(&mut yaml));
    yaml
}
