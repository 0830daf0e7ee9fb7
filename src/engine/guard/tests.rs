use super::at_once::AT_ONCE_LABEL as AT_ONCE;
use super::*;
use crate::config::{ArbitrationConfig, BrakeConfig, FreezeConfig};
use crate::engine::ledger::Ledger;
use crate::engine::testing::service;
use crate::model::cluster::{Node, UpdateState};
use crate::model::effect::{Effect, Way};
use crate::model::freeze::{Freeze, FreezeId, Scope, Window};
use crate::model::matcher::{Matcher, Op};
use crate::model::rule::{AtOnce, Budget, Grant, Share};
use crate::model::run::RunId;
use crate::model::template::Template;
use std::collections::BTreeMap;
use std::sync::LazyLock;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).expect("a valid instant")
}

fn rule() -> Rule {
    let grant = |primitive: &str, target: &str| Grant {
        primitive: primitive.into(),
        target: Template::parse(target).expect("a valid template"),
    };
    let matchers = vec![Matcher::new("alertname", Op::Equal, "A").expect("a valid matcher")];
    Rule {
        by: vec!["service".into()],
        runbook: Some("scale_out".into()),
        allow: vec![grant("scale", "{{ service }}"), grant("restart", "web-*")],
        cooldown: Some(Duration::from_secs(300)),
        budget: Some(Budget { count: 3, per: Duration::from_secs(3600) }),
        ..Rule::matching("scale-out", matchers)
    }
}

fn no_stops() -> Stops<'static> {
    static NONE: BTreeMap<String, FreezeConfig> = BTreeMap::new();
    Stops { paused: None, freezes: Freezes { configured: &NONE, one_off: &[] }, braked: None }
}

fn pulled(why: &str) -> Stops<'static> {
    Stops { paused: Some(why.into()), ..no_stops() }
}

static ARBITRATION: ArbitrationConfig =
    ArbitrationConfig { hands: Some(Duration::from_secs(120)), opposite: Some(Duration::from_secs(60)) };
static NO_BRAKE: BrakeConfig = BrakeConfig { targets: None, effects: None };

fn fleet<'a>(ledger: &'a Ledger, brake: &'a BrakeConfig, targets: &'a [String]) -> Fleet<'a> {
    Fleet { ledger, target: None, engine: None, brake, released_at: Timestamp::UNIX_EPOCH, targets }
}

fn nothing_done() -> Fleet<'static> {
    static NOTHING: LazyLock<Ledger> = LazyLock::new(Ledger::default);
    fleet(&NOTHING, &NO_BRAKE, &[])
}

fn calm() -> Situation<'static> {
    Situation {
        now: at(1000),
        stops: no_stops(),
        firing: Firing { confirmed: 1, ..Firing::default() },
        mode: Mode::Auto,
        approved: false,
        breaker: None,
        attempt: 0,
        last_effect: None,
        attempts_in_window: 0,
        fleet: nothing_done(),
        locked: None,
        updating: Updating::None,
        hand: None,
        arbitration: &ARBITRATION,
    }
}

/// The guard that decided, its verdict, and its words.
fn check_verdict(situation: Situation, guard: &str, verdict: &str, words: &str) {
    let (by, said) = before_run(&rule(), &situation);
    let text = match &said {
        Verdict::Hold { reason, .. } | Verdict::Deny(reason) => reason.text.clone(),
        _ => String::new(),
    };
    assert_eq!((by, said.name()), (guard, verdict), "{text}");
    assert!(text.contains(words), "{text:?} does not say {words:?}");
}

