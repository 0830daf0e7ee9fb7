//! Plays a plan: the whole application, one process after the other, each in a runtime of its own that is dropped where it is killed.

use crate::files::Files;
use crate::oracle::{Counts, Oracle};
use crate::outside::{Console, Outside};
use crate::plan::{Act, Edit, Plan};
use crate::replay;
use crate::time::{self, CLOCK, millis};
use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use futures_util::FutureExt;
use runbookd::adapters::journal::memory::MemoryJournal;
use runbookd::app::board::Reply;
use runbookd::app::metrics::Metrics;
use runbookd::app::{App, Parts};
use runbookd::config::Config;
use runbookd::http::auth::Keys;
use runbookd::http::router::router;
use runbookd::http::shared::{Live, Shared};
use runbookd::model::cluster::{ServiceChange, SpecFields};
use runbookd::model::duration;
use runbookd::model::freeze::Scope;
use runbookd::model::incident::{Incident, IncidentId, State};
use runbookd::model::mode::{Approval, Subject};
use runbookd::model::rule::{Budget, Share};
use runbookd::model::run::Run;
use runbookd::ports::{Alerts, IncidentFilter, Journal, RunFilter};
use runbookd::runbook::evaluate::Evaluator;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;

/// After the plan is over and all is calm, everything must come to its end within this: longer than any hold, run, verification and retry that is
/// generated, for every attempt.
const SETTLES_WITHIN: u64 = 8 * 3_600_000;
/// For so long at least nothing happens before the end is looked at.
const QUIET: u64 = 3 * 60_000;
const LOOK_EVERY: u64 = 60_000;
/// A start or an orderly end that takes longer hangs.
const HANGS_AFTER: Duration = Duration::from_secs(120);
/// Alertmanager, and whoever else posts, tries again after this.
const POST_AGAIN: Duration = Duration::from_secs(5);

pub struct Played {
    /// The invariant that was broken, if one was.
    pub violation: Option<String>,
    pub trace: Vec<String>,
    pub counts: Counts,
}

/// Plays a plan to its end, or to the first invariant that is broken. `traced`: keeps what happened.
pub fn play(plan: &Plan, traced: bool) -> Played {
    time::begin();
    let outside = Outside::new(plan, Oracle::new(traced));
    let files = Files::new(&plan.rules);
    outside.oracle().in_force(files.rules());
    let agenda = plan.acts.iter().enumerate().map(|(at, (when, _))| ((*when, at as u64), Due::Act(at))).collect();
    let last = plan.acts.len() as u64;
    let mut stage =
        Stage { plan, outside, files, agenda, last, posts: Arc::default(), posted: 0, crash: None, calm: None };
    stage.due_in(LOOK_EVERY, Due::Look);
    let mut journal = MemoryJournal::new();
    loop {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let here = Arc::new(journal);
        let end = runtime.expect("a runtime").block_on(async {
            time::life_begins();
            let end = stage.life(&here).await;
            time::life_ends();
            end
        });
        let End::Down(secs) = end else {
            stage.judge(&here);
            break;
        };
        journal = here.crash();
        stage.down(secs);
        stage.outside.oracle().note(|| "starts again".to_string());
        if stage.broken() {
            break;
        }
    }
    let mut oracle = stage.outside.oracle();
    oracle.counts.hours = time::passed().as_secs_f64() / 3_600.0;
    Played { violation: oracle.violation.take(), trace: oracle.take_trace(), counts: oracle.counts }
}

struct Stage<'a> {
    plan: &'a Plan,
    outside: Arc<Outside>,
    files: Files,
    /// By millisecond and the order of being thought of.
    agenda: BTreeMap<(u64, u64), Due>,
    last: u64,
    /// Posts that have not been answered for good.
    posts: Arc<Mutex<BTreeMap<u64, Post>>>,
    posted: u64,
    /// The process is to be killed at this write, and how long it is down then.
    crash: Option<(u64, bool, u64)>,
    /// When everything became calm, and what the wall clock showed then.
    calm: Option<(u64, jiff::Timestamp)>,
}

#[derive(Clone, Copy)]
enum Due {
    Act(usize),
    Post(u64),
    JournalMended,
    Look,
}

#[derive(Clone)]
struct Post {
    path: &'static str,
    body: String,
    /// The alerts that it says fire, and since when.
    firing: Vec<(usize, jiff::Timestamp)>,
}

enum End {
    /// The process is gone for so many seconds.
    Down(u64),
    Over,
}

/// A process that lives.
struct Alive {
    app: App,
    router: Router,
    journal: Arc<MemoryJournal>,
}

