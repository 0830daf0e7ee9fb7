//! Makes a plan of a seed: a world, rules for it, and some eventful hours. All that is random is here.

use crate::plan::{Act, Edit, Fault, Fleet, Plan, Port};
use crate::rules::{Mode, RuleSpec};
use crate::sorts::{About, SORTS, Sort, TAGS, deploy, minutes, node_down, part, replace_node, scale_service};
use fastrand::Rng;
use runbookd::model::freeze::Scope;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::ops::Range;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
/// How long Alertmanager goes on repeating itself when all is calm: longer than anything needs to come to its end.
const REPEATED_FOR: u64 = 9 * 60 * MINUTE;

pub fn plan(seed: u64) -> Plan {
    let mut rng = Rng::with_seed(seed);
    let rng = &mut rng;
    let services = if rng.u8(..8) == 0 { rng.usize(4..7) } else { rng.usize(1..4) };
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
    let mut alerts = alerts(rng, &sorts, services, nodes);
    let span = rng.u64(5..35) * MINUTE;
    let mut acts = Vec::new();
    for at in 0..alerts.len() {
        episodes(rng, at, span, &mut acts);
    }
    if rng.u8(..10) == 0 {
        let many = crowd_of(rng, &sorts, &mut alerts, &mut rules);
        crowd(rng, many, span, &mut acts);
    }
    // What is told of the watchdog after the end of the plan.
    let mut later = Vec::new();
    let watchdog = (rng.u8(..5) == 0).then(|| (alerts.len(), rng.u64(120..1_500)));
    if let Some((alert, every_secs)) = watchdog {
        alerts.push(vec![("alertname", "Watchdog".to_string())]);
        (acts, later) = watched(rng, alert, every_secs * SECOND, span, acts);
    }
    mishaps(rng, span, &mut acts);
    hands(rng, span, services, nodes, &sorts, &mut acts);
    let fleet = fleet(rng, &rules);
    stops(rng, span, &rules, &fleet, &mut acts);
    replies(rng, span, &rules, &mut acts);
    undone(rng, span, services, &mut acts);
    edits(rng, span, &rules, &mut acts);
    acts.sort_by_key(|(at, _)| *at);
    acts.push((span, Act::Calm));
    acts.append(&mut later);
    // One post tells of a whole group.
    let mut groups = BTreeSet::new();
    let group = |alert: &usize| -> Vec<(&'static str, String)> {
        alerts[*alert].iter().filter(|(name, _)| *name != "instance").cloned().collect()
    };
    let firsts: Vec<usize> = (0..alerts.len()).filter(|alert| groups.insert(group(alert))).collect();
    let repeated = firsts.iter().filter(|alert| watchdog.is_none_or(|(watched, _)| watched != **alert));
    for (alert, nth) in repeated.flat_map(|alert| (1..=REPEATED_FOR / (10 * MINUTE)).map(move |nth| (*alert, nth))) {
        acts.push((span + nth * 10 * MINUTE, Act::Notify { alert, delays: vec![0], truncate: false }));
    }
    let latencies =
        (0..rng.usize(3..12)).map(|_| rng.choice([0, 0, 0, 1, 3, 20, 150, 700, 2_500]).expect("some")).collect();
    Plan { world: world(rng, services, nodes), rules, api: rng.bool(), fleet, alerts, watchdog, latencies, acts }
}

fn fleet(rng: &mut Rng, rules: &[RuleSpec]) -> Fleet {
    let few = |rng: &mut Rng| (rng.u8(..6) == 0).then(|| rng.u32(1..6));
    Fleet {
        brake_effects: few(rng),
        brake_targets: few(rng),
        target: few(rng),
        engine: few(rng),
        hands_secs: (rng.u8(..4) == 0).then(|| rng.u64(10..600)),
        opposite_secs: (rng.u8(..4) > 0).then(|| rng.u64(20..900)),
        services_at_once: (rng.u8(..6) == 0).then(|| part(rng)),
        nodes_at_once: (rng.u8(..6) == 0).then(|| rng.u32(1..3)),
        freezes: if rng.u8(..12) == 0 { vec![(minutes(rng), scope(rng, rules))] } else { Vec::new() },
    }
}

/// What a freeze is for.
fn scope(rng: &mut Rng, rules: &[RuleSpec]) -> Scope {
    match (rng.u8(..3), rng.choice(rules)) {
        (0, Some(rule)) => Scope::Rule(rule.name.clone()),
        (1, Some(rule)) => Scope::Rule(format!("{}*", &rule.name[..2])),
        (2, _) if rng.bool() => Scope::Tag(rng.choice(TAGS).expect("some").to_string()),
        _ => Scope::All,
    }
}