#[test]
fn the_first_guard_that_does_not_allow_decides_and_names_the_figure() {
    let check = check_verdict;
    check(calm(), "all", "allow", "");
    check(Situation { stops: pulled("by ann: deploy"), ..calm() }, "paused", "hold", "by ann");
    check(Situation { mode: Mode::Shadow, ..calm() }, "mode", "rehearse", "");
    check(Situation { mode: Mode::Approve, ..calm() }, "approval", "rehearse", "");
    check(Situation { mode: Mode::Approve, approved: true, ..calm() }, "all", "allow", "");
    // Nobody is asked about what could not run; a rehearsal in the shadow needs neither cooldown nor budget.
    let spent = Situation { attempts_in_window: 3, ..calm() };
    check(Situation { mode: Mode::Approve, ..spent.clone() }, "budget", "deny", "3 attempts");
    check(Situation { mode: Mode::Shadow, ..spent }, "mode", "rehearse", "");
    let gone = Firing::default();
    check(Situation { firing: gone, ..calm() }, "still_firing", "resolved", "");
    check(Situation { firing: Firing { unconfirmed: 1, ..gone }, ..calm() }, "still_firing", "hold", "may be gone");
    check(Situation { firing: Firing { suppressed: 2, ..gone }, ..calm() }, "still_firing", "hold", "silenced");
    check(Situation { breaker: Some("3 in a row"), ..calm() }, "breaker", "deny", "3 in a row");
    check(Situation { breaker: Some("x"), firing: gone, ..calm() }, "still_firing", "resolved", "");
    let last = Some((at(880), "web: 2 → 3 replicas"));
    check(Situation { last_effect: last, ..calm() }, "cooldown", "hold", "web: 2 → 3 replicas 2m ago, 3m of 5m to go");
    check(Situation { last_effect: last, attempt: 1, ..calm() }, "all", "allow", "");
    check(Situation { last_effect: Some((at(700), "x")), ..calm() }, "all", "allow", "");
    check(Situation { attempts_in_window: 2, ..calm() }, "all", "allow", "");
    check(Situation { attempts_in_window: 3, ..calm() }, "budget", "deny", "the budget is 3 per 1h");
    let locked = Some(("service web", IncidentId(4)));
    check(Situation { locked, ..calm() }, "lock", "hold", "service web is being worked on by incident i4");
    let updating = |updating| Situation { updating, ..calm() };
    check(updating(Updating::Service("web")), "updating", "hold", "web is in the middle of an update");
    check(updating(Updating::Unknown("web")), "updating", "hold", "the cluster has not answered yet");
    let hand = Hand { service: "web".into(), at: at(940), changed: "image".into() };
    let says = "another hand changed web 1m ago (image); arbitration.hands leaves it 2m, 1m to go";
    check(Situation { hand: Some(&hand), ..calm() }, "another_hand", "hold", says);
    let before = Hand { at: at(880), ..hand };
    check(Situation { hand: Some(&before), ..calm() }, "all", "allow", "");
    // The order is DESIGN's: a pause is named before anything else.
    check(Situation { stops: pulled("x"), attempts_in_window: 3, locked, ..calm() }, "paused", "hold", "x");
}

/// Scales `name` (labels of the service, labels of its container) from 2; `expect` is "" or a part of the refusal.
fn effect(name: &str, to: u64, labels: &[(&str, &str)], container: &[(&str, &str)], expect: &str) {
    let mut found = service(name, 2);
    found.labels = labels.iter().copied().collect();
    found.container_labels = container.iter().copied().collect();
    let change = ServiceChange::Scale { from: 2, to };
    let intent = ServiceIntent { service: name.into(), id: found.id.clone(), version: 7, change };
    let alert: Labels = [("service", "web")].into_iter().collect();
    let bounds = Bounds { replicas_min: 1, replicas_max: 10 };
    let said = before_effect(Some(&rule()), &alert, bounds, "scale", &[(intent, found)]);
    match said {
        Ok(()) => assert_eq!(expect, "", "scale {name} to {to} was allowed"),
        Err((_, reason)) => assert!(!expect.is_empty() && reason.text.contains(expect), "{reason}"),
    }
}

#[test]
fn an_effect_stays_within_its_grant_and_the_narrowest_bounds() {
    effect("web", 3, &[], &[], "");
    effect("api", 3, &[], &[], "allows scale on {{ service }} only, not on \"api\"");
    effect("web", 11, &[], &[], "more than 10, the most that the configuration's bounds.replicas_max");
    effect("web", 0, &[], &[], "fewer than 1");
    effect("web", 5, &[("com.df.scaleMax", "4")], &[], "more than 4, the most that the label com.df.scaleMax of web");
    effect("web", 5, &[], &[("com.df.scaleMax", "4")], "more than 4");
    effect("web", 5, &[("com.df.scaleMax", "6")], &[("com.df.scaleMax", "4")], "more than 4");
    effect("web", 1, &[("com.df.scaleMin", "2")], &[], "fewer than 2");
    effect("web", 5, &[("com.df.scaleMax", "many")], &[], "is no number");
    // Out of bounds already, and on the way back in.
    effect("web", 1, &[("com.df.scaleMax", "0")], &[], "");
}

