//! Makes a plan of a seed: a world, rules for it, and some eventful hours. All that is random is here.

use crate::plan::{Act, Edit, Fault, Fleet, Plan, Port};
use crate::rules::{Mode, RuleSpec, Verify};
use fastrand::Rng;
use std::fmt::Write;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
/// How long Alertmanager goes on repeating itself when all is calm: longer than anything needs to come to its end.
const REPEATED_FOR: u64 = 9 * 60 * MINUTE;

/// A rule that can be in a play: how it is made, and the alerts that it is about.
struct Sort {
    make: fn(&mut Rng) -> RuleSpec,
    alertname: &'static str,
    about: About,
}

#[derive(Clone, Copy, PartialEq)]
enum About {
    Service,
    Node,
    Cluster,
    /// No alert.
    Event,
}

const SORTS: &[Sort] = &[
    Sort { make: scale_out, alertname: "HighLatency", about: About::Service },
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
    }
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

fn node_down(rng: &mut Rng) -> RuleSpec {
    let params = "placed_within: 2m".to_string();
    RuleSpec {
        params,
        by: vec!["node"],
        goes_on: true,
        ..on_event(rng, "node-down", "node_down", "swarm", "event = \"node_down\"")
    }
}

fn replace_node(rng: &mut Rng) -> RuleSpec {
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

fn deploy(rng: &mut Rng) -> RuleSpec {
    let allow = ["update", "rollback"].map(|primitive| (primitive, "*".to_string())).to_vec();
    let by = vec!["repository"];
    RuleSpec {
        params: "healthy_within: 1m".into(),
        allow,
        by,
        ..on_event(rng, "deploy", "deploy", "deploy", "event = \"deploy\"")
    }
}

fn scale_service(rng: &mut Rng) -> RuleSpec {
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

pub fn plan(seed: u64) -> Plan {
    let mut rng = Rng::with_seed(seed);
    let rng = &mut rng;
    let services = rng.usize(1..4);
    let nodes = rng.usize(1..4);
    let mut sorts: Vec<&Sort> = SORTS.iter().collect();
    rng.shuffle(&mut sorts);
    sorts.truncate(rng.usize(1..7));
    let mut rules: Vec<RuleSpec> = sorts.iter().map(|sort| (sort.make)(rng)).collect();
    // Another rule on the same alert, which has it too where the first says so.
    if rng.u8(..4) == 0 {
        let mut again = RuleSpec { name: "again".into(), ..rules[0].clone() };
        if again.runbook == Some("kinds") {
            // Else what the two post may be the same.
            again.params = "whose: second".to_string();
        }
        rules.push(again);
    }
    let alerts = alerts(rng, &sorts, services, nodes);
    let span = rng.u64(5..35) * MINUTE;
    let mut acts = Vec::new();
    for at in 0..alerts.len() {
        episodes(rng, at, span, &mut acts);
    }
    mishaps(rng, span, &mut acts);
    hands(rng, span, services, nodes, &sorts, &mut acts);
    replies(rng, span, &rules, &mut acts);
    edits(rng, span, &rules, &mut acts);
    acts.sort_by_key(|(at, _)| *at);
    acts.push((span, Act::Calm));
    let mut at = span;
    while at < span + REPEATED_FOR {
        at += 10 * MINUTE;
        acts.extend((0..alerts.len()).map(|alert| (at, Act::Notify { alert, delays: vec![0], truncate: false })));
    }
    let latencies =
        (0..rng.usize(3..12)).map(|_| rng.choice([0, 0, 0, 1, 3, 20, 150, 700, 2_500]).expect("some")).collect();
    Plan { world: world(rng, services, nodes), rules, api: rng.bool(), fleet: fleet(rng), alerts, latencies, acts }
}

fn fleet(rng: &mut Rng) -> Fleet {
    let few = |rng: &mut Rng| (rng.u8(..6) == 0).then(|| rng.u32(1..6));
    Fleet {
        brake: few(rng),
        target: few(rng),
        engine: few(rng),
        hands_secs: (rng.u8(..4) == 0).then(|| rng.u64(10..600)),
        services_at_once: few(rng),
    }
}

fn world(rng: &mut Rng, services: usize, nodes: usize) -> String {
    let mut yaml = String::from("services:\n");
    for at in 1..=services {
        let replicas = rng.u8(1..5);
        let start = rng.choice([0, 200, 3_000, 20_000, 90_000]).expect("some");
        let on_failure = if rng.bool() { "pause" } else { "rollback" };
        let mut labels = vec!["runbookd.deploy: \"true\"".to_string()];
        for (label, value) in [
            ("com.df.scaleMax", "5"),
            ("com.df.scaleMin", "2"),
            ("com.df.reschedule", "true"),
            ("com.df.notify", "true"),
        ] {
            if rng.bool() {
                labels.push(format!("{label}: {value:?}"));
            }
        }
        let labels = labels.join(", ");
        let _ = writeln!(
            yaml,
            "  app{at}: {{ image: \"shop/app{at}:1\", replicas: {replicas}, labels: {{ {labels} }}, behaviour: {{ start: {start}ms, fail_image: {{ \"*:bad\": \"exit 1\" }}, on_failure: {on_failure} }} }}"
        );
    }
    yaml.push_str("nodes:\n  node1: { role: manager }\n");
    for at in 2..=nodes {
        let _ = writeln!(yaml, "  node{at}: {{}}");
    }
    let workers = rng.usize(..3).min(nodes - 1);
    let start = rng.u8(1..60);
    let _ = writeln!(yaml, "node_groups: {{ workers: {{ desired: {workers}, min: 0, max: 4, start: {start}s }} }}");
    let exit_code = u8::from(rng.u8(..4) == 0);
    let _ = writeln!(yaml, "jobs: {{ \"tools/*\": {{ takes: {}s, exit_code: {exit_code} }} }}", rng.u8(..70));
    yaml
}

fn alerts(rng: &mut Rng, sorts: &[&Sort], services: usize, nodes: usize) -> Vec<Vec<(&'static str, String)>> {
    let mut alerts = Vec::new();
    for sort in sorts.iter().filter(|sort| sort.about != About::Event) {
        for at in 0..rng.usize(1..3) {
            let mut labels = vec![("alertname", sort.alertname.to_string())];
            match sort.about {
                About::Service => labels.push(("service", format!("app{}", rng.usize(1..=services)))),
                About::Node => labels.push(("node", format!("node{}", rng.usize(1..=nodes)))),
                About::Cluster | About::Event => {}
            }
            labels.push(("instance", format!("10.0.0.{at}")));
            alerts.push(labels);
        }
    }
    if rng.u8(..4) == 0 {
        alerts.push(vec![("alertname", "Unknown".to_string()), ("service", "app1".to_string())]);
    }
    alerts
}

/// What one alert does, and what Alertmanager tells of it.
fn episodes(rng: &mut Rng, alert: usize, span: u64, acts: &mut Vec<(u64, Act)>) {
    let mut at = rng.u64(..span / 2);
    for _ in 0..rng.usize(1..4) {
        let lasts = rng.choice([5 * SECOND, 30 * SECOND, 2 * MINUTE, 8 * MINUTE, 25 * MINUTE]).expect("some")
            + rng.u64(..20 * SECOND);
        acts.push((at, Act::Fire(alert)));
        acts.push((at + rng.u64(..5 * SECOND), notify(rng, alert)));
        let mut repeat = at;
        while rng.u8(..3) > 0 {
            repeat += rng.u64(10 * SECOND..5 * MINUTE);
            acts.push((repeat, notify(rng, alert)));
        }
        at += lasts;
        if rng.u8(..6) == 0 {
            // It fires to the end, and on.
            break;
        }
        acts.push((at, Act::Resolve(alert)));
        if rng.u8(..8) > 0 {
            acts.push((at + rng.u64(..30 * SECOND), notify(rng, alert)));
        }
        at += rng.choice([2 * SECOND, 40 * SECOND, 3 * MINUTE, 20 * MINUTE]).expect("some");
    }
    if rng.u8(..10) == 0 {
        let from = rng.u64(..span);
        acts.push((from, Act::Suppress { alert, on: true }));
        acts.push((from + rng.u64(..20 * MINUTE), Act::Suppress { alert, on: false }));
    }
    // What happens later than the plan goes on happens at its end.
    acts.retain(|(when, _)| *when < span);
}

fn notify(rng: &mut Rng, alert: usize) -> Act {
    let delays = match rng.u8(..20) {
        0 => Vec::new(),
        1..6 => vec![0, rng.u64(..4 * SECOND)],
        6 => vec![rng.u64(..3 * MINUTE)],
        7 => vec![0, rng.u64(..3 * MINUTE)],
        _ => vec![0],
    };
    Act::Notify { alert, delays, truncate: rng.u8(..12) == 0 }
}

fn mishaps(rng: &mut Rng, span: u64, acts: &mut Vec<(u64, Act)>) {
    const PORTS: [Port; 10] = [
        Port::Cluster,
        Port::Cluster,
        Port::Cluster,
        Port::Groups,
        Port::Alertmanager,
        Port::Prometheus,
        Port::Reload,
        Port::Posts,
        Port::People,
        Port::People,
    ];
    for _ in 0..rng.usize(..8) {
        let port = rng.choice(PORTS).expect("some");
        let fault = match rng.u8(..6) {
            0 => Fault::TimeoutBefore,
            1 => Fault::TimeoutAfter,
            2 if port == Port::Cluster => Fault::TimeoutLate(rng.u64(1..40_000)),
            3 if port == Port::Cluster => Fault::Conflict(rng.bool().then(|| rng.u64(1..6))),
            4 if rng.bool() => Fault::Refused,
            _ => Fault::Throttled,
        };
        acts.push((rng.u64(..span), Act::Fault { port, fault, calls: rng.u32(1..4) }));
    }
    for _ in 0..rng.usize(..3) {
        let port = rng.choice(PORTS).expect("some");
        acts.push((rng.u64(..span), Act::Down { port, secs: rng.u64(5..500) }));
    }
    for _ in 0..rng.usize(..5) {
        let down_secs = match rng.u8(..10) {
            0 => rng.u64(900..2_400),
            1..3 => rng.u64(30..300),
            _ => rng.u64(..4),
        };
        let act = match rng.u8(..8) {
            0 => Act::Restart { down_secs },
            1 => Act::Kill { down_secs },
            _ => Act::Crash { writes: rng.u64(1..25), before: rng.bool(), down_secs },
        };
        acts.push((rng.u64(..span), act));
    }
    if rng.u8(..8) == 0 {
        acts.push((rng.u64(..span), Act::JournalFails { secs: rng.u64(1..180) }));
    }
    if rng.u8(..10) == 0 {
        let by = rng.choice([1, 30, 300, 3_600]).expect("some");
        acts.push((rng.u64(..span), Act::Jump(if rng.bool() { by } else { -by })));
    }
}

/// People, and other hands.
fn hands(rng: &mut Rng, span: u64, services: usize, nodes: usize, sorts: &[&Sort], acts: &mut Vec<(u64, Act)>) {
    let mut at = |rng: &mut Rng, act: Act| acts.push((rng.u64(..span), act));
    for _ in 0..rng.usize(..4) {
        let (service, replicas) = (rng.usize(..services), rng.u64(1..7));
        at(rng, Act::Hand { service, replicas });
    }
    if rng.u8(..4) == 0 {
        let (service, bad) = (rng.usize(..services), rng.bool());
        at(rng, Act::HandImage { service, bad });
    }
    for _ in 0..rng.usize(..3) {
        let nth = rng.usize(..8);
        let act = if rng.bool() { Act::Ack(nth) } else { Act::Close(nth) };
        at(rng, act);
    }
    let has = |make: fn(&mut Rng) -> RuleSpec| sorts.iter().any(|sort| std::ptr::fn_addr_eq(sort.make, make));
    if has(deploy) {
        for _ in 0..rng.usize(1..4) {
            let (service, tag, bad) = (rng.usize(..services), rng.u64(2..5), rng.u8(..3) == 0);
            at(rng, Act::Deploy { service, tag, bad });
        }
    }
    if has(scale_service) {
        for _ in 0..rng.usize(1..4) {
            let (service, up) = (rng.usize(..services), rng.bool());
            at(rng, Act::Run { service, up });
        }
    }
    if rng.u8(..4) == 0 || has(node_down) || has(replace_node) {
        let node = rng.usize(..nodes);
        let from = rng.u64(..span);
        acts.push((from, if rng.bool() { Act::LoseMachine(node) } else { Act::NodeState { node, state: "down" } }));
        acts.push((from + rng.u64(..10 * MINUTE), Act::NodeState { node, state: "ready" }));
    }
    if rng.u8(..4) == 0 {
        let from = rng.u64(..span);
        acts.push((from, Act::Pause));
        acts.push((from + rng.u64(SECOND..20 * MINUTE), Act::Resume));
    }
    if rng.u8(..6) == 0 {
        acts.push((rng.u64(..span), Act::Freeze { secs: rng.u64(1..1_200) }));
    }
    for _ in 0..rng.usize(..3) {
        acts.push((rng.u64(..span), Act::Release));
    }
    acts.retain(|(when, _)| *when < span);
}

/// People answer what they are asked, some late and some not at all.
fn replies(rng: &mut Rng, span: u64, rules: &[RuleSpec], acts: &mut Vec<(u64, Act)>) {
    let asks = |rule: &RuleSpec| rule.mode != Mode::Auto || rule.runbook == Some("asker");
    if rules.iter().any(asks) {
        for _ in 0..rng.usize(..12) {
            acts.push((rng.u64(..span), Act::Reply { nth: rng.usize(..3), yes: rng.u8(..4) > 0 }));
        }
    }
    if rng.u8(..4) == 0 {
        acts.push((rng.u64(..span), Act::Undo(rng.usize(..6))));
    }
}

fn edits(rng: &mut Rng, span: u64, rules: &[RuleSpec], acts: &mut Vec<(u64, Act)>) {
    let mut times: Vec<u64> = (0..rng.usize(..4)).map(|_| rng.u64(..span)).collect();
    times.sort_unstable();
    let mut rules = rules.to_vec();
    for at in times {
        let edit = match rng.u8(..5) {
            0 => Edit::Broken(broken(rng).into()),
            1 => Edit::Runbook(rng.choice(["scale_out", "steps", "quick", "long", "drainer"]).expect("some")),
            _ => {
                edit_rules(rng, &mut rules);
                Edit::Rules(rules.clone())
            }
        };
        acts.push((at, Act::Edit(edit)));
    }
}

fn edit_rules(rng: &mut Rng, rules: &mut Vec<RuleSpec>) {
    if rules.is_empty() {
        return;
    }
    let at = rng.usize(..rules.len());
    match rng.u8(..7) {
        0 => drop(rules.remove(at)),
        1 => {
            let grants = rules[at].allow.len();
            if grants > 0 {
                drop(rules[at].allow.remove(rng.usize(..grants)));
            }
        }
        2 => {
            for (_, target) in &mut rules[at].allow {
                if target.as_str() == "*" || target.starts_with("{{ service") {
                    *target = rng.choice(["*", "app1", "app*"]).expect("some").to_string();
                }
            }
        }
        3 => rules[at].replicas = Some((1, rng.u64(1..6))),
        4 => {
            rules[at].cooldown_secs = rng.bool().then(|| rng.u64(10..900));
            rules[at].attempts = rng.u32(1..4);
        }
        5 => rules[at].mode = rng.choice([Mode::Shadow, Mode::Approve, Mode::Auto]).expect("some"),
        _ => rng.shuffle(rules),
    }
}

fn broken(rng: &mut Rng) -> &'static str {
    rng.choice([
        "rules: [",
        "rules:\n  - name: broken\n    matches: ['alertname = \"X\"']\n",
        "rules:\n  - name: broken\n    match: ['alertname = \"X\"']\n    runbook: not_there\n",
        "fn on_firing(alert, params) { scale( }",
    ])
    .expect("some")
}
