//! The sorts of rules that can be in a play: how each is made, and the alerts that it is about.

use crate::rules::{Mode, Part, RuleSpec, Verify};
use fastrand::Rng;

/// A rule that can be in a play: how it is made, and the alerts that it is about.
pub struct Sort {
    pub make: fn(&mut Rng) -> RuleSpec,
    pub alertname: &'static str,
    pub about: About,
}

#[derive(Clone, Copy, PartialEq)]
pub enum About {
    Service,
    Node,
    Cluster,
    /// No alert.
    Event,
}

/// By which freezes name some of the rules.
pub const TAGS: [&str; 2] = ["capacity", "repair"];

pub const SORTS: &[Sort] = &[
    Sort { make: scale_out, alertname: "HighLatency", about: About::Service },
    Sort { make: scale_in, alertname: "Idle", about: About::Service },
    Sort { make: restart_unhealthy, alertname: "ServiceUnhealthy", about: About::Service },
    Sort { make: rollback_bad_update, alertname: "UpdateFailed", about: About::Service },
    Sort { make: steps, alertname: "QueueLong", about: About::Service },
    Sort { make: quick, alertname: "MemoryLeak", about: About::Service },
    Sort { make: kinds, alertname: "DiskFull", about: About::Service },
    Sort { make: clumsy, alertname: "Strange", about: About::Service },
    Sort { make: asker, alertname: "Doubtful", about: About::Service },
    Sort { make: long, alertname: "SlowlyWorse", about: About::Service },
    Sort { make: people, alertname: "Unclear", about: About::Service },
    Sort { make: drainer, alertname: "NodeSlow", about: About::Node },
    Sort { make: add_node, alertname: "ClusterMemoryShort", about: About::Cluster },
    Sort { make: remove_node, alertname: "ClusterMemoryIdle", about: About::Cluster },
    Sort { make: node_down, alertname: "", about: About::Event },
    Sort { make: replace_node, alertname: "", about: About::Event },
    Sort { make: reconfigure, alertname: "", about: About::Event },
    Sort { make: deploy, alertname: "", about: About::Event },
    Sort { make: scale_service, alertname: "", about: About::Event },
    Sort { make: tick, alertname: "", about: About::Event },
];

fn rule(rng: &mut Rng, name: &str, runbook: &'static str) -> RuleSpec {
    RuleSpec {
        name: name.to_string(),
        on: None,
        schedule: None,
        matchers: Vec::new(),
        by: vec!["service"],
        runbook: Some(runbook),
        params: String::new(),
        allow: Vec::new(),
        cooldown_secs: rng.bool().then(|| rng.u64(10..600)),
        budget: (rng.u8(..4) == 0).then(|| (rng.u32(1..6), rng.u64(300..3_600))),
        replicas: None,
        hold_secs: rng.u64(20..600),
        attempts: rng.u32(1..4),
        retry_secs: rng.u64(0..120),
        resolved_secs: rng.u64(30..900),
        verify: if rng.u8(..6) == 0 { Verify::Promql } else { Verify::Resolved },
        mode: match rng.u8(..12) {
            0 => Mode::Shadow,
            1..3 => Mode::Approve,
            3 => Mode::Earned,
            _ => Mode::Auto,
        },
        approve_secs: rng.u64(20..600),
        then_run: rng.bool(),
        goes_on: rng.u8(..8) == 0,
        own: false,
        tags: if rng.u8(..3) == 0 { vec![rng.choice(TAGS).expect("some")] } else { Vec::new() },
        target_budget: (rng.u8(..8) == 0).then(|| (rng.u32(1..5), rng.u64(300..3_600))),
        services_at_once: (rng.u8(..8) == 0).then(|| part(rng)),
        nodes_at_once: (rng.u8(..8) == 0).then(|| rng.u32(1..3)),
        freeze: (rng.u8(..16) == 0).then(|| minutes(rng)),
    }
}

/// A part of what belongs together.
pub fn part(rng: &mut Rng) -> Part {
    if rng.bool() { Part::Count(rng.u32(1..4)) } else { Part::Percent(rng.u32(10..90)) }
}