#[test]
fn a_deleted_rule_and_an_unnamed_primitive_allow_nothing() {
    let labels: Labels = [("service", "web")].into_iter().collect();
    let bounds = Bounds { replicas_min: 1, replicas_max: 10 };
    assert!(before_effect(None, &labels, bounds, "scale", &[]).is_err());
    assert!(before_call(Some(&rule()), &labels, "reload", "prometheus").is_err());
    let found = service("web", 2);
    let change = ServiceChange::Restart { from: 0, to: 1 };
    let intent = ServiceIntent { service: "web".into(), id: "x".into(), version: 1, change };
    let refused = before_effect(Some(&rule()), &labels, bounds, "restart", &[(intent, found)]);
    assert_eq!(refused.expect_err("web is not web-*").0, "grant");
}

#[test]
fn of_the_freezes_that_are_in_force_for_a_rule_the_last_to_end_holds_it() {
    let window = |text: &str| Window::parse(text).expect("a window");
    let one_off = |id, scope, until| Freeze {
        id: FreezeId(id),
        scope,
        by: "ann".into(),
        reason: "migration".into(),
        at: at(0),
        until,
    };
    let configured = |when: &str, tags: &[&str]| {
        let tags = tags.iter().map(ToString::to_string).collect();
        let freeze = FreezeConfig { when: vec![window(when)], reason: "nobody is there".into(), rules: vec![], tags };
        BTreeMap::from([("weekend".to_string(), freeze)])
    };
    // At 00:16:40 on a Thursday.
    let check = |own: &str, configured: BTreeMap<String, FreezeConfig>, one_off: &[Freeze], expect: Option<&str>| {
        let freeze = if own.is_empty() { Vec::new() } else { vec![window(own)] };
        let rule = Rule { freeze, tags: vec!["web".into()], ..rule() };
        let freezes = Freezes { configured: &configured, one_off };
        let stops = Stops { freezes, ..no_stops() };
        let situation = Situation { stops: stops.clone(), attempts_in_window: 3, ..calm() };
        let (by, said) = before_run(&rule, &situation);
        match (&said, expect) {
            (Verdict::Hold { until, page: Page::Now, reason }, Some(words)) => {
                assert_eq!((by, &*reason.code), ("freeze", "freeze"));
                assert!(until.is_some_and(|until| until > calm().now) && reason.text.contains(words), "{reason}");
                assert_eq!(stopped(Some(&rule), &stops, calm().now), (by, said));
            }
            // What comes after it is asked.
            (_, None) => assert_eq!(by, "budget", "{said:?}"),
            other => panic!("{other:?}"),
        }
    };
    let none = BTreeMap::new;
    check("", none(), &[], None);
    check("Wed 16:00 - Thu 08:00", none(), &[], Some("rule scale-out: Wed 16:00 - Thu 08:00"));
    check("Wed 16:00 - Thu 00:16", none(), &[], None);
    check("", configured("00:00 - 01:00", &[]), &[], Some("weekend of the configuration: nobody is there"));
    check("", configured("00:00 - 01:00", &["web"]), &[], Some("43m20s to go, until 2026-01-01T01:00:00Z"));
    check("", configured("00:00 - 01:00", &["db"]), &[], None);
    check("", none(), &[one_off(1, Scope::All, at(1001))], Some("f1 by ann, for everything: migration"));
    check("", none(), &[one_off(1, Scope::All, at(1000))], None);
    check("", none(), &[one_off(1, Scope::Rule("other".into()), at(2000))], None);
    let two = [one_off(1, Scope::All, at(1500)), one_off(2, Scope::Tag("web".into()), at(2000))];
    check("", none(), &two, Some("f2 by ann, for the rules tagged web"));
    check("00:00 - 02:00", none(), &two, Some("rule scale-out"));
}

fn no_effect() -> Effect {
    Effect {
        at: at(1000),
        rule: "scale-out".into(),
        incident: IncidentId(99),
        run: RunId(99),
        seq: 0,
        targets: Vec::new(),
        way: None,
    }
}

/// Effects at these seconds, each on these targets.
fn ledger(effects: &[(i64, &[&str])]) -> Ledger {
    let mut ledger = Ledger::default();
    for (run, (second, targets)) in (1..).zip(effects) {
        let targets = targets.iter().map(ToString::to_string).collect();
        ledger.note(&Effect {
            at: at(*second),
            rule: "other".into(),
            incident: IncidentId(run),
            run: RunId(run),
            seq: 0,
            targets,
            way: None,
        });
    }
    ledger
}