impl Stage<'_> {
    fn broken(&self) -> bool {
        self.outside.oracle().violation.is_some()
    }

    fn due_in(&mut self, millis_from_now: u64, due: Due) {
        self.last += 1;
        self.agenda.insert((millis() + millis_from_now, self.last), due);
    }

    /// From its start to its end.
    async fn life(&mut self, journal: &Arc<MemoryJournal>) -> End {
        *self.outside.journal.lock().expect("one thread") = journal.clone();
        let mut dead = pin!(journal.dead());
        let parts = self.parts(journal);
        let started = tokio::select! {
            biased;
            () = &mut dead => return self.died(),
            started = timeout(HANGS_AFTER, App::start(parts)) => started,
        };
        let app = match started {
            Ok(app) => app.expect("a journal in memory can be read"),
            Err(_) => {
                self.outside.oracle().broken(5, "the start hangs");
                return End::Over;
            }
        };
        tokio::spawn(flush(journal.clone()));
        let alive = Alive { router: self.router(&app, journal), app, journal: journal.clone() };
        loop {
            let Some((&(at, _), _)) = self.agenda.first_key_value() else { return End::Over };
            let next = at.min(self.outside.next_late().unwrap_or(u64::MAX));
            let wait = Duration::from_millis(next.saturating_sub(millis()));
            tokio::select! {
                biased;
                () = &mut dead => return self.died(),
                () = sleep(wait) => {}
            }
            self.outside.arrive();
            if at <= millis()
                && let Some((_, due)) = self.agenda.pop_first()
                && let Some(end) = self.act(due, Some(&alive)).await
            {
                return end;
            }
            // Whatever that set off and needs no time happens now.
            tokio::select! {
                biased;
                () = &mut dead => return self.died(),
                () = sleep(Duration::from_millis(1)) => {}
            }
            self.look(journal);
            if self.broken() {
                return End::Over;
            }
            if self.over(&alive) {
                // What remains is an orderly end.
                if timeout(HANGS_AFTER, alive.app.stop()).await.is_err() {
                    self.outside.oracle().broken(5, "the end hangs");
                }
                return End::Over;
            }
        }
    }

    fn died(&mut self) -> End {
        let (_, _, down_secs) = self.crash.take().expect("a journal dies where it is told to");
        let mut oracle = self.outside.oracle();
        oracle.counts.crashes += 1;
        oracle.note(|| format!("killed at a write, down for {down_secs} s"));
        End::Down(down_secs)
    }

    /// No process lives for a while; the world goes on.
    fn down(&mut self, secs: u64) {
        let until = millis() + secs * 1_000;
        self.outside.oracle().journal_mended();
        while let Some((&(at, _), _)) = self.agenda.first_key_value().filter(|((at, _), _)| *at < until) {
            time::pass_until(at);
            self.outside.arrive();
            if let Some((_, due)) = self.agenda.pop_first() {
                // Without a process nothing of it waits.
                let _ = self.act(due, None).now_or_never().expect("nothing waits for a process that is not there");
            }
        }
        time::pass_until(until);
        self.outside.arrive();
        // A person mends what cannot be loaded before the process is started again.
        if self.files.mend() {
            self.outside.oracle().note(|| "the files are mended".to_string());
        }
        let rules = self.files.rules();
        self.outside.oracle().in_force(rules);
        // What was not answered is sent again.
        let waiting: Vec<u64> = self.posts.lock().expect("one thread").keys().copied().collect();
        self.agenda.retain(|_, due| !matches!(due, Due::Post(_)));
        for id in waiting {
            self.due_in(1_000 + id % 7 * 300, Due::Post(id));
        }
    }

    fn parts(&self, journal: &Arc<MemoryJournal>) -> Parts {
        let mut config = Config::default();
        config.bounds.replicas_max = crate::oracle::REPLICAS_MAX;
        config.runs.time_limit = duration::Duration::from_secs(3_600);
        config.runs.max_steps = 40;
        let limit = |count| Budget { count, per: duration::Duration::from_secs(600) };
        let fleet = &self.plan.fleet;
        config.brake.effects = fleet.brake.map(limit);
        config.budgets.target = fleet.target.map(limit);
        config.budgets.engine = fleet.engine.map(limit);
        config.arbitration.hands = fleet.hands_secs.map(duration::Duration::from_secs);
        config.bounds.at_once.services = fleet.services_at_once.map(Share::Count);
        let outside = self.outside.clone();
        Parts {
            config: Arc::new(config),
            clock: CLOCK,
            journal: journal.clone(),
            cluster: outside.clone(),
            groups: outside.clone(),
            reload: outside.clone(),
            posts: outside.clone(),
            alerts: self.plan.api.then(|| outside.clone() as Arc<dyn Alerts>),
            queries: Some(outside.clone()),
            humans: outside.clone(),
            fallback: Arc::new(Console(outside)),
            evaluator: Arc::new(Evaluator::inline()),
            catalog: Arc::new(ArcSwap::new(self.files.catalog())),
            metrics: Arc::new(Metrics::new()),
        }
    }

    fn router(&self, app: &App, journal: &Arc<MemoryJournal>) -> Router {
        let parts = &app.parts;
        let shared = Arc::new(Shared::new(parts.metrics.clone(), CLOCK, &parts.config, Keys::default()));
        let (journal, cluster, catalog) = (journal.clone(), parts.cluster.clone(), parts.catalog.clone());
        shared.go_live(Live { journal, cluster, catalog, app: Some(app.clone()) });
        router(shared)
    }

    async fn act(&mut self, due: Due, alive: Option<&Alive>) -> Option<End> {
        match due {
            Due::Look => {
                self.due_in(LOOK_EVERY, Due::Look);
                if let (Some(alive), Some(_)) = (alive, self.calm) {
                    release(alive);
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
            Act::Release => release(alive),
            Act::Freeze { secs } => {
                let (app, until) = (alive.app.clone(), time::now() + jiff::SignedDuration::from_secs(*secs as i64));
                tokio::spawn(async move { app.freeze(Scope::All, until, "ann", "a release").await.map(drop) });
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
                let ended: Vec<Run> = runs(&alive.journal).into_iter().filter(|run| run.state.ended()).collect();
                if let Some(run) = ended.get(nth % ended.len().max(1)).map(|run| run.id) {
                    let app = alive.app.clone();
                    tokio::spawn(async move {
                        let planned = app.plan_undo(run).await.ok()?;
                        app.undo(run, &planned.program.hash.0, "ann", "it made things worse").await.ok()
                    });
                }
            }
            Act::Calm => {
                self.crash = None;
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

    fn resume(&self, alive: &Alive) {
        self.outside.oracle().released();
        let app = alive.app.clone();
        tokio::spawn(async move { app.resume("ann").await.is_ok() });
    }

    /// While there is no process, people and what is about the process come later.
    fn act_without(&mut self, act: &Act, due: Due) {
        match act {
            Act::Crash { .. } | Act::Kill { .. } | Act::Restart { .. } | Act::JournalFails { .. } => {}
            Act::Pause
            | Act::Resume
            | Act::Release
            | Act::Freeze { .. }
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
            Act::NodeState { node, state } => drop(self.outside.cluster.set_node_state(&node_name(*node), state)),
            Act::LoseMachine(node) => drop(self.outside.cluster.lose_machine(&node_name(*node))),
            Act::Fault { port, fault, calls } => self.outside.break_calls(*port, *fault, *calls),
            Act::Down { port, secs } => self.outside.take_down(*port, *secs),
            Act::Jump(secs) => {
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
    fn load(&mut self, alive: &Alive) {
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

    fn nth_open(&self, nth: usize, alive: &Alive) -> Option<IncidentId> {
        let open: Vec<Incident> =
            incidents(&alive.journal).into_iter().filter(|it| it.state != State::Resolved).collect();
        open.get(nth % open.len().max(1)).map(|incident| incident.id)
    }

    /// The invariants that can be seen at any moment.
    fn look(&self, journal: &MemoryJournal) {
        let queued = journal.outbox(0, 1_000).now_or_never().and_then(Result::ok).unwrap_or_default();
        let queued: BTreeSet<IncidentId> = queued.iter().filter_map(|pending| pending.message.incident).collect();
        self.outside.oracle().look(&incidents(journal), &queued);
    }

    /// Has everything come to its end?
    fn over(&self, alive: &Alive) -> bool {
        let Some((calm, at)) = self.calm.filter(|(calm, _)| millis() > calm + QUIET) else { return false };
        let incidents = incidents(&alive.journal);
        let mut left = self.outside.oracle().unfinished(&incidents, at);
        left.extend(
            runs(&alive.journal)
                .iter()
                .filter(|run| !run.state.ended() && run.started_at <= at)
                .map(|run| format!("run {} {:?}", run.id, run.state)),
        );
        let unsent = alive.journal.outbox_depth().now_or_never().and_then(Result::ok).unwrap_or_default();
        if unsent > 0 {
            left.push(format!("{unsent} messages are not sent"));
        }
        let posts = self.posts.lock().expect("one thread").len();
        if posts > 0 {
            left.push(format!("{posts} posts are not answered"));
        }
        if left.is_empty() {
            return true;
        }
        let bound = calm + SETTLES_WITHIN + self.outside.oracle().set_back;
        if millis() > bound {
            self.outside.oracle().broken(
                5,
                format!("not at its end {} s after all was calm: {}", (millis() - calm) / 1_000, left.join("; ")),
            );
        }
        false
    }

    /// What can be said when all is over.
    fn judge(&self, journal: &MemoryJournal) {
        let mut oracle = self.outside.oracle();
        let incidents = incidents(journal);
        let runs = runs(journal);
        oracle.counts.incidents += incidents.len() as u64;
        oracle.counts.runs += runs.len() as u64;
        replay::dump(&mut oracle, journal, &incidents, &runs);
        if oracle.violation.is_some() {
            return;
        }
        // 1: what was answered 2xx is in the journal, whatever was killed since.
        let posts = journal.intake_after(0, usize::MAX).now_or_never().and_then(Result::ok).unwrap_or_default();
        let kept: BTreeSet<u64> = posts.iter().filter_map(|intake| marked(&intake.post.body)).collect();
        let lost: Vec<u64> = oracle.answered.difference(&kept).copied().collect();
        if !lost.is_empty() {
            oracle.broken(1, format!("posts {lost:?} were answered 2xx and are not in the journal"));
        }
        // 5: what still fires is in an incident that is open.
        for alert in &self.outside.state().alerts {
            let fingerprint = runbookd::model::alert::Fingerprint::of(&alert.labels);
            let of_it: Vec<&Incident> =
                incidents.iter().filter(|incident| incident.alerts.contains(&fingerprint)).collect();
            let by_hand = of_it.iter().any(|incident| oracle.closed.contains(&incident.id));
            let open = of_it.iter().any(|incident| incident.state != State::Resolved);
            let told = alert.told.is_some_and(|at| millis() > at + 2 * 60_000);
            if alert.firing && told && !open && !by_hand && oracle.set_back == 0 {
                oracle.broken(5, format!("{:?} fires and no incident of it is open", alert.labels));
            }
        }
        oracle.applied_once(&self.outside.cluster);
        replay::one_at_a_time(&mut oracle, &runs);
        replay::within_limits(&mut oracle, journal, &incidents, &runs);
        replay::same_again(&mut oracle, journal, &runs, &self.files);
    }
}

/// A person releases the fleet brake.
fn release(alive: &Alive) {
    let app = alive.app.clone();
    tokio::spawn(async move { app.release("ann").await.is_ok() });
}

/// What comes of an answer; whether it is for good.
fn answered(outside: &Outside, id: u64, path: &str, status: u16, firing: &[(usize, jiff::Timestamp)]) -> bool {
    let mut oracle = outside.oracle();
    oracle.note(|| format!("post {id} to {path}: {status}"));
    match status {
        200..300 => {
            oracle.counts.posts += 1;
            oracle.answered.insert(id);
            drop(oracle);
            outside.state().were_told(firing);
            true
        }
        500.. => false,
        _ => {
            if path == "/api/v1/alertmanager" {
                oracle.broken(1, format!("a good post was answered {status}"));
            }
            true
        }
    }
}

/// A journal on disk makes durable soon what is staged.
async fn flush(journal: Arc<MemoryJournal>) {
    loop {
        journal.staged().await;
        sleep(Duration::from_millis(50)).await;
        drop(journal.commit());
    }
}

fn incidents(journal: &MemoryJournal) -> Vec<Incident> {
    let filter = IncidentFilter { limit: 1_000, ..IncidentFilter::default() };
    let mut all = journal.incidents(&filter).now_or_never().and_then(Result::ok).unwrap_or_default();
    all.reverse();
    all
}

fn runs(journal: &MemoryJournal) -> Vec<Run> {
    let filter = RunFilter { limit: 1_000, ..RunFilter::default() };
    let mut all = journal.runs(&filter).now_or_never().and_then(Result::ok).unwrap_or_default();
    all.reverse();
    all
}

/// The number of a post that was marked.
fn marked(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("mark-")?;
    rest.split_once('-')?.0.parse().ok()
}

pub fn service_name(at: usize) -> String {
    format!("app{}", at + 1)
}

pub fn node_name(at: usize) -> String {
    format!("node{}", at + 1)
}

pub fn image_of(service: usize, tag: u64, bad: bool) -> String {
    let tag = if bad { "bad".to_string() } else { tag.to_string() };
    format!("shop/app{}:{tag}", service + 1)
}