fn world(rng: &mut Rng, services: usize, nodes: usize) -> String {
    let mut yaml = String::from("services:\n");
    for at in 1..=services {
        let replicas = rng.u8(1..5);
        let start = rng.choice([0, 200, 3_000, 20_000, 90_000]).expect("some");
        let on_failure = if rng.bool() { "pause" } else { "rollback" };
        let mut labels = vec!["runbookd.deploy: \"true\"".to_string()];
        if rng.u8(..8) == 0 {
            labels.push("runbookd.at_once: \"1\"".to_string());
        }
        for (label, value) in [
            ("com.docker.stack.namespace", "shop"),
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

/// Many alerts of one group. Where their rule opens an incident for each, there are many of those.
fn crowd_of(
    rng: &mut Rng,
    sorts: &[&Sort],
    alerts: &mut Vec<Vec<(&'static str, String)>>,
    rules: &mut [RuleSpec],
) -> Range<usize> {
    let first = alerts.len();
    let of_services: Vec<&&Sort> = sorts.iter().filter(|sort| sort.about == About::Service).collect();
    let alertname = rng.choice(of_services).map_or("Unknown", |sort| sort.alertname);
    let matcher = format!("alertname = \"{alertname}\"");
    if let Some(rule) = rules.iter_mut().find(|rule| rule.matchers.contains(&matcher))
        && rng.bool()
    {
        rule.by = Vec::new();
    }
    for at in 0..rng.usize(5..31) {
        let labels = [("alertname", alertname.to_string()), ("service", "app1".to_string())];
        alerts.push(labels.into_iter().chain([("instance", format!("10.0.1.{at}"))]).collect());
    }
    first..alerts.len()
}

/// They fire together, and most of them resolve.
fn crowd(rng: &mut Rng, many: Range<usize>, span: u64, acts: &mut Vec<(u64, Act)>) {
    let mut at = rng.u64(..span / 2);
    for _ in 0..rng.usize(1..4) {
        let lasts = rng.choice([30 * SECOND, 4 * MINUTE, 15 * MINUTE]).expect("some");
        for alert in many.clone() {
            if rng.u8(..8) > 0 {
                acts.push((at + rng.u64(..15 * SECOND), Act::Fire(alert)));
            }
            if rng.u8(..8) > 0 {
                acts.push((at + lasts + rng.u64(..30 * SECOND), Act::Resolve(alert)));
            }
        }
        for after in [20 * SECOND, lasts / 2, lasts + 15 * SECOND, lasts + 40 * SECOND] {
            acts.push((at + after + rng.u64(..5 * SECOND), notify(rng, many.start)));
        }
        at += lasts + rng.choice([40 * SECOND, 5 * MINUTE]).expect("some");
    }
    acts.retain(|(when, _)| *when < span);
}

/// Millisecond and what happens then.
type Acts = Vec<(u64, Act)>;

/// The alert that always fires is told every so often, and for a while it is not. What happens within the plan, and what after it.
fn watched(rng: &mut Rng, alert: usize, every: u64, span: u64, mut acts: Acts) -> (Acts, Acts) {
    let gap = if rng.u8(..4) > 0 { rng.u64(..span) } else { u64::MAX };
    let gap = gap..gap.saturating_add(rng.u64(every / 2..3 * every));
    acts.push((0, Act::Fire(alert)));
    let mut later = Vec::new();
    let mut at = rng.u64(..every / 3);
    while at < span + 60 * MINUTE {
        if !gap.contains(&at) {
            let told = Act::Notify { alert, delays: vec![rng.u64(..2 * SECOND)], truncate: false };
            if at < span { &mut acts } else { &mut later }.push((at, told));
        }
        at += every / 3 + rng.u64(..SECOND);
    }
    (acts, later)
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
    if rng.u8(..5) == 0 {
        for _ in 0..rng.usize(1..4) {
            let slow = Act::JournalSlow { millis: rng.u64(1..500), secs: rng.u64(10..600) };
            acts.push((rng.u64(..span), slow));
        }
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
    if rng.u8(..8) == 0 {
        let service = rng.usize(..services);
        at(rng, Act::HandLabel { service });
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
    acts.retain(|(when, _)| *when < span);
}

/// People stop everything, or a part of it, and let it go on.
fn stops(rng: &mut Rng, span: u64, rules: &[RuleSpec], fleet: &Fleet, acts: &mut Vec<(u64, Act)>) {
    if rng.u8(..4) == 0 {
        let from = rng.u64(..span);
        acts.push((from, Act::Pause));
        acts.push((from + rng.u64(SECOND..20 * MINUTE), Act::Resume));
    }
    if rng.u8(..4) == 0 {
        for _ in 0..rng.usize(1..4) {
            let from = rng.u64(..span);
            acts.push((from, Act::Freeze { scope: scope(rng, rules), secs: rng.u64(1..1_200) }));
            if rng.bool() {
                acts.push((from + rng.u64(..10 * MINUTE), Act::Unfreeze(rng.usize(..3))));
            }
        }
    }
    let brakes = fleet.brake_effects.is_some() || fleet.brake_targets.is_some();
    for _ in 0..if brakes { rng.usize(1..6) } else { rng.usize(..2) } {
        acts.push((rng.u64(..span), Act::Release));
    }
    acts.retain(|(when, _)| *when < span);
}

/// People have runs undone, also while something is stopped or another hand is about.
fn undone(rng: &mut Rng, span: u64, services: usize, acts: &mut Vec<(u64, Act)>) {
    if rng.u8(..3) > 0 {
        return;
    }
    for _ in 0..rng.usize(1..4) {
        let at = rng.u64(..span);
        acts.push((at, Act::Undo(rng.usize(..6))));
        let near = (at + rng.u64(..10 * SECOND)).saturating_sub(5 * SECOND);
        match rng.u8(..8) {
            0 => {
                acts.push((near, Act::Pause));
                acts.push((near + rng.u64(SECOND..3 * MINUTE), Act::Resume));
            }
            1 => acts.push((near, Act::Freeze { scope: Scope::All, secs: rng.u64(1..300) })),
            2 => acts.push((near, Act::Hand { service: rng.usize(..services), replicas: rng.u64(1..7) })),
            3 => acts.push((near, Act::HandImage { service: rng.usize(..services), bad: rng.bool() })),
            4 => acts.push((near, Act::HandLabel { service: rng.usize(..services) })),
            _ => {}
        }
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