#[test]
fn a_budget_counts_what_all_rules_did_to_a_target_and_in_all() {
    let per_minute = |count| Some(Budget { count, per: Duration::from_secs(60) });
    let done = ledger(&[(930, &["service web"]), (950, &["service web", "service api"]), (960, &["service db"])]);
    let check = |own, target, engine, names: &[&str], expect: &str| {
        let rule = Rule { target_budget: own, ..rule() };
        let targets: Vec<String> = names.iter().map(ToString::to_string).collect();
        let fleet = Fleet { target, engine, ..fleet(&done, &NO_BRAKE, &targets) };
        let (by, said) = before_run(&rule, &Situation { fleet, ..calm() });
        let change = Change {
            now: calm().now,
            stops: no_stops(),
            fleet,
            effect: &no_effect(),
            arbitration: calm().arbitration,
            companies: &[],
            counted: false,
            gives_back: false,
        };
        assert_eq!(before_change(Some(&rule), &change), (by, said.clone()));
        for exempt in [Change { counted: true, ..change.clone() }, Change { gives_back: true, ..change.clone() }] {
            assert_eq!(before_change(Some(&rule), &exempt).1, Verdict::Allow);
        }
        match said {
            Verdict::Deny(reason) => {
                assert_eq!((by, &*reason.code), ("budget", "budget"));
                assert!(!expect.is_empty() && reason.text.contains(expect), "{reason}");
            }
            said => assert_eq!((said, expect), (Verdict::Allow, "")),
        }
    };
    check(None, None, None, &["service web"], "");
    let says = "1 effect on service web in the last 1m, the budget of rule scale-out is 1 per 1m";
    check(per_minute(1), None, None, &["service web"], says);
    check(per_minute(2), None, None, &["service web"], "");
    check(per_minute(1), None, None, &["service other"], "");
    check(per_minute(1), None, None, &["service other", "service api"], "1 effect on service api");
    check(None, per_minute(1), None, &["service db"], "of the configuration (budgets.target) is 1 per 1m");
    check(None, None, per_minute(2), &["service other"], "2 effects of all rules in the last 1m");
    check(None, None, per_minute(3), &["service other"], "");
}

#[test]
fn the_fleet_brake_pulls_at_too_many_effects_or_targets_and_holds_until_it_is_released() {
    let per_minute = |count| Some(Budget { count, per: Duration::from_secs(60) });
    let done = ledger(&[(930, &["service web"]), (950, &["service web", "service api"]), (960, &["service db"])]);
    let check = |brake: BrakeConfig, released_at, names: &[&str], expect: &str| {
        let targets: Vec<String> = names.iter().map(ToString::to_string).collect();
        let fleet = Fleet { released_at, ..fleet(&done, &brake, &targets) };
        let change = Change {
            now: calm().now,
            stops: no_stops(),
            fleet,
            effect: &no_effect(),
            arbitration: calm().arbitration,
            companies: &[],
            counted: false,
            gives_back: true,
        };
        let (by, said) = before_change(Some(&rule()), &change);
        // Of several targets a run need change but one.
        if names.len() == 1 {
            assert_eq!(before_run(&rule(), &Situation { fleet, ..calm() }), (by, said.clone()));
        } else {
            assert_eq!(before_run(&rule(), &Situation { fleet, ..calm() }).1, Verdict::Allow);
        }
        match said {
            Verdict::Hold { until: None, page: Page::Never, reason } => {
                assert_eq!((by, &*reason.code), ("brake", "brake"));
                assert!(!expect.is_empty() && reason.text.contains(expect), "{reason}");
            }
            said => assert_eq!((said, expect), (Verdict::Allow, "")),
        }
    };
    let (effects, targets) = (
        |count| BrakeConfig { effects: per_minute(count), targets: None },
        |count| BrakeConfig { targets: per_minute(count), effects: None },
    );
    check(effects(2), at(0), &["service x"], "2 effects in the last 1m; brake.effects is 2 per 1m");
    check(effects(3), at(0), &["service x"], "");
    check(effects(2), at(955), &["service x"], "");
    // Nothing is admitted before it is released: what was in the same moment came after it.
    check(effects(1), at(960), &["service x"], "1 effect in the last 1m");
    let says = "3 targets changed in the last 1m, and next service x; brake.targets is 3 per 1m";
    check(targets(3), at(0), &["service x"], says);
    // What is changed again is no more than there was.
    check(targets(3), at(0), &["service web"], "");
    check(targets(4), at(0), &["service x"], "");
    check(targets(4), at(0), &["service x", "service y"], "and next service x, service y");
    check(targets(3), at(955), &["service x"], "");

    // What could never pass is no reason to stop everything else.
    let asked = ["service x".to_string(), "service y".to_string()];
    let one = targets(1);
    let (effect, fleet) = (no_effect(), fleet(&done, &one, &asked));
    let change = Change {
        now: calm().now,
        stops: no_stops(),
        fleet,
        effect: &effect,
        arbitration: calm().arbitration,
        companies: &[],
        counted: false,
        gives_back: false,
    };
    let (by, said) = before_change(Some(&rule()), &change);
    let expect = Reason::new("brake", "one step would change 2 targets; brake.targets is 1 per 1m");
    assert_eq!((by, said), ("brake", Verdict::Deny(expect)));

    let stops = Stops { braked: Some("why"), ..no_stops() };
    let locked = Some(("service web", IncidentId(4)));
    check_verdict(Situation { stops, locked, ..calm() }, "brake", "hold", "it goes on with `runbookd release`");
}

