use super::*;
use crate::engine::testing::service;
use crate::model::matcher::{Matcher, Op};
use crate::model::rule::{Budget, Grant, Verify};
use crate::model::template::Template;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + second).expect("a valid instant")
}

fn rule() -> Rule {
    let grant = |primitive: &str, target: &str| Grant {
        primitive: primitive.into(),
        target: Template::parse(target).expect("a valid template"),
    };
    Rule {
        name: "scale-out".into(),
        place: "rules/web.yaml:1".into(),
        on: None,
        schedule: None,
        own: false,
        matchers: vec![Matcher::new("alertname", Op::Equal, "A").expect("a valid matcher")],
        by: vec!["service".into()],
        runbook: Some("scale_out".into()),
        params: Default::default(),
        mode: Mode::Auto,
        approve: Default::default(),
        earned_after: Rule::EARNED_AFTER,
        allow: vec![grant("scale", "{{ service }}"), grant("restart", "web-*")],
        cooldown: Some(Duration::from_secs(300)),
        budget: Some(Budget { count: 3, per: Duration::from_secs(3600) }),
        breaker: None,
        hold_at_most: Rule::HOLD_AT_MOST,
        replicas: None,
        attempts: 1,
        retry_after: Rule::RETRY_AFTER,
        verify: Verify::default(),
        channel: None,
        severity: None,
        goes_on: false,
    }
}

fn calm() -> Situation<'static> {
    Situation {
        now: at(1000),
        paused: None,
        firing: Firing { confirmed: 1, ..Firing::default() },
        mode: Mode::Auto,
        approved: false,
        breaker: None,
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
    check(Situation { paused: Some("by ann: deploy"), ..calm() }, "paused", "hold", "by ann");
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
    // The order is DESIGN's: a pause is named before anything else.
    check(Situation { paused: Some("x"), attempts_in_window: 3, locked, ..calm() }, "paused", "hold", "x");
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
