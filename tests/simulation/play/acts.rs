//! What happens in a play, act by act: to a process that lives, and to the world without one.

use super::{
    Alive, Due, End, HANGS_AFTER, LOOK_EVERY, POST_AGAIN, Post, Stage, answered, image_of, incidents, node_name, runs,
    service_name, steps,
};
use crate::plan::{Act, Edit};
use crate::time::{self, millis};
use axum::body::Body;
use axum::http::Request;
use runbookd::app::CommandError;
use runbookd::app::board::Reply;
use runbookd::model::cluster::{ServiceChange, SpecFields};
use runbookd::model::incident::IncidentId;
use runbookd::model::mode::{Approval, Subject};
use runbookd::model::run::{Run, RunId};
use runbookd::model::step::Step;
use serde_json::json;
use std::pin::pin;
use std::sync::atomic::Ordering;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

impl Stage<'_> {
    pub(super) async fn act(&mut self, due: Due, alive: Option<&Alive>) -> Option<End> {
        match due {
            Due::Look => {
                self.due_in(LOOK_EVERY, Due::Look);
                if let (Some(alive), Some(_)) = (alive, self.calm) {
                    self.release(alive);
                }
            }
            Due::Post(id) => match alive {
                Some(alive) => self.send(id, alive),
                None => self.due_in(10_000, due),
            },
            Due::JournalMended => {
                if let Some(alive) = alive {
                    alive.journal.fail(None);
                }
                self.outside.oracle().journal_mended();
            }
            Due::JournalFast => {
                self.slow.store(0, Ordering::Relaxed);
                if let Some(alive) = alive {
                    alive.journal.slow(false);
                }
            }
            Due::Act(at) => {
                let act = &self.plan.acts[at].1;
                self.outside.oracle().note(|| format!("act: {act:?}"));
                return match alive {
                    Some(alive) => self.act_on(act, alive).await,
                    None => {
                        self.act_without(act, due);
                        None
                    }
                };
            }
        }
        None
    }

    /// What happens to a process that lives, or else to the world.
    async fn act_on(&mut self, act: &Act, alive: &Alive) -> Option<End> {
        match act {
            Act::Crash { writes, before, down_secs } => {
                self.crash = Some((alive.journal.commits() + writes, *before, *down_secs));
                alive.journal.crash_at(alive.journal.commits() + writes, *before);
            }
            Act::Kill { down_secs } => {
                self.crash = None;
                self.outside.oracle().counts.crashes += 1;
                return Some(End::Down(*down_secs));
            }
            Act::Restart { down_secs } => {
                let mut dead = pin!(alive.journal.dead());
                let stopped = tokio::select! {
                    biased;
                    () = &mut dead => return Some(self.died()),
                    stopped = timeout(HANGS_AFTER, alive.app.stop()) => stopped,
                };
                if stopped.is_err() {
                    self.outside.oracle().broken(5, "the end hangs");
                    return Some(End::Over);
                }
                self.outside.oracle().counts.restarts += 1;
                self.crash = None;
                return Some(End::Down(*down_secs));
            }
            Act::JournalFails { secs } => {
                alive.journal.fail(Some("disk full"));
                self.outside.oracle().journal_fails();
                self.due_in(secs * 1_000, Due::JournalMended);
            }
            Act::Edit(edit) => {
                self.edit(edit);
                self.load(alive);
            }
            Act::Pause => {
                let (app, outside) = (alive.app.clone(), self.outside.clone());
                let releases = outside.oracle().releases;
                tokio::spawn(async move {
                    if app.pause("ann", "let me look").await.is_ok() {
                        outside.oracle().paused(releases);
                    }
                });
            }
            Act::Resume => self.resume(alive),
            Act::JournalSlow { millis, secs } => {
                self.slow_down(*millis, *secs);
                alive.journal.slow(true);
            }
            Act::Release => self.release(alive),
            Act::Freeze { scope, secs } => {
                let (app, outside, scope) = (alive.app.clone(), self.outside.clone(), scope.clone());
                let until = time::now() + jiff::SignedDuration::from_secs(*secs as i64);
                tokio::spawn(async move {
                    if let Ok(freeze) = app.freeze(scope, until, "ann", "a release").await {
                        outside.oracle().stops.frozen(&freeze);
                    }
                });
            }
            Act::Unfreeze(nth) => {
                let freezes = alive.app.stops().freezes;
                if let Some(id) = freezes.get(nth % freezes.len().max(1)).map(|freeze| freeze.id) {
                    self.outside.oracle().stops.unfrozen(id);
                    let app = alive.app.clone();
                    tokio::spawn(async move { app.unfreeze(id, "bob").await.map(drop) });
                }
            }
            Act::Ack(nth) => {
                if let Some(id) = self.nth_open(*nth, alive) {
                    let app = alive.app.clone();
                    tokio::spawn(async move { app.ack(id, "ann").await.map(drop) });
                }
            }
            Act::Close(nth) => {
                if let Some(id) = self.nth_open(*nth, alive) {
                    let (app, outside) = (alive.app.clone(), self.outside.clone());
                    // It may be closed though the answer is lost.
                    outside.oracle().closed.insert(id);
                    tokio::spawn(async move { app.close(id, "bob", "done by hand").await.map(drop) });
                }
            }
            Act::Reply { nth, yes } => self.reply(*nth, *yes, alive),
            Act::Undo(nth) => {
                let changed = |run: &Run| steps(&alive.journal, run.id).iter().any(Step::had_effect);
                let ended = runs(&alive.journal).into_iter().filter(|run| run.state.ended() && changed(run));
                let ended: Vec<RunId> = ended.map(|run| run.id).collect();
                if let Some(run) = ended.get(nth % ended.len().max(1)).copied() {
                    let (app, outside) = (alive.app.clone(), self.outside.clone());
                    tokio::spawn(async move {
                        let planned = match app.plan_undo(run).await {
                            Ok(planned) => planned,
                            Err(why) => return outside.oracle().note(|| format!("undo of {run}: {why}")),
                        };
                        let undone = app.undo(run, &planned.program.hash.0, "ann", "it made things worse").await;
                        let mut oracle = outside.oracle();
                        oracle.counts.undone += u64::from(undone.is_ok());
                        oracle.note(|| format!("undo of {run}: {:?}", undone.map(|incident| incident.id)));
                    });
                }
            }
            Act::Calm => {
                self.crash = None;
                self.slow.store(0, Ordering::Relaxed);
                alive.journal.slow(false);
                alive.journal.crash_at(u64::MAX, true);
                alive.journal.fail(None);
                self.outside.oracle().journal_mended();
                self.outside.calm();
                if self.files.mend() {
                    self.load(alive);
                }
                self.resume(alive);
                // What people wanted to do while no process was there is forgotten.
                let (acts, of_people) = (&self.plan.acts, |act: &Act| !matches!(act, Act::Notify { .. }));
                self.agenda.retain(|_, due| !matches!(due, Due::Act(at) if of_people(&acts[*at].1)));
                self.calm = Some((millis(), time::now()));
            }
            other => self.act_outside(other),
        }
        None
    }

    /// A person answers what is asked about an incident.
    fn reply(&self, nth: usize, yes: bool, alive: &Alive) {
        let asked: Vec<(IncidentId, Approval)> = incidents(&alive.journal)
            .into_iter()
            .filter_map(|incident| Some((incident.id, *incident.approval?)))
            .filter(|(_, approval)| approval.verdict.is_none())
            .collect();
        let Some((id, approval)) = asked.get(nth % asked.len().max(1)).cloned() else { return };
        let reply = match (approval.subject, yes) {
            (Subject::Question { mut answers, .. }, true) => Reply::Answer(answers.remove(0)),
            (Subject::Question { mut answers, .. }, false) => Reply::Answer(answers.pop().expect("two at least")),
            (Subject::Plan(_), false) => Reply::Deny { reason: "not now".to_string() },
            (Subject::Plan(plan), true) => {
                self.outside.oracle().approved(id);
                Reply::Approve { plan: plan.hash }
            }
        };
        let app = alive.app.clone();
        tokio::spawn(async move { app.reply(id, "ann", reply).await.map(drop) });
    }

    /// From now on each write takes so long to become durable, for a while.
    fn slow_down(&mut self, millis: u64, secs: u64) {
        self.slow.store(millis, Ordering::Relaxed);
        self.due_in(secs * 1_000, Due::JournalFast);
    }

    /// A person releases the fleet brake.
    fn release(&self, alive: &Alive) {
        let (app, outside) = (alive.app.clone(), self.outside.clone());
        let asked = outside.oracle().stops.release_asked();
        tokio::spawn(async move {
            match app.release("ann").await {
                Ok(()) => outside.oracle().stops.release_answered(asked, true),
                // It was not on. Of any other answer it is not known what was done.
                Err(CommandError::Conflict(why)) if why.contains("is not on") => {
                    outside.oracle().stops.release_answered(asked, false);
                }
                Err(_) => {}
            }
        });
    }

    fn resume(&self, alive: &Alive) {
        self.outside.oracle().released();
        let app = alive.app.clone();
        tokio::spawn(async move { app.resume("ann").await.is_ok() });
    }

    /// While there is no process, people and what is about the process come later.
    fn act_without(&mut self, act: &Act, due: Due) {
        match act {
            Act::Crash { .. } | Act::Kill { .. } | Act::Restart { .. } | Act::JournalFails { .. } => {}
            Act::JournalSlow { millis, secs } => self.slow_down(*millis, *secs),
            Act::Pause
            | Act::Resume
            | Act::Release
            | Act::Freeze { .. }
            | Act::Unfreeze(_)
            | Act::Ack(_)
            | Act::Close(_)
            | Act::Reply { .. }
            | Act::Undo(_)
            | Act::Calm => {
                self.due_in(30_000, due);
            }
            Act::Edit(edit) => {
                self.edit(edit);
                self.files.load().ok();
            }
            other => self.act_outside(other),
        }
    }

    /// What happens whether there is a process or not.
    fn act_outside(&mut self, act: &Act) {
        match act {
            Act::Fire(alert) => {
                let mut state = self.outside.state();
                let alert = &mut state.alerts[*alert];
                if !alert.firing {
                    (alert.firing, alert.since, alert.ended, alert.told) = (true, time::now(), None, None);
                }
            }
            Act::Resolve(alert) => {
                let mut state = self.outside.state();
                let alert = &mut state.alerts[*alert];
                if alert.firing {
                    (alert.firing, alert.ended) = (false, Some(time::now()));
                }
            }
            Act::Notify { alert, delays, truncate } => {
                for delay in delays {
                    let marker = self.marker();
                    let payload = self.outside.state().payload(*alert, *truncate, &marker);
                    if let Some((body, firing)) = payload {
                        self.outside.oracle().note(|| format!("post {} says that these fire: {firing:?}", self.posted));
                        self.post_of(*delay, Post { path: "/api/v1/alertmanager", body, firing });
                    }
                }
            }
            Act::Suppress { alert, on } => self.outside.state().alerts[*alert].suppressed = *on,
            Act::Hand { service, replicas } => {
                let change = ServiceChange::Scale { from: 0, to: *replicas };
                self.outside.another_hand(&service_name(*service), &change);
            }
            Act::HandImage { service, bad } => {
                let image = Some(image_of(*service, 7, *bad));
                let to = SpecFields { image, ..SpecFields::default() };
                self.outside
                    .another_hand(&service_name(*service), &ServiceChange::Update { from: SpecFields::default(), to });
            }
            Act::HandLabel { service } => {
                let labels = [("looked.after".to_string(), Some("no".to_string()))].into();
                let to = SpecFields { labels, ..SpecFields::default() };
                let change = ServiceChange::Update { from: SpecFields::default(), to };
                self.outside.another_hand(&service_name(*service), &change);
            }
            Act::NodeState { node, state } => {
                drop(self.outside.cluster.set_node_state(&node_name(*node), state));
                self.node_moves(*node);
            }
            Act::LoseMachine(node) => {
                drop(self.outside.cluster.lose_machine(&node_name(*node)));
                self.node_moves(*node);
            }
            Act::Fault { port, fault, calls } => self.outside.break_calls(*port, *fault, *calls),
            Act::Down { port, secs } => self.outside.take_down(*port, *secs),
            Act::Jump(secs) => {
                self.outside.oracle().stops.clock_set();
                time::jump(*secs);
                let back = u64::try_from(-*secs).unwrap_or(0) * 1_000;
                let mut oracle = self.outside.oracle();
                oracle.jumped = true;
                oracle.set_back += back;
            }
            Act::Deploy { service, tag, bad } => {
                let (image, commit) = (image_of(*service, *tag, *bad), self.marker());
                let body = json!({ "image": image, "commit": commit, "author": "ann" });
                self.post(0, "/api/v1/deploy", body.to_string());
            }
            Act::Run { service, up } => {
                let set = json!({ "service": service_name(*service), "scale": if *up { "up" } else { "down" } });
                let body = json!({ "runbook": "scale_service", "set": set, "by": "ann", "request": self.marker() });
                self.post(0, "/api/v1/runs", body.to_string());
            }
            _ => unreachable!("{act:?} needs a process"),
        }
    }

    fn edit(&mut self, edit: &Edit) {
        self.outside.oracle().counts.edits += 1;
        match edit {
            Edit::Rules(rules) => self.files.write_rules(rules),
            Edit::Runbook(name) => self.files.write_runbook(name),
            Edit::Broken(text) => self.files.break_with(text),
        }
    }

    /// As the reloader does: what is valid is swapped in, what is not changes nothing (invariant 7).
    pub(super) fn load(&mut self, alive: &Alive) {
        match self.files.load() {
            Ok(catalog) => {
                alive.app.parts.catalog.store(catalog);
                alive.app.catalog_swapped();
                let rules = self.files.rules();
                self.outside.oracle().in_force(rules);
            }
            Err(why) if self.files.are_broken() => alive.app.tell_operators("files", "The files are not valid", &why),
            Err(why) => panic!("the generated files are not valid: {why}"),
        }
    }

    fn marker(&mut self) -> String {
        self.posted += 1;
        format!("mark-{}-", self.posted)
    }

    /// The post that was marked last is sent after `delay` milliseconds.
    fn post(&mut self, delay: u64, path: &'static str, body: String) {
        self.post_of(delay, Post { path, body, firing: Vec::new() });
    }

    /// A node is another from now on, and what ran on it is not whole.
    fn node_moves(&self, node: usize) {
        let services = self.outside.around().services;
        let mut oracle = self.outside.oracle();
        oracle.guards.moved(format!("node {}", node_name(node)));
        for service in services {
            oracle.guards.moved(format!("service {}", service.name));
        }
    }

    fn post_of(&mut self, delay: u64, post: Post) {
        self.posts.lock().expect("one thread").insert(self.posted, post);
        self.due_in(delay, Due::Post(self.posted));
    }

    /// Posts until it is taken, or refused for good.
    fn send(&self, id: u64, alive: &Alive) {
        let Some(Post { path, body, firing }) = self.posts.lock().expect("one thread").get(&id).cloned() else {
            return;
        };
        let (router, posts, outside) = (alive.router.clone(), self.posts.clone(), self.outside.clone());
        tokio::spawn(async move {
            loop {
                let request =
                    Request::post(path).header("content-type", "application/json").body(Body::from(body.clone()));
                let request = request.expect("a request");
                let status = match router.clone().oneshot(request).await {
                    Ok(response) => response.status().as_u16(),
                    Err(never) => match never {},
                };
                if answered(&outside, id, path, status, &firing) {
                    posts.lock().expect("one thread").remove(&id);
                    return;
                }
                sleep(POST_AGAIN).await;
            }
        });
    }
}