#[test]
fn what_belongs_together_is_changed_a_part_at_a_time() {
    let stacked = |name: &str, stack: &str, label: &str| {
        let labels = [("com.docker.stack.namespace", stack), (AT_ONCE, label)];
        let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
        Service { labels: labels.collect(), ..service(name, 2) }
    };
    let updating = UpdateState::Updating;
    let mut all = ["a", "b", "c", "d"].map(|name| stacked(name, "shop", "")).to_vec();
    all.push(Service { update: updating, ..stacked("other", "", "") });
    let check = |change: &dyn Fn(&mut Vec<Service>), cap: &str, asked: &[&str], held: &[&str], expect: &str| {
        let mut all = all.clone();
        change(&mut all);
        let targets: Vec<&Service> = all.iter().filter(|service| asked.contains(&&*service.name)).collect();
        let of_rule = Rule { at_once: AtOnce { services: cap.parse().ok(), nodes: None }, ..rule() };
        let mut companies = stacks(&all, &targets, AtOnce::default(), Some(&of_rule)).expect("caps that can be read");
        for member in companies.iter_mut().flat_map(|company| &mut company.members) {
            member.held = held.contains(&&*member.name);
        }
        let done = ledger(&[(900, &["service b"]), (900, &["service c"])]);
        let fleet = fleet(&done, &NO_BRAKE, &[]);
        let change = Change {
            now: at(1000),
            stops: no_stops(),
            fleet,
            effect: &no_effect(),
            arbitration: calm().arbitration,
            companies: &companies,
            counted: false,
            gives_back: true,
        };
        let (_, said) = before_change(Some(&of_rule), &change);
        let text = match &said {
            Verdict::Hold { page: Page::Later, reason, .. } | Verdict::Deny(reason) => reason.to_string(),
            _ => String::new(),
        };
        assert_eq!(text.is_empty(), expect.is_empty(), "{said:?}");
        assert!(text.contains(expect), "{text}");
    };
    let as_is = |_: &mut Vec<_>| {};
    check(&as_is, "25%", &["a"], &[], "");
    check(
        &as_is,
        "25%",
        &["a", "d"],
        &[],
        "bounds: 2 are to be changed in one step; 1 of 4 services of the stack shop at once",
    );
    check(&as_is, "50%", &["a", "d"], &[], "");
    // Another incident has changed one and not verified it yet; that it holds one that it did not change is nothing.
    check(
        &as_is,
        "1",
        &["a"],
        &["b"],
        "at_once: b is being changed; 1 of 4 services of the stack shop at once are the most that rule scale-out allows (1)",
    );
    check(&as_is, "1", &["a"], &["d"], "");
    check(&as_is, "2", &["a"], &["b"], "");
    check(&as_is, "1", &["b"], &["b"], "");
    // Whoever began the update; what we changed and is not whole; what is not whole for reasons of its own.
    check(&|all: &mut Vec<_>| all[3].update = updating, "1", &["a"], &[], "d is being changed");
    check(&|all: &mut Vec<_>| all[2].running = 1, "1", &["a"], &[], "c is being changed");
    check(&|all: &mut Vec<_>| all[3].running = 1, "1", &["a"], &[], "");
    check(
        &|all: &mut Vec<_>| all[0] = stacked("a", "shop", "1"),
        "3",
        &["a"],
        &["b"],
        "the label runbookd.at_once of a allows",
    );
    // Of no stack there is one service, and it may be changed.
    check(&as_is, "1", &["other"], &[], "");
}

