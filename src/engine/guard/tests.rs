use super::*;
use crate::config::FreezeConfig;
use crate::engine::testing::service;
use crate::model::freeze::{Freeze, FreezeId, Scope, Window};
use crate::model::matcher::{Matcher, Op};
use crate::model::rule::{Budget, Grant};
use crate::model::template::Template;
use std::collections::BTreeMap;

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
    Stops { paused: None, freezes: Freezes { configured: &NONE, one_off: &[] } }
}

fn pulled(why: &str) -> Stops<'static> {
    Stops { paused: Some(why.into()), ..no_stops() }
}

fn calm() -> Situation<'static> {
    Situation {
        now: at(1000),
        stops: no_stops(),
        firing: Firing { confirmed: 1, ..Firing::default() },
        attempt: 0,
        last_effect: None,
        attempts_in_window: 0,
        locked: None,
    }
}

/// The guard that decided, its verdict, and its words.
fn check(situation: Situation, guard: &str, verdict: &str, words: &str) {
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
    check(calm(), "all", "allow", "");
    check(Situation { stops: pulled("by ann: deploy"), ..calm() }, "paused", "hold", "by ann");
    let gone = Firing::default();
    check(Situation { firing: gone, ..calm() }, "still_firing", "resolved", "");
    check(Situation { firing: Firing { unconfirmed: 1, ..gone }, ..calm() }, "still_firing", "hold", "may be gone");
    check(Situation { firing: Firing { suppressed: 2, ..gone }, ..calm() }, "still_firing", "hold", "silenced");
    let last = Some((at(880), "web: 2 → 3 replicas"));
    check(Situation { last_effect: last, ..calm() }, "cooldown", "hold", "web: 2 → 3 replicas 2m ago, 3m of 5m to go");
    check(Situation { last_effect: last, attempt: 1, ..calm() }, "all", "allow", "");
    check(Situation { last_effect: Some((at(700), "x")), ..calm() }, "all", "allow", "");
    check(Situation { attempts_in_window: 2, ..calm() }, "all", "allow", "");
    check(Situation { attempts_in_window: 3, ..calm() }, "budget", "deny", "the budget is 3 per 1h");
    let locked = Some(("service web", IncidentId(4)));
    check(Situation { locked, ..calm() }, "lock", "hold", "service web is being worked on by incident i4");
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
        let stops = Stops { paused: None, freezes };
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
