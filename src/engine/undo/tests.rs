use super::*;
use crate::engine::testing::service;
use crate::model::label::Labels;
use crate::model::node_group::{Instance, InstanceState};
use crate::model::step::Outcome;
use serde_json::{Value, json};

fn step(seq: u32, intent: Intent) -> Step {
    Step {
        run: RunId(7),
        seq,
        primitive: "scale".into(),
        args: Vec::new(),
        intent: Some(intent),
        before: None,
        outcome: Outcome::Applied,
        value: Some(Value::Null),
        error: None,
        started_at: jiff::Timestamp::UNIX_EPOCH,
        finished_at: None,
    }
}

/// Steps that changed the service `web`, in order.
fn on_web(changes: impl IntoIterator<Item = ServiceChange>) -> Vec<Step> {
    let id = service("web", 2).id;
    let intent =
        |change| Intent::Services(vec![ServiceIntent { service: "web".into(), id: id.clone(), version: 1, change }]);
    (0..).zip(changes).map(|(seq, change)| step(seq, intent(change))).collect()
}

fn scale(from: u64, to: u64) -> ServiceChange {
    ServiceChange::Scale { from, to }
}

fn with_web(change: impl FnOnce(&mut Service)) -> Cluster {
    let mut web = service("web", 2);
    change(&mut web);
    Cluster { services: vec![web], ..Cluster::default() }
}

/// The plan in short: each step as `seq word: what`, then what it may do, then why it is refused.
fn shown(plan: &Plan) -> String {
    let line = |line: &Line| {
        let (word, what) = match &line.undo {
            Undo::Does(what) => ("does", what),
            Undo::AsBefore(what) => ("as before", what),
            Undo::Cannot(what) => ("cannot", what),
            Undo::Changed(what) => ("changed", what),
        };
        format!("{} {word}: {what}", line.seq)
    };
    let mut all: Vec<String> = plan.lines.iter().map(line).collect();
    all.extend(plan.allow.iter().map(|(primitive, target)| format!("allow {primitive} {target}")));
    all.extend(plan.refused().map(|why| format!("refused: {why}")));
    all.join("\n")
}

fn check(steps: &[Step], cluster: Cluster, expect: &[&str]) -> Plan {
    let plan = plan(RunId(7), steps, cluster);
    assert_eq!(shown(&plan), expect.join("\n"));
    // Whatever is planned is a valid runbook, and stays one line a comment.
    let sources =
        crate::model::run::Sources { name: "undo".into(), main: plan.source.as_str().into(), modules: BTreeMap::new() };
    let compiled = crate::runbook::program::Program::compile(sources.into());
    let wrong = compiled.err().map(|findings| findings.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(wrong, None, "{}", plan.source);
    plan
}

#[test]
fn a_scale_goes_back_step_by_step() {
    check(
        &on_web([scale(2, 3), scale(3, 5)]),
        with_web(|web| web.replicas = 5),
        &["1 does: web: 5 → 3 replicas", "0 does: web: 3 → 2 replicas", "allow scale web"],
    );
    check(
        &on_web([scale(2, 3)]),
        with_web(|web| web.replicas = 2),
        &["0 as before: web has 2 replicas", "refused: there is nothing that could be put back"],
    );
    let since = "web has 4 replicas, not the 3 that the run set";
    check(
        &on_web([scale(2, 3)]),
        with_web(|web| web.replicas = 4),
        &[&format!("0 changed: {since}"), &format!("refused: the cluster was changed since: {since}")],
    );
    // Where the run found it: nothing of what it did on the way is done again.
    check(
        &on_web([scale(2, 5), scale(5, 2)]),
        with_web(|web| web.replicas = 2),
        &[
            "1 as before: web has 2 replicas",
            "0 as before: web has 2 replicas",
            "refused: there is nothing that could be put back",
        ],
    );
    check(
        &on_web([scale(2, 5), scale(5, 2), scale(2, 3)]),
        with_web(|web| web.replicas = 3),
        &[
            "2 does: web: 3 → 2 replicas",
            "1 as before: web has 2 replicas",
            "0 as before: web has 2 replicas",
            "allow scale web",
        ],
    );
    // Another hand between two steps of the run.
    let since = "web has 5 replicas, not the 3 that the run set";
    check(
        &on_web([scale(2, 3), scale(5, 6)]),
        with_web(|web| web.replicas = 6),
        &[
            "1 does: web: 6 → 5 replicas",
            &format!("0 changed: {since}"),
            "allow scale web",
            &format!("refused: the cluster was changed since: {since}"),
        ],
    );
    let gone = "the service web is no longer there";
    check(
        &on_web([scale(2, 3)]),
        Cluster::default(),
        &[&format!("0 changed: {gone}"), &format!("refused: the cluster was changed since: {gone}")],
    );
    let anew = "the service web was removed and made anew";
    check(
        &on_web([scale(2, 3)]),
        with_web(|web| (web.replicas, web.id) = (3, "other".into())),
        &[&format!("0 changed: {anew}"), &format!("refused: the cluster was changed since: {anew}")],
    );
}

#[test]
fn the_plan_is_a_runbook_that_looks_before_it_acts() {
    let plan = check(
        &on_web([scale(2, 3)]),
        with_web(|web| web.replicas = 3),
        &["0 does: web: 3 → 2 replicas", "allow scale web"],
    );
    assert_eq!(
        plan.source,
        r#"//! Puts back what run r7 did.

fn on_event(event, params) {
    // Step 0 of r7: web: 2 → 3 replicas at version 1
    let found = service("web");
    if !(found.replicas == 3) { fail("web no longer has 3 replicas: it was changed since"); }
    scale("web", 2);
}
"#
    );
}

fn update(from: SpecFields, to: SpecFields) -> ServiceChange {
    ServiceChange::Update { from, to }
}

fn labels(pairs: &[(&str, Option<&str>)]) -> BTreeMap<String, Option<String>> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.map(str::to_string))).collect()
}

