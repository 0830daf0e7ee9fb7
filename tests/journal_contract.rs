//! The contract of the journal (`ports::Journal`), one case a function, on every adapter.

#[path = "journal/bed.rs"]
mod bed;
#[path = "journal/samples.rs"]
mod samples;

use bed::Bed;
use runbookd::model::alert::{Fingerprint, Status};
use runbookd::model::incident::{Incident, IncidentId, State};
use runbookd::model::run::{RunId, RunState};
use runbookd::model::step::{Intent, Outcome, StepError};
use runbookd::ports::{IncidentFilter, LastEffect, NewIntake, Recovered, RunFilter, Write};
use samples::*;
use serde_json::json;
use std::sync::Arc;

/// Every case on both journals.
macro_rules! contract {
    ($($case:ident)*) => {
        mod memory { $(#[tokio::test] async fn $case() { super::$case(super::Bed::memory()).await })* }
        mod sqlite { $(#[tokio::test] async fn $case() { super::$case(super::Bed::sqlite()).await })* }
    };
}

contract! {
    intakes_are_numbered_in_order_and_wake_whoever_watches
    concurrent_intakes_each_get_their_own_id
    intakes_are_read_back_in_pages_after_a_restart
    a_read_sees_what_was_staged_before_it
    later_rows_replace_earlier_ones_and_lines_of_history_do_not
    what_is_not_finished_is_recovered
    the_newest_effect_of_each_rule_and_key_is_recovered
    ids_go_on_after_retention
    retention_takes_what_is_old_and_done_and_nothing_else
    the_outbox_keeps_its_order_until_each_message_is_done
    incidents_are_filtered_and_paged_newest_first
    runs_are_paged_newest_first
    anything_a_label_may_hold_comes_back
    numbers_come_back_to_the_bit
    a_dropped_ticket_loses_nothing
    a_setting_lives_until_it_is_deleted
    nothing_is_found_where_nothing_is
}

fn incident_write(incident: Incident) -> Write {
    Write::Incident(Box::new(incident))
}

async fn recover(journal: &Bed, since: i64) -> Recovered {
    journal.recover(at(since)).await.expect("recovers")
}

async fn intakes_are_numbered_in_order_and_wake_whoever_watches(journal: Bed) {
    let mut watch = journal.intakes();
    assert_eq!(*watch.borrow_and_update(), 0);
    assert!(journal.intake_after(0, 10).await.expect("reads").is_empty());
    let tickets: Vec<_> = (1..=5).map(|n| journal.intake(post(format!("body {n}").as_bytes(), n))).collect();
    for (ticket, id) in tickets.into_iter().zip(1..) {
        assert_eq!(ticket.await.expect("stored"), id);
        assert!(*watch.borrow_and_update() >= id, "the watch knows of what a ticket has told");
    }
    let read = journal.intake_after(1, 3).await.expect("reads");
    let read: Vec<_> = read.iter().map(|one| (one.id, &*one.post.body, one.post.received_at)).collect();
    assert_eq!(read, [(2, &b"body 2"[..], at(2)), (3, b"body 3", at(3)), (4, b"body 4", at(4))]);
    journal.intake(post(b"six", 6)).await.expect("stored");
    assert!(watch.has_changed().expect("the journal is open"));
    assert!(journal.intake_after(6, 10).await.expect("reads").is_empty());
}

async fn concurrent_intakes_each_get_their_own_id(journal: Bed) {
    let one = async |n: u16| {
        let id = journal.intake(post(&n.to_be_bytes(), 0)).await.expect("stored");
        journal.stage(vec![Write::Run(Box::new(run(u64::from(n) + 1, 1, RunState::Running)))]);
        journal.commit().await.expect("commits");
        (id, n.to_be_bytes().to_vec())
    };
    let mut given = futures_util::future::join_all((0..500).map(one)).await;
    given.sort();
    let read = journal.intake_after(0, 1_000).await.expect("reads");
    assert_eq!(read.iter().map(|one| (one.id, one.post.body.to_vec())).collect::<Vec<_>>(), given);
    assert!(given.iter().map(|(id, _)| *id).eq(1..=500));
    assert_eq!(recover(&journal, 0).await.runs.len(), 500);
}

async fn intakes_are_read_back_in_pages_after_a_restart(journal: Bed) {
    for n in 1..=4 {
        let source = if n == 4 { "rejected" } else { "alertmanager" };
        let post = NewIntake { source: source.into(), ..post(&[n], 0) };
        journal.intake(post).await.expect("stored");
    }
    journal.stage(vec![Write::Handled(2)]);
    journal.commit().await.expect("commits");
    let journal = journal.reopen();
    assert_eq!(*journal.intakes().borrow(), 4);
    assert_eq!(recover(&journal, 0).await.handled, 2);
    assert_eq!(journal.intake(post(&[5], 0)).await.expect("stored"), 5);
    for (after, limit, expect) in [(2, 10, vec![3, 4, 5]), (0, 2, vec![1, 2]), (2, 1, vec![3]), (4, 10, vec![5])] {
        let read = journal.intake_after(after, limit).await.expect("reads");
        let ids: Vec<u64> = read.iter().map(|one| one.id).collect();
        assert_eq!(ids, expect, "after {after}, at most {limit}");
        assert!(read.iter().all(|one| *one.post.body == [one.id as u8]));
        assert!(read.iter().all(|one| (one.post.source == "rejected") == (one.id == 4)));
    }
}

async fn a_read_sees_what_was_staged_before_it(journal: Bed) {
    journal.stage(vec![
        Write::Level(Box::new(level("web", Status::Firing))),
        incident_write(incident(1, State::Running)),
        Write::Transition(transition(1, 1, None, State::Open)),
        Write::Program(hash("one"), sources("scale_out.rhai")),
        Write::Run(Box::new(run(1, 1, RunState::Running))),
        Write::Step(Box::new(looked(1, 0))),
        Write::Message(1, Box::new(message(Some(1), "hello"))),
    ]);
    let fingerprint = level("web", Status::Firing).alert.fingerprint;
    assert_eq!(journal.level(fingerprint).await.expect("reads"), Some(level("web", Status::Firing)));
    assert_eq!(journal.incident(IncidentId(1)).await.expect("reads"), Some(incident(1, State::Running)));
    assert_eq!(journal.transitions(IncidentId(1)).await.expect("reads"), [transition(1, 1, None, State::Open)]);
    assert_eq!(journal.program(&hash("one")).await.expect("reads").as_ref(), Some(&*sources("scale_out.rhai")));
    assert_eq!(journal.run(RunId(1)).await.expect("reads"), Some(run(1, 1, RunState::Running)));
    assert_eq!(journal.steps(RunId(1)).await.expect("reads"), [looked(1, 0)]);
    assert_eq!(journal.outbox_depth().await.expect("reads"), 1);
    journal.stage(vec![Write::ForgetLevel(fingerprint), Write::ForgetSteps(RunId(1))]);
    assert_eq!(journal.level(fingerprint).await.expect("reads"), None);
    assert_eq!(journal.steps(RunId(1)).await.expect("reads"), []);
}

async fn later_rows_replace_earlier_ones_and_lines_of_history_do_not(journal: Bed) {
    journal.stage(vec![
        incident_write(incident(1, State::Open)),
        Write::Transition(transition(1, 1, None, State::Open)),
        Write::Transition(transition(2, 1, None, State::Open)),
        Write::Run(Box::new(run(1, 1, RunState::Running))),
        Write::Step(Box::new(scaled(1, 1, Outcome::InDoubt, 0))),
        Write::Step(Box::new(looked(1, 0))),
        Write::Program(hash("one"), sources("first.rhai")),
    ]);
    journal.commit().await.expect("commits");
    journal.stage(vec![
        incident_write(incident(1, State::Running)),
        Write::Transition(transition(1, 2, Some(State::Open), State::Running)),
        Write::Run(Box::new(run(1, 1, RunState::Suspended))),
        Write::Step(Box::new(scaled(1, 1, Outcome::Applied, 12))),
        Write::Program(hash("one"), sources("second.rhai")),
    ]);
    journal.commit().await.expect("commits");
    let journal = journal.reopen();
    assert_eq!(journal.incident(IncidentId(1)).await.expect("reads"), Some(incident(1, State::Running)));
    let history = [transition(1, 1, None, State::Open), transition(1, 2, Some(State::Open), State::Running)];
    assert_eq!(journal.transitions(IncidentId(1)).await.expect("reads"), history);
    assert_eq!(journal.run(RunId(1)).await.expect("reads"), Some(run(1, 1, RunState::Suspended)));
    assert_eq!(journal.steps(RunId(1)).await.expect("reads"), [looked(1, 0), scaled(1, 1, Outcome::Applied, 12)]);
    let program = journal.program(&hash("one")).await.expect("reads").expect("pinned");
    assert_eq!(program, *sources("first.rhai"), "a known hash is ignored");
}

async fn what_is_not_finished_is_recovered(journal: Bed) {
    journal.stage(vec![
        incident_write(incident(1, State::Escalated)),
        incident_write(closed(2, 99)),
        incident_write(closed(3, 100)),
        incident_write(closed(4, 101)),
        Write::Run(Box::new(run(1, 1, RunState::Suspended))),
        Write::Run(Box::new(run(2, 1, RunState::Done))),
        Write::Run(Box::new(run(100, 1, RunState::Failed))),
        Write::Run(Box::new(run(101, 1, RunState::Done))),
        Write::Run(Box::new(run(102, 1, RunState::Running))),
        Write::Level(Box::new(level("web", Status::Firing))),
        Write::Level(Box::new(level("web", Status::Resolved))),
        Write::Level(Box::new(level("db", Status::Firing))),
        Write::Message(7, Box::new(message(None, "hello"))),
        Write::Handled(41),
        Write::Handled(42),
    ]);
    journal.commit().await.expect("commits");
    let journal = journal.reopen();
    let mut found = recover(&journal, 100).await;
    assert_eq!(found.handled, 42);
    assert_eq!(found.incidents, [incident(1, State::Escalated), closed(4, 101)]);
    let runs = [run(1, 1, RunState::Suspended), run(101, 1, RunState::Done), run(102, 1, RunState::Running)];
    assert_eq!(found.runs, runs);
    found.levels.sort_by_key(|one| one.alert.labels.value("service").to_string());
    assert_eq!(found.levels, [level("db", Status::Firing), level("web", Status::Resolved)]);
    assert_eq!((found.last_incident, found.last_run, found.last_message), (4, 102, 7));
}

async fn the_newest_effect_of_each_rule_and_key_is_recovered(journal: Bed) {
    let other = Incident { key: "service=\"db\"".into(), ..incident(2, State::Running) };
    let mut reloaded = scaled(2, 0, Outcome::Applied, 70);
    reloaded.intent = Some(Intent::Reload { target: "proxy".into(), service: Some("web".into()) });
    let mut told = scaled(2, 1, Outcome::Applied, 90);
    told.intent = Some(Intent::Message { text: "done".into() });
    let mut foreign = run(4, 2, RunState::Done);
    foreign.rule = "another".into();
    journal.stage(vec![
        incident_write(incident(1, State::Running)),
        incident_write(other),
        Write::Run(Box::new(run(1, 1, RunState::Done))),
        Write::Run(Box::new(run(2, 2, RunState::Done))),
        Write::Run(Box::new(run(3, 1, RunState::Done))),
        Write::Run(Box::new(foreign)),
        Write::Step(Box::new(scaled(1, 0, Outcome::Applied, 60))),
        Write::Step(Box::new(scaled(3, 0, Outcome::Applied, 50))),
        Write::Step(Box::new(scaled(3, 1, Outcome::InDoubt, 0))),
        Write::Step(Box::new(scaled(3, 2, Outcome::Unchanged, 80))),
        Write::Step(Box::new(scaled(3, 3, Outcome::Failed, 80))),
        Write::Step(Box::new(reloaded)),
        Write::Step(Box::new(told)),
        Write::Step(Box::new(scaled(4, 0, Outcome::Applied, 40))),
    ]);
    journal.commit().await.expect("commits");
    let journal = journal.reopen();
    let effect = |rule: &str, service: &str, secs, what: &str| LastEffect {
        rule: rule.into(),
        key: format!("service=\"{service}\""),
        at: at(secs),
        what: what.into(),
    };
    let scale = "web: 2 → 3 replicas at version 114";
    let known = "scale-out-slow-service";
    let web = effect(known, "web", 60, scale);
    let db = effect(known, "db", 70, "reload proxy for web");
    let foreign = effect("another", "db", 40, scale);
    for (since, expect) in [(0, vec![foreign, db.clone(), web.clone()]), (59, vec![db.clone(), web]), (60, vec![db])] {
        let mut found = recover(&journal, since).await.last_effects;
        found.sort_by(|a, b| (&a.rule, &a.key).cmp(&(&b.rule, &b.key)));
        assert_eq!(found, expect, "since {since}");
    }
    // What may have been changed counts, whatever became of it; what was so already does not.
    let counted = recover(&journal, 39).await.effects;
    let counted: Vec<(u64, u32, &str)> =
        counted.iter().map(|effect| (effect.run.0, effect.seq, effect.targets[0].as_str())).collect();
    let web = "service web";
    assert_eq!(counted, [(4, 0, web), (3, 0, web), (1, 0, web), (2, 0, "reload target proxy"), (3, 3, web)]);
}

async fn ids_go_on_after_retention(journal: Bed) {
    for n in 0..3 {
        journal.intake(post(b"x", n)).await.expect("stored");
    }
    journal.stage(vec![
        incident_write(closed(8, 10)),
        Write::Run(Box::new(run(9, 8, RunState::Done))),
        Write::Message(5, Box::new(message(Some(8), "in a thread"))),
        Write::Message(6, Box::new(message(None, "alone"))),
        Write::Sent { id: 5, at: at(9), thread: None },
        Write::Sent { id: 6, at: at(9), thread: None },
        Write::Handled(3),
    ]);
    assert_eq!(journal.prune(at(100)).await.expect("prunes"), 7);
    let journal = journal.reopen();
    let found = recover(&journal, 0).await;
    assert_eq!((found.last_incident, found.last_run, found.last_message, found.handled), (8, 9, 6, 3));
    assert!(found.incidents.is_empty() && found.runs.is_empty());
    assert_eq!(*journal.intakes().borrow(), 3);
    assert_eq!(journal.intake(post(b"x", 0)).await.expect("stored"), 4);
    assert_eq!(journal.intake_after(3, 9).await.expect("reads").len(), 1);
}

async fn retention_takes_what_is_old_and_done_and_nothing_else(journal: Bed) {
    for n in [10, 20, 500, 30] {
        journal.intake(post(b"x", n)).await.expect("stored");
    }
    let mut pinned = run(3, 3, RunState::Done);
    pinned.program = hash("two");
    journal.stage(vec![
        Write::Handled(3),
        Write::Level(Box::new(level("web", Status::Resolved))),
        // Old and done.
        incident_write(closed(1, 50)),
        Write::Transition(transition(1, 1, None, State::Open)),
        Write::Transition(transition(1, 2, Some(State::Open), State::Resolved)),
        Write::Program(hash("one"), sources("one.rhai")),
        Write::Run(Box::new(run(1, 1, RunState::Done))),
        Write::Step(Box::new(looked(1, 0))),
        Write::Step(Box::new(scaled(1, 1, Outcome::Applied, 12))),
        Write::Message(1, Box::new(message(Some(1), "root"))),
        Write::Sent { id: 1, at: at(20), thread: Some((IncidentId(1), thread("1.1"))) },
        // Open.
        incident_write(incident(2, State::Escalated)),
        Write::Transition(transition(2, 1, None, State::Escalated)),
        // Closed not long ago.
        incident_write(closed(3, 100)),
        Write::Program(hash("two"), sources("two.rhai")),
        Write::Run(Box::new(pinned)),
        // Closed long ago, but people have not been told yet, or a run goes on.
        incident_write(closed(4, 50)),
        Write::Message(2, Box::new(message(Some(4), "unsent"))),
        incident_write(closed(5, 50)),
        Write::Run(Box::new(run(5, 5, RunState::Suspended))),
        // News that belong to no incident: sent long ago, sent just now, unsent.
        Write::Message(3, Box::new(message(None, "old news"))),
        Write::Unsendable { id: 3, at: at(20), why: "no such channel".into() },
        Write::Message(4, Box::new(message(None, "news"))),
        Write::Sent { id: 4, at: at(100), thread: None },
        Write::Message(5, Box::new(message(None, "unsent news"))),
    ]);
    // incident, 2 transitions, run, 2 steps, message, thread · 2 intakes · old news. Program "one" is still pinned by run 5.
    assert_eq!(journal.prune(at(100)).await.expect("prunes"), 11);
    assert_eq!(journal.prune(at(100)).await.expect("prunes"), 0);
    let journal = journal.reopen();
    assert_eq!(journal.incident(IncidentId(1)).await.expect("reads"), None);
    assert_eq!(journal.run(RunId(1)).await.expect("reads"), None);
    assert!(journal.steps(RunId(1)).await.expect("reads").is_empty());
    assert!(journal.transitions(IncidentId(1)).await.expect("reads").is_empty());
    assert_eq!(journal.thread(IncidentId(1)).await.expect("reads"), None);
    let all = journal.incidents(&IncidentFilter { limit: 100, ..Default::default() }).await.expect("reads");
    assert_eq!(all.iter().map(|one| one.id.0).collect::<Vec<_>>(), [5, 4, 3, 2]);
    assert_eq!(journal.transitions(IncidentId(2)).await.expect("reads").len(), 1);
    for name in ["one", "two"] {
        assert!(journal.program(&hash(name)).await.expect("reads").is_some(), "{name} is pinned by a run that is kept");
    }
    let intakes = journal.intake_after(0, 100).await.expect("reads");
    assert_eq!(intakes.iter().map(|one| one.id).collect::<Vec<_>>(), [3, 4]);
    let outbox = journal.outbox(0, 100).await.expect("reads");
    assert_eq!(outbox.iter().map(|one| one.id).collect::<Vec<_>>(), [2, 5]);
    assert_eq!(recover(&journal, 0).await.levels.len(), 1);
    // The run ends, the message is sent: now they go, and the program with the last run that pinned it.
    journal.stage(vec![
        Write::Run(Box::new(run(5, 5, RunState::Interrupted))),
        Write::Sent { id: 2, at: at(60), thread: None },
    ]);
    assert_eq!(journal.prune(at(100)).await.expect("prunes"), 5);
    assert_eq!(journal.program(&hash("one")).await.expect("reads"), None);
    // A program that was deleted can be pinned again.
    journal.stage(vec![Write::Program(hash("one"), sources("again.rhai"))]);
    assert_eq!(journal.program(&hash("one")).await.expect("reads").as_ref(), Some(&*sources("again.rhai")));
}

async fn the_outbox_keeps_its_order_until_each_message_is_done(journal: Bed) {
    let titled = |n: u64| message(Some(n % 2), &format!("message {n}"));
    journal.stage((1..=6).map(|n| Write::Message(n, Box::new(titled(n)))).collect());
    journal.stage(vec![
        Write::Sent { id: 2, at: at(20), thread: Some((IncidentId(0), thread("2.0"))) },
        Write::Sent { id: 3, at: at(21), thread: None },
        Write::Unsendable { id: 5, at: at(22), why: "no such channel".into() },
        Write::Sent { id: 99, at: at(23), thread: None },
    ]);
    journal.commit().await.expect("commits");
    let journal = journal.reopen();
    for (after, limit, expect) in [(0, 9, vec![1, 4, 6]), (1, 1, vec![4]), (4, 9, vec![6]), (6, 9, vec![])] {
        let read = journal.outbox(after, limit).await.expect("reads");
        assert_eq!(read.iter().map(|one| one.id).collect::<Vec<_>>(), expect, "after {after}, at most {limit}");
        assert!(read.iter().all(|one| one.message == titled(one.id)));
    }
    assert_eq!(journal.outbox_depth().await.expect("reads"), 3);
    assert_eq!(journal.thread(IncidentId(0)).await.expect("reads"), Some(thread("2.0")));
    assert_eq!(journal.thread(IncidentId(1)).await.expect("reads"), None);
    // Written again, marked as such; a new root replaces the old one.
    let mut again = titled(4);
    again.repeated = true;
    journal.stage(vec![Write::Message(4, Box::new(again.clone()))]);
    assert_eq!(journal.outbox(1, 1).await.expect("reads")[0].message, again);
    journal.stage(vec![Write::Sent { id: 4, at: at(30), thread: Some((IncidentId(0), thread("4.0"))) }]);
    assert_eq!(journal.thread(IncidentId(0)).await.expect("reads"), Some(thread("4.0")));
    assert_eq!(journal.outbox_depth().await.expect("reads"), 2);
}

async fn incidents_are_filtered_and_paged_newest_first(journal: Bed) {
    let mut hostile = incident(5, State::Held);
    hostile.labels = labels(&[("a.b\"]' OR 1=1 --", "x"), ("service", "web"), ("nul\0", "\0")]);
    journal.stage(vec![
        incident_write(incident(1, State::Open)),
        incident_write(closed(2, 90)),
        incident_write(incident(3, State::Escalated)),
        incident_write(Incident { labels: labels(&[("service", "db")]), ..incident(4, State::Open) }),
        incident_write(hostile),
    ]);
    let check = async |filter: IncidentFilter, expect: &[u64]| {
        let found = journal.incidents(&filter).await.expect("reads");
        assert_eq!(found.iter().map(|one| one.id.0).collect::<Vec<_>>(), expect, "{filter:?}");
    };
    let base = IncidentFilter { limit: 10, ..Default::default() };
    let label = |name: &str, value: &str| IncidentFilter { labels: vec![(name.into(), value.into())], ..base.clone() };
    check(base.clone(), &[5, 4, 3, 2, 1]).await;
    check(IncidentFilter { limit: 2, ..base.clone() }, &[5, 4]).await;
    check(IncidentFilter { limit: 2, before: Some(IncidentId(4)), ..base.clone() }, &[3, 2]).await;
    check(IncidentFilter { limit: 0, ..base.clone() }, &[5]).await;
    check(IncidentFilter { limit: usize::MAX, before: Some(IncidentId(u64::MAX)), ..base.clone() }, &[5, 4, 3, 2, 1])
        .await;
    check(IncidentFilter { states: vec![State::Open], ..base.clone() }, &[4, 1]).await;
    check(IncidentFilter { states: vec![State::Open, State::Held], limit: 2, ..base.clone() }, &[5, 4]).await;
    check(IncidentFilter { states: vec![State::Resolved, State::Escalated], ..base.clone() }, &[3, 2]).await;
    check(IncidentFilter { states: State::ALL.to_vec(), ..base.clone() }, &[5, 4, 3, 2, 1]).await;
    check(IncidentFilter { opened_after: Some(at(2)), ..base.clone() }, &[5, 4, 3]).await;
    check(IncidentFilter { opened_before: Some(at(2)), ..base.clone() }, &[1]).await;
    check(label("service", "web"), &[5, 3, 2, 1]).await;
    check(label("service", "we%"), &[]).await;
    check(label("a.b\"]' OR 1=1 --", "x"), &[5]).await;
    check(label("nul\0", "\0"), &[5]).await;
    check(label("nul", ""), &[5, 4, 3, 2, 1]).await;
    check(label("nul\0", ""), &[4, 3, 2, 1]).await;
    check(label("$.service", "web"), &[]).await;
    check(IncidentFilter { states: vec![State::Open], limit: 1, ..label("service", "web") }, &[1]).await;
    let both = vec![("service".into(), "web".into()), ("alertname".into(), "HighLatency".into())];
    check(IncidentFilter { labels: both, ..base.clone() }, &[3, 2, 1]).await;
}

async fn runs_are_paged_newest_first(journal: Bed) {
    journal.stage((1..=5).map(|id| Write::Run(Box::new(run(id, 1 + id % 2, RunState::Done)))).collect());
    for (incident, before, limit, expect) in [
        (None, None, 10, vec![5, 4, 3, 2, 1]),
        (None, Some(4), 2, vec![3, 2]),
        (None, Some(u64::MAX), 0, vec![5]),
        (Some(1), None, 10, vec![4, 2]),
        (Some(2), Some(5), 10, vec![3, 1]),
        (Some(7), None, 10, vec![]),
    ] {
        let filter = RunFilter { incident: incident.map(IncidentId), before: before.map(RunId), limit };
        let found = journal.runs(&filter).await.expect("reads");
        assert_eq!(found.iter().map(|one| one.id.0).collect::<Vec<_>>(), expect, "{filter:?}");
    }
}

async fn anything_a_label_may_hold_comes_back(journal: Bed) {
    let long = "ä".repeat(1 << 19);
    for (secs, text) in
        ["", "\0", "a\0b", "'; DROP TABLE run; --", "\"\\u0000\"", "\u{1b}[31m\u{7f}\r\n", "𝄞\u{202e}", &long]
            .into_iter()
            .enumerate()
    {
        let mut incident = incident(1, State::Open);
        incident.key = text.into();
        incident.rule = Some(text.into());
        incident.labels = labels(&[("service", text), (text, "x")]);
        let mut run = run(1, 1, RunState::Running);
        run.rule = text.into();
        run.reason = Some(runbookd::model::incident::Reason::new("failed", text));
        let mut step = scaled(1, 0, Outcome::Applied, secs as i64 + 1);
        step.args = vec![json!({ text: [text, null, -1, 1.5] })];
        step.error = Some(StepError::new("failed", text));
        let told = message(Some(1), text);
        let mut program = sources("x").as_ref().clone();
        program.main = text.into();
        let hash = hash(&format!("{secs}{}", &text[..text.len().min(8)]));
        let posted = NewIntake { source: text.to_string().into(), ..post(text.as_bytes(), 1) };
        let id = journal.intake(posted.clone()).await.expect("stored");
        journal.stage(vec![
            incident_write(incident.clone()),
            Write::Run(Box::new(run.clone())),
            Write::Step(Box::new(step.clone())),
            Write::Message(id, Box::new(told.clone())),
            Write::Program(hash.clone(), Arc::new(program.clone())),
            Write::Setting(text.to_string().into(), Some(text.into())),
        ]);
        assert_eq!(journal.incident(IncidentId(1)).await.expect("reads"), Some(incident));
        assert_eq!(journal.run(RunId(1)).await.expect("reads"), Some(run));
        assert_eq!(journal.steps(RunId(1)).await.expect("reads"), [step]);
        assert_eq!(journal.outbox(id - 1, 1).await.expect("reads")[0].message, told);
        assert_eq!(journal.program(&hash).await.expect("reads"), Some(program));
        let found = recover(&journal, 0).await;
        assert!(found.settings.contains(&(text.into(), text.into())));
        assert_eq!(found.last_effects.len(), 1);
        assert_eq!((&*found.last_effects[0].rule, &*found.last_effects[0].key), (text, text));
    }
    journal.commit().await.expect("commits");
    let journal = journal.reopen();
    let bodies = journal.intake_after(0, 100).await.expect("reads");
    assert_eq!(bodies.len(), 8);
    assert!(bodies.iter().all(|one| *one.post.body == *one.post.source.as_bytes()));
    assert_eq!(recover(&journal, 0).await.settings.len(), 8);
}

async fn numbers_come_back_to_the_bit(journal: Bed) {
    let numbers = [0.1 + 0.2, 1.0 / 3.0, f64::MAX, f64::MIN_POSITIVE, 5e-324, 2.225_073_858_507_201e-308, -0.0];
    let mut step = looked(1, 0);
    step.value = Some(json!({ "floats": numbers, "large": u64::MAX, "small": i64::MIN }));
    journal.stage(vec![Write::Step(Box::new(step.clone()))]);
    let read = journal.steps(RunId(1)).await.expect("reads").remove(0).value.expect("a value");
    for (written, read) in numbers.iter().zip(read["floats"].as_array().expect("an array")) {
        assert_eq!(read.as_f64().map(f64::to_bits), Some(written.to_bits()), "{written:e}");
    }
    assert_eq!((read["large"].as_u64(), read["small"].as_i64()), (Some(u64::MAX), Some(i64::MIN)));
    // The hash of labels uses all 64 bits.
    let mut level = level("web", Status::Firing);
    for fingerprint in [0, u64::MAX, 1 << 63].map(Fingerprint) {
        level.alert.fingerprint = fingerprint;
        journal.stage(vec![Write::Level(Box::new(level.clone()))]);
        assert_eq!(journal.level(fingerprint).await.expect("reads").as_ref(), Some(&level));
    }
}

async fn a_dropped_ticket_loses_nothing(journal: Bed) {
    drop(journal.intake(post(b"one", 1)));
    journal.stage(vec![incident_write(incident(1, State::Open))]);
    drop(journal.commit());
    assert_eq!(journal.intake(post(b"two", 1)).await.expect("stored"), 2);
    let journal = journal.reopen();
    let bodies = journal.intake_after(0, 9).await.expect("reads");
    assert_eq!(bodies.iter().map(|one| &*one.post.body).collect::<Vec<_>>(), [b"one", b"two"]);
    assert!(journal.incident(IncidentId(1)).await.expect("reads").is_some());
}

async fn a_setting_lives_until_it_is_deleted(journal: Bed) {
    let set = |name: &'static str, value: Option<&str>| Write::Setting(name.into(), value.map(str::to_string));
    journal.stage(vec![set("paused", Some("by me")), set("b", Some("1")), set("paused", Some("by you"))]);
    journal.commit().await.expect("commits");
    let journal = journal.reopen();
    let settings = recover(&journal, 0).await.settings;
    assert_eq!(settings, [("b".to_string(), "1".to_string()), ("paused".to_string(), "by you".to_string())]);
    journal.stage(vec![set("paused", None), set("unknown", None)]);
    journal.commit().await.expect("commits");
    let journal = journal.reopen();
    assert_eq!(recover(&journal, 0).await.settings, [("b".to_string(), "1".to_string())]);
}

async fn nothing_is_found_where_nothing_is(journal: Bed) {
    let found = recover(&journal, 0).await;
    assert_eq!((found.handled, found.last_incident, found.last_run, found.last_message), (0, 0, 0, 0));
    assert!(found.levels.is_empty() && found.incidents.is_empty() && found.runs.is_empty());
    assert_eq!(journal.run(RunId(u64::MAX)).await.expect("reads"), None);
    assert_eq!(journal.incident(IncidentId(0)).await.expect("reads"), None);
    assert!(journal.steps(RunId(1)).await.expect("reads").is_empty());
    assert!(journal.intake_after(u64::MAX, 10).await.expect("reads").is_empty());
    assert_eq!(journal.prune(at(0)).await.expect("prunes"), 0);
    journal.stage(vec![]);
    journal.commit().await.expect("commits");
    journal.health().expect("healthy");
}