#[test]
fn a_label_that_is_no_share_allows_nothing() {
    let labels = [(AT_ONCE, "some")].into_iter().collect();
    let target = Service { labels, ..service("a", 2) };
    assert!(caps_services(AtOnce::default(), None, &[&target]));
    let refused = stacks(std::slice::from_ref(&target), &[&target], AtOnce::default(), None).expect_err("no share");
    assert!(refused.text.contains("the label runbookd.at_once of a: \"some\" is no part of a whole"), "{refused}");
}

#[test]
fn one_node_at_a_time_counts_those_that_are_out_of_work() {
    let node = |name: &str, role: &str, state: &str, availability: &str| Node {
        id: name.into(),
        name: name.into(),
        role: role.into(),
        state: state.into(),
        availability: availability.into(),
        ..Node::default()
    };
    let check = |other: Node, expect: &str| {
        let all = [node("m", "manager", "ready", "drain"), node("a", "worker", "ready", "active"), other];
        let cap = AtOnce { services: None, nodes: Some(Share::Count(1)) };
        let companies: Vec<Company> = nodes(&all, "a", cap, None).into_iter().collect();
        let nothing = Ledger::default();
        let fleet = fleet(&nothing, &NO_BRAKE, &[]);
        let change = Change {
            now: at(1000),
            stops: no_stops(),
            fleet,
            effect: &no_effect(),
            arbitration: calm().arbitration,
            companies: &companies,
            counted: false,
            gives_back: true,
        };
        match before_change(Some(&rule()), &change) {
            (_, Verdict::Hold { reason, .. }) => {
                assert!(!expect.is_empty() && reason.text.contains(expect), "{reason}");
            }
            (_, said) => assert_eq!((said, expect), (Verdict::Allow, "")),
        }
    };
    check(node("b", "worker", "ready", "active"), "");
    let says =
        "b is being changed; 1 of 3 nodes at once are the most that the configuration (bounds.at_once) allows (1)";
    check(node("b", "worker", "ready", "drain"), says);
    check(node("b", "worker", "down", "active"), says);
    check(node("b", "manager", "down", "active"), says);
    check(node("b", "manager", "ready", "drain"), "");
    assert_eq!(nodes(&[], "a", AtOnce::default(), None), None);
}

#[test]
fn what_another_rule_has_just_raised_is_not_lowered() {
    let effect = |second, rule: &str, run, target: &str, way| Effect {
        at: at(second),
        rule: rule.into(),
        run: RunId(run),
        targets: vec![target.into()],
        way,
        ..no_effect()
    };
    let mut done = Ledger::default();
    done.note(&effect(920, "old", 1, "service web", Some(Way::Up)));
    done.note(&effect(970, "other", 2, "service api", Some(Way::Up)));
    done.note(&effect(980, "scale-out", 3, "service db", Some(Way::Up)));
    let check = |target: &str, way, expect: &str| {
        let asked = effect(1000, "scale-out", 9, target, way);
        let change = Change {
            now: at(1000),
            stops: no_stops(),
            fleet: fleet(&done, &NO_BRAKE, &asked.targets),
            effect: &asked,
            arbitration: calm().arbitration,
            companies: &[],
            counted: false,
            gives_back: false,
        };
        match before_change(Some(&rule()), &change) {
            (by, Verdict::Hold { until: Some(until), page: Page::Later, reason }) => {
                assert_eq!((by, until), ("opposite", at(1030)));
                assert!(!expect.is_empty() && reason.text.contains(expect), "{reason}");
            }
            (_, said) => assert_eq!((said, expect), (Verdict::Allow, "")),
        }
    };
    let says = "rule other raised service api 30s ago (r2), and rule scale-out is about to do the opposite";
    check("service api", Some(Way::Down), says);
    check("service api", Some(Way::Up), "");
    check("service api", None, "");
    // Too long ago, and the rule's own.
    check("service web", Some(Way::Down), "");
    check("service db", Some(Way::Down), "");
}