#[test]
fn an_update_goes_back_field_by_field() {
    let image = |image: &str| SpecFields { image: Some(image.into()), ..SpecFields::default() };
    check(
        &on_web([update(image("shop/web:1"), image("shop/web:2"))]),
        with_web(|web| web.image = "shop/web:2@sha256:abc".into()),
        &["0 does: web: image shop/web:2@sha256:abc → shop/web:1", "allow update web"],
    );
    let since = "web is no longer as the run's update left it";
    check(
        &on_web([update(image("shop/web:1"), image("shop/web:2"))]),
        with_web(|web| web.image = "shop/web:3".into()),
        &[&format!("0 changed: {since}"), &format!("refused: the cluster was changed since: {since}")],
    );
    let set = |pairs| SpecFields { labels: labels(pairs), ..SpecFields::default() };
    let plan = check(
        &on_web([update(set(&[("a", Some("1\n\"")), ("b", None)]), set(&[("a", None), ("b", Some("2"))]))]),
        with_web(|web| web.labels = [("b", "2")].into_iter().collect()),
        &["0 does: web: label a=1\n\", without the label b", "allow update web"],
    );
    assert!(plan.source.contains(r#"update("web", #{ labels: #{ "a": "1\n\"", "b": () } });"#), "{}", plan.source);
    let limit = |cpus: Option<i64>| Some(Limits { nano_cpus: cpus, memory_bytes: None });
    let limits = |cpus| SpecFields { limits: limit(cpus), ..SpecFields::default() };
    let plan = check(
        &on_web([update(limits(None), limits(Some(5)))]),
        with_web(|web| web.limits.nano_cpus = Some(5)),
        &["0 does: web: the limits of before", "allow update web"],
    );
    assert!(plan.source.contains("limits: #{ nano_cpus: 0 }"), "{}", plan.source);
    let env = SpecFields { env: labels(&[("TOKEN", Some("hunter2"))]), ..SpecFields::default() };
    let plan = check(
        &on_web([update(SpecFields::default(), env)]),
        with_web(|_| {}),
        &[
            "0 cannot: it set TOKEN of web, whose values before are not recorded: they may be secrets",
            "refused: there is nothing that could be put back",
        ],
    );
    assert!(!plan.source.contains("hunter2"), "{}", plan.source);
}

#[test]
fn a_rollback_is_rolled_back_only_to_where_it_came_from() {
    let rollback = || ServiceChange::Rollback { from: "new".into(), to: "old".into() };
    let web = |now: &str, before: &str| {
        let (now, before) = (now.to_string(), before.to_string());
        with_web(|web| (web.template_hash, web.previous_template_hash) = (now, Some(before)))
    };
    check(
        &on_web([rollback()]),
        web("old", "new"),
        &["0 does: web: back to the task template new", "allow rollback web"],
    );
    let since = "web was changed after the rollback, so that another would not lead back";
    check(
        &on_web([rollback()]),
        web("old", "other"),
        &[&format!("0 changed: {since}"), &format!("refused: the cluster was changed since: {since}")],
    );
}

fn node(name: &str, availability: &str, role: &str) -> Node {
    Node {
        id: format!("id-{name}"),
        name: name.into(),
        availability: availability.into(),
        role: role.into(),
        ..Node::default()
    }
}

#[test]
fn nodes_and_machines_go_back() {
    let on_node =
        |seq, change| step(seq, Intent::Node(NodeIntent { node: "n1".into(), id: "id-n1".into(), version: 1, change }));
    let drained = || NodeChange::Availability { from: "active".into(), to: "drain".into() };
    let promoted = || NodeChange::Role { from: "worker".into(), to: "manager".into() };
    check(
        &[on_node(0, drained()), on_node(1, promoted())],
        Cluster { nodes: vec![node("n1", "drain", "manager")], ..Cluster::default() },
        &[
            "1 does: node n1: role manager → worker",
            "0 does: node n1: availability drain → active",
            "allow demote n1",
            "allow activate n1",
        ],
    );
    let activated = NodeChange::Availability { from: "drain".into(), to: "active".into() };
    check(
        &[on_node(0, drained()), on_node(1, activated)],
        Cluster { nodes: vec![node("n1", "active", "worker")], ..Cluster::default() },
        &[
            "1 as before: the availability of node n1 is active",
            "0 as before: the availability of node n1 is active",
            "refused: there is nothing that could be put back",
        ],
    );
    let since = "the availability of node n1 is pause, not drain as the run set it";
    check(
        &[on_node(0, drained()), on_node(1, NodeChange::Remove)],
        Cluster { nodes: vec![node("n1", "pause", "worker")], ..Cluster::default() },
        &[
            "1 cannot: a node that was removed joins anew, or not at all",
            &format!("0 changed: {since}"),
            &format!("refused: the cluster was changed since: {since}"),
        ],
    );
    let grown = |before: Value| {
        let change = GroupChange::Resize { from: 1, to: 2 };
        Step { before: Some(before), ..step(0, Intent::Group(GroupIntent { group: "workers".into(), change })) }
    };
    let group = |second: Option<&str>| {
        let machine = |id: &str, node: Option<&str>| Instance {
            id: id.into(),
            node: node.map(str::to_string),
            state: InstanceState::InService,
        };
        let instances = vec![machine("i-1", Some("n1")), machine("i-2", second)];
        let workers = NodeGroup { name: "workers".into(), desired: 2, min: 1, max: 5, instances };
        Cluster { groups: [("workers".to_string(), workers)].into_iter().collect(), ..Cluster::default() }
    };
    let before = json!({ "desired": 1, "instances": ["i-1"] });
    check(
        &[grown(before.clone())],
        group(Some("n2")),
        &["0 does: workers: 2 → 1 machines; n2 drained and removed", "allow drain n2", "allow remove_node workers"],
    );
    check(
        &[grown(before)],
        group(None),
        &[
            "0 cannot: not all machines that workers was given are nodes of the Swarm yet",
            "refused: there is nothing that could be put back",
        ],
    );
    check(
        &[grown(json!({ "desired": 1 }))],
        group(Some("n2")),
        &[
            "0 cannot: it is not recorded which machines workers had before",
            "refused: there is nothing that could be put back",
        ],
    );
}

#[test]
fn what_has_no_inverse_is_said_and_does_not_stop_the_rest() {
    let post = Intent::Post { target: "ticketing".into(), body: Value::Null };
    let mut steps = on_web([scale(2, 3)]);
    steps.push(step(1, post));
    steps.push(step(2, Intent::Reload { target: "proxy".into(), service: None }));
    // What did not happen is not undone.
    steps.push(Step { outcome: Outcome::Denied, value: None, ..on_web([scale(3, 9)]).remove(0) });
    steps.push(Step { outcome: Outcome::Unchanged, ..on_web([scale(3, 3)]).remove(0) });
    // What is in doubt is looked at: it did not happen either.
    steps.push(Step { seq: 5, outcome: Outcome::InDoubt, value: None, ..on_web([scale(3, 4)]).remove(0) });
    check(
        &steps,
        with_web(|web| web.replicas = 3),
        &[
            "5 as before: web has 3 replicas",
            "2 cannot: a reload has no inverse",
            "1 cannot: what was sent cannot be taken back",
            "0 does: web: 3 → 2 replicas",
            "allow scale web",
        ],
    );
}

#[test]
fn an_undo_may_do_what_its_plan_says_and_nothing_else() {
    let run = |allow: Value| Run {
        id: RunId(8),
        incident: crate::model::incident::IncidentId(2),
        rule: "scale-out".into(),
        runbook: "undo".into(),
        program: crate::model::run::ProgramHash("".into()),
        handler: crate::model::run::Handler::OnEvent,
        shadow: false,
        plan: None,
        approved_by: Vec::new(),
        undoes: Some(RunId(7)),
        attempt: 1,
        state: crate::model::run::RunState::Running,
        reason: None,
        input: std::sync::Arc::new(crate::model::run::Input { alert: Value::Null, params: json!({ "allow": allow }) }),
        wake_at: None,
        resumes: 0,
        log: Vec::new(),
        started_at: jiff::Timestamp::UNIX_EPOCH,
        finished_at: None,
    };
    let tags = vec!["capacity".to_string()];
    let in_force = Rule { replicas: Some((2, 4)), tags, ..Rule::matching("scale-out", Vec::new()) };
    let rule = rule(&run(json!([["scale", "web"], ["update", "*"]])), Some(&in_force));
    let allowed = |primitive: &str, target: &str| {
        crate::engine::guard::before_call(Some(&rule), &Labels::default(), primitive, target).is_ok()
    };
    assert!(allowed("scale", "web"));
    assert!(!allowed("scale", "web2"));
    assert!(!allowed("update", "web"));
    assert_eq!(rule.replicas, Some((2, 4)));
    assert!(
        crate::model::freeze::Scope::Tag("capacity".into()).covers(Some(&rule)),
        "what freezes the rule freezes its undo"
    );
    assert!(super::rule(&run(Value::Null), None).allow.is_empty());
}
