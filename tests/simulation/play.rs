//! Plays a plan: the whole application, one process after the other, each in a runtime of its own that is dropped where it is killed.

mod acts;

use crate::files::Files;
use crate::oracle::{Counts, Oracle};
use crate::outside::{Console, Outside};
use crate::plan::Plan;
use crate::replay;
use crate::rules::{Part, window};
use crate::time::{self, CLOCK, millis};
use arc_swap::ArcSwap;
use axum::Router;
use futures_util::FutureExt;
use runbookd::adapters::journal::memory::MemoryJournal;
use runbookd::app::metrics::Metrics;
use runbookd::app::{App, Parts};
use runbookd::config::{Config, FreezeConfig};
use runbookd::http::auth::Keys;
use runbookd::http::router::router;
use runbookd::http::shared::{Live, Shared};
use runbookd::model::duration;
use runbookd::model::freeze::{Scope, Window};
use runbookd::model::incident::{Incident, IncidentId, State};
use runbookd::model::rule::{Budget, Share};
use runbookd::model::run::{Run, RunId};
use runbookd::model::step::Step;
use runbookd::ports::{Alerts, IncidentFilter, Journal, RunFilter};
use runbookd::runbook::evaluate::Evaluator;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{sleep, timeout};

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
    let outside = Outside::new(plan, Oracle::new(plan, traced));
    let files = Files::new(&plan.rules);
    outside.oracle().in_force(files.rules());
    let agenda = plan.acts.iter().enumerate().map(|(at, (when, _))| ((*when, at as u64), Due::Act(at))).collect();
    let last = plan.acts.len() as u64;
    let mut stage = Stage {
        plan,
        outside,
        files,
        agenda,
        last,
        posts: Arc::default(),
        posted: 0,
        crash: None,
        calm: None,
        slow: Arc::default(),
        looked: (0, 0),
    };
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
        stage.outside.oracle().life_ends(&here);
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
    /// How many milliseconds a write takes to become durable.
    slow: Arc<AtomicU64>,
    /// What the journal had seen when it was looked at last, and when that was.
    looked: (u64, u64),
}

#[derive(Clone, Copy)]
enum Due {
    Act(usize),
    Post(u64),
    JournalMended,
    JournalFast,
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
        self.outside.oracle().life_begins(journal);
        self.looked = (0, 0);
        journal.slow(self.slow.load(Ordering::Relaxed) > 0);
        tokio::spawn(sync(journal.clone(), self.slow.clone()));
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
        config.brake.effects = fleet.brake_effects.map(limit);
        config.brake.targets = fleet.brake_targets.map(limit);
        config.budgets.target = fleet.target.map(limit);
        config.budgets.engine = fleet.engine.map(limit);
        config.arbitration.hands = fleet.hands_secs.map(duration::Duration::from_secs);
        config.arbitration.opposite = fleet.opposite_secs.map(duration::Duration::from_secs);
        config.bounds.at_once.services = fleet.services_at_once.map(share);
        config.bounds.at_once.nodes = fleet.nodes_at_once.map(Share::Count);
        config.freezes = fleet.freezes.iter().enumerate().map(freeze_config).collect();
        if let Some((_, every)) = self.plan.watchdog {
            config.watchdog.matchers = vec!["alertname = \"Watchdog\"".to_string()];
            config.watchdog.every = duration::Duration::from_secs(every);
        }
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

    fn nth_open(&self, nth: usize, alive: &Alive) -> Option<IncidentId> {
        let open: Vec<Incident> =
            incidents(&alive.journal).into_iter().filter(|it| it.state != State::Resolved).collect();
        open.get(nth % open.len().max(1)).map(|incident| incident.id)
    }

    /// The invariants that can be seen at any moment.
    fn look(&mut self, journal: &MemoryJournal) {
        // Where nothing was written, only time can have broken anything.
        let (changes, at) = self.looked;
        if changes == journal.changes() && millis() < at + LOOK_EVERY {
            return;
        }
        self.looked = (journal.changes(), millis());
        let queued = journal.outbox(0, 1_000).now_or_never().and_then(Result::ok);
        let Some((queued, incidents)) = queued.zip(readable_incidents(journal)) else { return };
        self.outside.oracle().look(&incidents, &queued, journal);
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
        let watched = self.plan.watchdog.map(|(alert, _)| alert);
        let alerts = &self.outside.state().alerts;
        for (_, alert) in alerts.iter().enumerate().filter(|(at, _)| watched != Some(*at)) {
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
        oracle.paged_once(&incidents, journal);
        replay::one_at_a_time(&mut oracle, &runs);
        replay::within_limits(&mut oracle, journal, &incidents, &runs);
        replay::same_again(&mut oracle, journal, &runs, &self.files);
    }
}

fn share(part: Part) -> Share {
    match part {
        Part::Count(count) => Share::Count(count),
        Part::Percent(percent) => Share::Percent(percent),
    }
}

fn freeze_config((at, (span, scope)): (usize, &((u64, u64), Scope))) -> (String, FreezeConfig) {
    let (rules, tags) = match scope {
        Scope::All => (Vec::new(), Vec::new()),
        Scope::Rule(name) => (vec![name.clone()], Vec::new()),
        Scope::Tag(tag) => (Vec::new(), vec![tag.clone()]),
    };
    let when = vec![Window::parse(&window(*span)).expect("a window of two times")];
    (format!("freeze{at}"), FreezeConfig { when, reason: "the shop must not move".into(), rules, tags })
}

/// What comes of an answer; whether it is for good.
fn answered(outside: &Outside, id: u64, path: &str, status: u16, firing: &[(usize, jiff::Timestamp)]) -> bool {
    let mut oracle = outside.oracle();
    oracle.note(|| format!("post {id} to {path}: {status}"));
    match status {
        200..300 => {
            oracle.counts.posts += 1;
            oracle.answered.insert(id);
            if outside.watched.is_some_and(|alert| firing.iter().any(|(at, _)| *at == alert)) {
                oracle.heard();
            }
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

/// What waits for a slow journal becomes durable when its time has passed.
async fn sync(journal: Arc<MemoryJournal>, slow: Arc<AtomicU64>) {
    loop {
        journal.asked().await;
        sleep(Duration::from_millis(slow.load(Ordering::Relaxed))).await;
        journal.sync();
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
    readable_incidents(journal).unwrap_or_default()
}

/// `None` while the journal cannot be read.
fn readable_incidents(journal: &MemoryJournal) -> Option<Vec<Incident>> {
    let filter = IncidentFilter { limit: 1_000, ..IncidentFilter::default() };
    let mut all = journal.incidents(&filter).now_or_never()?.ok()?;
    all.reverse();
    Some(all)
}

fn runs(journal: &MemoryJournal) -> Vec<Run> {
    let filter = RunFilter { limit: 1_000, ..RunFilter::default() };
    let mut all = journal.runs(&filter).now_or_never().and_then(Result::ok).unwrap_or_default();
    all.reverse();
    all
}

fn steps(journal: &MemoryJournal, run: RunId) -> Vec<Step> {
    journal.steps(run).now_or_never().and_then(Result::ok).unwrap_or_default()
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
