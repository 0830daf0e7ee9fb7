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

/// A file of rules.
pub fn render(rules: &[RuleSpec]) -> String {
    let mut yaml = String::from("rules:\n");
    if rules.is_empty() {
        yaml.push_str("  []\n");
    }
    rules.iter().for_each(|rule| rule.render(&mut yaml));
    yaml
}