/// From which minute of the day to which, of those that a play is about.
pub fn minutes(rng: &mut Rng) -> (u64, u64) {
    let from = rng.u64(8 * 60 + 31..9 * 60);
    (from, from + rng.u64(1..20))
}

fn on_alert(rng: &mut Rng, name: &str, runbook: &'static str, alertname: &str) -> RuleSpec {
    let mut rule = rule(rng, name, runbook);
    rule.matchers = vec![format!("alertname = \"{alertname}\"")];
    if rng.u8(..6) == 0 {
        rule.by = Vec::new();
    }
    rule
}

fn on_event(rng: &mut Rng, name: &str, runbook: &'static str, on: &'static str, matcher: &str) -> RuleSpec {
    RuleSpec { on: Some(on), matchers: vec![matcher.to_string()], attempts: rng.u32(1..3), ..rule(rng, name, runbook) }
}

/// A target as a grant may name it.
fn target(rng: &mut Rng, label: &str, globs: &[&str]) -> String {
    match rng.usize(..3 + globs.len()) {
        at if at < globs.len() => globs[at].to_string(),
        _ => format!("{{{{ {label} }}}}"),
    }
}

fn of_service(rng: &mut Rng, primitives: &[&'static str]) -> Vec<(&'static str, String)> {
    primitives.iter().map(|primitive| (*primitive, target(rng, "service", &["*", "app*"]))).collect()
}

fn scale_out(rng: &mut Rng) -> RuleSpec {
    let (step, ceiling) = (rng.u64(1..3), rng.u64(2..9));
    let params = format!("step: {step}, ceiling: {ceiling}, floor: {}, quiet_for: 2m, healthy_within: 1m", rng.u8(..3));
    let replicas = rng.bool().then(|| (1, rng.u64(2..7)));
    RuleSpec {
        params,
        replicas,
        allow: of_service(rng, &["scale"]),
        ..on_alert(rng, "scale-out", "scale_out", "HighLatency")
    }
}

fn scale_in(rng: &mut Rng) -> RuleSpec {
    let params = format!("floor: {}", rng.u8(1..3));
    RuleSpec { params, allow: of_service(rng, &["scale"]), ..on_alert(rng, "scale-in", "scale_in", "Idle") }
}

fn restart_unhealthy(rng: &mut Rng) -> RuleSpec {
    RuleSpec {
        allow: of_service(rng, &["restart"]),
        ..on_alert(rng, "restart-unhealthy", "restart_unhealthy", "ServiceUnhealthy")
    }
}

fn rollback_bad_update(rng: &mut Rng) -> RuleSpec {
    RuleSpec {
        allow: of_service(rng, &["rollback"]),
        ..on_alert(rng, "rollback-bad-update", "rollback_bad_update", "UpdateFailed")
    }
}

fn steps(rng: &mut Rng) -> RuleSpec {
    let mut allow = of_service(rng, &["scale"]);
    allow.push(("reload", "proxy".to_string()));
    let params = format!("rest: {}s", rng.u8(1..90));
    RuleSpec { params, allow, ..on_alert(rng, "steps", "steps", "QueueLong") }
}

fn quick(rng: &mut Rng) -> RuleSpec {
    RuleSpec { allow: of_service(rng, &["restart"]), ..on_alert(rng, "quick", "quick", "MemoryLeak") }
}

fn kinds(rng: &mut Rng) -> RuleSpec {
    let allow = ["silence", "job", "http_post"].map(|primitive| (primitive, "*".to_string())).to_vec();
    RuleSpec { allow, ..on_alert(rng, "kinds", "kinds", "DiskFull") }
}

fn clumsy(rng: &mut Rng) -> RuleSpec {
    let all = ["fail", "throw", "escalate", "beyond", "other", "empty", "missing", "late", "steps"];
    let how = rng.choice(all).expect("some");
    let allow = of_service(rng, &["restart", "scale"]);
    RuleSpec { params: format!("how: {how}"), allow, ..on_alert(rng, "clumsy", "clumsy", "Strange") }
}

fn asker(rng: &mut Rng) -> RuleSpec {
    RuleSpec { allow: of_service(rng, &["restart"]), ..on_alert(rng, "asker", "asker", "Doubtful") }
}

fn long(rng: &mut Rng) -> RuleSpec {
    let params = format!("rest: {}m", rng.u8(1..12));
    RuleSpec { params, allow: of_service(rng, &["update"]), ..on_alert(rng, "long", "long", "SlowlyWorse") }
}

fn people(rng: &mut Rng) -> RuleSpec {
    RuleSpec { runbook: None, ..on_alert(rng, "people", "quick", "Unclear") }
}

fn drainer(rng: &mut Rng) -> RuleSpec {
    let params = format!("rest: {}s", rng.u8(1..120));
    let allow = ["drain", "activate"].map(|primitive| (primitive, target(rng, "node", &["*", "node*"]))).to_vec();
    let by = vec!["node"];
    RuleSpec { params, allow, by, ..on_alert(rng, "drainer", "drainer", "NodeSlow") }
}

fn spreading() -> Vec<(&'static str, String)> {
    ["restart", "reschedule"].map(|primitive| (primitive, "*".to_string())).to_vec()
}

fn add_node(rng: &mut Rng) -> RuleSpec {
    let mut allow = spreading();
    allow.push(("add_node", "workers".to_string()));
    let params = "joined_within: 3m, healthy_within: 1m".to_string();
    RuleSpec { params, allow, by: vec!["alertname"], ..on_alert(rng, "add-node", "add_node", "ClusterMemoryShort") }
}

fn remove_node(rng: &mut Rng) -> RuleSpec {
    let allow = ["drain", "activate", "remove_node"].map(|primitive| (primitive, "*".to_string())).to_vec();
    let params = "moved_within: 2m, gone_within: 2m".to_string();
    RuleSpec {
        params,
        allow,
        by: vec!["alertname"],
        ..on_alert(rng, "remove-node", "remove_node", "ClusterMemoryIdle")
    }
}

pub fn node_down(rng: &mut Rng) -> RuleSpec {
    let params = "placed_within: 2m".to_string();
    RuleSpec {
        params,
        by: vec!["node"],
        goes_on: true,
        ..on_event(rng, "node-down", "node_down", "swarm", "event = \"node_down\"")
    }
}

pub fn replace_node(rng: &mut Rng) -> RuleSpec {
    let mut allow = spreading();
    allow.push(("remove_node", "*".to_string()));
    let params = "replaced_within: 2m, healthy_within: 1m".to_string();
    RuleSpec {
        params,
        allow,
        by: vec!["node"],
        ..on_event(rng, "replace-node", "replace_node", "swarm", "event = \"node_down\"")
    }
}

fn reconfigure(rng: &mut Rng) -> RuleSpec {
    let allow = ["proxy", "prometheus"].map(|target| ("reload", target.to_string())).to_vec();
    let params = "targets: [proxy, prometheus], settle: 30s".to_string();
    let matcher = "event =~ \"service_updated|update_completed|rollback_completed\"";
    RuleSpec { params, allow, own: true, ..on_event(rng, "reconfigure", "reconfigure", "swarm", matcher) }
}

pub fn deploy(rng: &mut Rng) -> RuleSpec {
    let allow = ["update", "rollback"].map(|primitive| (primitive, "*".to_string())).to_vec();
    let by = vec!["repository"];
    RuleSpec {
        params: "healthy_within: 1m".into(),
        allow,
        by,
        ..on_event(rng, "deploy", "deploy", "deploy", "event = \"deploy\"")
    }
}

pub fn scale_service(rng: &mut Rng) -> RuleSpec {
    let params = format!("beyond: {}", if rng.bool() { "clamp" } else { "fail" });
    let allow = of_service(rng, &["scale"]);
    RuleSpec {
        params,
        allow,
        ..on_event(rng, "scale-service", "scale_service", "manual", "runbook = \"scale_service\"")
    }
}

fn tick(rng: &mut Rng) -> RuleSpec {
    let allow = vec![("reload", "prometheus".to_string())];
    let every = rng.choice(["*/10 * * * *", "*/30 * * * *"]);
    RuleSpec { schedule: every, allow, by: Vec::new(), ..on_event(rng, "tick", "tick", "schedule", "event = \"tick\"") }
}
